"""Checkpoints: written whole or not at all, pointed at, thinned out, restored, averaged."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from nmt.config import TrainConfig
from nmt.errors import UserError
from nmt.files import json_text, make_room, remove_leftovers, write_atomically, written_aside
from nmt.layout import STEP_DRAFT, is_checkpoint
from nmt.records import read_json
from nmt.rundir import (
    MODEL,
    OPTIMIZER,
    STATE,
    RunDir,
    distinct_tensors,
    load_weights,
    read_tensors,
    save_tensors,
)
from nmt.train.mean import RunningMean
from nmt.train.state import Scored, TrainState, ranked
from nmt.train.trouble import check_finite
from nmt.weights import MixtureError, check_origin, open_tensors


def checkpoint_name(step: int) -> str:
    return f"step-{step:08d}"


def save_checkpoint(
    run: RunDir, model: nn.Module, optimizer: torch.optim.Optimizer, state: TrainState, mean: RunningMean
) -> str:
    """Writes the checkpoint of this step and moves `last` to it; returns its name. The model in it is the mean.

    UserError if a weight is not finite, and OSError where it cannot be written; all is then as it was before.
    """
    name = checkpoint_name(state.step)
    if os.path.lexists(run.checkpoints / name) and not is_checkpoint(run.checkpoints / name):
        make_room(run.checkpoints / name)
    with mean.judged(), written_aside(run.checkpoints / name) as folder:
        memory = {**_optimizer_tensors(model, optimizer), **mean.raw()}
        check_finite({**dict(model.named_parameters()), **memory})
        save_tensors(folder / MODEL, distinct_tensors(model), run.origin)
        save_tensors(folder / OPTIMIZER, memory)
        (folder / STATE).write_text(json_text(state.to_json()), encoding="utf-8")
    run.point("last", name)
    return name


def restore(
    run: RunDir,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    mean: RunningMean,
    *,
    report: Callable[[str], None],
) -> TrainState:
    """Puts model, optimiser and mean back to `last`; where that is damaged, to the checkpoint before it, and where
    there is none of that name, to the newest; and says so.

    UserError when none can be read. Afterwards `last` and `best` point to checkpoints that exist.
    """
    last, names = _pointed(run, "last"), run.steps()
    if last in names:
        names = names[names.index(last) :] + names[: names.index(last)][::-1]
    elif names:
        report(f"{run.path / 'last'} names no checkpoint that is there: going on from the newest")
    names = [name for name in names if name == last or (run.checkpoints / name / OPTIMIZER).is_file()]
    origin, first_error = run.origin, None
    for name in names:
        try:
            check_origin(run.checkpoints / name / MODEL, origin, origin)
            state = _load(run.checkpoints / name, model, optimizer, mean)
        except MixtureError:
            raise
        except UserError as error:
            report(f"checkpoint {name} cannot be used: {error.message}")
            first_error = first_error or error
            continue
        if first_error is not None:
            report(f"going on from {name} instead")
        state.checkpoints = [c for c in state.checkpoints if _is_whole(run.checkpoints / c.name, report)]
        best = ranked(run.config.train.metric, state.checkpoints)[:1]
        for pointer, there in (("last", name), *(("best", scored.name) for scored in best)):
            if _pointed(run, pointer) != there:  # when several processes restore, the first has put it right
                run.point(pointer, there)
        return state
    raise UserError(
        f"{run.path} has no checkpoint to go on from" + (f": {first_error.message}" if first_error else ""),
        "copy a whole checkpoint back, or start a new run in another folder",
    )


def tidy(run: RunDir, state: TrainState) -> None:
    """After `restore`: deletes checkpoints that `state` does not know, and what was left half-written, in the run or
    beside it."""
    thin_out_disk(run, state)
    remove_leftovers(run.path)
    final = run.path.resolve()
    remove_leftovers(final.parent, final.name)


def start_from(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    keep: Collection[str] = (),
    parts: Collection[str] | None = None,
) -> TrainState:
    """The first state of a run that starts from the weights of the checkpoint `folder`.

    Of `parts` of the model only, where they are given. `keep` of KEEPABLE: with `optimizer` its memory of each
    parameter is taken over, with `schedule` the learning rate goes on where it was. Where there was a running mean, the
    weights are the mean.
    """
    load_weights(folder / MODEL, model, parts)
    if "optimizer" in keep:
        _restore_optimizer(read_tensors(folder / OPTIMIZER), model, optimizer)
    if "schedule" not in keep:
        return TrainState()
    done, scale = schedule_of(folder)
    return TrainState(schedule_start=done, plateau_scale=scale)


def schedule_of(folder: Path) -> tuple[int, float]:
    """Where the schedule of a checkpoint stands: updates made, and the plateau's scale."""
    state = _read_state(folder / STATE)
    return state.schedule_start + state.step, state.plateau_scale


