"""The run directory: whole or absent, never overwritten unasked, complete after moving it."""

from __future__ import annotations

import re
import shutil

import pytest
import torch
from zoo import ZOO, batch, write_run

from nmt.config import Config, WordsConfig
from nmt.errors import UserError
from nmt.files import write_atomically, written_aside
from nmt.models.build import build_model
from nmt.rundir import (
    MODEL,
    RunDir,
    distinct_tensors,
    load_model,
    load_weights,
    read_tensors,
    save_tensors,
)
from nmt.text.tokenizer import WordTokenizer

WORDS = [f"w{n}" for n in range(15)]


def create(path, name="lstm", **changes):
    joint = ZOO[name].embedding.tie == "all"
    config = Config(tokenizer=WordsConfig(joint=joint), model=ZOO[name])
    tokenizer = WordTokenizer(WORDS, config.tokenizer)
    return RunDir.create(path, config, (tokenizer, tokenizer), **changes)


def store(run, model, name="step-00000007"):
    (run.checkpoints / name).mkdir()
    save_tensors(run.checkpoints / name / MODEL, distinct_tensors(model))
    run.point("best", name)


@pytest.mark.parametrize("name", ZOO)
def test_a_model_comes_back_from_a_moved_run_with_each_tied_tensor_stored_once(tmp_path, name):
    run = create(tmp_path / "run", name)
    src, tgt = run.tokenizers()
    torch.manual_seed(5)
    model = build_model(run.config.model, len(src), len(tgt)).eval()
    store(run, model)
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    loaded = load_model(RunDir(tmp_path / "elsewhere"))
    assert not loaded.training
    pairs = batch()
    assert torch.equal(loaded(pairs).nll, model(pairs).nll)
    stored = read_tensors(tmp_path / "elsewhere" / "checkpoints" / "step-00000007" / MODEL)
    assert sum(t.numel() for t in stored.values()) == sum(p.numel() for p in model.parameters())
    if run.config.model.embedding.tie != "none":
        generates = getattr(loaded.head, "vocabulary", loaded.head)
        assert generates.weight is loaded.decoder.embedding.table.weight


def test_config_and_facts_come_back(tmp_path):
    run = create(tmp_path / "deep" / "run", facts={"fingerprint": {"train": "abc"}})
    run.record_session({"command": "first"})
    run.record_session({"command": "second"})
    again = RunDir(run.path)
    assert again.config == Config(tokenizer=WordsConfig(), model=ZOO["lstm"])
    assert again.facts == {"fingerprint": {"train": "abc"}, "sessions": [{"command": "first"}, {"command": "second"}]}
    changed = again.config.model_copy(update={"search": again.config.search.model_copy(update={"beam": 7})})
    again.replace_config(changed)
    assert again.config.search.beam == 7
    assert RunDir(run.path).config == changed


def test_an_existing_run_is_replaced_only_when_asked(tmp_path):
    path = tmp_path / "run"
    (create(path).path / "best").write_text("mark")
    with pytest.raises(UserError, match=r"run holds a run already\n.*--resume.*--force"):
        create(path)
    assert (path / "best").read_text() == "mark"
    create(path, overwrite=True)
    assert not (path / "best").exists()


def test_a_folder_that_is_no_run_is_never_replaced(tmp_path):
    (tmp_path / "precious").write_text("text")
    with pytest.raises(UserError, match="is not empty and holds no run"):
        create(tmp_path, overwrite=True)
    with pytest.raises(UserError, match="precious is a file, not a folder"):
        create(tmp_path / "precious", overwrite=True)
    assert (tmp_path / "precious").read_text() == "text"


def test_prepared_data_moves_in(tmp_path):
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared" / "corpus").write_text("x")
    run = create(tmp_path / "run", data=tmp_path / "prepared")
    assert (run.path / "data" / "corpus").read_text() == "x"
    assert not (tmp_path / "prepared").exists()


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(UserError, match="no-such does not exist"):
        RunDir(tmp_path / "no-such")
    with pytest.raises(UserError, match=r"is not a run: it has no config.yaml"):
        RunDir(tmp_path)


def test_checkpoints_by_pointer_step_and_name(tmp_path):
    run = create(tmp_path / "run")
    with pytest.raises(UserError, match="has no checkpoint `best` yet"):
        run.checkpoint()
    model = build_model(run.config.model, 19, 19)
    store(run, model, "step-00000500")
    store(run, model, "average-best-2")
    assert run.checkpoint().name == "average-best-2"
    assert run.checkpoint("500").name == "step-00000500"
    assert run.checkpoint("step-00000500").name == "step-00000500"
    with pytest.raises(UserError, match=r"no checkpoint 7\nthere are: best, last, average-best-2, step-00000500"):
        run.checkpoint("7")


def test_a_damaged_or_foreign_file_is_named(tmp_path):
    model = build_model(ZOO["lstm"], 19, 19)
    path = tmp_path / MODEL
    save_tensors(path, distinct_tensors(model))
    with pytest.raises(
        UserError, match=r"model.safetensors does not fit the model: encoder.embedding.table.weight is "
    ):
        load_weights(path, build_model(ZOO["lstm"], 20, 19))
    with pytest.raises(UserError, match=r"weight_ih_l0 is \[32, 12\] in the file, \[24, 12\] .*\(and \d+ more\)"):
        load_weights(path, build_model(ZOO["gru"], 19, 19))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"model.safetensors is damaged: "):
        load_weights(path, model)
    with pytest.raises(UserError, match=r"other.safetensors is missing"):
        load_weights(tmp_path / "other.safetensors", model)


def test_a_folder_written_aside_is_whole_or_absent(tmp_path):
    target = tmp_path / "folder"

    def fail():
        with written_aside(target) as draft:
            (draft / "half").touch()
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail()
    assert list(tmp_path.iterdir()) == []
    for text in ("old", "new"):
        with written_aside(target) as draft:
            (draft / "file").write_text(text)
            assert not (target / "file").exists() or (target / "file").read_text() == "old"
    assert (target / "file").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_small_file_is_replaced_in_one_go(tmp_path):
    write_atomically(tmp_path / "best", "one\n")
    write_atomically(tmp_path / "best", "two\n")
    assert (tmp_path / "best").read_text() == "two\n"
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


def test_words_of_a_run_from_before_they_were_composed_stay_as_they_are(tmp_path):
    """Its settings say nothing of it, nor does its tokenizer."""
    run = write_run(tmp_path / "run", "lstm")
    path = run.path / "config.yaml"
    assert run.config.tokenizer.normalization == "nfc"
    path.write_text(re.sub(" +normalization: nfc\n", "", path.read_text("utf-8"), count=1), "utf-8")
    for old in (run.path / "tokenizer").glob("*.json"):
        old.write_text(re.sub(r'\s*"normalization": "nfc",', "", old.read_text("utf-8")), "utf-8")
    run = RunDir(run.path)
    assert run.config.tokenizer == run.tokenizers()[0].settings
    assert run.config.tokenizer.normalization == "identity"
    assert run.config_with(["train.steps=7"]).tokenizer == run.config.tokenizer
