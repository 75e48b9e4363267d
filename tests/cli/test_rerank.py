"""nmt rerank: the choice is that of the figures of `nmt score`, and what is wrong is said before any work is lost."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from zoo import write_run

from nmt.config import SearchConfig
from nmt.evaluate import evaluate
from nmt.translate import Translator

SRC = ["w1 w2", "w3 new w4", "", "w5", "w6 other new w7"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rerank")
    write_run(folder / "run", "lstm-feeding", search=SearchConfig(beam=4, max_ratio=1.0, max_extra=3))
    write_run(folder / "reverse", "copy-transformer", seed=2)
    (folder / "src").write_text("".join(f"{line}\n" for line in SRC))
    return folder


@pytest.fixture(autouse=True)
def there(runs: Path, monkeypatch: pytest.MonkeyPatch, command, tmp_path: Path) -> None:
    monkeypatch.chdir(runs)
    if not Path("nbest").exists():
        command("translate", "run", "src", "--nbest", 4, "-o", "nbest")


def rows() -> list[list[tuple[str, float]]]:
    found: list[list[tuple[str, float]]] = [[] for _ in SRC]
    for line in Path("nbest").read_text().splitlines():
        number, text, score = line.split(" ||| ")
        found[int(number) - 1].append((text, float(score)))
    return found


@pytest.mark.parametrize("weight", [0.0, 0.3, 3.0, 1e6])
def test_the_choice_is_that_of_nmt_score(command, tmp_path: Path, weight: float) -> None:
    flat = [(text, source) for source, n_best in zip(SRC, rows(), strict=True) for text, _ in n_best]
    for name, lines in zip(("texts", "sources"), zip(*flat, strict=True), strict=True):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    scores, _ = command("score", "reverse", tmp_path / "texts", tmp_path / "sources")
    said = iter([float(score) if score else -math.inf for score in scores.split("\n")[:-1]])
    expected = []
    for source, n_best in zip(SRC, rows(), strict=True):
        totals = []
        for text, score in n_best:
            reverse = next(said)
            totals.append((score + weight * reverse / (len(source.split()) + 1) if weight else score, text))
        expected.append(max(totals, key=lambda total: total[0])[1])
    out, err = command("rerank", "reverse", "src", "nbest", "--weight", weight)
    assert out.split("\n") == [*expected, ""]
    others = sum(text != n_best[0][0] for text, n_best in zip(expected, rows(), strict=True))
    assert err == f"{others} of 5 lines have another translation than the first\n"
    assert (others > 0) == (weight > 0)


def test_weights_are_compared(command, tmp_path: Path) -> None:
    """A row for each, with the figures of what it would have written."""
    refs = [n_best[-1][0] or "w1" for n_best in rows()]
    (tmp_path / "ref").write_text("".join(f"{line}\n" for line in refs))
    out, err = command("rerank", "reverse", "src", "nbest", "--choose", tmp_path / "ref")
    table = {line.split()[1]: line.split()[2:] for line in out.splitlines()}
    assert list(table) == ["0.0", "0.05", "0.1", "0.2", "0.3", "0.5", "0.7", "1.0"]
    for weight, row in table.items():
        hypotheses = command("rerank", "reverse", "src", "nbest", "--weight", weight)[0].split("\n")[:-1]
        scores = evaluate(hypotheses, [refs], metrics=("bleu", "chrf", "exact"))
        assert row == [cell for score in scores for cell in (score.name, f"{score.value:.2f}")]
    assert err.startswith("BLEU  nrefs:1|case:mixed|")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("w1 w2", "nbest.wrong, line 2: not `N ||| text ||| score`"),
        ("1 ||| w1 ||| good", "nbest.wrong, line 2: not `N ||| text ||| score`"),
        ("1 ||| w1 ||| nan", "nbest.wrong, line 2: not `N ||| text ||| score`"),
        ("6 ||| w1 ||| -1.0", "nbest.wrong, line 2: of line 6, and the source has 5 lines"),
        ("1 ||| a ||| b ||| -1.0", "nbest.wrong has no translation of line 2: is it of another source?"),
    ],
)
def test_a_file_that_is_no_list(command, tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "nbest.wrong").write_text(f"1 ||| w1 ||| -1.0\n{line}\n")
    _, err = command("rerank", "reverse", "src", tmp_path / "nbest.wrong", "-o", tmp_path / "out", code=2)
    assert problem in err
    assert not (tmp_path / "out").exists()


def test_what_does_not_go_together(command, tmp_path: Path) -> None:
    (tmp_path / "ref").write_text("w1\n")
    _, err = command("rerank", "reverse", "src", "nbest", "--choose", tmp_path / "ref", code=2)
    assert "ref has 1 lines, src 5: they must be the same" in err
    _, err = command("rerank", "reverse", "src", "nbest", "--choose", "src", "-o", tmp_path / "out", code=2)
    assert "--choose compares weights and writes nothing" in err
    (tmp_path / "out").write_text("mine\n")
    _, err = command("rerank", "reverse", "src", "nbest", "-o", tmp_path / "out", code=2)
    assert "out: exists already" in err


def test_nothing_to_guess_from(runs: Path) -> None:
    """A reverse model has nothing to say of an empty text, which then is the last choice."""
    from nmt.rerank import Ranked, best, with_reverse

    reverse = Translator.load(runs / "reverse", device="cpu")
    ranked = list(with_reverse(reverse, ["w1 w2"], [[Ranked("", -0.1), Ranked("w9", -50.0)]]))
    assert ranked[0].reverse == -math.inf
    assert best(ranked, 0.1) == "w9"
    assert best(ranked, 0.0) == ""
