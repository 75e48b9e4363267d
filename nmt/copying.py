"""How well words of the source are copied: precision and recall with clipped counts.

A *token* is one of:

- a placeholder: `__X__`, `<x>` and `</x>`, `{x}` (also `{{x}}`, `${x}`), `%s` (also `%d`, `%1$s`, `%(x)s`), a URL, an
  e-mail address; also inside a word, so that `<b>bold</b>` is three tokens;
- what is left of a word, between white space and placeholders, without the punctuation and symbols (Unicode categories
  P and S) at its ends;
- each character of that punctuation.

So `("don't", 5%.` is `(`, `"`, `don't`, `"`, `,`, `5`, `%`, `.`. Case counts. In text without spaces between words only
what stands apart is compared.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from nmt.errors import UserError

# Each alternative is tried once per run of its characters, so that a word of any length takes linear time.
PLACEHOLDER = re.compile(
    r"""(?:https?://|ftp://|www\.)[^\s<>"]*[\w/]
    | (?<![\w.+-])[\w.+-]+@\w[\w-]*(?:\.\w[\w-]*)+
    | </?\w[\w:-]*/?>
    | \$?\{\{?[^{}\s]*\}?\}
    | (?<!\w)__\w+?__(?!\w)
    | (?<![\w%])%(?:\d+\$|\(\w+\))?[sdif](?!\w)""",
    re.VERBOSE,
)
DIGIT_PUNCTUATION = frozenset(".,:/-–−'’٫٬")
"""What may stand between the digits of a number, a date or a time."""

BINS = {"unseen": 0, "1-4": 4, "5-19": 19, "20-99": 99}
"""Occurrences in the training text, at most; the last bin, `100+`, has no bound."""

KINDS = ("numbers", "names", "placeholders")


class Copied(NamedTuple):
    """Counts of source tokens, clipped: of a type w in a line at most as many as the source line has."""

    right: int = 0  # sum of min(hyp, ref, src)
    in_reference: int = 0  # sum of min(ref, src): what was to be copied
    in_output: int = 0  # sum of min(hyp, src): what was copied

    @property
    def recall(self) -> float | None:
        """Share of what was to be copied that was; None where nothing was."""
        return self.right / self.in_reference if self.in_reference else None

    @property
    def precision(self) -> float | None:
        """Share of what was copied that was to be; None where nothing was."""
        return self.right / self.in_output if self.in_output else None

    @property
    def spurious(self) -> float | None:
        """1 - precision."""
        return (self.in_output - self.right) / self.in_output if self.in_output else None


class CopyScores(NamedTuple):
    """`rows` by name, in the order to print: `all`, `words`, the training frequencies if known, and the kinds.

    `words` are all tokens but punctuation. `placeholders` counts the (line, type) pairs of placeholders in the
    source, `kept` those of them that the output line has exactly as often as the source line.
    """

    rows: dict[str, Copied]
    placeholders: int
    kept: int


def tokens(line: str, *, lowercase: bool = False) -> list[str]:
    """The tokens of a line, as the module says, in their order."""
    return [token for word in (line.lower() if lowercase else line).split() for token in _split(word)]


def training_counts(sources: Iterable[str], training: Iterable[str], *, lowercase: bool = False) -> Counter[str]:
    """How often each token of the `sources` occurs in the lines of the `training` target text, which is streamed."""
    wanted = {token for line in sources for token in tokens(line, lowercase=lowercase)}
    counts: Counter[str] = Counter()
    for line in training:
        counts.update(token for token in tokens(line, lowercase=lowercase) if token in wanted)
    return counts


def copy_scores(
    sources: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    frequency: Mapping[str, int] | None = None,
    lowercase: bool = False,
) -> CopyScores:
    """Precision and recall of copied tokens: those of `hypotheses` and `references` that the source line has, too.

    `frequency` is what `training_counts` gives, or None, without rows by frequency. The kinds, of which a token has one
    at most:

    - placeholders: as the module says;
    - numbers: at least one decimal digit, of any script, and otherwise only `DIGIT_PUNCTUATION`;
    - names: begins with a capital, and does so in the source line elsewhere than as its first word; punctuation before
      that word does not count. So nouns in German are names, and in lower-cased text there are none.

    Raises UserError for unequal numbers of lines.
    """
    if not len(sources) == len(hypotheses) == len(references):
        counts = f"{len(sources)} sources, {len(hypotheses)} hypotheses, {len(references)} references"
        raise UserError(f"copying is compared line by line: {counts}")
    bins = [] if frequency is None else [*BINS, "100+"]
    sums = {name: Copied() for name in ("all", "words", *bins, *KINDS)}
    placeholders = kept = 0
    for source, hypothesis, reference in zip(sources, hypotheses, references, strict=True):
        src, hyp, ref = (tokens(line, lowercase=lowercase) for line in (source, hypothesis, reference))
        in_hyp, in_ref = Counter(hyp), Counter(ref)
        names = _names(src)
        for token, in_src in Counter(src).items():
            to_copy, copied = min(in_ref[token], in_src), min(in_hyp[token], in_src)
            for row in _rows(token, token in names, None if frequency is None else frequency.get(token, 0)):
                right, in_reference, in_output = sums[row]
                sums[row] = Copied(right + min(to_copy, copied), in_reference + to_copy, in_output + copied)
            if PLACEHOLDER.fullmatch(token):
                placeholders += 1
                kept += in_hyp[token] == in_src
    return CopyScores(sums, placeholders, kept)


@lru_cache(maxsize=2**16)
def _split(word: str) -> tuple[str, ...]:
    """The tokens of what stands between white space."""
    found: list[str] = []
    start = 0
    for match in PLACEHOLDER.finditer(word):
        found += [*_without_punctuation(word[start : match.start()]), match[0]]
        start = match.end()
    return (*found, *_without_punctuation(word[start:]))


def _without_punctuation(text: str) -> list[str]:
    start, end = 0, len(text)
    while start < end and _is_punctuation(text[start]):
        start += 1
    while start < end and _is_punctuation(text[end - 1]):
        end -= 1
    return [*text[:start], *([text[start:end]] if start < end else []), *text[end:]]


def _is_punctuation(token: str) -> bool:
    return len(token) == 1 and unicodedata.category(token)[0] in "PS"


def _names(src: list[str]) -> set[str]:
    """The types of a source line that begin with a capital, its first word left out."""
    words = [token for token in src if not _is_punctuation(token)]
    return {word for word in words[1:] if word[0].istitle()}  # true of a single capital letter, too


def _rows(token: str, name: bool, frequency: int | None) -> Iterator[str]:
    """The rows in which a source token counts; `name`: it is one unless it is something else."""
    yield "all"
    if not _is_punctuation(token):
        yield "words"
    if frequency is not None:
        yield next((row for row, most in BINS.items() if frequency <= most), "100+")
    if PLACEHOLDER.fullmatch(token):
        yield "placeholders"
    elif any(map(str.isdecimal, token)) and all(c.isdecimal() or c in DIGIT_PUNCTUATION for c in token):
        yield "numbers"
    elif name:
        yield "names"
