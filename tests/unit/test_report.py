"""The page of a run: all of a run's records are on it, whatever the text, and it stays small."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from zoo import build, write_run

from nmt.config import Config, DataConfig, WordsConfig
from nmt.data.prepare import prepare
from nmt.errors import UserError
from nmt.models.build import census
from nmt.report import MOST_BYTES, MOST_LETTERS, MOST_POINTS, MOST_SENTENCES, MOST_SESSIONS, MOST_WORDS, write_report
from nmt.rundir import RunDir

HARD = "</script><script>alert(1)</script><!--data--><!-- & \u2028 \x00 \"'"
SCRIPTS = {
    "Hebrew": "הוא הלך הביתה",
    "Chinese": "他 回家 了",
    "Cherokee": "ᎤᏪᏅᏒ ᎠᏍᎦᏯ",
    "Devanagari": "वह घर गया",
    "hard": HARD,
}


class Page(HTMLParser):
    """The elements of a page, and the text of its JSON."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.title = ""
        self._json: list[str] = []
        self._open = ""
        self.feed(text)
        self.close()
        self.data = json.loads("".join(self._json), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = "data" if dict(attrs).get("id") == "data" else tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "data":
            self._json.append(data)
        if self._open == "title":
            self.title += data


def page_of(run: RunDir, *, training: bool = False) -> Page:
    path = write_report(run, training=training)
    assert path == run.path / "report.html"
    return Page(path.read_text("utf-8"))


def record(run: RunDir, name: str, entries: list[dict[str, object]]) -> None:
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    (run.path / f"{name}.jsonl").write_text(lines, "utf-8")


def report_at(step: int, **values: object) -> dict[str, object]:
    numbers = {"epoch": step / 100, "loss": 3.0, "nll": 2.0, "grad_norm": 1.0, "tokens_per_second": 10.0, "lr": 0.1}
    return {"step": step, **numbers, "tokens": 7 * step, "seconds": 2.0 * step, **values}


def validation_at(step: int, loss: float = 1.5, bleu: float = 10.0) -> dict[str, object]:
    return {"step": step, "dev_loss": loss, "dev_bleu": bleu, "dev_chrf": 20.0, "seconds": 2.0 * step}


def sample_at(step: int, source: str, output: str, reference: str = "r") -> dict[str, object]:
    return {"step": step, "source": source, "reference": reference, "output": output}


def map_at(step: int, src: list[str], tgt: list[str], weight: float = 0.5) -> dict[str, object]:
    return {"step": step, "src": src, "tgt": tgt, "weights": [[weight] * len(src) for _ in tgt]}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run with weights and no records."""
    run = write_run(tmp_path / "run", "lstm")
    (run.checkpoints / "step-00000001" / "state.json").write_text('{"step": 1, "tokens": 12, "seconds": 61.2}')
    run.point("last", "step-00000001")
    return run


def facts(page: Page) -> dict[str, str]:
    return dict(page.data["facts"])


def test_a_run_without_records_has_a_page(run: RunDir) -> None:
    page = page_of(run, training=True)
    assert page.data["training"] is True
    assert page.data["reports"]["step"] == page.data["validations"]["step"] == page.data["samples"]["sentences"] == []
    assert page.data["data"] == [["corpus", f"no longer in {run.path / 'data'}", ""]]
    assert facts(page)["steps"] == "1 of 10,000"
    assert facts(page)["time"] == "0:01:01 (h:mm:ss), validations included"
    assert facts(page)["parameters"] == f"{sum(census(build('lstm')).values()):,}"


def test_the_page_needs_nothing_else_and_says_what_it_is(run: RunDir) -> None:
    page = page_of(run)
    text = (run.path / "report.html").read_text("utf-8")
    assert "://" not in text
    assert not re.search(r"\burl\(|@import|\bfetch\(|XMLHttpRequest", text)
    for tag, attributes in page.tags:
        assert not {"src", "srcset", "action", "onclick"} & attributes.keys()
        assert attributes.get("href") in (None, "data:,")
        assert tag not in ("iframe", "img", "object", "embed")
    assert ("html", {"lang": "en"}) in page.tags
    assert [tag for tag, _ in page.tags if tag in ("h1", "h2")] == ["h1", *["h2"] * 6]
    assert page.title == "run – training report"
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")


def test_any_text_comes_through_and_does_no_harm(run: RunDir, tmp_path: Path) -> None:
    lines = list(SCRIPTS.values())
    record(run, "samples", [sample_at(5, line, line[::-1], reference=f"r {line}") for line in lines])
    record(run, "attention", [map_at(5, line.split(), line.split()) for line in lines])
    run.record_session({"time": "now", "command": HARD})
    run.path.rename(tmp_path / "<b>&run")
    run = RunDir(tmp_path / "<b>&run")
    page = page_of(run)
    assert page.title == "<b>&run – training report"
    assert [tag for tag, _ in page.tags].count("script") == 2
    for line, sentence in zip(lines, page.data["samples"]["sentences"], strict=True):
        assert (sentence["source"], sentence["reference"]) == (line, f"r {line}")
        assert sentence["outputs"] == [line[::-1]]
        assert sentence["maps"][0]["src"] == line.split()
    assert page.data["sessions"] == [[["session", "1"], ["time", "now"], ["command", HARD]]]
    assert page.data["settings"] == (run.path / "config.yaml").read_text("utf-8")


def test_curves_and_facts_are_those_of_the_records(run: RunDir) -> None:
    reports = [report_at(step, nll=5 - step / 10) for step in (10, 20, 30)]
    record(run, "metrics", [reports[0], validation_at(15, bleu=12.0), *reports[1:], validation_at(30, bleu=11.0)])
    page = page_of(run)
    assert page.data["reports"]["step"] == [10, 20, 30]
    assert page.data["reports"]["nll"] == [4.0, 3.0, 2.0]
    assert page.data["validations"] == {
        "step": [15, 30],
        "dev_loss": [1.5, 1.5],
        "dev_bleu": [12.0, 11.0],
        "dev_chrf": [20.0, 20.0],
        "seconds": [30.0, 60.0],
    }
    assert page.data["perPoint"] == 1
    expected = {
        "steps": "30 of 10,000",
        "epochs": "0.30",
        "target tokens": "210",
        "used by default": "checkpoint step-00000001",
    }
    assert expected.items() <= facts(page).items()
    assert facts(page)["best of the validations"] == "dev BLEU 12.00 at step 15"


def test_what_is_no_number_is_left_out(run: RunDir) -> None:
    record(run, "metrics", [report_at(10, nll=float("nan")), validation_at(10, loss=float("inf"))])
    page = page_of(run)
    assert page.data["reports"]["nll"] == page.data["validations"]["dev_loss"] == [None]


def test_long_curves_are_averaged(run: RunDir) -> None:
    count = 2 * MOST_POINTS + 1  # so three to a point, and the last group has one or two less
    record(run, "metrics", [report_at(step, nll=float(step % 3)) for step in range(count)])
    page = page_of(run)
    assert page.data["perPoint"] == 3
    points = page.data["reports"]
    assert len(points["step"]) == -(-count // 3)
    assert points["step"][:2] + points["step"][-1:] == [2, 5, count - 1]
    assert set(points["nll"][:-1]) == {1.0}


def test_samples_are_followed_from_validation_to_validation(run: RunDir) -> None:
    record(run, "metrics", [validation_at(10), validation_at(20, bleu=30.0)])
    samples = [
        sample_at(10, "a b", "x"),
        sample_at(10, "gone", "y"),
        sample_at(20, "a b", "x z"),
        sample_at(20, "new", ""),
    ]
    record(run, "samples", samples)
    record(
        run,
        "attention",
        [map_at(10, ["a", "b"], ["x"], 0.25), map_at(10, ["gone"], ["y"]), map_at(20, ["a", "b"], ["x", "z"], 0.994)],
    )
    shown = page_of(run).data["samples"]
    assert (shown["step"], shown["dev_bleu"], shown["validations"], shown["hidden"]) == ([10, 20], [10.0, 30.0], 2, 0)
    assert [sentence["source"] for sentence in shown["sentences"]] == ["a b", "new", "gone"]
    first, new, gone = shown["sentences"]
    assert first["outputs"] == ["x", "x z"]
    assert [entry["weights"] for entry in first["maps"]] == [[[25, 25]], [[99, 99], [99, 99]]]
    assert (new["outputs"], new["maps"]) == ([None, ""], [None, None])
    assert (gone["outputs"], gone["maps"][1]) == (["y", None], None)


def test_samples_without_attention_are_shown(run: RunDir) -> None:
    record(run, "samples", [sample_at(10, "a", "b")])
    assert page_of(run).data["samples"]["sentences"][0]["maps"] == [None]


def test_a_long_run_has_a_small_page(run: RunDir) -> None:
    """Hundreds of validations, more samples than are shown, long lines, large maps."""
    long = "भाषा " * MOST_LETTERS
    words = [f"शब्द{n}" for n in range(MOST_WORDS)]
    steps = range(10, 1010, 10)
    sentences = [f"{n} {long}" for n in range(MOST_SENTENCES + 2)]
    record(run, "metrics", [entry for step in steps for entry in (report_at(step), validation_at(step))])
    record(run, "samples", [sample_at(step, line, long) for step in steps for line in sentences])
    record(run, "attention", [map_at(step, words, words) for step in steps for _ in sentences])
    for n in range(MOST_SESSIONS + 5):
        run.record_session({"time": str(n), "command": "nmt train", "nmt": "1"})
    start = time.perf_counter()
    page = page_of(run)
    assert time.perf_counter() - start < 5
    assert (run.path / "report.html").stat().st_size <= MOST_BYTES
    shown = page.data["samples"]
    assert shown["validations"] == 100
    assert 2 <= len(shown["step"]) <= 40
    assert (shown["step"][0], shown["step"][-1]) == (10, 1000)
    assert len(shown["sentences"]) == MOST_SENTENCES
    assert shown["hidden"] == 2
    assert shown["sentences"][0]["source"] == sentences[0][:MOST_LETTERS] + " […]"
    assert len(shown["sentences"][0]["maps"][-1]["src"]) == MOST_WORDS
    sessions = page.data["sessions"]
    assert len(sessions) == MOST_SESSIONS
    assert sessions[0][-1] == ["nmt", "1"]
    assert sessions[-1] == [["session", str(MOST_SESSIONS + 5)], ["time", str(MOST_SESSIONS + 4)]]


def test_a_map_of_too_many_words_is_left_out(run: RunDir) -> None:
    record(run, "samples", [sample_at(10, "a", "b"), sample_at(10, "c", "d")])
    record(run, "attention", [map_at(10, ["w"] * (MOST_WORDS + 1), ["b"]), map_at(10, ["c"], ["d"])])
    first, second = page_of(run).data["samples"]["sentences"]
    assert first["maps"] == [None]
    assert second["maps"] == [{"src": ["c"], "tgt": ["d"], "weights": [[50]]}]


def test_a_line_being_written_does_not_count(run: RunDir) -> None:
    record(run, "metrics", [report_at(10)])
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "nl')
    assert page_of(run).data["reports"]["step"] == [10]


def test_a_damaged_record_is_named(run: RunDir) -> None:
    (run.path / "samples.jsonl").write_text('{"step": 1, "source": "a", "reference": "b", "output": "c"}\nnonsense\n')
    with pytest.raises(UserError, match=r"samples\.jsonl, line 2 is damaged"):
        write_report(run, training=False)


def test_what_stands_in_the_place_of_the_page_is_not_lost(run: RunDir) -> None:
    (run.path / "report.html").mkdir()
    (run.path / "report.html" / "note").touch()
    page = write_report(run, training=False)
    assert page.is_file()
    assert [path.name for path in run.path.rglob("note")] == ["note"]


@pytest.mark.parametrize("held_out", [False, True])
def test_data(tmp_path: Path, held_out: bool) -> None:
    """Pairs, what was left out and why, tokens and vocabulary: counted by hand."""
    src = ["a b c", "a", "x " * 9, "d e", "a b", *["c d"] * 20]
    tgt = ["u v", "u", "v", "  ", "w", *["u u"] * 20]
    for name, lines in (("src", src), ("tgt", tgt), ("dev.src", ["a"]), ("dev.tgt", ["u v w"])):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    files = {"src": str(tmp_path / "src"), "tgt": str(tmp_path / "tgt")}
    if not held_out:
        files |= {"dev_src": str(tmp_path / "dev.src"), "dev_tgt": str(tmp_path / "dev.tgt")}
    config = Config(data=DataConfig(**files, max_length=5), tokenizer=WordsConfig())
    prepared = prepare(config, tmp_path / "draft", report=lambda text: None)
    run = RunDir.create(tmp_path / "run", config, prepared.tokenizers, data=tmp_path / "draft")
    rows = {name: values for name, *values in page_of(run).data["data"]}
    if held_out:
        assert rows["source text"] == [files["src"], "held out of the training text, by a hash of the source line"]
        assert int(rows["pairs"][0]) + int(rows["pairs"][1]) == 23 + (rows["left out: too long"][0][0] == "0")
        assert rows["left out: not UTF-8"] == ["0", "counted with training"]
        return
    assert rows == {
        "source text": [files["src"], files["dev_src"]],
        "target text": [files["tgt"], files["dev_tgt"]],
        "pairs": ["23", "1"],
        "left out: a side is empty": ["1", "0"],
        "left out: too long": ["1 (limit 5 tokens)", "0 (no limit)"],
        "left out: not UTF-8": ["0", "0"],
        "source tokens": [str(3 + 1 + 2 + 40), "1"],
        "target tokens": [str(2 + 1 + 1 + 40), "3"],
        "vocabulary": [f"{len(prepared.tokenizers[0])} source, {len(prepared.tokenizers[1])} target (words)", ""],
    }
