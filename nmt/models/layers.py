"""Small parts that encoders and decoders share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nmt.data.batch import EOS, PAD, UNK, Spelled


def room(numbers: int, device: torch.device) -> int:
    """How many numbers may be worked on at a time where `numbers` suit a CPU and its caches: a GPU wants large
    products, and its memory is there for them."""
    return numbers if device.type == "cpu" else 32 * numbers


class Dropout(nn.Dropout):
    """Zeroes each number with probability p and scales the others by 1 / (1 - p) (Srivastava et al. 2014).

    On a CPU PyTorch draws a number for each element, which takes longer than the matrix product beside it. Here one
    draw of 64 bits serves four elements, 15 bits each, so p is rounded to a multiple of 2^-15; and since comparisons
    take long there, too, what is dropped is told by the sign of a difference.
    """

    def forward(self, states: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return states
        if states.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(states)
        draws = torch.empty(-(-states.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        lots = draws.view(torch.int16)[: states.numel()].view(states.shape)
        lots.bitwise_right_shift_(1)  # uniform on -2^14 .. 2^14 - 1
        dropped = min(round(self.p * 2**15), 2**15 - 1)
        sign = lots.add_(2**14 - dropped).bitwise_right_shift_(15)  # -1 below the threshold, else 0
        return states * sign.add_(1).to(states.dtype).mul_(2**15 / (2**15 - dropped))


class VariationalDropout(Dropout):
    """The same features are dropped at all positions of a sentence (Gal and Ghahramani 2016)."""

    def forward(self, states: Tensor) -> Tensor:
        """[B,T,D]"""
        return states * super().forward(states.new_ones(len(states), 1, states.shape[-1])) if self.training else states


class NgramEmbedding(nn.Module):
    """Vectors of unknown words, from those of their n-grams (Bojanowski et al. 2017, section 3.2, which also puts all
    n-grams whose hashes fall together into one bucket). Here a word has the sum over the square root of their number,
    so that it is of unit variance at the start, whatever its length."""

    def __init__(self, buckets: int, width: int) -> None:
        super().__init__()
        self.table = embedding_table(buckets + 1, width)  # the first is padding

    def forward(self, spelled: Spelled) -> Tensor:
        """[B,L,D], 0 for words of the vocabulary"""
        real = spelled.ngrams > 0  # [U,G]
        buckets = (spelled.ngrams % (self.table.num_embeddings - 1) + 1) * real
        count = real.sum(dim=1, keepdim=True).to(self.table.weight.dtype)
        words = self.table(buckets).sum(dim=1) * (self.table.embedding_dim / count).sqrt()  # [U,D]
        return nn.functional.embedding(spelled.words, nn.functional.pad(words, (0, 0, 1, 0)))


class TokenEmbedding(nn.Module):
    """Ids -> vectors, with dropout. The table may be shared between modules.

    Vectors are scaled by sqrt(D) (Vaswani et al. 2017, section 3.4), so that a table that serves as an output layer,
    too, and starts small for its sake, is heard as an input: of unit variance, not lost in the first recurrent layer.
    """

    def __init__(self, table: nn.Embedding, dropout: float, word_dropout: float = 0.0, *, ngrams: int = 0) -> None:
        """`ngrams`: buckets of n-grams by which unknown words are told apart; 0 = they are all alike."""
        super().__init__()
        self.table = table
        self.ngrams = NgramEmbedding(ngrams, table.embedding_dim) if ngrams else None
        self.dropout = Dropout(dropout)
        self.word_dropout = word_dropout

    @property
    def width(self) -> int:
        return self.table.embedding_dim

    def forward(self, ids: Tensor, spelled: Spelled | None = None) -> Tensor:
        """[...] -> [...,D]"""
        return self.dropout(self.lookup(ids, spelled))

    def lookup(self, ids: Tensor, spelled: Spelled | None = None) -> Tensor:
        """[...] -> [...,D] without dropout, for who adds something first. What is beyond the vocabulary (a copied word)
        is read as unknown, and so are words that are dropped (Iyyer et al. 2015 leave them out, which would move the
        others)."""
        ids = ids.masked_fill(ids >= self.table.num_embeddings, UNK)
        if self.training and self.word_dropout:
            dropped = torch.rand(ids.shape, device=ids.device) < self.word_dropout
            ids = ids.masked_fill(dropped & (ids > EOS), UNK)
        states = self.table(ids) * math.sqrt(self.width)
        return states if self.ngrams is None or spelled is None else states + self.ngrams(spelled)


def embedding_table(size: int, width: int) -> nn.Embedding:
    """A table of `size` vectors, normal with standard deviation width**-0.5, so that as an output layer it starts
    with logits of about unit size; padding starts as 0."""
    table = nn.Embedding(size, width, padding_idx=PAD)
    nn.init.normal_(table.weight, std=width**-0.5)
    with_padding = table.weight.data
    with_padding[PAD] = 0.0
    return table
