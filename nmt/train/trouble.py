"""What ends training against the user's will, told with what to try."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from nmt.data.batch import Batch
from nmt.errors import UserError
from nmt.limits import enough_memory

CALMER = (
    "lower train.optimizer.lr, lengthen train.schedule.warmup or lower train.clip (0 = no clipping), or take "
    "train.precision=float32 where it is bfloat16; --init-from RUN starts a new run from the best weights so far"
)
"""What helps where training has diverged."""


def diverged(what: str) -> UserError:
    """`what` is not a finite number."""
    return UserError(
        f"training has diverged: {what} is not a finite number; the last checkpoint, from before that, is kept", CALMER
    )


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """UserError if a number among weights or the optimiser's memory of them is not finite."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise diverged(f"a value of {name}")


@contextmanager
def memory_for_step(batch: Batch) -> Iterator[None]:
    """Within it the machine's being out of memory is told with the shape of the batch."""
    assert batch.tgt is not None
    pairs, src = batch.src.ids.shape
    tgt = batch.tgt.ids.shape[1]
    fewer = "lower data.max_tokens, and raise train.accumulate by as much for the same pairs per update"
    shorter = "lower data.max_length, so that pairs as long as this are left out"
    with enough_memory(
        f"in a training step with {pairs:,} pair{'s' * (pairs != 1)} of up to {src:,} source and "
        f"{tgt:,} target tokens; the last checkpoint is kept",
        f"in a new run (--init-from RUN takes the weights) {fewer if pairs > 1 else shorter}; a smaller model or "
        "vocabulary takes less, too",
    ):
        yield


def memory_for_validation() -> AbstractContextManager[None]:
    """The same while the development set is translated."""
    return enough_memory(
        "while translating the development set; the last checkpoint is kept",
        "go on with smaller batches there: --resume --set search.max_tokens=N",
    )
