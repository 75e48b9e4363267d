"""How well words are copied: counts by hand, and what holds of any text."""

from __future__ import annotations

import itertools
import math
import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nmt.bootstrap
from nmt.copying import Copied, Intervals, copy_scores, numeral, tokens, training_counts
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
FOUR = ("numerals", "spans", "kept", "order")
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
    assert scores.kept == (1, 3)  # a@b.org; __NAME__ once instead of twice, %s not at all
    assert scores.numerals == (1, 2, 2)  # 12.50 is 12,50; 2020 is not 2019
    assert scores.numerals.f1 == 0.5
    assert scores.spans == (0, 2)  # `Bert .` and `__NAME__ , __NAME__`
    assert scores.order == (0, 0)  # a@b.org and __NAME__, which the reference has twice
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
    assert "".join(tokens(line)) == "".join(unicodedata.normalize("NFC", line).split())
    assert tokens(unicodedata.normalize("NFD", line)) == tokens(line)
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
    scores = copy_scores(src, ref, ref, frequency={"Anna": 3, ".": 500})
    for name, row in {**scores.rows, "numerals": scores.numerals}.items():
        assert row.right == row.in_reference == row.in_output
        assert row.recall == row.precision == row.f1 == (1.0 if row.right else None)
        assert scores.intervals[name] == (((1.0, 1.0),) * 3 if row.right else (None,) * 3)
    for part in (scores.spans, scores.order):
        assert part.share == (1.0 if part.whole else None)


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
    assert (one.rows, one.numerals, one.kept) == (other.rows, other.numerals, other.kept)


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


@pytest.mark.parametrize(
    ("spellings", "expected"),
    [
        (["1,000.50", "1.000,50", "1000,50", "1'000.50", "1000.50"], "1000.50"),
        (["3,141", "3.141", "3141", "٣٬١٤١"], "3141"),
        (["12,50", "12.50", "١٢٫٥٠"], "12.50"),
        (["1.000.000", "1,000,000", "1000000"], "1000000"),
        (["0.125", "0,125"], "0.125"),
        (["1.5000"], "1.5000"),
        (["2019.123"], "2019.123"),
        (["12.10.2019"], "12.10.2019"),
        (["2020-21", "2020–21"], "2020-21"),
        (["12:30"], "12:30"),
        (["007"], "007"),
    ],
)
def test_numerals_are_compared_however_they_are_spelled(spellings: list[str], expected: str) -> None:
    assert {numeral(spelling) for spelling in spellings} == {expected}
    scores = copy_scores([""], [spellings[0]], [spellings[-1]])
    assert scores.numerals == (1, 1, 1)
    assert scores.rows["numbers"] == (0, 0, 0)  # the source has none


numbers = st.lists(st.sampled_from(["7", "7.0", "7,0", "x7", "%1$s", "70", "."]), max_size=5).map(" ".join)


@quick
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=3))
def test_numerals_paired_off(corpus: list[tuple[str, str]]) -> None:
    """Each number of an output line takes its like from the reference line, if one is left."""
    right, both = 0, 0
    for pair in corpus:
        hyp, left = ([word.replace(",", ".") for word in line.split() if word[0] == "7"] for line in pair)
        both += len(hyp) + len(left)
        for word in hyp:
            if word in left:
                left.remove(word)
                right += 1
    f1 = copy_scores([""] * len(corpus), *zip(*corpus, strict=True)).numerals.f1
    assert f1 == (pytest.approx(2 * right / both) if both else None)


def within(span: tuple[str, ...], line: list[str]) -> bool:
    return any(tuple(line[n : n + len(span)]) == span for n in range(len(line)))


few = st.lists(st.sampled_from(["a", "b", "ab", "."]), max_size=7).map(" ".join)


@quick
@given(few, few, few)
def test_spans_by_brute_force(src: str, hyp: str, ref: str) -> None:
    """All stretches of the source that the reference has and that cannot grow to either side."""
    words = src.split()
    found = set()
    for start, end in itertools.combinations(range(len(words) + 1), 2):
        longer = [words[start - 1 : end]] * (start > 0) + [words[start : end + 1]] * (end < len(words))
        span = tuple(words[start:end])
        if end - start > 1 and within(span, ref.split()) and not any(within(tuple(one), ref.split()) for one in longer):
            found.add(span)
    expected = (sum(within(span, hyp.split()) for span in found), len(found))
    assert copy_scores([src], [hyp], [ref]).spans == expected


