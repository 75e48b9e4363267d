"""The phrasebook: an English-French-like corpus generated here, with its own gold word alignment.

English determines French, so a model can learn all of it; the text is tokenized (a space between words) and in lower
case but for proper names. `words` has the vocabulary, `grammar` builds both languages side by side, `sampler` draws
sentences, and here are the splits. They never overlap, whatever the seed: train, dev and test share out the English
sentences by a checksum, `long` has longer sentences than those, and in `names` every sentence has a name that no
other split has.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from nmt.data.phrasebook.grammar import (
    FUTURE,
    PAST,
    PRESENT,
    Link,
    Phrase,
    clause,
    missing,
    name,
    noun_phrase,
    predicate,
    prepositional,
    pronoun,
    relative,
    render,
)
from nmt.data.phrasebook.sampler import Dice, Sampler
from nmt.data.phrasebook.words import ADJECTIVES, ETRE, NOUNS, VERBS, Adjective, Noun, Verb

__all__ = ["SEEN_NAMES", "SHOWCASE", "SPLITS", "UNSEEN_NAMES", "Example", "Link", "generate", "write_phrasebook"]

Split = Literal["train", "dev", "test", "names", "long"]
SPLITS: tuple[Split, ...] = get_args(Split)
MAX_LENGTH = 20
"""English words of the longest sentence outside the split `long`."""
LONG = range(25, 46)
"""English words of a sentence in `long`."""
SHARES = {0: "dev", 1: "test"}
"""Which sixths of the English sentences are kept for dev and test; train has the others."""


class Example(NamedTuple):
    """A pair; the links are positions of English and French words, from 0."""

    src: str
    tgt: str
    links: frozenset[Link]
    has_unseen_name: bool

    @property
    def talp(self) -> str:
        """The links in Pharaoh format: `i-j` sure, `i?j` possible, sorted."""
        return " ".join(f"{i}{'-' if sure else '?'}{j}" for i, j, sure in sorted(self.links))


def _invent_names(*, seen: int, unseen: int) -> tuple[list[str], list[str]]:
    """Names that nobody has, in two lists. None begins with a vowel, before which French would elide de and que: the
    words around a name do not depend on it."""
    dice, names = Dice(0), dict[str, None]()
    onsets = [*"bcdfgklmnprstv", "br", "cl", "dr", "fl", "gr", "kr", "pl", "st", "tr"]
    while len(names) < seen + unseen:
        text = "".join(dice.pick(onsets) + dice.pick("aeiou") for _ in range(2 + dice.below(2)))
        names[(text + dice.pick(("", "l", "n", "r", "s", "rd", "ck", "nt"))).capitalize()] = None
    return list(names)[:seen], list(names)[seen:]


SEEN_NAMES, UNSEEN_NAMES = _invent_names(seen=200, unseen=2000)
"""Surnames and towns of the other splits, and those of the split `names`."""
_UNSEEN = frozenset(UNSEEN_NAMES)


def example(phrase: Phrase) -> Example:
    src, tgt, links = render(phrase)
    return Example(src, tgt, links, not _UNSEEN.isdisjoint(src.split()))


def generate(split: Split, count: int, *, seed: int = 1) -> list[Example]:
    """`count` different examples of a split, the same for a seed everywhere.

    Train begins with "he hit me with a pie"; the other sentences of `SHOWCASE` are in no split.
    """
    sampler = Sampler(Dice(seed * len(SPLITS) + SPLITS.index(split)), UNSEEN_NAMES if split == "names" else SEEN_NAMES)
    examples = {SHOWCASE[0].src: SHOWCASE[0]} if split == "train" and count else {}
    reserved = {shown.src for shown in SHOWCASE}
    while len(examples) < count:
        phrase = sampler.sentence(long=split == "long")
        if len(phrase.en) not in (LONG if split == "long" else range(MAX_LENGTH + 1)):
            continue
        if split in ("train", "dev", "test"):
            spelled = " ".join([word.text for word in phrase.en])
            if SHARES.get(zlib.crc32(spelled.encode()) % 6, "train") != split:
                continue
        drawn = example(phrase)
        if drawn.has_unseen_name == (split == "names") and drawn.src not in reserved:
            examples.setdefault(drawn.src, drawn)
    return list(examples.values())


def write_phrasebook(
    folder: Path,
    *,
    seed: int = 1,
    train: int = 20_000,
    dev: int = 1_000,
    test: int = 1_000,
    names: int = 300,
    long: int = 300,
) -> list[Path]:
    """Writes SPLIT.en, SPLIT.fr and SPLIT.talp (gold alignment) for each split and for the showcase, and README.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    counts: Mapping[Split, int] = {"train": train, "dev": dev, "test": test, "names": names, "long": long}
    written: list[Path] = []
    for split, examples in [*((s, generate(s, n, seed=seed)) for s, n in counts.items()), ("showcase", list(SHOWCASE))]:
        for suffix, lines in (
            ("en", [pair.src for pair in examples]),
            ("fr", [pair.tgt for pair in examples]),
            ("talp", [pair.talp for pair in examples]),
        ):
            path = folder / f"{split}.{suffix}"
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
            written.append(path)
    sizes = "\n".join(f"  {split:9} {count:6} pairs" for split, count in counts.items())
    readme = folder / "README.txt"
    readme.write_text(_README.format(seed=seed, sizes=sizes), encoding="utf-8", newline="\n")
    return [*written, readme]


