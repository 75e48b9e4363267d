"""nmt align, nmt aer and nmt plot, on a tiny run with random weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from zoo import build, write_run

from nmt.align.links import SYMMETRIZERS, symmetrize
from nmt.align.maps import AttentionMap, read_json, read_npz
from nmt.cli.main import run as nmt
from nmt.config import AlignConfig
from nmt.text.lines import read_lines
from nmt.text.links import read_links

OWN = build("transformer").decoder.alignment
DEEP = "encoder.1.self, encoder.2.self, decoder.1.self, decoder.1.cross, decoder.2.self, decoder.2.cross"
SRC = "w1 w2 w3\n\nw4\nw5 unseen w6 w7\n"
TGT = "w1 w2\nw3\n\nw9 w8 w7\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs and two files."""
    folder = tmp_path_factory.mktemp("look")
    write_run(folder / "run", "lstm-feeding", seed=1)
    write_run(folder / "back", "lstm-feeding", seed=2)
    write_run(folder / "deep", "transformer")
    write_run(folder / "deep-back", "transformer-post")
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


either_run = pytest.mark.parametrize("run", ["run", "deep"])


@either_run
def test_links_to_standard_output_and_to_a_file(call: Call, tmp_path: Path, run: str) -> None:
    out, _ = call("align", run, "src", "tgt")
    lines = out.split("\n")
    assert [len(line.split()) for line in lines] == [2, 0, 0, 3, 0]  # one per target word; none without source words
    call("align", run, "src", "tgt", "-o", tmp_path / "links")
    assert (tmp_path / "links").read_text("utf-8") == out
    _, err = call("align", run, "src", "tgt", "-o", tmp_path / "links", code=2)
    assert "exists already" in err
    call("align", run, "src", "tgt", "-o", tmp_path / "links", "--force", "--threshold", "1")
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


@either_run
def test_without_a_target_the_runs_own_translation_is_aligned(call: Call, tmp_path: Path, run: str) -> None:
    out, _ = call("align", run, "src", "--save-tgt", tmp_path / "out")
    translated, _ = call("translate", run, "src")
    assert (tmp_path / "out").read_text("utf-8") == translated
    again, _ = call("align", run, "src", tmp_path / "out")
    assert out == again
    assert "--save-tgt" in call("align", run, "src", "tgt", "--save-tgt", tmp_path / "x", code=2)[1]


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


def maps_of(call: Call, *arguments: object) -> list[AttentionMap]:
    """What `nmt align` writes as JSON."""
    out, _ = call("align", *arguments, "--format", "json")
    return [AttentionMap(**json.loads(line)) for line in out.splitlines()]


def test_another_attention_heads_and_step(call: Call) -> None:
    default = maps_of(call, "deep", "src", "tgt")
    assert default == maps_of(call, "deep", "src", "tgt", "--attention", OWN.name, "--read", OWN.read)
    for layer in (1, 2):
        name = f"decoder.{layer}.cross"
        assert (default == maps_of(call, "deep", "src", "tgt", "--attention", name)) == (name == OWN.name)
    for read in ("input", "output"):
        assert (default == maps_of(call, "deep", "src", "tgt", "--read", read)) == (read == OWN.read)
    first, second, both = (maps_of(call, "deep", "src", "tgt", "--heads", heads) for heads in ("1", "2", "2,1"))
    assert both == default
    assert first != second
    for one, other, mean in zip(first, second, both, strict=True):
        halves = (torch.tensor(one.weights) + torch.tensor(other.weights)) / 2
        assert torch.allclose(halves, torch.tensor(mean.weights), atol=2e-6)
    out, _ = call("align", "run", "src", "tgt")
    assert call("align", "run", "src", "tgt", "--read", "output", "--attention", "decoder.cross")[0] == out
    assert maps_of(call, "run", "src", "tgt", "--read", "input") != maps_of(call, "run", "src", "tgt")


def test_the_settings_of_the_run_choose(call: Call, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "transformer")
    settings = AlignConfig(attention="decoder.2.cross", heads=(2,), read="output")
    run.replace_config(run.config.model_copy(update={"align": settings}))
    options = ("--attention", "decoder.2.cross", "--heads", "2", "--read", "output")
    assert maps_of(call, tmp_path / "run", "src", "tgt") == maps_of(call, "deep", "src", "tgt", *options)
    other = ("--heads", "1", "--read", "input")
    asked = maps_of(call, "deep", "src", "tgt", "--attention", "decoder.2.cross", *other)
    assert maps_of(call, tmp_path / "run", "src", "tgt", *other) == asked
    run.replace_config(run.config.model_copy(update={"align": AlignConfig(heads=(3,))}))
    _, err = call("align", tmp_path / "run", "src", "tgt", code=2)
    assert f"{tmp_path / 'run'}: {OWN.name} has no head 3: it has 2" in err


