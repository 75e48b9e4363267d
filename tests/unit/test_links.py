"""Links: syntax, ranges, soft to hard, joining two directions, counts by hand."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.align.links import SYMMETRIZERS, argmax_links, score_links, symmetrize
from nmt.align.maps import AttentionMap
from nmt.errors import UserError
from nmt.text.links import Gold, read_links, write_links

SHARED = Path(os.environ.get("NMT_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data")
MESSY = SHARED / "messy" / "alignments"
SIZES = [(3, 2), (2, 3), (1, 1)]  # of the sentences in MESSY

links = st.frozensets(st.tuples(st.integers(0, 7), st.integers(0, 7)))


def file_of(folder: Path, text: str) -> Path:
    path = folder / "links.talp"
    path.write_bytes(text.encode())
    return path


def gold(sure: set[tuple[int, int]], only_possible: set[tuple[int, int]] = frozenset()) -> Gold:
    return Gold(frozenset(sure), frozenset(sure | only_possible))


def test_reads_sure_and_possible_links(tmp_path: Path) -> None:
    path = file_of(tmp_path, "0-0 1-1 2?1\n\n0-0\t10p2  1?2\r\n")
    assert read_links(path) == [gold({(0, 0), (1, 1)}, {(2, 1)}), gold(set()), gold({(0, 0)}, {(10, 2), (1, 2)})]


def test_sure_wins_and_repeated_links_count_once(tmp_path: Path) -> None:
    assert read_links(file_of(tmp_path, "0?0 0-0 0-0 0p0\n")) == [gold({(0, 0)})]


def test_base_and_direction(tmp_path: Path) -> None:
    path = file_of(tmp_path, "1-2 3?1\n")
    assert read_links(path, one_based=True) == [gold({(0, 1)}, {(2, 0)})]
    assert read_links(path, reverse=True) == [gold({(2, 1)}, {(1, 3)})]
    assert read_links(path, one_based=True, reverse=True, sizes=[(2, 3)]) == [gold({(1, 0)}, {(0, 2)})]


@pytest.mark.parametrize("token", ["1:1", "0-", "-1", "a-b", "1--1", "-1-0", "1.0-0", "0-1S", "²-0", "1-1-1"])
def test_bad_syntax_names_file_line_and_token(tmp_path: Path, token: str) -> None:
    path = file_of(tmp_path, f"0-0\n0-0 {token}\n")
    with pytest.raises(UserError) as caught:
        read_links(path)
    assert caught.value.message == f"{path}, line 2: {token!r} is not a link"


@pytest.mark.parametrize(
    ("text", "one_based", "message"),
    [
        ("0-0\n0-0 3-1\n", False, "line 2: link 3-1: source 3 of 0..2"),
        ("0-0\n0-2\n", False, "line 2: link 0-2: target 2 of 0..1"),
        ("1-1\n4-1\n", True, "line 2: link 4-1: source 4 of 1..3"),
        ("1-1\n1-0\n", True, "line 2: link 1-0: target 0 of 1..2"),
    ],
)
def test_a_word_beyond_the_sentence_is_an_error(tmp_path: Path, text: str, one_based: bool, message: str) -> None:
    path = file_of(tmp_path, text)
    with pytest.raises(UserError) as caught:
        read_links(path, one_based=one_based, sizes=[(3, 2)] * 2)
    assert caught.value.message == f"{path}, {message}"
    assert caught.value.hint is not None
    assert "--one-based" in caught.value.hint


def test_zero_is_no_word_of_a_one_based_file_even_without_sizes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 1: link 0-1: source 0 of 1\.\."):
        read_links(file_of(tmp_path, "0-1\n"), one_based=True)


@pytest.mark.parametrize("lines", [1, 3])
def test_wrong_number_of_lines(tmp_path: Path, lines: int) -> None:
    path = file_of(tmp_path, "0-0\n" * lines)
    with pytest.raises(UserError, match=rf"has {lines} lines, but there are 2 sentence pairs"):
        read_links(path, sizes=[(1, 1)] * 2)


@pytest.mark.skipif(not MESSY.is_dir(), reason=f"no shared data at {SHARED}")
class TestMessyFiles:
    def test_legal_ones(self) -> None:
        assert read_links(MESSY / "good.talp", sizes=SIZES) == [
            gold({(0, 0), (1, 1)}, {(2, 1)}),
            gold({(0, 0)}, {(1, 2)}),
            gold({(0, 0)}),
        ]
        assert read_links(MESSY / "empty_line.talp", sizes=SIZES)[1] == gold(set())
        assert read_links(MESSY / "duplicate.talp", sizes=SIZES) == [gold({(0, 0)})] * 3
        assert len(read_links(MESSY / "one_based.talp", one_based=True, sizes=SIZES)) == 3

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("out_of_range.talp", "line 1: link 3-1: source 3 of 0..2"),
            ("one_based.talp", "line 1: link 2-2: target 2 of 0..1"),
            ("syntax.talp", "line 1: '1:1' is not a link"),
            ("too_few.talp", "has 2 lines, but there are 3 sentence pairs"),
        ],
    )
    def test_illegal_ones(self, name: str, message: str) -> None:
        with pytest.raises(UserError) as caught:
            read_links(MESSY / name, sizes=SIZES)
        assert caught.value.message.startswith(str(MESSY / name))
        assert caught.value.message.endswith(message)


@given(st.lists(links))
def test_write_then_read(tmp_path_factory: pytest.TempPathFactory, sentences: list[frozenset[tuple[int, int]]]) -> None:
    file = io.StringIO()
    write_links(sentences, file)
    path = file_of(tmp_path_factory.mktemp("links"), file.getvalue())
    assert read_links(path) == [Gold(sentence, sentence) for sentence in sentences]


def test_written_links_are_sorted_and_an_empty_sentence_keeps_its_line() -> None:
    file = io.StringIO()
    write_links([{(10, 0), (2, 1), (2, 0)}, set()], file)
    assert file.getvalue() == "2-0 2-1 10-0\n\n"


def test_argmax_links_each_target_word_to_its_best_source_word() -> None:
    weights = np.array([[0.1, 0.8, 0.1], [0.4, 0.4, 0.2], [0.0, 0.0, 0.0], [0.0, 0.0, 0.3]], np.float32)
    attention = AttentionMap(list("abc"), list("wxyz"), weights)
    assert argmax_links(attention) == {(1, 0), (0, 1), (2, 3)}
    assert argmax_links(attention, threshold=0.5) == {(1, 0)}


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_argmax_of_nothing_is_no_link(shape: tuple[int, int]) -> None:
    rows, columns = shape
    assert argmax_links(AttentionMap(["s"] * columns, ["t"] * rows, np.zeros(shape, np.float32))) == frozenset()


def test_score_counted_by_hand() -> None:
    # A: 2 + 2 links. Sentence 1: one sure, one possible. Sentence 2: one sure, one wrong. |S| = 3, |P| = 4.
    score = score_links([{(0, 0), (1, 1)}, {(0, 0), (2, 2)}], [gold({(0, 0), (3, 3)}, {(1, 1)}), gold({(0, 0)})])
    assert score == (1 - (2 + 3) / (4 + 3), 3 / 4, 2 / 3, 2 * (3 / 4) * (2 / 3) / (3 / 4 + 2 / 3), 4, 3, 4)


@pytest.mark.parametrize(
    ("found", "sure", "possible", "aer", "precision", "recall"),
    [
        (set(), set(), set(), 0.0, 0.0, 0.0),  # nothing to find, nothing found
        (set(), {(0, 0)}, set(), 1.0, 0.0, 0.0),
        ({(0, 0)}, set(), set(), 1.0, 0.0, 0.0),
        ({(0, 0)}, set(), {(0, 0)}, 0.0, 1.0, 0.0),
    ],
)
def test_score_of_nothing(
    found: set[tuple[int, int]],
    sure: set[tuple[int, int]],
    possible: set[tuple[int, int]],
    aer: float,
    precision: float,
    recall: float,
) -> None:
    score = score_links([found], [gold(sure, possible)])
    assert (score.aer, score.precision, score.recall) == (aer, precision, recall)


@given(st.lists(st.tuples(links, links), min_size=1))
def test_without_possible_links_aer_is_one_minus_f1(pairs: list[tuple[frozenset, frozenset]]) -> None:
    score = score_links([found for found, _ in pairs], [Gold(true, true) for _, true in pairs])
    if score.links + score.sure:
        assert score.aer == pytest.approx(1 - score.f1)


def test_unequal_numbers_of_sentences() -> None:
    with pytest.raises(ValueError, match="1 hypotheses for 2 gold sentences"):
        score_links([set()], [gold(set())] * 2)


@given(links, links)
def test_all_results_lie_between_intersection_and_union(forward: frozenset, reverse: frozenset) -> None:
    grown = {method: symmetrize(forward, reverse, method) for method in SYMMETRIZERS}
    for result in grown.values():
        assert forward & reverse <= result <= forward | reverse
    for flavour in ("atools", "lilt"):
        assert grown[f"gd-{flavour}"] <= grown[f"gdfa-{flavour}"] & grown[f"gdf-{flavour}"]
    assert grown["gdf-lilt"] == grown["gdfa-lilt"]


@given(links)
def test_equal_directions_stay_as_they_are(both: frozenset) -> None:
    for method in SYMMETRIZERS:
        assert symmetrize(both, both, method) == both


@given(links, links)
def test_atools_gdf_covers_every_word_of_the_union(forward: frozenset, reverse: frozenset) -> None:
    result = symmetrize(forward, reverse, "gdf-atools")
    union = forward | reverse
    assert {src for src, _ in result} == {src for src, _ in union}
    assert {tgt for _, tgt in result} == {tgt for _, tgt in union}


def test_the_flavours_differ_where_one_word_is_free() -> None:
    forward, reverse = {(0, 0), (1, 0)}, {(0, 0)}  # (1, 0) is a neighbour; target 0 is taken, source 1 is free
    assert symmetrize(forward, reverse, "gd-atools") == {(0, 0), (1, 0)}
    assert symmetrize(forward, reverse, "gd-lilt") == {(0, 0)}


def test_final_steps_by_hand() -> None:
    # (5, 5) has both words free, (5, 0) one, once (5, 5) is in; neither touches (0, 0).
    forward, reverse = {(0, 0), (5, 5)}, {(0, 0), (7, 0)}
    assert symmetrize(forward, reverse, "gd-atools") == {(0, 0)}
    assert symmetrize(forward, reverse, "gdfa-atools") == {(0, 0), (5, 5)}
    assert symmetrize(forward, reverse, "gdf-atools") == {(0, 0), (5, 5), (7, 0)}


def test_unknown_method() -> None:
    with pytest.raises(UserError, match="no symmetrization 'grow'") as caught:
        symmetrize(set(), set(), "grow")
    assert "gdfa-atools" in str(caught.value)
