"""What ends training against the user's will is told with what to try, and leaves no bad checkpoint."""

from __future__ import annotations

import math
import resource
from pathlib import Path

import pytest
import torch
from zoo import ZOO, batch, collate, sentences

from nmt.config import TrainConfig
from nmt.errors import UserError
from nmt.models.build import build_model
from nmt.train.metrics import Window
from nmt.train.objective import Objective
from nmt.train.optim import make_optimizer
from nmt.train.step import label_tokens, train_step
from nmt.train.trouble import check_finite, memory_for_step, memory_for_validation

SETTINGS = TrainConfig()


def step(pairs, name="transformer"):
    torch.manual_seed(1)
    model = build_model(ZOO[name], 19, 19)
    optimizer = make_optimizer(SETTINGS.optimizer, model)
    train_step(
        Objective(model, SETTINGS),
        optimizer,
        [(0, pairs)],
        tokens=label_tokens(pairs),
        lr=0.01,
        settings=SETTINGS,
        device=torch.device("cpu"),
        precision="float32",
    )


@pytest.fixture
def little_memory():
    """No more than 200 MB beyond what this process has."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("how much memory a process has can be read on Linux only")
    step(batch())  # all that is loaded late
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 200 * 2**20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_batch_that_memory_has_no_room_for(little_memory):
    pairs = collate(sentences(600, longest=300, shortest=300), sentences(600, 2, longest=200, shortest=200))
    with pytest.raises(UserError) as caught:
        step(pairs)
    assert caught.value.message == (
        "out of memory in a training step with 600 pairs of up to 301 source and 202 target tokens; the last "
        "checkpoint is kept"
    )
    assert "lower data.max_tokens, and raise train.accumulate" in caught.value.hint
    assert "can't allocate memory" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
)
def test_allocators_say_it_in_many_ways(error):
    with pytest.raises(UserError, match="with 1 pair of up to") as caught, memory_for_step(batch(1)):
        raise error
    assert "lower data.max_length" in caught.value.hint
    with pytest.raises(UserError, match=r"the development set(.|\n)*search.max_tokens=N"), memory_for_validation():
        raise error


@pytest.mark.parametrize("context", [memory_for_validation, lambda: memory_for_step(batch(1))])
def test_other_errors_stay_what_they_are(context):
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes"), context():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


@pytest.mark.parametrize(("sums", "what"), [((1.0, 1.0, math.inf), "a gradient"), ((math.nan, 1.0, 1.0), "a loss")])
def test_divergence_is_said_with_what_to_try(sums, what):
    window = Window(torch.device("cpu"))
    window.add(torch.tensor(sums), 5)
    with pytest.raises(UserError, match=f"training has diverged: {what} is not a finite number; the last") as caught:
        window.save()
    for remedy in ("train.optimizer.lr", "train.schedule.warmup", "train.clip", "train.precision=float32"):
        assert remedy in caught.value.hint


def test_numbers_that_are_not_finite_are_found():
    tensors = {"one": torch.ones(3), "two": torch.tensor([1.0, math.nan])}
    check_finite({"one": tensors["one"]})
    with pytest.raises(UserError, match="a value of two is not a finite number"):
        check_finite(tensors)
