"""`nmt evaluate`: several systems, how sure a score is, the worst lines, text that was trained on."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import sacrebleu
from zoo import WORDS, write_run

from nmt.config import Config, DataConfig
from nmt.data.prepare import prepare

HYP = ("evaluate", "--hyp", "a", "--hyp", "b", "--ref", "ref")


def scrambled(lines: list[str], rate: float, seed: int) -> list[str]:
    """The lines with that share of their words left out."""
    draw = random.Random(seed)
    return [" ".join(word for word in line.split() if draw.random() > rate) for line in lines]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`ref`, translations of which `b` are worse than `a`, and a run with its corpus in it."""
    draw = random.Random(1)
    reference = [" ".join(draw.choices(WORDS[4:], k=draw.randint(4, 12))) for _ in range(40)]
    texts = {"ref": reference, "a": scrambled(reference, 0.1, 1), "b": scrambled(reference, 0.3, 2), "src": reference}
    for name, lines in texts.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "train").write_text("".join(f"{line} \n" for line in reference[:7]) + "w1\n")
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        run = write_run(tmp_path / name, "lstm", seed=len(name))
        data = DataConfig(src="train", tgt="train", dev_src="train", dev_tgt="train")
        prepare(Config(data=data), tmp_path / name / "data", report=lambda _: None, tokenizers=run.tokenizers())
    return tmp_path


def test_two_systems_side_by_side(command, here: Path) -> None:
    """All figures are those of each system alone; the second is told to be the worse one."""
    report = json.loads(command(*HYP, "--json")[0])
    assert [system["system"] for system in report["systems"]] == ["a", "b"]
    assert report["scores"] == report["systems"][0]["scores"]
    for system in report["systems"]:
        alone = json.loads(command("evaluate", "--hyp", system["system"], "--ref", "ref", "--json")[0])
        for score, other in zip(system["scores"], alone["scores"], strict=True):
            assert {**score, "difference": None} == other
            low, high = score["interval"]
            assert low < score["value"] < high
    for first, second in zip(*(system["scores"] for system in report["systems"]), strict=True):
        assert first["difference"] is None
        assert second["difference"]["value"] == second["value"] - first["value"]
        assert (second["value"] > first["value"]) == (second["name"] == "TER")
        assert 0 < second["difference"]["p_bootstrap"] < 0.05
        assert 0 < second["difference"]["p_randomization"] < 0.05
    out, err = command(*HYP)
    assert err == ""
    for system in report["systems"]:
        for score in system["scores"]:
            assert f"  {system['system']}{score['value']:>9.2f}" in out
            assert f"{score['name']}  {score['signature']}\n" in out
    assert out.count("more is better") == 2
    assert out.count("less is better") == 1
    assert "differ so much from a;\nbelow 0.05 it is usually said to differ" in out


def test_a_system_does_not_differ_from_itself(command, here: Path) -> None:
    report = json.loads(
        command("evaluate", "--hyp", "a", "--hyp", "a", "--ref", "ref", "--metric", "exact", "--json")[0]
    )
    (score,) = report["systems"][1]["scores"]
    assert score["difference"] == {"value": 0, "p_bootstrap": 1, "p_randomization": 1}


def test_runs_and_files_are_systems_alike(command, here: Path) -> None:
    options = ("--src", "src", "--ref", "ref", "--metric", "chrf", "--json")
    report = json.loads(command("evaluate", "one", "two", "--hyp", "b", *options)[0])
    assert [system["system"] for system in report["systems"]] == ["one", "two", "b"]
    for run, system in zip(("one", "two"), report["systems"], strict=False):
        command("translate", run, "src", "-o", f"{run}.out")
        (expected,) = json.loads(command("evaluate", "--hyp", f"{run}.out", *options[2:])[0])["scores"]
        assert system["scores"][0]["value"] == expected["value"]
    _, err = command("evaluate", "one", "two", *options, "-o", "out", code=2)
    assert err == "error: -o is for what one RUN translates, and there are 2\n"


