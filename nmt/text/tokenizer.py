"""Tokenizers: raw text to ids and back. Ids 0..3 are the special tokens in every vocabulary.

No text, `<s>` and `</s>` included, is ever read as a special token. What does not survive the way there and back:
what the setting `normalization` changes; with SentencePiece, white space (runs of spaces become one, those at the ends
go) and U+2581, its own mark for a space, which becomes a space; with words, white space of every kind.
"""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import sentencepiece
from pydantic import TypeAdapter, ValidationError

from nmt.config import CharactersConfig, SentencePieceConfig, TokenizerConfig, WordsConfig
from nmt.errors import UserError
from nmt.files import json_text
from nmt.records import read_json
from nmt.text.pieces import PieceModel, read_piece_model

PAD, BOS, EOS, UNK = 0, 1, 2, 3
"""Ids of the special tokens, the same in every vocabulary."""
SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
"""What they are shown as, in the order of their ids."""
SPACE_MARK = "▁"
"""U+2581: SentencePiece's sign for the space before a word."""

JOINT = "joint"
"""What the files of a tokenizer for both sides are called, instead of `src` and `tgt`."""


class Segments(NamedTuple):
    """A line cut into tokens, and the words they belong to. Every word has at least one token."""

    ids: list[int]
    pieces: list[str]  # one for each id, as `pieces` shows them; here an unknown token shows its text
    words: list[str]  # as they stand in the (normalised) line
    word_of: list[int]  # word_of[n] = index in `words` of the word that token n belongs to; never decreases


class Tokenizer(Protocol):
    """Raw text to ids and back."""

    @property
    def settings(self) -> SentencePieceConfig | WordsConfig | CharactersConfig: ...

    def __len__(self) -> int:
        """Size of the vocabulary, the four special tokens included."""
        ...

    def encode(self, line: str) -> list[int]:
        """Ids of a line: never PAD, BOS or EOS; UNK for what the vocabulary does not know."""
        ...

    def decode(self, ids: Sequence[int], extras: Sequence[str] = ()) -> str:
        """Text of ids, PAD, BOS and EOS left out. One line: LF and CR come out as spaces.

        `extras` are the words that ids beyond the vocabulary stand for, in their order; subwords know of none."""
        ...

    def pieces(self, ids: Sequence[int], extras: Sequence[str] = ()) -> list[str]:
        """Each id as text to show."""
        ...

    def segment(self, line: str) -> Segments:
        """A line's ids, pieces and words."""
        ...

    def segment_ids(self, ids: Sequence[int]) -> Segments:
        """The same for ids that a model produced. A special token is a word of its own."""
        ...

    def word_of(self, ids: Sequence[int]) -> list[int]:
        """`Segments.word_of` alone, which is the quicker part of it."""
        ...

    def save(self, folder: Path, side: str) -> None:
        """Writes what `load_tokenizers` reads; `side` is "src" or "tgt"."""
        ...


def normalise(line: str, *, lowercase: bool, nfc: bool) -> str:
    # Lower-casing first: it can decompose (U+0130 becomes i and a combining dot).
    line = line.lower() if lowercase else line
    return unicodedata.normalize("NFC", line) if nfc else line


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\r", " ")


