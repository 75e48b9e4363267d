"""Corpora on disk: what is written comes back, and damage is noticed."""

from __future__ import annotations

import json
import os
import pickle
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nmt.data.corpus as corpus_module
import nmt.data.plan as plan_module
from nmt import workers
from nmt.config import CharactersConfig, SentencePieceConfig, WordsConfig
from nmt.data.corpus import COLUMNS, FORMAT, Corpus, Counts, write_corpus
from nmt.data.plan import Part, Plan
from nmt.errors import UserError
from nmt.text.learn import learn_tokenizers
from nmt.text.tokenizer import CharacterTokenizer, Tokenizer, WordTokenizer

Pairs = Sequence[tuple[str, str]]

WORDS = WordTokenizer(("a", "b", "c"), WordsConfig())
CHARACTERS = CharacterTokenizer(("a", "b", " "), CharactersConfig())
BOTH: tuple[Tokenizer, Tokenizer] = (WORDS, CHARACTERS)
PAIRS = [("a b c", "ab"), ("ä 😀", "a b"), ("b", "b" * 40)]


def written(folder: Path, pairs: Pairs, max_length: int | None = None) -> Corpus:
    write_corpus(folder, pairs, BOTH, max_length=max_length)
    return Corpus.open(folder)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=12)] * 2),
        max_size=6,
    )
)
def test_what_is_written_comes_back(pairs: list[tuple[str, str]]) -> None:
    with TemporaryDirectory() as folder:
        corpus = written(Path(folder) / "corpus", pairs)
        kept = [(src, tgt) for src, tgt in pairs if src.strip() and tgt.strip()]
        assert len(corpus) == len(kept)
        for i, (src, tgt) in enumerate(kept):
            assert corpus.text(i) == (src, tgt)
            assert corpus.src(i).tolist() == WORDS.encode(src)
            assert corpus.tgt(i).tolist() == CHARACTERS.encode(tgt)
        assert corpus.src_lengths.tolist() == [len(WORDS.encode(src)) for src, _ in kept]
        assert corpus.tgt_lengths.tolist() == [len(CHARACTERS.encode(tgt)) for _, tgt in kept]


def test_ids_beyond_16_bits(tmp_path: Path) -> None:
    large = WordTokenizer([str(n) for n in range(70_000)], WordsConfig(size=70_000))
    write_corpus(tmp_path / "c", [("69999 1", "0 65535")], (large, large), max_length=None)
    corpus = Corpus.open(tmp_path / "c")
    assert corpus.src(0).tolist() == [70_003, 5]
    assert corpus.tgt(0).tolist() == [4, 65_539]


def test_pairs_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    pairs = [("a", "b"), ("", "b"), ("a", " \u00a0\u3000"), ("a b c", "b"), ("a", "bbb"), ("a b", "bb"), ("", "")]
    counts = write_corpus(tmp_path / "c", pairs, BOTH, max_length=2)
    assert counts == Counts(pairs=2, empty=3, too_long=2)
    assert counts.total == len(pairs)
    corpus = Corpus.open(tmp_path / "c")
    assert [corpus.text(i) for i in range(len(corpus))] == [("a", "b"), ("a b", "bb")]


def test_a_side_without_tokens_is_empty(tmp_path: Path) -> None:
    class Deaf(WordTokenizer):
        def encode(self, line: str) -> list[int]:
            return []

    deaf = Deaf((), WordsConfig())
    assert write_corpus(tmp_path / "c", [("a", "b")], (WORDS, deaf), max_length=None) == Counts(empty=1)


def test_fingerprint_is_of_the_contents(tmp_path: Path) -> None:
    first = written(tmp_path / "1", PAIRS).fingerprint
    assert written(tmp_path / "2", PAIRS).fingerprint == first
    changed = [
        PAIRS[::-1],
        PAIRS[:2],
        [(tgt, src) for src, tgt in PAIRS],
        [("a b  c", "ab"), *PAIRS[1:]],  # the ids are the same, the text is not
    ]
    others = {written(tmp_path / f"{n}-other", pairs).fingerprint for n, pairs in enumerate(changed)}
    assert len(others - {first}) == len(changed)


