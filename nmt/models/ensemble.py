"""Several models that share vocabularies, as one: the mean of their probabilities (of any kinds, copying or not).

p(y) = 1/M sum over m of p_m(y), at each step, kept in log space. What a member cannot produce, such as a word of the
source that only others copy, has probability 0 in it. Shapes: see the legend in `interface.py`; M members.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from nmt.data.batch import PAD, UNK, Batch, Padded
from nmt.models.interface import Alignment, Predictor, Probe, State, TokenLosses
from nmt.models.reading import COPY, Reading, Recorder
from nmt.models.seq2seq import Seq2Seq

CROSS = Alignment("ensemble.cross", "output")
"""What a probe hears of an ensemble: the mean of the weights in which each member says where a word came from."""


class Ensemble(nn.Module):
    def __init__(
        self, members: Sequence[Seq2Seq], vocabulary: int, *, readings: Sequence[Reading | None] | None = None
    ) -> None:
        """`vocabulary` is V, which all have. `readings`: where each member is asked for its part of the alignment (None
        = nowhere); by default it chooses itself. Raises ValueError for no member, or self-attention."""
        super().__init__()
        if not members:
            raise ValueError("an ensemble needs a member")
        if readings is None:
            readings = [None if m.alignment is None else Reading.of(m.alignment) for m in members]
        if any(reading is not None and reading.within is not None for reading in readings):
            raise ValueError("self-attention does not say where a word came from")
        self.members = nn.ModuleList(members)
        self.vocabulary = vocabulary
        self.readings = tuple(readings)

    @property
    def copies(self) -> bool:
        """Whether any member copies, so that batches must have `copy_ids`."""
        return any(member.copies for member in self._members)

    @property
    def spells(self) -> bool:
        """Whether any member reads how unknown words are spelled, so that batches must have `src.spelled`."""
        return any(member.spells for member in self._members)

    @property
    def alignment(self) -> Alignment | None:
        return None if all(reading is None for reading in self.readings) else CROSS

    def forward(self, batch: Batch) -> TokenLosses:
        """Losses [B,T] of the batch's targets under the mean of the members' distributions. There is no smoothing: an
        ensemble is not trained."""
        if batch.tgt is None:
            raise ValueError("a forced pass needs targets")
        labels = batch.tgt.ids[:, 1:]
        beyond = labels >= self.vocabulary
        in_vocabulary = batch._replace(
            tgt=batch.tgt._replace(ids=batch.tgt.ids.masked_fill(batch.tgt.ids >= self.vocabulary, UNK))
        )
        nll = -mean_log_prob(
            [
                -member(batch).nll if member.copies else -member(in_vocabulary).nll.masked_fill(beyond, torch.inf)
                for member in self._members
            ]
        ).masked_fill(labels == PAD, 0.0)
        return TokenLosses(nll, nll)

    def predictor(self, batch: Batch, shortlist: Tensor | None = None) -> EnsemblePredictor:
        """What search needs; see `Seq2Seq.predictor`. A shortlist confines every member, before the mean is taken."""
        return EnsemblePredictor([member.predictor(batch, shortlist) for member in self._members])

    def attend(self, batch: Batch, probe: Probe) -> None:
        """A forced pass over known pairs: tells the probe `CROSS`, whose row t is for the token that step t writes, and
        "head.copy" if a member copies: the mean, those that do not copy giving 0. Both have one head, and they weigh
        nothing: `values` [B,S,0] is empty, and what the probe returns goes nowhere."""
        if batch.tgt is None:
            raise ValueError("a forced pass needs targets")
        aligned, copied = [], []
        for member, reading in zip(self._members, self.readings, strict=True):
            recorder = Recorder({COPY.name} if reading is None else {COPY.name, reading.name})
            member.attend(batch, recorder)
            recorded = recorder.weights()
            if reading is not None:
                aligned.append(of_written(reading.weights(recorded), reading, batch.tgt))
            if member.copies:
                copied.append(COPY.weights(recorded))
        nothing = torch.empty(*batch.src.ids.shape, 0, device=batch.src.ids.device)
        if aligned:
            probe(CROSS.name, torch.stack(aligned).mean(dim=0)[:, None], nothing)
        if copied:
            probe(COPY.name, (torch.stack(copied).sum(dim=0) / len(self.members))[:, None], nothing)

    @property
    def _members(self) -> list[Seq2Seq]:
        return cast("list[Seq2Seq]", list(self.members))


def mean_log_prob(log_probs: Sequence[Tensor]) -> Tensor:
    """log of the mean of exp, of tensors of one shape; minus infinity where all of them are."""
    return functools.reduce(torch.logaddexp, log_probs) - math.log(len(log_probs))


def of_written(weights: Tensor, reading: Reading, tgt: Padded) -> Tensor:
    """Weights [B,T,S] of forced steps, so arranged that row t is for the token that step t writes: where the next step
    is asked, which reads it, that one's. EOS, which is not read, has the step that writes it in any case."""
    if reading.read == "output":
        return weights
    steps = torch.arange(1, weights.shape[1] + 1, device=weights.device)
    rows = steps.minimum(tgt.lengths[:, None] - 2)  # BOS y1 .. yJ EOS: step J is the last
    return weights.gather(1, rows[:, :, None].expand_as(weights))


class EnsembleState(NamedTuple):
    """What each member remembers."""

    parts: tuple[State, ...]

    def reorder(self, rows: Tensor) -> EnsembleState:
        return EnsembleState(tuple(part.reorder(rows) for part in self.parts))


class EnsemblePredictor:
    """Predictors of the same sentences as one, see `interface.Predictor`. Those with fewer columns than others give the
    last ones no probability."""

    def __init__(self, members: Sequence[Predictor]) -> None:
        self.members = members

    @property
    def sentences(self) -> int:
        return self.members[0].sentences

    @property
    def device(self) -> torch.device:
        return self.members[0].device

    @property
    def columns(self) -> Tensor | None:
        return self.members[0].columns

    def start(self, beams: int, steps: int) -> State:
        return EnsembleState(tuple(member.start(beams, steps) for member in self.members))

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        before = cast("EnsembleState", state).parts
        steps = [member.step(tokens, part) for member, part in zip(self.members, before, strict=True)]
        said, parts = zip(*steps, strict=True)
        width = max(log_probs.shape[1] for log_probs in said)
        filled = [nn.functional.pad(p, (0, width - p.shape[1]), value=-torch.inf) for p in said]
        return mean_log_prob(filled), EnsembleState(parts)

    def select(self, sentences: Tensor) -> EnsemblePredictor:
        return EnsemblePredictor([member.select(sentences) for member in self.members])
