"""Raw lines in, translations out, in order, whatever the lines are.

lines -> windows sorted by length -> token-budget batches -> search -> text -> the order of the input.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from torch import Tensor

from nmt.align.ensemble import load_ensemble
from nmt.align.extract import Read, attention_maps, choose_reading, default_reading, forced_weights
from nmt.align.maps import AttentionMap
from nmt.candidates import Candidate, Translation, coverage, merged, ranked, written
from nmt.config import AlignConfig, SearchConfig
from nmt.data.batch import Batch, Ids
from nmt.data.example import Example, Feeder, collate_examples
from nmt.data.plan import plan_evaluation
from nmt.device import resolve_device, resolve_precision
from nmt.errors import UserError
from nmt.limits import beyond, memory_for_search
from nmt.models.ensemble import Ensemble
from nmt.models.packed import is_packed, pack
from nmt.models.seq2seq import Seq2Seq
from nmt.rundir import RunDir, load_model
from nmt.search.beam import beam_search
from nmt.search.hypothesis import Hypothesis
from nmt.search.penalty import length_penalty
from nmt.search.rules import AtLeast, ByText, NoRepeat, NoUnknown, Prefixed, Rule
from nmt.search.sampling import sample
from nmt.shortlist import Shortlist, read_shortlist
from nmt.text.lines import BadLineError, text_of
from nmt.text.tokenizer import Tokenizer
from nmt.text.windows import PATIENCE, windows
from nmt.text.wording import Banned, Repeated, TextRule, Wording, after_prefix

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

WINDOW = 2048
"""Lines that are sorted by length together; memory does not grow with the file beyond it."""


class _Task(NamedTuple):
    """A line that is going to be translated."""

    number: int  # from 0, of all lines of the stream
    text: str
    example: Example
    begin: str  # what its output begins with
    prefix: Ids  # the tokens of that

    @property
    def extras(self) -> Sequence[str]:
        return () if self.example.copies is None else self.example.copies.extras


class Translator:
    """A model with its tokenizers, ready for raw text. `translate` is the road of the `nmt translate` command.

    Nothing is stored in it between calls: threads may share one.
    """

    def __init__(
        self,
        model: Seq2Seq | Ensemble,
        tokenizers: tuple[Tokenizer, Tokenizer],
        search: SearchConfig,
        *,
        device: torch.device,
        shortlist: Shortlist | None = None,
        trainable: bool = False,
    ) -> None:
        """The model is copied, so the one given may go on training. `shortlist`: what may be written for a sentence;
        probability, and so all scores, are then shared among this alone. `trainable`: the copy stays in float32 and is
        not laid out for search, so that gradients can be had of it. Raises UserError for what cannot be done."""
        if search.coverage_penalty and model.alignment is None:
            raise UserError("search.coverage_penalty needs attention, and nothing in this model looks at the source")
        if is_packed(model):
            raise UserError(
                "this model is laid out for search and cannot be copied",
                "Load its run again, or share the translator that has it, as several threads may.",
            )
        dtype = torch.float32 if trainable else DTYPES[resolve_precision(search.precision, device)]
        self.model = copy.deepcopy(model).to(device=device, dtype=dtype).eval()
        if not trainable:
            pack(self.model)
        self.tokenizers = tokenizers
        self.feeder = Feeder(*tokenizers, copies=model.copies, spells=model.spells)
        self.search = search
        self.device = device
        self.shortlist = shortlist
        rules: list[TextRule] = [Banned(search.ban, tokenizers[1])] if search.ban else []
        rules += [Repeated(search.no_repeat_words)] if search.no_repeat_words else []
        self._wording = Wording(rules, tokenizers[1]) if rules else None

    @classmethod
    def load(
        cls,
        run: Path | str,
        *,
        others: Sequence[Path | str] = (),
        checkpoint: str = "best",
        device: str = "auto",
        search: SearchConfig | None = None,
        shortlist: Path | None = None,
        trainable: bool = False,
    ) -> Translator:
        """From a run directory; `search` replaces the run's own settings. With `others`, runs that have the same
        tokenizers, the mean of all their probabilities. `shortlist` is a file made by `nmt shortlist`.

        Raises UserError when a run, its checkpoint or the shortlist is missing or damaged, or `others` have other
        tokenizers.
        """
        folder, *more = (RunDir(Path(path)) for path in (run, *others))
        tokenizers = folder.tokenizers()
        return cls(
            load_ensemble([folder, *more], checkpoint) if more else load_model(folder, checkpoint),
            tokenizers,
            search or folder.config.search,
            device=resolve_device(device),
            shortlist=None if shortlist is None else read_shortlist(shortlist, tokenizers),
            trainable=trainable,
        )

    @overload
    def translate(  # type: ignore[overload-overlap]  # a text is a sequence of texts, too
        self,
        lines: str | bytes,
        *,
        beam: int | None = None,
        nbest: int = 1,
        prefixes: str | None = None,
        first: int = 0,
    ) -> Translation: ...

    @overload
    def translate(
        self,
        lines: Sequence[str | bytes],
        *,
        beam: int | None = None,
        nbest: int = 1,
        prefixes: Sequence[str] | None = None,
        first: int = 0,
    ) -> list[Translation]: ...

    def translate(
        self,
        lines: str | bytes | Sequence[str | bytes],
        *,
        beam: int | None = None,
        nbest: int = 1,
        prefixes: str | Sequence[str] | None = None,
        first: int = 0,
    ) -> Translation | list[Translation]:
        """One translation per line, in order, with the `nbest` best outputs; of a single text, the one that it has.
        Bytes are decoded as UTF-8.

        `beam` replaces that of the settings. `prefixes`: what the translation of each line begins with, perhaps "".
        `first`: the number of the first line, which decides, with the seed, what is drawn for it, if samples are.
        Raises UserError for arguments that cannot be, such as more `nbest` than `beam`, and ValueError for prefixes of
        another number than lines."""
        if isinstance(lines, str | bytes):
            (translation,) = self.translate(
                [lines], beam=beam, nbest=nbest, prefixes=None if prefixes is None else [str(prefixes)], first=first
            )
            return translation
        search = self.search if beam is None else self.search.model_copy(update={"beam": _counted("beam", beam)})
        if _counted("nbest", nbest) > search.outputs:
            raise UserError(
                f"nbest={nbest} needs as many hypotheses, and search makes {search.outputs}",
                f"Raise the beam: beam={nbest}, or draw more samples, if it draws.",
            )
        _check_texts("lines", lines, (str, bytes))
        if prefixes is not None:
            _check_texts("prefixes", prefixes, (str,))
        numbered = list(zip(itertools.count(first), lines, prefixes or itertools.repeat(""), strict=False))
        if prefixes is not None and len(prefixes) != len(lines):
            raise ValueError(f"{len(prefixes)} prefixes for {len(lines)} lines")
        return [
            translation
            for start in range(0, len(numbered), WINDOW)
            for translation in self._translate_window(numbered[start : start + WINDOW], search, nbest)
        ]

    def stream(self, lines: Iterable[str | bytes], *, nbest: int = 1) -> Iterator[Translation]:
        """The same of lines without end, a window of them at a time; a slow source, such as a pipe, is waited for no
        longer than for one line."""
        if isinstance(lines, str | bytes):
            lines = [lines]
        done = 0
        for window in windows(lines, WINDOW, PATIENCE):
            yield from self.translate(window, nbest=nbest, first=done)
            done += len(window)

    def alignment(
        self,
        translation: Translation,
        candidate: int = 0,
        *,
        attention: str | None = None,
        heads: Sequence[int] | None = None,
        step: Read | None = None,
    ) -> AttentionMap:
        """Which word of the source each word of a candidate came from, by a forced pass over the two; see `nmt.align`
        for what can be made of it.

        By default the model's own choice; else the mean over `heads`, counted from 1, of the `attention` of that name,
        such as "decoder.2.cross" (`nmt info` lists them), at the `step` that writes a word, "output", or the next,
        which reads it, "input". Raises UserError for a candidate, attention or head that is not there, and ValueError
        if there is no attention."""
        if not 0 <= candidate < len(translation.candidates):
            raise UserError(f"there is no candidate {candidate}: the translation has {len(translation.candidates)}")
        reading = default_reading(self.model) if attention is None else None
        if reading is None or heads is not None or step is not None:
            chosen = None if heads is None else tuple(_counted("heads", head) for head in heads)
            if step not in (None, "output", "input"):
                raise UserError(f'step={step!r}: it is "output" or "input"')
            reading = choose_reading(
                self.model, AlignConfig(), device=self.device, attention=attention, heads=chosen, read=step
            )
        pair = (translation.source, translation.candidates[candidate].text)
        (found,) = attention_maps(
            self.model, self.tokenizers, [pair], device=self.device, max_tokens=self.search.max_tokens, reading=reading
        )
        return found

    def batch(self, pairs: Sequence[tuple[str, str]]) -> Batch:
        """Pairs of a source and a target as the model reads them: `model(batch).nll` [B,T] are the losses of the
        target's tokens, EOS included."""
        src, tgt = self.tokenizers
        examples = [self.feeder.example((a, src.encode(a)), (b, tgt.encode(b))) for a, b in pairs]
        return collate_examples(examples).to(self.device)

    def _translate_window(
        self, lines: Sequence[tuple[int, str | bytes, str]], search: SearchConfig, nbest: int
    ) -> list[Translation]:
        found = [self._task(*line, search) for line in lines]
        tasks = [task for task in found if isinstance(task, _Task)]
        candidates = self._candidates(tasks, search)
        if search.sampling is None:
            # A text may have been written in several ways. Where too few differ, a wider beam has more of them.
            wanted = search.beam if search.mbr is not None else nbest
            for times in (2, 4):
                few = [task for task in tasks if len({c.text for c in candidates[task.number]}) < wanted]
                more = self._candidates(few, search.model_copy(update={"beam": times * search.beam}))
                candidates |= {number: merged(candidates[number] + wider) for number, wider in more.items()}
        results: dict[int, Translation] = {}
        for task in tasks:
            n_best = ranked(candidates[task.number], search)[:nbest]
            problem = None if n_best else "nothing is left that search may write"
            results[task.number] = Translation(n_best, problem, task.text, task.begin)
        return [results[task.number] if isinstance(task, _Task) else task for task in found]

    def _candidates(self, tasks: Sequence[_Task], search: SearchConfig) -> dict[int, list[Candidate]]:
        """What search finds for each task, by its number."""
        lengths = np.array([len(task.example.src) for task in tasks], dtype=np.int64)
        found: dict[int, list[Candidate]] = {}
        for rows in plan_evaluation(lengths, lengths, max_tokens=max(1, search.max_tokens // search.outputs)):
            batch = [tasks[row] for row in rows]
            with memory_for_search([len(task.example.src) for task in batch], search.outputs, search.max_tokens):
                found |= zip((task.number for task in batch), self._translate_batch(batch, search), strict=True)
        return found

    def _task(self, number: int, line: str | bytes, prefix: str, search: SearchConfig) -> _Task | Translation:
        """What is to be done for a line, or what became of it already."""
        src, tgt = self.tokenizers
        try:
            text = text_of(line) if isinstance(line, bytes) else line
            (text + prefix).encode("utf-8")
        except BadLineError as error:
            return Translation([], str(error))
        except UnicodeEncodeError as error:
            what = f"{error.object[error.start]!a}, letter {error.start + 1}"
            return Translation([], f"no text (a lone surrogate, {what})")
        ids = src.encode(text)
        if (problem := beyond("source", len(ids), search.max_source)) is not None:
            return Translation([], problem)
        if not len(ids) or not text.strip():
            return Translation([], None)
        example = self.feeder.example((text, ids))
        return _Task(number, text, example, prefix, self.feeder.prefix(prefix, tgt.encode(prefix), example))

    def _translate_batch(self, tasks: Sequence[_Task], search: SearchConfig) -> Iterator[list[Candidate]]:
        """The candidates for each task, best first."""
        with torch.inference_mode():
            found = self._search(tasks, search)
        if search.coverage_penalty:
            found = self._rank_by_coverage(tasks, found, search.coverage_penalty)
        for task, hypotheses in zip(tasks, found, strict=True):
            texts = [written(self.tokenizers[1], h.tokens, task.extras, task.begin) for h in hypotheses]
            yield [Candidate(text, h, task.extras) for text, h in zip(texts, hypotheses, strict=True)]

    def _search(self, tasks: Sequence[_Task], search: SearchConfig) -> list[list[Hypothesis]]:
        """Beam search, or samples, over one batch of encoded sources."""
        examples = [task.example for task in tasks]
        batch = collate_examples(examples).to(self.device)
        words = None if self.shortlist is None else self.shortlist.tokens(examples).to(self.device)
        predictor, limits = self.model.predictor(batch, words), self._limits(tasks, search)
        rules, penalty = self._rules(tasks, search, limits), length_penalty(search.length_penalty)
        if search.sampling is None:
            return beam_search(
                predictor, beam=search.beam, limits=limits, penalty=penalty, stop=search.stop, rules=rules
            )
        return sample(
            predictor,
            count=search.sampling.count,
            limits=limits,
            keys=[task.number for task in tasks],
            temperature=search.sampling.temperature,
            top_k=search.sampling.top_k,
            top_p=search.sampling.top_p,
            seed=search.sampling.seed,
            penalty=penalty,
            rules=rules,
        )

    def _limits(self, tasks: Sequence[_Task], search: SearchConfig) -> Tensor:
        """The largest length of each output, EOS included; a prefix and an end have room in any case."""
        limits = [int(search.max_ratio * len(task.example.src)) + search.max_extra for task in tasks]
        if search.max_length is not None:
            limits = [min(limit, search.max_length) for limit in limits]
        return torch.tensor([max(limit, len(task.prefix) + 1) for limit, task in zip(limits, tasks, strict=True)])

    def _rules(self, tasks: Sequence[_Task], search: SearchConfig, limits: Tensor) -> list[Rule]:
        rules: list[Rule] = []
        least = [max(search.min_length, int(search.min_ratio * len(task.example.src))) for task in tasks]
        if max(least) > 1:
            rules.append(AtLeast(torch.tensor(least).minimum(limits).to(self.device)))
        if search.no_unk:
            rules.append(NoUnknown())
        if search.no_repeat:
            rules.append(NoRepeat(search.no_repeat))
        if self._wording is not None:
            forbidden = self._wording.forbidden
            rules.append(ByText(lambda n, ids: forbidden(ids, tasks[n].extras, given=len(ids) == len(tasks[n].prefix))))
        if any(len(task.prefix) for task in tasks):
            if any(task.begin[-1:].isspace() for task in tasks):
                begun = [(task.begin, [*map(int, task.prefix)]) for task in tasks]
                rules.append(ByText(after_prefix(self.tokenizers[1], begun)))
            rules = [Prefixed([task.prefix for task in tasks], rules, self.device)]
        return rules

    def _rank_by_coverage(
        self, tasks: Sequence[_Task], found: list[list[Hypothesis]], weight: float
    ) -> list[list[Hypothesis]]:
        """The hypotheses by score + weight * sum over the source's tokens of log min(1, sum of the attention that each
        of them got) (Wu et al. 2016, equation 15), attention being read off a forced pass."""
        examples = [
            task.example._replace(tgt=h.tokens) for task, n_best in zip(tasks, found, strict=True) for h in n_best
        ]
        reading = default_reading(self.model)
        weights = iter(
            forced_weights(self.model, examples, reading, device=self.device, max_tokens=self.search.max_tokens)
        )
        ranked = []
        for n_best in found:
            scored = [h._replace(score=h.score + weight * coverage(next(weights)[:-1, :-1])) for h in n_best]
            ranked.append(sorted(scored, key=lambda h: -h.score))
        return ranked


def _counted(name: str, value: Any) -> int:
    """The value of an argument that counts something; UserError unless it does."""
    if not isinstance(value, int) or value < 1:
        raise UserError(f"{name}={value!r}: it is a number from 1 on")
    return value


def _check_texts(name: str, texts: Any, kinds: tuple[type, ...]) -> None:
    """UserError unless an argument is a sequence of texts: a single text would be taken letter by letter."""
    if isinstance(texts, str | bytes) or not isinstance(texts, Sequence):
        raise UserError(f"{name} is a sequence of texts, and this is {texts!r:.40}")
    for number, text in enumerate(texts):
        if not isinstance(text, kinds):
            raise UserError(f"{name}[{number}] is no text: {text!r:.40}")
