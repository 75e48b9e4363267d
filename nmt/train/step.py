"""One update of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from nmt.config import TrainConfig
from nmt.data.batch import Batch
from nmt.device import autocast
from nmt.train.trouble import memory_for_step
from nmt.train.world import ALONE, World, apart


def label_tokens(batch: Batch) -> int:
    """How many tokens the batch predicts: the targets without BOS. For a batch that is still on the CPU."""
    assert batch.tgt is not None
    return int(batch.tgt.lengths.sum()) - len(batch.tgt.lengths)


def train_step(
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[tuple[int, Batch]],
    *,
    tokens: int,
    lr: float,
    settings: TrainConfig,
    device: torch.device,
    precision: str,
    world: World = ALONE,
) -> Tensor:
    """Accumulates the gradients of `batches` (global index, batch) and updates once.

    The loss is the objective of all batches of all processes over `tokens`, all their label tokens: how a step is cut
    into batches and processes makes no difference. `objective` is an `Objective`, in a world of several as
    `World.parallel` gives it. Dropout depends on (seed, global index) alone. A gradient that is not finite updates
    nothing. UserError where memory does not suffice.

    Returns [3] on the device, never synchronised here: objective and negative log-likelihood, both summed in nats,
    and the gradient norm before clipping, all of the whole world.
    """
    sums = torch.zeros(2, device=device)
    for number, (index, batch) in enumerate(batches, 1):
        together = nullcontext() if number == len(batches) else apart(objective)  # gradients travel once per step
        with memory_for_step(batch), together:
            torch.manual_seed(_seed(settings.seed, index))
            with autocast(device, precision):
                losses = objective(batch.to(device))
            total = losses.objective.sum()
            (total * world.size / tokens).backward()  # as the world takes the mean of gradients
        sums += torch.stack([total.detach(), losses.nll.detach().sum()])
    norm = _clip([p for group in optimizer.param_groups for p in group["params"]], settings.clip)
    for group in optimizer.param_groups:
        group["lr"] = lr
    # The door that torch.amp.GradScaler uses: a fused optimiser skips the update where this is 1, without a sync.
    optimizer.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return torch.cat([world.sum(sums), norm[None]])


def _clip(parameters: list[nn.Parameter], largest: float) -> Tensor:
    """Scales the gradients down to norm `largest` (0 = leave them); returns the norm they had."""
    if largest:
        return nn.utils.clip_grad_norm_(parameters, largest)
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def _seed(seed: int, index: int) -> int:
    """Well-mixed 64 bits of both, so that neighbouring batches or seeds share no draws."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])
