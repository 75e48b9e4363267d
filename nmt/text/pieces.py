"""What a SentencePiece model holds: its algorithm and its pieces with their scores.

The library tells neither which algorithm a model is for nor which pieces its user defined, so the file is read here.
It is a protocol buffer (`ModelProto` in sentencepiece_model.proto): fields of a number, a wire type and a value.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

ALGORITHMS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
"""trainer_spec.model_type"""
PIECES, TRAINER = 1, 2
MODEL_TYPE, BYTE_FALLBACK = 3, 35
TEXT, SCORE, TYPE = 1, 2, 3
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class PieceType(IntEnum):
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Piece(NamedTuple):
    text: str
    score: float  # unigram: its log-probability; BPE: the higher, the earlier it is merged
    type: PieceType


class PieceModel(NamedTuple):
    algorithm: str
    byte_fallback: bool  # whether unknown characters are spelled as bytes
    pieces: list[Piece]  # in the order of the model's ids


def read_piece_model(raw: bytes) -> PieceModel:
    """Raises ValueError if `raw` is not the protocol buffer of a SentencePiece model."""
    pieces, spec = [], {}
    for number, value in _fields(raw):
        if number == PIECES and isinstance(value, bytes):
            pieces.append(_piece(value))
        elif number == TRAINER and isinstance(value, bytes):
            spec = dict(_fields(value))  # of repeated fields only the last; these two are not
    algorithm, byte_fallback = spec.get(MODEL_TYPE, 1), spec.get(BYTE_FALLBACK, 0)
    if algorithm not in ALGORITHMS or not pieces:
        raise ValueError("no pieces, or an unknown algorithm")
    return PieceModel(ALGORITHMS[int(algorithm)], bool(byte_fallback), pieces)


def _piece(raw: bytes) -> Piece:
    fields = dict(_fields(raw))
    text, score = fields[TEXT], fields.get(SCORE, bytes(4))
    assert isinstance(text, bytes)
    assert isinstance(score, bytes)
    return Piece(text.decode(), struct.unpack("<f", score)[0], PieceType(int(fields.get(TYPE, PieceType.NORMAL))))


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field; of fixed-size ones the bytes."""
    place = 0
    while place < len(raw):
        key, place = _varint(raw, place)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, place = _varint(raw, place)
            yield number, value
            continue
        if wire == BYTES:
            size, place = _varint(raw, place)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")
        if place + size > len(raw):
            raise ValueError("cut short")
        yield number, raw[place : place + size]
        place += size


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    """The number that starts at `place`, seven bits a byte, lowest first; and where it ends."""
    value = shift = 0
    while place < len(raw):
        byte = raw[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
    raise ValueError("cut short")
