"""How a run starts: what it takes from another, what contradicts that, what is looked at before anything is said."""

from __future__ import annotations

import random

import pytest
import torch
from zoo import WORDS, write_run

from nmt.rundir import MODEL, RunDir, part_of, read_tensors

TEXTS = ["--src", "a.src", "--tgt", "a.tgt", "--dev-src", "b.src", "--dev-tgt", "b.tgt"]
ONE = ["--set", "train.steps=1", "--set", "train.precision=float32", "--device", "cpu"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with text that the vocabulary of the run `first` knows."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(1)
    for name, count in (("a", 40), ("b", 4)):
        lines = [" ".join(draw.choices(WORDS, k=draw.randint(1, 5))) for _ in range(count)]
        (tmp_path / f"{name}.src").write_text("".join(f"{line}\n" for line in lines))
        (tmp_path / f"{name}.tgt").write_text("".join(f"{line}\n" for line in reversed(lines)))
    write_run(tmp_path / "first", "lstm")
    return tmp_path


def options(*settings):
    return [word for setting in settings for word in ("--set", setting)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["tokenizer.lowercase=true"], "--set tokenizer.lowercase: true, but false in first\n"),
        (["tokenizer.kind=characters"], '--set tokenizer.kind: "characters", but "words" in first\n'),
        (["model.decoder.width=20"], "--set model.decoder.width: 20, but 16 in first\n"),
        (
            ["model.encoder={kind: rnn, cell: gru}"],
            '--set model.encoder: model.encoder.cell: "gru", but "lstm" in first',
        ),
    ],
)
def test_settings_that_do_not_fit_the_other_run_are_refused_by_name(command, here, settings, message):
    _, said = command("train", *TEXTS, "-o", "second", "--init-from", "first", *ONE, *options(*settings), code=2)
    assert message in said
    assert "with --init-from, the model and the tokenizer is that of first: leave these out" in said
    assert not (here / "second").exists()


def test_settings_of_a_file_are_asked_too_and_how_it_learns_may_change(command, here):
    (here / "c.yaml").write_text("model:\n  dropout: 0.25\n  decoder:\n    attention: {kind: dot}\n")
    _, said = command("train", "c.yaml", *TEXTS, "-o", "second", "--init-from", "first", *ONE, code=2)
    assert 'c.yaml:4: model.decoder.attention.kind: "dot", but "additive" in first' in said
    (here / "c.yaml").write_text("model: {dropout: 0.25, decoder: {width: 16}}\n")
    command("train", "c.yaml", *TEXTS, "-o", "second", "--init-from", "first", *ONE)
    model = RunDir(here / "second").config.model
    assert (model.dropout, model.encoder.width) == (0.25, 16)


@pytest.mark.parametrize(
    ("parts", "settings", "vocabulary"),
    [
        ("embeddings,encoder", ["model.decoder={width: 20, attention: {kind: general}}"], 19),
        ("encoder,decoder", ["tokenizer.kind=characters"], 16),
        ("embeddings,encoder,decoder,head", [], 19),
    ],
)
def test_parts_are_taken_and_the_others_are_new(command, here, parts, settings, vocabulary):
    """What starts afresh is named, and what is taken is the other's."""
    taken = parts.split(",")
    still = options("train.optimizer.lr=1e-30", *settings)
    _, said = command("train", *TEXTS, "-o", "second", "--init-from", "first", "--parts", parts, *ONE, *still)
    fresh = [part for part in ("embeddings", "encoder", "decoder", "head") if part not in taken]
    new = ", ".join(["tokenizers"] * (vocabulary != 19) + fresh)
    assert (f"taken from first: {', '.join(taken)}; new: {new}\n" in said) == bool(fresh)
    second = RunDir(here / "second")
    assert len(second.tokenizers()[0]) == vocabulary
    before = read_tensors(RunDir(here / "first").checkpoint() / MODEL)
    for name, tensor in read_tensors(second.checkpoint() / MODEL).items():
        same = name in before and before[name].shape == tensor.shape
        same = same and torch.allclose(before[name], tensor, rtol=0, atol=1e-9)
        constant = tensor.std(correction=0) < 1e-9  # a bias of zeros in any model
        assert same == (part_of([name]) in taken) or constant, name


def test_a_part_whose_shapes_differ_is_refused_by_name(command, here):
    wider = options("model.encoder.width=24")
    part = ("--init-from", "first", "--parts", "decoder")
    _, said = command("train", *TEXTS, "-o", "second", *part, *ONE, *wider, code=2)
    assert "does not fit the model: decoder." in said
    assert "in the file" in said
    _, said = command("train", *TEXTS, "-o", "second", *part, *ONE, *options("model.decoder.cell=gru"), code=2)
    assert '--set model.decoder.cell: "gru", but "lstm" in first\n' in said
    _, said = command("train", *TEXTS, "-o", "second", *part, "--keep", "schedule", code=2)
    assert "--keep goes with the whole of a run" in said
    assert not (here / "second").exists()


