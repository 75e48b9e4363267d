"""Text cut into three parts: nothing lost, no line in two of them, drawn by text and seed alone."""

from __future__ import annotations

import gzip
import random

import numpy as np
import pytest

from nmt.data.split import draw, split, tied
from nmt.errors import UserError


def write(folder, pairs, ends=(".en", ".fr")):
    paths = [folder / f"all{end}" for end in ends]
    for side, path in enumerate(paths):
        text = "".join(f"{pair[side]}\n" for pair in pairs).encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return paths


def pairs_of(count, seed=1):
    """Pairs many of which have a line in common."""
    drawn = random.Random(seed)
    return [(f"s {drawn.randrange(count)}", f"t {drawn.randrange(2 * count)}") for _ in range(count)]


def read(part):
    sides = []
    for path in (part.src, part.tgt):
        raw = path.read_bytes()
        sides.append((gzip.decompress(raw) if path.suffix == ".gz" else raw).decode().split("\n")[:-1])
    return list(zip(*sides, strict=True))


def cut(folder, paths, name="parts", *, dev=30, test=20, seed=1):
    return split(*paths, folder / name, sizes={"dev": dev, "test": test}, seed=seed, report=lambda text: None)


@pytest.mark.parametrize("ends", [(".en", ".fr"), (".en.gz", ".fr.gz")])
def test_no_line_is_lost_or_in_two_parts(tmp_path, ends):
    pairs = pairs_of(600)
    train, dev, test = cut(tmp_path, write(tmp_path, pairs, ends))
    assert [part.src.name for part in (train, dev, test)] == [f"{name}{ends[0]}" for name in ("train", "dev", "test")]
    assert (dev.pairs, test.pairs) == (30, 20)
    contents = [read(part) for part in (train, dev, test)]
    assert sorted(pair for part in contents for pair in part) == sorted(pairs)
    for side in (0, 1):
        lines = [{pair[side] for pair in part} for part in contents]
        assert sum(map(len, lines)) == len(set.union(*lines))
    order = {pair: n for n, pair in reversed(list(enumerate(pairs)))}
    assert [order[pair] for pair in dict.fromkeys(contents[0])] == sorted(order[pair] for pair in set(contents[0]))


def test_lines_that_look_the_same_are_in_one_part(tmp_path):
    """White space and the coding of letters apart."""
    forms = ["caf\u00e9 {}", "cafe\u0301 {}", "caf\u00e9  {}", " caf\u00e9\u00a0{} "]
    pairs = [(form.format(n), f"t {n} {m}") for n in range(150) for m, form in enumerate(forms)]
    parts = [read(part) for part in cut(tmp_path, write(tmp_path, pairs), dev=60, test=40)]
    numbers = [{src.split()[-1] for src, _ in part} for part in parts]
    assert sum(map(len, numbers)) == len(set.union(*numbers)) == 150


def test_text_and_seed_decide_and_not_the_order(tmp_path):
    pairs = pairs_of(600)
    first = cut(tmp_path, write(tmp_path, pairs))
    again = cut(tmp_path, write(tmp_path, pairs), "again")
    assert [part.src.read_bytes() for part in first] == [part.src.read_bytes() for part in again]
    other = cut(tmp_path, write(tmp_path, pairs), "other", seed=2)
    assert set(read(first[1])) != set(read(other[1]))
    turned = cut(tmp_path, write(tmp_path, pairs[::-1]), "turned")
    assert set(read(first[1])) == set(read(turned[1]))


def test_pairs_are_tied_as_a_search_through_the_graph_finds():
    drawn = np.random.default_rng(1)
    for _ in range(20):
        src, tgt = drawn.integers(0, 30, (2, 40)).astype(np.uint64)
        label = tied(src, tgt)
        for start in range(40):
            reached, frontier = {start}, [start]
            while frontier:
                one = frontier.pop()
                near = {n for n in range(40) if src[n] == src[one] or tgt[n] == tgt[one]} - reached
                reached |= near
                frontier += near
            assert label[start] == min(reached)


def test_a_long_chain_is_one_group():
    n = np.arange(20_000, dtype=np.uint64)
    assert not tied((n + 1) // 2, n // 2).any()


def test_a_frequent_line_does_not_fill_a_part():
    groups = np.array([0] * 50 + list(range(50, 150)))
    part = draw(groups, np.arange(150, dtype=np.uint64), [60])
    assert not part[:50].any()
    assert part.sum() == 60


def test_pairs_without_text_are_for_training_and_bad_ones_cost_themselves(tmp_path):
    pairs = [(f"s {n}", f"t {n}") for n in range(100)]
    pairs[3] = ("", "t 3")
    paths = write(tmp_path, pairs)
    paths[0].write_bytes(paths[0].read_bytes().replace(b"s 7\n", b"s \xff\n"))
    said = []
    parts = split(*paths, tmp_path / "parts", sizes={"dev": 19}, seed=1, report=said.append)
    assert [part.pairs for part in parts] == [80, 19]
    assert ("", "t 3") in read(parts[0])
    assert len(said) == 1
    assert "line 8: not UTF-8" in said[0]


@pytest.mark.parametrize(
    ("ends", "names"), [((".txt", "2.txt"), ("src.txt", "tgt.txt")), ((".fr", ""), ("src.fr", "tgt"))]
)
def test_names_that_do_not_tell_the_sides_apart(tmp_path, ends, names):
    parts = cut(tmp_path, write(tmp_path, pairs_of(600), ends))
    assert (parts[0].src.name, parts[0].tgt.name) == tuple(f"train.{name}" for name in names)


def test_what_cannot_be_is_said_and_nothing_is_written(tmp_path):
    paths = write(tmp_path, pairs_of(100))
    for changes, message in (
        ({"dev": 21}, "21 pairs for dev are more than a fifth of the 100 there are"),
        ({"name": "."}, "is not empty"),
    ):
        with pytest.raises(UserError, match=message):
            cut(tmp_path, paths, **changes)
    with pytest.raises(UserError, match="is both sides"):
        cut(tmp_path, [paths[0], paths[0]])
    with pytest.raises(UserError, match="no pair can be set apart for dev"):
        cut(tmp_path, write(tmp_path, [("same", f"t {n}") for n in range(100)]), dev=10, test=10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.en", "all.fr"]


def test_the_command_says_what_comes_next(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, pairs_of(300))
    out, _ = command("split", "all.en", "all.fr", "-o", "parts", "--dev", 20, "--test", 0)
    assert "dev: 20 pairs: parts/dev.en parts/dev.fr\n" in out
    train = "nmt train --src parts/train.en --tgt parts/train.fr --dev-src parts/dev.en --dev-tgt parts/dev.fr"
    assert f"next: {train} -o runs/first\n" in out
    assert "nmt evaluate" not in out
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["dev.en", "dev.fr", "train.en", "train.fr"]
    _, said = command("split", "all.en", "all.fr", "-o", "parts", code=2)
    assert "parts is not empty" in said