def trained_checkpoint(run: RunDir) -> Path:
    """The folder of the best checkpoint with an optimizer's memory: neither an average, nor one kept for its score."""
    scored = [c for c in scored_checkpoints(run) if (run.checkpoints / c.name / OPTIMIZER).is_file()]
    folder = run.checkpoint(ranked(run.config.train.metric, scored)[0].name if scored else "last")
    if not (folder / OPTIMIZER).is_file():
        raise UserError(f"{run.path} has weights alone, no optimizer's memory to keep", "leave out --keep")
    return folder


def thin_out(checkpoints: Sequence[Scored], metric: str, *, last: int, best: int) -> list[Scored]:
    """So many of the last and so many of the best of them, oldest first."""
    kept = {*checkpoints[-last:], *ranked(metric, list(checkpoints))[:best]}
    return [c for c in checkpoints if c in kept]


def thin_out_disk(run: RunDir, state: TrainState) -> None:
    """Deletes checkpoints that `state` does not know, and the optimiser's memory of all but the last
    `train.keep_last`: training goes on from these alone."""
    names = [c.name for c in state.checkpoints]
    remove_others(run, names)
    for name in names[: -run.config.train.keep_last]:
        if name != _pointed(run, "last") and is_checkpoint(run.checkpoints / name):
            (run.checkpoints / name / OPTIMIZER).unlink(missing_ok=True)


def say_disk(model: nn.Module, settings: TrainConfig) -> str:
    """How much the checkpoints of a training take at most, in words."""
    weights = sum(tensor.nbytes for tensor in distinct_tensors(model).values())
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    whole = weights + 2 * trained + (trained if settings.mean_decay else 0)  # Adam has two numbers for each weight
    others = max(settings.last_kept - settings.keep_last, 0) + settings.best_kept + (settings.average is not None)
    total = (settings.keep_last + 1) * whole + others * weights  # one more while it is written
    return (
        f"checkpoints take up to {_megabytes(total)} (train.keep_last, train.keep_best, train.average): the last "
        f"{settings.keep_last} of {_megabytes(whole)}, to go on from, and the best {settings.best_kept} of "
        f"{_megabytes(weights)}"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.{0 if size >= 1e7 else 1}f} MB"


def remove_others(run: RunDir, keep: Collection[str]) -> None:
    """Deletes every step checkpoint that is neither in `keep` nor pointed at, and what a crash left half-written.

    What somebody has put there stays: copies of checkpoints, links, files, and checkpoints with something else in them.
    """
    stay = {*keep, _pointed(run, "best"), _pointed(run, "last")}
    for name in run.steps():
        if name not in stay and is_checkpoint(run.checkpoints / name):
            shutil.rmtree(run.checkpoints / name)
    for path in run.checkpoints.iterdir():
        if STEP_DRAFT.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)


def last_state(run: RunDir) -> TrainState:
    """How far training has come, as the last checkpoint knows."""
    names, last = run.steps(), _pointed(run, "last")
    name = last if last is not None and (run.checkpoints / last).is_dir() else next(iter(names), None)
    known = name is not None and (run.checkpoints / name / STATE).is_file()
    return _read_state(run.checkpoints / str(name) / STATE) if known else TrainState()


def scored_checkpoints(run: RunDir) -> list[Scored]:
    """The validated checkpoints that are there, oldest first, as `last` knows them."""
    return [c for c in last_state(run).checkpoints if (run.checkpoints / c.name / MODEL).is_file()]


def score_of(run: RunDir, name: str) -> float | None:
    """The development score of a checkpoint; None where that is not known, as of an average that nobody has judged."""
    if is_average(run.checkpoints / name):
        score = read_json(run.checkpoints / name / STATE).get("score")
        return float(score) if isinstance(score, int | float) else None
    return next((c.score for c in last_state(run).checkpoints if c.name == name), None)


