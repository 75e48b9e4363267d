"""What a model is fed of a sentence: its tokens, what it may copy of them, and how unknown ones are spelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nmt.data.batch import EOS, Batch, Ids, collate, pad
from nmt.data.copying import Copies, make_copier
from nmt.data.spelling import collate_spelled, unknown_words
from nmt.text.tokenizer import Tokenizer, WordTokenizer


class Example(NamedTuple):
    """A source line and its target, if it is known."""

    src: Ids
    tgt: Ids | None = None
    copies: Copies | None = None
    unknown: Mapping[int, str] | None = None  # source words that the vocabulary lacks, by position


class Feeder:
    """Makes examples of lines and their ids, for models that copy, or spell unknown words, or do neither."""

    def __init__(self, src: Tokenizer, tgt: Tokenizer, *, copies: bool = False, spells: bool = False) -> None:
        """With tokenizers that fit these abilities, as `Config` has found them to."""
        self.copier = make_copier(src, tgt) if copies else None
        self.spelling: WordTokenizer | None = None
        if spells:
            if not isinstance(src, WordTokenizer):
                raise ValueError("only words are spelled")
            self.spelling = src

    @property
    def reads_text(self) -> bool:
        """Whether it needs the lines, not only their ids."""
        return self.copier is not None or self.spelling is not None

    def example(self, src: tuple[str, Ids], tgt: tuple[str, Ids] | None = None) -> Example:
        """From (line, ids) of each side."""
        unknown = None if self.spelling is None else unknown_words(self.spelling, *src)
        if self.copier is None:
            return Example(src[1], None if tgt is None else tgt[1], None, unknown)
        copies = self.copier.copies(*src)
        return Example(src[1], None if tgt is None else self.copier.labels(*tgt, copies), copies, unknown)

    def prefix(self, line: str, ids: Ids, example: Example) -> Ids:
        """What a translation of the example is to begin with, `ids` to the target's tokenizer."""
        if self.copier is None or example.copies is None:
            return ids
        return self.copier.labels(line, ids, example.copies)


def collate_examples(examples: Sequence[Example], index: Sequence[int] | None = None) -> Batch:
    """One batch; see `collate`. All examples are alike in having a target, or copies, or unknown words, or none."""
    targets = [example.tgt for example in examples if example.tgt is not None]
    batch = collate([example.src for example in examples], targets or None, index)
    unknown = [example.unknown for example in examples if example.unknown is not None]
    if unknown:
        spelled = collate_spelled(unknown, batch.src.ids.shape[1])
        batch = batch._replace(src=batch.src._replace(spelled=spelled))
    copies = [example.copies for example in examples if example.copies is not None]
    if not copies:
        return batch
    ids = pad([[*copy.ids, EOS] for copy in copies]).ids
    return batch._replace(copy_ids=ids, extras=max(len(copy.extras) for copy in copies))
