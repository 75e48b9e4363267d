"""Subword regularisation: a word is cut into pieces now this way, now that, so that a model learns what they mean.

unigram       one of the best segmentations by chance, p(x) ~ exp(alpha * score(x)) (Kudo 2018, section 3.3)
bpe_dropout   merges are left out by chance (Provilkov et al. 2020, algorithm 1)

Pieces do not cross white space, so a line is cut word by word, and what a word can become is kept for the next time.
There is no generator with a state: a draw is a hash (SHAKE-128). One of (seed, epoch, pair, side) says which of its
segmentations each word of a line gets; with dropout, one of the word and a number below `WAYS` says what that
segmentation is. So the ids of a line depend on these four numbers alone, in whatever order and process it is asked for.
"""

from __future__ import annotations

import re
import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from hashlib import shake_128
from itertools import accumulate, chain, pairwise, repeat
from math import exp, inf
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from nmt.config import (
    BpeDropout,
    NoSampling,
    SentencePieceConfig,
    SubwordSamplingConfig,
    TokenizerConfig,
    UnigramSampling,
)
from nmt.errors import UserError
from nmt.text.pieces import PieceType
from nmt.text.tokenizer import SPACE_MARK, UNK, SentencePieceTokenizer, Tokenizer, load_sentencepiece

Ids = tuple[int, ...]
Key = tuple[int, ...]
T = TypeVar("T")
"""Ids of a side, as a corpus has them."""
V = TypeVar("V")

WAYS = 64
"""So many segmentations a word has with dropout."""
LONGEST = 100
"""In characters; a line with a longer word is not sampled, as the time for a word grows with the square of this."""
REMEMBERED = 2**16
"""Words whose segmentations are kept: those met last."""
UNKNOWN_PENALTY = 10.0
"""What an unknown character scores below the worst piece (SentencePiece's kUnkPenalty)."""
NEVER = inf
"""The cost of a merge that is none."""
DRAWS = 2**32
"""A draw is one of so many numbers."""


class SubwordSampler:
    """Cuts the lines of one language."""

    def __init__(self, tokenizer: Tokenizer, config: BpeDropout | UnigramSampling) -> None:
        """Raises UserError if `config` is not for this tokenizer."""
        self._made_from = (tokenizer, config)
        pieces = Pieces(_fitting(tokenizer, config))
        self._normalised = pieces.tokenizer.normalised
        self._words = pieces.words
        self._cut = (Dropout(pieces, config.rate) if isinstance(config, BpeDropout) else Best(pieces, config)).cut

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._made_from  # another process remembers words of its own

    def sample(self, line: str, key: Key) -> list[int] | None:
        """Ids of a line, which depend on `line` and `key` only. None: it has a word that is too long."""
        text = self._normalised(line)
        words = self._words(text)
        if len(text) > LONGEST and max(map(len, words)) > LONGEST:
            return None
        ids = self._cut(words, draws(key, len(words)))
        # as SentencePiece: unknown characters side by side are one token
        return [n for before, n in pairwise([0, *ids]) if not before == n == UNK] if UNK in ids else ids


class Samplers(NamedTuple):
    """Of both sides; the same object twice when they share a tokenizer."""

    src: SubwordSampler
    tgt: SubwordSampler
    max_length: int  # a side that comes out with more tokens stays as it is

    def sample(self, texts: tuple[str, str], stored: tuple[T, T], key: Key) -> tuple[T | list[int], T | list[int]]:
        """Ids of a (source, target) pair; `stored` are those without sampling, `key` is (seed, epoch, pair)."""
        src, tgt = self.src.sample(texts[0], (*key, 0)), self.tgt.sample(texts[1], (*key, 1))
        return self._fitting(src, stored[0]), self._fitting(tgt, stored[1])

    def _fitting(self, ids: list[int] | None, stored: T) -> T | list[int]:
        return stored if ids is None or len(ids) > self.max_length else ids


def make_samplers(
    tokenizers: tuple[Tokenizer, Tokenizer], config: SubwordSamplingConfig, *, max_length: int
) -> Samplers | None:
    """What cuts the (source, target) text of training; None = the ids stay the same in all epochs.

    Raises UserError if the setting is not for these tokenizers.
    """
    if isinstance(config, NoSampling):
        return None
    src = SubwordSampler(tokenizers[0], config)
    tgt = src if tokenizers[1] is tokenizers[0] else SubwordSampler(tokenizers[1], config)
    return Samplers(src, tgt, max_length)


def check_sampling(
    config: SubwordSamplingConfig, tokenizer: TokenizerConfig, tokenizers: tuple[Tokenizer, Tokenizer] | None
) -> None:
    """Raises UserError if sampling is not for `tokenizers`, or, before there are any, for the files of `tokenizer`."""
    if isinstance(config, NoSampling):
        return
    if tokenizers is None and isinstance(tokenizer, SentencePieceConfig):
        for path in (tokenizer.path, tokenizer.tgt_path):
            if path is not None:
                SubwordSampler(load_sentencepiece(Path(path), tokenizer), config)
    for ready in tokenizers or ():
        SubwordSampler(ready, config)


