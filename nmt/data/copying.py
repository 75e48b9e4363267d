"""What a model may copy: the tokens of the source as ids of the target, also those that the vocabulary lacks.

The words of a sentence that are not among the V of the target vocabulary get ids V, V + 1, ... in the order of their
first appearance; equal words share one (See et al. 2017, section 2.2). As input of a decoder they are unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from nmt.data.batch import UNK, Ids
from nmt.text.tokenizer import ListTokenizer, Tokenizer


class Copies(NamedTuple):
    """What can be copied from one sentence."""

    ids: Ids  # of each source token in target space
    extras: Sequence[str] = ()  # the words that V, V + 1, ... stand for


class Copier(Protocol):
    """Between two vocabularies."""

    def copies(self, line: str, ids: Ids) -> Copies:
        """What the source `line`, `ids` to its tokenizer, has to copy."""
        ...

    def labels(self, line: str, ids: Ids, copies: Copies) -> Ids:
        """The target `line`, `ids` to its tokenizer, where unknown words that can be copied are so named."""
        ...


class SharedCopier:
    """Both sides have one vocabulary, of subwords, which spell everything: there are no extras."""

    def copies(self, line: str, ids: Ids) -> Copies:
        return Copies(ids)

    def labels(self, line: str, ids: Ids, copies: Copies) -> Ids:
        return ids


class WordCopier:
    """Words, or characters, are the same where they are spelled the same."""

    def __init__(self, src: ListTokenizer, tgt: ListTokenizer) -> None:
        self._src, self._tgt = src, tgt

    def copies(self, line: str, ids: Ids) -> Copies:
        tokens = self._src.split(line)
        known = self._tgt.lookup(tokens)
        extras: dict[str, int] = {}
        in_target = [
            n if n != UNK else len(self._tgt) + extras.setdefault(token, len(extras))
            for token, n in zip(tokens, known, strict=True)
        ]
        return Copies(in_target, list(extras))

    def labels(self, line: str, ids: Ids, copies: Copies) -> Ids:
        if not copies.extras or UNK not in ids:
            return ids
        extras = {token: n for n, token in enumerate(copies.extras, start=len(self._tgt))}
        return [extras.get(token, UNK) if n == UNK else n for token, n in zip(self._tgt.split(line), ids, strict=True)]


def make_copier(src: Tokenizer, tgt: Tokenizer) -> Copier:
    """The copier between the vocabularies of two tokenizers, which `Config` has found to fit each other."""
    if isinstance(src, ListTokenizer) and isinstance(tgt, ListTokenizer):
        return WordCopier(src, tgt)
    if src is not tgt:
        raise ValueError("subwords can be copied within one vocabulary only")
    return SharedCopier()