def test_an_attention_that_is_not_there_stops_before_any_output(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for asked in (["src", "tgt"], ["src", "--save-tgt", tmp_path / "tgt"], ["src", "tgt", "--reverse", "deep-back"]):
        _, err = call("align", "deep", *asked, "-o", out, "--attention", "decoder.3.cross", code=2)
        assert "deep: the model has no attention called 'decoder.3.cross'" in err
        assert f"It has {DEEP}; layers count from 1." in err
    _, err = call("align", "run", "src", "tgt", "-o", out, "--format", "npz", "--attention", "decoder.1.cross", code=2)
    assert "run: the model has no attention called 'decoder.1.cross'" in err
    assert "It has decoder.cross; layers" in err
    _, err = call("align", "deep", "src", "tgt", "--reverse", "run", "--attention", "decoder.2.cross", code=2)
    assert "run: the model has no attention called 'decoder.2.cross'" in err
    _, err = call("align", "deep", "src", "tgt", "-o", out, "--heads", "1,3", code=2)
    assert f"deep: {OWN.name} has no head 3: it has 2" in err
    for heads in ("0", "1,", "1,1", "a", "each", "-1", "1-2", ""):
        assert f"--heads {heads}: expected" in call("align", "deep", "src", "tgt", f"--heads={heads}", code=2)[1]
    _, err = call("plot", "deep", "src", "-o", out, "--attention", "decoder.3.cross", code=2)
    assert f"It has {DEEP}; layers count from 1." in err
    assert "has no head 3" in call("plot", "deep", "src", "tgt", "-o", out, "--heads", "3", code=2)[1]
    assert list(tmp_path.iterdir()) == []


def test_two_directions_are_asked_alike(call: Call, tmp_path: Path) -> None:
    asked = ("--attention", "decoder.2.cross", "--heads", "2", "--read", "output")
    call("align", "deep", "src", "tgt", "-o", tmp_path / "forward", *asked)
    call("align", "deep-back", "tgt", "src", "-o", tmp_path / "back", *asked)
    both, _ = call("align", "deep", "src", "tgt", "--reverse", "deep-back", "--symmetrize", "union", *asked)
    (tmp_path / "both").write_text(both, "utf-8")
    forward, back = read_links(tmp_path / "forward"), read_links(tmp_path / "back", reverse=True)
    expected = [one.sure | other.sure for one, other in zip(forward, back, strict=True)]
    assert [sentence.sure for sentence in read_links(tmp_path / "both")] == expected


def test_self_attention_as_weights(call: Call, tmp_path: Path) -> None:
    of_src = maps_of(call, "deep", "src", "tgt", "--attention", "encoder.2.self")
    assert [attention.src for attention in of_src] == [
        [*line.split(), "</s>"] if line else [] for line in SRC.splitlines()
    ]
    assert all(attention.src == attention.tgt for attention in of_src)
    of_tgt = maps_of(call, "deep", "src", "tgt", "--attention", "decoder.1.self", "--heads", "1", "--level", "pieces")
    assert of_tgt[0].src == of_tgt[0].tgt == ["<s>", "w1", "w2"]
    assert [row.count(0) for row in of_tgt[0].weights] == [2, 1, 0]
    for attention in (*of_src, *of_tgt):
        assert all(sum(row) == pytest.approx(1, abs=1e-5) for row in attention.weights)
    written = maps_of(call, "deep", "src", "tgt", "--attention", "decoder.1.self", "--heads", "1", "--read", "output")
    assert (written[0].src, written[0].tgt) == (["<s>", "w1", "w2"], ["w1", "w2", "</s>"])
    assert written[0].weights == of_tgt[0].weights
    npz = ("--format", "npz", "-o", tmp_path / "maps.npz")
    call("align", "deep", "src", "tgt", "--attention", "encoder.2.self", *npz)
    assert [attention.src for attention in read_npz(tmp_path / "maps.npz")] == [attention.src for attention in of_src]


def test_self_attention_has_no_links(call: Call, tmp_path: Path) -> None:
    asked = ("--attention", "encoder.1.self")
    out = tmp_path / "out"
    for more in ([], ["--reverse", "deep-back"]):
        _, err = call("align", "deep", "src", "tgt", "-o", out, *asked, *more, code=2)
        assert "links are between source and target, encoder.1.self is within one of them" in err
        assert "--format json" in err
    (tmp_path / "gold").write_text("\n" * 4, "utf-8")
    _, err = call("plot", "deep", "src", "tgt", "-o", out, "--gold", tmp_path / "gold", *asked, code=2)
    assert "--gold: links are between source and target" in err
    assert not out.exists()


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


def test_plot_reports_missing_glyphs_once(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nmt.align.fonts._installed", dict)  # a machine without fonts
    for name, line in (("src", "中 文\n中\n"), ("tgt", "한\n文 文\n")):
        (tmp_path / name).write_text(line, "utf-8")
    _, err = call("plot", "run", tmp_path / "src", tmp_path / "tgt", "-o", tmp_path / "out")
    assert err.count("drawn as boxes") == 1
    assert "Glyph" not in err
    assert "no installed font has these characters, drawn as boxes: CJK 中 文 한. Install Noto Sans CJK" in err


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


def test_plot_self_attention(call: Call, tmp_path: Path) -> None:
    asked = ("-o", tmp_path, "--force", "--lines", "3-4", "--format", "svg", "--attention")
    out, err = call("plot", "deep", "src", "tgt", *asked, "encoder.1.self")
    assert out == f"{tmp_path}/0003.svg\n{tmp_path}/0004.svg\n"
    assert err == ""
    drawn = (tmp_path / "0004.svg").read_text("utf-8")
    assert [drawn.count(f">{word}<") for word in ("w5", "unseen", "&lt;/s&gt;", "w9")] == [2, 2, 2, 0]
    out, err = call("plot", "deep", "src", "tgt", *asked, "decoder.2.self")
    assert out == f"{tmp_path}/0004.svg\n"
    assert "line 3: nothing to draw, the target is empty" in err
    drawn = (tmp_path / "0004.svg").read_text("utf-8")
    assert [drawn.count(f">{word}<") for word in ("w9", "w7", "&lt;s&gt;", "unseen")] == [2, 2, 2, 0]


def test_plot_each_head(call: Call, tmp_path: Path) -> None:
    out, _ = call("plot", "deep", "src", "tgt", "-o", tmp_path / "out", "--lines", "1,4", "--heads", "each")
    names = ["0001.h1.png", "0001.h2.png", "0004.h1.png", "0004.h2.png"]
    assert out == "".join(f"{tmp_path}/out/{name}\n" for name in names)
    call("plot", "deep", "src", "tgt", "-o", tmp_path / "two", "--lines", "1,4", "--heads", "2")
    for line in ("0001", "0004"):
        second = (tmp_path / "two" / f"{line}.png").read_bytes()
        assert (tmp_path / "out" / f"{line}.h2.png").read_bytes() == second
        assert (tmp_path / "out" / f"{line}.h1.png").read_bytes() != second
    out, _ = call("plot", "run", "--text", "w1", "-o", tmp_path / "one", "--heads", "each")
    assert out == f"{tmp_path}/one/0001.h1.png\n"


def test_info_lists_the_attentions(call: Call) -> None:
    out, _ = call("info", "deep")
    assert f"\nattentions   {DEEP}\n" in out
    assert "transformer decoder (2 x 16, 2 heads, feed-forward 24, pre-norm, sinusoidal positions)" in out
    assert json.loads(call("info", "run", "--json")[0])["attentions"] == {"decoder.cross": 1}


def test_plot_wrong_arguments(call: Call, tmp_path: Path) -> None:
    assert "no line 9" in call("plot", "run", "src", "tgt", "-o", tmp_path, "--lines", "9", code=2)[1]
    assert "nothing to draw" in call("plot", "run", "-o", tmp_path, code=2)[1]
    assert "exclude each other" in call("plot", "run", "src", "--text", "w1", "-o", tmp_path, code=2)[1]
    assert "src would replace the input src" in call("plot", "run", "src", "tgt", "-o", "src", code=2)[1]
    assert "--gold" in call("plot", "run", "src", "-o", tmp_path, "--gold", "tgt", code=2)[1]
    assert list(tmp_path.iterdir()) == []
    assert next(read_lines(Path("src"))) == "w1 w2 w3"  # and nothing was written over
