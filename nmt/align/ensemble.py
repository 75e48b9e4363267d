"""Runs as one model, each asked for its part of the alignment as its settings say."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nmt.align.extract import Reading, choose_reading, default_reading
from nmt.config import AlignConfig
from nmt.errors import UserError
from nmt.models.ensemble import Ensemble
from nmt.models.seq2seq import Seq2Seq
from nmt.rundir import RunDir, check_shared, load_model


def load_ensemble(runs: Sequence[RunDir], checkpoint: str = "best") -> Ensemble:
    """The same checkpoint of each run, in eval mode, float32, on the CPU. Raises UserError where vocabularies differ, a
    checkpoint is missing, or a run's settings ask for an attention that its model does not have."""
    check_shared(*runs)
    members = [load_model(run, checkpoint) for run in runs]
    readings = [_reading(run, member) for run, member in zip(runs, members, strict=True)]
    return Ensemble(members, len(runs[0].tokenizers()[1]), readings=readings).eval()


def _reading(run: RunDir, model: Seq2Seq) -> Reading | None:
    """How the model is asked where a word came from; None if nothing in it looks at the source."""
    settings: AlignConfig = run.config.align
    if model.alignment is None and settings.attention is None:
        return None
    try:
        reading = choose_reading(model, settings, device=torch.device("cpu"))
    except UserError as error:
        raise UserError(f"{run.path}: {error.message}", error.hint) from error
    if reading.within is None:
        return reading
    return None if model.alignment is None else default_reading(model)
