"""Scores of translations against references, computed by sacrebleu (Post 2018) so that they compare across papers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nmt.errors import UserError

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

METRICS = {"bleu": "BLEU", "chrf": "chrF", "chrf++": "chrF++", "ter": "TER", "exact": "exact"}
"""The names of the metrics, as asked for and as printed."""

TOKENIZE = ("13a", "intl", "char", "zh", "none")
"""How BLEU cuts words: 13a is the field's default, none takes the text as tokenized, char and zh are for scripts
without spaces."""


class MetricScore(NamedTuple):
    """One number and what it takes to compare it: the signature belongs beside it in every report."""

    name: str
    value: float  # TER: edits per 100 reference words, less is better; all others: 0 to 100, more is better
    signature: str
    details: dict[str, Any]  # BLEU: n-gram precisions, brevity penalty, lengths; TER: edits, length; exact: lines equal


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
    for n, reference in enumerate(references, start=1):
        if len(reference) != len(hypotheses):
            raise UserError(f"reference {n} has {len(reference)} lines, the hypotheses {len(hypotheses)}")
    if not references or not hypotheses:
        raise UserError(f"nothing to score: {len(hypotheses)} hypotheses, {len(references)} references")
    check_metrics(metrics, tokenize)
    return [_score(name, hypotheses, references, lowercase=lowercase, tokenize=tokenize) for name in metrics]


def check_metrics(metrics: Sequence[str], tokenize: str) -> None:
    """Raises UserError for what `evaluate` does not know: to be asked before an hour of translating."""
    if tokenize not in TOKENIZE:
        raise UserError(f"unknown tokenization `{tokenize}`", f"There are: {', '.join(TOKENIZE)}.")
    for name in metrics:
        if name not in METRICS:
            raise UserError(f"unknown metric `{name}`", f"There are: {', '.join(METRICS)}.")


def _score(
    name: str, hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, lowercase: bool, tokenize: str
) -> MetricScore:
    if name == "exact":
        return _exact(hypotheses, references, lowercase=lowercase)
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    makers: dict[str, Callable[[], Metric]] = {
        "bleu": lambda: BLEU(lowercase=lowercase, tokenize=tokenize, force=True),  # force: no talk of tokenized periods
        "chrf": lambda: CHRF(lowercase=lowercase),
        "chrf++": lambda: CHRF(lowercase=lowercase, word_order=2),
        "ter": TER,
    }
    metric = makers[name]()
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
    return MetricScore(METRICS[name], float(score.score), str(metric.get_signature()), details)


def _exact(hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, lowercase: bool) -> MetricScore:
    def form(line: str) -> str:
        return line.lower() if lowercase else line

    accepted = ({form(line) for line in lines} for lines in zip(*references, strict=True))
    equal = sum(form(line) in lines for line, lines in zip(hypotheses, accepted, strict=True))
    signature = f"nrefs:{len(references)}|case:{'lc' if lowercase else 'mixed'}"
    return MetricScore(METRICS["exact"], 100 * equal / len(hypotheses), signature, {"equal": equal})
