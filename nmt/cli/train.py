"""`nmt train`: from two text files, or a configuration, to a run directory."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from nmt.cli.common import Device
from nmt.errors import UserError
from nmt.files import writing
from nmt.told import shell


def train(
    config: Annotated[
        Path | None,
        typer.Argument(help="YAML file of settings, all optional; with --resume: the run.", metavar="CONFIG"),
    ] = None,
    src: Annotated[Path | None, typer.Option(help="Training text, source side, a sentence per line.")] = None,
    tgt: Annotated[Path | None, typer.Option(help="Target side: line N translates line N of --src.")] = None,
    dev_src: Annotated[Path | None, typer.Option(help="Development text; by default held out of training.")] = None,
    dev_tgt: Annotated[Path | None, typer.Option(help="Its target side.")] = None,
    data: Annotated[Path | None, typer.Option(help="A folder made by `nmt prepare`, instead of text files.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--output", help="The run to create.", metavar="RUN")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting: --set train.steps=2000. May be repeated.", metavar="KEY=VALUE"),
    ] = None,
    device: Device = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace the run that is there.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run from its last checkpoint.")] = False,
    max_time: Annotated[
        str | None,
        typer.Option(help="Stop after so long, like 90m or 1h30m; training may then be resumed.", metavar="TIME"),
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(help="Start from the best weights of this run, with its model and tokenizers.", metavar="RUN2"),
    ] = None,
    parts: Annotated[
        str | None,
        typer.Option(
            help="Of it, only some: embeddings, encoder, decoder, head. The others start afresh.", metavar="PARTS"
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            help="With --init-from, take more than weights: optimizer, schedule or optimizer,schedule.", metavar="WHAT"
        ),
    ] = None,
) -> None:
    """Learn to translate from two text files.

    Learns a tokenizer, prepares the corpus, trains, validates, and leaves in RUN all that `nmt translate` needs. Where
    the settings have no model, one is chosen for the number of pairs, and vocabulary, batches and so on with it.
    Ctrl-C saves; --resume goes on. torchrun lets several processes, or GPUs, train one model. Further corpora, with
    weights and tags, are listed in data.more: see `nmt prepare --help`.

    \b
    Examples:
      nmt train --src train.en --tgt train.de -o runs/first
      nmt train rnn.yaml -o runs/rnn --set train.steps=2000
      nmt train runs/rnn --resume --set train.steps=4000
      nmt train transformer.yaml -o runs/night --max-time 8h
      nmt train --src law.en --tgt law.de -o runs/law --init-from runs/first
      torchrun --nproc-per-node 2 -m nmt train transformer.yaml -o runs/two
    """
    if "WORLD_SIZE" in os.environ:
        from nmt.train.world import this_world

        world = this_world()
        if not world.is_first:
            from nmt.train.session import follow

            return _end(follow(world, device=device))
    budget = None if max_time is None else parse_time(max_time)
    if resume:
        texts = {"--src": src, "--tgt": tgt, "--dev-src": dev_src, "--dev-tgt": dev_tgt, "--data": data}
        given = {**texts, "-o": out, "--init-from": init_from, "--parts": parts, "--keep": keep, "--force": force}
        if config is None or any(given.values()):
            unwanted = ", ".join(name for name, value in given.items() if value)
            raise UserError(
                f"--resume takes a run and no {unwanted}" if unwanted else "--resume needs the run to go on with",
                f"write: {shell('nmt', 'train', out or config or 'RUN', '--resume')}",
            )
        with writing(config, f"go on: {shell('nmt', 'train', config, '--resume')}"):
            from nmt.train.session import go_on

            return _end(go_on(config, settings or [], device=device, budget=budget))
    if config is not None and (config / "config.yaml").is_file():
        raise UserError(
            f"{config} is a run",
            f"to go on with it: {shell('nmt', 'train', config, '--resume')}; "
            f"to make a new one with its settings: {shell('nmt', 'train', config / 'config.yaml', '-o', 'NEW')}",
        )
    section = _data_section(src, tgt, dev_src, dev_tgt, data)
    if config is None and not section:
        raise UserError(
            "there is nothing to train on",
            "name two text files, nmt train --src train.en --tgt train.de -o runs/first, or a file of settings, which "
            "`nmt init` writes",
        )
    if out is None:
        raise UserError("-o is missing: the folder to make, for the run", "name a new one: -o runs/first")
    taken, kept = _taken(parts, ",".join(keep) if keep else None, init_from)
    with writing(out, "repeat the command"):
        from nmt.train.order import Order

        base = {"data": section} if section else {}
        order = Order(config, settings or [], base, out, device, force, init_from, taken, kept, budget)
        checked = order.checked()  # before anything heavy is imported

        from nmt.train.begin import begin

        return _end(begin(order, checked))


def _end(code: int) -> None:
    if code:
        raise typer.Exit(code)


def parse_time(text: str) -> float:
    """Seconds of `90m`, `2h`, `1h30m` or `45s`; UserError for anything else, and for no time at all."""
    match = re.fullmatch(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?", text.strip())
    hours, minutes, seconds = (0, 0, 0) if match is None else (int(part or 0) for part in match.groups())
    total = 3600 * hours + 60 * minutes + seconds
    if not total:
        raise UserError(f"--max-time {text}: not a time", "Write it like 90m, 2h or 1h30m.")
    return float(total)


def _data_section(
    src: Path | None, tgt: Path | None, dev_src: Path | None, dev_tgt: Path | None, data: Path | None
) -> dict[str, str | None]:
    """What the options say of `data`; they replace the configuration's."""
    for one, two, names in ((src, tgt, ("--src", "--tgt")), (dev_src, dev_tgt, ("--dev-src", "--dev-tgt"))):
        if (one is None) != (two is None):
            raise UserError(f"{names[0]} and {names[1]} go together: {names[one is not None]} is missing")
    texts = {"src": src, "tgt": tgt, "dev_src": dev_src, "dev_tgt": dev_tgt}
    if data is not None:
        if any(texts.values()):
            raise UserError("--data holds the text already: drop it, or drop --src, --tgt, --dev-src and --dev-tgt")
        return {**dict.fromkeys(texts), "links": None, "more": None, "prepared": str(data)}
    section: dict[str, str | None] = {name: str(path) for name, path in texts.items() if path is not None}
    # Links in a file of settings are of the text that --src and --tgt replace.
    return {**section, "links": None, "prepared": None} if src is not None else section


def _taken(parts: str | None, keep: str | None, init_from: Path | None) -> tuple[list[str], list[str]]:
    """What `--parts` and `--keep` name."""
    from nmt.train.inherit import PARTS
    from nmt.train.state import KEEPABLE

    taken, kept = _names("--parts", parts, list(PARTS)), _names("--keep", keep, list(KEEPABLE))
    if init_from is None and (taken or kept):
        option, what = ("--parts", "of its weights") if taken else ("--keep", "besides its weights")
        raise UserError(f"{option} says what to take from a run {what}", "name the run: --init-from RUN")
    if kept and taken and len(taken) < len(PARTS):
        raise UserError("--keep goes with the whole of a run, not with parts of it", "drop --keep or --parts")
    return taken or list(PARTS), kept


def _names(option: str, given: str | None, known: list[str]) -> list[str]:
    names = [] if given is None else [name.strip() for name in given.split(",")]
    for name in names:
        if name not in known:
            choice = f"{', '.join(known[:-1])} or {known[-1]}"
            raise UserError(
                f"{option} {name}: there is no such thing",
                f"it may be {choice}, or several, with commas between",
            )
    return list(dict.fromkeys(names))