_README = """The phrasebook: an English-French-like corpus, generated by `nmt fetch phrasebook` (seed {seed}).
No rights reserved (CC0 1.0).

{sizes}
  showcase       a few sentences for pictures; the first one is also in train

SPLIT.en and SPLIT.fr: line N translates line N; words are separated by spaces.
SPLIT.talp: gold word links, English-French, from 0; i-j is sure, i?j possible.
names: every sentence has a name that train does not have and that has to be copied.
long: 25 to 45 English words; the other splits have at most 20.

English leaves a few things open; here i, you, we and they are masculine, and you is the plural (or polite) vous.
The English past is the French compound past (saw - a vu), but was and had are the imperfect.
"""


def _noun(text: str) -> Noun:
    return next(noun for nouns in NOUNS.values() for noun in nouns if noun.en[0] == text)


def _verb(text: str) -> Verb:
    return next(verb for verbs in VERBS.values() for verb in verbs if verb.en == text)


def _adjective(text: str) -> Adjective:
    return next(adjective for group in ADJECTIVES.values() for adjective in group if adjective.en == text)


def _showcase() -> tuple[Example, ...]:
    """Sentences worth a picture, built word by word."""
    he, she, i, we = (pronoun(n, subject=True) for n in (1, 2, 0, 3))
    pie = clause(he, predicate(he.agreement, _verb("hit"), PAST, direct=pronoun(0)))
    book = noun_phrase(_noun("book"), before=_adjective("little"), after=_adjective("red"))
    gave = clause(she, predicate(she.agreement, _verb("give"), PAST, direct=book, indirect=pronoun(1)))
    potatoes = noun_phrase(_noun("potato"), determiner="any", plural=True)
    eat = clause(i, predicate(i.agreement, _verb("eat"), PRESENT, negation="not", direct=potatoes))
    car = noun_phrase(_noun("car"), after=_adjective("white"), owner=name("Sophie"))
    sell = clause(we, predicate(we.agreement, _verb("sell"), FUTURE, direct=car))
    miss = missing(i, noun_phrase(_noun("mother"), determiner="my"), _verb("miss"), PRESENT)
    letters = noun_phrase(_noun("letter"), plural=True)
    wrote = clause(she, predicate(she.agreement, _verb("write"), PAST, gap=letters.agreement))
    window = prepositional("in front of", "devant", noun_phrase(_noun("window")))
    are = predicate(letters.agreement, ETRE, PRESENT, rest=[window])
    where = clause(relative(letters, ("that", "que"), wrote), are)
    return tuple(example(phrase) for phrase in (pie, gave, eat, sell, miss, where))


SHOWCASE = _showcase()
"""Sentences for pictures; the first one, the idiom, is also the first of train."""
