"""Attention of known sentence pairs: a forced second pass over the finished text.

Alignment belongs to a pair, not to a search: whoever wrote the target (a person, beam search, another system), the
model reads source and target once more with a probe at its attention.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch

from nmt.align.maps import AttentionMap, Weights, piece_map, with_bos, with_eos, word_map
from nmt.config import AlignConfig
from nmt.data.batch import UNK, Batch, Ids, collate
from nmt.data.example import Example, Feeder, collate_examples
from nmt.data.plan import plan_evaluation
from nmt.errors import UserError
from nmt.limits import memory_for_pass
from nmt.models.ensemble import CROSS
from nmt.models.interface import Alignment, Probe
from nmt.models.reading import COPY as COPY
from nmt.models.reading import Read as Read
from nmt.models.reading import Reading as Reading
from nmt.models.reading import Recorder as Recorder
from nmt.text.tokenizer import Segments, Tokenizer

Level = Literal["words", "pieces"]

_WINDOW_PAIRS = 2000  # pairs sorted by length together ...
_WINDOW_CELLS = 8_000_000  # ... unless their maps grow beyond this many weights (32 MB) before


NOWHERE = Alignment("", "output")
"""Of a model without attention."""


class Attends(Protocol):
    """What is asked of a model here (a `Seq2Seq` is one, and an `Ensemble`)."""

    training: bool

    @property
    def alignment(self) -> Alignment | None: ...

    @property
    def spells(self) -> bool: ...

    def attend(self, batch: Batch, probe: Probe) -> None: ...


def attentions(model: Attends, device: torch.device) -> dict[str, int]:
    """The model's attentions and the number of heads of each, in the order in which they are heard."""
    recorder = Recorder()
    with torch.inference_mode():
        model.attend(collate([[UNK]], [[UNK]]).to(device), recorder)  # any token would do
    return {name: weights.shape[1] for name, weights in recorder.weights().items()}


def choose_reading(
    model: Attends,
    settings: AlignConfig,
    *,
    device: torch.device,
    attention: str | None = None,
    heads: tuple[int, ...] | None = None,
    read: Read | None = None,
) -> Reading:
    """What `attention`, `heads` and `read` say, else the settings, else the model's own choice.

    Heads and step in the settings were chosen for the attention there: when `attention` names another one, they are
    not taken over. Of an ensemble no setting counts: each member has been asked by its own. Self-attention is read at
    the input: then row and column of a word stand for the same thing.
    Raises UserError that lists what there is, if the model has no such attention or head.
    """
    alignment = model.alignment or NOWHERE
    if alignment == CROSS:
        settings = AlignConfig()
    chosen = settings.attention or alignment.name
    if attention is not None and attention != chosen:
        settings, chosen = AlignConfig(), attention
    own: Read = "input" if chosen.endswith(".self") else alignment.read
    guided = (alignment.head,) if alignment.head is not None and chosen == alignment.name else None
    reading = Reading(chosen, heads or settings.heads or guided, read or settings.read or own)
    known = attentions(model, device)
    if chosen == NOWHERE.name:
        raise UserError(
            "nothing in this model looks at the source: it has no attention between the two",
            f"It has {', '.join(known)}." if known else "Its sentence is one vector.",
        )
    if chosen not in known:
        raise UserError(
            f"the model has no attention called {chosen!r}",
            f"It has {', '.join(known)}; layers count from 1." if known else "It has none at all.",
        )
    missing = [head for head in reading.heads or () if head > known[chosen]]
    if missing:
        raise UserError(
            f"{chosen} has no head {missing[0]}: it has {known[chosen]}", "Heads count from 1; without any, all count."
        )
    return reading


def default_reading(model: Attends) -> Reading:
    """The model's own choice. Raises ValueError if nothing in it looks at the source."""
    if model.alignment is None:
        raise ValueError("nothing in the model looks at the source")
    return Reading.of(model.alignment)


