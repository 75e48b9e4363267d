"""The study of inflection: tables in, lines out, what is trained when, and the arithmetic of the result."""

from __future__ import annotations

import gzip
import importlib.util
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nmt.errors import UserError

STUDY = Path(__file__).resolve().parents[2] / "recipes" / "inflection" / "study.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("inflection_study", STUDY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


study = load()


def write_tables(folder: Path, rows: str) -> Path:
    folder.mkdir(parents=True)
    for part in ("train", "dev"):
        (folder / f"{part}.tsv").write_bytes(rows.encode())
    (folder / "test.tsv.gz").write_bytes(gzip.compress(rows.encode()))
    return folder


def cell(language: str, head: str, seed: int, exact: float) -> Any:
    return study.Cell(language, head, seed, 100, 50, exact, 1.5, 2.0, "f")


# The text


def test_a_table_becomes_lines(tmp_path: Path) -> None:
    rows = "piga\tamepiga\tV;PRF;3\r\nba sa\tŋa ba-sa\tV;FUT+IMMED\nV1\tV\tN\n"
    study.convert(write_tables(tmp_path / "swa", rows), tmp_path / "text")
    for part in ("train", "dev", "test"):
        assert (tmp_path / "text" / f"{part}.src").read_text("utf-8").split("\n") == [
            "<V> <PRF> <3> p i g a",
            "<V> <FUT+IMMED> b a ␣ s a",
            "<N> V 1",  # a tag is never a character
            "",
        ]
        assert (tmp_path / "text" / f"{part}.tgt").read_text("utf-8").split("\n") == [
            "a m e p i g a",
            "ŋ a ␣ b a - s a",
            "V",
            "",
        ]


def test_every_so_many_th_line(tmp_path: Path) -> None:
    rows = "".join(f"l{n}\tf{n}\tN\n" for n in range(7))
    study.convert(write_tables(tmp_path / "deu", rows), tmp_path / "text", every=3)
    assert (tmp_path / "text" / "train.tgt").read_text("utf-8") == "f 0\nf 3\nf 6\n"


@pytest.mark.parametrize("row", ["a\tb", "a\t\tN", "a\tb\tN\tx", "a␣\tb\tN", ""])
def test_a_bad_row_is_named(tmp_path: Path, row: str) -> None:
    folder = write_tables(tmp_path / "swa", f"a\tb\tN\n{row}\na\tb\tN\n")
    with pytest.raises(UserError, match=r"train\.tsv, line 2: not a lemma, a form and tags"):
        study.convert(folder, tmp_path / "text")


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tgk/train\.tsv is missing"):
        study.convert(tmp_path / "tgk", tmp_path / "text")


def test_real_tables_convert(shared: Path, tmp_path: Path) -> None:
    sizes = {"swa": (3374, 469, 910), "tgl": (1870, 236, 478), "zul": (322, 42, 78), "tgk": (53, 8, 16)}
    for language, expected in sizes.items():
        study.convert(shared / "inflection" / language, tmp_path / language)
        for side in ("src", "tgt"):
            lines = [
                (tmp_path / language / f"{part}.{side}").read_text("utf-8").split("\n")[:-1]
                for part in ("train", "dev", "test")
            ]
            assert tuple(map(len, lines)) == expected
            assert all(token.startswith("<") or len(token) == 1 for part in lines for x in part for token in x.split())


# Training


class Trainings:
    """In the place of `nmt`: records what it is asked, and makes the files that it would."""

    def __init__(self) -> None:
        self.trained: list[str] = []
        self.commands: list[list[str]] = []
        self.fail = self.interrupt = False

    def __call__(self, log: Path, *arguments: object) -> str:
        if self.fail:
            raise UserError("nmt train failed")
        words = [str(word) for word in arguments]
        run = log.with_suffix("")
        if words[0] == "info":
            return '{"seconds": 90.0}'
        self.commands.append(words)
        if words[0] == "train":
            resumed = "--resume" in words
            self.trained.append(str(Path(*run.parts[-2:])) + "+" * resumed)
            run.mkdir(parents=True, exist_ok=True)
            (run / "last").write_text("step-00000002\n")
            if self.interrupt and not resumed:
                raise KeyboardInterrupt
            for name in ("step-00000001", "step-00000002"):
                (run / "checkpoints" / name).mkdir(parents=True)
                (run / "checkpoints" / name / "model.safetensors").touch()
            (run / "config.yaml").touch()
            (run / "best").write_text("step-00000001\n")
        else:
            (run / "test.hyp").write_text("a x\n")  # the reference is: a b
        return ""


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    fake = Trainings()
    for module in (study, sys.modules["recipes.study"]):
        monkeypatch.setattr(module, "nmt", fake)
    return fake


