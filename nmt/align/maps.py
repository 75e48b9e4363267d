"""Which source word each target word looked at: the value `AttentionMap`, from pieces to words, to files and back."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from nmt.errors import UserError
from nmt.records import parse_json
from nmt.text.lines import read_lines
from nmt.text.tokenizer import BOS, EOS, SPECIALS, Segments

Weights = NDArray[np.float32]


class AttentionMap(NamedTuple):
    """The attention of one sentence pair. T = len(tgt), S = len(src); either may be 0.

    In a map of self-attention both are words of one side: `src` those that are looked at, `tgt` those that look.
    """

    src: list[str]  # words or pieces, the names of the columns
    tgt: list[str]  # the names of the rows
    weights: Weights  # [T,S] float32: row t says how much target word t looked at each source word


def with_bos(line: Segments) -> Segments:
    """The line with BOS before it, a word of its own."""
    ids, pieces, words, word_of = line
    return Segments([BOS, *ids], [SPECIALS[BOS], *pieces], [SPECIALS[BOS], *words], [0, *(n + 1 for n in word_of)])


def with_eos(line: Segments) -> Segments:
    """The line with EOS after it, a word of its own."""
    ids, pieces, words, word_of = line
    return Segments([*ids, EOS], [*pieces, SPECIALS[EOS]], [*words, SPECIALS[EOS]], [*word_of, len(words)])


def piece_map(weights: Weights, src: Segments, tgt: Segments) -> AttentionMap:
    """Names the rows (`tgt`) and columns (`src`) of `weights`. Raises ValueError if there are more or fewer."""
    if weights.shape != (len(tgt.pieces), len(src.pieces)):
        raise ValueError(
            f"weights {weights.shape} do not fit {len(tgt.pieces)} target and {len(src.pieces)} source pieces"
        )
    return AttentionMap(list(src.pieces), list(tgt.pieces), weights)


def word_map(weights: Weights, src: Segments, tgt: Segments) -> AttentionMap:
    """The same on words: the SUM over the pieces of a source word, the MEAN over those of a target word.

    So rows that sum to 1 still do. Of a word without pieces row and column are 0.
    """
    pieces = piece_map(weights, src, tgt)
    columns = np.zeros((len(pieces.tgt), len(src.words)), np.float32)
    np.add.at(columns.T, np.array(src.word_of, np.int64), pieces.weights.T)
    rows = np.zeros((len(tgt.words), len(src.words)), np.float32)
    np.add.at(rows, np.array(tgt.word_of, np.int64), columns)
    counts = np.bincount(tgt.word_of, minlength=len(tgt.words)).astype(np.float32).clip(1)  # [T]
    return AttentionMap(list(src.words), list(tgt.words), rows / counts[:, None])


def write_json(maps: Iterable[AttentionMap], file: TextIO) -> None:
    """A JSON object per line: `src`, `tgt` (lists of S and T strings) and `weights` (T lists of S), six decimals."""
    for attention in maps:
        weights = [[round(weight, 6) for weight in row] for row in attention.weights.tolist()]
        record = {"src": attention.src, "tgt": attention.tgt, "weights": weights}
        file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")


def read_json(path: Path) -> Iterator[AttentionMap]:
    """What `write_json` wrote. Raises UserError, naming file and line, where it is something else."""
    for number, line in enumerate(read_lines(path, record=True), start=1):
        try:
            record = parse_json(line, "it")
            yield _checked(record["src"], record["tgt"], record["weights"])
        except (UserError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}, line {number}: not an attention map ({error})",
                "Each line is an object with the keys src, tgt and weights, as `nmt align --format json` writes it.",
            ) from error


def write_npz(maps: Iterable[AttentionMap], path: Path) -> None:
    """A NumPy archive, one sentence after the other: `weights_0` [T,S], and `src_0`, `tgt_0`, JSON lists of strings
    as UTF-8 bytes (uint8), then `weights_1` and so on. Nothing in it is a pickle.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (src, tgt, weights) in enumerate(maps):
            for name, array in (("src", _as_bytes(src)), ("tgt", _as_bytes(tgt)), ("weights", weights)):
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
                # a ZipInfo has a fixed date, so equal maps give equal files
                archive.writestr(zipfile.ZipInfo(f"{name}_{number}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED)


def read_npz(path: Path) -> Iterator[AttentionMap]:
    """What `write_npz` wrote, one sentence after the other. Raises UserError where it is something else."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            for number in range(sum(name.startswith("weights_") for name in archive.files)):
                names = f"src_{number}", f"tgt_{number}"
                src, tgt = (parse_json(archive[name].tobytes(), name, list[str]) for name in names)
                yield _checked(src, tgt, archive[f"weights_{number}"])
    except (UserError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: not an archive of attention maps ({error})", "`nmt align --format npz` writes such archives."
        ) from error


def _as_bytes(tokens: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(list(tokens), ensure_ascii=False).encode(), np.uint8)


def _checked(src: Any, tgt: Any, weights: Any) -> AttentionMap:
    """The map of three values read from a file. Raises ValueError if they do not fit together."""
    for name, tokens in (("src", src), ("tgt", tgt)):
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise ValueError(f"{name} is not a list of strings")
    array = np.asarray(weights, np.float32)
    if array.size == 0:
        array = array.reshape(len(tgt), len(src))  # JSON cannot tell [0,S] from [0,0]
    if array.shape != (len(tgt), len(src)):
        raise ValueError(f"weights {array.shape} for {len(tgt)} target and {len(src)} source tokens")
    return AttentionMap(src, tgt, array)