def average_checkpoints(paths: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the weights in checkpoint folders `paths`, by tensor; summed in float64, given in float32."""
    sums: dict[str, Tensor] = {}
    for number, path in enumerate(paths):
        tensors = read_tensors(path / MODEL)
        if number and {n: t.shape for n, t in tensors.items()} != {n: t.shape for n, t in sums.items()}:
            raise UserError(f"{path / MODEL} and {paths[0] / MODEL} are of different models: they have no average")
        for name, tensor in tensors.items():
            sums[name] = sums[name] + tensor if number else tensor.double()
    return {name: (total / len(paths)).float() for name, total in sums.items()}


def write_average(run: RunDir, name: str, chosen: Sequence[Scored]) -> Path:
    """Averages `chosen` into the checkpoint folder `name`. What is there and is no average gets another name."""
    if os.path.lexists(run.checkpoints / name) and not is_average(run.checkpoints / name):
        make_room(run.checkpoints / name)
    for one in chosen:
        check_origin(run.checkpoints / one.name / MODEL, run.origin, run.origin)
    weights = average_checkpoints([run.checkpoints / c.name for c in chosen])
    with written_aside(run.checkpoints / name) as folder:
        save_tensors(folder / MODEL, weights, run.origin)
        parts = {"average_of": [c.name for c in chosen], "scores": [c.score for c in chosen]}
        (folder / STATE).write_text(json_text(parts), encoding="utf-8")
    return run.checkpoints / name


def is_average(folder: Path) -> bool:
    """Whether `write_average` has made it."""
    try:
        return is_checkpoint(folder) and "average_of" in read_json(folder / STATE)
    except UserError:
        return False


def score_average(run: RunDir, name: str, score: float) -> None:
    """Notes the development score of an average beside those of its parts."""
    path = run.checkpoints / name / STATE
    write_atomically(path, json_text({**read_json(path), "score": score}))


def choose(checkpoints: Sequence[Scored], metric: str, which: str, count: int) -> list[Scored]:
    """The `count` best or last of them, oldest first; fewer where there are not as many."""
    pool = ranked(metric, list(checkpoints))[:count] if which == "best" else list(checkpoints)[-count:]
    return sorted(pool, key=lambda c: c.step)


def _pointed(run: RunDir, pointer: str) -> str | None:
    """As `RunDir.pointed`; None, too, where the pointer is damaged: the checkpoints are there all the same."""
    try:
        return run.pointed(pointer)
    except UserError:
        return None


def check_belongs(run: RunDir) -> None:
    """MixtureError where the newest checkpoint that can be read was trained with something else than the run says."""
    origin = run.origin
    for name in run.steps():
        try:
            check_origin(run.checkpoints / name / MODEL, origin, origin)
            break
        except MixtureError:
            raise
        except UserError:
            continue  # damaged: `restore` passes over it, and says so


def _is_whole(folder: Path, report: Callable[[str], None]) -> bool:
    """Whether the weights of a checkpoint that is kept can be had; reports of damaged ones."""
    if not (folder / MODEL).is_file():
        return False
    try:
        with open_tensors(folder / MODEL):
            return True
    except UserError as error:
        report(f"checkpoint {folder.name} cannot be used: {error.message}")
        return False


def _load(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, mean: RunningMean) -> TrainState:
    state = _read_state(folder / STATE)
    stored = read_tensors(folder / OPTIMIZER)
    load_weights(folder / MODEL, model)
    mean.restore(stored)
    _restore_optimizer(stored, model, optimizer)
    return state


def _restore_optimizer(stored: Mapping[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    for key, tensor in stored.items():
        shape = shapes.get(key.rpartition(".")[0])
        if shape is None or (tensor.ndim and tensor.shape != shape):
            raise UserError(f"the optimizer's memory of {key} is of another model")
    for name, parameter in model.named_parameters():
        prefix = f"{name}."
        optimizer.state[parameter] = {
            key.removeprefix(prefix): tensor.to(parameter.device)
            for key, tensor in stored.items()
            if key.startswith(prefix) and "." not in key.removeprefix(prefix) and key != f"{prefix}raw"
        }


def _read_state(path: Path) -> TrainState:
    state: TrainState = read_json(path, TrainState)
    return state


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Its memory of each parameter, by the parameter's name: `encoder.bias.exp_avg`."""
    return {
        f"{name}.{key}": tensor
        for name, parameter in model.named_parameters()
        for key, tensor in optimizer.state.get(parameter, {}).items()
    }
