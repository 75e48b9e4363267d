"""What training minimises, beside the losses that a model knows by itself: that two passes over a pair agree."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nmt.config import RDrop, SimCut, TrainConfig
from nmt.data.batch import EOS, UNK, Batch, Padded
from nmt.models.interface import TokenLosses
from nmt.models.seq2seq import Seq2Seq


class Objective(nn.Module):
    """The losses of a batch, as `train.label_smoothing` and `train.consistency` want them.

    rdrop: two passes with dropout of their own; half of -log p - log q + weight (KL(p || q) + KL(q || p)) / 2
      (Liang et al. 2021, equations 2 to 4, where it is not halved: so a pair weighs as much as without);
    simcut: -log p + weight KL(p || q), q from a second pass in which a share of the words of either side is read as
      unknown; gradients come back through both (Gao et al. 2022, equation 6, where the embedding is zero).

    Both passes are one, with every pair in it twice.
    """

    def __init__(self, model: Seq2Seq, settings: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self.smoothing = settings.label_smoothing
        self.consistency = settings.consistency

    def forward(self, batch: Batch) -> TokenLosses:
        """Losses [B,T]; see `Seq2Seq.forward`."""
        match self.consistency:
            case RDrop(weight=weight):
                both = self.model.force(_twice(batch, cut=0.0))
                one, other = both.halves()
                there, back = self.model.head.divergence(one, other)
                nll, objective = (
                    torch.stack(part.chunk(2)).mean(0) for part in self.model.losses(both, self.smoothing)
                )
                return TokenLosses(nll, objective + weight * (there + back) / 4)
            case SimCut(weight=weight, cut=cut):
                one, other = self.model.force(_twice(batch, cut=cut)).halves()
                there, _ = self.model.head.divergence(one, other)
                losses = self.model.losses(one, self.smoothing)
                return losses._replace(objective=losses.objective + weight * there)
            case _:
                return self.model(batch, self.smoothing)


def _twice(batch: Batch, *, cut: float) -> Batch:
    """All pairs, and all again with a share `cut` of their words unknown, but for what can be copied."""

    def repeated(tensor: Tensor) -> Tensor:
        return torch.cat([tensor, tensor])

    def side(padded: Padded) -> Padded:
        ids = padded.ids
        unknown = (torch.rand(ids.shape, device=ids.device) < cut) & (ids > EOS)
        spelled = padded.spelled
        if spelled is not None:
            spelled = spelled._replace(words=repeated(spelled.words))
        return Padded(torch.cat([ids, ids.masked_fill(unknown, UNK)]), repeated(padded.lengths), padded.full, spelled)

    assert batch.tgt is not None
    copy_ids = None if batch.copy_ids is None else repeated(batch.copy_ids)
    links = None if batch.links is None else repeated(batch.links)
    return Batch(side(batch.src), side(batch.tgt), copy_ids, batch.extras, repeated(batch.indices), links)
