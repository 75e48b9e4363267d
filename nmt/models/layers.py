"""Small parts that encoders and decoders share."""

from __future__ import annotations

import math

from torch import Tensor, nn

from nmt.data.batch import PAD


class TokenEmbedding(nn.Module):
    """Ids -> vectors, with dropout. The table may be shared between modules.

    Vectors are scaled by sqrt(D) (Vaswani et al. 2017, section 3.4), so that a table that serves as an output layer,
    too, and starts small for its sake, is heard as an input: of unit variance, not lost in the first recurrent layer.
    """

    def __init__(self, table: nn.Embedding, dropout: float) -> None:
        super().__init__()
        self.table = table
        self.dropout = nn.Dropout(dropout)

    @property
    def width(self) -> int:
        return self.table.embedding_dim

    def forward(self, ids: Tensor) -> Tensor:
        """[...] -> [...,D]"""
        return self.dropout(self.lookup(ids))

    def lookup(self, ids: Tensor) -> Tensor:
        """[...] -> [...,D] without dropout, for who adds something first."""
        return self.table(ids) * math.sqrt(self.width)


def embedding_table(size: int, width: int) -> nn.Embedding:
    """A table of `size` vectors, normal with standard deviation width**-0.5, so that as an output layer it starts
    with logits of about unit size; padding starts as 0."""
    table = nn.Embedding(size, width, padding_idx=PAD)
    nn.init.normal_(table.weight, std=width**-0.5)
    with_padding = table.weight.data
    with_padding[PAD] = 0.0
    return table
