"""The optimiser, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from nmt.config import AdamConfig, PlateauSchedule, ScheduleConfig


def make_optimizer(config: AdamConfig, model: nn.Module) -> torch.optim.Adam:
    """Fused Adam (Kingma and Ba 2015) or AdamW (Loshchilov and Hutter 2019); only matrices decay, not biases."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if config.kind == "adamw" else torch.optim.Adam
    betas = (config.beta1, config.beta2)
    return kind([g for g in groups if g["params"]], lr=config.lr, betas=betas, eps=config.eps, fused=True)


def learning_rate(schedule: ScheduleConfig, base: float, step: int, plateau_scale: float = 1.0) -> float:
    """The rate of update number `step`, counted from 1; `base` is `optimizer.lr`."""
    warmup = schedule.warmup
    match schedule.kind:
        case "constant":
            return base * _ramp(step, warmup)
        case "inverse_sqrt":
            return base * min(step / warmup, math.sqrt(warmup / step))
        case "linear":
            left = (schedule.steps + 1 - step) / (schedule.steps + 1 - max(1, warmup))
            return base * min(_ramp(step, warmup), max(0.0, left))
        case "noam":  # Vaswani et al. 2017, equation 3
            rise = step / (warmup * math.sqrt(warmup))
            return base / math.sqrt(schedule.width) * min(1 / math.sqrt(step), rise)
        case "plateau":
            return base * _ramp(step, warmup) * plateau_scale


def after_validation(schedule: PlateauSchedule, *, scale: float, stale: int, improved: bool) -> tuple[float, int]:
    """The plateau's scale and count of validations without improvement, after one more validation."""
    stale = 0 if improved else stale + 1
    return (scale * schedule.factor, 0) if stale >= schedule.patience else (scale, stale)


def _ramp(step: int, warmup: int) -> float:
    return min(1.0, step / warmup) if warmup else 1.0