def attention_maps(
    model: Attends,
    tokenizers: tuple[Tokenizer, Tokenizer],
    pairs: Iterable[tuple[str, str]],
    *,
    device: torch.device,
    max_tokens: int,
    reading: Reading | None = None,
    level: Level = "words",
    keep_eos: bool = False,
) -> Iterator[AttentionMap]:
    """Maps of (source line, target line) `pairs`, in their order, heads averaged. Streams: memory does not grow.

    model: in evaluation mode, on `device`. max_tokens: size of a batch, padding included, on the longer side.
    reading: which weights; by default the model's own choice, all heads.
    keep_eos: keep the source's EOS as a last column and, with "output", the target's as a last row. Without, rows sum
      to less than 1: what went to EOS is attention to no word, and stays missing.
    Self-attention always keeps its special tokens, since a head that looks at no word looks there. The encoder has an
    EOS on both axes. In the decoder columns are what was read, BOS y1 .. yJ, and rows are that too ("input"), or what
    was written upon it, y1 .. yJ EOS ("output"); the rest of the row, the future, is 0.
    An empty line gives a map without rows, or without columns; in self-attention without both.
    Raises ValueError if the model is in training mode or has no such attention or head.
    """
    if model.training:
        raise ValueError("the model is in training mode: dropout would blur its attention; call eval() first")
    if reading is None:
        reading = default_reading(model)
    src_tokenizer, tgt_tokenizer = tokenizers
    feeder = Feeder(*tokenizers, spells=model.spells)
    segmented = (_Pair(src_tokenizer.segment(src), tgt_tokenizer.segment(tgt), src) for src, tgt in pairs)
    named = piece_map if level == "pieces" else word_map
    for window in _windows(segmented, reading):
        examples = [feeder.example((pair.line, pair.src.ids), ("", pair.tgt.ids)) for pair in window]
        found = forced_weights(model, examples, reading, device=device, max_tokens=max_tokens)
        for pair, weights in zip(window, found, strict=True):
            yield named(*_axes(weights, pair, reading, keep_eos))


class _Pair(NamedTuple):
    src: Segments
    tgt: Segments
    line: str  # that of the source


def _shape(src: Ids, tgt: Ids, reading: Reading) -> tuple[int, int]:
    """Rows and columns of the weights, EOS (or BOS) included."""
    rows, columns = len(tgt) + 1, len(src) + 1
    return (rows, columns) if reading.within is None else (columns,) * 2 if reading.within == "src" else (rows,) * 2


def _windows(pairs: Iterable[_Pair], reading: Reading) -> Iterator[list[_Pair]]:
    window: list[_Pair] = []
    cells = 0
    for pair in pairs:
        rows, columns = _shape(pair.src.ids, pair.tgt.ids, reading)
        if window and (len(window) == _WINDOW_PAIRS or cells + rows * columns > _WINDOW_CELLS):
            yield window
            window, cells = [], 0
        window.append(pair)
        cells += rows * columns
    if window:
        yield window


def forced_weights(
    model: Attends, examples: Sequence[Example], reading: Reading, *, device: torch.device, max_tokens: int
) -> list[Weights]:
    """The weights of each example, which has a target, the mean over heads: a row per forced step (or source piece
    and EOS), a column per position, EOS included. Raises ValueError if the model has no such attention or head."""
    weights: list[Weights] = [np.empty((0, 0), np.float32)] * len(examples)
    pairs = [_sides(example) for example in examples]
    lengths = (np.array([len(pair[side]) for pair in pairs], np.int64) for side in (0, 1))
    for rows in plan_evaluation(*lengths, max_tokens=max_tokens):
        batch = [examples[row] for row in rows]
        with memory_for_pass([(len(src), len(tgt)) for src, tgt in (pairs[row] for row in rows)], max_tokens):
            weights_of_rows = _batch_weights(model, batch, reading, device)
        for row, found in zip(rows, weights_of_rows, strict=True):
            weights[row] = found
    return weights


def _sides(example: Example) -> tuple[Ids, Ids]:
    if example.tgt is None:
        raise ValueError("a forced pass needs targets")
    return example.src, example.tgt


def _batch_weights(
    model: Attends, examples: Sequence[Example], reading: Reading, device: torch.device
) -> list[Weights]:
    batch = collate_examples(examples).to(device)
    recorder = Recorder((reading.name,))
    with torch.inference_mode():
        model.attend(batch, recorder)
    weights = reading.weights(recorder.weights()).cpu().numpy()
    shapes = (_shape(*_sides(example), reading) for example in examples)
    return [weights[row, :rows, :columns].copy() for row, (rows, columns) in enumerate(shapes)]


def _axes(weights: Weights, pair: _Pair, reading: Reading, keep_eos: bool) -> tuple[Weights, Segments, Segments]:
    """The weights to show, their columns and their rows."""
    src, tgt, _ = pair
    if reading.within is not None:
        side = src if reading.within == "src" else tgt
        if not side.ids:
            return weights[:0, :0], side, side
        columns = with_eos(src) if reading.within == "src" else with_bos(tgt)
        written = reading.within == "tgt" and reading.read == "output"
        return weights, columns, with_eos(tgt) if written else columns
    if reading.read == "input":
        weights = weights[1:]  # what reads BOS reads no word
    if not keep_eos:
        return weights[: len(tgt.ids), : len(src.ids)], src, tgt
    return weights, with_eos(src), with_eos(tgt) if reading.read == "output" else tgt