def test_a_training_that_goes_on_is_fitted_to_the_new_text(command, here):
    _, said = command("train", *TEXTS, "-o", "second", "--init-from", "first", *ONE)
    assert (
        "40 pairs to go on with: chosen (all is in second/config.yaml):\n  train.validate_every 20, train.patie" in said
    )
    train = RunDir(here / "second").config.train
    first = RunDir(here / "first").config.train
    assert train.optimizer.lr == pytest.approx(first.optimizer.lr / 5)
    assert (train.steps, train.patience, train.label_smoothing) == (1, 5, first.label_smoothing)


def test_text_that_the_vocabulary_does_not_know_is_refused(command, here):
    (here / "x.src").write_text("".join(f"ᎣᏏᏲ ᎠᏂ {n}\n" for n in range(20)))
    (here / "x.tgt").write_text("w1 w2 y\n" * 20)
    texts = ("--src", "x.src", "--tgt", "x.tgt")
    _, said = command("train", *texts, "-o", "second", "--init-from", "first", *ONE, code=2)
    assert "x.src: the vocabulary does not know 100% of the tokens of its first 19 lines" in said
    assert "--parts encoder,decoder takes no vocabulary" in said
    assert not (here / "second").exists()
    (here / "x.src").write_text("w1 w2\nw2 w1\n" * 10)
    _, said = command("train", *texts, "-o", "second", "--init-from", "first", *ONE)
    assert "x.tgt: the vocabulary does not know 33% of the tokens" in said
    assert "x.src: the" not in said


def test_a_run_without_a_best_checkpoint_gives_its_last(command, here):
    first = RunDir(here / "first")
    first.point("last", first.pointed("best"))
    (here / "first" / "best").unlink()
    _, said = command("train", *TEXTS, "-o", "second", "--init-from", "first", *ONE)
    assert "first has not been validated yet: its last checkpoint is taken, step-00000001\n" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["first"], "first is a run\nto go on with it: nmt train first --resume; to make a new one"),
        (["first", "-o", "x"], "with its settings: nmt train first/config.yaml -o NEW\n"),
        ([*TEXTS], "-o is missing: the folder to make, for the run\n"),
        ([*TEXTS, "-o", "x", "--parts", "encoder"], "--parts says what to take from a run of its weights\n"),
        (
            [*TEXTS, "-o", "x", "--init-from", "first", "--parts", "body"],
            "--parts body: there is no such thing\nit may be embeddings, encoder, decoder or head, or several",
        ),
        (
            [*TEXTS, "-o", "x", *options("train.patience=2", "train.schedule={kind: plateau, patience: 2}")],
            "train.patience is 2: training would end before the rate is ever lowered",
        ),
        (
            [*TEXTS, "-o", "x", *options("align.attention=encoder.7.self", "model.decoder.width=16")],
            "the model has no attention called 'encoder.7.self'",
        ),
    ],
)
def test_what_does_not_go_together_is_told_before_any_work(command, here, arguments, message):
    before = sorted(here.iterdir())
    assert message in command("train", *arguments, code=2)[1]
    assert sorted(here.iterdir()) == before


def test_files_are_looked_at_before_settings_are_announced(command, here):
    (here / "empty").write_text("")
    (here / "short").write_text("a\n")
    for src, tgt in (("empty", "empty"), ("a.src", "short")):
        _, said = command("train", "--src", src, "--tgt", tgt, "-o", "x", code=2)
        assert "chosen" not in said
    _, said = command("train", "--src", "a.src", "--tgt", "a.src", "-o", "x", *ONE)
    assert said.index("a.src is both sides") < said.index("chosen")
    (here / "copy").write_bytes((here / "a.src").read_bytes())
    _, said = command("train", "--src", "a.src", "--tgt", "copy", "-o", "y", *ONE)
    assert f"{here / 'a.src'} and {here / 'copy'}: 40 of 40 pairs are the same on both sides" in said


def test_two_writing_systems_get_two_vocabularies(command, here):
    (here / "x.tgt").write_text("".join(f"ᎣᏏᏲ ᎠᏂ {n}\n" for n in range(40)))
    texts = ["--src", "a.src", "--tgt", "x.tgt"]
    _, said = command("train", *texts, "-o", "x", *ONE)
    assert "tokenizer.joint false: two writing systems have no pieces in common" in said
    assert " target (1,000 asked for)\n" in said
    config = RunDir(here / "x").config
    assert (config.tokenizer.joint, config.model.embedding.tie) == (False, "decoder")
    command("train", *texts, "-o", "y", *ONE, *options("tokenizer.joint=true"))
    assert RunDir(here / "y").config.tokenizer.joint


@pytest.mark.parametrize("preset", ["rnn", "rnn-tiny", "transformer"])
def test_a_preset_trains_on_two_files_as_it_is(command, here, preset):
    """Its own names of files are in the way of nobody who gives others."""
    command("init", preset)
    parts = ("embedding", "encoder", "decoder")
    small = [*(f"model.{part}.width=16" for part in parts), "tokenizer={kind: words, joint: true}"]
    _, said = command("train", f"{preset}.yaml", "--src", "a.src", "--tgt", "a.tgt", "-o", "x", *ONE, *options(*small))
    assert "no development files: held out " in said


