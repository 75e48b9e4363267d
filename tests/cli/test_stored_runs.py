"""Runs that earlier versions made load, translate, score and align as they did then."""

from __future__ import annotations

from pathlib import Path

import pytest

RUNS = Path(__file__).resolve().parents[1] / "data" / "stored"
SOURCES = ["mister Anna sleeps now", "mister Olga sings now", "", "mister Felix leaves now"]
OUTPUTS = ["maintenant monsieur Anna dort", "maintenant monsieur Olga chante", "", "maintenant monsieur Felix part"]
EXPECTED = {
    "0.1-recurrent": ([-0.339548, -0.354712], ["1-0 1-1 1-2 1-3", "1-0 1-1 1-2 1-3"]),
    "0.1-transformer": ([-2.555193, -2.718379], ["0-1 1-0 1-2 2-3", "0-1 0-2 2-0 2-3"]),
}
"""What the version that made the run said of the first two pairs: log-probabilities, links."""


def test_every_stored_run_is_tried() -> None:
    assert {path.name for path in RUNS.iterdir() if path.is_dir()} == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_run_says_what_it_said(name: str, command, tmp_path: Path) -> None:
    scores, links = EXPECTED[name]
    for file, lines in (("all.en", SOURCES), ("two.en", SOURCES[:2]), ("two.fr", OUTPUTS[:2])):
        (tmp_path / file).write_text("".join(f"{line}\n" for line in lines))
    out, _ = command("translate", RUNS / name, tmp_path / "all.en")
    assert out.splitlines() == OUTPUTS
    out, _ = command("score", RUNS / name, tmp_path / "two.en", tmp_path / "two.fr")
    assert [float(line) for line in out.splitlines()] == pytest.approx(scores, abs=1e-3)
    out, _ = command("align", RUNS / name, tmp_path / "two.en", tmp_path / "two.fr")
    assert out.splitlines() == links
    assert "best" in command("info", RUNS / name)[0]
