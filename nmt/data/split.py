"""A parallel text cut into training, development and test text, so that no line is in two of them."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmt.data.look import has_text, same_line
from nmt.errors import UserError
from nmt.files import check_new, written_aside
from nmt.text.lines import BadPair, read_parallel

LARGEST_SHARE = 5
"""Development and test text are each at most one in so many pairs."""
GROUP_SHARE = 10
"""Pairs that belong together are at most one in so many of these: of a frequent line, else, a part might consist."""

Numbers = NDArray[np.int64]
Hashes = NDArray[np.uint64]


class Part(NamedTuple):
    """What was written of the text."""

    name: str
    src: Path
    tgt: Path
    pairs: int


def split(
    src: Path, tgt: Path, folder: Path, *, sizes: Mapping[str, int], seed: int, report: Callable[[str], object]
) -> list[Part]:
    """Writes `train` and each part of `sizes` (name: pairs, more than 0) to a new `folder`, with the suffixes of the
    two files.

    All pairs with the same source line, or the same target line, white space and Unicode forms apart, are in the same
    part. Which pairs are drawn depends on
    their text and `seed` alone. The text is read twice and never held in memory. Pairs of which a line is no text are
    left out, and `report` is told; with an empty side they are for training. Raises UserError before anything is
    written.
    """
    check_new(folder)
    for path in (src, tgt):
        if not path.is_file():
            raise UserError(f"{path} is not a plain file", "It is read twice: write the text to a file first.")
    if os.path.samefile(src, tgt):
        raise UserError(f"{src} is both sides", "Name the source file and the file with its translations.")
    hashes = array("Q")
    pairs = bad = 0
    for pair in read_parallel(src, tgt, drop_bad=True):
        if isinstance(pair, BadPair):
            if not bad:
                report(f"left out: {pair.reason}")
            bad += 1
            continue
        pairs += 1
        if has_text(pair):
            hashes.extend((_hash(pair.src, seed), _hash(pair.tgt, seed)))
    if bad > 1:
        report(f"left out: {bad:,} pairs in all")
    for name, size in sizes.items():
        if size * LARGEST_SHARE > pairs:
            fewer = " ".join(f"--{each} {pairs // (4 * LARGEST_SHARE)}" for each in sizes)
            raise UserError(
                f"{size:,} pairs for {name} are more than a fifth of the {pairs:,} there are", f"take fewer: {fewer}"
            )
    sides = np.array(hashes, np.uint64).reshape(-1, 2)
    chosen = draw(tied(sides[:, 0], sides[:, 1]), sides[:, 0], list(sizes.values()))
    for number, name in enumerate(sizes, start=1):
        if not (chosen == number).any():
            raise UserError(f"no pair can be set apart for {name}: all have lines in common with many others")
    return _write(src, tgt, folder, ["train", *sizes], chosen)


def tied(src: Hashes, tgt: Hashes) -> Numbers:
    """For each pair the lowest index of those it is tied to by a chain of equal source or target lines."""
    sides = [np.unique(side, return_inverse=True)[1] for side in (src, tgt)]
    label = np.arange(len(src))
    while True:
        before = label
        for line in sides:
            lowest = np.full(len(label), len(label))
            np.minimum.at(lowest, line, label)
            label = lowest[line]
        label = label[label]
        if np.array_equal(label, before):
            return label


def draw(groups: Numbers, keys: Hashes, sizes: list[int]) -> Numbers:
    """The part of each pair: 1, 2, ... for those of `sizes`, 0 for what is left. A group, all pairs of one number, goes
    where it fits, whole; groups come in the order of the lowest `keys` of their pairs."""
    _, group, counts = np.unique(groups, return_inverse=True, return_counts=True)
    lowest = np.full(len(counts), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(lowest, group, keys)
    order = iter(np.argsort(lowest, kind="stable").tolist())
    part = np.zeros(len(counts), np.int64)
    for number, size in enumerate(sizes, start=1):
        room = size
        while room and (one := next(order, None)) is not None:
            if counts[one] <= min(room, max(1, size // GROUP_SHARE)):
                part[one] = number
                room -= int(counts[one])
    return part[group]


def _write(src: Path, tgt: Path, folder: Path, names: list[str], chosen: Numbers) -> list[Part]:
    ends = _suffixes(src, tgt)
    counts = [0] * len(names)
    with written_aside(folder.resolve(), overwrite=False) as draft, contextlib.ExitStack() as stack:
        files = [[stack.enter_context(_opened(draft / f"{name}{end}")) for end in ends] for name in names]
        parts = iter(chosen.tolist())
        for pair in read_parallel(src, tgt, drop_bad=True):
            if isinstance(pair, BadPair):
                continue
            part = next(parts) if has_text(pair) else 0
            counts[part] += 1
            for file, line in zip(files[part], (pair.src, pair.tgt), strict=True):
                file.write(line.encode() + b"\n")
        stack.close()  # before all is synchronised with the disk
    one, other = ends
    return [
        Part(name, folder / f"{name}{one}", folder / f"{name}{other}", count)
        for name, count in zip(names, counts, strict=True)
    ]


def _suffixes(src: Path, tgt: Path) -> list[str]:
    """Those of the files, `.gz` and what is before it; where they do not tell them apart, with .src and .tgt."""
    ends = ["".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]) for path in (src, tgt)]
    if ends[0] != ends[1] and all(end.removesuffix(".gz") for end in ends):
        return ends
    return [f"{side}{end}" for side, end in zip((".src", ".tgt"), ends, strict=True)]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
    with path.open("wb") as file:
        if path.suffix != ".gz":
            yield file
        else:
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:  # no time and no name in it
                yield packed


def _hash(line: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {same_line(line)}".encode()).digest()[:8], "little")
