"""From text files to what training reads: tokenizers, and a corpus each for training and development.

tokenizer/     learned from the training part only: all its corpora alike, whatever their weights
train/, dev/   memory-mapped corpora (nmt.data.corpus)
data.json      counts, what came from where, fingerprints, settings
"""

from __future__ import annotations

import hashlib
import os
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, NotRequired

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from typing_extensions import TypedDict

from nmt.config import Config
from nmt.data.corpus import AGAIN, Corpus, Counts, write_parts
from nmt.data.plan import Part
from nmt.errors import UserError
from nmt.files import check_place, json_text, written_aside
from nmt.records import Count, read_json
from nmt.settings.paths import check_files
from nmt.text.learn import check_tags, learn_tokenizers
from nmt.text.lines import BadPair, Pair, read_parallel
from nmt.text.links import Links, link_pairs
from nmt.text.tokenizer import Tokenizer, load_tokenizers
from nmt.workers import usable_cores

MOST_HELD_OUT = 1000
SHARE_HELD_OUT = 0.02
MOST_EMPTY = 0.1
"""Share of pairs with an empty side beyond which the files are taken not to belong together."""

Report = Callable[[str], None]
Hashes = NDArray[np.uint64]


class Source(NamedTuple):
    """Where some of the training pairs came from."""

    src: str
    tgt: str
    weight: float
    tag: str | None
    counts: Counts

    def __str__(self) -> str:
        weight = f", weight {self.weight:g}: {Part(self.counts.pairs, self.weight).slots:,} an epoch"
        tag = f", each source with {self.tag} before it"
        return f"{_pairs(self.counts.pairs)} of {self.src}" + weight * (self.weight != 1) + tag * (self.tag is not None)


class PartAbout(TypedDict):
    """What data.json says of the training or the development part."""

    counts: Counts
    fingerprint: str
    sources: NotRequired[list[Source]]


class About(TypedDict):
    """What data.json says, as far as it is read."""

    train: PartAbout
    dev: PartAbout
    tokenizer: dict[str, Any]
    vocabulary: list[Count]
    max_length: Count | None


class Prepared(NamedTuple):
    """Everything about the text that training needs."""

    folder: Path
    tokenizers: tuple[Tokenizer, Tokenizer]  # source, target; one object twice when joint
    train: Corpus
    dev: Corpus
    counts: dict[str, Counts]  # of "train" and "dev"
    sources: list[Source]  # the corpora that "train" is made of, in its order


def prepare(
    config: Config, folder: Path, *, report: Report, tokenizers: tuple[Tokenizer, Tokenizer] | None = None
) -> Prepared:
    """Turns the text that `config.data` names into a new `folder`, which is there completely or not at all.

    `tokenizers` (source, target) are used where given, else learned from the training part. Without development
    files, some of the text of `data.src` and `data.tgt` is held out: see `choose_held_out`; what has a source line of
    these is left out of the other corpora, too. `report` gets a line for each thing worth telling. Raises UserError for
    text that cannot be used, before anything is learned from it. All cores that `usable_cores` knows of tokenize.
    """
    _check_free(folder)
    tags = list(dict.fromkeys(more.tag for more in config.data.more if more.tag is not None))
    with _progress() as progress:
        train, dev = _split(config, progress, report)
        with written_aside(folder, overwrite=False) as draft:
            if tokenizers is None:
                report("learning the tokenizer")
                tokenizers = learn_tokenizers(
                    config.tokenizer,
                    lambda: (pair.src for part in train for pair in part.pairs("learning") if _has_text(pair)),
                    lambda: (pair.tgt for part in train for pair in part.pairs("learning") if _has_text(pair)),
                    tags=tags,
                )
            check_tags(tokenizers[0], tags)
            sizes = [len(tokenizer) for tokenizer in tokenizers]
            joint = tokenizers[0] is tokenizers[1]
            report(f"vocabulary: {sizes[0]:,} {'joint' if joint else f'source, {sizes[1]:,} target'}")
            (draft / "tokenizer").mkdir()
            for tokenizer, side in zip(tokenizers, ("src", "tgt"), strict=True):
                tokenizer.save(draft / "tokenizer", side)
            about = {
                "train": _write(train, draft / "train", tokenizers, config.data.max_length, report),
                "dev": _write([dev], draft / "dev", tokenizers, None, report),
                "max_length": config.data.max_length,
                "tokenizer": tokenizers[0].settings.model_dump(),
                "vocabulary": sizes,
            }
            (draft / "data.json").write_text(json_text(about), "utf-8")
    return open_prepared(folder)