def test_development_files_that_are_not_there_get_a_way_out(command, here):
    (here / "old.yaml").write_text("data: {dev_src: dev.src, dev_tgt: dev.tgt}\n")
    _, said = command("train", "old.yaml", "--src", "a.src", "--tgt", "a.tgt", "-o", "y", code=2)
    assert "old.yaml:1: data.dev_src: no such file: " in said
    way_out = said.partition("held out of the training text: ")[2].strip(". \n").split()
    command("train", "old.yaml", "--src", "a.src", "--tgt", "a.tgt", "-o", "y", *ONE, *way_out)


def test_a_prepared_text_keeps_what_it_was_prepared_with(command, here):
    """Lengths as well as tokenizers; and parts of a run that bring no vocabulary go with any prepared text."""
    command("prepare", *TEXTS, "-o", "text", *options("data.max_length=4", "tokenizer.kind=characters"))
    prepared = ("train", "--data", "text", *ONE)
    said = command(*prepared, "-o", "x", *options("data.max_length=9"), code=2)[1]
    assert "was prepared with data.max_length: 4, not 9" in said
    command(*prepared, "-o", "x", "--init-from", "first", "--parts", "encoder,decoder")
    config = RunDir(here / "x").config
    assert (config.data.max_length, config.tokenizer.kind) == (4, "characters")
    said = command(*prepared, "-o", "y", "--init-from", "first", code=2)[1]
    assert "prepared with another source tokenizer" in said


def test_links_of_a_file_of_settings_are_not_those_of_other_text(command, here):
    (here / "c.yaml").write_text("data: {src: a.src, tgt: a.tgt, links: links}\nmodel: {guided_alignment: 0.1}\n")
    (here / "links").write_text("0-0\n" * 40)
    said = command("train", "c.yaml", "--src", "b.src", "--tgt", "b.tgt", "-o", "x", code=2)[1]
    assert "learns from links between words: name their file, data.links, or set it to 0" in said


@pytest.mark.parametrize(
    ("settings", "remark"),
    [
        (["train.schedule.warmup=9"], "train.schedule.warmup is 9, and train.steps 1: the rate never gets to"),
        (["train.schedule=noam"], "train.optimizer.lr is 1e-06: the rate stays below 7e-10; with noam it is a factor"),
        (
            ["data.dev_src=a.src", "data.dev_tgt=a.tgt"],
            "a.src is training and development text: its scores say nothing",
        ),
    ],
)
def test_what_may_not_be_meant_is_told(command, here, settings, remark):
    few = options("train.optimizer.lr=1e-6", "train.samples=0", *settings)
    assert remark in command("train", *TEXTS[:4], "-o", "x", "--init-from", "first", *ONE, *few)[1]


def test_a_schedule_that_has_come_to_its_end_cannot_go_on(command, here):
    linear = options("train.schedule={kind: linear, steps: 1}")
    command("train", *TEXTS, "-o", "x", "--init-from", "first", *ONE, *linear)
    again = ("train", *TEXTS, "-o", "y", "--init-from", "x", *ONE)
    said = command(*again, "--keep", "schedule", code=2)[1]
    assert "--keep schedule goes on after update 1, but the linear schedule comes down to nothing at 1" in said
    command(*again)


@pytest.mark.parametrize(
    ("beam", "setting", "message"),
    [
        (2, "search.sampling={count: 2}", "--beam searches, and search.sampling draws\n"),
        (2, "search.beam=3", "--beam and --set search.beam both say how many"),
        (1, "search.mbr={}", "search.mbr chooses among the beam, and that is of 1\n"),
    ],
)
def test_settings_of_search_that_contradict_each_other(command, here, beam, setting, message):
    assert message in command("translate", "first", "a.src", "--beam", beam, *options(setting), code=2)[1]


def test_a_setting_of_search_without_its_section_is_recognised(command, here):
    assert "write: --set search.beam=3\n" in command("translate", "first", "a.src", "--set", "beam=3", code=2)[1]


def test_a_start_that_training_makes_worse_stays_the_best(command, here):
    """A run that goes on from a whole model is validated before its first step, too."""
    (here / "b.tgt").write_text(command("translate", "first", "b.src", "--beam", "1")[0])
    settings = options("train.optimizer.lr=0.3", "train.schedule={kind: constant}", "train.validate_every=1")
    _, said = command("train", *TEXTS, "-o", "second", "--init-from", "first", *ONE, *settings)
    assert said.index("step 0  dev loss") < said.index("step 1  dev loss")
    assert RunDir(here / "second").pointed("best") == "step-00000000"
    ours, theirs = (read_tensors(RunDir(run).checkpoint("best") / MODEL) for run in (here / "first", here / "second"))
    assert all(torch.equal(ours[name], theirs[name]) for name in {**ours, **theirs})
    assert command("translate", "second", "b.src", "--beam", "1")[0] == (here / "b.tgt").read_text()
