"""How fast this machine trains and searches with a model of given settings, beside what its matrix units can do.

The pairs are random ids of a fixed length, so that no corpus is needed and nothing but the model is measured. The parts
are timed from outside, in a pass of its own after the main one: a GPU must be waited for around each of them, which
the main figure must not pay for.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from nmt.bench.parts import Laps, drain, forward_flops, middle
from nmt.config import Config
from nmt.data.batch import Batch, collate
from nmt.device import is_emulated, resolve_precision, round_float32
from nmt.errors import UserError
from nmt.models.build import build_model
from nmt.search.beam import beam_search
from nmt.search.penalty import length_penalty
from nmt.search.rules import AtLeast
from nmt.train.fused import check_compiler, compile_layers
from nmt.train.objective import Objective
from nmt.train.optim import make_optimizer
from nmt.train.step import label_tokens, train_step
from nmt.translate import DTYPES


class Part(NamedTuple):
    """A part of one step or batch."""

    seconds: float
    share: float  # of the time of all parts
    flops: float | None  # model FLOP per second; None where nothing is multiplied with matrices
    peak_share: float | None  # of the matrix peak


PRODUCTS = 0.6
"""A part that reaches so much of the matrix peak has little else to do than multiply."""


class Speed(NamedTuple):
    """One measurement: the median over its repeats."""

    rate: float  # target tokens or sentences per second
    unit: str
    seconds: float  # of one step or batch
    spread: float  # slowest over fastest repeat
    work: float  # model FLOP per target token or sentence, see `forward_flops`; backward is twice forward
    flops: float  # model FLOP per second
    peak: float  # FLOP per second of a large matrix product in the same precision, measured just before
    precision: str  # such as "bfloat16", or "bfloat16, compiled"
    parts: dict[str, Part]  # of the middle one of as many repeats again

    @property
    def bound(self) -> str:
        """What to make faster first: the part that takes longest, and whether products or all else takes it."""
        name, part = max(self.parts.items(), key=lambda item: item[1].seconds)
        if part.peak_share is None:
            return f"{name} ({part.share:.0%} of the time), where nothing is multiplied"
        by = "matrix products" if part.peak_share >= PRODUCTS else "small operations and memory rather than products"
        return f"{name} ({part.share:.0%} of the time): {by}, at {part.peak_share:.0%} of the peak"


def bench_train(config: Config, *, vocabulary: int, length: int, steps: int, device: torch.device) -> Speed:
    """`steps` updates after 3 of warm-up, on pairs of `length` tokens a side in batches of data.max_tokens.

    Parts: encoder, decoder and head forward; backward; optimiser (clipping and update); other.
    """
    precision = _timed_precision(config.train.precision, device, trains_lstm=config.model.has_lstm)
    if precision == "tf32":
        round_float32(True)
    peak = matrix_peak(DTYPES.get(precision, torch.float32), device)
    model = build_model(config.model, vocabulary, vocabulary).eval()
    work = forward_flops(model, random_batch(1, length, vocabulary))
    model.to(device).train()
    if config.train.compile:
        check_compiler(device)
        compile_layers(model)
    optimizer, objective = make_optimizer(config.train.optimizer, model), Objective(model, config.train)
    batch = random_batch(max(1, config.data.max_tokens // (length + 1)), length, vocabulary)
    tokens = label_tokens(batch)

    def step(index: int) -> None:
        train_step(
            objective,
            optimizer,
            [(index, batch)],
            tokens=tokens,
            lr=1e-4,
            settings=config.train,
            device=device,
            precision=precision,
        )

    def step_by_part(index: int) -> Laps:
        laps = Laps(device, rest="other")
        with laps.of_training(model):
            step(index)
        laps.end("optimiser")  # all that comes after the last gradient
        return laps

    times = timed(step, repeats=steps, warmup=3, device=device)
    flops = {
        "encoder": work.encoder,
        "decoder": work.prepare + work.decoder,
        "head": work.head,
        "backward": 2 * sum(work),
        "optimiser": 0.0,
        "other": 0.0,
    }
    flops = {part: len(batch.src.ids) * each for part, each in flops.items()}
    parts = middle([step_by_part(index) for index in range(steps)])
    how = f"{precision}, compiled" if config.train.compile else precision
    return summary(tokens, "target tokens/s", times, flops=flops, parts=parts, peak=peak, precision=how)


def bench_decode(
    config: Config, *, vocabulary: int, length: int, steps: int, sentences: int, repeats: int, device: torch.device
) -> Speed:
    """Beam search over `sentences` sources of `length` tokens, each for exactly `steps` tokens.

    Parts: encode (all that is done once per sentence before search), decoder (its start and its steps), head, reorder
    (of the state), top-k (the choice of the best continuations), host (all the rest of search).
    """
    precision = _timed_precision(config.search.precision, device)
    peak = matrix_peak(DTYPES[precision], device)
    model = build_model(config.model, vocabulary, vocabulary).eval()
    beam = config.search.beam
    work = forward_flops(model, random_batch(1, length, vocabulary), beams=beam, steps=steps)
    model.to(device, DTYPES[precision])
    batch = random_batch(sentences, length, vocabulary).to(device)
    limits = torch.full((sentences,), steps)  # on the CPU, as the translator gives them
    rules, penalty = [AtLeast(limits.to(device))], length_penalty(config.search.length_penalty)

    @torch.inference_mode()
    def search(_: int) -> None:
        beam_search(model.predictor(batch), beam=beam, limits=limits, penalty=penalty, rules=rules)

    def search_by_part(index: int) -> Laps:
        laps = Laps(device, rest="host")
        with laps.of_search(model, state):
            search(index)
        laps.end("host")
        return laps

    times = timed(search, repeats=repeats, warmup=1, device=device)
    with torch.inference_mode():
        state = type(model.predictor(batch).start(1, 1))
    flops = {
        "encode": work.encoder + work.prepare,
        "decoder": work.decoder,
        "head": work.head,
        "reorder": 0.0,
        "top-k": 0.0,
        "host": 0.0,
    }
    flops = {part: sentences * each for part, each in flops.items()}
    parts = middle([search_by_part(index) for index in range(repeats)])
    return summary(sentences, "sentences/s", times, flops=flops, parts=parts, peak=peak, precision=precision)


def _timed_precision(setting: str, device: torch.device, *, trains_lstm: bool = False) -> str:
    """UserError for one that the device only emulates: it takes many times as long, and says nothing of the code."""
    precision = resolve_precision(setting, device, trains_lstm=trains_lstm)
    if is_emulated(precision, device):
        raise UserError(
            f"{precision} is left out: this processor has no instructions for it and emulates it",
            "choose float32 or auto",
        )
    return precision


def summary(
    count: int,
    unit: str,
    times: list[float],
    *,
    flops: Mapping[str, float],
    parts: Mapping[str, float],
    peak: float,
    precision: str,
) -> Speed:
    """`count` units took each of `times`; `flops` of the parts, in the order of printing, and their seconds."""
    seconds, total, model_flops = statistics.median(times), sum(parts.values()), sum(flops.values())

    def part(name: str, work: float) -> Part:
        took = parts.get(name, 0.0)
        speed = work / took if work and took else None
        return Part(took, took / total, speed, None if speed is None else speed / peak)

    return Speed(
        count / seconds,
        unit,
        seconds,
        max(times) / min(times),
        model_flops / count,
        model_flops / seconds,
        peak,
        precision,
        {name: part(name, work) for name, work in flops.items()},
    )


def random_batch(sentences: int, length: int, vocabulary: int) -> Batch:
    draw = random.Random(1)
    rows = [[draw.randrange(4, vocabulary) for _ in range(length)] for _ in range(sentences)]
    batch = collate(rows, rows)
    return batch._replace(copy_ids=batch.src.ids)  # as with one vocabulary


def matrix_peak(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP per second of a large square matrix product, the best of several."""
    size = 8192 if device.type == "cuda" else 1536
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    times = timed(lambda _: a @ b, repeats=8, warmup=2, device=device)
    return 2.0 * size**3 / min(times)


def timed(action: Callable[[int], object], *, repeats: int, warmup: int, device: torch.device) -> list[float]:
    """Seconds of each call, the device's queue drained before and after."""
    times = []
    for index in range(warmup + repeats):
        drain(device)
        start = time.perf_counter()
        action(index)
        drain(device)
        times.append(time.perf_counter() - start)
    return times[warmup:]
