"""Maps: pieces to words, files and back."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.align.maps import (
    AttentionMap,
    piece_map,
    read_json,
    read_npz,
    with_bos,
    with_eos,
    word_map,
    write_json,
    write_npz,
)
from nmt.errors import UserError
from nmt.text.tokenizer import Segments


def segments(*words: list[str]) -> Segments:
    pieces = [piece for word in words for piece in word]
    word_of = [n for n, word in enumerate(words) for _ in word]
    return Segments(list(range(4, 4 + len(pieces))), pieces, ["".join(word) for word in words], word_of)


SRC = segments(["he"], ["en", "tart", "é"])
TGT = segments(["a", "b"], ["c"])
WEIGHTS = np.array(
    [[0.1, 0.2, 0.3, 0.1, 0.3], [0.5, 0.1, 0.1, 0.2, 0.1], [0.0, 0.0, 1.0, 0.0, 0.0], [0.2, 0.2, 0.2, 0.2, 0.2]],
    np.float32,
)  # 3 target pieces and EOS; 4 source pieces and EOS


def assert_equal(one: AttentionMap, other: AttentionMap, tolerance: float = 0.0) -> None:
    assert (one.src, one.tgt) == (other.src, other.tgt)
    assert one.weights.dtype == other.weights.dtype == np.float32
    assert one.weights.shape == other.weights.shape
    np.testing.assert_allclose(one.weights, other.weights, rtol=0, atol=tolerance)


def test_pieces_name_rows_and_columns() -> None:
    named = piece_map(WEIGHTS[:3, :4], SRC, TGT)
    assert_equal(named, AttentionMap(["he", "en", "tart", "é"], ["a", "b", "c"], WEIGHTS[:3, :4]))


@pytest.mark.parametrize("named", [piece_map, word_map])
def test_weights_of_another_sentence_are_refused(named: Callable[..., AttentionMap]) -> None:
    for wrong in (WEIGHTS[:3, :3], WEIGHTS[:2, :4], WEIGHTS):
        with pytest.raises(ValueError, match="do not fit 3 target and 4 source pieces"):
            named(wrong, SRC, TGT)


def test_special_tokens_are_pieces_and_words_of_their_own() -> None:
    assert with_bos(TGT) == segments(["<s>"], ["a", "b"], ["c"])._replace(ids=[1, 4, 5, 6])
    assert with_eos(TGT) == segments(["a", "b"], ["c"], ["</s>"])._replace(ids=[4, 5, 6, 2])
    assert with_eos(segments()) == Segments([2], ["</s>"], ["</s>"], [0])


def test_words_sum_over_source_pieces_and_average_over_target_pieces() -> None:
    words = word_map(WEIGHTS[:3, :4], SRC, TGT)
    # "ab": means of (0.1, 0.5) and of (0.2 + 0.3 + 0.1, 0.1 + 0.1 + 0.2)
    assert_equal(words, AttentionMap(["he", "entarté"], ["ab", "c"], np.float32([[0.3, 0.5], [0.0, 1.0]])), 1e-6)


def test_words_keep_special_tokens_apart() -> None:
    words = word_map(WEIGHTS, with_eos(SRC), with_eos(TGT))
    assert (words.src, words.tgt) == (["he", "entarté", "</s>"], ["ab", "c", "</s>"])
    np.testing.assert_allclose(words.weights[2], [0.2, 0.6, 0.2], atol=1e-6)
    np.testing.assert_allclose(words.weights.sum(axis=1), 1, atol=1e-6)


splits = st.lists(st.integers(1, 4), max_size=6).map(lambda sizes: segments(*(["x"] * size for size in sizes)))


@given(splits, splits, st.integers(0, 2**32 - 1))
def test_rows_that_sum_to_one_still_do_and_loops_agree(src: Segments, tgt: Segments, seed: int) -> None:
    raw = np.random.default_rng(seed).random((len(tgt.pieces) + 1, len(src.pieces) + 1)) + 1e-3
    weights = (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)
    words = word_map(weights, with_eos(src), with_eos(tgt)).weights
    np.testing.assert_allclose(words.sum(axis=1), 1, atol=1e-5)
    for t in range(len(tgt.words)):
        for s in range(len(src.words)):
            rows = [n for n, word in enumerate(tgt.word_of) if word == t]
            columns = [n for n, word in enumerate(src.word_of) if word == s]
            expected = sum(float(weights[row, column]) for row in rows for column in columns) / len(rows)
            assert words[t, s] == pytest.approx(expected, abs=1e-5)


def test_unsplit_words_keep_the_map() -> None:
    src, tgt = segments(["a"], ["b"], ["c"], ["d"]), segments(["x"], ["y"], ["z"])
    assert_equal(word_map(WEIGHTS[:3, :4], src, tgt), piece_map(WEIGHTS[:3, :4], src, tgt))


def samples() -> Iterator[AttentionMap]:
    yield AttentionMap(
        ["a\tb", "日本", '"'], ["\\frac", " "], np.random.default_rng(1).random((2, 3)).astype(np.float32)
    )
    yield AttentionMap([], ["x"], np.zeros((1, 0), np.float32))
    yield AttentionMap(["x", "y"], [], np.zeros((0, 2), np.float32))
    yield AttentionMap([], [], np.zeros((0, 0), np.float32))


def test_json_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "maps.jsonl"
    with path.open("w", encoding="utf-8") as file:
        write_json(samples(), file)
    for one, other in zip(samples(), read_json(path), strict=True):
        assert_equal(one, other, 5e-7)


def test_json_rounds_to_six_decimals() -> None:
    file = io.StringIO()
    write_json([AttentionMap(["s"], ["t"], np.array([[1 / 3]], np.float32))], file)
    assert file.getvalue() == '{"src":["s"],"tgt":["t"],"weights":[[0.333333]]}\n'


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "nonsense",
        '{"src":["a"],"tgt":["b"]}',
        '{"src":["a"],"tgt":["b"],"weights":[[1,2]]}',
        '{"src":"a","tgt":["b"],"weights":[[1]]}',
        '{"src":["a"],"tgt":["b"],"weights":[["x"]]}',
    ],
)
def test_bad_json_names_file_and_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "maps.jsonl"
    path.write_text('{"src":["s"],"tgt":["t"],"weights":[[0.5]]}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"maps\.jsonl, line 2: not an attention map"):
        list(read_json(path))


def test_npz_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "maps.npz"
    write_npz(samples(), path)
    for one, other in zip(samples(), read_npz(path), strict=True):
        assert_equal(one, other)
    with np.load(path, allow_pickle=False) as archive:  # what the documentation promises, without our reader
        assert json.loads(archive["src_0"].tobytes()) == ["a\tb", "日本", '"']
        assert archive["weights_2"].shape == (0, 2)


def test_npz_of_the_same_maps_is_the_same_file(tmp_path: Path) -> None:
    for name in ("one.npz", "two.npz"):
        write_npz(samples(), tmp_path / name)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_npz_of_more_than_ten_keeps_the_order(tmp_path: Path) -> None:
    maps = [AttentionMap([str(n)], ["t"], np.full((1, 1), n, np.float32)) for n in range(12)]
    write_npz(maps, tmp_path / "maps.npz")
    assert [attention.src[0] for attention in read_npz(tmp_path / "maps.npz")] == [str(n) for n in range(12)]


def test_bad_npz(tmp_path: Path) -> None:
    path = tmp_path / "maps.npz"
    path.write_bytes(b"not a zip file")
    with pytest.raises(UserError, match=r"maps\.npz: not an archive of attention maps"):
        list(read_npz(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights_0.npy", b"rubbish")
    with pytest.raises(UserError, match=r"maps\.npz: not an archive of attention maps"):
        list(read_npz(path))
