"""nmt backtranslate: from a reverse model and text to pairs, and to a model that learns from them."""

from __future__ import annotations

import gzip
import json
import random
import shlex
from pathlib import Path

import pytest
from zoo import WORDS, write_run

from nmt.config import SearchConfig
from nmt.settings.load import load_config
from nmt.translate import Translator

WINDOW = 8


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    search = SearchConfig(beam=3, max_source=20, max_ratio=1.0, max_extra=3, no_repeat=1)
    return write_run(tmp_path_factory.mktemp("run") / "run", "lstm-feeding", search=search).path


@pytest.fixture
def mono(tmp_path: Path) -> list[Path]:
    """Thirty lines in two files, one of them gzip; line 3 of the second is not UTF-8, line 4 empty, line 5 too long."""
    draw = random.Random(1)
    lines = [" ".join(draw.choices(WORDS, k=draw.randint(3, 9))).encode() for _ in range(27)]
    lines[14:14] = [b"caf\xe9", b"", b"w1 " * 21]
    paths = [tmp_path / "a.txt", tmp_path / "b.gz"]
    paths[0].write_bytes(b"\n".join(lines[:12]) + b"\n")
    paths[1].write_bytes(gzip.compress(b"\n".join(lines[12:]) + b"\n"))
    return paths


@pytest.fixture(autouse=True)
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nmt.backtranslate.WINDOW", WINDOW)
    monkeypatch.setattr("nmt.translate.WINDOW", WINDOW)


def pairs(folder: Path) -> list[tuple[str, str]]:
    src, tgt = ((folder / name).read_text("utf-8").splitlines() for name in ("mono.src", "mono.tgt"))
    return list(zip(src, tgt, strict=True))


def record(folder: Path) -> list[list[str | None]]:
    return [json.loads(line) for line in (folder / "mono.jsonl").read_text("utf-8").splitlines()]


def test_pairs_are_what_translate_writes(command, run: Path, mono: list[Path], tmp_path: Path) -> None:
    out, err = command("backtranslate", run, *mono, "-o", tmp_path / "new" / "bt")
    folder = tmp_path / "new" / "bt"
    assert out == ""
    assert sorted(path.name for path in folder.iterdir()) == ["mono.jsonl", "mono.src", "mono.tgt"]
    translated, _ = command("translate", run, *mono)
    rows = record(folder)
    assert [row[0] for row in rows] == translated.split("\n")[:-1]
    assert pairs(folder) == [(src, tgt) for src, tgt, left_out, _ in rows if left_out is None]
    assert 5 < len(pairs(folder)) < 28
    assert [row[2] for row in rows[14:17]] == ["not translated", "empty", "not translated"]
    assert err.startswith(f"{len(pairs(folder))} of 30 lines make a pair\n")
    problem = "not UTF-8 at byte 4 of the line (0xE9)"
    assert f"  left out, not translated: 2 (the first: {mono[1]}, line 3: {problem})\n" in err
    assert f"  left out, empty: 1 (the first: {mono[1]}, line 4)\n" in err


def test_what_it_prints_makes_a_model_learn_from_the_pairs(command, run: Path, mono, tmp_path: Path) -> None:
    folder = tmp_path / "it's"
    _, err = command("backtranslate", run, *mono, "-o", folder)
    *_, yaml, _, line = err.removesuffix("\n").split("\n\n")
    (tmp_path / "c.yaml").write_text(yaml)
    arguments = shlex.split(line)
    assert arguments[:6] == ["nmt", "train", "--src", "SOURCE", "--tgt", "TARGET"]
    override = arguments[arguments.index("--set") + 1]
    named = [load_config(None, [override, f"data.src={mono[0]}", f"data.tgt={mono[0]}"])]
    named += [load_config(tmp_path / "c.yaml", [f"data.src={mono[0]}", f"data.tgt={mono[0]}"])]
    for config in named:
        (more,) = config.data.more
        assert (more.src, more.tgt) == (str(folder / "mono.src"), str(folder / "mono.tgt"))
        assert (more.weight, more.tag) == (1.0, "<bt>")
    files = {"SOURCE": mono[0], "TARGET": mono[0], str(run.parent / "with-bt"): tmp_path / "forward"}
    _, err = command("prepare", *(files.get(word, word) for word in arguments[2:]))
    assert f"  {len(pairs(folder))} pairs of {folder / 'mono.src'}, each source with <bt> before it\n" in err


def test_the_files_of_the_reverse_run_are_named_turned_round(command, run: Path, mono, tmp_path: Path) -> None:
    other = tmp_path / "de-en"
    other.mkdir()
    for path in run.iterdir():
        (other / path.name).symlink_to(path)
    (other / "config.yaml").unlink()
    text = (run / "config.yaml").read_text()
    for name in ("src", "tgt", "dev_src", "dev_tgt"):
        assert f"  {name}: null\n" in text
        text = text.replace(f"  {name}: null\n", f"  {name}: /data/{name}\n")
    (other / "config.yaml").write_text(text)
    _, err = command("backtranslate", other, *mono, "-o", tmp_path / "bt")
    expected = "nmt train --src /data/tgt --tgt /data/src --dev-src /data/dev_tgt --dev-tgt /data/dev_src --set "
    assert err.splitlines()[-1].startswith(expected)


