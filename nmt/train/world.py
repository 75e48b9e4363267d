"""The processes that train one model together, seen from one of them. `torchrun` starts them and numbers them.

Each has the whole model and computes the gradients of batches of its own; the gradients are added up, so that all take
the same step. What is done once (preparing text, writing files, talking to the person) is done by the first process.

Two roads connect them: the store, a small dictionary that torchrun keeps, for which nobody has to be in time; and
collective calls, which all processes make in the same order.
"""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from nmt.device import resolve_device
from nmt.errors import UserError
from nmt.records import whole_number
from nmt.told import tell

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)
"""How long a collective call waits for a process that is silent. One that has died is noticed at once."""

PATIENCE_WITH_TORCHRUN = timedelta(minutes=1)
"""Its store is there before the processes are."""

LAUNCH = "start several processes by: torchrun --nproc-per-node N -m nmt train ..."


class Place(NamedTuple):
    """Where a process stands among all, and among those of its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def find_place(environment: Mapping[str, str]) -> Place:
    """What torchrun's variables say; without them, a world of one. UserError where they make no sense."""
    if environment.get("WORLD_SIZE", "1") == "1":
        return Place()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    missing = [name for name in (*names, "MASTER_ADDR", "MASTER_PORT") if name not in environment]
    if missing:
        raise UserError(f"the environment has WORLD_SIZE, but no {', '.join(missing)}", LAUNCH)
    numbers = [whole_number(environment[name]) for name in names]
    if None in numbers:
        wrong = names[numbers.index(None)]
        raise UserError(f"the environment has {wrong}={environment[wrong]}, which is no number", LAUNCH)
    return Place(*(number for number in numbers if number is not None))


class World:
    """A context manager: connected within it. Alone, it does nothing and changes nothing.

    `with World(place) as world:`, then either `tell` (the first process) or `hear` (the others), then `connect`, and
    only then the collective calls.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.rank, self.size = place.rank, place.size
        self._store: Any = None
        self._host: Any = None  # the group for numbers that are not on a GPU

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """What `--device` means for this process: on CUDA, a GPU of its own. UserError where that cannot be."""
        if self.size == 1:
            return resolve_device(name)
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        device = resolve_device(name)
        if device.index is not None or device.type == "mps":
            raise UserError(f"--device {name} is one device, for {self.size} processes", "write --device cuda, or cpu")
        if device.type == "cpu":
            return device
        count = torch.cuda.device_count()
        if self.place.local_size > count:
            raise UserError(
                f"{self.place.local_size} processes on a machine with {count} GPU{'s' * (count != 1)}",
                f"start one for each: torchrun --nproc-per-node {count} (or --device cpu)",
            )
        return torch.device("cuda", self.place.local_rank)

    def __enter__(self) -> Self:
        if self.size > 1:
            self._parent = os.getppid()
            self._store, _, _ = next(iter(rendezvous("env://", timeout=PATIENCE_WITH_TORCHRUN)))
            self._store.set_timeout(PATIENCE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.size == 1:
            return
        if self._host is not None and (error is None or isinstance(error, Exception)):
            self._disconnect(error)
        if isinstance(error, Exception):
            self._tell_apart(error)

    def tell(self, message: Mapping[str, Any]) -> None:
        """For the others to `hear`: JSON."""
        if self.size > 1:
            self._store.set("nmt/message", json.dumps(message))

    def hear(self) -> dict[str, Any]:
        """What the first process tells, however long it takes until then; if it ends before, torchrun ends this one."""
        while not self._store.check(["nmt/message"]):  # its wait() would know no signals
            time.sleep(0.1)
        message: dict[str, Any] = json.loads(self._store.get("nmt/message"))
        return message

    def connect(self, device: torch.device) -> None:
        """Makes the collective calls possible; returns once all processes are there."""
        if self.size == 1:
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=self._store, rank=self.rank, world_size=self.size, timeout=PATIENCE)
        # Numbers of the host go by gloo in any case: to read them from a GPU would be to wait for it.
        self._host = dist.group.WORLD if backend == "gloo" else dist.new_group(backend="gloo", timeout=PATIENCE)

    def orphaned(self) -> int:
        """SIGTERM's number where torchrun has died, which would have sent it; else 0."""
        return signal.SIGTERM if self.size > 1 and os.getppid() != self._parent else 0

    def parallel(self, module: nn.Module) -> nn.Module:
        """The module with the weights of the first process, whose gradients are, after `backward`, the mean of all
        processes'; but see `apart`."""
        if self.size == 1:
            return module
        return DistributedDataParallel(module)

    def sum(self, tensor: Tensor) -> Tensor:
        """Sums a tensor on the device of `connect` over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def totals(self, *counts: int) -> list[int]:
        """The sum of each number over the processes."""
        return self._reduced(counts, dist.ReduceOp.SUM)

    def highest(self, number: int) -> int:
        """The largest of the processes' numbers: how a decision of one becomes that of all."""
        return self._reduced((number,), dist.ReduceOp.MAX)[0]

    def gather(self, mine: Sequence[T]) -> list[T]:
        """All items in order, of which process r of n has number r, r + n, r + 2n, ...; for every process."""
        if self.size == 1:
            return list(mine)
        parts: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, list(mine), group=self._host)
        return [parts[n % self.size][n // self.size] for n in range(sum(map(len, parts)))]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier(group=self._host)

    def _reduced(self, counts: Sequence[int], operation: Any) -> list[int]:
        if self.size == 1:
            return list(counts)
        tensor = torch.tensor(counts, dtype=torch.int64)
        dist.all_reduce(tensor, operation, group=self._host)
        reduced: list[int] = tensor.tolist()
        return reduced

    def _disconnect(self, error: Exception | None) -> None:
        """Ends the threads of gloo; where they outlive Python, the process may end by SIGABRT, whatever its exit code.

        They end with the last reference to their group, of which there are some in the frames of a traceback.
        """
        cause: BaseException | None = error
        while cause is not None:
            traceback.clear_frames(cause.__traceback__)
            cause = cause.__cause__ or cause.__context__
        # After an error, NCCL is left alone: it could wait for a process that has died.
        dist.destroy_process_group(None if error is None else self._host)
        self._host = None
        gc.collect()

    def _tell_apart(self, error: Exception) -> None:
        """Lets the first error of all speak, and ends this process with a line if its own is the same or follows."""
        try:
            told = self._store.compare_set("nmt/failed", "", json.dumps([self.rank, str(error)]))
        except dist.DistError as gone:
            tell(f"rank {self.rank}: torchrun has gone ({gone})")
            return
        rank, message = json.loads(told)
        others = rank != self.rank
        if others and isinstance(error, UserError) and message == str(error):
            raise SystemExit(2) from error
        broken = type(error) is RuntimeError and "gloo" in str(error)  # a connection; who broke it torchrun tells
        if broken or (others and isinstance(error, dist.DistError)):
            cause = f"rank {rank} has failed" if others else "it has lost another process"
            line = re.sub(r"^\[.*?\] ", "", str(error).partition("\n")[0])
            tell(f"rank {self.rank} ends, because {cause} ({line})")
            raise SystemExit(1) from error


ALONE = World(Place())


def this_world() -> World:
    """That of this process's environment."""
    return World(find_place(os.environ))


def apart(module: nn.Module) -> AbstractContextManager[None]:
    """Within it, the gradients of a module of `World.parallel` stay with this process and add up."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()
