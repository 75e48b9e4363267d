"""What may come from a stranger is measured before it is taken: JSON, names, settings, vocabularies, weights."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from zoo import WORDS, write_run

from nmt.errors import UserError
from nmt.records import is_name, parse_json, read_json, read_name, whole_lines, whole_number
from nmt.rundir import MODEL, RunDir, load_model, read_tensors, save_tensors
from nmt.settings.load import load_config
from nmt.text.tokenizer import load_tokenizers


def nested(levels: int, leaf: str = "x") -> str:
    return "[" * levels + leaf + "]" * levels


def aliases(levels: int) -> str:
    """Ten lines that would be 9 to the power of `levels` values."""
    lines = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(["a0: &a0 [x]", *lines])


def merges(levels: int) -> str:
    lines = [f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(["a0: &a0 {k: 1}", *lines])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (aliases(10), "more than 5,000 values"),
        (merges(10), "more than 5,000 values"),
        ("a: [" + "1, " * 40_000 + "1]", "more than 5,000 values"),
        ("a: " + nested(3000), "nested too deeply"),
        ("a: " + "{b: " * 500 + "c" + "}" * 500, "nested too deeply"),
        ("a: &a [*a]", "nested too deeply"),
        ("a: " + "x" * 2**18, "larger than 262,144 bytes"),
        ("train:\n  1: 2", ":2: the key `1` is no text"),
        ("null: 2", ":1: the key `null` is no text"),
        ("[a, b]: 2", ":1: a key is no text"),
        ("{a: b}: 2", ":1: a key is no text"),
        ("true: 2", ":1: the key `true` is no text"),
        ('data: {src: "\\ud800"}', ":1: not text: half a character"),
        ("train: {steps: " + "9" * 5000 + "}", "not YAML: Exceeds the limit"),
    ],
    ids=lambda text: text[:12],
)
def test_settings_are_measured_before_they_are_expanded(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert caught.value.message.startswith(str(path))
    assert message in caught.value.message
    assert time.monotonic() - start < 20
    if len(text) < 2**18 and not text.startswith(("a0", "train: {")):
        with pytest.raises(UserError, match=r"--set model"):
            load_config(None, [f"model={text.partition('a: ')[2] or '{' + text.splitlines()[-1] + '}'}"])


def test_settings_may_share_and_be_large(tmp_path: Path) -> None:
    more = "\n".join(f"    - {{<<: *one, src: s{n}, tgt: t{n}}}" for n in range(500))
    (tmp_path / "c.yaml").write_text(
        f"data:\n  src: s\n  tgt: t\n  more:\n    - &one {{src: a, tgt: b, weight: 2}}\n{more}\n"
    )
    config = load_config(tmp_path / "c.yaml")
    assert [corpus.weight for corpus in config.data.more] == [2] * 501


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        nested(10**5).encode(),
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": "\\ud800"}',
        b"{} {}",
    ],
)
def test_json_that_is_none(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(raw)
    with pytest.raises(UserError) as caught:
        read_json(path, dict[str, Any], "Make it again.")
    assert caught.value.message.startswith(f"{path} is damaged: ")
    assert caught.value.hint == "Make it again."


def test_json_is_of_its_type() -> None:
    assert parse_json('{"a": 1.5}', "it", dict[str, float]) == {"a": 1.5}
    with pytest.raises(UserError, match=r"^it, line 3 is damaged: a: Input should be a valid integer"):
        parse_json('{"a": "5"}', "it, line 3", dict[str, int])


def test_whole_lines(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1\n\n3\nhalf")
    assert list(whole_lines(tmp_path / "a")) == [(1, b"1"), (2, b""), (3, b"3")]
    assert list(whole_lines(tmp_path / "none")) == []


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "../a", "a\nb", "\x1b", "a\0b", "x" * 256, "é" * 128, "\udcff"]
)
def test_what_is_no_name(tmp_path: Path, name: str) -> None:
    assert not is_name(name)
    (tmp_path / "last").write_bytes(name.encode("utf-8", "surrogateescape") + b"\n")
    if name:
        with pytest.raises(UserError, match="last is damaged"):
            read_name(tmp_path / "last")


def test_what_is_a_name(tmp_path: Path) -> None:
    for name in ("step-00000010", "a b", "average-best-5", "é"):
        (tmp_path / "last").write_text(f"{name}\n")
        assert read_name(tmp_path / "last") == name
    assert read_name(tmp_path / "none") is None


def test_whole_numbers() -> None:
    assert [whole_number(text) for text in ("0", "12", "9" * 18)] == [0, 12, 10**18 - 1]
    assert {whole_number(text) for text in ("", "-1", "1.0", " 1", "٣", "x", "9" * 19, "9" * 5000)} == {None}


def test_a_pointer_leads_nowhere_else(tmp_path: Path) -> None:
    run, other = (write_run(tmp_path / name, "lstm") for name in ("run", "other"))
    name = f"../../other/checkpoints/{other.pointed('best')}"
    (run.path / "best").write_text(f"{name}\n")
    with pytest.raises(UserError, match="best is damaged"):
        load_model(run)
    for wanted in (name, str(other.checkpoint()), "9" * 5000, "x" * 5000, "."):
        with pytest.raises(UserError, match="has no checkpoint"):
            run.checkpoint(wanted)


@pytest.mark.parametrize("token", ["a\nb", "a b", "", " ", "a\u2028b", "\ud800"])
def test_a_word_of_a_vocabulary_is_one_word(tmp_path: Path, token: str) -> None:
    run = write_run(tmp_path / "run", "lstm")
    path = run.path / "tokenizer" / "tgt.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "tokens": [token, *WORDS[1:]]}))
    with pytest.raises(UserError, match=r"tgt\.json"):
        load_tokenizers(run.path / "tokenizer")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensor: tensor * float("nan"), "has values that are not finite"),
        (lambda tensor: tensor.double() * 1e300, "has values that are not finite"),
        (lambda tensor: tensor.to(torch.int32), "is of int32, not of real numbers"),
        (lambda tensor: tensor > 0, "is of bool, not of real numbers"),
    ],
)
def test_weights_are_finite_real_numbers(tmp_path: Path, change: Any, message: str) -> None:
    run = write_run(tmp_path / "run", "lstm")
    file = run.checkpoint() / MODEL
    save_tensors(file, {name: change(tensor) for name, tensor in read_tensors(file).items()})
    with pytest.raises(UserError, match=message):
        load_model(run)


def test_weights_are_in_a_plain_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # which would wait for a writer
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(UserError, match="it is no plain file"):
            read_tensors(path)


def test_weights_of_half_precision_are_taken(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "lstm")
    shutil.copytree(run.path, tmp_path / "half")
    half = RunDir(tmp_path / "half")
    file = half.checkpoint() / MODEL
    save_tensors(file, {name: tensor.half() for name, tensor in read_tensors(file).items()})
    load_model(half)
