"""nmt align, nmt aer and nmt plot, on a tiny run with random weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from zoo import ZOO, build

from nmt.align.links import SYMMETRIZERS, read_links, symmetrize
from nmt.align.maps import read_json, read_npz
from nmt.cli.main import run as nmt
from nmt.config import Config, WordsConfig
from nmt.rundir import MODEL, RunDir, distinct_tensors, save_tensors
from nmt.text.lines import read_lines
from nmt.text.tokenizer import WordTokenizer

WORDS = [f"w{n}" for n in range(15)]
SRC = "w1 w2 w3\n\nw4\nw5 unseen w6 w7\n"
TGT = "w1 w2\nw3\n\nw9 w8 w7\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs and two files."""
    folder = tmp_path_factory.mktemp("look")
    config = Config(tokenizer=WordsConfig(), model=ZOO["lstm-feeding"])
    tokenizer = WordTokenizer(WORDS, WordsConfig())
    for seed, name in enumerate(("run", "back"), start=1):
        run = RunDir.create(folder / name, config, (tokenizer, tokenizer))
        (run.checkpoints / "step-00000001").mkdir()
        save_tensors(run.checkpoints / "step-00000001" / MODEL, distinct_tensors(build("lstm-feeding", seed)))
        run.point("best", "step-00000001")
    (folder / "src").write_text(SRC, "utf-8")
    (folder / "tgt").write_text(TGT, "utf-8")
    return folder


