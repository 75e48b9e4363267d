"""What the help promises, with subwords, where a text can be cut in more than one way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SUBWORDS = """
data: {src: train.src, tgt: train.tgt, dev_src: dev.src, dev_tgt: dev.tgt}
tokenizer: {size: 60}
model:
  embedding: {width: 16}
  encoder: {kind: rnn, layers: 1, width: 16}
  decoder: {kind: rnn, layers: 1, width: 16, attention: {kind: dot}}
train:
  {steps: 20, validate_every: 20, log_every: 20, samples: 0, precision: float32, average: null, optimizer: {lr: 0.01}}
"""
LINES = ["the cat sat", "", "on the mat", "bats and cats", "   ", "the the the"]


@pytest.fixture
def here(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run of subwords, and a text."""
    monkeypatch.chdir(tmp_path)
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "bats", "eat", "rats", "catty", "matter", "sitting", "cats"]
    for name, count in (("train", 80), ("dev", 6)):
        pairs = [[words[(7 * n + 3 * k * k) % len(words)] for k in range(2 + n % 4)] for n in range(count)]
        Path(f"{name}.src").write_text("".join(f"{' '.join(pair)}\n" for pair in pairs))
        Path(f"{name}.tgt").write_text("".join(f"{' '.join(reversed(pair))}\n" for pair in pairs))
    Path("settings.yaml").write_text(SUBWORDS)
    command("train", "settings.yaml", "-o", "run")
    Path("input").write_text("".join(f"{line}\n" for line in LINES))
    return tmp_path


def test_promises_of_subwords(command, here: Path) -> None:
    out, _ = command("translate", "run", "input")
    lines = out.split("\n")[:-1]
    assert len(lines) == len(LINES)  # one line in, one line out, in order
    alone, _ = command("translate", "run", "--text", LINES[2])
    assert alone == f"{lines[2]}\n"
    for line, translation in zip(LINES, lines, strict=True):
        assert bool(translation) <= bool(line.strip())  # an empty line stays empty

    Path("bad").write_bytes(b"the cat sat\n\xff\n" + b"cat " * 5000 + b"\non the mat\n")
    out, err = command("translate", "run", "bad")
    assert out.split("\n") == [lines[0], "", "", lines[2], ""]
    assert "bad, line 2: left empty: " in err
    assert "bad, line 3: left empty: " in err

    details, _ = command("translate", "run", "input", "--details")
    records = [json.loads(line) for line in details.split("\n")[:-1]]
    assert [record["text"] for record in records] == lines
    Path("output.jsonl").write_text(details)
    scored, _ = command("score", "run", "input", "output.jsonl", "--as-written")
    for record, score in zip(records, scored.split("\n"), strict=False):
        if record["candidates"]:  # the log-probability is that of what was written, however else it might be cut
            assert float(score) == pytest.approx(record["candidates"][0]["log_prob"], abs=1e-3)

    nbest, _ = command("translate", "run", "input", "--nbest", "3", "--beam", "6")
    rows = [row.split(" ||| ") for row in nbest.split("\n")[:-1]]
    assert [int(number) for number, _, _ in rows] == sorted(int(number) for number, _, _ in rows)
    assert {int(number) for number, _, _ in rows} == set(range(1, len(LINES) + 1))
    texts = [(number, text) for number, text, _ in rows]
    assert len(set(texts)) == len(texts)  # different translations

    begins = ["mats", "", "rat sit", "", "", "ea"]
    Path("begins").write_text("".join(f"{line}\n" for line in begins))
    out, _ = command("translate", "run", "input", "--prefix", "begins")
    for begin, translation in zip(begins, out.split("\n"), strict=False):
        assert translation.startswith(begin)

    links, _ = command("align", "run", "train.src", "train.tgt")
    pairs = zip(Path("train.src").read_text().split("\n"), Path("train.tgt").read_text().split("\n"), strict=True)
    for (src, tgt), row in zip(pairs, links.split("\n"), strict=True):
        for link in row.split():
            s, t = map(int, link.split("-"))
            assert 0 <= s < len(src.split())  # words, not subwords
            assert 0 <= t < len(tgt.split())

    Path("output").write_text("".join(f"{line}\n" for line in lines))
    of_run, _ = command("evaluate", "run", "--src", "input", "--ref", "input", "--json")
    of_file, _ = command("evaluate", "--hyp", "output", "--ref", "input", "--json")
    assert json.loads(of_run)["scores"] == json.loads(of_file)["scores"]
