"""A corpus on disk, memory-mapped: the ids and the text of both sides of each pair.

meta.json              number of pairs, parts and their weights, types and sizes, fingerprint
src.ids, tgt.ids       token ids of all sentences, end to end, without special tokens
src.text, tgt.text     their UTF-8, end to end, as it stood in the file
links                  pairs of words (source, target) that belong together, where any are known
*.offsets              where each sentence starts in the file beside it, and the end of the last: 64-bit, n + 1

Integers are little-endian. Of a corpus, only what is being read has to be in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NotRequired, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import TypedDict

from nmt.data.guiding import Guide
from nmt.data.plan import Part
from nmt.errors import UserError
from nmt.files import json_text, written_aside
from nmt.records import Count, read_json
from nmt.text.links import Links
from nmt.text.tokenizer import Tokenizer
from nmt.workers import map_blocks

FORMAT = 1
COLUMNS = ("src.ids", "tgt.ids", "src.text", "tgt.text")
LINKS = "links"
OFFSET = np.dtype("<u8")
AGAIN = "Make it again with `nmt prepare`."
BLOCK = 2**16
"""Characters, more or less, that are tokenized in one go."""
ROWS = 2**16
"""Whose lengths are worked out in one go."""


class Counts(NamedTuple):
    """What became of the pairs of a text."""

    pairs: int = 0  # kept
    empty: int = 0  # left out: a side has no text, or no token
    too_long: int = 0  # left out: a side has too many tokens
    bad: int = 0  # left out: a side is not UTF-8
    unlinked: int = 0  # kept without their links, for their tokens make other words than white space does

    @property
    def total(self) -> int:
        return self.pairs + self.empty + self.too_long + self.bad


class Size(TypedDict):
    dtype: Annotated[str, Field(pattern=r"^[<|]u[1248]$")]
    items: Count


class Meta(TypedDict):
    """What meta.json says."""

    format: Count
    pairs: Count
    parts: NotRequired[list[Part]]
    columns: dict[str, Size]
    fingerprint: str


Texts = Iterable[tuple[str, str] | tuple[str, str, Links]]
"""Pairs of a source and a target, perhaps with links between their words."""
Tokenizers = tuple[Tokenizer, Tokenizer]


def write_corpus(
    folder: Path, pairs: Texts, tokenizers: Tokenizers, *, max_length: int | None, workers: int = 1
) -> Counts:
    """Tokenizes (source, target) pairs into a new corpus at `folder`, streaming.

    Left out and counted are pairs with an empty side, and those with more than `max_length` tokens on a side. The
    folder is there completely or not at all; an older one is replaced. So many processes as `workers` tokenize, this
    one or others; what is written does not depend on how many.
    """
    return write_parts(folder, [(pairs, 1.0)], tokenizers, max_length=max_length, workers=workers)[0]


def write_parts(
    folder: Path,
    parts: Sequence[tuple[Texts, float]],
    tokenizers: Tokenizers,
    *,
    max_length: int | None,
    workers: int = 1,
    linked: bool = False,
) -> list[Counts]:
    """The same of several texts, one after the other, each with its weight; `linked`: the corpus has links."""
    counts = []
    with written_aside(folder) as draft, ExitStack() as stack:
        kinds = [*(_id_type(len(tokenizer)) for tokenizer in tokenizers), np.dtype("u1"), np.dtype("u1")]
        types = dict(zip(COLUMNS, kinds, strict=True)) | ({LINKS: np.dtype("<u4")} if linked else {})
        columns = [stack.enter_context(_ColumnWriter(draft / name, dtype)) for name, dtype in types.items()]
        for pairs, _ in parts:
            encode = partial(_encode, tokenizers, list(types.values()), max_length)
            count = Counts()
            with closing(map_blocks(encode, _blocks(pairs), workers=workers)) as encoded:
                for rows, block in encoded:
                    for column, row in zip(columns, rows, strict=True):
                        column.append(*row)
                    count = Counts(*map(sum, zip(count, block, strict=True)))
            counts.append(count)
        made = [Part(count.pairs, float(weight)) for count, (_, weight) in zip(counts, parts, strict=True)]
        sizes = {
            name: {"dtype": column.dtype.str, "items": column.items}
            for name, column in zip(types, columns, strict=True)
        }
        meta = {
            "format": FORMAT,
            "pairs": sum(part.pairs for part in made),
            "parts": [part._asdict() for part in made],
            "columns": sizes,
            "fingerprint": _fingerprint([column.digest() for column in columns], made),
        }
        (draft / "meta.json").write_text(json_text(meta), "utf-8")
    return counts


def _fingerprint(digests: Iterable[bytes], parts: Sequence[Part]) -> str:
    """Of a corpus: `digests` are those of its files, in their order."""
    digest = hashlib.sha256(b"".join(digests))
    if len(parts) > 1 or parts[0].weight != 1:  # they decide about batches, so another weight is another corpus
        digest.update(repr([tuple(part) for part in parts]).encode())
    return digest.hexdigest()


def _blocks(pairs: Texts) -> Iterator[list[tuple[str, str] | tuple[str, str, Links]]]:
    block: list[tuple[str, str] | tuple[str, str, Links]] = []
    size = 0
    for pair in pairs:
        block.append(pair)
        size += len(pair[0]) + len(pair[1]) + 2
        if size >= BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


Row = tuple[bytes, NDArray[np.int64]]
"""What some rows of a column hold, end to end, and the length of each."""


def _encode(
    tokenizers: Tokenizers, types: Sequence[np.dtype[Any]], max_length: int | None, pairs: Texts
) -> tuple[list[Row], Counts]:
    """The rows of each column that the pairs make, and what became of them."""
    columns: list[list[bytes]] = [[] for _ in types]
    guide = Guide(*tokenizers)
    empty = too_long = unlinked = 0
    for src, tgt, *links in pairs:
        pair = (src, tgt)
        ids = [tokenizer.encode(line) if line.strip() else [] for tokenizer, line in zip(tokenizers, pair, strict=True)]
        if not all(ids):
            empty += 1
        elif max_length is not None and max(map(len, ids)) > max_length:
            too_long += 1
        else:
            raw = [np.array(tokens, dtype).tobytes() for tokens, dtype in zip(ids, types[:2], strict=True)]
            raw += [line.encode() for line in pair]
            if len(types) > len(COLUMNS):
                found = sorted(*links)
                if found and not guide.fits(pair, *ids):
                    found, unlinked = [], unlinked + 1
                raw.append(np.array(found, types[-1]).tobytes())
            for column, value in zip(columns, raw, strict=True):
                column.append(value)
    rows = [
        (b"".join(column), np.array([len(raw) // dtype.itemsize for raw in column], np.int64))
        for column, dtype in zip(columns, types, strict=True)
    ]
    return rows, Counts(len(columns[0]), empty, too_long, unlinked=unlinked)


class Corpus:
    """Pairs by their number, from 0. Made by `Corpus.open`."""

    def __init__(self, folder: Path, fingerprint: str, columns: list[_Column], parts: Sequence[Part]) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        """SHA-256 of the contents, and of the weights where there are any."""
        self.parts = tuple(parts)
        """Consecutive pairs with a weight of their own, in order; at least one."""
        self._src_ids, self._tgt_ids, self._src_text, self._tgt_text, *links = columns
        self._links = links[0] if links else None

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The corpus in a folder. Raises UserError if there is none, or if its files are not as they were written."""
        path = folder / "meta.json"
        if not path.is_file():
            raise UserError(f"{folder}: no prepared corpus: it has no meta.json", AGAIN)
        meta: Meta = read_json(path, Meta, AGAIN)
        if meta["format"] != FORMAT:
            raise UserError(f"{path}: format {meta['format']}; this version reads format {FORMAT}", AGAIN)
        pairs, sizes = meta["pairs"], meta["columns"]
        names = [*COLUMNS, *(name for name in sizes if name == LINKS)]
        if missing := [name for name in names if name not in sizes]:
            raise UserError(f"{path} is damaged: it says nothing of {missing[0]}", AGAIN)
        columns = [
            _Column(folder / name, np.dtype(sizes[name]["dtype"]), pairs, sizes[name]["items"]) for name in names
        ]
        parts = meta.get("parts") or [Part(pairs)]
        if sum(part.pairs for part in parts) != pairs:
            raise UserError(f"{path} is damaged: its parts have not {pairs} pairs together", AGAIN)
        return cls(folder, meta["fingerprint"], columns, parts)

    def check_content(self) -> None:
        """UserError unless all of its files hold what was written. They are read, about 300 MB a second."""
        digests = []
        for column in (self._src_ids, self._tgt_ids, self._src_text, self._tgt_text, self._links):
            for path in () if column is None else column.paths:
                with path.open("rb") as file:
                    digests.append(hashlib.file_digest(file, "sha256").digest())
        if _fingerprint(digests, self.parts) != self.fingerprint:
            raise UserError(f"{self.folder}: its files are not as they were written", AGAIN)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).open, (self.folder,)  # another process maps the files, too, and gets no copy

    def __len__(self) -> int:
        return len(self._src_ids)

    @property
    def pairs_per_epoch(self) -> int:
        """Pairs that training sees in an epoch, each as often as its weight says."""
        return sum(part.slots for part in self.parts)

    @property
    def tokens(self) -> tuple[int, int]:
        """Numbers of source and target tokens in all, special ones not counted."""
        return self._src_ids.items, self._tgt_ids.items

    @property
    def longest_source(self) -> int:
        """Bytes of the longest source line."""
        return int(self._src_text.lengths().max())

    @property
    def src_lengths(self) -> NDArray[np.int32]:
        """[n] Numbers of source tokens, special ones not counted."""
        return self._src_ids.lengths()

    @property
    def tgt_lengths(self) -> NDArray[np.int32]:
        """[n] Numbers of target tokens, special ones not counted."""
        return self._tgt_ids.lengths()

    def src(self, i: int) -> NDArray[np.int64]:
        """Token ids of source i, without special tokens."""
        return self._src_ids[i].astype(np.int64)

    def tgt(self, i: int) -> NDArray[np.int64]:
        """Token ids of target i, without special tokens."""
        return self._tgt_ids[i].astype(np.int64)

    @property
    def has_links(self) -> bool:
        """Whether it knows of any pair which words belong together."""
        return self._links is not None

    def links(self, i: int) -> NDArray[np.int64]:
        """[n,2] Words (source, target) of pair i that belong together. ValueError in a corpus without links."""
        if self._links is None:
            raise ValueError(f"{self.folder} has no links")
        return self._links[i].astype(np.int64).reshape(-1, 2)

    def text(self, i: int) -> tuple[str, str]:
        """The raw text (source, target) of pair i."""
        return self._src_text[i].tobytes().decode(), self._tgt_text[i].tobytes().decode()


