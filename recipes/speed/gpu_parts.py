"""The parts of gpu.py: each looks at one thing, and tells what it finds row by row."""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from nmt.bench import matrix_peak, random_batch, timed
from nmt.bench.parts import drain, forward_flops
from nmt.data.batch import Batch, collate
from nmt.data.loader import batches
from nmt.device import describe_machine, resolve_device, resolve_precision, round_float32
from nmt.errors import UserError
from nmt.evaluate import evaluate
from nmt.models.build import build_model
from nmt.models.packed import pack
from nmt.search.beam import beam_search, top
from nmt.search.penalty import length_penalty
from nmt.search.rules import AtLeast
from nmt.settings.load import load_config
from nmt.train.fused import compile_layers
from nmt.train.objective import Objective
from nmt.train.optim import make_optimizer
from nmt.train.step import label_tokens, train_step
from nmt.translate import DTYPES

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "recipes"
CPU = torch.device("cpu")
TINY = [
    *("model.embedding.width=16", "model.encoder.width=16", "model.decoder.width=16"),
    *("model.encoder.layers=1", "model.decoder.layers=1"),
]
TINY_OF = {
    "transformer": ["model.encoder.heads=2", "model.decoder.heads=2", "model.encoder.feed_forward=32"],
    "rnn": ["model.decoder.attention.width=16"],
}


class Sizes(NamedTuple):
    vocabulary: int
    length: float  # pieces of a sentence, the mean
    tokens: int  # of a batch
    warmup: int  # updates
    updates: int
    sentences: tuple[int, ...]  # searched at once
    pairs: int  # of random text to be cut into batches
    seconds: float  # for the updates of the training on Multi30k


FULL = Sizes(32_000, 27, 25_000, 6, 20, (100, 1_000), 200_000, 100)
DRY = Sizes(300, 9, 400, 1, 2, (2, 5), 2_000, 100)
TESTS = "not compiled and not (lower_the_loss and float32)"
"""Of tests/gpu: the compiler is a part of its own."""
DRY_TESTS = "(losses_are or search_is_that) and copy-transformer-own or killed"


class Options(argparse.Namespace):
    out: Path
    pack: Path
    scratch: Path
    dry: bool
    part: str | None

    @property
    def sizes(self) -> Sizes:
        return DRY if self.dry else FULL

    @property
    def device(self) -> torch.device:
        return resolve_device("cpu" if self.dry else "cuda")

    def found(self, part: str, **values: Any) -> None:
        """Writes a row of results, and says it."""
        line = json.dumps({"part": part, **values}, ensure_ascii=False)
        with (self.out / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)


def machine(options: Options) -> None:
    """What computes, and the peaks of matrix products in this process."""
    evaluate(["a"], [["a"]], metrics=("bleu",))  # what is not installed is missed now
    device = options.device
    about = {**describe_machine(device), "cuda": torch.version.cuda, "cores": len(os.sched_getaffinity(0))}
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        about |= {"memory GiB": round(total / 2**30, 1), "free GiB": round(free / 2**30, 1)}
    peaks = {"bfloat16": matrix_peak(torch.bfloat16, device)}
    round_float32(True)
    peaks["tf32"] = matrix_peak(torch.float32, device)
    round_float32(False)
    peaks["float32"] = matrix_peak(torch.float32, device)
    commit = options.pack / "commit"
    about["commit"] = commit.read_text().strip() if commit.is_file() else ""
    options.found("machine", **about, **{f"peak {name}": round(peak / 1e12, 2) for name, peak in peaks.items()})


