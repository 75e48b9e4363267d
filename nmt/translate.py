"""Raw lines in, translations out, in order, whatever the lines are.

lines -> windows sorted by length -> token-budget batches -> beam search -> text -> the order of the input.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from nmt.config import SearchConfig
from nmt.data.copying import Example, collate_examples, make_copier, make_example
from nmt.data.plan import plan_evaluation
from nmt.device import resolve_device, resolve_precision
from nmt.models.seq2seq import Seq2Seq
from nmt.rundir import RunDir, load_model
from nmt.search.beam import beam_search
from nmt.search.hypothesis import Hypothesis
from nmt.text.tokenizer import Tokenizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

WINDOW = 2048
"""Lines that are sorted by length together; memory does not grow with the file beyond it."""


class Candidate(NamedTuple):
    """One translation of a line."""

    text: str
    hypothesis: Hypothesis
    extras: Sequence[str]  # the words of the source that ids beyond the vocabulary stand for


class Translation(NamedTuple):
    """What became of one line. A line that cannot be translated gives no candidates and says why."""

    candidates: list[Candidate]  # best first; empty for an empty line or a problem
    problem: str | None
    source: str = ""  # the line itself, if it could be read

    @property
    def text(self) -> str:
        return self.candidates[0].text if self.candidates else ""


class Translator:
    """A model with its tokenizers, ready for raw text. `translate` is the road of the `nmt translate` command."""

    def __init__(
        self,
        model: Seq2Seq,
        tokenizers: tuple[Tokenizer, Tokenizer],
        search: SearchConfig,
        *,
        device: torch.device,
    ) -> None:
        """The model is copied, so the one given may go on training."""
        dtype = DTYPES[resolve_precision(search.precision, device)]
        self.model = copy.deepcopy(model).to(device=device, dtype=dtype).eval()
        self.tokenizers = tokenizers
        self.copier = make_copier(*tokenizers) if model.head.copies else None
        self.search = search
        self.device = device

    @classmethod
    def load(
        cls, run: Path | str, *, checkpoint: str = "best", device: str = "auto", search: SearchConfig | None = None
    ) -> Translator:
        """From a run directory; `search` replaces the run's own settings.

        Raises UserError when the run or the checkpoint is missing or damaged.
        """
        folder = RunDir(Path(run))
        model = load_model(folder, checkpoint)
        return cls(model, folder.tokenizers(), search or folder.config.search, device=resolve_device(device))

    def translate(self, lines: Iterable[str | bytes], *, nbest: int = 1) -> Iterator[Translation]:
        """One translation per line, in order. Bytes are decoded as UTF-8. Works through a window of lines at a time."""
        iterator = iter(lines)
        while window := list(itertools.islice(iterator, WINDOW)):
            yield from self._translate_window(window, nbest)

    def _translate_window(self, lines: Sequence[str | bytes], nbest: int) -> list[Translation]:
        src, tgt = self.tokenizers
        translations = [Translation([], None)] * len(lines)
        todo: dict[int, Example] = {}
        texts: dict[int, str] = {}
        for n, line in enumerate(lines):
            try:
                text = line.decode("utf-8") if isinstance(line, bytes) else line
            except UnicodeDecodeError as error:
                translations[n] = Translation([], f"not UTF-8 (byte {error.object[error.start]:#04x} at {error.start})")
                continue
            ids = src.encode(text)
            if len(ids) > self.search.max_source:
                limit = self.search.max_source
                translations[n] = Translation([], f"{len(ids):,} tokens, more than search.max_source: {limit:,}")
            elif ids and text.strip():
                todo[n], texts[n] = make_example(self.copier, (text, ids)), text
        numbers = list(todo)
        lengths = np.array([len(example.src) for example in todo.values()], dtype=np.int64)
        budget = max(1, self.search.max_tokens // self.search.beam)
        for rows in plan_evaluation(lengths, lengths, max_tokens=budget):
            batch = [numbers[row] for row in rows]
            for n, hypotheses in zip(batch, self.hypotheses([todo[n] for n in batch]), strict=True):
                copies = todo[n].copies
                extras = () if copies is None else copies.extras
                candidates = [Candidate(tgt.decode(h.tokens, extras), h, extras) for h in hypotheses[:nbest]]
                problem = None if candidates else "the model gives no finite score"
                translations[n] = Translation(candidates, problem, texts[n])
        return translations

    def hypotheses(self, examples: Sequence[Example]) -> list[list[Hypothesis]]:
        """Beam search over one batch of encoded sources."""
        batch = collate_examples(examples).to(self.device)
        limits = [int(self.search.max_ratio * len(example.src)) + self.search.max_extra for example in examples]
        with torch.inference_mode():
            return beam_search(
                self.model.predictor(batch),
                beam=self.search.beam,
                limits=torch.tensor(limits),
                length_penalty=self.search.length_penalty,
            )
