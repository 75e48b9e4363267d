"""The studies of ingredients, Multi30k and Cherokee: what is trained, what is chosen, what the tables say."""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nmt.errors import UserError
from nmt.settings.load import load_config

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.replace("/", "_"), RECIPES / f"{path}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


multi30k, chren = load("multi30k/ingredients"), load("chren/study")
from recipes import ablation, study  # noqa: E402

REFERENCE = "a b c d e f g h i j"


class Nmt:
    """In the place of `nmt`: makes the files that it would. Translations have as many words of the reference as
    `right` says for a recipe, one more for averages of the best."""

    def __init__(self) -> None:
        self.said: list[list[str]] = []
        self.right: dict[str, int] = {}
        self.interrupted: str | None = None

    def __call__(self, log: Path, *arguments: object) -> str:
        words = [str(word) for word in arguments]
        self.said.append(words)
        options = {option: value for option, value in pairwise(words) if option.startswith("-")}
        match words[0]:
            case "train":
                run = Path(words[1]) if "--resume" in words else Path(options["-o"])
                (run / "checkpoints" / "step-00000004").mkdir(parents=True, exist_ok=True)
                (run / "checkpoints" / "step-00000004" / "model.safetensors").touch()
                (run / "config.yaml").touch()
                (run / "last").write_text("step-00000004\n")
                (run / "best").write_text("step-00000004\n")
                (run / "run.json").write_text('{"sessions": [{"time": "2026-01-02T03:04", "commit": "abc"}]}')
                lines = [{"step": 2, "dev_bleu": 1.5, "seconds": 600}, {"step": 4, "dev_bleu": 2.5, "seconds": 1830}]
                (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
                if f"{run.parent.name}/{run.name}" == self.interrupted and "--resume" not in words:
                    raise KeyboardInterrupt
            case "info":
                return '{"parameters": {"total": 1234567}, "steps": 4, "seconds": 1830}'
            case "average":
                folder = Path(words[1]) / "checkpoints" / options["-o"]
                folder.mkdir()
                (folder / "model.safetensors").touch()
            case "translate":
                run = Path(words[1])
                right = self.right.get(run.name.rsplit("-", 1)[0], 5) + (options["--checkpoint"] == "average-best")
                output = REFERENCE.split()[:right] + ["x"] * (10 - right)
                lines = (Path(words[2]).read_bytes().removesuffix(b"\n").count(b"\n") + 1) * [" ".join(output)]
                Path(options["-o"]).write_text("".join(f"{line}\n" for line in lines))
            case "backtranslate":
                folder = Path(options["-o"])
                folder.mkdir(parents=True)
                (folder / "mono.tgt").write_text("k\n")
                (folder / "mono.src").write_text("e\n")
        return ""

    def trained(self) -> list[str]:
        """The runs, in order, with `*` where one was gone on with."""
        names = []
        for words in self.said:
            if words[0] == "train":
                resumed = "--resume" in words
                run = Path(words[1] if resumed else words[words.index("-o") + 1])
                names.append(f"{run.parent.name}/{run.name}" + "*" * resumed)
        return names


@pytest.fixture
def nmt(monkeypatch: pytest.MonkeyPatch) -> Nmt:
    fake = Nmt()
    for module in (study, ablation, chren):
        monkeypatch.setattr(module, "nmt", fake)
    monkeypatch.setattr(ablation, "scored_checkpoints", lambda run: [None] * 3)
    monkeypatch.setattr(ablation, "settings_of", lambda config, overrides: [config.name, *overrides])  # fast
    return fake


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """The files of both corpora."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("train.chr.gz", "train.en.gz", "mono.chr.gz"):
        (folder / name).write_bytes(gzip.compress(b"a b\n"))
    for name in ("train.de", "val.en", "val.lc.norm.tok.de", "test_2016_flickr.en", "test_2016_flickr.de"):
        (folder / name).write_text(f"{REFERENCE}\n" * 2)
    for name in ("dev.en", "dev.chr", "test.en", "test.chr"):
        (folder / name).write_text(f"{REFERENCE}\n{REFERENCE}")  # as published: no line feed at the end
    return folder


@pytest.fixture
def call(text: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs one of the studies and gives its results."""

    def run(module: ModuleType, *options: str) -> dict[str, Any]:
        module.main(["-o", str(tmp_path / "out"), "--data", str(text), *options])
        results: dict[str, Any] = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
        return results

    return run


def overrides(words: list[str]) -> set[str]:
    return {value for option, value in pairwise(words) if option == "--set"}


# Multi30k


def test_rows_differ_in_their_ingredients_alone(nmt: Nmt, call: Callable[..., Any], text: Path) -> None:
    call(multi30k, "--set", "train.keep=3")
    trainings = {Path(words[words.index("-o") + 1]).name: overrides(words) for words in nmt.said if words[0] == "train"}
    assert [name.removesuffix("-1") for name in trainings] == list(multi30k.ROWS)
    base = trainings["small-1"]
    assert base == {"train.steps=100000", "train.average=null", "train.seed=1", "train.keep=3"}
    for name, found in trainings.items():
        ingredients = name.removesuffix("-1").split("+")[1:]
        assert found - base == {setting for i in ingredients for setting in multi30k.INGREDIENTS[i]}
        assert base <= found
    first = next(words for words in nmt.said if words[0] == "train")
    assert first[-2:] == ["--max-time", "3480s"]
    assert {str(text / "train.en.gz"), str(text / "train.de"), str(text / "val.lc.norm.tok.de")} <= set(first)
    assert not any("test_2016" in word for words in nmt.said for word in words)


def test_every_row_is_a_configuration() -> None:
    """Names and values of all settings are right, alone and together."""
    for module, yaml in ((multi30k, "multi30k/small"), (chren, "chren/transformer"), (chren, "chren/rnn")):
        for one in module.INGREDIENTS.values():
            load_config(RECIPES / f"{yaml}.yaml", [*one, "train.average=null"])
    every = [setting for name in ("fewer-pieces", "subwords") for setting in chren.INGREDIENTS[name]]
    config = load_config(RECIPES / "chren" / "rnn.yaml", every)
    assert config.tokenizer.size == 2000  # type: ignore[union-attr]
    assert config.train.subword_sampling.kind == "bpe_dropout"


def test_only_what_is_missing_is_trained(nmt: Nmt, call: Callable[..., Any]) -> None:
    rows = ("--rows", "small", "small+mean")
    call(multi30k, *rows)
    call(multi30k, *rows, "--seeds", "1", "2")
    assert nmt.trained() == [f"en-de/small{name}" for name in ("-1", "+mean-1", "-2", "+mean-2")]
    with pytest.raises(UserError, match="small-1 is of other settings or text"):
        call(multi30k, *rows, "--minutes", "30")
    with pytest.raises(UserError, match="small-1 is of other settings or text"):
        call(multi30k, *rows, "--set", "model.dropout=0.4")


def test_an_interrupted_training_goes_on(nmt: Nmt, call: Callable[..., Any]) -> None:
    nmt.interrupted = "en-de/small-1"
    with pytest.raises(KeyboardInterrupt):
        call(multi30k, "--rows", "small")
    with pytest.raises(UserError, match="small-1 is of other settings or text"):
        call(multi30k, "--rows", "small", "--set", "model.dropout=0.4")
    call(multi30k, "--rows", "small")
    assert nmt.trained() == ["en-de/small-1", "en-de/small-1*"]
    assert nmt.said[2][-3:] == ["--resume", "--max-time", f"{58 * 60 - 1830}s"]


def test_a_cell(nmt: Nmt, call: Callable[..., Any], tmp_path: Path) -> None:
    """The best of checkpoint and averages is kept, under the name `best`."""
    (cell,) = call(multi30k, "--rows", "small")["en-de"]
    # n-grams of words 1 to 4 that are right, of 10, 9, 8, 7 in a line: a geometric mean, without brevity penalty
    expected = {5: 100 * (5 * 4 * 3 * 2 / 5040) ** 0.25, 6: 100 * (6 * 5 * 4 * 3 / 5040) ** 0.25}
    assert cell["dev"] == pytest.approx({"best": expected[5], "average-best": expected[6], "average-last": expected[5]})
    assert cell["chosen"] == "average-best"
    assert cell["curve"] == [[2, 10.0, 1.5], [4, 30.5, 2.5]]
    assert (cell["steps"], cell["minutes"], cell["commit"], cell["date"]) == (4, 30.5, "abc", "2026-01-02")
    assert "tok:none" in cell["signature"]
    run = tmp_path / "out" / "en-de" / "small-1"
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["average-best"]
    assert (run / "best").read_text() == "average-best\n"
    averages = [words[2:] for words in nmt.said if words[0] == "average"]
    assert averages == [["--best", "3", "-o", "average-best"], ["--last", "3", "-o", "average-last"]]


def test_raw_text_is_scored_as_raw(nmt: Nmt, call: Callable[..., Any]) -> None:
    (cell,) = call(multi30k, "--rows", "small", "--tokenize", "13a")["en-de"]
    assert "tok:13a" in cell["signature"]


def test_the_test_set_is_translated_once_by_the_chosen(nmt: Nmt, call: Callable[..., Any], tmp_path: Path) -> None:
    nmt.right = {"small": 6, "small+mean": 7, "small+rdrop": 5}
    call(multi30k, "--rows", "small", "small+mean")
    call(multi30k, "--test")
    call(multi30k, "--test")
    tested = [words for words in nmt.said if any("test_2016" in word for word in words)]
    assert [Path(words[1]).name for words in tested] == ["small+mean-1"]
    assert tested[0][tested[0].index("--checkpoint") + 1] == "best"  # which is the average by now
    text = (tmp_path / "out" / "results.md").read_text("utf-8")
    assert "Test set, small+mean, seeds 1: **BLEU " in text
    nmt.right["small+subwords"] = 9
    call(multi30k, "--rows", "small+subwords")
    with pytest.raises(UserError, match=r"was scored with small\+mean, and by now small\+subwords is best"):
        call(multi30k, "--test")


def test_nothing_to_test(nmt: Nmt, call: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="no training is complete"):
        call(multi30k, "--test")


def test_a_missing_file_is_named(nmt: Nmt, call: Callable[..., Any], text: Path) -> None:
    (text / "val.en").unlink()
    with pytest.raises(UserError, match=r"data/val\.en is missing"):
        call(multi30k)
    (text / "mono.chr.gz").unlink()
    with pytest.raises(UserError, match=r"data/mono\.chr is missing"):
        call(chren)


# Cherokee


def best_with(nmt: Nmt, *names: str) -> None:
    for right, name in enumerate(names, start=5):
        nmt.right[name] = right


def test_each_ingredient_is_tried_on_top_of_what_is_kept(nmt: Nmt, call: Callable[..., Any], tmp_path: Path) -> None:
    best_with(nmt, "rnn", "rnn+subwords")
    nmt.right |= {"transformer": 4, "rnn+fewer-pieces": 3, "rnn+more-pieces": 2}
    call(chren, "--directions", "chr-en")
    kept = "rnn+subwords"
    path = ["transformer", "rnn", "rnn+fewer-pieces", "rnn+more-pieces", kept]
    assert nmt.trained() == [f"chr-en/{name}-1" for name in [*path, f"{kept}+self"]]
    call(chren, "--directions", "en-chr")
    assert nmt.trained()[6:] == [f"en-chr/{name}-1" for name in [*path, f"{kept}+back"]]
    ((_, run, mono, *_),) = [words for words in nmt.said if words[0] == "backtranslate"]  # once for both
    assert run == str(tmp_path / "out" / "chr-en" / f"{kept}-1")
    assert mono.endswith("mono.chr.gz")
    (forth,), (back,) = (
        [value for value in overrides(words) if value.startswith("data.more=")]
        for words in nmt.said
        if words[0] == "train" and any("mono.src" in word for word in words)
    )
    folder = (tmp_path / "out" / "text" / f"{kept}-1").resolve()
    assert forth == f"data.more=[{{src: '{folder}/mono.tgt', tgt: '{folder}/mono.src', tag: <st>}}]"
    assert back == f"data.more=[{{src: '{folder}/mono.src', tgt: '{folder}/mono.tgt', tag: <bt>}}]"
    assert load_config(None, [forth, "data.src=a", "data.tgt=b"]).data.more[0].tag == "<st>"


def test_the_first_seed_decides(nmt: Nmt, call: Callable[..., Any]) -> None:
    nmt.right = {"rnn": 4}
    call(chren, "--directions", "chr-en")
    trained = nmt.trained()
    call(chren, "--directions", "chr-en", "--seeds", "1", "2")
    assert nmt.trained()[len(trained) :] == [name.replace("-1", "-2") for name in trained]


def test_back_translation_waits_for_the_reverse(
    nmt: Nmt, call: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    call(chren, "--directions", "en-chr")
    assert "waits for all models from Cherokee" in capsys.readouterr().err
    assert not any("back" in name for name in nmt.trained())
    call(chren)
    assert nmt.trained()[-1] == "en-chr/transformer+back-1"


def test_other_synthetic_text_is_another_training(nmt: Nmt, call: Callable[..., Any], tmp_path: Path) -> None:
    call(chren)
    (folder,) = (tmp_path / "out" / "text").iterdir()
    (folder / "mono.src").write_text("another\n")
    with pytest.raises(UserError, match=r"transformer\+self-1 is of other settings or text"):
        call(chren)


def test_scores_are_detokenised(nmt: Nmt, call: Callable[..., Any]) -> None:
    cells = call(chren, "--directions", "chr-en")["chr-en"]
    assert all("tok:13a" in cell["signature"] for cell in cells)


# Tables


def cell(recipe: str, seed: int, best: float, average: float | None = None) -> Any:
    dev = {"best": best} if average is None else {"best": best, "average-best": average}
    curve = [ablation.Validated(100, 9.9, best - 4), ablation.Validated(200, 40.5, best - 1)]
    values = (
        max(dev, key=lambda name: dev[name]),
        200,
        40.5,
        5000.4,
        5_400_000,
        curve,
        "tok:none",
        "abc",
        "2026-01-02",
    )
    return ablation.Cell("en-de", recipe, seed, dev, *values, "f")


def test_table() -> None:
    cells = [
        *(cell("m+mean+x", 1, 41.0), cell("m", 1, 40.0, 39.0), cell("m", 2, 42.0, 43.0)),
        *(cell("m+mean", 1, 40.5, 40.75), cell("m+mean", 2, 42.0)),
    ]
    lines = ablation.table("en-de", cells, chren.parent, 40)
    assert lines[:4] == ["## en-de", "", "Dev BLEU with beam search:", ""]
    rows = [line for line in lines if line.startswith("| m")]
    assert rows == [
        "| m | 1, 2 | 41.00 ± 1.41 | 41.00 ± 2.83 | - | - | 5,400,000 | 200 ± 0 | 40.5 ± 0.0 | 5,000 ± 0 |",
        "| m+mean | 1, 2 | 41.25 ± 1.06 | 40.75 | - | -0.12 ± 1.24 | 5,400,000 | 200 ± 0 | 40.5 ± 0.0 | 5,000 ± 0 |",
        "| m+mean+x | 1 | 41.00 | - | - | +0.25 | 5,400,000 | 200 | 40.5 | 5,000 |",
        "| m | 37.00 ± 1.41 | 37.00 ± 1.41 | 37.00 ± 1.41 | 40.00 ± 1.41 |",
        "| m+mean | 37.25 ± 1.06 | 37.25 ± 1.06 | 37.25 ± 1.06 | 40.25 ± 1.06 |",
        "| m+mean+x | 37.00 | 37.00 | 37.00 | 40.00 |",
    ]
    assert "Best on dev, and so the one for the test set: **m** (of it: best)." in lines
    assert ablation.table("en-de", [], chren.parent, 40) == []


def test_the_chosen_has_the_most_seeds() -> None:
    cells = [cell("m", 1, 40.0), cell("m", 2, 41.0), cell("m+x", 1, 50.0)]
    assert ablation.choose(cells) == "m"
    assert ablation.choose(cells[1:]) == "m+x"


def test_parents() -> None:
    names = ["transformer", "rnn", "rnn+mean", "rnn+mean+back"]
    parents = [chren.parent(ablation.Recipe.of(name)).name for name in names]
    assert parents == ["transformer", "transformer", "rnn", "rnn+mean"]