marks = st.permutations(["{a}", "{b}", "%s", "<x>"]).flatmap(lambda all_: st.integers(0, 4).map(lambda n: all_[:n]))


@quick
@given(st.lists(st.tuples(marks, marks, marks), min_size=1, max_size=3))
def test_order_of_placeholders_by_brute_force(corpus: list[tuple[list[str], list[str], list[str]]]) -> None:
    total = pairs = 0
    for src, hyp, ref in corpus:
        for one, other in itertools.product(src, src):
            if one < other and all(mark in line for mark in (one, other) for line in (hyp, ref)):
                pairs += 1
                total += math.prod(1 if line.index(one) < line.index(other) else -1 for line in (hyp, ref))
    scores = copy_scores(*([" x ".join(line) for line in side] for side in zip(*corpus, strict=True)))
    assert scores.order == (total, pairs)
    assert scores.order.share == (pytest.approx(total / pairs) if pairs else None)


def test_order_of_placeholders_by_hand() -> None:
    source = "{a} {b} {c} {d} {d}"
    scores = copy_scores([source], ["{c} {a} {b} {d} {d}"], ["{a} and {b} and {c} {d} {d}"])
    assert scores.order == (-1, 3)  # of a, b, c only a and b are in order; d stands there twice
    assert scores.kept == (4, 4)


def by_hand(values: list[float | None]) -> tuple[float, float] | None:
    """The 2.5th and 97.5th percentile, between neighbours in proportion."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    found = []
    for share in (0.025, 0.975):
        place = share * (len(known) - 1)
        low, high = known[math.floor(place)], known[math.ceil(place)]
        found.append(low + (high - low) * (place - math.floor(place)))
    return found[0], found[1]


def test_intervals_are_those_of_corpora_drawn_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The long way: each drawn corpus is written out and counted."""
    src, hyp, ref = SRC * 2, [*HYP, *REF], REF * 2
    src, hyp, ref = [*src, "{a} {b} 5 7"], [*hyp, "{b} {a} 5"], [*ref, "{a} {b} 5 7"]
    monkeypatch.setattr(nmt.bootstrap, "RESAMPLES", 40)
    frequency = training_counts(SRC, TRAINING)
    drawn = [[n for n, often in enumerate(one) for _ in range(often)] for one in nmt.bootstrap.draws(len(src))]
    assert len(drawn) == 40
    assert all(len(lines) == len(src) for lines in drawn)
    samples = [
        copy_scores(*([side[n] for n in lines] for side in (src, hyp, ref)), frequency=frequency) for lines in drawn
    ]
    scores = copy_scores(src, hyp, ref, frequency=frequency)
    assert scores.intervals.keys() == {*scores.rows, *FOUR}
    for name, (recall, precision, f1) in scores.intervals.items():
        if name in FOUR[1:]:
            assert (precision, f1) == (None, None)
            assert recall == pytest.approx(by_hand([getattr(sample, name).share for sample in samples]))
        else:
            rows = [sample.numerals if name == "numerals" else sample.rows[name] for sample in samples]
            assert recall == pytest.approx(by_hand([row.recall for row in rows]))
            assert precision == pytest.approx(by_hand([row.precision for row in rows]))
            assert f1 == pytest.approx(by_hand([row.f1 for row in rows]))


def test_an_interval_where_it_is_known() -> None:
    """Of 400 lines with a word each, 320 right, drawn corpora have a binomial share: 0.8 +- 1.96 x 0.02."""
    scores = copy_scores(["w"] * 400, ["w"] * 320 + ["v"] * 80, ["w"] * 400)
    assert scores.intervals["all"].recall == pytest.approx((0.7608, 0.8392), abs=0.006)
    assert scores.intervals["all"].precision == (1.0, 1.0)
    assert scores == copy_scores(["w"] * 400, ["w"] * 320 + ["v"] * 80, ["w"] * 400)


def test_no_lines_have_no_intervals() -> None:
    scores = copy_scores([], [], [])
    assert set(scores.intervals.values()) == {Intervals(None, None, None)}
    assert scores.rows["all"] == (0, 0, 0)
