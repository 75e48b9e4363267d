"""Training a run that is there: from its first step, from its last checkpoint, or as one of several processes."""

from __future__ import annotations

import datetime
import io
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nmt.align.extract import choose_reading
from nmt.config import Config
from nmt.data.prepare import Prepared, open_prepared
from nmt.device import describe_machine, is_emulated, resolve_precision
from nmt.errors import UserError
from nmt.models.build import build_model
from nmt.rundir import RunDir, describe_software
from nmt.settings.layers import look_up
from nmt.settings.load import said
from nmt.told import shell
from nmt.train.checkpoint import check_belongs
from nmt.train.fused import check_compiler
from nmt.train.inherit import PARTS, may_differ
from nmt.train.loop import Outcome, train
from nmt.train.metrics import Console
from nmt.train.validate import ignores_case
from nmt.train.world import World, this_world
from nmt.weights import RESUMABLE


def train_run(
    run: RunDir,
    prepared: Prepared,
    console: Console,
    device: torch.device,
    world: World,
    *,
    budget: float | None,
    resume: bool = False,
    init_from: Path | None = None,
    parts: Sequence[str] = tuple(PARTS),
    keep: Sequence[str] = (),
) -> int:
    """Trains, for `budget` seconds at most, and says what can be done next; gives the exit code.

    The others are `train`'s. Within the `world`; the first of its processes has told the others what to do.
    """
    settings = run.config.train
    if world.is_first:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        how = {"precision": settings.precision, "processes": world.size, "accumulate": settings.accumulate}
        command = shlex.join(["nmt", *sys.argv[1:]])
        where = {"folder": os.getcwd(), **describe_machine(device), **describe_software()}
        run.record_session({"time": now, "command": command, **where, **how})
    several = f" by {world.size} processes" if world.size > 1 else ""
    console.say(
        f"training {run.path} on {device}{several} in {settings.precision}: "
        f"{len(prepared.train):,} pairs, dev {len(prepared.dev):,}",
        f"watch {run.path / 'report.html'} in a browser",
        *["the tokenizer knows lower case only: dev BLEU and chrF are without case"] * ignores_case(prepared),
    )
    if is_emulated(settings.precision, device):
        console.say(
            "this processor has no instructions for bfloat16, so that it takes many times as long as float32 "
            "(in a new run: --set train.precision=float32)"
        )
    world.connect(device)
    outcome = train(
        run,
        prepared,
        device=device,
        console=console,
        resume=resume,
        init_from=init_from,
        parts=parts,
        keep=keep,
        max_seconds=budget,
        world=world,
    )
    if outcome.signal is not None:
        return 128 + outcome.signal
    _say_what_next(run, outcome, console)
    return 0


def go_on(path: Path, overrides: Sequence[str], *, device: str, budget: float | None) -> int:
    """Trains a run from its last checkpoint, with some settings changed; gives the exit code.

    UserError for a setting that may not change, and for a corpus that is not what it was.
    """
    run, console = RunDir(path), Console()
    if "packed" in run.facts:
        raise UserError(
            f"{path} was made by `nmt pack`: it translates, and has nothing that training could go on from",
            f"go on with the run it was made of, or start a new one from its weights: --init-from {shell(path)}",
        )
    run.check_code()
    with run.owned(console.say):
        return _go_on(run, overrides, console, device=device, budget=budget)


def _go_on(run: RunDir, overrides: Sequence[str], console: Console, *, device: str, budget: float | None) -> int:
    _check_steps(run, overrides)
    config = run.config_with(overrides)
    fixed = [key for key in differences(run.config.model_dump(), config.model_dump()) if not _may_change(key)]
    if fixed:
        how = f"(--init-from {shell(run.path)} takes its weights)"
        if not all(map(may_differ, fixed)):
            how = "from the beginning: its weights are of use with its model and tokenizers only"
        raise UserError(
            f"a run that goes on keeps its settings: {', '.join(fixed)} cannot change",
            f"what may: {', '.join(f'train.{name}' for name in RESUMABLE)}; for others start a new run {how}",
        )
    world = this_world()
    place = world.device(device)
    _check_precision(run, config, place)
    if config.train.compile:
        check_compiler(place)
    _check_batches(run, config, world.size)
    prepared = _corpus_of(run, whole=True)
    check_belongs(run)
    if config.align != run.config.align:
        choose_reading(build_model(config.model, 4, 4), config.align, device=torch.device("cpu"))  # is it there?
    if config != run.config:
        run.replace_config(config)
    # A run that was killed before its first checkpoint begins again, as it did. One that has a record had checkpoints.
    begun, facts = bool(run.steps() or run.pointed("last") or (run.path / "metrics.jsonl").exists()), run.facts
    weights = None if begun or "init_from" not in facts else Path(facts["init_from"])
    taken: dict[str, Any] = {"parts": facts.get("parts", list(PARTS)), "keep": facts.get("keep", [])}
    with world:
        told = {"init_from": None if weights is None else str(weights), **taken, "budget": budget}
        world.tell({"run": str(run.path), "resume": begun, **told})
        return train_run(run, prepared, console, place, world, budget=budget, resume=begun, init_from=weights, **taken)


