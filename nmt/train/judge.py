"""What follows from a validation: which checkpoints are kept, what is told; and the average at the end."""

from __future__ import annotations

import torch

from nmt.align.extract import Reading
from nmt.config import PlateauSchedule, TrainConfig
from nmt.data.prepare import Prepared
from nmt.models.seq2seq import Seq2Seq
from nmt.rundir import MODEL, RunDir, load_weights
from nmt.train.checkpoint import checkpoint_name, choose, score_average, thin_out, write_average
from nmt.train.metrics import Console, Reporter, Values
from nmt.train.optim import after_validation
from nmt.train.state import LITTLE_BLEU, Scored, TrainState, improves
from nmt.train.trouble import CALMER
from nmt.train.validate import Validation, validate
from nmt.train.world import World

LITTLE_CHRF = 30.0
"""Below this and LITTLE_BLEU nothing is learned yet. Sentences of a word or two have chrF, no BLEU."""
EARLY = 0.2
"""The share of the steps in which that is no bad sign."""


def remember(state: TrainState, validation: Validation, settings: TrainConfig) -> bool:
    """Takes a validation into the state; whether it is the best so far.

    Where training has diverged, the checkpoint is no better than any, and takes the place of none.
    """
    score = validation.score(settings.metric)
    improved = not validation.diverged and _better(validation, state, settings.metric)
    if improved:
        state.best, state.best_loss = score, validation.loss
    state.stale = 0 if improved else state.stale + 1
    if isinstance(settings.schedule, PlateauSchedule):
        state.plateau_scale, state.plateau_stale = after_validation(
            settings.schedule, scale=state.plateau_scale, stale=state.plateau_stale, improved=improved
        )
    if not validation.diverged:
        scored = [*state.checkpoints, Scored(checkpoint_name(state.step), state.step, score, validation.loss)]
        state.checkpoints = thin_out(scored, settings.metric, last=settings.last_kept, best=settings.best_kept)
    return improved


def _better(validation: Validation, state: TrainState, metric: str) -> bool:
    score = validation.score(metric)
    return improves(metric, score, state.best, loss=validation.loss, best_loss=state.best_loss)


def report_validation(
    reporter: Reporter, state: TrainState, validation: Validation, settings: TrainConfig, *, improved: bool
) -> None:
    values: Values = {"dev_loss": validation.loss, "dev_bleu": validation.bleu, "dev_chrf": validation.chrf}
    reporter.console.say(
        f"step {state.step}  dev loss {validation.loss:.3f}  BLEU {validation.bleu:.2f}  chrF {validation.chrf:.2f}"
        + ("  (best so far)" if improved else "")
    )
    for line in _in_words(validation, state, settings):
        reporter.console.say(f"  {line}")
    reporter.samples(state.step, validation.samples, validation.maps)
    reporter.write(state.step, {**values, "seconds": round(state.seconds, 1)})
    reporter.sync()


def _in_words(validation: Validation, state: TrainState, settings: TrainConfig) -> list[str]:
    """What a person may make of scores that say little: training has diverged, or nothing is learned yet."""
    done = state.step / settings.steps
    knowing_nothing = f"{validation.guess:.1f}, that of a model that knows nothing"
    if validation.diverged:
        return [f"training has diverged: the loss is far above {knowing_nothing}; this checkpoint is not used", CALMER]
    if validation.bleu >= LITTLE_BLEU or validation.chrf >= LITTLE_CHRF:
        return []
    if _knew_more(validation, state.best, settings.metric):
        return ["training has diverged: what had been learned is lost; the best checkpoint so far is kept", CALMER]
    if done <= EARLY:
        return [
            f"a BLEU of nearly 0 is normal at {done:.0%} of the steps: the loss falls first, from {knowing_nothing}"
        ]
    return [
        f"hardly anything is learned after {done:.0%} of the steps. Does line N of one file translate line N of the "
        "other? Does the loss still fall? Little text needs many steps"
    ]


def _knew_more(validation: Validation, best: float | None, metric: str) -> bool:
    """Whether a model whose translations are worth nothing was worth something at its best; by the loss, whether it
    has lost half of the nats by which it was better than one that knows nothing."""
    match metric:
        case _ if best is None:
            return False
        case "loss":
            return validation.guess - validation.loss < (validation.guess - best) / 2
        case _:
            return best >= {"bleu": LITTLE_BLEU, "chrf": LITTLE_CHRF}[metric]


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
    better = not validation.diverged and _better(validation, state, settings.metric)
    if world.is_first:
        score_average(run, name, score)
    console.say(
        f"average of {', '.join(str(c.step) for c in chosen)}: dev loss {validation.loss:.3f}  "
        f"BLEU {validation.bleu:.2f}  chrF {validation.chrf:.2f}" + ("  (best)" if better else "  (not better)")
    )
    if better and world.is_first:
        run.point("best", name)
    return score if better else state.best
