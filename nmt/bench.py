"""How fast this machine trains and searches with a model of given settings, beside what its matrix units can do.

The pairs are random ids of a fixed length, so that no corpus is needed and nothing but the model is measured.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from nmt.config import Config
from nmt.data.batch import EOS, Batch, collate
from nmt.device import resolve_precision
from nmt.models.build import build_model, census
from nmt.models.interface import Predictor, State
from nmt.models.seq2seq import Seq2Seq
from nmt.search.beam import beam_search
from nmt.train.optim import make_optimizer
from nmt.train.step import label_tokens, train_step
from nmt.translate import DTYPES


class Speed(NamedTuple):
    """One measurement: the median over its repeats."""

    rate: float  # target tokens or sentences per second
    unit: str
    seconds: float  # of one step or batch
    spread: float  # slowest over fastest repeat
    flops: float  # model FLOP per second: 2 per weight and token forward, twice that again backward
    peak: float  # FLOP per second of a large matrix product in the same precision, measured just before
    precision: str


def bench_train(config: Config, *, vocabulary: int, length: int, steps: int, device: torch.device) -> Speed:
    """`steps` updates after 3 of warm-up, on pairs of `length` tokens a side in batches of data.max_tokens."""
    precision = resolve_precision(config.train.precision, device)
    peak = matrix_peak(DTYPES[precision], device)
    model = build_model(config.model, vocabulary, vocabulary).to(device).train()
    optimizer = make_optimizer(config.train.optimizer, model)
    batch = random_batch(max(1, config.data.max_tokens // (length + 1)), length, vocabulary)
    tokens = label_tokens(batch)

    def step(index: int) -> None:
        train_step(
            model,
            optimizer,
            [(index, batch)],
            tokens=tokens,
            lr=1e-4,
            settings=config.train,
            device=device,
            precision=precision,
        )

    times = timed(step, repeats=steps, warmup=3, device=device)
    seconds = statistics.median(times)
    flops = 3 * forward_flops(model, tokens, tokens) / seconds
    return Speed(tokens / seconds, "target tokens/s", seconds, max(times) / min(times), flops, peak, precision)


def bench_decode(
    config: Config, *, vocabulary: int, length: int, steps: int, sentences: int, repeats: int, device: torch.device
) -> Speed:
    """Beam search over `sentences` sources of `length` tokens, each for exactly `steps` tokens."""
    precision = resolve_precision(config.search.precision, device)
    peak = matrix_peak(DTYPES[precision], device)
    model = build_model(config.model, vocabulary, vocabulary).to(device, DTYPES[precision]).eval()
    batch = random_batch(sentences, length, vocabulary).to(device)
    limits = torch.full((sentences,), steps)
    beam = config.search.beam

    def search(_: int) -> None:
        with torch.inference_mode():
            beam_search(Endless(model.predictor(batch), steps), beam=beam, limits=limits)

    times = timed(search, repeats=repeats, warmup=1, device=device)
    seconds = statistics.median(times)
    flops = forward_flops(model, sentences * (length + 1), sentences * beam * steps) / seconds
    return Speed(sentences / seconds, "sentences/s", seconds, max(times) / min(times), flops, peak, precision)


class Endless:
    """A predictor that never ends a sentence before step `steps`, so that an untrained model works as long as any."""

    def __init__(self, predictor: Predictor, steps: int, done: int = 0) -> None:
        self.predictor, self.steps, self.done = predictor, steps, done
        self.sentences, self.device = predictor.sentences, predictor.device

    def start(self, beams: int, steps: int) -> State:
        return self.predictor.start(beams, steps)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        log_probs, state = self.predictor.step(tokens, state)
        self.done += 1
        if self.done < self.steps:
            log_probs[:, EOS] = -torch.inf
        return log_probs, state

    def select(self, sentences: Tensor) -> Endless:
        return Endless(self.predictor.select(sentences), self.steps, self.done)


def random_batch(sentences: int, length: int, vocabulary: int) -> Batch:
    draw = random.Random(1)
    rows = [[draw.randrange(4, vocabulary) for _ in range(length)] for _ in range(sentences)]
    return collate(rows, rows)


def forward_flops(model: Seq2Seq, src_tokens: int, tgt_tokens: int) -> float:
    """2 FLOP per weight and token. Embeddings are looked up, not multiplied, unless the head has them as its output
    layer. Attention's products with the memory are left out (a few percent at these lengths)."""
    head = sum(parameter.numel() for parameter in model.head.parameters())  # a tied output layer included
    parts = census(model)
    return 2.0 * (src_tokens * parts["encoder"] + tgt_tokens * (parts["decoder"] + head))


def matrix_peak(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP per second of a large square matrix product, the best of several."""
    size = 4096 if device.type == "cuda" else 1536
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    times = timed(lambda _: a @ b, repeats=8, warmup=2, device=device)
    return 2.0 * size**3 / min(times)


def timed(action: Callable[[int], object], *, repeats: int, warmup: int, device: torch.device) -> list[float]:
    """Seconds of each call, the device's queue drained before and after."""
    times = []
    for index in range(warmup + repeats):
        _drain(device)
        start = time.perf_counter()
        action(index)
        _drain(device)
        times.append(time.perf_counter() - start)
    return times[warmup:]


def _drain(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