class SentencePieceTokenizer:
    """Subword pieces from a SentencePiece model, learned here or elsewhere.

    Ids are those of the model where its special tokens are PAD, BOS, EOS, UNK = 0..3; else they are renumbered:
    special tokens first (also those that the model lacks), then the model's other pieces in its order.
    """

    def __init__(self, model: bytes, settings: SentencePieceConfig) -> None:
        """Raises RuntimeError if `model` is not a SentencePiece model."""
        self.settings = settings
        self._model = model
        self._processor: Any = sentencepiece.SentencePieceProcessor()
        self._processor.LoadFromSerializedProto(model)
        specials = [getattr(self._processor, f"{name}_id")() for name in ("pad", "bos", "eos", "unk")]  # -1: lacking
        self._theirs = [*specials, *(n for n in range(self._processor.get_piece_size()) if n not in specials)]
        self._ours = {theirs: ours for ours, theirs in enumerate(self._theirs)}

    def __len__(self) -> int:
        return len(self._theirs)

    def encode(self, line: str) -> list[int]:
        return [self._ours[n] for n in self._processor.encode(self._normalise(line), out_type=int)]

    def decode(self, ids: Sequence[int], extras: Sequence[str] = ()) -> str:
        return _one_line(self._processor.decode([self._theirs[n] for n in ids if n > EOS]))

    def pieces(self, ids: Sequence[int], extras: Sequence[str] = ()) -> list[str]:
        return [SPECIALS[n] if n <= UNK else self._processor.id_to_piece(self._theirs[n]) for n in ids]

    def segment(self, line: str) -> Segments:
        return self._segments(self.encode(line), self._processor.encode(self._normalise(line), out_type=str))

    def segment_ids(self, ids: Sequence[int]) -> Segments:
        return self._segments(list(ids), self.pieces(ids))

    def word_of(self, ids: Sequence[int]) -> list[int]:
        return self._word_of(ids, self.pieces(ids))

    def save(self, folder: Path, side: str) -> None:
        stem = JOINT if self.settings.joint else side
        (folder / f"{stem}.model").write_bytes(self._model)
        content = {"settings": self.settings.model_dump()}
        (folder / f"{stem}.json").write_text(json_text(content), "utf-8", newline="\n")

    def normalised(self, line: str) -> str:
        """The line as the model cuts it: normalised by its rule, with U+2581 for spaces."""
        text: str = self._processor.normalize(self._normalise(line))
        return text

    def piece_model(self) -> PieceModel:
        """What the model holds. Raises UserError if it is of a format that only SentencePiece itself reads."""
        try:
            return read_piece_model(self._model)
        except (ValueError, KeyError) as error:
            raise UserError(f"the pieces of this SentencePiece model cannot be read: {error}") from error

    def ids_of_pieces(self) -> list[int]:
        """The id of each piece of the model, in the model's order."""
        return [self._ours[n] for n in range(self._processor.get_piece_size())]

    def _normalise(self, line: str) -> str:
        # nmt_nfkc is a rule inside the model, and so is whatever an existing model brings with it.
        line = normalise(line, lowercase=self.settings.lowercase, nfc=self.settings.normalization == "nfc")
        return line.replace(SPACE_MARK, " ")  # as SentencePiece does, but only after it has folded the spaces

    def _word_of(self, ids: Sequence[int], pieces: list[str]) -> list[int]:
        return _word_numbers(
            ids,
            pieces,
            opens=lambda before, piece: piece.startswith(SPACE_MARK) or before.endswith(SPACE_MARK),
            blank=lambda piece: not piece.strip(SPACE_MARK),
        )

    def _segments(self, ids: list[int], pieces: list[str]) -> Segments:
        # The words are spelled from the pieces: SentencePiece knows no other white space than U+0020.
        word_of = self._word_of(ids, pieces)
        return Segments(ids, pieces, [self._spell(word) for word in _grouped(pieces, word_of)], word_of)

    def _spell(self, pieces: list[str]) -> str:
        """The text of a word's pieces; pieces without text (a control symbol, a space alone) as they stand."""
        text: str = self._processor.decode(pieces)
        return _one_line(text).strip(" ") or "".join(pieces)


