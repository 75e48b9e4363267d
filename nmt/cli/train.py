"""`nmt train`: from two text files, or a configuration, to a run directory."""

from __future__ import annotations

import datetime
import io
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmt.errors import UserError
from nmt.files import remove_leftovers, writing

if TYPE_CHECKING:
    import torch

    from nmt.config import Config
    from nmt.data.prepare import Prepared
    from nmt.presets import Choice
    from nmt.rundir import RunDir
    from nmt.train.metrics import Console
    from nmt.train.world import World

RESUMABLE = ("steps", "patience", "log_every", "validate_every", "samples", "keep", "average", "accumulate")
"""Settings of `train` that may change when a run goes on; any other would make it another experiment. But for
`accumulate`, see `_check_batches`."""


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
    keep: Annotated[
        str | None,
        typer.Option(help="With --init-from, take more than weights: optimizer, schedule or both.", metavar="WHAT"),
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
      nmt train --src law.en --tgt law.de -o runs/law --init-from runs/first --keep optimizer,schedule
      torchrun --nproc-per-node 2 -m nmt train transformer.yaml -o runs/two
    """
    if "WORLD_SIZE" in os.environ and _follow(device, max_time):
        return
    overrides = settings or []
    budget = None if max_time is None else parse_time(max_time)
    if resume:
        texts = {"--src": src, "--tgt": tgt, "--dev-src": dev_src, "--dev-tgt": dev_tgt, "--data": data}
        given = {**texts, "-o": out, "--init-from": init_from, "--keep": keep, "--force": force}
        if config is None or any(given.values()):
            unwanted = ", ".join(name for name, value in given.items() if value)
            raise UserError(
                f"--resume takes a run and no {unwanted}" if unwanted else "--resume needs the run to go on with",
                f"write: nmt train {shlex.quote(str(out or config or 'RUN'))} --resume",
            )
        with writing(config, f"go on: nmt train {shlex.quote(str(config))} --resume"):
            _resume(config, overrides, device, budget)
    else:
        if out is None:
            raise UserError("no place for the run", "name a new folder: -o runs/first")
        section = _data_section(src, tgt, dev_src, dev_tgt, data)
        kept = _kept(keep, init_from)
        with writing(out, "repeat the command"):
            _start(
                config,
                section,
                overrides,
                out,
                device=device,
                force=force,
                init_from=init_from,
                keep=kept,
                budget=budget,
            )


def _start(
    path: Path | None,
    texts: Mapping[str, str | None],
    overrides: list[str],
    out: Path,
    *,
    device: str,
    force: bool,
    init_from: Path | None,
    keep: Sequence[str],
    budget: float | None,
) -> None:
    from nmt.settings import check_files, load_config, said

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
    other, choice = None, None
    if init_from is not None:
        other = RunDir(init_from)
        other.check_code()
        base |= {"model": other.config.model.model_dump(), "tokenizer": other.config.tokenizer.model_dump()}
        config = load_config(path, overrides, base)
        _check_vectors_of(other, config)
    else:
        from nmt.text.vectors import check_vectors

        choice = _choose(config, said(path, overrides, base))
        if choice is not None:
            config = load_config(path, overrides, base, beneath=choice.settings)
        for file in config.model.embedding.vectors:
            check_vectors(Path(file), config.model.embedding.width)
    _check_outside(out, config, init_from)
    if config.model.own_code:  # its mistakes are told before hours are spent on the text
        from nmt.models.build import build_model

        build_model(config.model, 4, 4)

    from nmt.data.prepare import open_prepared, prepare
    from nmt.device import resolve_precision
    from nmt.presets import explain
    from nmt.text.sampling import check_sampling
    from nmt.train.metrics import Console
    from nmt.train.world import this_world

    world = this_world()
    place = world.device(device)
    weights = None if other is None else _weights_of(other, keep)
    origin = {} if weights is None else {"init_from": str(weights.resolve()), "keep": list(keep)}
    tokenizers = None if other is None else other.tokenizers()
    precision = resolve_precision(config.train.precision, place)  # fixed for the life of the run
    config = config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})
    console = Console()
    if unread or (init_from is not None and config.model.embedding.vectors):
        console.say(f"word vectors are not read: the weights come from {init_from}")
    if choice is not None:
        console.say(f"{choice.pairs:,} pairs, and no model in the settings: chosen (all is in {out / 'config.yaml'}):")
        for line in explain(choice, said(path, overrides, base), config.model_dump()):
            console.say(f"  {line}")
    draft = None
    try:
        if config.data.prepared is not None:
            prepared = open_prepared(Path(config.data.prepared))
            for source in prepared.sources if len(prepared.sources) > 1 else ():
                console.say(f"  {source}")
            _check_tokenizers(prepared, other)
            config = _with_tokenizer_of(prepared, config, path)
            check_sampling(config.train.subword_sampling, config.tokenizer, prepared.tokenizers)
        else:
            check_sampling(config.train.subword_sampling, config.tokenizer, tokenizers)  # before all the work
            out.parent.mkdir(parents=True, exist_ok=True)
            draft = out.with_name(f".{out.name}.{os.getpid()}.data.tmp")
            prepared = prepare(config, draft, report=console.say, tokenizers=tokenizers)
        run = RunDir.create(
            out,
            config,
            prepared.tokenizers,
            overwrite=force,
            data=draft,
            facts={"fingerprint": _fingerprint(prepared), **origin},
        )
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)
    if draft is not None:
        prepared = open_prepared(run.path / "data")
    remove_leftovers(out.absolute().parent, out.name)  # of earlier ones that were killed
    with writing(out, f"go on: nmt train {shlex.quote(str(out))} --resume"), world:
        world.tell({"run": str(run.path), **origin})
        stop = _train(run, prepared, console, place, world, budget=budget, init_from=weights, keep=keep)
    if stop:
        raise typer.Exit(stop)


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

    from nmt.train.metrics import Console
    from nmt.train.world import this_world

    world = this_world()
    place = world.device(device)
    _check_batches(run, config, world.size)
    prepared = _corpus_of(run)
    if config != run.config:
        run.replace_config(config)
    # A run that was killed before its first checkpoint begins again, as it did.
    begun, facts = run.pointed("last") is not None, run.facts
    weights = None if begun or "init_from" not in facts else Path(facts["init_from"])
    keep = facts.get("keep", [])
    with world:
        told = {"init_from": None if weights is None else str(weights), "keep": keep}
        world.tell({"run": str(run.path), "resume": begun, **told})
        stop = _train(run, prepared, Console(), place, world, budget=budget, resume=begun, init_from=weights, keep=keep)
    if stop:
        raise typer.Exit(stop)


def _follow(device: str, max_time: str | None) -> bool:
    """Where torchrun has started several processes: all but the first do what that has checked and prepared."""
    from nmt.train.world import this_world

    world = this_world()
    if world.is_first:
        return False

    from nmt.rundir import RunDir
    from nmt.train.metrics import Console

    with world:
        message = world.hear()
        run = RunDir(Path(message["run"]))
        weights = message.get("init_from")
        stop = _train(
            run,
            _corpus_of(run),
            Console(io.StringIO()),  # the first speaks for all
            world.device(device),
            world,
            budget=None if max_time is None else parse_time(max_time),
            resume=message.get("resume", False),
            init_from=None if weights is None else Path(weights),
            keep=message.get("keep", []),
        )
    if stop:
        raise typer.Exit(stop)
    return True


def _train(
    run: RunDir,
    prepared: Prepared,
    console: Console,
    place: torch.device,
    world: World,
    *,
    budget: float | None,
    resume: bool = False,
    init_from: Path | None = None,
    keep: Sequence[str] = (),
) -> int:
    """Trains and says what can be done next; returns the exit code."""
    from nmt.device import describe_machine
    from nmt.rundir import describe_software
    from nmt.train.loop import train as train_loop

    settings = run.config.train
    if world.is_first:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        how = {"precision": settings.precision, "processes": world.size, "accumulate": settings.accumulate}
        command = shlex.join(["nmt", *sys.argv[1:]])
        where = {"folder": os.getcwd(), **describe_machine(place), **describe_software()}
        run.record_session({"time": now, "command": command, **where, **how})
    several = f" by {world.size} processes" if world.size > 1 else ""
    console.say(
        f"training {run.path} on {place}{several} in {settings.precision}: "
        f"{len(prepared.train):,} pairs, dev {len(prepared.dev):,}\n"
        f"watch {run.path / 'report.html'} in a browser"
    )
    world.connect(place)
    outcome = train_loop(
        run,
        prepared,
        device=place,
        console=console,
        resume=resume,
        init_from=init_from,
        keep=keep,
        max_seconds=budget,
        world=world,
    )
    if outcome.signal is not None:
        return 128 + outcome.signal
    if outcome.score is None:
        console.say(f"{run.path} has not been validated yet: go on with more steps, --set train.steps=N")
        return 0
    name = shlex.quote(str(run.path))
    console.say(
        f"best: {outcome.best} (dev {settings.metric} {outcome.score:.3f})\nNext:\n"
        f"  nmt translate {name} INPUT -o OUTPUT\n"
        f"  nmt evaluate {name} --src SOURCE --ref REFERENCE\n"
        f"  nmt plot {name} SOURCE -o PICTURES\n"
        f"Curves, samples and their attention: {run.path / 'report.html'}"
    )
    return 0


def _check_batches(run: RunDir, config: Config, processes: int) -> None:
    """An update must go on to be of as many batches as before, by however many processes."""
    sessions = run.facts.get("sessions", [])
    last = sessions[-1] if sessions else {}
    before = last.get("processes", 1) * last.get("accumulate", run.config.train.accumulate)
    now = processes * config.train.accumulate
    if now == before:
        return
    fitting = f"--set train.accumulate={before // processes}"
    raise UserError(
        f"each update of {run.path} is of {before} batches: {processes} process{'es' * (processes > 1)} with "
        f"train.accumulate: {config.train.accumulate} would make it {now}",
        f"take a number of processes that divides {before}" if before % processes else f"to go on as before: {fitting}",
    )


def _corpus_of(run: RunDir) -> Prepared:
    """What the run is trained on; UserError if it is another corpus than it was."""
    from nmt.data.prepare import open_prepared

    data = run.config.data
    folder = run.path / "data" if data.prepared is None else Path(data.prepared)
    prepared = open_prepared(folder)
    if run.facts.get("fingerprint") != _fingerprint(prepared):
        raise UserError(f"{folder} is not the corpus that {run.path} was trained on", "start a new run on it")
    return prepared


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
        return {**dict.fromkeys(texts), "more": None, "prepared": str(data)}
    section: dict[str, str | None] = {name: str(path) for name, path in texts.items() if path is not None}
    return {**section, "prepared": None} if src is not None else section


def _choose(config: Config, said: Mapping[str, Any]) -> Choice | None:
    """What is to be taken for as many pairs as there are; nothing where the user has said what the model is."""
    from nmt.data.prepare import open_prepared
    from nmt.presets import choose
    from nmt.text.lines import count_lines

    model = said.get("model") or {}
    if any(part in model for part in ("embedding", "encoder", "decoder", "head")):
        return None
    if config.data.prepared is not None:
        prepared = open_prepared(Path(config.data.prepared))
        return choose(len(prepared.train), prepared.tokenizers[0].settings, learned=False)
    sources = [Path(name) for name in (config.data.src, *(more.src for more in config.data.more)) if name is not None]
    if not all(path.is_file() for path in sources):
        return None  # a pipe: what prepares the text will have none of it
    return choose(sum(map(count_lines, sources)), config.tokenizer)


def _kept(keep: str | None, init_from: Path | None) -> list[str]:
    """What `--keep` names."""
    from nmt.train.state import KEEPABLE

    names = [] if keep is None else [name.strip() for name in keep.split(",")]
    if names and init_from is None:
        raise UserError("--keep says what to take from a run besides its weights", "name the run: --init-from RUN")
    for name in names:
        if name not in KEEPABLE:
            raise UserError(f"--keep {name}: there is no such thing", f"it may be {' or '.join(KEEPABLE)}, or both")
    return names


def _weights_of(other: RunDir, keep: Sequence[str]) -> Path:
    """The best checkpoint; with `keep`, the best that has what to keep."""
    from nmt.train.checkpoint import trained_checkpoint

    best = other.checkpoint()
    return trained_checkpoint(other) if keep else best


def _check_outside(out: Path, config: Config, init_from: Path | None) -> None:
    """Nothing that training reads may lie in the folder that --force replaces."""
    data, tokenizer = config.data, config.tokenizer.model_dump()
    more = [path for corpus in data.more for path in (corpus.src, corpus.tgt)]
    paths = [data.src, data.tgt, *more, data.dev_src, data.dev_tgt, data.prepared]
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
    from pydantic import ValidationError

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
    except ValidationError as error:
        problems = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        raise UserError(f"{prepared.folder} does not fit the settings: {problems}") from error


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