def test_samples_are_drawn_by_line(command, run: Path, mono: list[Path], tmp_path: Path) -> None:
    for name, options in (("a", []), ("b", []), ("c", ["--set", "search.sampling.seed=2"])):
        command("backtranslate", run, *mono, "-o", tmp_path / name, "--sample", *options)
    a, b, c = ([row[0] for row in record(tmp_path / name)] for name in "abc")
    assert a == b
    assert a != c
    drawn, _ = command("translate", run, *mono, "--set", "search.sampling.count=1")
    assert a == drawn.split("\n")[:-1]
    _, err = command("backtranslate", run, *mono, "-o", tmp_path / "d", "--sample", "--beam", 2, code=2)
    assert err == "error: --sample draws and --beam searches: choose one of them\n"


@pytest.mark.parametrize("options", [[], ["--sample"]])
def test_an_interruption_loses_no_finished_window(
    command, run: Path, mono: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    command("backtranslate", run, *mono, "-o", tmp_path / "whole", *options)
    whole, seen = Translator.translate, []

    def translate(self: Translator, lines, **settings):  # type: ignore[no-untyped-def]
        seen.append(len(lines))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return whole(self, lines, **settings)

    monkeypatch.setattr(Translator, "translate", translate)
    arguments = ["backtranslate", run, *mono, "-o", tmp_path / "bt", *options]
    _, err = command(*arguments, code=130)
    assert err == "The first 16 lines are kept: --continue goes on after them.\n"
    names = ["mono.jsonl.partial", "mono.jsonl.partial.json"]
    assert sorted(path.name for path in (tmp_path / "bt").iterdir()) == names
    _, err = command(*arguments, code=2)
    assert "a translation that was interrupted\nGo on with it: --continue. Start again: --force.\n" in err
    _, err = command(*arguments, "--continue", "--set", "search.no_repeat=2", code=2)
    assert "was made in another way: search.no_repeat was 1, now 2" in err
    seen[:] = [0] * 3
    command(*arguments, "--continue")
    assert seen == [0, 0, 0, 8, 6]
    for name in ("mono.src", "mono.tgt", "mono.jsonl"):
        assert (tmp_path / "bt" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_pairs_whose_writing_was_interrupted_are_written_again(
    command, run: Path, mono: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("backtranslate", run, *mono, "-o", tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("nmt.cli.backtranslate._tell", lambda *_: None)
        from nmt import backtranslate

        def write_pairs(record: Path, folder: Path) -> None:
            (folder / "mono.tgt").write_text("from then\n")
            raise KeyboardInterrupt

        patch.setattr(backtranslate, "write_pairs", write_pairs)
        command("backtranslate", run, *mono, "-o", tmp_path / "bt", code=130)
    command("backtranslate", run, *mono, "-o", tmp_path / "bt", "--continue")
    assert pairs(tmp_path / "bt") == pairs(tmp_path / "whole")


def test_nothing_is_overwritten_without_force(command, run: Path, mono: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "bt"
    folder.mkdir()
    for name in ("mono.src", "mono.tgt", "mono.jsonl"):
        (folder / name).write_text("kept\n")
        _, err = command("backtranslate", run, *mono, "-o", folder, code=2)
        assert err == (f"error: {folder / name}: exists already\nChoose another name, or overwrite it with --force.\n")
        assert [path.read_text() for path in folder.iterdir()] == ["kept\n"]
        (folder / name).unlink()
    (folder / "mono.src").write_text("old\n")
    command("backtranslate", run, *mono, "-o", folder, "--force")
    assert len(pairs(folder)) > 5


def test_mistakes_are_told_before_any_work(command, run: Path, mono: list[Path], tmp_path: Path) -> None:
    _, err = command("backtranslate", run, tmp_path / "no", "-o", tmp_path / "bt", code=2)
    assert err == f"error: {tmp_path / 'no'}: there is no such file\n"
    (tmp_path / "file").touch()
    _, err = command("backtranslate", run, *mono, "-o", tmp_path / "file", code=2)
    assert err == f"error: {tmp_path / 'file'} is a file, not a folder\nChoose another name.\n"
    _, err = command("backtranslate", tmp_path, *mono, "-o", tmp_path / "bt", code=2)
    assert err.startswith(f"error: {tmp_path} is not a run")
    _, err = command("backtranslate", run, *mono, "-o", tmp_path / "bt", "--set", "train.steps=1", code=2)
    assert "only settings of `search` may change here" in err
    assert not (tmp_path / "bt").exists()


def test_no_line_is_left(command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "mono").write_text("\n \n")
    _, err = command("backtranslate", run, tmp_path / "mono", "-o", tmp_path / "bt", code=2)
    assert err == (
        f"0 of 2 lines make a pair\n  left out, empty: 2 (the first: {tmp_path / 'mono'}, line 1)\n"
        f"error: {tmp_path / 'bt'} has no pairs: no line is left\n"
        f"{tmp_path / 'bt' / 'mono.jsonl'} says of each line why.\n"
    )