def open_prepared(folder: Path) -> Prepared:
    """What `prepare` made; UserError if there is nothing of the kind, or if it is damaged."""
    path = folder / "data.json"
    if not path.is_file():
        what = "was not made by `nmt prepare`: it has no data.json" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {what}", "Make it with `nmt prepare`.")
    tokenizers = load_tokenizers(folder / "tokenizer")
    corpora = {name: Corpus.open(folder / name) for name in ("train", "dev")}
    about = read_about(folder)
    counts = {name: about[name]["counts"] for name in corpora}
    for name, corpus in corpora.items():
        if about[name]["fingerprint"] != corpus.fingerprint:
            raise UserError(f"{folder / name} is not the corpus that {path} speaks of", AGAIN)
    if about["vocabulary"] != [len(tokenizer) for tokenizer in tokenizers]:
        raise UserError(f"{folder / 'tokenizer'} does not hold the tokenizers that {path} speaks of", AGAIN)
    sources = about["train"].get("sources", [])
    return Prepared(folder, tokenizers, corpora["train"], corpora["dev"], counts, sources)


def read_about(folder: Path) -> Any:
    """What data.json of a prepared folder says, an `About`; UserError if it is damaged."""
    return read_json(folder / "data.json", About, AGAIN)


def choose_held_out(hashes: Hashes) -> frozenset[int]:
    """Which source lines to hold out of training, with all pairs that have them.

    `hashes` [n] are those of the source lines of all pairs. Chosen are the lowest hashes, so that neither order nor
    chance decides, up to 1,000 pairs and 2 % of all; but at least one source line, if need be the one with the fewest
    pairs. The result is empty where all source lines are equal.
    """
    lines, counts = np.unique(hashes, return_counts=True)
    if len(lines) < 2:
        return frozenset()
    wanted = min(MOST_HELD_OUT, int(len(hashes) * SHARE_HELD_OUT))
    fitting = counts <= wanted  # a very frequent line may not take all the room
    chosen = lines[fitting][np.cumsum(counts[fitting]) <= wanted]
    return frozenset(chosen.tolist() or [int(lines[np.argmin(counts)])])


@dataclass(frozen=True)
class _Text:
    """Two files, to be read again and again."""

    src: Path
    tgt: Path
    links: Path | None
    drop_bad: bool
    progress: Progress
    lines: int | None = None  # None: not read yet

    def __str__(self) -> str:
        return f"{self.src} and {self.tgt}"

    def read(self, doing: str) -> Iterator[Pair | BadPair]:
        """All pairs; `doing` is what for, to be shown meanwhile."""
        task = self.progress.add_task(f"{doing}: {self.src.name}", total=self.lines)
        pairs = read_parallel(self.src, self.tgt, drop_bad=self.drop_bad)
        if self.links is not None:
            pairs = link_pairs(pairs, self.links)
        try:
            yield from self.progress.track(pairs, total=self.lines, task_id=task, update_period=0.5)
        finally:
            self.progress.remove_task(task)


@dataclass(frozen=True)
class _Part:
    """The pairs of a text that serve one purpose: those with certain source lines, those without, or all."""

    name: str
    text: _Text
    lines: int  # of the whole text
    bad: int
    hashes: frozenset[int] = frozenset()
    wanted: bool = False
    weight: float = 1.0
    tag: str | None = None

    def tagged(self) -> Iterator[tuple[str, str, Links]]:
        for _, src, tgt, links in self.pairs("tokenizing"):  # links are of the first text only, which has no tag
            yield (src if self.tag is None or not src.strip() else f"{self.tag} {src}"), tgt, links

    def pairs(self, doing: str) -> Iterator[Pair]:
        for pair in self.text.read(doing):
            if isinstance(pair, Pair) and (bool(self.hashes) and _hash(pair.src) in self.hashes) == self.wanted:
                yield pair


class _Survey(NamedTuple):
    hashes: Hashes  # of the source lines of the pairs with text on both sides
    lines: int
    bad: int


def _split(config: Config, progress: Progress, report: Report) -> tuple[list[_Part], _Part]:
    """Checks all the text, and says which of it is for training and which for development."""
    data = config.data
    if data.src is None or data.tgt is None:
        raise UserError(
            "there is no text to prepare: data.src and data.tgt are not set",
            "Name the files with --src and --tgt, or in a configuration file.",
        )
    check_files(config)

    def look(src: str, tgt: str, links: str | None = None) -> tuple[_Text, _Survey]:
        text = _Text(Path(src), Path(tgt), None if links is None else Path(links), data.bad_lines == "drop", progress)
        survey = _survey(text, report)
        return replace(text, lines=survey.lines), survey

    text, survey = look(data.src, data.tgt, data.links)
    if data.dev_src is not None and data.dev_tgt is not None:
        held_out: frozenset[int] = frozenset()
        dev_text, dev_survey = look(data.dev_src, data.dev_tgt)
        dev = _Part("development", dev_text, dev_survey.lines, dev_survey.bad)
    else:
        held_out = _hold_out(text, survey, report)
        # What is not UTF-8 is counted with the training part, for it cannot be told where it would have gone.
        dev = _Part("development", text, survey.lines, 0, held_out, wanted=True)
    train = [_Part("training", text, survey.lines, survey.bad, held_out)]
    for more in data.more:
        text, survey = look(more.src, more.tgt)
        train.append(_Part("training", text, survey.lines, survey.bad, held_out, weight=more.weight, tag=more.tag))
    return train, dev


