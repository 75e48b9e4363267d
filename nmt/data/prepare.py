"""From text files to what training reads: tokenizers, and a corpus each for training and development.

tokenizer/     learned from the training part only: all its corpora alike, whatever their weights
train/, dev/   memory-mapped corpora (nmt.data.corpus)
data.json      counts, what came from where, fingerprints, settings
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NotRequired

from typing_extensions import TypedDict

from nmt.config import Config, TokenizerConfig
from nmt.data.corpus import AGAIN, Corpus, Counts, write_parts
from nmt.data.look import Report, Text, TextPart, check_empty, has_text, look, so_many
from nmt.data.plan import Part
from nmt.errors import UserError
from nmt.files import check_new, json_text, written_aside
from nmt.records import Count, read_json
from nmt.text.learn import check_tags, learn_tokenizers
from nmt.text.survey import unknown_share
from nmt.text.tokenizer import Tokenizer, load_tokenizers, tokenizer_digest
from nmt.workers import usable_cores

TOLD_UNKNOWN, MOST_UNKNOWN = 0.2, 0.75
"""Shares of unknown tokens: beyond the first it is told, beyond the second refused, where a vocabulary is there
already."""


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
        return (
            f"{so_many(self.counts.pairs)} of {self.src}" + weight * (self.weight != 1) + tag * (self.tag is not None)
        )


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
    tokenizer_sha256: NotRequired[str]  # not of an earlier version
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
    config: Config,
    folder: Path,
    *,
    report: Report,
    tokenizers: tuple[Tokenizer, Tokenizer] | None = None,
    text: Text | None = None,
) -> Prepared:
    """Turns the text that `config.data` names into a new `folder`, which is there completely or not at all.

    `tokenizers` (source, target) are used where given, else learned from the training part. Without development
    files, some of the text of `data.src` and `data.tgt` is held out: see `choose_held_out`; what has a source line of
    these is left out of the other corpora, too. `report` gets a line for each thing worth telling. Raises UserError for
    text that cannot be used, before anything is learned from it; `text` is what `look` gave, where it was called
    before. All cores that `usable_cores` knows of tokenize.
    """
    check_new(folder)
    tags = list(dict.fromkeys(more.tag for more in config.data.more if more.tag is not None))
    text = text or look(config, report)
    train, dev = text.train, text.dev
    learned = tokenizers is None and getattr(config.tokenizer, "path", None) is None
    with text.progress, written_aside(folder, overwrite=False) as draft:
        if tokenizers is None:
            report("learning the tokenizer")
            tokenizers = learn_tokenizers(
                config.tokenizer,
                lambda: (pair.src for part in train for pair in part.pairs("learning") if has_text(pair)),
                lambda: (pair.tgt for part in train for pair in part.pairs("learning") if has_text(pair)),
                tags=tags,
            )
        check_tags(tokenizers[0], tags)
        sizes = [len(tokenizer) for tokenizer in tokenizers]
        joint = tokenizers[0] is tokenizers[1]
        asked = config.tokenizer.size
        other = f" ({asked:,} asked for)" if learned and _is_other(config.tokenizer, sizes) else ""
        report(f"vocabulary: {sizes[0]:,} {'joint' if joint else f'source, {sizes[1]:,} target'}{other}")
        if not learned:
            _check_known(text, tokenizers, report)
        (draft / "tokenizer").mkdir()
        for tokenizer, side in zip(tokenizers, ("src", "tgt"), strict=True):
            tokenizer.save(draft / "tokenizer", side)
        about = {
            "train": _write(train, draft / "train", tokenizers, config.data.max_length, report),
            "dev": _write([dev], draft / "dev", tokenizers, config.search.max_source, report),
            "max_length": config.data.max_length,
            "tokenizer": tokenizers[0].settings.model_dump(),
            "vocabulary": sizes,
            "tokenizer_sha256": tokenizer_digest(draft / "tokenizer"),
        }
        (draft / "data.json").write_text(json_text(about), "utf-8")
    return open_prepared(folder)


def _is_other(tokenizer: TokenizerConfig, sizes: Sequence[int]) -> bool:
    """Whether a vocabulary has another size than was asked for. Of words and characters the size is a limit."""
    return tokenizer.kind == "sentencepiece" and any(size != tokenizer.size for size in sizes)


def _check_known(text: Text, tokenizers: tuple[Tokenizer, Tokenizer], report: Report) -> None:
    """UserError if vocabularies that are there already know almost nothing of a text."""
    files = (text.train[0].text.src, text.train[0].text.tgt)
    for file, tokenizer, lines in zip(files, tokenizers, text.first_lines(), strict=True):
        share = unknown_share(tokenizer, lines)
        if share < TOLD_UNKNOWN:
            continue
        told = f"{file}: the vocabulary does not know {share:.0%} of the tokens of its first {len(lines):,} lines"
        if share > MOST_UNKNOWN:
            raise UserError(
                told,
                "It was learned from other text, perhaps of another language; are source and target the wrong way "
                "round? With --init-from, --parts encoder,decoder takes no vocabulary: a new one is learned.",
            )
        report(told)


def open_prepared(folder: Path, *, whole: bool = False) -> Prepared:
    """What `prepare` made; UserError if there is nothing of the kind, or if it is damaged. With `whole` all of it is
    read, to see whether it is as it was written: a second or two for a million pairs."""
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
        if whole:
            corpus.check_content()
    digest = tokenizer_digest(folder / "tokenizer")
    if (about["vocabulary"], about.get("tokenizer_sha256", digest)) != ([len(one) for one in tokenizers], digest):
        raise UserError(f"{folder / 'tokenizer'} does not hold the tokenizers that {path} speaks of", AGAIN)
    sources = about["train"].get("sources", [])
    return Prepared(folder, tokenizers, corpora["train"], corpora["dev"], counts, sources)


def read_about(folder: Path) -> Any:
    """What data.json of a prepared folder says, an `About`; UserError if it is damaged."""
    return read_json(folder / "data.json", About, AGAIN)


def _write(
    parts: Sequence[TextPart],
    folder: Path,
    tokenizers: tuple[Tokenizer, Tokenizer],
    max_length: int,
    report: Report,
) -> dict[str, object]:
    """Writes the corpus that several parts make together; returns what data.json says of it."""
    name = parts[0].name
    limit = "data.max_length" if name == "training" else "search.max_source"
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
        counts = counts._replace(bad=part.bad, too_long=counts.too_long + part.endless)
        reasons = {
            "with an empty side": counts.empty,
            f"longer than {max_length} tokens ({limit})": counts.too_long,
            "with a line that is not UTF-8": counts.bad,
            "with a source line that is held out": part.lines - counts.total if part is not parts[0] else 0,
        }
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items() if count)
        if counts.pairs == 0:
            raise UserError(f"{part.text}: no {name} pair is left: {left_out}")
        check_empty(part.text, counts.empty, part.lines, "The tokenizer finds no token in some of them.")
        sources.append(Source(str(part.text.src), str(part.text.tgt), part.weight, part.tag, counts))
        unlinked = f"; {counts.unlinked:,} without their links: the tokenizer makes other words of the line"
        lines.append((f"; left out: {left_out}" if left_out else "") + unlinked * bool(counts.unlinked))
    total = Counts(*map(sum, zip(*(source.counts for source in sources), strict=True)))
    if len(parts) == 1:
        report(f"{name}: {so_many(total.pairs)}{lines[0]}")
    else:
        report(f"{name}: {so_many(total.pairs)}")
        for source, left_out in zip(sources, lines, strict=True):
            report(f"  {source}{left_out}")
    return {
        "counts": total._asdict(),
        "sources": [{**source._asdict(), "counts": source.counts._asdict()} for source in sources],
        "fingerprint": Corpus.open(folder).fingerprint,
    }