def tests(options: Options) -> None:
    """tests/gpu, each one told as it ends."""
    chosen, workers = (DRY_TESTS, []) if options.dry else (TESTS, ["-n", "8"])
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-v", "--tb=short", "-W", "default"]
    command += ["-p", "no:cacheprovider", "-k", chosen, *workers]
    environment = {**os.environ, "NMT_TEST_DEVICE": str(options.device), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    last = ""
    for line in process.stdout or ():
        print(line, end="", flush=True)
        last = line.strip() or last
    code = process.wait()
    options.found("tests", code=code, said=last.strip("= "))
    sys.exit(code)


def settings(name: str, options: Options, *extra: str) -> Any:
    """The configuration `name`.yaml of this folder, tiny on a dry run."""
    kind = "rnn" if name == "rnn" else "transformer"
    tiny = [*TINY, *TINY_OF[kind]] if options.dry else []
    return load_config(RECIPES / "speed" / f"{name}.yaml", [*tiny, "train.precision=bfloat16", *extra])


class RandomPairs:
    """A corpus of pairs with the lengths of news text: log-normal, a target about as long as its source. Frequent
    words are frequent, as the backward pass of an embedding takes longer for them."""

    parts = ()

    def __init__(self, sizes: Sizes) -> None:
        draw = np.random.default_rng(1)
        spread = 0.6
        self.src_lengths = lengths(draw.lognormal(np.log(sizes.length) - spread**2 / 2, spread, sizes.pairs))
        self.tgt_lengths = lengths(self.src_lengths * draw.lognormal(0, 0.15, sizes.pairs))
        self.draw, self.vocabulary = draw, sizes.vocabulary

    def sentence(self, length: int) -> np.ndarray:
        return 4 + ((self.vocabulary - 4) * self.draw.random(length) ** 3).astype(np.int64)

    def src(self, i: int) -> np.ndarray:
        return self.sentence(self.src_lengths[i])

    def tgt(self, i: int) -> np.ndarray:
        return self.sentence(self.tgt_lengths[i])


def lengths(drawn: np.ndarray) -> np.ndarray:
    return drawn.round().clip(1, 200).astype(np.int64)


def training(name: str, *, compiled: bool = False) -> Callable[[Options], None]:
    def part(options: Options) -> None:
        """Updates on batches as they come, from the making of a batch on; smaller batches where memory is short."""
        tokens = options.sizes.tokens
        while True:
            try:
                train(name, tokens, options, compiled=compiled)
                return
            except (UserError, torch.OutOfMemoryError) as error:
                if "out of memory" not in str(error) or tokens < 1_000:
                    raise
                print(f"{name}: out of memory with {tokens} tokens a batch", flush=True)
            tokens //= 2
            torch.cuda.empty_cache()

    return part


def train(name: str, tokens: int, options: Options, *, compiled: bool) -> None:
    sizes, device, config = options.sizes, options.device, settings(name, options)
    peak = matrix_peak(torch.bfloat16, device)
    model = build_model(config.model, sizes.vocabulary, sizes.vocabulary).eval()
    work = 3 * sum(forward_flops(model, random_batch(1, int(sizes.length), sizes.vocabulary))) / (sizes.length + 1)
    model.to(device).train()
    if compiled:
        compile_layers(model, "eager" if options.dry else "inductor")
    stream = batches(RandomPairs(sizes), max_tokens=tokens, seed=1, start=0)
    update = updater(model, config, stream, device)
    first, seconds, labels = pace(update, options)
    options.found(
        "training",
        model=name,
        compiled=compiled,
        batch=tokens,
        rate=round(labels / seconds),
        milliseconds=round(1e3 * seconds / sizes.updates, 2),
        share=round(labels * work / seconds / peak, 4),
        peak=round(peak / 1e12, 2),
        first=round(first, 1),
        memory=memory(device),
    )


def pace(update: Callable[[], int], options: Options) -> tuple[float, float, int]:
    """Seconds of the first updates and of those after them, and the label tokens of these."""
    began = time.perf_counter()
    for _ in range(options.sizes.warmup):
        update()
    drain(options.device)
    start = time.perf_counter()
    labels = sum(update() for _ in range(options.sizes.updates))
    drain(options.device)
    return start - began, time.perf_counter() - start, labels


def updater(model: Any, config: Any, stream: Iterator[Any], device: torch.device) -> Callable[[], int]:
    """An update of the weights at each call, which gives the number of its label tokens."""
    optimizer, objective = make_optimizer(config.train.optimizer, model), Objective(model, config.train)

    def update() -> int:
        index, batch = next(stream)
        tokens = label_tokens(batch)
        train_step(
            objective,
            optimizer,
            [(index, batch)],
            tokens=tokens,
            lr=1e-4,
            settings=config.train,
            device=device,
            precision="bfloat16",
        )
        return tokens

    return update


def memory(device: torch.device) -> float | None:
    """GiB at most, so far in this process."""
    return round(torch.cuda.max_memory_allocated(device) / 2**30, 2) if device.type == "cuda" else None


def searching(options: Options) -> None:
    """Greedy and beam search on the device; each sentence is made to end after as many tokens as its target has."""
    for name in ("base", "big", "rnn"):
        search(name, options.sizes.sentences, options.device, options)
    choice(options)


def searching_on_cpu(options: Options) -> None:
    """The same on this machine's CPU, for the ratio."""
    search("base", options.sizes.sentences[:1], CPU, options)


def search(name: str, counts: Sequence[int], device: torch.device, options: Options) -> None:
    config, size = settings(name, options), options.sizes.vocabulary
    precision = resolve_precision("auto", device)
    model = build_model(config.model, size, size).to(device, DTYPES[precision]).eval()
    pack(model)
    penalty = length_penalty(config.search.length_penalty)

    @torch.inference_mode()
    def once(batch: Batch, limits: torch.Tensor, beam: int) -> None:
        rules = [AtLeast(limits.to(device))]
        beam_search(model.predictor(batch.to(device)), beam=beam, limits=limits, penalty=penalty, rules=rules)

    repeats, warmup = (1, 0) if device == CPU else (2, 1)
    for sentences, beam in itertools.product(counts, (1, 4)):
        pairs = RandomPairs(options.sizes._replace(pairs=sentences))
        batch, limits = collate([pairs.src(i) for i in range(sentences)]), torch.from_numpy(pairs.tgt_lengths + 1)
        action = functools.partial(once, batch, limits, beam)
        seconds = min(timed(lambda _, action=action: action(), repeats=repeats, warmup=warmup, device=device))
        options.found(
            "search",
            model=name,
            device=device.type,
            precision=precision,
            beam=beam,
            sentences=sentences,
            rate=round(sentences / seconds, 1),
            tokens=round(int(limits.sum()) / seconds),
            step=round(1e3 * seconds / int(limits.max()), 2),
            memory=memory(device),
        )


def choice(options: Options) -> None:
    """How the best continuations are found: by blocks, as in search, and by topk alone."""
    sizes, device = options.sizes, options.device
    values = torch.randn(4 * sizes.sentences[-1], sizes.vocabulary, device=device)
    ways: dict[str, Callable[[int], object]] = {"blocks": lambda _: top(values, 8), "topk": lambda _: values.topk(8)}
    times = {name: min(timed(way, repeats=5, warmup=2, device=device)) for name, way in ways.items()}
    options.found("choice", rows=len(values), **{name: round(1e3 * each, 3) for name, each in times.items()})
