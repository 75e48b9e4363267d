"""`nmt train`: from two text files, or a configuration, to a run directory."""

from __future__ import annotations

import datetime
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmt.errors import UserError

if TYPE_CHECKING:
    from nmt.config import Config
    from nmt.data.prepare import Prepared
    from nmt.rundir import RunDir
    from nmt.train.metrics import Console

RESUMABLE = ("steps", "patience", "log_every", "validate_every", "samples", "keep", "average")
"""Settings of `train` that may change when a run goes on; any other would make it another experiment."""


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
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
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
) -> None:
    """Learn to translate from two text files.

    Learns a tokenizer, prepares the corpus, trains, validates, and leaves in RUN all that `nmt translate` needs.
    Ctrl-C saves; --resume goes on.

    \b
    Examples:
      nmt train --src train.en --tgt train.de -o runs/first
      nmt train rnn.yaml -o runs/rnn --set train.steps=2000
      nmt train runs/rnn --resume --set train.steps=4000
      nmt train transformer.yaml -o runs/night --max-time 8h
    """
    overrides = settings or []
    budget = None if max_time is None else parse_time(max_time)
    if resume:
        texts = {"--src": src, "--tgt": tgt, "--dev-src": dev_src, "--dev-tgt": dev_tgt, "--data": data}
        given = {**texts, "-o": out, "--init-from": init_from, "--force": force}
        if config is None or any(given.values()):
            unwanted = ", ".join(name for name, value in given.items() if value)
            raise UserError(
                f"--resume takes a run and no {unwanted}" if unwanted else "--resume needs the run to go on with",
                f"write: nmt train {shlex.quote(str(out or config or 'RUN'))} --resume",
            )
        _resume(config, overrides, device, budget)
    else:
        if out is None:
            raise UserError("no place for the run", "name a new folder: -o runs/first")
        section = _data_section(src, tgt, dev_src, dev_tgt, data)
        _start(config, section, overrides, out, device=device, force=force, init_from=init_from, budget=budget)


def _start(
    path: Path | None,
    texts: Mapping[str, str | None],
    overrides: list[str],
    out: Path,
    *,
    device: str,
    force: bool,
    init_from: Path | None,
    budget: float | None,
) -> None:
    from nmt.settings import check_files, load_config

    if path is not None and path.is_dir():
        raise UserError(
            f"{path} is a folder, not a file of settings", f"to go on with a run: nmt train {path} --resume"
        )
    base: dict[str, Any] = {"data": texts} if texts else {}
    config = load_config(path, overrides, base)  # mistakes are reported before anything heavy is imported
    if config.data.src is None and config.data.prepared is None:
        raise UserError(
            "no training text", "give --src and --tgt, or --data, or a configuration with `data: {src: ..., tgt: ...}`"
        )
    check_files(config, path, vectors=init_from is None)
    unread = [] if init_from is None else config.model.embedding.vectors

    from nmt.rundir import RunDir

    RunDir.check_free(out, overwrite=force)
    other = None
    if init_from is not None:
        other = RunDir(init_from)
        other.check_code()
        base |= {"model": other.config.model.model_dump(), "tokenizer": other.config.tokenizer.model_dump()}
        config = load_config(path, overrides, base)
        _check_vectors_of(other, config)
    else:
        from nmt.text.vectors import check_vectors

        for file in config.model.embedding.vectors:
            check_vectors(Path(file), config.model.embedding.width)
    _check_outside(out, config, init_from)
    if config.model.own_code:  # its mistakes are told before hours are spent on the text
        from nmt.models.build import build_model

        build_model(config.model, 4, 4)

    from nmt.data.prepare import open_prepared, prepare
    from nmt.device import resolve_device, resolve_precision
    from nmt.train.metrics import Console

    place = resolve_device(device)
    weights = None if other is None else other.checkpoint()
    tokenizers = None if other is None else other.tokenizers()
    precision = resolve_precision(config.train.precision, place)  # fixed for the life of the run
    config = config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})
    console = Console()
    if unread or (init_from is not None and config.model.embedding.vectors):
        console.say(f"word vectors are not read: the weights come from {init_from}")
    draft = None
    try:
        if config.data.prepared is not None:
            prepared = open_prepared(Path(config.data.prepared))
            _check_tokenizers(prepared, other)
            config = _with_tokenizer_of(prepared, config, path)
        else:
            out.parent.mkdir(parents=True, exist_ok=True)
            draft = out.with_name(f".{out.name}.{os.getpid()}.data.tmp")
            prepared = prepare(config, draft, report=console.say, tokenizers=tokenizers)
        run = RunDir.create(
            out, config, prepared.tokenizers, overwrite=force, data=draft, facts={"fingerprint": _fingerprint(prepared)}
        )
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)
    if draft is not None:
        prepared = open_prepared(run.path / "data")
    _train(run, prepared, console, device, budget=budget, init_from=weights)


def _resume(path: Path, overrides: list[str], device: str, budget: float | None) -> None:
    from nmt.rundir import RunDir
    from nmt.settings import load_config

    run = RunDir(path)
    run.check_code()
    config = load_config(path / "config.yaml", overrides)
    fixed = [key for key in _differences(run.config.model_dump(), config.model_dump()) if not _may_change(key)]
    if fixed:
        raise UserError(
            f"a run that goes on keeps its settings: {', '.join(fixed)} cannot change",
            f"what may: {', '.join(f'train.{name}' for name in RESUMABLE)}; for others start a new run "
            f"(--init-from {path} takes its weights)",
        )

    from nmt.data.prepare import open_prepared
    from nmt.train.metrics import Console

    folder = path / "data" if config.data.prepared is None else Path(config.data.prepared)
    prepared = open_prepared(folder)
    if run.facts.get("fingerprint") != _fingerprint(prepared):
        raise UserError(f"{folder} is not the corpus that {path} was trained on", "start a new run on it")
    if config != run.config:
        run.replace_config(config)
    _train(run, prepared, Console(), device, budget=budget, resume=True)


