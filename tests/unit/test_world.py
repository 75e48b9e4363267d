"""The place of a process among others, what a world of one does, and whose error is told."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import nn

from nmt.errors import UserError
from nmt.train.session import _check_batches
from nmt.train.world import ALONE, Place, World, apart, find_place

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}


def test_the_place_is_read_from_the_variables_of_torchrun():
    assert find_place(TORCHRUN) == Place(rank=5, size=8, local_rank=1, local_size=4)
    assert find_place({}) == find_place({**TORCHRUN, "WORLD_SIZE": "1"}) == Place(0, 1, 0, 1)
    assert find_place({"RANK": "3"}) == Place()  # somebody else's variable
    with pytest.raises(UserError, match="the environment has WORLD_SIZE, but no RANK, MASTER_PORT") as caught:
        find_place({name: value for name, value in TORCHRUN.items() if name not in ("RANK", "MASTER_PORT")})
    assert "torchrun --nproc-per-node N -m nmt train" in caught.value.hint
    for odd in ("x", "-1", "9" * 5000):
        with pytest.raises(UserError, match="which is no number"):
            find_place({**TORCHRUN, "WORLD_SIZE": odd})


def test_a_world_of_one_changes_nothing():
    module, numbers = nn.Linear(2, 2), torch.randn(3)
    with ALONE as world:
        world.connect(torch.device("cpu"))
        assert world.is_first
        assert world.parallel(module) is module
        assert world.sum(numbers) is numbers
        assert world.totals(3, 4) == [3, 4]
        assert world.highest(15) == 15
        assert world.gather(["a", "b"]) == ["a", "b"]
        world.wait()
    with apart(module):
        module(torch.ones(2)).sum().backward()
    assert module.weight.grad is not None
    assert not dist.is_initialized()


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    world = World(find_place(TORCHRUN))
    assert world.device("cuda") == world.device("auto") == torch.device("cuda", 1)
    assert world.device("cpu") == torch.device("cpu")
    assert ALONE.device("cuda:3") == torch.device("cuda", 3)
    with pytest.raises(UserError, match="--device cuda:1 is one device, for 8 processes"):
        world.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="4 processes on a machine with 1 GPU") as caught:
        world.device("cuda")
    assert "torchrun --nproc-per-node 1" in caught.value.hint
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert world.device("auto") == torch.device("cpu")


def end(world, error):
    """How a process ends that has raised `error` in its world."""
    try:
        world.__exit__(type(error), error, None)
    except SystemExit as ending:
        return ending.code
    return "as it is"


BROKEN = RuntimeError("[/a/gloo/b.cc:3] Connection closed by peer. This is\nmore")


@pytest.mark.parametrize(
    ("error", "ending", "said"),
    [
        (UserError("text", "hint"), 2, ""),
        (UserError("another text"), "as it is", ""),
        (BROKEN, 1, "rank 1 ends, because rank 0 has failed (Connection closed by peer. This is)\n"),
        (dist.DistBackendError("lost"), 1, "rank 1 ends, because rank 0 has failed (lost)\n"),
        (RuntimeError("shapes differ"), "as it is", ""),
    ],
)
def test_the_first_error_speaks_for_what_follows_from_it(capsys, error, ending, said):
    store = dist.HashStore()
    first, second = (World(Place(rank, 2, rank, 2)) for rank in (0, 1))
    first._store = second._store = store
    assert end(first, UserError("text", "hint")) == "as it is"
    assert json.loads(store.get("nmt/failed")) == [0, "text\nhint"]
    assert end(second, error) == ending
    assert capsys.readouterr().err == said


def test_a_connection_that_breaks_is_no_error_of_this_process(capsys):
    """Another was killed, and could not say so."""
    world = World(Place(1, 2, 1, 2))
    world._store = dist.HashStore()
    assert end(world, BROKEN) == 1
    assert capsys.readouterr().err.startswith("rank 1 ends, because it has lost another process (Connection closed")


def test_the_first_process_tells_the_others():
    first, second = (World(Place(rank, 2, rank, 2)) for rank in (0, 1))
    first._store = second._store = dist.HashStore()
    first.tell({"run": "runs/a", "init_from": None})
    assert second.hear() == {"run": "runs/a", "init_from": None}


@pytest.mark.parametrize(
    ("sessions", "processes", "accumulate", "hint"),
    [
        ([{"processes": 2, "accumulate": 2}], 2, 2, None),
        ([{"processes": 2, "accumulate": 2}], 4, 1, None),
        ([{"processes": 4, "accumulate": 1}, {"processes": 1, "accumulate": 4}], 2, 2, None),
        ([{}], 1, 2, None),  # of a version that knew no worlds
        ([{"processes": 2, "accumulate": 2}], 1, 2, "to go on as before: --set train.accumulate=4"),
        ([{"processes": 2, "accumulate": 2}], 4, 2, "to go on as before: --set train.accumulate=1"),
        ([{}], 1, 3, "to go on as before: --set train.accumulate=2"),
        ([{"processes": 2, "accumulate": 2}], 3, 2, "take a number of processes that divides 4"),
    ],
)
def test_a_run_goes_on_with_as_many_batches_an_update(sessions, processes, accumulate, hint):
    def config(batches):
        return SimpleNamespace(train=SimpleNamespace(accumulate=batches))

    run = SimpleNamespace(path="run", config=config(2), facts={"sessions": sessions})
    if hint is None:
        _check_batches(run, config(accumulate), processes)
        return
    with pytest.raises(UserError, match=r"each update of run is of [24] batches: ") as caught:
        _check_batches(run, config(accumulate), processes)
    assert caught.value.hint == hint
