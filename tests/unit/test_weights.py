"""Files of weights know what they were trained with; a mixture is refused, and nothing else is."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from zoo import ZOO

from nmt.config import Config, WordsConfig
from nmt.errors import UserError
from nmt.models.build import build_model
from nmt.report import write_report
from nmt.rundir import MODEL, OPTIMIZER, RunDir, distinct_tensors, load_model, read_tensors, save_tensors
from nmt.text.tokenizer import WordTokenizer
from nmt.train.checkpoint import average_checkpoints, restore, save_checkpoint, write_average
from nmt.train.mean import RunningMean
from nmt.train.optim import make_optimizer
from nmt.train.state import Scored, TrainState
from nmt.weights import check_origin, origin_of

CORPUS = {"train": "a" * 8, "dev": "b" * 8}


class Training:
    """A run with three checkpoints of a model that does not learn."""

    def __init__(self, path, name="lstm"):
        config = Config(tokenizer=WordsConfig(), model=ZOO[name])
        tokenizer = WordTokenizer([f"w{n}" for n in range(15)], WordsConfig())
        self.run = RunDir.create(path, config, (tokenizer, tokenizer), facts={"fingerprint": CORPUS})
        self.again()
        for parameter in self.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        self.optimizer.step()
        for step in (1, 2, 3):
            save_checkpoint(self.run, self.model, self.optimizer, TrainState(step=step), self.mean)
        self.run.point("best", "step-00000003")

    def again(self):
        """The run as a command finds it."""
        self.run = RunDir(self.run.path)
        self.model = build_model(self.run.config.model, 19, 19)
        self.optimizer = make_optimizer(self.run.config.train.optimizer, self.model)
        self.mean = RunningMean(self.model, 0.0)

    def resume(self):
        self.again()
        said = []
        restore(self.run, self.model, self.optimizer, self.mean, report=said.append)
        return said


@pytest.fixture
def training(tmp_path):
    return Training(tmp_path / "run")


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1, (old, text)
    path.write_text(text.replace(old, new))


def refused(deed, key):
    """Twice in the same words, which name what differs."""
    messages = []
    for _ in range(2):
        with pytest.raises(UserError, match="does not belong to what is beside it") as caught:
            deed()
        assert key in caught.value.message
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_what_was_not_changed_loads_and_goes_on(training):
    load_model(training.run)
    assert training.resume() == []


@pytest.mark.parametrize("file", ["src", "tgt"])
def test_another_tokenizer_of_as_many_pieces(training, file):
    edit(training.run.path / "tokenizer" / f"{file}.json", '"w7"', '"v7"')
    refused(lambda: load_model(RunDir(training.run.path)), "another tokenizer")
    refused(training.resume, "another tokenizer")
    edit(training.run.path / "tokenizer" / f"{file}.json", '"v7"', '"w7"')
    assert training.resume() == []


def test_where_tokenizers_came_from_is_nothing_to_them(training):
    path = training.run.path / "tokenizer" / "src.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4))
    load_model(RunDir(training.run.path))


@pytest.mark.parametrize(
    ("old", "new", "key", "translates"),
    [
        ("coverage: false", "coverage: true", "model.decoder.attention.coverage", False),
        ("seed: 1", "seed: 2", "train.seed", True),
        ("max_tokens: 4096", "max_tokens: 4095", "data.max_tokens", True),
        ("label_smoothing: 0.1", "label_smoothing: 0.2", "train.label_smoothing", True),
        ("steps: 10000", "steps: 20000", None, True),
        ("log_every: 50", "log_every: 51", None, True),
        ("beam: ", "beam: 1", None, True),
    ],
)
def test_settings_that_were_edited(training, old, new, key, translates):
    path = training.run.path / "config.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(
        text.replace(old, new, 1) if "coverage" not in new else text.replace("coverage: false", "coverage: true", 1)
    )
    if translates:
        load_model(RunDir(training.run.path))
    else:
        refused(lambda: load_model(RunDir(training.run.path)), key)
    if key is None:
        assert training.resume() == []
    else:
        refused(training.resume, key)


def test_another_corpus_counts_for_training_only(training):
    edit(training.run.path / "run.json", "a" * 8, "c" * 8)
    load_model(RunDir(training.run.path))
    refused(training.resume, "corpus.train")
    chosen = [Scored("step-00000001", 1, 1.0), Scored("step-00000002", 2, 2.0)]
    refused(lambda: write_average(RunDir(training.run.path), "average-best-2", chosen), "corpus.train")
    assert not (training.run.checkpoints / "average-best-2").exists()


def test_two_runs_mixed(training, tmp_path):
    """The settings and the tokenizer of one, the checkpoints of another, of the same shapes."""
    other = Training(tmp_path / "other")
    edit(other.run.path / "tokenizer" / "tgt.json", '"w7"', '"v7"')
    shutil.rmtree(other.run.checkpoints)
    shutil.copytree(training.run.checkpoints, other.run.checkpoints)
    before = sorted(path.name for path in other.run.checkpoints.iterdir())
    refused(other.resume, "another tokenizer")
    refused(lambda: load_model(RunDir(other.run.path)), "another tokenizer")
    assert sorted(path.name for path in other.run.checkpoints.iterdir()) == before


def test_an_average_knows_it_too(training):
    chosen = [Scored("step-00000001", 1, 1.0), Scored("step-00000002", 2, 2.0)]
    folder = write_average(training.run, "average-best-2", chosen)
    check_origin(folder / MODEL, training.run.origin, training.run.origin)
    edit(training.run.path / "tokenizer" / "src.json", '"w7"', '"v7"')
    refused(lambda: load_model(RunDir(training.run.path), "average-best-2"), "another tokenizer")


def test_checkpoints_of_an_earlier_version_load_as_before(training):
    for folder in training.run.checkpoints.iterdir():
        save_tensors(folder / MODEL, read_tensors(folder / MODEL))
    edit(training.run.path / "config.yaml", "seed: 1", "seed: 2")
    load_model(RunDir(training.run.path))
    assert training.resume() == []


def test_what_a_later_version_adds_or_drops_is_not_compared(training):
    path = training.run.checkpoints / "step-00000003" / MODEL
    origin = dict(training.run.origin)
    origin["train"] = {**origin["train"], "new": 5}
    del origin["train"]["seed"], origin["corpus"]
    save_tensors(path, distinct_tensors(training.model), {**origin, "more": {}})
    check_origin(path, RunDir(training.run.path).origin, training.run.origin)


def test_it_names_no_file(tmp_path):
    config = Config.model_validate(
        {
            "data": {"src": "/secret/a", "tgt": "/secret/b"},
            "tokenizer": {"kind": "words"},
            "model": {"embedding": {"src_vectors": "/secret/c"}},
        }
    )
    (tmp_path / "src.json").write_text('{"settings": {"path": "/secret/d"}}')
    assert "secret" not in json.dumps(origin_of(config, tmp_path, CORPUS))


def test_an_optimizers_memory_of_another_model_is_told(training, tmp_path):
    other = Training(tmp_path / "other", "gru-deep")
    path = training.run.checkpoints / "step-00000003" / OPTIMIZER
    shutil.copyfile(other.run.checkpoints / "step-00000003" / OPTIMIZER, path)
    said = training.resume()
    assert said[0].startswith("checkpoint step-00000003 cannot be used: the optimizer's memory of ")
    assert said[0].endswith(" is of another model")
    assert said[1] == "going on from step-00000002 instead"


def test_weights_are_as_readable_as_other_files(training):
    modes = {path.stat().st_mode & 0o777 for path in training.run.path.rglob("*") if path.is_file()}
    mask = os.umask(0)
    os.umask(mask)
    assert modes == {0o666 & ~mask}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read as another user")
def test_what_may_not_be_read_is_not_called_missing():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        training = Training(Path(folder) / "run")
        for path in (training.run.path, *training.run.path.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        model = training.run.checkpoints / "step-00000003" / MODEL
        model.chmod(0)
        os.seteuid(65534)
        try:
            for deed in (
                lambda: load_model(training.run),
                lambda: write_report(training.run, training=False),
                lambda: average_checkpoints([model.parent]),
            ):
                with pytest.raises(UserError, match=r"model\.safetensors: cannot be read: Permission denied"):
                    deed()
        finally:
            os.seteuid(0)