def _train(
    run: RunDir,
    prepared: Prepared,
    console: Console,
    device: str,
    *,
    budget: float | None,
    resume: bool = False,
    init_from: Path | None = None,
) -> None:
    from nmt.device import describe_machine, resolve_device
    from nmt.train.loop import train as train_loop

    place, precision = resolve_device(device), run.config.train.precision
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    command = shlex.join(["nmt", *sys.argv[1:]])
    run.record_session({"time": now, "command": command, **describe_machine(place), "precision": precision})
    console.say(
        f"training {run.path} on {place} in {precision}: {len(prepared.train):,} pairs, dev {len(prepared.dev):,}\n"
        f"watch {run.path / 'report.html'} in a browser"
    )
    outcome = train_loop(
        run, prepared, device=place, console=console, resume=resume, init_from=init_from, max_seconds=budget
    )
    if outcome.signal is not None:
        raise typer.Exit(128 + outcome.signal)
    if outcome.score is None:
        console.say(f"{run.path} has not been validated yet: go on with more steps, --set train.steps=N")
        return
    name = shlex.quote(str(run.path))
    console.say(
        f"best: {outcome.best} (dev {run.config.train.metric} {outcome.score:.3f})\nNext:\n"
        f"  nmt translate {name} INPUT -o OUTPUT\n"
        f"  nmt evaluate {name} --src SOURCE --ref REFERENCE\n"
        f"  nmt plot {name} SOURCE -o PICTURES\n"
        f"Curves, samples and their attention: {run.path / 'report.html'}"
    )


def parse_time(text: str) -> float:
    """Seconds of `90m`, `2h`, `1h30m` or `45s`; UserError for anything else, and for no time at all."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text.strip())
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
        return {**dict.fromkeys(texts), "prepared": str(data)}
    section: dict[str, str | None] = {name: str(path) for name, path in texts.items() if path is not None}
    return {**section, "prepared": None} if src is not None else section


def _check_outside(out: Path, config: Config, init_from: Path | None) -> None:
    """Nothing that training reads may lie in the folder that --force replaces."""
    data, tokenizer = config.data, config.tokenizer.model_dump()
    paths = [data.src, data.tgt, data.dev_src, data.dev_tgt, data.prepared]
    vectors = config.model.embedding.vectors
    for path in (*paths, tokenizer.get("path"), tokenizer.get("tgt_path"), *vectors, init_from):
        if path is not None and Path(path).resolve().is_relative_to(out.resolve()):
            raise UserError(f"{path} lies in {out}, the run to be written", "choose another folder with -o")


def _check_vectors_of(other: RunDir, config: Config) -> None:
    """Vectors that are not those of the run to start from would be named in the settings and never read."""
    for name in ("src_vectors", "tgt_vectors"):
        if getattr(config.model.embedding, name) != getattr(other.config.model.embedding, name):
            raise UserError(
                f"model.embedding.{name}: with --init-from the weights, embeddings included, come from {other.path}, "
                "and no vectors are read",
                "drop the one or the other",
            )


def _check_tokenizers(prepared: Prepared, other: RunDir | None) -> None:
    """Weights are of use with their own vocabulary only."""
    if other is None:
        return
    for side, ours, theirs in zip(("source", "target"), prepared.tokenizers, other.tokenizers(), strict=True):
        ids = range(len(ours))
        if len(ours) != len(theirs) or ours.pieces(ids) != theirs.pieces(ids):
            raise UserError(
                f"{prepared.folder} was prepared with another {side} tokenizer than that of {other.path}",
                "give --src and --tgt, which are then prepared with the tokenizers of --init-from",
            )


def _with_tokenizer_of(prepared: Prepared, config: Config, path: Path | None) -> Config:
    """The settings, saying of the tokenizer what is true of the prepared one."""
    from nmt.config import Config

    actual = prepared.tokenizers[0].settings
    if "tokenizer" in config.model_fields_set and config.tokenizer != actual:
        changed = ", ".join(_differences(actual.model_dump(), config.tokenizer.model_dump(), "tokenizer."))
        raise UserError(
            f"{prepared.folder} was prepared with other settings of the tokenizer than {path or 'the command line'} "
            f"has: {changed}",
            "prepare again, or leave the section `tokenizer` out",
        )
    # validated again: what the model needs of a tokenizer (a joint one, to share embeddings) must be there
    try:
        return Config.model_validate({**config.model_dump(), "tokenizer": actual.model_dump()})
    except ValueError as error:
        raise UserError(f"{prepared.folder} does not fit the settings: {error}") from error


def _fingerprint(prepared: Prepared) -> dict[str, str]:
    return {"train": prepared.train.fingerprint, "dev": prepared.dev.fingerprint}


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], at: str = "") -> list[str]:
    """Dotted keys whose values differ."""
    found = []
    for key in {**old, **new}:
        one, two = old.get(key), new.get(key)
        if isinstance(one, Mapping) and isinstance(two, Mapping):
            found += _differences(one, two, f"{at}{key}.")
        elif one != two:
            found.append(at + key)
    return found


def _may_change(key: str) -> bool:
    section, _, name = key.partition(".")
    return section in ("search", "align") or (section == "train" and name.split(".")[0] in RESUMABLE)