def draws(key: Iterable[int | str], count: int) -> tuple[int, ...]:
    """`count` independent, uniform numbers below 2**32 that depend on `key` alone; of a longer row the first."""
    raw = shake_128(" ".join(map(str, key)).encode()).digest(4 * count)
    return struct.unpack(f"<{count}I", raw)


class Pieces:
    """What text can become, by a SentencePiece model."""

    def __init__(self, tokenizer: SentencePieceTokenizer) -> None:
        """Raises UserError if pieces cross white space, so that a line does not fall into words."""
        model = tokenizer.piece_model()
        self.tokenizer = tokenizer
        self.ids: dict[str, int] = {}
        self.scores: dict[str, float] = {}  # of what text is searched for
        self.symbols: set[str] = set()  # that the model's user defined: never cut, never part of something else
        self._bytes: dict[int, int] = {}
        for piece, n in zip(model.pieces, tokenizer.ids_of_pieces(), strict=True):
            if piece.type == PieceType.BYTE and model.byte_fallback:
                self._bytes[int(piece.text[1:-1], 16)] = n  # <0xC3>
            elif piece.type in (PieceType.NORMAL, PieceType.USER_DEFINED):
                self.ids[piece.text] = n
                if piece.type == PieceType.NORMAL:
                    self.scores[piece.text] = piece.score
                else:
                    self.symbols.add(piece.text)
        self._symbol = re.compile("(" + "|".join(map(re.escape, sorted(self.symbols, key=len, reverse=True))) + ")")
        self._word = re.compile(_word_pattern(self.scores))

    def words(self, text: str) -> list[str]:
        """The parts of a normalised line that no piece crosses the ends of."""
        if not self.symbols:
            return self._word.findall(text)
        parts = enumerate(self._symbol.split(text))  # text, symbol, text, ..., text
        return [word for n, part in parts for word in ([part] if n % 2 else self._word.findall(part))]

    def units(self, word: str) -> list[str]:
        """What is not cut: characters, or a symbol."""
        return [word] if word in self.symbols else list(word)

    def spell(self, parts: Sequence[str]) -> Ids:
        """Ids of pieces, and of characters that are none."""
        try:
            return tuple(map(self.ids.__getitem__, parts))
        except KeyError:
            return tuple(n for part in parts for n in ([self.ids[part]] if part in self.ids else self._unknown(part)))

    def _unknown(self, character: str) -> list[int]:
        return [self._bytes[byte] for byte in character.encode()] if self._bytes else [UNK]


class Memo(dict[str, V]):
    """What `make` gives for a word, kept for at least the last `REMEMBERED` words and at most twice as many."""

    def __init__(self, make: Callable[[str], V]) -> None:
        self._make = make
        self._older: dict[str, V] = {}

    def __missing__(self, word: str) -> V:
        if len(self) >= REMEMBERED:
            self._older = dict(self)
            self.clear()
        value = self[word] = self._older[word] if word in self._older else self._make(word)
        return value


class Dropout:
    """Byte pair encoding that leaves merges out (Provilkov et al. 2020)."""

    def __init__(self, pieces: Pieces, rate: float) -> None:
        self.spell = pieces.spell
        self._units = pieces.units
        self._costs = {text: -score for text, score in pieces.scores.items()}
        # A draw skips k merges or more if it is below rate**k: so skips are counted, in ascending order.
        powers = [int(rate**k * DRAWS) for k in range(1, LONGEST)]
        self._skips = sorted(power for power in powers if power)
        self.ways = Memo(lambda word: _Ways(self, word))

    def cut(self, words: Sequence[str], numbers: Sequence[int]) -> list[int]:
        """Ids of words, each in the way that its number, below 2**32, stands for."""
        ids: list[int] = []
        ways = self.ways
        for word, number in zip(words, numbers, strict=True):
            ids += ways[word][number % WAYS]
        return ids

    def parts(self, word: str, numbers: Sequence[int] = ()) -> list[str]:
        """What is left when nothing is merged any more, by a draw for each merge; where they end, none is dropped."""
        skips = [len(self._skips) - bisect_right(self._skips, n) for n in numbers]
        return merge(self._units(word), self._costs, skips)

    def drops_none(self, numbers: Sequence[int]) -> bool:
        return min(numbers, default=DRAWS) >= self._skips[-1]


class _Ways(dict[int, Ids]):
    """The segmentations of a word by their numbers, made when asked for."""

    __slots__ = ("_dropout", "_merges", "_plain", "_word")

    def __init__(self, dropout: Dropout, word: str) -> None:
        self._dropout, self._word = dropout, word
        parts = dropout.parts(word)
        self._plain, self._merges = dropout.spell(parts), len(word) - len(parts)

    def __missing__(self, way: int) -> Ids:
        numbers = draws((way, self._word), len(self._word))
        plain = self._dropout.drops_none(numbers[: self._merges])  # mostly so
        ids = self[way] = self._plain if plain else self._dropout.spell(self._dropout.parts(self._word, numbers))
        return ids


