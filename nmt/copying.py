"""How well words of the source are copied: precision and recall with clipped counts, and what goes with them.

A *token* is one of:

- a placeholder: `__X__`, `<x>` and `</x>`, `{x}` (also `{{x}}`, `${x}`), `%s` (also `%d`, `%1$s`, `%(x)s`), a URL, an
  e-mail address; also inside a word, so that `<b>bold</b>` is three tokens;
- what is left of a word, between white space and placeholders, without the punctuation and symbols (Unicode categories
  P and S) at its ends;
- each character of that punctuation.

A letter and its mark are one, however they are encoded (NFC).

So `("don't", 5%.` is `(`, `"`, `don't`, `"`, `,`, `5`, `%`, `.`. Case counts. In text without spaces between words only
what stands apart is compared.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmt.bootstrap import Interval, interval, resampled, share
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

LAST_BIN = "100+"

KINDS = ("numbers", "names", "placeholders")

OTHERS = ("numerals", "spans", "kept", "order")
"""What is counted line by line beside the rows."""

MARKS = str.maketrans({**dict.fromkeys(",'’٫٬", "."), **dict.fromkeys("–−", "-")})
GROUPED = re.compile(r"(?<![\d.])[1-9]\d{0,2}(?:\.\d{3})+(?!\d)")
"""Digits in groups of three, once all marks are full stops."""


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
    def f1(self) -> float | None:
        """Harmonic mean of both; None where there is nothing on either side."""
        total = self.in_reference + self.in_output
        return 2 * self.right / total if total else None

    @property
    def spurious(self) -> float | None:
        """1 - precision."""
        return (self.in_output - self.right) / self.in_output if self.in_output else None


class Part(NamedTuple):
    """So many of so many."""

    part: int = 0
    whole: int = 0

    @property
    def share(self) -> float | None:
        return self.part / self.whole if self.whole else None


class Intervals(NamedTuple):
    """95 % bootstrap intervals over lines of what can be said of three counts; see `nmt.bootstrap`."""

    recall: Interval | None
    precision: Interval | None
    f1: Interval | None


class CopyScores(NamedTuple):
    """`rows` by name, in the order to print: `all`, `words`, the training frequencies if known, and the kinds.
    `words` are all tokens but punctuation. The others are not about tokens of the source as they stand:

    - `numerals`: numbers of output and reference, whatever the source has, as `numeral` makes them alike. Its F1 is
      that of multisets, line by line.
    - `spans`: of the longest stretches of two or more source tokens that the reference line has word for word, each
      counted once in a line, those that the output line has.
    - `kept`: of the (line, type) pairs of placeholders in the source, those that the output line has exactly as often.
    - `order`: Kendall's tau, as (pairs in order - pairs out of order) / pairs, of the source's placeholders that stand
      once in the reference line and once in the output line.

    `intervals` by the names of the rows and of these four, of which the last three have a recall only, their share.
    """

    rows: dict[str, Copied]
    numerals: Copied
    spans: Part
    kept: Part
    order: Part
    intervals: dict[str, Intervals]


def tokens(line: str, *, lowercase: bool = False) -> list[str]:
    """The tokens of a line, as the module says, in their order."""
    words = unicodedata.normalize("NFC", line.lower() if lowercase else line).split()
    return [token for word in words for token in _split(word)]


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
        lengths = f"{len(sources)} sources, {len(hypotheses)} hypotheses, {len(references)} references"
        raise UserError(f"copying is compared line by line: {lengths}")
    bins = [] if frequency is None else [*BINS, LAST_BIN]
    rows = ["all", "words", *bins, *KINDS]
    counts = np.zeros((len(sources), len(rows) + len(OTHERS), 3), np.int64)
    for number, texts in enumerate(zip(sources, hypotheses, references, strict=True)):
        src, hyp, ref = (tokens(line, lowercase=lowercase) for line in texts)
        sums = {name: Copied() for name in (*rows, *OTHERS)}
        _count_rows(sums, src, hyp, ref, frequency)
        sums["numerals"] = _common(_numerals(hyp), _numerals(ref))
        sums["spans"] = _spans(src, hyp, ref)
        sums["kept"], sums["order"] = _placeholders(src, hyp, ref)
        counts[number] = list(sums.values())
    found = {name: Copied(*map(int, of)) for name, of in zip((*rows, *OTHERS), counts.sum(axis=0), strict=True)}
    spans, kept, order = (Part(*found[name][:2]) for name in OTHERS[1:])
    intervals = dict(zip(found, _intervals(counts), strict=True))
    intervals |= {name: Intervals(intervals[name].recall, None, None) for name in OTHERS[1:]}
    return CopyScores({name: found[name] for name in rows}, found["numerals"], spans, kept, order, intervals)


def numeral(token: str) -> str:
    """A number as all its spellings are compared: decimal digits of any script as those of ASCII, a decimal comma as a
    point, and no marks between groups of three digits. So 1,000.50 and 1.000,50 are 1000.50; and 3,141 is 3141, since
    what a mark means in a language is not known here."""
    digits = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in token).translate(MARKS)
    return GROUPED.sub(lambda match: match[0].replace(".", ""), digits)


def bin_of(frequency: int) -> str:
    """The name of the row that words of a training frequency count in."""
    return next((row for row, most in BINS.items() if frequency <= most), LAST_BIN)


def _intervals(counts: NDArray[np.int64]) -> list[Intervals]:
    """Of counts by line [N,M,3], for each of the M."""
    sums = resampled(counts)
    if not len(sums):
        return [Intervals(None, None, None)] * counts.shape[1]
    right, in_reference, in_output = (sums[..., n] for n in range(3))
    shares = share(right, in_reference), share(right, in_output), share(2 * right, in_reference + in_output)
    return [Intervals(*(interval(values[:, m]) for values in shares)) for m in range(counts.shape[1])]


def _count_rows(
    sums: dict[str, Copied], src: list[str], hyp: list[str], ref: list[str], frequency: Mapping[str, int] | None
) -> None:
    """Adds the tokens of a line to the rows they belong to."""
    in_hyp, in_ref, names = Counter(hyp), Counter(ref), _names(src)
    for token, in_src in Counter(src).items():
        to_copy, copied = min(in_ref[token], in_src), min(in_hyp[token], in_src)
        for row in _rows(token, token in names, None if frequency is None else frequency.get(token, 0)):
            right, in_reference, in_output = sums[row]
            sums[row] = Copied(right + min(to_copy, copied), in_reference + to_copy, in_output + copied)


def _common(hyp: Counter[str], ref: Counter[str]) -> Copied:
    return Copied((hyp & ref).total(), ref.total(), hyp.total())


def _spans(src: list[str], hyp: list[str], ref: list[str]) -> Copied:
    """How many of the longest stretches of the source that the reference has the output has, too."""
    in_ref, in_hyp = _spelled(ref), _spelled(hyp)
    spans: set[str] = set()
    end = 0
    for start in range(len(src)):
        before, end = end, max(end, start)
        while end < len(src) and _spelled(src[start : end + 1]) in in_ref:
            end += 1
        if end > before and end - start > 1:  # else it is within the one that starts further left
            spans.add(_spelled(src[start:end]))
    return Copied(sum(span in in_hyp for span in spans), len(spans), 0)


def _spelled(words: list[str]) -> str:
    return f" {' '.join(words)} "


def _placeholders(src: list[str], hyp: list[str], ref: list[str]) -> tuple[Copied, Copied]:
    """How many are kept, and pairs in order less pairs out of order."""
    in_hyp, in_ref = Counter(hyp), Counter(ref)
    found = Counter(token for token in src if PLACEHOLDER.fullmatch(token))
    kept = sum(in_hyp[token] == in_src for token, in_src in found.items())
    once = [token for token in found if in_hyp[token] == in_ref[token] == 1]
    signs = [
        1 if (hyp.index(one) < hyp.index(other)) == (ref.index(one) < ref.index(other)) else -1
        for one, other in combinations(once, 2)
    ]
    return Copied(kept, len(found), 0), Copied(sum(signs), len(signs), 0)


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


def _is_number(token: str) -> bool:
    return any(map(str.isdecimal, token)) and all(c.isdecimal() or c in DIGIT_PUNCTUATION for c in token)


def _numerals(line: list[str]) -> Counter[str]:
    return Counter(numeral(token) for token in line if _is_number(token))


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
        yield bin_of(frequency)
    if PLACEHOLDER.fullmatch(token):
        yield "placeholders"
    elif _is_number(token):
        yield "numbers"
    elif name:
        yield "names"
