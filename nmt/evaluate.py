"""Scores of translations against references, computed by sacrebleu (Post 2018) so that they compare across papers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from sacrebleu.metrics.base import Metric, Score, Signature
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest, Result

from nmt.errors import UserError
from nmt.limits import TER_WORDS

METRICS = {"bleu": "BLEU", "chrf": "chrF", "chrf++": "chrF++", "ter": "TER", "exact": "exact"}
"""The names of the metrics, as asked for and as printed."""

TOKENIZE = ("13a", "intl", "char", "zh", "none")
"""How BLEU cuts words: 13a is the field's default, none takes the text as tokenized, char and zh are for scripts
without spaces."""

RESAMPLES, TRIALS = 1000, 10_000
"""Of sacrebleu's paired bootstrap (Koehn 2004) and approximate randomization (Riezler and Maxwell 2005)."""

MOST_RESAMPLED = 10_000
"""Lines beyond which no interval is made: sacrebleu holds all resamples at once, 1 GB for chrF of so many."""


class MetricScore(NamedTuple):
    """One number and what it takes to compare it: the signature belongs beside it in every report."""

    name: str
    value: float  # TER: edits per 100 reference words, less is better; all others: 0 to 100, more is better
    signature: str
    details: dict[str, Any]  # BLEU: n-gram precisions, brevity penalty, lengths; TER: edits, length; exact: lines equal
    interval: tuple[float, float] | None = None  # 95 %, by a bootstrap over lines; see `compare`


class Difference(NamedTuple):
    """What a system's score differs by from that of the first, and how often chance alone would make it differ so."""

    value: float
    p_bootstrap: float
    p_randomization: float


class Compared(NamedTuple):
    """What one metric says of several systems, in their order."""

    scores: list[MetricScore]
    differences: list[Difference | None]  # None of the first system, and where nothing was resampled


def evaluate(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    metrics: Sequence[str] = ("bleu", "chrf", "ter"),
    lowercase: bool = False,
    tokenize: str = "13a",
) -> list[MetricScore]:
    """Corpus scores of detokenized `hypotheses` against one or more sets of `references`, each as long as they.

    `exact` is the percentage of lines that equal a reference of theirs, each character of it. `lowercase` and
    `tokenize` are for BLEU (and chrF, exact: lowercase); TER ignores case in any event, as is usual.
    Raises UserError for an unknown metric or tokenization, unequal lengths, and when there is nothing to score.
    """
    _check(hypotheses, references, metrics, tokenize)
    makers = (_metric(name, lowercase=lowercase, tokenize=tokenize) for name in metrics)
    return [_score(name, metric, hypotheses, references) for name, metric in zip(metrics, makers, strict=True)]


def compare(
    metric: str,
    systems: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    *,
    lowercase: bool = False,
    tokenize: str = "13a",
) -> Compared:
    """One metric of the translations of one or more systems, with 95 % intervals by a bootstrap over lines, and tests
    of each system against the first: sacrebleu's paired bootstrap and approximate randomization.

    Neither intervals nor tests are made of one line, nor of more than `MOST_RESAMPLED`. Raises UserError as `evaluate`.
    """
    for system in systems:
        _check(system, references, [metric], tokenize)
    one = _remembering(_metric(metric, lowercase=lowercase, tokenize=tokenize))
    scores = [_score(metric, one, system, references) for system in systems]
    differences: list[Difference | None] = [None] * len(systems)
    if not 2 <= len(references[0]) <= MOST_RESAMPLED:
        return Compared(scores, differences)
    drawn = _paired("bs", one, systems, references)
    scores = [s._replace(interval=_interval(result, metric)) for s, result in zip(scores, drawn, strict=True)]
    if len(systems) > 1:
        shuffled = _paired("ar", one, systems, references)
        for n in range(1, len(systems)):
            value = scores[n].value - scores[0].value
            differences[n] = Difference(value, _p(drawn[n], value), _p(shuffled[n], value))
    return Compared(scores, differences)


def worst_lines(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], count: int, *, lowercase: bool = False
) -> list[tuple[int, float]]:
    """The lines, counted from 1, with the lowest chrF of their own, and that; the lowest first."""
    metric = CHRF(lowercase=lowercase)
    lines = zip(hypotheses, zip(*references, strict=True), strict=True)
    scored = [(metric.sentence_score(line, refs).score, n) for n, (line, refs) in enumerate(lines, start=1)]
    return [(n, score) for score, n in sorted(scored)[:count]]


def without_ter(metrics: Sequence[str], texts: Iterable[tuple[str, Sequence[str]]]) -> tuple[list[str], str | None]:
    """The metrics but for TER where a line of the named `texts` is too long for it, and what to say of that. UserError
    if none is left."""
    for name, lines in texts if "ter" in metrics else ():
        for number, line in enumerate(lines, start=1):
            if len(line) > TER_WORDS and (words := len(line.split())) > TER_WORDS:
                said = f"TER is left out: {name}, line {number} has {words:,} words, more than {TER_WORDS:,}"
                rest = [metric for metric in metrics if metric != "ter"]
                if not rest:
                    raise UserError(said, "Its search for shifts would take minutes: choose another --metric.")
                return rest, said
    return list(metrics), None