class ListTokenizer(ABC):
    """A tokenizer whose vocabulary is a list of tokens, with ids from 4."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = [*SPECIALS, *tokens]
        self._ids = {token: n for n, token in enumerate(tokens, start=len(SPECIALS))}

    def __len__(self) -> int:
        return len(self._tokens)

    def encode(self, line: str) -> list[int]:
        return self.lookup(self.split(line))

    def lookup(self, tokens: Sequence[str]) -> list[int]:
        """The id of each token."""
        return [self._ids.get(token, UNK) for token in tokens]

    def pieces(self, ids: Sequence[int], extras: Sequence[str] = ()) -> list[str]:
        size = len(self._tokens)
        return [self._tokens[n] if n < size else extras[n - size] for n in ids]

    def segment(self, line: str) -> Segments:
        return self._segments(self.encode(line), self.split(line))

    def segment_ids(self, ids: Sequence[int]) -> Segments:
        return self._segments(list(ids), self.pieces(ids))

    def word_of(self, ids: Sequence[int]) -> list[int]:
        return self._word_of(ids, self.pieces(ids))

    @property
    @abstractmethod
    def settings(self) -> WordsConfig | CharactersConfig: ...

    @abstractmethod
    def split(self, line: str) -> list[str]:
        """The tokens of a line."""

    @abstractmethod
    def _segments(self, ids: list[int], pieces: list[str]) -> Segments: ...

    @abstractmethod
    def _word_of(self, ids: Sequence[int], pieces: list[str]) -> list[int]: ...

    def save(self, folder: Path, side: str) -> None:
        stem = JOINT if self.settings.joint else side
        content = {"settings": self.settings.model_dump(), "tokens": self._tokens[len(SPECIALS) :]}
        (folder / f"{stem}.json").write_text(json_text(content), "utf-8", newline="\n")


class WordTokenizer(ListTokenizer):
    """Words as Unicode white space separates them. Joined by single spaces; an unknown word comes out as `<unk>`."""

    def __init__(self, tokens: Sequence[str], settings: WordsConfig) -> None:
        super().__init__(tokens)
        self._settings = settings

    @property
    def settings(self) -> WordsConfig:
        return self._settings

    def split(self, line: str) -> list[str]:
        return normalise(line, lowercase=self.settings.lowercase, nfc=False).split()

    def decode(self, ids: Sequence[int], extras: Sequence[str] = ()) -> str:
        return " ".join(self.pieces([n for n in ids if n > EOS], extras))

    def _segments(self, ids: list[int], pieces: list[str]) -> Segments:
        return Segments(ids, pieces, list(pieces), self._word_of(ids, pieces))

    def _word_of(self, ids: Sequence[int], pieces: list[str]) -> list[int]:
        return list(range(len(pieces)))


class CharacterTokenizer(ListTokenizer):
    """Unicode code points after NFC, white space among them. An unknown one comes out as `<unk>`.

    White space belongs to the word after it; at the end of a line, to the last word.
    """

    def __init__(self, tokens: Sequence[str], settings: CharactersConfig) -> None:
        super().__init__(tokens)
        self._settings = settings

    @property
    def settings(self) -> CharactersConfig:
        return self._settings

    def split(self, line: str) -> list[str]:
        return list(normalise(line, lowercase=self.settings.lowercase, nfc=True))

    def decode(self, ids: Sequence[int], extras: Sequence[str] = ()) -> str:
        return _one_line("".join(self.pieces([n for n in ids if n > EOS], extras)))

    def _segments(self, ids: list[int], pieces: list[str]) -> Segments:
        word_of = self._word_of(ids, pieces)
        words = ["".join(word) for word in _grouped(pieces, word_of)]
        return Segments(ids, pieces, [word.strip() or word for word in words], word_of)

    def _word_of(self, ids: Sequence[int], pieces: list[str]) -> list[int]:
        return _word_numbers(ids, pieces, opens=lambda _, piece: piece.isspace(), blank=str.isspace)


def _word_numbers(
    ids: Sequence[int], pieces: list[str], *, opens: Callable[[str, str], bool], blank: Callable[[str], bool]
) -> list[int]:
    """The word that each piece belongs to.

    A word starts at a piece that, coming after another, `opens` one, if the word before has more than `blank` pieces.
    Blank pieces at the end belong to the last word. A special token is a word of its own.
    """
    numbers: list[int] = []
    word, only_blank, closed, before = -1, False, True, ""
    for n, piece in zip(ids, pieces, strict=True):
        if closed or n <= EOS or (opens(before, piece) and not only_blank):
            word, only_blank = word + 1, True
        only_blank = only_blank and blank(piece)
        closed, before = n <= EOS, piece
        numbers.append(word)
    return [min(n, word - 1) for n in numbers] if only_blank and word > 0 else numbers


def _grouped(pieces: list[str], word_of: list[int]) -> list[list[str]]:
    words: list[list[str]] = [[] for _ in range(max(word_of, default=-1) + 1)]
    for piece, word in zip(pieces, word_of, strict=True):
        words[word].append(piece)
    return words


def load_sentencepiece(path: Path, settings: SentencePieceConfig) -> SentencePieceTokenizer:
    """The tokenizer of a SentencePiece model file; UserError if it is none."""
    try:
        return SentencePieceTokenizer(path.read_bytes(), settings)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except RuntimeError as error:
        raise UserError(f"{path}: not a SentencePiece model") from error


def load_tokenizers(folder: Path) -> tuple[Tokenizer, Tokenizer]:
    """The tokenizers (source, target) saved in a folder: one object twice when they are joint."""
    if (folder / f"{JOINT}.json").exists():
        joint = _load(folder, JOINT)
        return joint, joint
    return _load(folder, "src"), _load(folder, "tgt")


def _load(folder: Path, stem: str) -> Tokenizer:
    path = folder / f"{stem}.json"
    try:
        content = read_json(path)
        settings = TypeAdapter[Any](TokenizerConfig).validate_python(content["settings"])
        if isinstance(settings, SentencePieceConfig):
            return load_sentencepiece(folder / f"{stem}.model", settings)
        tokens = TypeAdapter(list[str]).validate_python(content["tokens"], strict=True)
        words = isinstance(settings, WordsConfig)
        for token in tokens:  # a line feed in one would make two lines of a translation
            if token.split() != [token] if words else len(token) != 1:
                raise ValueError(f"{token!r} is no {'word' if words else 'character'}")
        return WordTokenizer(tokens, settings) if words else CharacterTokenizer(tokens, settings)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise UserError(f"{path}: not a tokenizer saved by nmt: {error}") from error
