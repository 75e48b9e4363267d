"""Scores against published sacrebleu figures, and what `nmt evaluate` refuses."""

from __future__ import annotations

import csv
import gzip
import json
import random
from functools import cache
from pathlib import Path

import pytest
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest

from nmt.errors import UserError
from nmt.evaluate import MetricScore, compare, evaluate

NAMES = {"BLEU": "bleu", "chrF": "chrf", "chrF++": "chrf++"}


@cache
def lines(path: Path) -> list[str]:
    """Split at LF only; a byte order mark stays, as these were scored with it."""
    return gzip.open(path, "rt", encoding="utf-8", newline="\n").read().removesuffix("\n").split("\n")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def without_version(signature: str) -> str:
    return signature.rpartition("|version:")[0]


def field(signature: str, name: str) -> str:
    return dict(part.split(":", 1) for part in signature.split("|"))[name]


def check_row(row: dict[str, str], score: MetricScore) -> None:
    assert score.value == pytest.approx(float(row["score"]), abs=1e-6)
    assert without_version(score.signature) == without_version(row["signature"])
    if row["precisions"]:
        precisions = [float(p) for p in row["precisions"].split("/")]
        assert score.details["precisions"] == pytest.approx(precisions, abs=1e-4)
        assert score.details["brevity_penalty"] == pytest.approx(float(row["bp"]), abs=1e-6)
        lengths = (score.details["hypothesis_length"], score.details["reference_length"])
        assert lengths == (int(row["hyp_len"]), int(row["ref_len"]))


def check_corpora(shared: Path, rows: list[dict[str, str]]) -> int:
    for row in rows:
        folder = shared / "bleu" / row["set"]
        (score,) = evaluate(
            lines(folder / row["hyp"]),
            [lines(folder / row["ref"])],
            metrics=[NAMES[row["metric"]]],
            lowercase=field(row["signature"], "case") == "lc",
            tokenize=field(row["signature"], "tok") if row["metric"] == "BLEU" else "13a",
        )
        assert score.name == row["metric"]
        check_row(row, score)
    return len(rows)


def published(shared: Path) -> list[dict[str, str]]:
    """The rows of settings that `evaluate` offers."""
    return [row for row in table(shared / "bleu" / "expected.tsv") if "smooth:none" not in row["signature"]]


def test_published_scores_of_one_system(shared: Path) -> None:
    rows = [row for row in published(shared) if "lium" in row["hyp"] and "tok:char" not in row["signature"]]
    assert check_corpora(shared, rows) == 6


@pytest.mark.slow
def test_published_scores(shared: Path) -> None:
    assert check_corpora(shared, published(shared)) >= 25


def test_edge_cases(shared: Path) -> None:
    cases = {case["name"]: case for case in json.loads((shared / "bleu" / "edge_cases.json").read_text("utf-8"))}
    rows = [
        row
        for row in table(shared / "bleu" / "edge_expected.tsv")
        if row["level"] == "corpus" and "eff:no" in row["signature"] and "smooth:exp" in row["signature"]
    ]
    assert {row["case"] for row in rows} == set(cases)
    for row in rows:
        case = cases[row["case"]]
        check_row(row, evaluate(case["hyp"], case["refs"], metrics=["bleu"])[0])


def test_ter_counts_edits() -> None:
    (score,) = evaluate(["the cat sat", "A b"], [["the cat sat on", "a b"]], metrics=["ter"])
    assert score.value == pytest.approx(100 / 6)  # one insertion in 6 words; case does not count
    assert score.details == {"edits": 1, "reference_length": 6}
    assert score.signature.startswith("nrefs:1|case:lc|tok:tercom")


def test_a_second_reference_counts() -> None:
    hypotheses, one, other = ["the cat sat on the mat"], ["a dog lay on a rug now"], ["the cat sat on the mat"]
    scores = evaluate(hypotheses, [one, other])
    assert [score.name for score in scores] == ["BLEU", "chrF", "TER"]
    assert [round(score.value, 6) for score in scores[:2]] == [100.0, 100.0]
    assert all(score.signature.startswith("nrefs:2|") for score in scores)


def test_exact_counts_lines_that_equal_a_reference() -> None:
    hypotheses, one, other = ["a b", "A b", "a  b"], ["a b", "a b", "a b"], ["c", "A b", "c"]
    for references, lowercase, equal, signature in (
        ([one], False, 1, "nrefs:1|case:mixed"),
        ([one], True, 2, "nrefs:1|case:lc"),
        ([one, other], False, 2, "nrefs:2|case:mixed"),
    ):
        (score,) = evaluate(hypotheses, references, metrics=["exact"], lowercase=lowercase)
        assert score == ("exact", pytest.approx(100 * equal / 3), signature, {"equal": equal}, None)


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match=r"^reference 2 has 1 lines, the hypotheses 2$"):
        evaluate(["a", "b"], [["a", "b"], ["a"]])
    with pytest.raises(UserError, match=r"^nothing to score: 0 hypotheses, 1 references$"):
        evaluate([], [[]])
    with pytest.raises(UserError, match=r"^unknown metric `bleurt`\nThere are: bleu, chrf, chrf\+\+, ter, exact\.$"):
        evaluate(["a"], [["a"]], metrics=["bleurt"])
    with pytest.raises(UserError, match=r"^unknown tokenization `moses`\nThere are: 13a, "):
        evaluate(["a"], [["a"]], tokenize="moses")


def test_tests_are_those_of_sacrebleu_and_count_each_line_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle is sacrebleu's own command on a metric without memory."""
    draw = random.Random(1)
    reference = [" ".join(draw.choices("abcdefgh", k=draw.randint(3, 9))) for _ in range(30)]
    systems = [[line.replace("a", "b", n + 1) for line in reference] for n in range(3)]
    counted = 0
    count = TER._compute_segment_statistics

    def counting(self: TER, hypothesis: str, ref_kwargs: dict[str, object]) -> object:
        nonlocal counted
        counted += 1
        return count(self, hypothesis, ref_kwargs)

    monkeypatch.setattr(TER, "_compute_segment_statistics", counting)
    found = compare("ter", systems, [reference])
    assert counted == 3 * 30
    named = [(str(n), system) for n, system in enumerate(systems)]
    _, drawn = PairedTest(named, {"TER": TER()}, [reference], test_type="bs")()
    _, shuffled = PairedTest(named, {"TER": TER()}, [reference], test_type="ar")()
    assert found.differences[0] is None
    for n, (score, result) in enumerate(zip(found.scores, drawn["TER"], strict=True)):
        assert score[:4] == evaluate(systems[n], [reference], metrics=["ter"])[0][:4]
        assert score.interval == pytest.approx((result.mean - result.ci, result.mean + result.ci))
    for difference, one, other in zip(found.differences[1:], drawn["TER"][1:], shuffled["TER"][1:], strict=True):
        assert difference is not None
        assert (difference.p_bootstrap, difference.p_randomization) == (one.p_value, other.p_value)


def test_intervals_are_within_what_a_metric_can_be_and_hold_the_score() -> None:
    references = [f"a b c d e f g{n}" for n in range(10)]
    for systems in (["x", *references[1:]], ["x"] * 9 + references[9:]):
        for metric in ("exact", "bleu", "chrf", "ter"):
            (score,) = compare(metric, [systems], [references]).scores
            low, high = score.interval or (0.0, 0.0)
            assert 0 <= low <= score.value <= high
            assert metric == "ter" or high <= 100