class _ColumnWriter:
    """Writes arrays of different lengths end to end, and where each starts."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.items = 0
        self._files = [path.open("wb"), _offsets(path).open("wb")]
        self._digests = [hashlib.sha256(), hashlib.sha256()]

    def __enter__(self) -> Self:
        self._write(1, np.zeros(1, OFFSET).tobytes())
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def append(self, raw: bytes, lengths: NDArray[np.int64]) -> None:
        self._write(0, raw)
        self._write(1, (self.items + np.cumsum(lengths)).astype(OFFSET).tobytes())
        self.items += int(lengths.sum())

    def digest(self) -> bytes:
        return b"".join(digest.digest() for digest in self._digests)

    def _write(self, n: int, raw: bytes) -> None:
        self._files[n].write(raw)
        self._digests[n].update(raw)


class _Column:
    """What a `_ColumnWriter` wrote."""

    def __init__(self, path: Path, dtype: np.dtype[Any], rows: int, items: int) -> None:
        self.items = items
        self._values = _map(path, dtype, items)
        self._path = _offsets(path)
        self.paths = (path, self._path)
        self._offsets = _map(self._path, OFFSET, rows + 1)
        if self._offsets[0] != 0 or self._offsets[-1] != items:
            raise UserError(f"{self._path}: damaged: its ends are not those of {path.name}", AGAIN)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, i: int) -> NDArray[Any]:
        if not 0 <= i < len(self):
            raise IndexError(f"pair {i} of {len(self)}")
        return self._values[int(self._offsets[i]) : int(self._offsets[i + 1])]

    def lengths(self) -> NDArray[np.int32]:
        lengths = np.empty(len(self), np.int32)
        # Read, as all of a file that is mapped would count as memory of this process, and some rows at a time.
        for start in range(0, len(self), ROWS):
            offsets = np.fromfile(self._path, OFFSET, ROWS + 1, offset=start * OFFSET.itemsize)
            lengths[start : start + ROWS] = np.diff(offsets)
        return lengths


def _offsets(path: Path) -> Path:
    return path.with_name(f"{path.name}.offsets")


def _map(path: Path, dtype: np.dtype[Any], items: int) -> NDArray[Any]:
    """The file as an array of `items`, not read before it is used. Raises UserError if it has another size."""
    size, expected = path.stat().st_size if path.exists() else 0, items * dtype.itemsize
    if size != expected:
        raise UserError(f"{path}: damaged: {size} bytes where {expected} were written", AGAIN)
    # An empty file cannot be mapped.
    return np.asarray(np.memmap(path, dtype, mode="r")) if items else np.empty(0, dtype)


def _id_type(vocabulary: int) -> np.dtype[Any]:
    return np.dtype("<u2" if vocabulary <= 2**16 else "<u4")
