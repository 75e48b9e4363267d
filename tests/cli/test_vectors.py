"""Pretrained word vectors from training to translation: they arrive, stay or learn, and are read once."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch

from nmt.rundir import MODEL, OPTIMIZER, RunDir, read_tensors

TINY = """
tokenizer: {kind: words}
model:
  embedding: {width: 8, tie: none}
  encoder: {width: 8}
  decoder: {width: 8, attention: {kind: general}}
train:
  {steps: 6, validate_every: 3, log_every: 3, samples: 1, precision: float32, schedule: {kind: constant}, average: null}
"""
TEXTS = ("--src", "train.src", "--tgt", "train.tgt", "--dev-src", "train.src", "--dev-tgt", "train.tgt")
TRAIN = ("train", "tiny.yaml", *TEXTS, "--device", "cpu")
BOTH = ("--set", "model.embedding.src_vectors=src.vec", "--set", "model.embedding.tgt_vectors=tgt.vec")
SRC, TGT = "encoder.embedding.table.weight", "decoder.embedding.table.weight"
KNOWN = "abcdef"
"""Words with a vector; the text has g and h, too."""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A little text, settings, and vectors for six of its eight words on either side, where the user is."""
    draw = random.Random(1)
    lines = [draw.choices("abcdefgh", k=draw.randint(1, 5)) for _ in range(40)]
    (tmp_path / "train.src").write_text("".join(" ".join(line) + "\n" for line in lines))
    (tmp_path / "train.tgt").write_text("".join(" ".join(line[::-1]) + "\n" for line in lines))
    (tmp_path / "tiny.yaml").write_text(TINY)
    for side in ("src", "tgt"):
        rows = [f"{word} " + " ".join(f"{draw.gauss(0, 3):.4f}" for _ in range(8)) for word in KNOWN]
        (tmp_path / f"{side}.vec").write_text("6 8\n" + "".join(f"{row}\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    # The checkpoint before the first update goes at the first validation: kept here, to look at the start.
    monkeypatch.setattr("nmt.train.checkpoint.remove_others", lambda run, keep: None)
    return tmp_path


def weights(run, checkpoint="last", file=MODEL):
    return read_tensors(RunDir(run).checkpoint(checkpoint) / file)


def words(run, side):
    src, tgt = RunDir(run).tokenizers()
    tokenizer = tgt if side == "tgt" else src
    return tokenizer.pieces(range(len(tokenizer)))


def expected(here, side):
    """The vectors of the file by word, of the root mean square 8**-0.5; by another road than the program's."""
    table = np.loadtxt(here / f"{side}.vec", skiprows=1, usecols=range(1, 9))
    return dict(zip(KNOWN, table / np.sqrt(np.mean(table**2)) / np.sqrt(8), strict=True))


def running(here, side):
    tokens = (here / f"train.{side}").read_text().split()
    return 100 * sum(token in KNOWN for token in tokens) / len(tokens)


def test_vectors_arrive_and_the_rest_starts_as_without(command, here):
    err = command(*TRAIN, "-o", "run", *BOTH)[1]
    command(*TRAIN, "-o", "plain")
    before, plain, after = weights("run", "0"), weights("plain", "0"), weights("run")
    assert before.keys() == plain.keys()
    for side, name in (("src", SRC), ("tgt", TGT)):
        assert f"{side}.vec: 6 of 8 words (75.0 %), {running(here, side):.1f} % of the running words\n" in err
        vectors = expected(here, side)
        for n, word in enumerate(words("run", side)):
            if word in vectors:
                np.testing.assert_allclose(before[name][n], vectors[word], rtol=1e-5)
                assert not torch.equal(after[name][n], before[name][n])  # trained on
            else:
                assert torch.equal(before[name][n], plain[name][n])
    assert all(torch.equal(before[name], plain[name]) for name in plain if name not in (SRC, TGT))


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_frozen_tables_stay_bit_by_bit(command, here, kind):
    optimizer = f"train.optimizer={{kind: {kind}, lr: 0.01, weight_decay: 0.1}}"
    command(*TRAIN, "-o", "run", *BOTH, "--set", "model.embedding.freeze=true", "--set", optimizer)
    before, after = weights("run", "0"), weights("run")
    assert {name for name in before if torch.equal(before[name], after[name])} == {SRC, TGT}
    assert not [name for name in weights("run", file=OPTIMIZER) if "embedding" in name]


def test_one_side_alone_is_frozen(command, here):
    """The target table is the output layer here (tie: decoder), and learns."""
    own = ("--set", "model.embedding={width: 8, src_vectors: src.vec, freeze: true}")
    (here / "src.vec").rename(here / "kept.vec")
    err = command(*TRAIN, "-o", "run", *own, code=2)[1]
    assert f"model.embedding.src_vectors: no such file: {here / 'src.vec'}" in err
    (here / "kept.vec").rename(here / "src.vec")
    command(*TRAIN, "-o", "run", *own)
    before, after = weights("run", "0"), weights("run")
    assert [name for name in before if torch.equal(before[name], after[name])] == [SRC]


@pytest.mark.parametrize("side", ["src", "tgt"])
def test_one_table_for_all(command, here, side):
    shared = f"model.embedding={{width: 8, tie: all, {side}_vectors: {side}.vec}}"
    (here / "train.tgt").write_text("a b X c\n" * 40)
    err = command(*TRAIN, "-o", "run", "--set", shared, "--set", "tokenizer.joint=true")[1]
    tokens = ((here / "train.src").read_text() + (here / "train.tgt").read_text()).split()
    share = 100 * sum(token in KNOWN for token in tokens) / len(tokens)
    assert f"{side}.vec: 6 of 9 words (66.7 %), {share:.1f} % of the running words\n" in err
    (table,) = (tensor for name, tensor in weights("run", "0").items() if "table" in name)
    vectors = expected(here, side)
    for n, word in enumerate(words("run", "src")):
        if word in vectors:
            np.testing.assert_allclose(table[n], vectors[word], rtol=1e-5)


@pytest.mark.parametrize("freeze", ["true", "false"])
def test_a_run_goes_on_and_translates_without_the_files(command, here, freeze):
    """Bit for bit as if it had never stopped, frozen or not."""
    vectors = (*BOTH, "--set", f"model.embedding.freeze={freeze}")
    command(*TRAIN, "-o", "whole", *vectors)
    command(*TRAIN, "-o", "stopped", *vectors, "--set", "train.steps=3")
    for side in ("src", "tgt"):
        (here / f"{side}.vec").unlink()
    err = command("train", "stopped", "--resume", "--set", "train.steps=6", "--device", "cpu")[1]
    assert ".vec" not in err
    for file in (MODEL, OPTIMIZER):
        whole, stopped = weights("whole", file=file), weights("stopped", file=file)
        assert whole.keys() == stopped.keys()
        assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    same = torch.equal(weights("stopped", "0")[SRC], weights("stopped")[SRC])
    assert same == (freeze == "true")
    assert len(command("translate", "stopped", "train.src", "--device", "cpu")[0].splitlines()) == 40
    assert json.loads(command("info", "stopped", "--json")[0])["parameters"]["embeddings"] == 2 * 12 * 8
    fixed = ("train", "stopped", "--resume", "--set", f"model.embedding.freeze={freeze == 'false'}".lower())
    assert "model.embedding.freeze cannot change" in command(*fixed, code=2)[1]


def test_starting_from_a_run_reads_no_vectors(command, here):
    """Its weights are taken, its settings hold, and the command says so; vectors named beside it are refused."""
    command(*TRAIN, "-o", "first", *BOTH, "--set", "model.embedding.freeze=true")
    for side in ("src", "tgt"):
        (here / f"{side}.vec").unlink()
    err = command(*TRAIN, "-o", "second", "--init-from", "first")[1]
    assert "word vectors are not read: the weights come from first\n" in err
    assert ".vec" not in err
    assert torch.equal(weights("second")[SRC], weights("first")[SRC])

    command(*TRAIN, "-o", "third", "--init-from", "first", "--set", "model.embedding.freeze=false")
    assert torch.equal(weights("third", "0")[SRC], weights("first")[SRC])
    assert not torch.equal(weights("third")[SRC], weights("first")[SRC])

    other = ("--set", "model.embedding.tgt_vectors=other.vec")
    said = (
        "model.embedding.tgt_vectors: with --init-from the weights, embeddings included, come from first, and no "
        "vectors are read\ndrop the one or the other\n"
    )
    assert said in command(*TRAIN, "-o", "fourth", "--init-from", "first", *other, code=2)[1]
    assert not (here / "fourth").exists()


def test_mistakes_are_told(command, here):
    """All before any work, but for files without any word of the text, whose words it has to know."""
    err = command(*TRAIN, "-o", "run", *BOTH, "--set", "model.embedding.width=6", code=2)[1]
    assert f"{here / 'src.vec'}, line 1: vectors of width 8, but model.embedding.width is 6\n" in err
    assert "pairs" not in err
    assert (
        "characters; set it to words"
        in command(*TRAIN, "-o", "r", *BOTH, "--set", "tokenizer.kind=characters", code=2)[1]
    )
    assert not (here / "run").exists()
    with (here / "tgt.vec").open("a") as file:
        file.write("g 1 2 3 4 5 6 7 eight\n")
    before = sorted(path.name for path in here.iterdir())
    err = command(*TRAIN, "-o", "run", *BOTH, code=2)[1]
    assert f"{here / 'tgt.vec'}, line 8: `eight` is not a number\n" in err
    assert "pairs" not in err
    (here / "far.vec").write_text("Ω 1 2 3 4 5 6 7 8\n")
    (here / "zero.vec").write_text("A 1 1 1 1 1 1 1 1\na 0 0 0 0 0 0 0 0\n")
    for name, said in (("far", "no vector for any of the 8 words"), ("zero", "words in the vocabulary are 0")):
        for side in ("src", "tgt"):
            wrong = ("--set", f"model.embedding.{side}_vectors={name}.vec")
            err = command(*TRAIN, "-o", "run", *wrong, code=2)[1]
            assert f"error: {here / name}.vec: " in err
            assert said in err
    assert sorted(path.name for path in here.iterdir()) == sorted([*before, "far.vec", "zero.vec"])
    (here / "inside").mkdir()
    (here / "inside" / "src.vec").write_text((here / "src.vec").read_text())
    inside = ("--set", "model.embedding.src_vectors=inside/src.vec")
    assert "choose another folder" in command(*TRAIN, "-o", "inside", *inside, code=2)[1]


def test_of_a_prepared_text(command, here):
    """Whose tokenizer is known only when it is opened."""
    command("prepare", "tiny.yaml", *TEXTS, "-o", "words", *BOTH)
    command("prepare", *TEXTS, "-o", "pieces", "--set", "tokenizer.size=30")
    (here / "small.yaml").write_text(TINY.replace("tokenizer: {kind: words}\n", ""))
    train = ("train", "small.yaml", "--device", "cpu", "-o", "run", *BOTH)
    assert "tokenizer.kind: sentencepiece has subwords" in command(*train, "--data", "pieces", code=2)[1]
    assert "src.vec: 6 of 8 words" in command(*train, "--data", "words")[1]