def merge(parts: list[str], costs: dict[str, float], skips: Sequence[int]) -> list[str]:
    """Merges neighbours until no merge is left that `costs` knows, or all that are left are dropped.

    Each time the possible merges are looked through from the lowest cost up, the leftmost first, and the first that is
    not dropped is made. Each is dropped with the same probability, so it takes but the number of those dropped before
    it, the next of `skips` (0 where they end): it is geometric. A merge that was dropped may be made later.
    """
    parts = parts[:]
    found = [costs.get(one + two, NEVER) for one, two in pairwise(parts)]  # what merging each with its right one costs
    for skip in chain(skips, repeat(0)):
        if skip >= len(found):
            break
        place = sorted(range(len(found)), key=found.__getitem__)[skip] if skip else found.index(min(found))
        if found[place] == NEVER:
            break
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
        del found[place]
        for left in (place - 1, place):
            if 0 <= left < len(found):
                found[left] = costs.get(parts[left] + parts[left + 1], NEVER)
    return parts


class Best:
    """The best segmentations under a unigram language model of pieces (Kudo 2018)."""

    def __init__(self, pieces: Pieces, config: UnigramSampling) -> None:
        self._pieces, self._alpha, self._best = pieces, config.alpha, config.best
        self._longest = max(map(len, pieces.scores))
        self._unknown = min(pieces.scores.values()) - UNKNOWN_PENALTY
        self._known = Memo(self._distribution)

    def cut(self, words: Sequence[str], numbers: Sequence[int]) -> list[int]:
        """Ids of words, each by its number below 2**32."""
        ids: list[int] = []
        for word, number in zip(words, numbers, strict=True):
            bounds, ways = self._known[word]
            ids += ways[bisect_right(bounds, number)]
        return ids

    def best(self, word: str) -> list[tuple[float, Ids]]:
        """The segmentations of the highest scores, best first: sums of the log-probabilities of their pieces.

        Dynamic programming: the best n of a prefix are made of the best n of shorter ones and a last piece.
        """
        scores, units = self._pieces.scores, self._pieces.units(word)
        found: list[list[tuple[float, Ids]]] = [[(0.0, ())]]
        for end, unit in enumerate(units, start=1):
            here: list[tuple[float, Ids]] = []
            for start in range(max(0, end - self._longest), end):
                piece = unit if start == end - 1 else word[start:end]
                score = scores.get(piece, self._unknown if piece is unit else None)
                if score is not None:
                    last = self._pieces.spell([piece])
                    here += [(before + score, ids + last) for before, ids in found[start]]
            here.sort(key=itemgetter(0), reverse=True)  # of equal ones, first those with the longer last piece
            found.append(here[: self._best])
        return found[-1]

    def _distribution(self, word: str) -> tuple[array[int], list[Ids]]:
        """Below which draws which of the segmentations is taken."""
        found = self.best(word)
        weights = [exp(self._alpha * (score - found[0][0])) for score, _ in found]
        sums = list(accumulate(weights))
        bounds = (min(int(total / sums[-1] * DRAWS), DRAWS - 1) for total in sums[:-1])
        return array("I", bounds), [ids for _, ids in found]


def _word_pattern(pieces: Iterable[str]) -> str:
    """Of a word, with the mark of the space before or after it, whichever the pieces have."""
    not_before = not_after = None  # pieces against the one and the other
    for piece in pieces:
        if re.search(f"[^{SPACE_MARK}]{SPACE_MARK}", piece):
            not_before = piece
        if re.search(f"{SPACE_MARK}[^{SPACE_MARK}]", piece):
            not_after = piece
    if not_before is None:
        return f"{SPACE_MARK}*[^{SPACE_MARK}]+|{SPACE_MARK}+"
    if not_after is None:
        return f"[^{SPACE_MARK}]+{SPACE_MARK}*|{SPACE_MARK}+"
    raise UserError(
        f"train.subword_sampling goes word by word, but this SentencePiece model has pieces with white space inside or "
        f"on either side, such as {not_before!r} and {not_after!r}",
        "Take another model (learned with split_by_whitespace), or train.subword_sampling: {kind: none}.",
    )


def _fitting(tokenizer: Tokenizer, config: BpeDropout | UnigramSampling) -> SentencePieceTokenizer:
    """The tokenizer, if it has the segmentations that `config` asks for."""
    kind = config.kind
    if not isinstance(tokenizer, SentencePieceTokenizer):
        raise UserError(
            f"train.subword_sampling.kind: {kind} needs subwords, but the tokenizer is of {tokenizer.settings.kind}",
            "Take tokenizer.kind: sentencepiece, or train.subword_sampling: {kind: none}.",
        )
    algorithm = tokenizer.piece_model().algorithm
    if algorithm != ("bpe" if isinstance(config, BpeDropout) else "unigram"):
        fitting = {"bpe": "bpe_dropout", "unigram": "unigram"}.get(algorithm, "none")
        raise UserError(
            f"train.subword_sampling.kind: {kind} does not fit the tokenizer, a SentencePiece model of {algorithm}",
            f"Take train.subword_sampling: {{kind: {fitting}}}, or another tokenizer.",
        )
    return tokenizer