def _hold_out(text: _Text, survey: _Survey, report: Report) -> frozenset[int]:
    held_out = choose_held_out(survey.hashes)
    if not held_out:
        raise UserError(
            f"{text.src}: all source lines are the same, so none can be held out for development",
            "Give development files: --dev-src and --dev-tgt.",
        )
    count = int(np.isin(survey.hashes, np.array(list(held_out), np.uint64)).sum())
    report(f"no development files: held out {count:,} of {_pairs(len(survey.hashes))}, by a hash of the source line")
    return held_out


def _survey(text: _Text, report: Report) -> _Survey:
    """Reads the text once. Raises UserError if it cannot be used."""
    for path in (text.src, text.tgt, text.links):
        if path is not None and not path.is_file():
            raise UserError(f"{path} is not a plain file", "It is read more than once: write the text to a file first.")
    if os.path.samefile(text.src, text.tgt):
        report(f"{text.src} is both sides: what is learned from it is to copy")
    hashes = array("Q")
    total = bad = empty = first_empty = 0
    for total, pair in enumerate(text.read("reading"), start=1):  # noqa: B007
        if isinstance(pair, BadPair):
            if bad == 0:
                report(f"left out: {pair.reason}")
            bad += 1
        elif _has_text(pair):
            hashes.append(_hash(pair.src))
        else:
            first_empty = first_empty or pair.number
            empty += 1
    if total == 0:
        raise UserError(f"{text} are empty")
    _check_empty(text, empty, total, f"The first is line {first_empty}. Do the files belong together?")
    if not hashes:
        raise UserError(f"{text}: no pair is left: {bad:,} with a line that is not UTF-8")
    return _Survey(np.array(hashes, np.uint64), total, bad)


def _write(
    parts: Sequence[_Part],
    folder: Path,
    tokenizers: tuple[Tokenizer, Tokenizer],
    max_length: int | None,
    report: Report,
) -> dict[str, object]:
    """Writes the corpus that several parts make together; returns what data.json says of it."""
    name = parts[0].name
    written = write_parts(
        folder,
        [(part.tagged(), part.weight) for part in parts],
        tokenizers,
        max_length=max_length,
        workers=usable_cores(),
        linked=any(part.text.links is not None for part in parts),
    )
    sources, lines = [], []
    for part, counts in zip(parts, written, strict=True):
        counts = counts._replace(bad=part.bad)
        reasons = {
            "with an empty side": counts.empty,
            f"longer than {max_length} tokens (data.max_length)": counts.too_long,
            "with a line that is not UTF-8": counts.bad,
            "with a source line that is held out": part.lines - counts.total if part is not parts[0] else 0,
        }
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items() if count)
        if counts.pairs == 0:
            raise UserError(f"{part.text}: no {name} pair is left: {left_out}")
        _check_empty(part.text, counts.empty, part.lines, "The tokenizer finds no token in some of them.")
        sources.append(Source(str(part.text.src), str(part.text.tgt), part.weight, part.tag, counts))
        unlinked = f"; {counts.unlinked:,} without their links: the tokenizer makes other words of the line"
        lines.append((f"; left out: {left_out}" if left_out else "") + unlinked * bool(counts.unlinked))
    total = Counts(*map(sum, zip(*(source.counts for source in sources), strict=True)))
    if len(parts) == 1:
        report(f"{name}: {_pairs(total.pairs)}{lines[0]}")
    else:
        report(f"{name}: {_pairs(total.pairs)}")
        for source, left_out in zip(sources, lines, strict=True):
            report(f"  {source}{left_out}")
    return {
        "counts": total._asdict(),
        "sources": [{**source._asdict(), "counts": source.counts._asdict()} for source in sources],
        "fingerprint": Corpus.open(folder).fingerprint,
    }


def _check_empty(text: _Text, empty: int, total: int, hint: str) -> None:
    if empty > MOST_EMPTY * total:
        raise UserError(f"{text}: {empty:,} of {_pairs(total)} have an empty side, more than {MOST_EMPTY:.0%}", hint)


def _check_free(folder: Path) -> None:
    check_place(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty", "Choose another folder, or remove this one first.")


def _pairs(count: int) -> str:
    return f"{count:,} pair" + "s" * (count != 1)


def _has_text(pair: Pair) -> bool:
    return bool(pair.src.strip()) and bool(pair.tgt.strip())


def _hash(line: str) -> int:
    return int.from_bytes(hashlib.sha256(line.strip().encode()).digest()[:8], "little")


def _progress() -> Progress:
    """A passing bar on the terminal, or nothing where there is none."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),  # it has names of files
        BarColumn(),
        "{task.completed:,.0f} pairs",
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