class Call:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        monkeypatch.chdir(folder)
        self.monkeypatch, self.capfd = monkeypatch, capfd

    def __call__(self, *arguments: object, code: int = 0) -> tuple[str, str]:
        """Standard output and standard error of `nmt ARGUMENTS`, which must end with `code`."""
        self.monkeypatch.setattr(sys, "argv", ["nmt", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            nmt()
        out, err = self.capfd.readouterr()
        assert (caught.value.code or 0) == code, err
        return out, err


@pytest.fixture
def call(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    return Call(folder, monkeypatch, capfd)


def test_links_to_standard_output_and_to_a_file(call: Call, tmp_path: Path) -> None:
    out, _ = call("align", "run", "src", "tgt")
    lines = out.split("\n")
    assert [len(line.split()) for line in lines] == [2, 0, 0, 3, 0]  # one per target word; none without source words
    call("align", "run", "src", "tgt", "-o", tmp_path / "links")
    assert (tmp_path / "links").read_text("utf-8") == out
    _, err = call("align", "run", "src", "tgt", "-o", tmp_path / "links", code=2)
    assert "exists already" in err
    call("align", "run", "src", "tgt", "-o", tmp_path / "links", "--force", "--threshold", "1")
    assert (tmp_path / "links").read_text("utf-8") == "\n" * 4


def test_json_and_npz_hold_the_same_weights(call: Call, tmp_path: Path) -> None:
    call("align", "run", "src", "tgt", "--format", "json", "-o", tmp_path / "maps.jsonl")
    call("align", "run", "src", "tgt", "--format", "npz", "-o", tmp_path / "maps.npz")
    maps = list(read_npz(tmp_path / "maps.npz"))
    for one, other in zip(maps, read_json(tmp_path / "maps.jsonl"), strict=True):
        assert (one.src, one.tgt) == (other.src, other.tgt)
        assert torch.allclose(torch.tensor(one.weights), torch.tensor(other.weights), atol=1e-6)
    assert [attention.weights.shape for attention in maps] == [(2, 3), (1, 0), (0, 1), (3, 4)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["maps.jsonl", "maps.npz"]
    assert (
        "exists already"
        in call("align", "run", "src", "tgt", "--format", "npz", "-o", tmp_path / "maps.npz", code=2)[1]
    )
    assert "needs a file" in call("align", "run", "src", "tgt", "--format", "npz", code=2)[1]


def test_without_a_target_the_runs_own_translation_is_aligned(call: Call, tmp_path: Path) -> None:
    out, _ = call("align", "run", "src", "--save-tgt", tmp_path / "out")
    translated, _ = call("translate", "run", "src")
    assert (tmp_path / "out").read_text("utf-8") == translated
    again, _ = call("align", "run", "src", tmp_path / "out")
    assert out == again
    assert "--save-tgt" in call("align", "run", "src", "tgt", "--save-tgt", tmp_path / "x", code=2)[1]


@pytest.mark.parametrize("method", SYMMETRIZERS)
def test_two_directions(call: Call, tmp_path: Path, method: str) -> None:
    call("align", "run", "src", "tgt", "-o", tmp_path / "forward")
    call("align", "back", "tgt", "src", "-o", tmp_path / "back")
    call("align", "run", "src", "tgt", "--reverse", "back", "--symmetrize", method, "-o", tmp_path / "both")
    forward, back = read_links(tmp_path / "forward"), read_links(tmp_path / "back", reverse=True)
    expected = [symmetrize(one.sure, other.sure, method) for one, other in zip(forward, back, strict=True)]
    assert [sentence.sure for sentence in read_links(tmp_path / "both")] == expected


def test_wrong_combinations_of_align(call: Call) -> None:
    assert "--reverse RUN2" in call("align", "run", "src", "tgt", "--symmetrize", "union", code=2)[1]
    assert "no method 'x'" in call("align", "run", "src", "tgt", "--reverse", "back", "--symmetrize", "x", code=2)[1]
    assert "--format pharaoh" in call("align", "run", "src", "tgt", "--reverse", "back", "--format", "json", code=2)[1]
    assert "does not exist" in call("align", "nowhere", "src", "tgt", code=2)[1]
    assert "do not match" in call("align", "run", "src", "run/config.yaml", code=2)[1]


def test_a_line_that_cannot_be_translated_has_no_links(call: Call, tmp_path: Path) -> None:
    (tmp_path / "src").write_bytes(b"w1 w2\n\xff\nw3\n")
    out, err = call("align", "run", tmp_path / "src")
    assert len(out.split("\n")) == 4
    assert out.split("\n")[1] == ""
    assert f"{tmp_path / 'src'}, line 2: left empty: not UTF-8" in err


def test_aer(call: Call, tmp_path: Path) -> None:
    (tmp_path / "hyp").write_text("0-0 1-1\n0-0\n", "utf-8")
    (tmp_path / "gold").write_text("1-1 2p2\n1-1 2-1\n", "utf-8")
    out, _ = call("aer", tmp_path / "hyp", tmp_path / "gold", "--one-based", "gold")
    assert out == "AER 16.67  precision 100.00  recall 66.67  links 3 (gold: 3 sure, 1 only possible)\n"
    out, _ = call("aer", tmp_path / "hyp", tmp_path / "gold", "--one-based", "gold", "--json")
    assert json.loads(out) == {
        "aer": 16.6667, "precision": 100.0, "recall": 66.6667, "f1": 80.0, "links": 3, "sure": 3, "possible": 4,
    }  # fmt: skip


def test_aer_of_files_that_do_not_fit(call: Call, tmp_path: Path) -> None:
    (tmp_path / "hyp").write_text("1-1\n" * 4, "utf-8")
    (tmp_path / "gold").write_text("0-0\n" * 3, "utf-8")
    _, err = call("aer", tmp_path / "hyp", tmp_path / "gold", code=2)
    assert f"{tmp_path / 'hyp'} has 4 lines, {tmp_path / 'gold'} has 3" in err
    _, err = call("aer", tmp_path / "hyp", tmp_path / "gold", "--src", "src", "--tgt", "tgt", code=2)
    assert f"{tmp_path / 'hyp'}, line 2: link 1-1: source 1 of no words" in err
    assert "--one-based" in err
    assert "go together" in call("aer", tmp_path / "hyp", tmp_path / "gold", "--src", "src", code=2)[1]


def test_plot_of_chosen_lines(call: Call, tmp_path: Path) -> None:
    out, err = call("plot", "run", "src", "tgt", "-o", tmp_path / "a/b", "--lines", "1,3-4", "--format", "svg")
    assert out == f"{tmp_path}/a/b/0001.svg\n{tmp_path}/a/b/0004.svg\n"
    assert "line 3: nothing to draw, the target is empty" in err
    assert "unseen" in (tmp_path / "a/b/0004.svg").read_text("utf-8")
    _, err = call("plot", "run", "src", "tgt", "-o", tmp_path / "a/b", code=2)
    assert "is not empty" in err
    call("plot", "run", "src", "tgt", "-o", tmp_path / "a/b", "--force", "--level", "pieces")
    assert (tmp_path / "a/b/0001.png").exists()


def test_plot_of_sentences_and_of_translations(call: Call, tmp_path: Path) -> None:
    out, _ = call("plot", "run", "--text", "w1 w2", "--text", "w3 中", "-o", tmp_path, "--format", "pdf")
    assert out == f"{tmp_path}/0001.pdf\n{tmp_path}/0002.pdf\n"
    out, err = call("plot", "run", "src", "-o", tmp_path / "own", "--lines", "4")
    assert out == f"{tmp_path}/own/0004.png\n"
    assert "drawn as boxes" not in err


def test_plot_reports_missing_glyphs_once(call: Call, tmp_path: Path) -> None:
    for name, line in (("src", "中 文\n中\n"), ("tgt", "한\n文 文\n")):
        (tmp_path / name).write_text(line, "utf-8")
    _, err = call("plot", "run", tmp_path / "src", tmp_path / "tgt", "-o", tmp_path / "out")
    assert err.count("drawn as boxes") == 1
    assert "Glyph" not in err
    assert "no CJK, HANGUL characters: 中 文 한" in err


def test_plot_with_gold(call: Call, tmp_path: Path) -> None:
    (tmp_path / "gold").write_text("0-0 1?1\n\n\n3-2\n", "utf-8")
    call("plot", "run", "src", "tgt", "-o", tmp_path / "out", "--gold", tmp_path / "gold", "--format", "svg")
    assert "#d95f02" in (tmp_path / "out/0001.svg").read_text("utf-8")
    (tmp_path / "gold").write_text("0-0 1-2\n\n\n3-2\n", "utf-8")
    _, err = call("plot", "run", "src", "tgt", "-o", tmp_path / "no", "--gold", tmp_path / "gold", code=2)
    assert f"{tmp_path / 'gold'}, line 1: link 1-2: target 2 of 0..1" in err
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("lines", ["0", "5-3", "a", "1,", "-2", "1-2-3"])
def test_plot_of_impossible_lines(call: Call, tmp_path: Path, lines: str) -> None:
    _, err = call("plot", "run", "src", "tgt", "-o", tmp_path, f"--lines={lines}", code=2)
    assert "is no line or range of lines" in err


def test_plot_wrong_arguments(call: Call, tmp_path: Path) -> None:
    assert "no line 9" in call("plot", "run", "src", "tgt", "-o", tmp_path, "--lines", "9", code=2)[1]
    assert "nothing to draw" in call("plot", "run", "-o", tmp_path, code=2)[1]
    assert "exclude each other" in call("plot", "run", "src", "--text", "w1", "-o", tmp_path, code=2)[1]
    assert "is a file" in call("plot", "run", "src", "tgt", "-o", "src", code=2)[1]
    assert "--gold" in call("plot", "run", "src", "-o", tmp_path, "--gold", "tgt", code=2)[1]
    assert list(tmp_path.iterdir()) == []
    assert next(read_lines(Path("src"))) == "w1 w2 w3"  # and nothing was written over