def test_one_system_in_plain_words(command, here: Path) -> None:
    out, _ = command("evaluate", "--hyp", "a", "--ref", "ref")
    scores = json.loads(command("evaluate", "--hyp", "a", "--ref", "ref", "--json")[0])["scores"]
    assert out == "".join(
        f"{score['name']} {score['value']:.2f}  {score['signature']}\n"
        f"  {'less' if score['name'] == 'TER' else 'more'} is better; with other lines of the same kind it would be "
        f"from {score['interval'][0]:.2f} to {score['interval'][1]:.2f}, 95 times in 100, as far as 40 lines can tell\n"
        for score in scores
    )
    (here / "line").write_text("w5 w6\n")
    out, _ = command("evaluate", "--hyp", "line", "--ref", "line", "--metric", "exact")
    assert "how sure that is cannot be said of one line" in out


def test_each_metric_is_printed_when_it_is_there_and_ter_is_last(command, here: Path, monkeypatch) -> None:
    """TER never comes to an end here."""
    monkeypatch.setattr("nmt.evaluate.TER", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    out, _ = command("evaluate", "--hyp", "a", "--ref", "ref", "--metric", "ter", "--metric", "bleu", code=130)
    assert out.startswith("BLEU ")


def test_files_without_lines_are_named(command, here: Path) -> None:
    (here / "empty").write_text("")
    _, err = command("evaluate", "--hyp", "empty", "--ref", "empty", code=2)
    assert err == "error: empty has no lines: there is nothing to score\n"


def test_the_worst_lines(command, here: Path) -> None:
    lines = {name: (here / name).read_text().split("\n")[:-1] for name in ("a", "ref", "src")}
    scores = [sacrebleu.sentence_chrf(hyp, [ref]).score for hyp, ref in zip(lines["a"], lines["ref"], strict=True)]
    expected = sorted(range(40), key=lambda n: scores[n])[:3]
    form = ("evaluate", "--hyp", "a", "--ref", "ref", "--src", "src", "--worst", 3)
    (worst,) = json.loads(command(*form, "--json")[0])["worst"]
    assert worst["system"] == "a"
    assert worst["lines"] == [
        {
            "line": n + 1,
            "chrf": scores[n],
            "source": lines["src"][n],
            "reference": lines["ref"][n],
            "output": lines["a"][n],
        }
        for n in expected
    ]
    out, _ = command(*form)
    n = expected[0]
    assert (
        f"the lines with the lowest chrF:\nline {n + 1}, chrF {scores[n]:.1f}\n  source     {lines['src'][n]}\n"
        f"  reference  {lines['ref'][n]}\n  output     {lines['a'][n]}\nline {expected[1] + 1}, "
    ) in out
    out, _ = command(*HYP, "--worst", 1)
    assert "lowest chrF of a:\n" in out
    assert "lowest chrF of b:\n" in out


def test_lines_that_were_trained_on_are_told(command, here: Path) -> None:
    form = ("evaluate", "one", "--src", "src", "--ref", "ref", "--metric", "exact")
    _, err = command(*form)
    assert err.startswith("warning: 7 of 40 source lines are in the training text of one: ")
    out, _ = command(*form, "--json")
    assert json.loads(out)["systems"][0]["lines_in_training"] == 7
    (here / "other").write_text("w9 w9\nw8 w8 w8\n")
    _, err = command("evaluate", "one", "--src", "other", "--ref", "other", "--metric", "exact")
    assert err == ""
    (here / "one" / "data" / "data.json").write_text("{")
    out, err = command(*form, "--json")
    assert json.loads(out)["systems"][0]["lines_in_training"] is None
    assert err.startswith("whether one was trained on these lines is not known: one/data/data.json is damaged")
    (here / "one" / "data").rename(here / "gone")
    out, err = command(*form, "--json")
    assert json.loads(out)["systems"][0]["lines_in_training"] is None
    assert err == ""


def test_a_byte_order_mark_counts_as_it_does_to_sacrebleu(command, here: Path) -> None:
    text = "the cat sat on the mat\nand there it stayed\n"
    (here / "marked").write_text("\ufeff" + text)
    (here / "plain").write_text(text)
    expected = sacrebleu.corpus_chrf(["\ufeffthe cat sat on the mat", "and there it stayed"], [text.splitlines()]).score
    for hyp, ref, value in (("marked", "plain", expected), ("marked", "marked", 100), ("plain", "plain", 100)):
        out, _ = command("evaluate", "--hyp", hyp, "--ref", ref, "--metric", "chrf", "--json")
        assert json.loads(out)["scores"][0]["value"] == pytest.approx(value, abs=1e-9)
    assert expected < 100
