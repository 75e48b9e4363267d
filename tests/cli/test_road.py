"""A newcomer's road through the real command: from two text files to a model, its translations and its pictures.

Sixty pairs, small enough to be learned by heart in seconds: so what comes out can be compared with what went in.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import nmt
from nmt.cli.main import run as entry
from nmt.data.phrasebook import write_phrasebook

PAIRS = 60
TINY = """
data: {max_tokens: 256}
tokenizer: {kind: words}
model:
  embedding: {width: 32}
  encoder: {width: 32}
  decoder: {width: 32, attention: {kind: general}}
  dropout: 0.0
train:
  steps: 80
  optimizer: {lr: 0.02}
  schedule: {kind: constant, warmup: 10}
  label_smoothing: 0.0
  validate_every: 40
  log_every: 20
  samples: 1
  precision: float32
  average: null
search: {beam: 2}
"""
TEXTS = ["--src", "train.en", "--tgt", "train.fr", "--dev-src", "train.en", "--dev-tgt", "train.fr"]


class Road(NamedTuple):
    folder: Path
    trained: subprocess.CompletedProcess[str]
    resumed: str  # what it said


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    """A folder with the first pairs of the phrasebook, and run/, which has learned them: by a process of its own, as
    in life, and then by this one."""
    folder = tmp_path_factory.mktemp("road")
    write_phrasebook(folder, train=PAIRS, dev=1, test=1, names=1, long=1)
    (folder / "tiny.yaml").write_text(TINY)
    line = [sys.executable, "-W", "error", "-m", "nmt", "train", "tiny.yaml", *TEXTS, "-o", "run", "--device", "cpu"]
    trained = subprocess.run(line, capture_output=True, text=True, encoding="utf-8", cwd=folder, check=False)
    assert trained.returncode == 0, trained.stderr
    resumed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(resumed):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["nmt", "train", "run", "--resume", "--set", "train.steps=120", "--device", "cpu"])
        with pytest.raises(SystemExit) as caught:
            entry()
    assert caught.value.code in (None, 0), resumed.getvalue()
    return Road(folder, trained, resumed.getvalue())


@pytest.fixture
def here(road: Road, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(road.folder)
    return road.folder


def lines_of(text: str) -> list[str]:
    assert text.endswith("\n")
    return text.split("\n")[:-1]


def bleu(output: str) -> float:
    name, value = output.splitlines()[0].split()[:2]
    assert name == "BLEU"
    return float(value)


def test_train_reports_and_says_what_comes_next(road: Road) -> None:
    said = road.trained.stderr
    assert road.trained.stdout == ""
    assert "training run on cpu in float32: 60 pairs, dev 60" in said
    assert "step 40  dev loss" in said
    assert "reference  il m' a entarté" in said
    assert said.endswith(
        "Next:\n"
        "  nmt translate run INPUT -o OUTPUT\n"
        "  nmt evaluate run --src SOURCE --ref REFERENCE\n"
        "  nmt plot run SOURCE -o PICTURES\n"
        "Curves, samples and their attention: run/report.html\n"
    )


def test_resume_goes_on_where_training_stopped(road: Road) -> None:
    assert "going on from step 80" in road.resumed
    records = [json.loads(line) for line in lines_of((road.folder / "run" / "metrics.jsonl").read_text("utf-8"))]
    validations = [record for record in records if "dev_loss" in record]
    assert [record["step"] for record in validations] == [40, 80, 120]
    losses = [record["dev_loss"] for record in validations]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.2 < losses[0]


def test_what_was_learned_is_translated_from_everywhere(command, here: Path, tmp_path: Path) -> None:
    """From a file, to a file, from standard input, and in Python."""
    source = (here / "train.en").read_text("utf-8")
    out, err = command("translate", "run", "train.en")
    assert err == ""
    assert lines_of(out)[0] == "il m' a entarté"
    reference = lines_of((here / "train.fr").read_text("utf-8"))
    right = sum(one == other for one, other in zip(lines_of(out), reference, strict=True))
    assert right >= 0.9 * PAIRS
    assert command("translate", "run", "train.en", "-o", tmp_path / "out") == ("", "")
    assert (tmp_path / "out").read_text("utf-8") == out
    assert command("translate", "run", stdin=source.encode()) == (out, "")
    translator = nmt.load("run", device="cpu")
    assert [result.text for result in translator.translate(lines_of(source))] == lines_of(out)


def test_score_tells_true_translations_from_others(command, here: Path, tmp_path: Path) -> None:
    targets = lines_of((here / "train.fr").read_text("utf-8"))
    random.Random(1).shuffle(targets)
    (tmp_path / "shuffled").write_text("".join(f"{line}\n" for line in targets), "utf-8")
    true, _ = command("score", "run", "train.en", "train.fr")
    false, _ = command("score", "run", "train.en", tmp_path / "shuffled")
    mean_true, mean_false = (sum(map(float, lines_of(text))) / PAIRS for text in (true, false))
    assert mean_true > -3
    assert mean_false < -20


def test_evaluate_translates_or_takes_translations(command, here: Path, tmp_path: Path) -> None:
    out, _ = command("evaluate", "run", "--src", "train.en", "--ref", "train.fr", "-o", tmp_path / "out")
    assert bleu(out) > 90
    again, _ = command("evaluate", "--hyp", tmp_path / "out", "--ref", "train.fr")
    assert again == out
    scores = [line for line in lines_of(out) if not line.startswith(" ")]
    assert [line.split()[0] for line in scores] == ["BLEU", "chrF", "TER"]
    _, err = command("translate", "run", "train.en", "--reference", "train.fr", "-o", tmp_path / "again")
    assert lines_of(err) == scores[:2]
    assert (tmp_path / "again").read_bytes() == (tmp_path / "out").read_bytes()


def test_align_and_aer(command, here: Path, tmp_path: Path) -> None:
    command("align", "run", "train.en", "train.fr", "-o", tmp_path / "links.talp")
    found = lines_of((tmp_path / "links.talp").read_text("utf-8"))
    for links, target in zip(found, lines_of((here / "train.fr").read_text("utf-8")), strict=True):
        assert len(links.split()) == len(target.split())  # one link for each target word
    out, _ = command("aer", tmp_path / "links.talp", "train.talp", "--src", "train.en", "--tgt", "train.fr", "--json")
    right = sure = total = 0
    for links, gold in zip(found, lines_of((here / "train.talp").read_text("utf-8")), strict=True):
        certain = {link for link in gold.split() if "-" in link}
        possible = {link.replace("?", "-") for link in gold.split()}
        right += len(certain & set(links.split())) + len(possible & set(links.split()))
        sure, total = sure + len(certain), total + len(links.split())
    assert json.loads(out)["aer"] == pytest.approx(100 * (1 - right / (total + sure)), abs=1e-4)
    assert command("aer", "train.talp", "train.talp")[0].startswith("AER 0.00  ")


def test_plot_draws_the_words(command, here: Path, tmp_path: Path) -> None:
    out, _ = command("plot", "run", "train.en", "-o", tmp_path / "pictures", "--lines", "1", "--format", "svg")
    assert out == f"{tmp_path}/pictures/0001.svg\n"
    drawn = (tmp_path / "pictures" / "0001.svg").read_text("utf-8")
    assert all(f">{word}<" in drawn for word in ("he", "hit", "me", "with", "pie", "il", "entarté"))


def test_average_joins_checkpoints_that_translate_like_the_best(command, here: Path) -> None:
    said, _ = command("average", "run", "--last", 2, "-o", "mean")
    assert "average of steps 80, 120" in said
    out, _ = command("evaluate", "run", "--src", "train.en", "--ref", "train.fr", "--checkpoint", "mean")
    assert bleu(out) > 80
    info, _ = command("info", "run")
    assert "trained      120 of 120 steps" in info
    assert "checkpoints  mean, step-00000080, step-00000120" in info  # train.keep_last: 2, and the best is among them
    assert "words, separate" in info


def test_a_run_needs_nothing_but_itself(command, here: Path, tmp_path: Path, monkeypatch) -> None:
    """Not the text it was trained on, nor its old place."""
    (tmp_path / "place").mkdir()
    for name in ("run", "train.en", "train.fr"):
        (shutil.copytree if name == "run" else shutil.copy)(here / name, tmp_path / "place" / name)
    monkeypatch.chdir(tmp_path)
    expected, _ = command("translate", here / "run", "place/train.en")
    (tmp_path / "place").rename(tmp_path / "moved")
    text = (tmp_path / "moved" / "train.en").read_bytes()
    assert command("translate", "moved/run", stdin=text)[0] == expected


def test_prepared_subwords_train_too(command, here: Path, tmp_path: Path) -> None:
    """SentencePiece, a corpus prepared ahead, and text that training has never seen."""
    pieces = ["--set", "tokenizer.kind=sentencepiece", "--set", "tokenizer.size=1000"]
    _, said = command("prepare", "tiny.yaml", *TEXTS, *pieces, "-o", tmp_path / "corpus")
    assert "training: 60 pairs\n" in said
    longer = ["--set", "train.steps=160", "--set", "train.validate_every=160"]  # a sentence has more pieces than words
    texts = ["--data", tmp_path / "corpus"]
    _, said = command("train", "tiny.yaml", *pieces, *texts, *longer, "-o", tmp_path / "run")
    assert "training: " not in said  # nothing is prepared again
    assert "done: 160 steps" in said
    out, err = command("translate", tmp_path / "run", stdin="he hit me with a pie\n\nSchrödinger 猫 🐈\n".encode())
    assert err == ""
    assert lines_of(out)[:2] == ["il m' a entarté", ""]
    assert lines_of(out)[2] != ""
    assert json.loads(command("info", tmp_path / "run", "--json")[0])["tokenizer"]["kind"] == "sentencepiece"


def test_bench_measures_both_directions(command, here: Path) -> None:
    sizes = ["tiny.yaml", "--vocabulary", "50", "--length", "5", "--device", "cpu", "--json"]
    for kind, unit, options in (
        ("train", "target tokens/s", ["--steps", "2"]),
        ("decode", "sentences/s", ["--steps", "4", "--sentences", "3", "--repeats", "2"]),
    ):
        speed = json.loads(command("bench", kind, *sizes, *options)[0])
        assert speed["unit"] == unit
        assert speed["rate"] > 0
        assert 0 < speed["flops"] < speed["peak"]
        assert speed["precision"] == "float32"
    out, _ = command("bench", "train", *sizes[:-1], "--steps", "1")
    assert "target tokens/s (float32)" in out
    assert "GFLOP/s" in out
