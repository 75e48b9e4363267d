"""Attention of known sentence pairs: a forced second pass over the finished text.

Alignment belongs to a pair, not to a search: whoever wrote the target (a person, beam search, another system), the
model reads source and target once more with a probe at its attention.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from nmt.align.maps import AttentionMap, Weights, piece_map, to_words
from nmt.data.batch import Batch, collate
from nmt.data.plan import plan_evaluation
from nmt.models.interface import Probe
from nmt.text.tokenizer import Segments, Tokenizer

Level = Literal["words", "pieces"]
Read = Literal["output", "input"]

_WINDOW_PAIRS = 2000  # pairs sorted by length together ...
_WINDOW_CELLS = 8_000_000  # ... unless their maps grow beyond this many weights (32 MB) before


class Attends(Protocol):
    """What is asked of a model here (`nmt.models.seq2seq.Seq2Seq` is one)."""

    training: bool

    def attend(self, batch: Batch, probe: Probe) -> None: ...


class Recorder:
    """A probe that changes nothing and keeps the weights of every attention, or of those in `names`."""

    def __init__(self, names: Collection[str] | None = None) -> None:
        self._names = names
        self._parts: dict[str, list[Tensor]] = {}

    def __call__(self, name: str, weights: Tensor, values: Tensor) -> Tensor:
        if self._names is None or name in self._names:
            self._parts.setdefault(name, []).append(weights.detach().float())
        return weights

    def weights(self) -> dict[str, Tensor]:
        """By name: [B,H,Q,S] float32, the target positions of a stepwise decoder joined along Q."""
        return {name: torch.cat(parts, dim=2) for name, parts in self._parts.items()}


def attention_maps(
    model: Attends,
    tokenizers: tuple[Tokenizer, Tokenizer],
    pairs: Iterable[tuple[str, str]],
    *,
    device: torch.device,
    max_tokens: int,
    level: Level = "words",
    read: Read = "output",
    keep_eos: bool = False,
    name: str = "decoder.cross",
) -> Iterator[AttentionMap]:
    """Maps of (source line, target line) `pairs`, in their order, heads averaged. Streams: memory does not grow.

    model: in evaluation mode, on `device`. max_tokens: size of a batch, padding included, on the longer side.
    read: which of the forced steps speaks for a word (the decoder reads BOS y1 .. yJ and writes y1 .. yJ EOS):
      "output", the step that writes it, or "input", the next one, which reads it.
    keep_eos: keep the source's EOS as a last column and, with "output", the target's as a last row.
    name: of the attention. An empty line gives a map without rows, or without columns.
    Raises ValueError if the model is in training mode or has no attention called `name`.
    """
    if model.training:
        raise ValueError("the model is in training mode: dropout would blur its attention; call eval() first")
    src_tokenizer, tgt_tokenizer = tokenizers
    segmented = (_Pair(src_tokenizer.segment(src), tgt_tokenizer.segment(tgt)) for src, tgt in pairs)
    for window in _windows(segmented):
        weights: list[Weights] = [np.empty((0, 0), np.float32)] * len(window)
        lengths = (np.array([len(part.ids) for part in side], np.int64) for side in zip(*window, strict=True))
        for rows in plan_evaluation(*lengths, max_tokens=max_tokens):
            batch = [window[row] for row in rows]
            for row, found in zip(rows, _forced_weights(model, batch, device, name), strict=True):
                weights[row] = found
        for pair, found in zip(window, weights, strict=True):
            steps = found if read == "output" else found[1:]
            pieces = piece_map(steps, pair.src, pair.tgt, keep_eos=keep_eos)
            yield pieces if level == "pieces" else to_words(pieces, pair.src, pair.tgt)


class _Pair(NamedTuple):
    src: Segments
    tgt: Segments

    @property
    def size(self) -> tuple[int, int]:
        """Positions on either side, EOS (or BOS) included."""
        return len(self.src.ids) + 1, len(self.tgt.ids) + 1


def _windows(pairs: Iterable[_Pair]) -> Iterator[list[_Pair]]:
    window: list[_Pair] = []
    cells = 0
    for pair in pairs:
        src, tgt = pair.size
        if window and (len(window) == _WINDOW_PAIRS or cells + src * tgt > _WINDOW_CELLS):
            yield window
            window, cells = [], 0
        window.append(pair)
        cells += src * tgt
    if window:
        yield window


def _forced_weights(model: Attends, pairs: list[_Pair], device: torch.device, name: str) -> list[Weights]:
    """Of each pair: [J+1,I+1], the mean over heads, a row per forced step, a column per source piece and EOS."""
    batch = collate([pair.src.ids for pair in pairs], [pair.tgt.ids for pair in pairs]).to(device)
    recorder = Recorder((name,))
    with torch.inference_mode():
        model.attend(batch, recorder)
    recorded = recorder.weights()
    if name not in recorded:
        raise ValueError(f"the model has no attention called {name!r}")
    weights = recorded[name].mean(dim=1).cpu().numpy()  # [B,Q,S]
    return [weights[row, :tgt, :src].copy() for row, (src, tgt) in enumerate(pair.size for pair in pairs)]
