"""Training, from a prepared corpus to a run directory with checkpoints: one function, read top to bottom."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import NamedTuple, Self

import torch
from torch import nn

from nmt.align.extract import Reading, choose_reading
from nmt.config import EmbeddingConfig, PlateauSchedule, TrainConfig
from nmt.data.copying import make_copier
from nmt.data.loader import batches
from nmt.data.prepare import Prepared
from nmt.models.build import build_model
from nmt.models.seq2seq import Seq2Seq
from nmt.report import write_report
from nmt.rundir import MODEL, RunDir, load_weights
from nmt.text.vectors import read_vectors
from nmt.train.checkpoint import choose, remove_others, restore, save_checkpoint, thin_out, write_average
from nmt.train.mean import RunningMean
from nmt.train.metrics import Console, Reporter, Values, Window
from nmt.train.optim import after_validation, learning_rate, make_optimizer
from nmt.train.state import Scored, TrainState, improves
from nmt.train.step import label_tokens, train_step
from nmt.train.validate import Validation, validate


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
    max_seconds: float | None = None,
) -> Outcome:
    """Trains the model of `run` on `prepared` until its steps are done, patience or time is out, or a signal comes.

    `resume` goes on from the last checkpoint, on the CPU bit for bit as if nothing had happened. `init_from` is the
    folder of a checkpoint of the same shapes to start from. `train.precision` must be resolved (not `auto`), so that
    a run keeps it. After `max_seconds` of this call it validates, saves and ends. Pretrained word vectors are read
    unless it resumes or starts from a checkpoint. SIGINT and SIGTERM end the step at hand, save, and are given back in
    the outcome; a second one stops at once.
    """
    config, settings = run.config, run.config.train
    torch.manual_seed(settings.seed)
    src, tgt = prepared.tokenizers
    model = build_model(config.model, len(src), len(tgt)).to(device).eval()
    pretrained = _pretrained(model, config.model.embedding)
    for table, _, _ in pretrained:
        table.weight.requires_grad_(not config.model.embedding.freeze)
    reading = None
    if model.decoder.alignment is not None or config.align.attention is not None:
        reading = choose_reading(model, config.align, device=device)  # a mistake in the settings is told now
    model.train()
    optimizer = make_optimizer(settings.optimizer, model)
    mean = RunningMean(model, settings.mean_decay)
    state = TrainState()
    if resume:
        state = restore(run, model, optimizer, mean, report=console.say)
        console.say(f"going on from step {state.step}")
    else:
        if init_from is not None:
            load_weights(init_from / MODEL, model)
        else:
            for table, path, sides in pretrained:
                _start_from_vectors(table, path, prepared, sides, console)
        mean = RunningMean(model, settings.mean_decay)
        # To come back to, whatever happens before the first validation.
        save_checkpoint(run, model, optimizer, state, mean)

    stream = batches(
        prepared.train,
        max_tokens=config.data.max_tokens,
        seed=settings.seed,
        start=state.batch,
        copier=make_copier(src, tgt) if model.head.copies else None,
    )
    window = Window(device, state.window)
    began = time.monotonic()
    started = began - state.seconds
    out_of_time = False
    with Signals() as signals, Reporter(run, console, step=state.step, total=settings.steps) as reporter:
        while (reason := _reason_to_stop(state, settings, signals, out_of_time=out_of_time)) is None:
            group = [next(stream) for _ in range(settings.accumulate)]
            tokens = sum(label_tokens(batch) for _, batch in group)
            lr = learning_rate(settings.schedule, settings.optimizer.lr, state.step + 1, state.plateau_scale)
            sums = train_step(
                model,
                optimizer,
                group,
                tokens=tokens,
                lr=lr,
                settings=settings,
                device=device,
                precision=settings.precision,
            )
            window.add(sums, tokens)
            state.step += 1
            mean.update(state.step)
            state.batch = group[-1][0] + 1
            state.pairs += sum(len(batch.indices) for _, batch in group)
            state.tokens += tokens
            state.seconds = time.monotonic() - started
            console.advance(state.step)
            out_of_time = max_seconds is not None and time.monotonic() - began >= max_seconds

            if state.step % settings.log_every == 0:
                report = {"epoch": round(state.pairs / len(prepared.train), 4), **window.report(), "lr": lr}
                reporter.write(state.step, {**report, "tokens": state.tokens, "seconds": round(state.seconds, 1)})
            if state.step % settings.validate_every == 0 or state.step == settings.steps or out_of_time:
                console.note("translating the development set")
                state.window = window.save()  # before the weights are judged: raises if they have diverged
                with mean.judged():
                    validation = validate(
                        model, prepared, config, device=device, precision=settings.precision, reading=reading
                    )
                improved = _remember(state, validation, settings)
                state.seconds = time.monotonic() - started
                # Reported first: should the checkpoint not come about, resuming cuts the report off again.
                _report_validation(reporter, state, validation, improved=improved)
                name = save_checkpoint(run, model, optimizer, state, mean)
                if improved:
                    run.point("best", name)
                remove_others(run, [c.name for c in state.checkpoints])
                window.restart_clock()

        if signals.caught is not None and (not state.checkpoints or state.checkpoints[-1].step < state.step):
            state.window = window.save()
            save_checkpoint(run, model, optimizer, state, mean)

    if signals.caught is not None:
        console.say(f"interrupted: saved at step {state.step}. To go on: nmt train {run.path} --resume")
        return Outcome(state.step, run.pointed("best"), state.best, signals.caught)
    console.say(reason)
    score = _average(run, model, prepared, state, device=device, console=console, reading=reading)
    write_report(run, training=False)  # once more, as `best` may have moved
    return Outcome(state.step, run.pointed("best"), score, None)


class Signals:
    """Within it SIGINT and SIGTERM are noted in `caught`; the second one acts as usual."""

    def __init__(self) -> None:
        self.caught: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.caught = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}


def _pretrained(model: Seq2Seq, config: EmbeddingConfig) -> list[tuple[nn.Embedding, Path, Sequence[str]]]:
    """The tables that start from vectors, the files these come from, and the sides of the text a table is for."""
    found: list[tuple[nn.Embedding, Path, Sequence[str]]] = []
    for side, part, name in (("src", model.encoder, config.src_vectors), ("tgt", model.decoder, config.tgt_vectors)):
        if name is not None:
            table = part.get_submodule("embedding.table")
            assert isinstance(table, nn.Embedding)
            found.append((table, Path(name), ("src", "tgt") if config.tie == "all" else (side,)))
    return found


def _start_from_vectors(
    table: nn.Embedding, path: Path, prepared: Prepared, sides: Sequence[str], console: Console
) -> None:
    """Puts the vectors of a file into a table, and says how many words have one."""
    tokenizer, corpus = prepared.tokenizers[sides[0] == "tgt"], prepared.train
    vectors = read_vectors(path, tokenizer, table.embedding_dim)
    found = torch.from_numpy(vectors.found).to(table.weight.device)
    with torch.no_grad():
        table.weight[found] = torch.from_numpy(vectors.values).to(table.weight)[found]
    read = {"src": corpus.src, "tgt": corpus.tgt}
    coverage = vectors.coverage(read[side](i) for side in sides for i in range(len(corpus)))
    console.say(f"{path.name}: {coverage}")


def _reason_to_stop(state: TrainState, settings: TrainConfig, signals: Signals, *, out_of_time: bool) -> str | None:
    if signals.caught is not None:
        return "interrupted"
    if out_of_time and state.step < settings.steps:
        return f"out of time at step {state.step} of {settings.steps} (go on: --resume)"
    if state.step >= settings.steps:
        return f"done: {state.step} steps (more: --resume --set train.steps=N)"
    if settings.patience is not None and state.stale >= settings.patience:
        return (
            f"stopped at step {state.step}: {state.stale} validations without a better {settings.metric} "
            "(go on all the same: --resume --set train.patience=N)"
        )
    return None


def _remember(state: TrainState, validation: Validation, settings: TrainConfig) -> bool:
    """Takes a validation into the state; whether it is the best so far."""
    score = validation.score(settings.metric)
    improved = improves(settings.metric, score, state.best)
    state.best = score if improved else state.best
    state.stale = 0 if improved else state.stale + 1
    if isinstance(settings.schedule, PlateauSchedule):
        state.plateau_scale, state.plateau_stale = after_validation(
            settings.schedule, scale=state.plateau_scale, stale=state.plateau_stale, improved=improved
        )
    scored = Scored(f"step-{state.step:08d}", state.step, score)
    state.checkpoints = thin_out([*state.checkpoints, scored], settings.metric, settings.keep)
    return improved


def _report_validation(reporter: Reporter, state: TrainState, validation: Validation, *, improved: bool) -> None:
    values: Values = {"dev_loss": validation.loss, "dev_bleu": validation.bleu, "dev_chrf": validation.chrf}
    reporter.console.say(
        f"step {state.step}  dev loss {validation.loss:.3f}  BLEU {validation.bleu:.2f}  chrF {validation.chrf:.2f}"
        + ("  (best so far)" if improved else "")
    )
    reporter.samples(state.step, validation.samples, validation.maps)
    reporter.write(state.step, {**values, "seconds": round(state.seconds, 1)})


def _average(
    run: RunDir,
    model: Seq2Seq,
    prepared: Prepared,
    state: TrainState,
    *,
    device: torch.device,
    console: Console,
    reading: Reading | None,
) -> float | None:
    """Averages checkpoints as the settings say; `best` moves there if it scores better. Returns the score of `best`."""
    settings = run.config.train
    if settings.average is None or len(state.checkpoints) < 2:
        return state.best
    which, count = settings.average.which, settings.average.count
    chosen = choose(state.checkpoints, settings.metric, which, count)
    name = f"average-{which}-{len(chosen)}"
    folder = write_average(run, name, chosen)
    load_weights(folder / MODEL, model)
    validation = validate(model, prepared, run.config, device=device, precision=settings.precision, reading=reading)
    score = validation.score(settings.metric)
    better = improves(settings.metric, score, state.best)
    console.say(
        f"average of {', '.join(str(c.step) for c in chosen)}: dev loss {validation.loss:.3f}  "
        f"BLEU {validation.bleu:.2f}  chrF {validation.chrf:.2f}" + ("  (best)" if better else "  (not better)")
    )
    if better:
        run.point("best", name)
    return score if better else state.best
