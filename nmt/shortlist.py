"""Lexical shortlists: the tokens that a sentence's translation may have, so that search need not score all others.

The file has a line per source token: the token, a tab, and the target tokens it may become, with spaces between. A line
without a source token says what any sentence may use. A line of tokens that hold a space, a tab, a line end or a byte
order mark is JSON, without a tab: `["token", ["target", ...]]`. Shapes: B sentences, C columns.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nmt.data.batch import PAD, UNK, Ids
from nmt.data.example import Example
from nmt.errors import UserError
from nmt.text.lines import read_lines
from nmt.text.tokenizer import Tokenizer

SPECIAL = tuple(range(UNK + 1))


class Shortlist:
    """What each source token may become, and what any sentence may use."""

    def __init__(self, becomes: Mapping[int, Ids], always: Ids) -> None:
        self.becomes = {token: np.asarray(ids, dtype=np.int64) for token, ids in becomes.items()}
        self.always = np.union1d(SPECIAL, np.asarray(always, dtype=np.int64))

    def tokens(self, examples: Sequence[Example]) -> Tensor:
        """[B,C] what the translation of each source may have: `Subset.tokens`. What can be copied is among it."""
        rows = []
        for example in examples:
            lists = [self.becomes[token] for token in set(map(int, example.src)) & self.becomes.keys()]
            copied = [] if example.copies is None else [np.asarray(example.copies.ids, dtype=np.int64)]
            some = np.unique(np.concatenate([*lists, *copied, self.always]))
            rows.append(some)  # sorted, so that the special tokens come first
        table = np.full((len(rows), max(map(len, rows))), PAD, dtype=np.int64)
        for row, some in zip(table, rows, strict=True):
            row[: len(some)] = some
        return torch.from_numpy(table)


def count_links(pairs: Iterable[tuple[Ids, Ids, Iterable[tuple[int, int]]]], *, each: int, always: int) -> Shortlist:
    """From linked pairs (source ids, target ids, links as (source, target) positions): for each source token the `each`
    target tokens that are linked to it most often, and for all sentences the `always` most frequent target tokens."""
    linked: defaultdict[int, Counter[int]] = defaultdict(Counter)
    frequent: Counter[int] = Counter()
    for src, tgt, links in pairs:
        frequent.update(map(int, tgt))
        for s, t in links:
            linked[int(src[s])][int(tgt[t])] += 1
    becomes = {token: [n for n, _ in counts.most_common(each)] for token, counts in linked.items()}
    return Shortlist(becomes, [n for n, _ in frequent.most_common(always)])


def lines_of(shortlist: Shortlist, tokenizers: tuple[Tokenizer, Tokenizer]) -> Iterable[str]:
    """The lines of the file, the one for all sentences first."""
    src, tgt = tokenizers
    yield _line("", tgt.pieces(shortlist.always[shortlist.always > UNK].tolist()))
    for token in sorted(shortlist.becomes):
        if token > UNK:
            yield _line(src.pieces([token])[0], tgt.pieces(shortlist.becomes[token].tolist()))


def _line(token: str, becomes: list[str]) -> str:
    plain = not set("".join([token, *becomes])) & set(" \t\r\n\ufeff")  # of which line or file would be cut
    return token + "\t" + " ".join(becomes) if plain else json.dumps([token, becomes])


def _parse(line: str) -> tuple[str, list[str]]:
    """Raises ValueError for what `_line` does not write."""
    token, tab, rest = line.partition("\t")
    if tab:
        return token, rest.split(" ") if rest else []
    token, becomes = json.loads(line)
    if not isinstance(token, str) or not isinstance(becomes, list) or not all(isinstance(t, str) for t in becomes):
        raise ValueError
    return token, becomes


def read_shortlist(path: Path, tokenizers: tuple[Tokenizer, Tokenizer]) -> Shortlist:
    """Raises UserError for characters, of which there are few; and, with the line, where there is no tab, or a token
    that the vocabulary does not have."""
    check_shortlist(tokenizers)
    src, tgt = ({piece: n for n, piece in enumerate(t.pieces(range(len(t))))} for t in tokenizers)
    becomes: dict[int, list[int]] = {}
    always: list[int] = []
    for number, line in enumerate(read_lines(path, record=True), start=1):
        try:
            token, words = _parse(line)
        except (ValueError, TypeError):
            raise UserError(f"{path}, line {number}: not a token, a tab and the tokens it may become") from None
        for word, side, known in ((token, "source", src), *((word, "target", tgt) for word in words)):
            if word not in known and (word or side == "target"):
                raise UserError(
                    f"{path}, line {number}: the {side} vocabulary has no token {word!r}",
                    "The file has to be made for this run, by `nmt shortlist`.",
                )
        ids = [tgt[word] for word in words]
        if token:
            becomes.setdefault(src[token], []).extend(ids)
        else:
            always += ids
    if not becomes:
        raise UserError(f"{path} has no source token: it would leave all sentences the same few words")
    return Shortlist(becomes, always)


def check_shortlist(tokenizers: tuple[Tokenizer, Tokenizer]) -> None:
    if any(tokenizer.settings.kind == "characters" for tokenizer in tokenizers):
        raise UserError("a shortlist is of words or subwords: characters are few enough as they are")