def follow(world: World, *, device: str) -> int:
    """What all processes but the first do, once that has checked and prepared: train what it tells; the exit code."""
    with world:
        message = world.hear()
        run = RunDir(Path(message["run"]))
        weights = message.get("init_from")
        return train_run(
            run,
            _corpus_of(run),
            Console(io.StringIO()),  # the first speaks for all
            world.device(device),
            world,
            budget=message["budget"],
            resume=message.get("resume", False),
            init_from=None if weights is None else Path(weights),
            parts=message.get("parts", list(PARTS)),
            keep=message.get("keep", []),
        )


def fingerprints(prepared: Prepared) -> dict[str, str]:
    """As a run notes them, to know its corpus again."""
    return {"train": prepared.train.fingerprint, "dev": prepared.dev.fingerprint}


def differences(old: Mapping[str, Any], new: Mapping[str, Any], at: str = "") -> list[str]:
    """Dotted keys whose values differ."""
    found = []
    for key in {**old, **new}:
        one, two = old.get(key), new.get(key)
        if isinstance(one, Mapping) and isinstance(two, Mapping):
            found += differences(one, two, f"{at}{key}.")
        elif one != two:
            found.append(at + key)
    return found


def _say_what_next(run: RunDir, outcome: Outcome, console: Console) -> None:
    if outcome.score is None:
        console.say(
            f"{run.path} has no checkpoint to translate with: it was not validated yet (go on with more steps, "
            "--set train.steps=N), or training has diverged"
        )
        return
    name, decoder = shell(run.path), run.config.model.decoder
    attends = decoder.kind != "rnn" or decoder.attention.kind != "none" or run.config.align.attention is not None
    console.say(
        f"best: {outcome.best} (dev {run.config.train.metric} {outcome.score:.3f})",
        "Next:",
        f"  nmt translate {name} INPUT -o OUTPUT",
        f"  nmt evaluate {name} --src SOURCE --ref REFERENCE",
        *[f"  nmt plot {name} SOURCE -o PICTURES"] * attends,
        f"Curves, samples and their attention: {run.path / 'report.html'}",
    )


def _corpus_of(run: RunDir, *, whole: bool = False) -> Prepared:
    """What the run is trained on; UserError if it is another corpus than it was."""
    prepared = open_prepared(run.corpus, whole=whole)
    if run.facts.get("fingerprint") != fingerprints(prepared):
        raise UserError(f"{run.corpus} is not the corpus that {run.path} was trained on", "start a new run on it")
    return prepared


def _check_steps(run: RunDir, overrides: Sequence[str]) -> None:
    """Neither fewer steps than are done, nor more than the schedule has."""
    steps, schedule = look_up(said(run.path / "config.yaml", overrides), ("train", "steps")), run.config.train.schedule
    last = re.fullmatch(r"step-(\d+)", next(iter(run.steps()), ""))
    if not isinstance(steps, int):
        return  # told as a wrong value
    if last is not None and steps < int(last[1]):
        raise UserError(
            f"{run.path} has done {int(last[1]):,} steps, more than train.steps: {steps}",
            "give a higher number; its earlier checkpoints are those that `nmt info` lists",
        )
    if schedule.kind == "linear" and steps > schedule.steps:
        raise UserError(
            f"the linear schedule of {run.path} comes down to nothing at update {schedule.steps}, before train.steps: "
            f"{steps}",
            f"to train longer start a new run (--init-from {shell(run.path)} takes its weights)",
        )


def _check_precision(run: RunDir, config: Config, device: torch.device) -> None:
    """A run keeps its precision, which another machine may lack."""
    precision = config.train.precision
    try:
        resolve_precision(precision, device, trains_lstm=config.model.has_lstm)
    except UserError as error:
        raise UserError(
            f"{run.path} was begun in {precision}, which a run keeps, and {error.message}",
            "go on where it can be done, or start a new run from its weights: "
            f"nmt train --init-from {shell(run.path)} --set train.precision=float32 -o NEW, with its text",
        ) from error


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


def _may_change(key: str) -> bool:
    section, _, name = key.partition(".")
    return section in ("search", "align") or (section == "train" and name.split(".")[0] in RESUMABLE)
