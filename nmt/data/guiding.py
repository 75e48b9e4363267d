"""From links between words to what an attention is to be: which tokens of the source each target token comes from.

Shapes: S source tokens, T target tokens; both with the end of the sentence, which has no links.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nmt.data.batch import Ids
from nmt.text.tokenizer import Tokenizer


class Guide:
    """Knows which word a token belongs to, in both languages."""

    def __init__(self, src: Tokenizer, tgt: Tokenizer) -> None:
        self._src, self._tgt = src, tgt

    def spread(self, links: NDArray[np.int64], src: Ids, tgt: Ids) -> NDArray[np.float32]:
        """[T,S] for `links` [n,2] of words (source, target): each token of a target word comes in equal shares from all
        tokens of the source words that are linked with it; a row of zeros where there are none.

        `src` and `tgt` are ids without special tokens, of the words' own number: see `fits`."""
        src_word, tgt_word = (np.array(side, np.int64) for side in self._words(src, tgt))
        words = np.zeros((int(tgt_word[-1]) + 1, int(src_word[-1]) + 1), np.float32)
        words[links[:, 1], links[:, 0]] = 1
        shares = np.zeros((len(tgt) + 1, len(src) + 1), np.float32)
        shares[:-1, :-1] = words[tgt_word][:, src_word]
        return shares / np.maximum(shares.sum(axis=1, keepdims=True), 1)

    def fits(self, texts: tuple[str, str], src: Ids, tgt: Ids) -> bool:
        """Whether tokens make as many words as white space separates in `texts`, source and target."""
        return all(
            word_of[-1] + 1 == len(text.split()) for text, word_of in zip(texts, self._words(src, tgt), strict=True)
        )

    def _words(self, src: Ids, tgt: Ids) -> tuple[list[int], list[int]]:
        return self._src.word_of([*src]), self._tgt.word_of([*tgt])


def collate_links(shares: Sequence[NDArray[np.float32]]) -> Tensor:
    """[B,T,S] of what `Guide.spread` says of each pair, padded with zeros."""
    size = np.max([part.shape for part in shares], axis=0)
    links = np.zeros((len(shares), *size), np.float32)
    for n, part in enumerate(shares):
        links[n, : part.shape[0], : part.shape[1]] = part
    return torch.from_numpy(links)
