"""A text of the wrong side is noticed by translate, backtranslate and rerank."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from zoo import write_run

from nmt.layout import SIDES
from nmt.rundir import RunDir

WARNING = "the text is spelled like the language that {} translates into, not like the one it translates from"
SETTINGS = """
tokenizer: {kind: words}
model: {embedding: {width: 8}, encoder: {width: 8}, decoder: {width: 8, attention: {kind: dot}}, dropout: 0.0}
train: {steps: 1, validate_every: 1, samples: 0, precision: float32, average: null}
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two languages with few letters in common: `src` and `tgt`, `dev.src` and `dev.tgt`."""
    folder, draw = tmp_path_factory.mktemp("text"), random.Random(1)
    for side, letters in (("src", "abcdefg"), ("tgt", "efghijkl")):
        words = ["".join(draw.choices(letters, k=draw.randint(2, 5))) for _ in range(400)]
        for name, count in ((side, 200), (f"dev.{side}", 20)):
            lines = [" ".join(draw.choices(words, k=6)) for _ in range(count)]
            (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return folder


@pytest.fixture
def here(text: Path, tmp_path: Path, command, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`run`, just begun, and `old`, a run that does not know how its sides are spelled."""
    monkeypatch.chdir(tmp_path)
    for file in text.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "tiny.yaml").write_text(SETTINGS)
    command("train", "tiny.yaml", "--src", "src", "--tgt", "tgt", "--dev-src", "dev.src", "--dev-tgt", "dev.tgt",
            "-o", "run", "--device", "cpu")  # fmt: skip
    write_run(tmp_path / "old", "lstm")
    return tmp_path


def test_translate(command, here: Path) -> None:
    _, err = command("translate", "run", "dev.src")
    assert err == ""
    _, err = command("translate", "run", "dev.src", "--strict")
    assert err == ""
    told = f"warning: {WARNING.format('run')}. Is this the run of the other direction, or the other file?\n"
    for arguments in (("dev.tgt",), ("dev.tgt", "dev.tgt"), ("dev.tgt", "--ensemble", "run")):
        out, err = command("translate", "run", *arguments)
        assert err == told
        assert out.count("\n") % 20 == 0
    _, err = command("translate", "run", stdin=(here / "dev.tgt").read_bytes())
    assert err == told
    _, err = command("translate", "run", "dev.tgt", "-o", "out", "--strict", code=2)
    assert err == f"{told}error: the text is not in the language that the run translates from (see above)\n"
    assert (here / "out").read_text().count("\n") == 20
    line = (here / "dev.tgt").read_text().split("\n")[0]
    assert command("translate", "run", "--text", line)[1] == ""  # too little to say
    assert command("translate", "old", "dev.tgt")[1] == ""


def test_backtranslate(command, here: Path) -> None:
    _, err = command("backtranslate", "run", "dev.tgt", "-o", "bt", "--strict", code=2)
    assert err.startswith(f"error: {WARNING.format('run')}\n")
    assert not (here / "bt").exists()
    for mono, said in (("dev.tgt", True), ("dev.src", False)):
        _, err = command("backtranslate", "run", mono, "-o", f"bt.{mono}", "--set", "search.max_length=2")
        assert (f"warning: {WARNING.format('run')}" in err) == said


def test_rerank(command, here: Path) -> None:
    """A run of the reverse direction translates from the language that the translations are in."""
    for side, said in (("src", False), ("tgt", True)):
        lines = (here / f"dev.{side}").read_text().splitlines()
        (here / "nbest").write_text("".join(f"{n} ||| {line} ||| -1.0\n" for n, line in enumerate(lines, start=1)))
        _, err = command("rerank", "run", "dev.tgt", "nbest", "-o", f"out.{side}")
        assert (f"warning: {WARNING.format('run')}" in err) == said
        _, err = command("rerank", "run", "dev.tgt", "nbest", "-o", f"out2.{side}", "--strict", code=2 if said else 0)
        assert (here / f"out2.{side}").exists() != said


def test_evaluate_and_align(command, here: Path) -> None:
    for src, tgt, said in (("dev.src", "dev.tgt", False), ("dev.tgt", "dev.src", True)):
        _, err = command("evaluate", "run", "--src", src, "--ref", tgt, "--metric", "exact")
        assert (f"warning: {WARNING.format('run')}" in err) == said
        _, err = command("align", "run", tgt, src, "--reverse", "run", "--symmetrize", "union")
        assert (f"warning: {WARNING.format('run')}" in err) == said


def test_development_files_the_wrong_way_round(command, here: Path) -> None:
    for src, tgt, said in (("src", "tgt", 0), ("tgt", "src", 1)):
        dev = ("--dev-src", f"dev.{src}", "--dev-tgt", f"dev.{tgt}")
        _, err = command("train", "tiny.yaml", "--src", "src", "--tgt", "tgt", *dev, "-o", f"run-{src}")
        assert err.count("are the two development files the wrong way round?") == said


def test_the_profile_is_a_part_of_the_run(command, here: Path) -> None:
    path = here / "run" / "tokenizer" / SIDES
    assert path.stat().st_size < 50_000
    _, err = command("train", "tiny.yaml", "--src", "src", "--tgt", "tgt", "-o", "run", "--force", "--device", "cpu")
    assert RunDir(here / "run").direction.profile is not None
    command("pack", "run", "-o", "packed")
    assert WARNING.format("packed") in command("translate", "packed", "dev.tgt")[1]
    path.write_text("{}")
    _, err = command("translate", "run", "dev.src", code=2)
    assert f"{path.relative_to(here)} is damaged" in err
