"""Ten updates of four models, as they were first made: what training computes must not change unnoticed.

The losses are in `losses.json`, made on one thread in float32. Processors round differently, hence the tolerance; to
compare two commits on one machine to 1e-6: NMT_REWRITE_GOLDEN=1 python -m pytest tests/golden/test_loss_curve.py at the
one, and NMT_LOSS_TOLERANCE=1e-6 at the other.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from zoo import TGT_SIZE, ZOO, batch

from nmt.config import TrainConfig
from nmt.models.build import build_model
from nmt.train.objective import Objective
from nmt.train.optim import make_optimizer
from nmt.train.step import label_tokens, train_step

LOSSES = Path(__file__).with_name("losses.json")
TOLERANCE = float(os.environ.get("NMT_LOSS_TOLERANCE", "1e-4"))
STEPS = 10
MODELS = {"recurrent, copying": "copy", "transformer": "transformer", "hybrid": "transformer-to-lstm"}
MODELS["bottleneck"] = "bottleneck"


def losses(name: str) -> list[float]:
    """The objective per token of each update, dropout and label smoothing included."""
    torch.manual_seed(1)
    model = build_model(ZOO[name], TGT_SIZE, TGT_SIZE).train()
    settings = TrainConfig(precision="float32")
    optimizer, objective = make_optimizer(settings.optimizer, model), Objective(model, settings)
    found = []
    for step in range(STEPS):
        pairs = batch(8, seed=step)
        sums = train_step(
            objective,
            optimizer,
            [(step, pairs)],
            tokens=label_tokens(pairs),
            lr=5e-3,
            settings=settings,
            device=torch.device("cpu"),
            precision="float32",
        )
        found.append(float(sums[0]) / label_tokens(pairs))
    return found


def test_losses_are_those_of_before() -> None:
    found = {kind: losses(name) for kind, name in MODELS.items()}
    if os.environ.get("NMT_REWRITE_GOLDEN") == "1":
        LOSSES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    assert found.keys() == json.loads(LOSSES.read_text(encoding="utf-8")).keys()
    for kind, curve in json.loads(LOSSES.read_text(encoding="utf-8")).items():
        assert found[kind] == pytest.approx(curve, rel=TOLERANCE), kind
        assert len(set(curve)) == STEPS
