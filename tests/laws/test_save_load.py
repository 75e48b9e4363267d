"""Law: a model that was saved and loaded is the model that was saved, wherever its directory has gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from zoo import WORDS, ZOO, batch, build, each_model, write_run

from nmt.config import TrainConfig
from nmt.rundir import MODEL, RunDir, load_model, read_tensors
from nmt.train.checkpoint import restore, save_checkpoint
from nmt.train.mean import RunningMean
from nmt.train.objective import Objective
from nmt.train.optim import make_optimizer
from nmt.train.state import TrainState
from nmt.train.step import label_tokens, train_step
from nmt.translate import Translator

SETTINGS = TrainConfig()


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, first: int, count: int) -> list[float]:
    """Takes some steps of training, the same ones for the same `first`; returns their losses."""
    losses = []
    for index in range(first, first + count):
        pairs = batch(seed=index)
        sums = train_step(
            Objective(model, SETTINGS),
            optimizer,
            [(index, pairs)],
            tokens=label_tokens(pairs),
            lr=0.01,
            settings=SETTINGS,
            device=torch.device("cpu"),
            precision="float32",
        )
        losses.append(float(sums[0]))
    return losses


def storages(model: nn.Module) -> set[tuple[str, ...]]:
    """Which parameters are one tensor."""
    groups: dict[int, list[str]] = {}
    for name, tensor in model.state_dict().items():
        groups.setdefault(tensor.data_ptr(), []).append(name)
    return {tuple(names) for names in groups.values()}


@each_model
def test_a_saved_model_comes_back_bit_by_bit(tmp_path: Path, name: str) -> None:
    """After some steps of training, and it goes on training as the first one does."""
    run = write_run(tmp_path / "run", name)
    model = build(name).train()
    optimizer = make_optimizer(SETTINGS.optimizer, model)
    steps(model, optimizer, 0, 3)
    saved = save_checkpoint(run, model, optimizer, TrainState(step=3), RunningMean(model, 0.0))

    loaded = load_model(run, "last")
    assert not loaded.training
    expected = model.state_dict()
    assert list(loaded.state_dict()) == list(expected)
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.state_dict().items())
    pairs = batch(seed=9)
    assert torch.equal(loaded(pairs, 0.1).objective, model.eval()(pairs, 0.1).objective)

    assert storages(loaded) == storages(model)
    stored = read_tensors(run.checkpoints / saved / MODEL)
    assert len(stored) == len(storages(model))
    assert sum(tensor.numel() for tensor in stored.values()) == sum(p.numel() for p in model.parameters())

    again = build(name, seed=2).train()
    other = make_optimizer(SETTINGS.optimizer, again)
    assert restore(run, again, other, RunningMean(again, 0.0), report=pytest.fail).step == 3
    assert steps(again, other, 3, 3) == steps(model.train(), optimizer, 3, 3)


@each_model
def test_a_copied_run_translates_the_same(tmp_path: Path, name: str) -> None:
    write_run(tmp_path / "run", name)
    lines = [" ".join(WORDS[n : n + 4]) for n in range(6)]
    expected = list(Translator.load(tmp_path / "run").translate(lines, nbest=2))
    (tmp_path / "deep" / "er").mkdir(parents=True)
    shutil.copytree(tmp_path / "run", tmp_path / "deep" / "er" / "copy")
    shutil.rmtree(tmp_path / "run")  # nothing may point back
    assert list(Translator.load(tmp_path / "deep" / "er" / "copy").translate(lines, nbest=2)) == expected
    assert RunDir(tmp_path / "deep" / "er" / "copy").config.model == ZOO[name]
