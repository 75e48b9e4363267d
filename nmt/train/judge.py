"""What follows from a validation: which checkpoints are kept, what is told; and the average at the end."""

from __future__ import annotations

import torch

from nmt.align.extract import Reading
from nmt.config import PlateauSchedule, TrainConfig
from nmt.data.prepare import Prepared
from nmt.models.seq2seq import Seq2Seq
from nmt.rundir import MODEL, RunDir, load_weights
from nmt.train.checkpoint import checkpoint_name, choose, thin_out, write_average
from nmt.train.metrics import Console, Reporter, Values
from nmt.train.optim import after_validation
from nmt.train.state import Scored, TrainState, improves
from nmt.train.validate import Validation, validate
from nmt.train.world import World


def remember(state: TrainState, validation: Validation, settings: TrainConfig) -> bool:
    """Takes a validation into the state; whether it is the best so far."""
    score = validation.score(settings.metric)
    improved = improves(settings.metric, score, state.best)
    state.best = score if improved else state.best
    state.stale = 0 if improved else state.stale + 1
    if isinstance(settings.schedule, PlateauSchedule):
        state.plateau_scale, state.plateau_stale = after_validation(
            settings.schedule, scale=state.plateau_scale, stale=state.plateau_stale, improved=improved
        )
    scored = Scored(checkpoint_name(state.step), state.step, score)
    state.checkpoints = thin_out([*state.checkpoints, scored], settings.metric, settings.keep)
    return improved


def report_validation(reporter: Reporter, state: TrainState, validation: Validation, *, improved: bool) -> None:
    values: Values = {"dev_loss": validation.loss, "dev_bleu": validation.bleu, "dev_chrf": validation.chrf}
    reporter.console.say(
        f"step {state.step}  dev loss {validation.loss:.3f}  BLEU {validation.bleu:.2f}  chrF {validation.chrf:.2f}"
        + ("  (best so far)" if improved else "")
    )
    reporter.samples(state.step, validation.samples, validation.maps)
    reporter.write(state.step, {**values, "seconds": round(state.seconds, 1)})
    reporter.sync()


def judge_average(
    run: RunDir,
    model: Seq2Seq,
    prepared: Prepared,
    state: TrainState,
    *,
    device: torch.device,
    console: Console,
    reading: Reading | None,
    world: World,
) -> float | None:
    """Averages checkpoints as the settings say; `best` moves there if it scores better. Returns the score of `best`."""
    settings = run.config.train
    if settings.average is None or len(state.checkpoints) < 2:
        return state.best
    which, count = settings.average.which, settings.average.count
    chosen = choose(state.checkpoints, settings.metric, which, count)
    name = f"average-{which}-{len(chosen)}"
    if world.is_first:
        write_average(run, name, chosen)
    world.wait()
    load_weights(run.checkpoints / name / MODEL, model)
    validation = validate(
        model, prepared, run.config, device=device, precision=settings.precision, reading=reading, world=world
    )
    score = validation.score(settings.metric)
    better = improves(settings.metric, score, state.best)
    console.say(
        f"average of {', '.join(str(c.step) for c in chosen)}: dev loss {validation.loss:.3f}  "
        f"BLEU {validation.bleu:.2f}  chrF {validation.chrf:.2f}" + ("  (best)" if better else "  (not better)")
    )
    if better and world.is_first:
        run.point("best", name)
    return score if better else state.best
