"""nmt translate with several runs, a shortlist and prefixes; nmt shortlist."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from zoo import WORDS, write_run

from nmt.config import SearchConfig
from nmt.translate import Translator

LINES = [" ".join(WORDS[n : n + 2 + n % 3]) for n in range(6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    write_run(folder / "one", "lstm-feeding", search=SearchConfig(beam=3, max_ratio=1.0, max_extra=4))
    write_run(folder / "two", "transformer", seed=2)
    (folder / "src").write_text("".join(f"{line}\n" for line in LINES), "utf-8")
    (folder / "tgt").write_text("".join(f"{line}\n" for line in reversed(LINES)), "utf-8")
    return folder


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_several_runs_are_one(command) -> None:
    out, _ = command("translate", "one", "src", "--ensemble", "two", "--device", "cpu")
    expected = Translator.load("one", others=["two"], device="cpu").translate(LINES)
    assert out.splitlines() == [result.text for result in expected]
    alone, _ = command("translate", "one", "src")
    assert out != alone


def test_lines_with_too_few_translations_are_counted_once(command) -> None:
    """With an end alone there is one, whatever the beam."""
    out, err = command("translate", "one", "src", "--nbest", 3, "--set", "search.max_length=1")
    assert [row.split(" ||| ")[:2] for row in out.splitlines()] == [[f"{n}", ""] for n in range(1, 7)]
    assert err == "6 of 6 lines have fewer than 3 translations that differ\n"
    out, err = command("translate", "one", "src", "--nbest", 3)
    assert (len(out.splitlines()), err) == (18, "")


def test_a_prefix_comes_out_as_it_was_given(command, tmp_path: Path) -> None:
    """Unknown words, too, which nothing replaces."""
    (tmp_path / "prefix").write_text("zebra  w1 \n\n" * 3, "utf-8")
    for options in ([], ["--replace-unk"]):
        out, _ = command("translate", "one", "src", "--prefix", tmp_path / "prefix", *options)
        assert all(line.startswith("zebra  w1 ") for line in out.splitlines()[::2])


def test_details_of_several_runs_have_an_alignment(command) -> None:
    out, _ = command("translate", "one", "src", "--ensemble", "two", "--details")
    for record in map(json.loads, out.splitlines()):
        (candidate,) = record["candidates"]
        assert [target for _, target in candidate["links"]] == list(range(len(candidate["tokens"])))


def test_a_prefix_for_each_line(command, tmp_path: Path) -> None:
    prefixes = tmp_path / "prefixes"
    prefixes.write_text(f"{WORDS[3]}\n\n{WORDS[1]} {WORDS[2]}\n\n\n{WORDS[9]}\n")
    out, _ = command("translate", "one", "src", "--prefix", prefixes)
    plain, _ = command("translate", "one", "src")
    for prefix, forced, free in zip(
        prefixes.read_text().splitlines(), out.splitlines(), plain.splitlines(), strict=True
    ):
        assert forced.split()[: len(prefix.split())] == prefix.split()
        assert prefix or forced == free
    prefixes.write_text("w1\n")
    _, err = command("translate", "one", "src", "--prefix", prefixes, code=2)
    assert "has 1 lines, src 6: they must be the same" in err
    _, err = command("translate", "one", "--prefix", prefixes, code=2)
    assert "--prefix needs input files" in err


@pytest.mark.parametrize("given", [(), ("--links", "links")])
def test_a_shortlist_is_made_and_used(command, tmp_path: Path, given: tuple[str, ...]) -> None:
    Path("links").write_text("".join("0-0\n" for _ in LINES))
    made = tmp_path / "list"
    _, err = command("shortlist", "one", "src", "tgt", "-o", made, "--each", "1", "--always", "1", *given)
    assert "1 target tokens each at most, 1 always" in err
    allowed = {word for line in made.read_text().splitlines() for word in line.split("\t")[1].split(" ")}
    out, _ = command("translate", "one", "src", "--shortlist", made, "--set", "search.no_unk=true")
    assert set(out.split()) <= allowed
    _, err = command("shortlist", "one", "src", "tgt", "-o", made, code=2)
    assert "exists already" in err
    Path(made).write_text("w1\tnowhere\n")
    _, err = command("translate", "one", "src", "--shortlist", made, code=2)
    assert "line 1: the target vocabulary has no token 'nowhere'" in err


def test_links_are_of_the_tokens(command, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.write_text("0-9\n" + "\n" * (len(LINES) - 1))
    _, err = command("shortlist", "one", "src", "tgt", "-o", tmp_path / "list", "--links", links, code=2)
    assert "line 1" in err
    assert not (tmp_path / "list").exists()


def test_a_bottleneck_has_no_attention_to_make_links_of(command, tmp_path: Path) -> None:
    write_run(tmp_path / "run", "bottleneck")
    _, err = command("shortlist", tmp_path / "run", "src", "tgt", "-o", tmp_path / "list", code=2)
    assert "nothing in this model looks at the source" in err