@pytest.mark.parametrize("i", [-1, 3])
def test_no_pair_of_that_number(tmp_path: Path, i: int) -> None:
    corpus = written(tmp_path / "c", PAIRS)
    for read in (corpus.src, corpus.tgt, corpus.text):
        with pytest.raises(IndexError, match=f"pair {i} of 3"):
            read(i)


def test_another_process_opens_the_files_itself(tmp_path: Path) -> None:
    corpus = written(tmp_path / "c", [("a " * 5000, "b" * 5000)])
    sent = pickle.dumps(corpus)
    assert len(sent) < 1000
    assert pickle.loads(sent).text(0) == corpus.text(0)


def test_nothing_is_left_of_an_interrupted_corpus(tmp_path: Path) -> None:
    def interrupted() -> Iterator[tuple[str, str]]:
        yield "a", "b"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_corpus(tmp_path / "c", interrupted(), BOTH, max_length=None)
    assert list(tmp_path.iterdir()) == []


def test_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        Corpus.open(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: no prepared corpus: it has no meta.json\nMake it again with `nmt prepare`."
    )


@pytest.mark.parametrize("name", [f"{side}.{what}" for side in ("src", "tgt") for what in ("ids", "text.offsets")])
@pytest.mark.parametrize("harm", ["shortened", "lengthened", "removed"])
def test_damaged_files_are_named(tmp_path: Path, name: str, harm: str) -> None:
    written(tmp_path / "c", PAIRS)
    path = tmp_path / "c" / name
    raw = path.read_bytes()
    if harm == "removed":
        path.unlink()
    else:
        path.write_bytes(raw[:-1] if harm == "shortened" else raw + b"\0")
    size = {"shortened": len(raw) - 1, "lengthened": len(raw) + 1, "removed": 0}[harm]
    with pytest.raises(UserError) as caught:
        Corpus.open(tmp_path / "c")
    assert caught.value.message == f"{path}: damaged: {size} bytes where {len(raw)} were written"


def test_offsets_must_end_where_the_ids_do(tmp_path: Path) -> None:
    written(tmp_path / "c", PAIRS)
    path = tmp_path / "c" / "src.ids.offsets"
    path.write_bytes(path.read_bytes()[:-8] + (99).to_bytes(8, "little"))
    with pytest.raises(UserError, match=r"src\.ids\.offsets: damaged: its ends are not those of src\.ids"):
        Corpus.open(tmp_path / "c")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, ": format 2; this version reads format 1"),
        ({"columns": {}}, " is damaged: it says nothing of src.ids"),
        ({"pairs": "many"}, " is damaged: pairs: Input should be a valid integer"),
    ],
)
def test_meta_that_makes_no_sense(tmp_path: Path, change: dict[str, object], message: str) -> None:
    written(tmp_path / "c", PAIRS)
    path = tmp_path / "c" / "meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError) as caught:
        Corpus.open(tmp_path / "c")
    assert f"{path}{message}" in caught.value.message