@pytest.fixture
def run_study(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    for language in study.LANGUAGES:
        write_tables(tmp_path / "data" / language, "a\tab\tN\n")

    def call(*options: str) -> dict[str, Any]:
        study.main(["-o", str(tmp_path / "out"), "--data", str(tmp_path / "data"), *options])
        results: dict[str, Any] = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
        return results

    return call


def test_only_what_is_missing_is_trained(
    trainings: Trainings, run_study: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    run_study("--seeds", "1", "--languages", "swa")
    assert trainings.trained == ["swa/vocab-1", "swa/copy-1"]
    run_study("--seeds", "1", "2", "--languages", "swa", "zul")
    assert trainings.trained[2:] == [
        "zul/vocab-1",
        "zul/copy-1",
        "swa/vocab-2",
        "swa/copy-2",
        "zul/vocab-2",
        "zul/copy-2",
    ]
    results = run_study("--seeds", "1", "--languages", "tgk", "--heads", "copy")
    assert trainings.trained[8:] == ["tgk/copy-1"]
    assert len(results["cells"]) == 9  # all that is there, not only what was asked for now
    first = next(x for x in results["cells"] if (x["language"], x["head"], x["seed"]) == ("swa", "copy", 1))
    assert (first["exact"], first["distance"], first["train"], first["test"]) == (0.0, 1, 1, 1)
    assert first["minutes"] == 1.5
    assert {path.name for path in (tmp_path / "out/swa/copy-1/checkpoints").iterdir()} == {"step-00000001"}
    assert not (tmp_path / "out/swa/copy-1/last").exists()


def test_a_failed_training_is_made_again(trainings: Trainings, run_study: Callable[..., dict[str, Any]]) -> None:
    trainings.fail = True
    with pytest.raises(UserError, match="nmt train failed"):
        run_study("--seeds", "1", "--languages", "swa")
    trainings.fail = False
    run_study("--seeds", "1", "--languages", "swa")
    assert trainings.trained == ["swa/vocab-1", "swa/copy-1"]


def test_an_interrupted_training_goes_on(trainings: Trainings, run_study: Callable[..., dict[str, Any]]) -> None:
    trainings.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        run_study("--seeds", "1", "--languages", "swa", "--heads", "copy")
    with pytest.raises(UserError, match=r"copy-1 is of other settings or text"):  # no mixture of two experiments
        run_study("--seeds", "1", "--languages", "swa", "--heads", "copy", "--set", "train.steps=7")
    results = run_study("--seeds", "1", "--languages", "swa", "--heads", "copy")
    assert trainings.trained == ["swa/copy-1", "swa/copy-1+"]
    assert results["cells"][0]["minutes"] == 1.5


def test_heads_differ_in_nothing_but_the_head(trainings: Trainings, run_study: Callable[..., dict[str, Any]]) -> None:
    run_study("--seeds", "7", "--languages", "swa")
    vocab, copy = ([x for x in words if "swa/" not in x] for words in trainings.commands[::2])
    ((a, b),) = {(x, y) for x, y in zip(vocab, copy, strict=True) if x != y}
    assert a == "model.head={kind: vocab}"
    assert b.startswith("model.head={kind: copy")
    assert "train.seed=7" in vocab


def test_other_settings_do_not_mix(trainings: Trainings, run_study: Callable[..., dict[str, Any]]) -> None:
    run_study("--seeds", "1", "--languages", "swa")
    with pytest.raises(UserError, match=r"vocab-1 is of other settings or text\nname another folder by -o, or delete"):
        run_study("--seeds", "1", "--languages", "swa", "--set", "train.steps=7")
    assert len(trainings.trained) == 2


# The arithmetic


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("", "", 0), ("a b", "", 2), ("", "a", 1), ("a b c", "a x c", 1), ("k i t t e n", "s i t t i n g", 3)],
)
def test_distance(one: str, other: str, expected: int) -> None:
    assert study.distance(one, other) == study.distance(other, one) == expected


def test_macro_gain_pairs_seeds_and_leaves_out_incomplete_ones() -> None:
    cells = [
        cell(language, head, seed, exact)
        for language, base in (("swa", 50.0), ("tgl", 20.0), ("zul", 60.0), ("tgk", 70.0))
        for seed in (1, 2)
        for head, exact in (("vocab", base), ("copy", base + 2 * seed))
    ]
    cells += [cell("deu", "vocab", 1, 0.0), cell("deu", "copy", 1, 90.0)]  # not one of the small
    cells += [cell("swa", "copy", 3, 100.0), cell("swa", "vocab", 3, 0.0)]  # a seed that the others lack
    assert study.macro_gains(cells) == {1: 2.0, 2: 4.0}
    assert study.macro_gains(cells[1:]) == {2: 4.0}
    text = study.table(cells)
    assert "| tgl | 100, 50 | 20.0 ± 0.0 | 23.0 ± 1.4 | +3.0 [-9.7, +15.7] | 1.50, 1.50 | 2.0 |" in text
    assert "Macro gain over swa, tgl, zul, tgk, 2 seeds: **+3.0 [-9.7, +15.7]** points" in text


def test_a_table_of_what_there_is() -> None:
    text = study.table([cell("tgk", "copy", 1, 93.75)])
    assert "| tgk | 100, 50 | - | 93.8 | - | -, 1.50 | 2.0 |" in text
    assert "Macro gain over swa, tgl, zul, tgk, 0 seeds: **-**" in text


def test_quantiles_of_student() -> None:
    """Against the integral of the density from 0, which is 0.475 there."""
    for degrees, quantile in enumerate(study.T_975, start=1):
        scale = math.gamma((degrees + 1) / 2) / (math.sqrt(degrees * math.pi) * math.gamma(degrees / 2))
        steps = 2000
        width = quantile / steps
        points = ((n + 0.5) * width for n in range(steps))
        area = scale * width * sum((1 + x * x / degrees) ** (-(degrees + 1) / 2) for x in points)
        assert area == pytest.approx(0.475, abs=4e-5)


def test_interval() -> None:
    assert study.interval([1.0]) is None
    assert study.interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 4.303 / math.sqrt(3), 2 + 4.303 / math.sqrt(3)))
    assert study.interval([0.0, 1.0] * 20) == pytest.approx(
        (0.5 - 2.086 * 0.50637 / math.sqrt(40), 0.5 + 2.086 * 0.50637 / math.sqrt(40)), abs=1e-4
    )
