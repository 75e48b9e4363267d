"""How good the model is on the development set: loss, BLEU and chrF, and some translations with their attention."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import torch

from nmt.align.extract import Level, Reading, attention_maps
from nmt.align.maps import AttentionMap
from nmt.config import Config
from nmt.data.batch import Batch
from nmt.data.loader import evaluation_batches
from nmt.data.prepare import Prepared
from nmt.device import autocast
from nmt.evaluate import evaluate
from nmt.models.seq2seq import Seq2Seq
from nmt.text.tokenizer import Tokenizer
from nmt.train.step import label_tokens
from nmt.train.world import ALONE, World
from nmt.translate import Translator

MOST_PIECES = 8
"""Of a word, on average: a language with more is taken to do without spaces."""


class Validation(NamedTuple):
    loss: float  # nats per target token (EOS included), targets given, no label smoothing
    bleu: float
    chrf: float
    samples: list[dict[str, str]]  # source, reference, output
    maps: list[AttentionMap]  # of each sample's source and output; none without attention
    guess: float  # the loss of who knows nothing: ln V, each token of the target vocabulary being as probable

    @property
    def diverged(self) -> bool:
        """Whether the loss is twice that of knowing nothing, or more: a perplexity beyond V^2, which no model has that
        learns; one with random weights is near V."""
        return self.loss >= 2 * self.guess

    def score(self, metric: str) -> float:
        return {"loss": self.loss, "bleu": self.bleu, "chrf": self.chrf}[metric]


def validate(
    model: Seq2Seq,
    prepared: Prepared,
    config: Config,
    *,
    device: torch.device,
    precision: str,
    reading: Reading | None,
    world: World = ALONE,
) -> Validation:
    """Measures `model` on the development set and leaves it in training mode.

    Translation here is greedy: a fraction of the time of a beam, and it ranks checkpoints as well. Attention is that
    of `reading`, in float32; without one, there are no maps. The processes of a world share the work, and all know
    the result, but for the maps, which are the first one's.
    """
    dev = prepared.dev
    model.eval()
    plain = {"beam": 1, "sampling": None, "mbr": None, "coverage_penalty": 0.0}
    greedy = config.search.model_copy(update=plain)
    sources, references = zip(*(dev.text(i) for i in range(len(dev))), strict=True)
    translator = Translator(model, prepared.tokenizers, greedy, device=device)
    batches = evaluation_batches(dev, max_tokens=config.data.max_tokens, feeder=translator.feeder)
    loss = _loss(model, batches, device, precision, world)
    translations = translator.translate(sources[world.rank :: world.size])
    outputs = world.gather([translation.text for translation in translations])
    evaluated = evaluate(outputs, [references], metrics=("bleu", "chrf"), lowercase=ignores_case(prepared))
    scores = {score.name.lower(): score.value for score in evaluated}
    shown = min(config.train.samples, len(dev))
    samples = [
        {"source": sources[i], "reference": references[i], "output": outputs[i]}
        for i in (n * len(dev) // shown for n in range(shown))
    ]
    maps = []
    if reading is not None and world.is_first:
        maps = _maps(model, prepared, samples, reading, device=device, max_tokens=config.search.max_tokens)
    guess = math.log(len(prepared.tokenizers[1]))
    validation = Validation(loss, scores["bleu"], scores["chrf"], samples, maps, guess)
    model.train()
    return validation


def ignores_case(prepared: Prepared) -> bool:
    """Whether the scores are without case, as outputs are where the tokenizer lower-cases: all would be as bad as the
    references have capitals, and none could be the best."""
    return prepared.tokenizers[1].settings.lowercase


def _maps(
    model: Seq2Seq,
    prepared: Prepared,
    samples: list[dict[str, str]],
    reading: Reading,
    *,
    device: torch.device,
    max_tokens: int,
) -> list[AttentionMap]:
    maps = attention_maps(
        model,
        prepared.tokenizers,
        ((sample["source"], sample["output"]) for sample in samples),
        device=device,
        max_tokens=max_tokens,
        reading=reading,
        level=_level(prepared.tokenizers, [(sample["source"], sample["reference"]) for sample in samples]),
    )
    return list(maps)


def _level(tokenizers: tuple[Tokenizer, Tokenizer], pairs: list[tuple[str, str]]) -> Level:
    """Words; but pieces where a side does without spaces, for there a whole sentence would be one word."""
    for tokenizer, lines in zip(tokenizers, zip(*pairs, strict=True), strict=False):
        segments = [tokenizer.segment(line) for line in lines]
        if sum(len(line.pieces) for line in segments) > MOST_PIECES * sum(len(line.words) for line in segments):
            return "pieces"
    return "words"


def _loss(model: Seq2Seq, batches: Iterable[Batch], device: torch.device, precision: str, world: World) -> float:
    losses: list[tuple[float, int]] = []
    with torch.inference_mode():
        for batch in islice(batches, world.rank, None, world.size):
            with autocast(device, precision):
                losses.append((float(model(batch.to(device)).nll.sum()), label_tokens(batch)))
    nll, tokens = zip(*world.gather(losses), strict=True)  # in the order of the batches: a sum to the last bit
    return sum(nll) / sum(tokens)