def test_writing_streams(tmp_path: Path) -> None:
    count = 20_000
    tracemalloc.start()
    try:
        write_corpus(tmp_path / "c", (("a b c " * (1 + n % 9), "ab" * 9) for n in range(count)), BOTH, max_length=None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000
    assert np.array_equal(Corpus.open(tmp_path / "c").tgt_lengths, np.full(count, 18))


def direct(folder: Path, lengths: Sequence[np.ndarray], parts: Sequence[Part]) -> Corpus:
    """A corpus of so many tokens, all alike, with no text, without going through a tokenizer."""
    folder.mkdir()
    columns = {}
    for name, counts in zip(COLUMNS, [*lengths, np.zeros_like(lengths[0]), np.zeros_like(lengths[0])], strict=True):
        dtype = np.dtype("<u2" if name.endswith("ids") else "u1")
        offsets = np.concatenate([[0], np.cumsum(counts)])
        np.full(offsets[-1], 5, dtype).tofile(folder / name)
        offsets.astype("<u8").tofile(folder / f"{name}.offsets")
        columns[name] = {"dtype": dtype.str, "items": int(offsets[-1])}
    meta = {"format": FORMAT, "pairs": len(lengths[0]), "parts": [part._asdict() for part in parts]}
    (folder / "meta.json").write_text(json.dumps({**meta, "columns": columns, "fingerprint": ""}))
    return Corpus.open(folder)


@pytest.mark.parametrize(("weights", "held"), [((1.0,), 8), ((1.0, 0.7), 12), ((1.0, 2.0), 8)])
def test_a_pair_takes_few_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Sequence[float], held: int
) -> None:
    """24 bytes at most, even while an epoch is planned, and no Python object. The blocks are to 300,000 pairs what they
    are to 5 million else. A pair of weight 2 counts as two."""
    monkeypatch.setattr(plan_module, "BLOCK", 2**12)
    count = 300_000
    warm = Plan(np.ones(9, int), np.ones(9, int), max_tokens=18, seed=1)
    assert len(warm.batch(0)) == 9  # and numpy has imported what it imports when it is needed
    rng = np.random.default_rng(1)
    parts = [Part(count // len(weights), weight) for weight in weights]
    direct(tmp_path / "c", [rng.integers(1, 60, count) for _ in range(2)], parts)
    tracemalloc.start()
    try:
        objects = sys.getallocatedblocks()
        corpus = Corpus.open(tmp_path / "c")
        plan = Plan(corpus.src_lengths, corpus.tgt_lengths, max_tokens=4096, seed=1, parts=corpus.parts)
        for epoch in range(2):
            assert len(plan.batch(epoch * plan.batches_per_epoch)) > 0
        now, peak = tracemalloc.get_traced_memory()
        objects = sys.getallocatedblocks() - objects
    finally:
        tracemalloc.stop()
    count = max(count, corpus.pairs_per_epoch)
    assert now / count <= held
    assert peak / count <= 24
    assert objects < count / 100


def test_workers_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SentencePieceConfig(size=60, joint=False)
    lines = [f"{'a b c ' * (n % 7)}{n} ä" for n in range(60)]
    pieces, _ = learn_tokenizers(config, lambda: lines, lambda: lines)
    pairs = [(line, other) for line, other in zip(lines, ["", " ", *lines[:-2]], strict=True)]
    counts = [write_corpus(tmp_path / "1", pairs, (WORDS, pieces), max_length=18)]
    monkeypatch.setattr(workers, "BLOCKS_ALONE", 1)
    monkeypatch.setattr(corpus_module, "BLOCK", 100)
    for number in (1, 3):
        counts.append(write_corpus(tmp_path / f"{number} small", pairs, (WORDS, pieces), max_length=18, workers=number))
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("1", "1 small", "3 small")
    ]
    assert files[1] == files[0]
    assert files[2] == files[0]
    assert counts == [counts[0]] * 3
    assert min(counts[0][:3]) > 0


class Deadly(WordTokenizer):
    """Ends the process that it is sent to."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (3,)


def test_nothing_is_left_where_workers_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "BLOCKS_ALONE", 1)
    monkeypatch.setattr(corpus_module, "BLOCK", 10)

    def bad() -> Iterator[tuple[str, str]]:
        yield from PAIRS
        raise UserError("line 4 of a file is bad")

    with pytest.raises(UserError, match="line 4 of a file is bad"):
        write_corpus(tmp_path / "c", bad(), BOTH, max_length=None, workers=2)
    with pytest.raises(UserError, match="a worker process ended before its work was done: exit code 3"):
        write_corpus(tmp_path / "c", PAIRS * 9, (Deadly((), WordsConfig()), WORDS), max_length=None, workers=2)
    assert list(tmp_path.iterdir()) == []
