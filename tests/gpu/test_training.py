"""Training on a device: it learns, in float32 and bfloat16, does not wait for the device, and goes on when resumed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from zoo import TGT_SIZE, ZOO, batch, build, each_model

from nmt.config import AdamConfig, Config, DataConfig, TrainConfig, WordsConfig
from nmt.data.prepare import prepare
from nmt.device import round_float32
from nmt.models.build import build_model
from nmt.rundir import RunDir
from nmt.settings.load import load_config
from nmt.train.fused import check_compiler, compile_layers
from nmt.train.loop import train
from nmt.train.metrics import Console
from nmt.train.objective import Objective
from nmt.train.optim import make_optimizer
from nmt.train.step import label_tokens, train_step

ROOT = Path(__file__).resolve().parents[2]


def training(model, device, precision="float32", lr=1e-3):
    """A function that updates `model` on numbered batches and returns what `train_step` does."""
    settings = TrainConfig(optimizer=AdamConfig(lr=lr))
    optimizer = make_optimizer(settings.optimizer, model)

    def step(*batches):
        tokens = sum(label_tokens(pairs) for _, pairs in batches)
        return train_step(
            Objective(model, settings),
            optimizer,
            batches,
            tokens=tokens,
            lr=lr,
            settings=settings,
            device=device,
            precision=precision,
        )

    return step


@each_model
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_steps_lower_the_loss(name, precision, device):
    torch.manual_seed(1)
    model = build_model(ZOO[name], TGT_SIZE, TGT_SIZE).to(device).train()
    step, pairs = training(model, device, precision, lr=5e-3), batch(16)
    losses = []
    for number in range(40):
        sums = step((2 * number, pairs), (2 * number + 1, pairs))
        assert (sums.device.type, sums.shape) == (device.type, (3,))
        losses.append(float(sums[1]) / (2 * label_tokens(pairs)))
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in model.parameters())
    assert sum(losses[-5:]) / 5 < 0.85 * losses[0]


def test_tf32_is_near_to_float32(device):
    """And not equal: it has 10 bits of mantissa."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        pytest.skip("TF32 is of NVIDIA GPUs, from Ampere on")
    one, other = (torch.randn(512, 512, device=device) for _ in range(2))
    exact = one @ other
    try:
        round_float32(True)
        rounded = one @ other
    finally:
        round_float32(False)
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=0.1, rtol=0.0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled_layers_learn(precision, device):
    check_compiler(device)
    torch.manual_seed(1)
    model = build_model(ZOO["transformer"], TGT_SIZE, TGT_SIZE).to(device).train()
    compile_layers(model)
    step = training(model, device, precision, lr=5e-3)
    losses = []
    for number in range(40):
        pairs = batch(12 + number % 5)  # of many shapes
        losses.append(float(step((number, pairs))[1]) / label_tokens(pairs))
    assert sum(losses[-5:]) / 5 < 0.85 * losses[0]


def test_a_gradient_that_is_not_finite_updates_nothing(device):
    model = build("lstm").to(device).train()
    with torch.no_grad():
        model.head.bias[5] = torch.nan
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    training(model, device, lr=1.0)((0, batch()))
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], atol=0, rtol=0, equal_nan=True)


@each_model
def test_dropout_is_drawn_from_the_seed_alone(name, device):
    model, pairs = build(name).to(device).train(), batch().to(device)

    def drawn(seed):
        torch.manual_seed(seed)
        return model(pairs).nll

    torch.testing.assert_close(drawn(1), drawn(1))
    assert not torch.allclose(drawn(1), drawn(2), atol=1e-3)


