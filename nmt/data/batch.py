"""Batches: right-padded ids, and how pairs become one.

Shapes: B sentences, S source positions, T target positions, L either. Ids are int64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nmt.text.tokenizer import BOS as BOS
from nmt.text.tokenizer import EOS as EOS
from nmt.text.tokenizer import PAD as PAD
from nmt.text.tokenizer import UNK as UNK

Ids = Sequence[int] | NDArray[np.int64]
"""A sentence."""


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device. A GPU fetches it from pinned memory by itself, while the host goes on."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class Spelled(NamedTuple):
    """How the U distinct words of a batch are spelled that the vocabulary lacks; see `nmt.data.spelling`."""

    ngrams: Tensor  # [U,G] hashes of their n-grams, from 1; 0 = padding
    words: Tensor  # [B,L] which of the words, from 1, each token is; 0 = the vocabulary has it

    def to(self, device: torch.device) -> Spelled:
        return Spelled(sent(self.ngrams, device), sent(self.words, device))


class Padded(NamedTuple):
    """Right-padded ids."""

    ids: Tensor  # [B,L]
    lengths: Tensor  # [B]
    full: bool  # nothing is padded: no mask is needed
    spelled: Spelled | None = None  # for models that spell unknown words

    @property
    def mask(self) -> Tensor | None:
        """[B,L], True = real token; None when nothing is padded."""
        if self.full:
            return None
        return torch.arange(self.ids.shape[1], device=self.ids.device) < self.lengths[:, None]

    def to(self, device: torch.device) -> Padded:
        return Padded(
            sent(self.ids, device),
            sent(self.lengths, device),
            self.full,
            None if self.spelled is None else self.spelled.to(device),
        )


class Batch(NamedTuple):
    """What models are fed. Sources end in EOS; targets are BOS ... EOS."""

    src: Padded
    tgt: Padded | None  # the decoder input drops the last column, the labels drop the first
    copy_ids: Tensor | None  # [B,S] each source token's id in target space; >= V for words outside it
    extras: int  # E, how many such words
    indices: Tensor  # [B] position of each pair in its corpus
    links: Tensor | None = None  # [B,T,S] where each label comes from: rows sum to 1, or to 0

    def to(self, device: torch.device) -> Batch:
        return Batch(
            self.src.to(device),
            None if self.tgt is None else self.tgt.to(device),
            None if self.copy_ids is None else sent(self.copy_ids, device),
            self.extras,
            self.indices,
            None if self.links is None else sent(self.links, device),
        )


def pad(rows: Sequence[Ids]) -> Padded:
    """Right-pads rows of ids to the longest of them."""
    lengths = [len(row) for row in rows]
    ids = np.full((len(rows), max(lengths)), PAD, dtype=np.int64)
    for n, row in enumerate(rows):
        ids[n, : len(row)] = row  # as a tensor, each of these assignments would take five times as long
    return Padded(torch.from_numpy(ids), torch.tensor(lengths), min(lengths) == max(lengths))


def collate(src: Sequence[Ids], tgt: Sequence[Ids] | None = None, index: Sequence[int] | None = None) -> Batch:
    """One batch from sentences of ids without special tokens, which it adds.

    `index` are corpus positions, by default 0 .. B-1.
    """
    positions = range(len(src)) if index is None else index
    return Batch(
        pad([[*row, EOS] for row in src]),
        None if tgt is None else pad([[BOS, *row, EOS] for row in tgt]),
        copy_ids=None,
        extras=0,
        indices=torch.tensor(list(positions)),
    )