def check_metrics(metrics: Sequence[str], tokenize: str) -> None:
    """Raises UserError for what `evaluate` does not know: to be asked before an hour of translating."""
    if tokenize not in TOKENIZE:
        raise UserError(f"unknown tokenization `{tokenize}`", f"There are: {', '.join(TOKENIZE)}.")
    for name in metrics:
        if name not in METRICS:
            raise UserError(f"unknown metric `{name}`", f"There are: {', '.join(METRICS)}.")


def _check(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], metrics: Sequence[str], tokenize: str
) -> None:
    for n, reference in enumerate(references, start=1):
        if len(reference) != len(hypotheses):
            raise UserError(f"reference {n} has {len(reference)} lines, the hypotheses {len(hypotheses)}")
    if not references or not hypotheses:
        raise UserError(f"nothing to score: {len(hypotheses)} hypotheses, {len(references)} references")
    check_metrics(metrics, tokenize)


def _metric(name: str, *, lowercase: bool, tokenize: str) -> Metric:
    makers: dict[str, Callable[[], Metric]] = {
        "bleu": lambda: BLEU(lowercase=lowercase, tokenize=tokenize, force=True),  # force: no talk of tokenized periods
        "chrf": lambda: CHRF(lowercase=lowercase),
        "chrf++": lambda: CHRF(lowercase=lowercase, word_order=2),
        "ter": TER,
        "exact": lambda: Exact(lowercase),
    }
    return makers[name]()


def _score(name: str, metric: Metric, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> MetricScore:
    score = metric.corpus_score(hypotheses, references)
    details: dict[str, Any] = {}
    if name == "bleu":
        details = {
            "precisions": list(score.precisions),
            "brevity_penalty": score.bp,
            "hypothesis_length": score.sys_len,
            "reference_length": score.ref_len,
        }
    elif name == "ter":
        details = {"edits": score.num_edits, "reference_length": score.ref_length}
    elif name == "exact":
        details = {"equal": score.equal}
    return MetricScore(METRICS[name], float(score.score), str(metric.get_signature()), details)


def _remembering(metric: Metric) -> Metric:
    """The metric, counting each system's lines once: a score and its tests ask three times, and TER is slow."""
    count, known = metric._extract_corpus_statistics, dict[int, Any]()

    def once(hypotheses: Sequence[str], references: Sequence[Sequence[str]] | None) -> Any:
        if id(hypotheses) not in known:
            known[id(hypotheses)] = count(hypotheses, references)
        return known[id(hypotheses)]

    metric._extract_corpus_statistics = once  # type: ignore[method-assign]
    return metric


def _paired(
    kind: str, metric: Metric, systems: Sequence[Sequence[str]], references: Sequence[Sequence[str]]
) -> list[Result]:
    """What a test of sacrebleu's says of each system, beside the first."""
    named = [(str(n), system) for n, system in enumerate(systems)]
    samples = RESAMPLES if kind == "bs" else TRIALS
    _, found = PairedTest(named, {"": metric}, references, test_type=kind, n_samples=samples)()
    (results,) = (results for name, results in found.items() if name != "System")
    return [result for result in results if isinstance(result, Result)]


def _p(result: Result, difference: float) -> float:
    """sacrebleu counts the draws that differ more, and so has its least p for systems that do not differ at all."""
    assert result.p_value is not None
    return float(result.p_value) if difference else 1.0


def _interval(result: Result, metric: str) -> tuple[float, float]:
    """That of sacrebleu, within what the metric can be, and around the score itself."""
    assert result.mean is not None
    assert result.ci is not None
    most = math.inf if metric == "ter" else 100.0
    low, high = result.mean - result.ci, result.mean + result.ci
    return float(max(0.0, min(low, result.score))), float(min(most, max(high, result.score)))


class _ExactScore(Score):
    def __init__(self, equal: int, lines: int) -> None:
        super().__init__("exact", 100 * equal / lines)
        self.equal = equal


class _ExactSignature(Signature):
    def __init__(self, args: dict[str, Any]) -> None:
        super().__init__(args)
        self.info |= {"case": "lc" if args["lowercase"] else "mixed", "version": None}  # sacrebleu has no part in it


class Exact(Metric):
    """The percentage of lines that equal a reference of theirs, each character of it."""

    _SIGNATURE_TYPE = _ExactSignature

    def __init__(self, lowercase: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lowercase = lowercase

    def _preprocess_segment(self, sent: str) -> str:
        return sent.lower() if self.lowercase else sent

    def _extract_reference_info(self, refs: Sequence[str]) -> dict[str, Any]:
        return {"accepted": refs}

    def _compute_segment_statistics(self, hypothesis: str, ref_kwargs: dict[str, Any]) -> list[int]:
        return [int(hypothesis in ref_kwargs["accepted"]), 1]

    def _compute_score_from_stats(self, stats: Any) -> _ExactScore:
        return _ExactScore(int(stats[0]), int(stats[1]))

    def _aggregate_and_compute(self, stats: Any) -> _ExactScore:
        return self._compute_score_from_stats([sum(column) for column in zip(*stats, strict=True)])