@pytest.mark.parametrize("name", ["lstm", "gru-feeding", "transformer"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_step_waits_for_nothing_but_its_batches(name, precision, device, synchronisations):
    """Batches are fetched from pinned memory, and what a step says stays on the device."""
    step = training(build(name).to(device).train(), device, precision)
    for number in range(3):  # the first use loads kernels
        step((number, batch(4)))
    one = synchronisations(lambda: step((3, batch(4))))
    three = synchronisations(lambda: step(*((n, batch(4)) for n in (4, 5, 6))))
    assert max(one, three) <= 1


def create(path, prepared, steps):
    base = {
        "data": {"prepared": str(prepared.folder), "max_tokens": 64},
        "tokenizer": {"kind": "words"},
        "model": ZOO["lstm-feeding"].model_dump(),
        "train": {"precision": "float32", "steps": steps, "log_every": 4, "validate_every": 4, "samples": 1},
    }
    return RunDir.create(path, load_config(None, base=base), prepared.tokenizers)


def test_a_run_on_the_device_is_resumed(device, tmp_path):
    """Optimiser and sums come back to the device: it goes on where a run without interruption goes on."""
    for side in ("src", "tgt"):
        lines = [" ".join("abcdefg"[n % 5 : n % 5 + 1 + n % 3][:: -1 if side == "tgt" else 1]) for n in range(80)]
        (tmp_path / f"train.{side}").write_text("".join(f"{line}\n" for line in lines))
    data = DataConfig(src=str(tmp_path / "train.src"), tgt=str(tmp_path / "train.tgt"))
    prepared = prepare(Config(data=data, tokenizer=WordsConfig()), tmp_path / "prepared", report=lambda text: None)

    def go(run, **changes):
        train(run, prepared, device=device, console=Console(io.StringIO()), **changes)
        lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
        return {line["step"]: line["dev_loss"] for line in lines if "dev_loss" in line}

    whole = go(create(tmp_path / "whole", prepared, 12))
    stopped = create(tmp_path / "stopped", prepared, 8)
    go(stopped)
    stopped.replace_config(RunDir(tmp_path / "whole").config)
    resumed = go(stopped, resume=True)
    assert list(resumed) == [4, 8, 12]
    assert resumed == pytest.approx(whole, rel=1e-3)


KILLED = """
data: {max_tokens: 96}
tokenizer: {kind: words}
model:
  embedding: {width: 16}
  encoder: {kind: transformer, layers: 1, width: 16, heads: 2, feed_forward: 24}
  decoder: {kind: transformer, layers: 1, width: 16, heads: 2, feed_forward: 24}
  dropout: 0.1
train: {precision: float32, validate_every: 30, log_every: 30, samples: 0, average: null, schedule: {kind: constant}}
search: {max_ratio: 1.0, max_extra: 1}
"""


def losses_of(run):
    """Those on the development set."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["dev_loss"] for line in lines if "dev_loss" in line]


def test_a_run_that_is_killed_goes_on(device, reversals):
    """By SIGKILL, at any time after update 30: from its last checkpoint it goes where an undisturbed one goes."""
    Path("killed.yaml").write_text(KILLED)
    text = ["--src=train.src", "--tgt=train.tgt", "--dev-src=dev.src", "--dev-tgt=dev.tgt", "--device", str(device)]
    begin = [sys.executable, "-m", "nmt", "train", "killed.yaml", *text, "-o"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}

    process = subprocess.Popen([*begin, "killed", "--set", "train.steps=100000"], env=environment)
    try:
        while not Path("killed/last").is_file() or Path("killed/last").read_text() < "step-00000030":
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    steps = int(Path("killed/last").read_text().removeprefix("step-")) + 30
    resume = [sys.executable, "-m", "nmt", "train", "killed", "--resume", "--device", str(device)]
    subprocess.run([*resume, "--set", f"train.steps={steps}"], check=True, env=environment)
    subprocess.run([*begin, "whole", "--set", f"train.steps={steps}"], check=True, env=environment)
    killed, whole = (losses_of(Path(run)) for run in ("killed", "whole"))
    assert len(whole) == steps // 30
    assert killed == pytest.approx(whole, rel=1e-2 if device.type == "cuda" else 1e-9)
