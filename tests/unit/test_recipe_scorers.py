"""The study of scorers: what is trained when and how, tables and pictures of known results, dot products by width."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from nmt.errors import UserError
from nmt.models.build import build_model
from nmt.models.rnn import RnnDecoder
from nmt.settings.load import load_config

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "scorers"


def load() -> tuple[ModuleType, ModuleType, ModuleType]:
    sys.path.insert(0, str(RECIPE))
    try:
        import dots  # type: ignore[import-not-found]
        import show  # type: ignore[import-not-found]
        import study  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(RECIPE))
    return study, show, dots


study, show, dots = load()

SCORES = {"none": 40.0, "dot": 90.0, "scaled_dot": 91.0, "general": 92.0, "additive": 93.0}


def cell(text: str, scorer: str, seed: int, bleu: float = 90.0) -> Any:
    phrasebook = text != "multi30k"
    return show.Cell(
        text,
        scorer,
        seed,
        parameters=1_262_421,
        steps=2000,
        minutes=1.5,
        speed=21_000.4,
        dev_bleu=95.0,
        bleu=bleu,
        chrf=97.125,
        long_bleu=bleu - 30 if phrasebook else None,
        long_chrf=70.0 if phrasebook else None,
        aer=None if scorer == "none" or not phrasebook else 5.5,
        lengths=[show.Bucket(1, 5, 260, bleu, 99.0), show.Bucket(25, 29, 48, bleu - 25, 75.0)],
    )


# What is trained


class Commands:
    """In the place of `nmt`: records what it is asked, and makes the files that it would."""

    def __init__(self) -> None:
        self.said: list[list[str]] = []
        self.interrupted: str | None = None

    def __call__(self, log: Path, *arguments: object) -> str:
        words = [str(word) for word in arguments]
        self.said.append(words)
        out = {option: Path(value) for option, value in pairwise(words)}
        match words[0]:
            case "fetch":
                folder = out["-o"]
                folder.mkdir(parents=True)
                for part in ("train", "dev", "test", "long"):
                    for side in ("en", "fr"):
                        (folder / f"{part}.{side}").write_text("a b c .\n" * 25)
                (folder / "README.txt").touch()
            case "prepare":
                out["-o"].mkdir()
            case "train":
                run = Path(words[1]) if "--resume" in words else out["-o"]
                (run / "checkpoints").mkdir(parents=True, exist_ok=True)
                (run / "last").write_text("step-00000002\n")
                if run.name == self.interrupted:
                    raise KeyboardInterrupt
                for name in ("step-00000001", "step-00000002"):
                    (run / "checkpoints" / name).mkdir()
                (run / "best").write_text("step-00000001\n")
                (run / "metrics.jsonl").write_text(
                    '{"tokens_per_second": 10}\n{"dev_bleu": 3}\n{"tokens_per_second": 30}\n{"tokens_per_second": 20}\n'
                )
            case "info":
                return '{"parameters": {"total": 7}, "steps": 20, "seconds": 90.0, "score": 12.5}'
            case "translate":
                out["-o"].write_text("a b c .\n" * 24 + "a\n")
            case "evaluate":
                return '{"scores": [{"name": "BLEU", "value": 33.25}, {"name": "chrF", "value": 44.5}]}'
            case "aer":
                return '{"aer": 5.25}'
        return ""

    def trained(self) -> list[str]:
        """The runs, in order, with `+` where one was gone on with."""
        return [
            f"{'/'.join(Path(words[1]).parts[-2:])}+"
            if "--resume" in words
            else "/".join(Path(words[words.index("-o") + 1]).parts[-2:])
            for words in self.said
            if words[0] == "train"
        ]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Commands:
    fake = Commands()
    for module in (study, sys.modules["recipes.study"]):
        monkeypatch.setattr(module, "nmt", fake)
    monkeypatch.setattr(study, "CHAINED", {"train": (3, 2), "dev": (2, 3)})
    monkeypatch.setattr(study, "dot_products", lambda: dots.dot_products((16, 64), queries=20))
    for picture in ("draw_scores", "draw_lengths", "draw_dots"):
        monkeypatch.setattr(show, picture, lambda rows, path: None)
    monkeypatch.setenv("NMT_CACHE", str(tmp_path / "cache"))
    return fake


def five(text: str, seed: int) -> list[str]:
    return [f"{text}/{scorer}-{seed}" for scorer in study.SCORERS]


def test_only_what_is_missing_is_trained(
    commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("-o", str(tmp_path / "out"))
    study.main([*out, "--only", "phrasebook"])
    assert commands.trained() == five("phrasebook", 1)
    study.main([*out, "--only", "phrasebook"])
    assert len(commands.trained()) == 5
    study.main([*out, "--seeds", "1", "2"])
    assert commands.trained()[5:] == five("chained", 1) + five("phrasebook", 2) + five("chained", 2)
    assert "Multi30k is left out: " in capsys.readouterr().err
    assert [words[0] for words in commands.said].count("prepare") == 2  # one corpus for all models of a text
    assert [words[0] for words in commands.said].count("fetch") == 1
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert len(lines) == 20
    found = show.Cell.from_json(json.loads(lines[1]))
    assert found[:11] == ("phrasebook", "dot", 1, 7, 20, 1.5, 20.0, 12.5, 33.25, 44.5, 33.25)
    assert found.aer == 5.25
    assert show.Cell.from_json(json.loads(lines[0])).aer is None  # the bottleneck has no attention to ask
    ((first, last, sentences, bleu, _),) = found.lengths  # test and long together; no other length has enough lines
    assert (first, last, sentences) == (1, 5, 50)
    assert 90 < bleu < 100  # two lines are too short


def test_the_checkpoint_tested_stays(commands: Commands, tmp_path: Path) -> None:
    study.main(["-o", str(tmp_path), "--only", "phrasebook"])
    assert [path.name for path in (tmp_path / "phrasebook/dot-1/checkpoints").iterdir()] == ["step-00000001"]
    assert not (tmp_path / "phrasebook/dot-1/last").exists()


def test_an_interrupted_training_goes_on(commands: Commands, tmp_path: Path) -> None:
    commands.interrupted = "scaled_dot-1"
    with pytest.raises(KeyboardInterrupt):
        study.main(["-o", str(tmp_path), "--only", "phrasebook"])
    commands.interrupted = None
    study.main(["-o", str(tmp_path), "--only", "phrasebook"])
    none, dot, scaled, *rest = five("phrasebook", 1)
    assert commands.trained() == [none, dot, scaled, f"{scaled}+", *rest]


def test_models_differ_in_attention_alone(commands: Commands, tmp_path: Path) -> None:
    study.main(["-o", str(tmp_path), "--only", "phrasebook", "--seeds", "7", "--steps", "20"])
    trainings = [words for words in commands.said if words[0] == "train"]
    differing = [{word for word in words if not all(word in other for other in trainings)} for words in trainings]
    for scorer, words in zip(study.SCORERS, differing, strict=True):
        assert words == {f"model.decoder.attention={study.SCORERS[scorer]}", str(tmp_path / f"phrasebook/{scorer}-7")}
        assert f"kind: {scorer}" in study.SCORERS[scorer]
    assert {"train.seed=7", "train.steps=20"} <= set(trainings[0])


def test_other_settings_do_not_mix(commands: Commands, tmp_path: Path) -> None:
    study.main(["-o", str(tmp_path), "--only", "phrasebook"])
    with pytest.raises(UserError, match=r"phrasebook was made of other settings or text\nname another folder"):
        study.main(["-o", str(tmp_path), "--only", "phrasebook", "--steps", "20"])
    (tmp_path / "text/phrasebook/test.fr").write_text("d\n" * 25)
    with pytest.raises(UserError, match="other settings or text"):
        study.main(["-o", str(tmp_path), "--only", "phrasebook"])
    assert len(commands.trained()) == 5


def test_multi30k_asked_for_must_be_there(commands: Commands, tmp_path: Path) -> None:
    for options in (["--only", "multi30k"], ["--data", str(tmp_path)]):
        with pytest.raises(UserError, match=r"train\.en is missing\n`nmt fetch multi30k` gets it"):
            study.main(["-o", str(tmp_path / "out"), *options])
    for name in ("train", "val", "test_2016_flickr"):
        for side in ("en", "de"):
            (tmp_path / f"{name}.{side}").write_text("a b c .\n" * 25)
    study.main(["-o", str(tmp_path / "out"), "--only", "multi30k", "--data", str(tmp_path)])
    assert commands.trained() == five("multi30k", 1)
    assert "align" not in {words[0] for words in commands.said}


def test_damaged_results_are_named(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text('{"text": "phrasebook"}\n')
    with pytest.raises(UserError, match=r"results\.jsonl is damaged"):
        study.main(["-o", str(tmp_path), "--only", "phrasebook"])


def test_long_sentences_are_added_but_none_that_is_tested(tmp_path: Path) -> None:
    for name, lines in (("train.en", "a\n"), ("train.fr", "b\n")):
        (tmp_path / name).write_text(lines)
    count, seed = study.CHAINED["train"]
    drawn = study.generate("long", 3, seed=seed)
    (tmp_path / "long.en").write_text(f"{drawn[1].src}\n")
    study.CHAINED["train"] = (3, seed)
    try:
        pair = study.Pair(tmp_path / "train.en", tmp_path / "train.fr")
        added = study.add_long(pair, "train", tmp_path / "long.en", tmp_path / "chained")
    finally:
        study.CHAINED["train"] = (count, seed)
    assert added.src.read_text("utf-8").splitlines() == ["a", drawn[0].src, drawn[2].src]
    assert added.tgt.read_text("utf-8").splitlines() == ["b", drawn[0].tgt, drawn[2].tgt]


@pytest.mark.parametrize("name", ["phrasebook", "multi30k"])
def test_the_same_network_around_every_scorer(name: str) -> None:
    """All five fit, run all steps in one call, and share every parameter that is not of the attention."""
    shapes = {}
    for scorer, attention in study.SCORERS.items():
        config = load_config(RECIPE / f"{name}.yaml", [f"model.decoder.attention={attention}"])
        model = build_model(config.model, 30, 30)
        assert isinstance(model.decoder, RnnDecoder)
        assert not config.model.decoder.feeds  # type: ignore[union-attr]
        shapes[scorer] = {
            name: tuple(parameter.shape) for name, parameter in model.named_parameters() if ".scorer." not in name
        }
    assert shapes["dot"] == shapes["scaled_dot"] == shapes["general"] == shapes["additive"]
    extra = shapes["dot"].keys() ^ shapes["none"].keys()
    changed = {name for name in shapes["none"] if shapes["none"][name] != shapes["dot"].get(name)}
    assert all("decoder." in name for name in extra | changed)
    assert len(extra | changed) <= 2  # what joins context and state


# Tables and pictures


def test_tables() -> None:
    cells = [cell("phrasebook", scorer, seed, bleu + seed) for scorer, bleu in SCORES.items() for seed in (1, 3)]
    cells.append(cell("multi30k", "dot", 1))
    lines = show.score_tables(cells)
    assert lines[0] == "## Phrasebook"
    assert lines[4] == (
        "| none | 1, 3 | 1,262,421 | 42.00 ± 1.41 | 97.12 ± 0.00 | - | 12.00 ± 1.41 | 70.00 ± 0.00 | 1.5 ± 0.0 "
        "| 21,000 ± 0 |"
    )
    assert lines[5].startswith("| dot | 1, 3 | 1,262,421 | 92.00 ± 1.41 | 97.12 ± 0.00 | 5.50 ± 0.00 | 62.00 ± 1.41 |")
    assert "| BLEU by source words | 1-5 | 25-29 |" in lines
    assert "| sentences | 260 | 48 |" in lines
    assert "| general | 94.00 ± 1.41 | 69.00 ± 1.41 |" in lines
    assert "| dot | 1 | 1,262,421 | 90.00 | 97.12 | - | - | - | 1.5 | 21,000 |" in lines  # Multi30k, one seed
    assert show.score_tables([]) == []


def test_results_are_written_and_read_back(tmp_path: Path) -> None:
    cells = [cell(text, scorer, 1, bleu) for text in show.TITLES for scorer, bleu in SCORES.items()]
    cells += [cell("phrasebook", "dot", 2, 80.0)]
    show.write_results(tmp_path, cells, dots.dot_products((16, 64), queries=50))
    assert study.read_cells(tmp_path) == cells
    assert "## Dot products by width" in (tmp_path / "results.md").read_text("utf-8")
    for name in ("scores", "lengths", "dots"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_of_what_there_is(tmp_path: Path) -> None:
    show.draw_lengths([cell("chained", "none", 1)], tmp_path / "lengths.png")
    show.draw_scores([cell("chained", "none", 1)], tmp_path / "scores.png")
    assert (tmp_path / "lengths.png").exists()
    assert (tmp_path / "scores.png").exists()


def test_a_line_in_the_picture_goes_through_the_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    monkeypatch.setattr(show.Figure, "savefig", lambda figure, path, dpi: figures.append(figure))
    show.draw_lengths([cell("phrasebook", "dot", 1, 80.0), cell("phrasebook", "dot", 2, 90.0)], tmp_path / "x.png")
    (axes,) = figures[0].axes
    assert axes.lines[0].get_ydata().tolist() == [85.0, 60.0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1-5", "25-29"]


# Dot products


def test_variance_is_the_width_and_one_when_scaled() -> None:
    """By theory; and the scaled scores' softmax against a naive sum."""
    rows = {(row.scorer, row.width): row for row in dots.dot_products((16, 256), queries=500)}
    for width in (16, 256):
        assert rows["dot", width].variance == pytest.approx(width, rel=0.05)
        assert rows["scaled_dot", width].variance == pytest.approx(1, rel=0.05)
    assert rows["dot", 256].entropy < 0.5 * rows["dot", 16].entropy
    assert rows["scaled_dot", 256].entropy == pytest.approx(rows["scaled_dot", 16].entropy, rel=0.02)


def test_entropy_and_greatest_weight() -> None:
    scores = torch.tensor([[[0.0, 0.0, 0.0, 0.0]], [[0.0, torch.log(torch.tensor(3.0)), -1e9, -1e9]]]).double()
    row = dots.measure("dot", 4, scores)
    assert row.greatest == pytest.approx((0.25 + 0.75) / 2)
    assert row.entropy == pytest.approx((1.3862944 + 0.5623351) / 2)
