"""How well words are copied: counts by hand, and what holds of any text."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.copying import Copied, copy_scores, tokens, training_counts
from nmt.errors import UserError

SRC = [
    "The Anna saw Anna and Bert .",
    "Anna paid 12.50 in 2019.",
    "write to a@b.org or __NAME__, __NAME__",
    "%s of Rome",
    "",
]
HYP = [
    "Die Anna sah Anna und Anna .",
    "Anna zahlte 12.50 im Jahr 2020.",
    "an a@b.org oder __NAME__",
    "Rome of Rome",
    "Anna",
]
REF = [
    "Die Anna sah Anna und Bert .",
    "2019 zahlte Anna 12,50.",
    "an a@b.org oder __NAME__, __NAME__",
    "%s von Rom",
    "Anna",
]
TRAINING = ["Anna Anna, Anna", *["a@b.org"] * 4, *["__NAME__."] * 5, *[","] * 98, *["."] * 95, "Berta Rom 12 office"]

WORDS = ["Anna", "anna", "Bert", "7", "8.5", "{x}", "%s", ".", "(", "co-op", "x"]
quick = settings(max_examples=40, deadline=None)
lines = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
triples = st.lists(st.tuples(lines, lines, lines), min_size=1, max_size=3)


def test_counted_by_hand() -> None:
    scores = copy_scores(SRC, HYP, REF, frequency=training_counts(SRC, TRAINING))
    # right, in reference, in output
    assert scores.rows == {
        "all": (7, 12, 10),
        "words": (5, 9, 8),
        "unseen": (0, 3, 3),  # Bert, 2019, %s missing; 12.50, of, Rome spurious
        "1-4": (4, 4, 4),  # Anna, of which the third in line 1 is clipped, and a@b.org
        "5-19": (1, 2, 1),  # __NAME__
        "20-99": (0, 1, 0),  # the comma
        "100+": (2, 2, 2),  # the full stop
        "numbers": (0, 1, 1),
        "names": (2, 3, 3),  # in line 2 Anna is the first word
        "placeholders": (2, 4, 2),
    }
    assert (scores.placeholders, scores.kept) == (3, 1)  # a@b.org; __NAME__ once instead of twice, %s not at all
    everything = scores.rows["all"]
    assert everything.recall == pytest.approx(7 / 12)
    assert everything.precision == pytest.approx(0.7)
    assert everything.spurious == pytest.approx(0.3)


def test_without_training_text_there_are_no_rows_by_frequency() -> None:
    assert list(copy_scores(SRC, HYP, REF).rows) == ["all", "words", "numbers", "names", "placeholders"]


def test_training_is_counted_for_words_of_the_source_only() -> None:
    counts = training_counts(SRC, iter(TRAINING))
    assert dict(counts) == {"Anna": 3, "a@b.org": 4, "__NAME__": 5, ",": 99, ".": 100}


@pytest.mark.parametrize(
    ("count", "row"),
    [
        (0, "unseen"),
        (1, "1-4"),
        (4, "1-4"),
        (5, "5-19"),
        (19, "5-19"),
        (20, "20-99"),
        (99, "20-99"),
        (100, "100+"),
        (10**6, "100+"),
    ],
)
def test_bins(count: int, row: str) -> None:
    rows = copy_scores(["word"], ["word"], ["word"], frequency={"word": count}).rows
    assert [name for name in ("unseen", "1-4", "5-19", "20-99", "100+") if rows[name].right] == [row]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ('("don\'t",', '( " don\'t " ,'),
        ("5%.", "5 % ."),
        ("-1,000.50€", "- 1,000.50 €"),
        ("...", ". . ."),
        ("«l'été»", "« l'été »"),
        ("<b>bold</b>", "<b> bold </b>"),
        ("(__NAME__)", "( __NAME__ )"),
        ("x__y__z", "x__y__z"),
        ("{0},{user.name}", "{0} , {user.name}"),
        ("${x}{{y}}{}", "${x} {{y}} {}"),
        ("'%s'%1$s:%(n)d%%s", "' %s ' %1$s : %(n)d % % s"),
        ("100%discount", "100%discount"),
        ("(https://x.org/a-b?c=d&e#f).", "( https://x.org/a-b?c=d&e#f ) ."),
        ("<www.x.org/>", "< www.x.org/ >"),
        ("mailto:a.b+c@x-y.co.uk.", "mailto : a.b+c@x-y.co.uk ."),
        ("a<b", "a<b"),
        ("猫。", "猫 。"),
    ],
)
def test_tokens(word: str, expected: str) -> None:
    assert tokens(word) == expected.split()


@quick
@given(st.text() | lines)
def test_tokens_lose_nothing_but_white_space_and_stay_what_they_are(line: str) -> None:
    assert "".join(tokens(line)) == "".join(line.split())
    assert all(tokens(token) == [token] for token in tokens(line))


@pytest.mark.parametrize("part", ["a", "_", "{", "<a", "a.", "%(a", "www.", "a@a", "__a", ".", "-"])
def test_a_word_of_any_length_takes_little_time(part: str) -> None:
    word = part * 100_000
    assert "".join(tokens(word)) == word


def kinds(source: str) -> dict[str, str]:
    """The kind of each token of a source line that has one."""
    found = {}
    for token in tokens(source):
        rows = copy_scores([source], [token], [token]).rows
        for kind in ("numbers", "names", "placeholders"):
            if rows[kind].right:
                assert token not in found or found[token] == kind
                found[token] = kind
    return found


def test_kinds() -> None:
    assert kinds("Der Zug 12:30, 1.000,5 3/4 2020-21 ٣٤ und 3rd B2 x2 7") == {
        "Zug": "names",
        "B2": "names",
        **dict.fromkeys(["12:30", "1.000,5", "3/4", "2020-21", "٣٤", "7"], "numbers"),
    }
    assert kinds("{1} %s A@b.org Ǆ ǅ ǆ iPhone O'Neill Élise") == {
        **dict.fromkeys(["{1}", "%s", "A@b.org"], "placeholders"),
        **dict.fromkeys(["Ǆ", "ǅ", "O'Neill", "Élise"], "names"),
    }
    assert kinds('"Anna') == {}
    assert kinds("7 Anna") == {"7": "numbers", "Anna": "names"}
    assert kinds("Anna Anna") == {"Anna": "names"}  # it stands elsewhere, too


def test_without_case_there_are_no_names() -> None:
    assert copy_scores(*([line.lower() for line in side] for side in (SRC, HYP, REF))).rows["names"] == Copied(0, 0, 0)


def test_lowercase_is_lower_case_everywhere() -> None:
    folded = [[line.lower() for line in side] for side in (SRC, HYP, REF)]
    counts = training_counts(SRC, TRAINING, lowercase=True)
    assert counts["anna"] == 3
    assert counts == training_counts(folded[0], [line.lower() for line in TRAINING])
    assert copy_scores(SRC, HYP, REF, lowercase=True, frequency=counts) == copy_scores(*folded, frequency=counts)


def test_nothing_to_copy_is_none_and_not_zero() -> None:
    row = copy_scores(["a b"], ["c"], ["b"]).rows["all"]
    assert (row.recall, row.precision, row.spurious) == (0.0, None, None)
    assert copy_scores(["a b"], ["b"], ["c"]).rows["all"].recall is None


@quick
@given(triples)
def test_the_reference_as_output_is_perfect(corpus: list[tuple[str, str, str]]) -> None:
    src, _, ref = (list(side) for side in zip(*corpus, strict=True))
    for row in copy_scores(src, ref, ref, frequency={"Anna": 3, ".": 500}).rows.values():
        assert row.right == row.in_reference == row.in_output
        assert row.recall == row.precision == (1.0 if row.right else None)


@quick
@given(triples, st.integers(0, 99))
def test_order_does_not_count(corpus: list[tuple[str, str, str]], seed: int) -> None:
    """Neither of the words of output and reference, nor of the lines."""
    draw = random.Random(seed)
    shuffled = [
        (src, *(" ".join(draw.sample(line.split(), len(line.split()))) for line in sides)) for src, *sides in corpus
    ]
    draw.shuffle(shuffled)
    frequency = {"anna": 1, "7": 30}
    one, other = (copy_scores(*zip(*sides, strict=True), frequency=frequency) for sides in (corpus, shuffled))
    assert one == other


@quick
@given(triples)
def test_output_and_reference_change_places_with_precision_and_recall(corpus: list[tuple[str, str, str]]) -> None:
    src, hyp, ref = zip(*corpus, strict=True)
    for one, other in zip(
        copy_scores(src, hyp, ref).rows.values(), copy_scores(src, ref, hyp).rows.values(), strict=True
    ):
        assert (one.recall, one.precision) == (other.precision, other.recall)


@quick
@given(triples)
def test_counts_equal_those_of_pairing_words_off(corpus: list[tuple[str, str, str]]) -> None:
    """Clipping, the long way: each word of the source takes its like from the others, if one is left."""
    sums = [0, 0, 0]
    for src, hyp, ref in corpus:
        left_hyp, left_ref = tokens(hyp), tokens(ref)
        for token in tokens(src):
            found = [token in left_ref and token in left_hyp, token in left_ref, token in left_hyp]
            sums = [total + one for total, one in zip(sums, found, strict=True)]
            for left in (left_hyp, left_ref):
                if token in left:
                    left.remove(token)
    assert copy_scores(*zip(*corpus, strict=True)).rows["all"] == tuple(sums)


@quick
@given(triples)
def test_bins_and_kinds_are_parts_of_the_whole(corpus: list[tuple[str, str, str]]) -> None:
    rows = copy_scores(*zip(*corpus, strict=True), frequency={"x": 1, "7": 7, "Bert": 70, ".": 700}).rows
    bins = [rows[name] for name in ("unseen", "1-4", "5-19", "20-99", "100+")]
    assert tuple(map(sum, zip(*bins, strict=True))) == rows["all"]
    for n, total in enumerate(rows["words"]):
        assert sum(rows[kind][n] for kind in ("numbers", "names", "placeholders")) <= total <= rows["all"][n]


def test_unequal_numbers_of_lines_are_refused() -> None:
    with pytest.raises(UserError, match=r"^copying is compared line by line: 2 sources, 1 hypotheses, 2 references$"):
        copy_scores(["a", "b"], ["a"], ["a", "b"])
