"""Training, from a prepared corpus to a run directory with checkpoints: one function, read top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import torch

from nmt.align.extract import choose_reading
from nmt.data.example import Feeder
from nmt.data.guiding import Guide
from nmt.data.loader import batches
from nmt.data.prepare import Prepared
from nmt.device import round_float32
from nmt.models.build import build_model
from nmt.rundir import RunDir
from nmt.text.sampling import make_samplers
from nmt.told import shell
from nmt.train.checkpoint import (
    checkpoint_name,
    restore,
    save_checkpoint,
    say_disk,
    start_from,
    thin_out_disk,
    tidy,
)
from nmt.train.fused import compile_layers, interpreted
from nmt.train.inherit import PARTS
from nmt.train.judge import judge_average, remember, report_validation
from nmt.train.mean import RunningMean
from nmt.train.metrics import Console, Reporter, Window, draw_page
from nmt.train.objective import Objective
from nmt.train.optim import learning_rate, make_optimizer
from nmt.train.pace import Pace
from nmt.train.pretrained import pretrained_tables, start_from_vectors
from nmt.train.state import TrainState
from nmt.train.step import label_tokens, train_step
from nmt.train.stopping import Signals, reason_to_stop
from nmt.train.trouble import diverged, memory_for_validation
from nmt.train.validate import validate
from nmt.train.world import ALONE, World


class Outcome(NamedTuple):
    """How training ended."""

    step: int
    best: str | None  # name of the best checkpoint
    score: float | None  # its development score
    signal: int | None  # what interrupted it, if something did


def train(
    run: RunDir,
    prepared: Prepared,
    *,
    device: torch.device,
    console: Console,
    resume: bool = False,
    init_from: Path | None = None,
    parts: Collection[str] = tuple(PARTS),
    keep: Collection[str] = (),
    max_seconds: float | None = None,
    world: World = ALONE,
) -> Outcome:
    """Trains the model of `run` on `prepared` until its steps are done, patience or time is out, or a signal comes.

    `resume` goes on from the last checkpoint, on the CPU bit for bit as if nothing had happened. `init_from` is the
    folder of a checkpoint to start from, `parts` the parts of the model to take from there, and `keep` what else: see
    `start_from`. `train.precision` must be resolved (not `auto`), so that a run keeps it. After `max_seconds` of this
    call it validates, saves and ends. Pretrained word vectors are read unless it resumes or takes embeddings from a
    checkpoint. SIGINT, SIGTERM and SIGHUP end the step at hand, save, and are given back in the outcome; see `Signals`.

    In a `world` of several processes, which must be connected, each calls this with the same arguments. Step for step
    they do what one would with `train.accumulate` so many times larger, and only the first writes files.
    """
    config, settings = run.config, run.config.train
    if settings.precision == "tf32":
        round_float32(True)
    torch.manual_seed(settings.seed)
    src, tgt = prepared.tokenizers
    samplers = make_samplers(prepared.tokenizers, settings.subword_sampling, max_length=config.data.max_length)
    model = build_model(config.model, len(src), len(tgt)).to(device).eval()
    pretrained = pretrained_tables(model, config.model.embedding)
    for table, _, _ in pretrained:
        table.weight.requires_grad_(not config.model.embedding.freeze)
    reading = None
    if model.decoder.alignment is not None or config.align.attention is not None:
        reading = choose_reading(model, config.align, device=device)  # a mistake in the settings is told now
    model.train()
    if settings.compile:
        compile_layers(model)
        console.say("the layers are compiled as batches come: the first updates take longer")
    optimizer, objective = make_optimizer(settings.optimizer, model), Objective(model, settings)
    mean = RunningMean(model, settings.mean_decay)
    console.say(say_disk(model, settings))
    state = TrainState()
    # What goes on from a whole model may become worse, which its first validation shows.
    starts_whole = not resume and init_from is not None and set(parts) == set(PARTS)
    if resume:
        if not world.is_first:
            world.wait()  # until the first has seen to it that what is there is whole
        state = restore(run, model, optimizer, mean, report=console.say)
        if world.is_first:
            tidy(run, state)
            world.wait()
        console.say(f"going on from step {state.step}")
    else:
        if init_from is not None:
            state = start_from(init_from, model, optimizer, keep, parts)
        if init_from is None or "embeddings" not in parts:
            for table, path, sides in pretrained:
                start_from_vectors(table, path, prepared, sides, console)
        mean = RunningMean(model, settings.mean_decay)
        if world.is_first and not starts_whole:  # to come back to, whatever happens before the first validation
            save_checkpoint(run, model, optimizer, state, mean)
    parallel = world.parallel(objective)

    stream = batches(
        prepared.train,
        max_tokens=config.data.max_tokens,
        seed=settings.seed,
        start=state.batch + world.rank,
        stride=world.size,
        feeder=Feeder(src, tgt, copies=model.copies, spells=model.spells),
        samplers=samplers,
        guide=Guide(src, tgt) if config.model.guided_alignment else None,
    )
    window = Window(device, state.window)
    pace = Pace(console, settings, run.path, device=device.type, budget=max_seconds)
    began = time.monotonic()
    started = began - state.seconds
    out_of_time = False

    def judge(reporter: Reporter | None) -> None:
        """Validates the weights and saves them, as `best` if they are the best so far."""
        console.note("translating the development set")
        validating = time.monotonic()
        state.window = window.save()  # before the weights are judged: raises if they have diverged
        with mean.judged(), memory_for_validation(), interpreted():
            validation = validate(
                model, prepared, config, device=device, precision=settings.precision, reading=reading, world=world
            )
        if not math.isfinite(validation.loss):
            raise diverged("the loss on the development set")
        improved = remember(state, validation, settings)
        state.seconds = time.monotonic() - started
        if reporter is not None:
            # Reported first: should the checkpoint not come about, resuming cuts the report off again.
            report_validation(reporter, state, validation, settings, improved=improved)
            name = save_checkpoint(run, model, optimizer, state, mean)
            if improved:
                run.point("best", name)
            thin_out_disk(run, state)
        window.restart_clock()
        pace.validated(state.step, time.monotonic() - validating)

    with Signals() as signals, _reporter(run, console, state, world) as reporter:
        if starts_whole:
            judge(reporter)
        while True:
            caught = world.highest(signals.caught or world.orphaned())
            reason = reason_to_stop(state, settings, caught=caught, out_of_time=out_of_time)
            if reason is not None:
                break
            group = [next(stream) for _ in range(settings.accumulate)]
            tokens, pairs = world.totals(
                sum(label_tokens(batch) for _, batch in group), sum(len(batch.indices) for _, batch in group)
            )
            update = state.schedule_start + state.step + 1
            lr = learning_rate(settings.schedule, settings.optimizer.lr, update, state.plateau_scale)
            sums = train_step(
                parallel,
                optimizer,
                group,
                tokens=tokens,
                lr=lr,
                settings=settings,
                device=device,
                precision=settings.precision,
                world=world,
            )
            window.add(sums, tokens)
            state.step += 1
            mean.update(state.step)
            state.batch += settings.accumulate * world.size
            state.pairs += pairs
            state.tokens += tokens
            state.seconds = time.monotonic() - started
            console.advance(state.step)
            pace.advance(state.step, tokens)
            if max_seconds is not None:
                out_of_time = bool(world.highest(time.monotonic() - began >= max_seconds))

            to_log = state.step % settings.log_every == 0
            if pace.due() or to_log:
                means = window.report() if to_log else window.means()
                report = {"epoch": round(state.pairs / prepared.train.pairs_per_epoch, 4), **means, "lr": lr}
                if not to_log:
                    console.write(state.step, report)
                elif reporter is not None:
                    reporter.write(state.step, {**report, "tokens": state.tokens, "seconds": round(state.seconds, 1)})
            if state.step % settings.validate_every == 0 or state.step == settings.steps or out_of_time:
                judge(reporter)

        if caught and run.pointed("last") != checkpoint_name(state.step):
            state.window = window.save()
            if world.is_first:
                save_checkpoint(run, model, optimizer, state, mean)

    if caught:
        console.say(f"interrupted: saved at step {state.step}. To go on: {shell('nmt', 'train', run.path, '--resume')}")
        return Outcome(state.step, run.pointed("best"), state.best, caught)
    console.say(reason)
    with interpreted():
        score = judge_average(run, model, prepared, state, device=device, console=console, reading=reading, world=world)
    if world.is_first:
        draw_page(run, console.say, training=False)  # once more, as `best` may have moved
    return Outcome(state.step, run.pointed("best"), score, None)


def _reporter(
    run: RunDir, console: Console, state: TrainState, world: World
) -> AbstractContextManager[Reporter | None]:
    """Only the first process has one."""
    if not world.is_first:
        return nullcontext()
    return Reporter(run, console, step=state.step, total=run.config.train.steps)
