"""A model is a sum: encoder + decoder + head. And the predictor that search makes of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nmt.data.batch import PAD, Batch
from nmt.models.interface import (
    Alignment,
    Decoder,
    Encoder,
    Features,
    Forced,
    Head,
    Probe,
    Source,
    State,
    Subset,
    TokenLosses,
)


class Seq2Seq(nn.Module):
    def __init__(
        self, encoder: Encoder, decoder: Decoder[Any], head: Head, coverage: float = 0.0, guidance: float = 0.0
    ) -> None:
        """`coverage` and `guidance` are the weights of `coverage_loss` and `alignment_loss` in the objective, which
        need a decoder that gives out its own."""
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.head = head
        self.coverage = coverage
        self.guidance = guidance

    @property
    def copies(self) -> bool:
        """Whether it can produce words of the source, so that batches must have `copy_ids`."""
        return self.head.copies

    @property
    def spells(self) -> bool:
        """Whether it reads how unknown words are spelled, so that batches must have `src.spelled`."""
        return self.encoder.spells

    @property
    def alignment(self) -> Alignment | None:
        """Where it says which source word a target word came from; None if nothing in it looks at the source."""
        return self.decoder.alignment

    def forward(self, batch: Batch, smoothing: float = 0.0) -> TokenLosses:
        """Losses [B,T] of the batch's targets, EOS included, BOS not."""
        return self.losses(self.force(batch), smoothing)

    def force(self, batch: Batch) -> Forced:
        """A pass over known pairs; training starts from here."""
        source = self.read(batch)
        features, labels = self._force(batch, source, None)
        return Forced(features, labels, source, batch.links)

    def losses(self, forced: Forced, smoothing: float = 0.0) -> TokenLosses:
        """Losses [B,T] of the labels, weighing in everything the model was told to minimise."""
        features, labels, source, links = forced
        nll, objective = self.head.losses(features, labels, source, smoothing)
        if self.coverage and features.weights is not None:
            objective = objective + self.coverage * coverage_loss(features.weights) * (labels != PAD)
        if self.guidance and features.weights is not None and links is not None:
            objective = objective + self.guidance * alignment_loss(features.weights, links)
        return TokenLosses(nll, objective)

    def read(self, batch: Batch, probe: Probe | None = None) -> Source:
        """Encodes the sources and makes what the decoder needs once per sentence."""
        memory = self.encoder(batch.src, probe)
        return Source(memory, self.decoder.prepare(memory), self.head.prepare(memory), batch.copy_ids, batch.extras)

    def attend(self, batch: Batch, probe: Probe) -> None:
        """A forced pass over known pairs for the probe's sake. Row t of what it sees is the step that reads target
        token t (BOS first) and writes token t + 1."""
        source = self.read(batch, probe)
        features, _ = self._force(batch, source, probe)
        self.head.look(features, source, probe)

    def predictor(self, batch: Batch, shortlist: Tensor | None = None) -> ModelPredictor:
        """What search needs of this model for these sources; call it without gradients. With a `shortlist` [B,C],
        see `Subset.tokens`, only these are written."""
        return ModelPredictor(self, self.read(batch), None if shortlist is None else self.head.subset(shortlist))

    def _force(self, batch: Batch, source: Source, probe: Probe | None) -> tuple[Features, Tensor]:
        if batch.tgt is None:
            raise ValueError("a forced pass needs targets")
        ids = batch.tgt.ids
        return self.decoder.decode(ids[:, :-1], source, probe), ids[:, 1:]


def coverage_loss(weights: Tensor) -> Tensor:
    """sum over s of min(a_ts, c_ts), where c_t is the sum of the attention before step t (See et al. 2017, equations
    10 and 12): [B,T,S] -> [B,T], what step t attends to again, between 0 and 1."""
    before = weights.cumsum(dim=1) - weights
    return torch.minimum(weights, before).sum(dim=-1)


def alignment_loss(weights: Tensor, links: Tensor) -> Tensor:
    """- sum over s of g_ts log a_ts, where g is what links say and a the attention (Chen et al. 2016; Garg et al. 2019,
    equation 5): [B,T,S] twice -> [B,T], nothing for a label without links. An attention of less than the least number
    costs as much as that, 87 nats."""
    least = torch.finfo(weights.dtype).tiny
    return -(links * weights.clamp_min(least).log()).sum(dim=-1)


class ModelPredictor:
    """One model bound to one batch of sources; see `interface.Predictor`."""

    def __init__(self, model: Seq2Seq, source: Source, subset: Subset | None = None) -> None:
        self.model = model
        self.source = source
        self.subset = subset

    @property
    def sentences(self) -> int:
        return len(self.source.memory.states)

    @property
    def device(self) -> torch.device:
        return self.source.memory.states.device

    @property
    def columns(self) -> Tensor | None:
        return None if self.subset is None else self.subset.tokens

    def start(self, beams: int, steps: int) -> State:
        return self.model.decoder.start(self.source, self.sentences * beams, steps)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = self.model.decoder.step(tokens, state, self.source)
        return self.model.head.log_probs(features, self.source, self.subset).flatten(0, 1), state  # [N,C]

    def select(self, sentences: Tensor) -> ModelPredictor:
        subset = None if self.subset is None else self.subset.select(sentences)
        return ModelPredictor(self.model, self.source.select(sentences), subset)
