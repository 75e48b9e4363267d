"""Tokenizers: raw text to ids and back. Ids 0..3 are the special tokens in every vocabulary.

No text, `<s>` and `</s>` included, is ever read as a special token. What does not survive the way there and back:
what the setting `normalization` changes; with SentencePiece, spaces (runs of them become one, those at the ends go) and
U+2581, its own mark for a space, which becomes a space; with words, white space of every kind. White space other than
U+0020, a tab or a no-break space, is to subwords and characters a character like others.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
import unicodedata
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import sentencepiece
from pydantic import TypeAdapter, ValidationError

from nmt.config import CharactersConfig, SentencePieceConfig, TokenizerConfig, WordsConfig
from nmt.errors import UserError
from nmt.files import json_text
from nmt.records import MOST_BYTES, parse_json, read_json, read_small
from nmt.settings.paths import without_files
from nmt.text.pieces import PieceModel, read_piece_model
from nmt.told import is_text

PAD, BOS, EOS, UNK = 0, 1, 2, 3
"""Ids of the special tokens, the same in every vocabulary."""
SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
"""What they are shown as, in the order of their ids."""
SPACE_MARK = "▁"
"""U+2581: SentencePiece's sign for the space before a word."""

JOINT = "joint"
"""What the files of a tokenizer for both sides are called, instead of `src` and `tgt`."""


BEFORE_NFC = {"kind": "words", "normalization": "identity"}
"""What the settings of words did not say when there was no choice."""


class Segments(NamedTuple):
    """A line cut into tokens, and the words they belong to; a line of white space has neither.

    A word is what white space separates, as `str.split` has it, whatever the tokens are. A token belongs to the word in
    which its first letter stands, white space to the word after it. So a word may be left without tokens."""

    ids: list[int]
    pieces: list[str]  # one for each id, as `pieces` shows them; here an unknown token shows its text
    words: list[str]  # in lower case and composed if the tokenizer has it so
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

    def spell(self, ids: Sequence[int], extras: Sequence[str] = ()) -> list[bytes]:
        """What each id adds to the text, white space included, in UTF-8; it may be part of a letter only."""
        ...

    def normal(self, line: str) -> str:
        """The text that a line is to this tokenizer: what `decode` makes of it where nothing is unknown."""
        ...

    def segment(self, line: str) -> Segments:
        """A line's ids, pieces and words."""
        ...

    def word_of(self, ids: Sequence[int]) -> list[int]:
        """The word that each id belongs to, in the text that they spell."""
        ...

    def save(self, folder: Path, side: str) -> None:
        """Writes what `load_tokenizers` reads; `side` is "src" or "tgt"."""
        ...


def normalise(line: str, *, lowercase: bool, nfc: bool) -> str:
    # Lower-casing first: it can decompose (U+0130 becomes i and a combining dot).
    line = line.lower() if lowercase else line
    return unicodedata.normalize("NFC", line) if nfc else line


def composes(settings: SentencePieceConfig | WordsConfig | CharactersConfig) -> bool:
    """Whether text is brought to NFC, so that a letter and its mark are one, however they were encoded."""
    return getattr(settings, "normalization", "nfc") == "nfc"


def one_line(text: str) -> str:
    """The text as a line of a file can hold it: LF and CR become spaces, what is no character U+FFFD."""
    return _NO_CHARACTER.sub("\ufffd", text.replace("\n", " ").replace("\r", " "))


_NO_CHARACTER = re.compile("[\ud800-\udfff]")


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
        try:
            return [self._ours[n] for n in self._processor.encode(self._normalise(line), out_type=int)]
        except RuntimeError as error:
            if is_text(line):
                raise
            raise UserError(f"no text, for it has lone surrogates: {line[:60]!a}") from error

    def decode(self, ids: Sequence[int], extras: Sequence[str] = ()) -> str:
        return one_line(self._processor.decode([self._theirs[n] for n in ids if n > EOS]))

    def pieces(self, ids: Sequence[int], extras: Sequence[str] = ()) -> list[str]:
        return [SPECIALS[n] if n <= UNK else self._processor.id_to_piece(self._theirs[n]) for n in ids]

    def spell(self, ids: Sequence[int], extras: Sequence[str] = ()) -> list[bytes]:
        return [self._spelled[n] for n in ids]

    @cached_property
    def _spelled(self) -> list[bytes]:
        spelled = [b"", b"", b"", "⁇".encode()]  # as the library shows what is unknown
        for n in self._theirs[len(spelled) :]:
            piece = self._processor.id_to_piece(n)
            if self._processor.is_byte(n):
                spelled.append(bytes([int(piece[3:-1], 16)]))  # <0x41>
            else:
                spelled.append(b"" if self._processor.is_control(n) else piece.replace(SPACE_MARK, " ").encode())
        return spelled

    def normal(self, line: str) -> str:
        return self.normalised(line).replace(SPACE_MARK, " ").strip(" ")

    def segment(self, line: str) -> Segments:
        ids, pieces = self.encode(line), self._processor.encode(self._normalise(line), out_type=str)
        spelled = [
            piece.replace(SPACE_MARK, " ").encode() if n == UNK else part
            for n, piece, part in zip(ids, pieces, self.spell(ids), strict=True)
        ]
        return _segments(self, line, ids, pieces, spelled)

    def word_of(self, ids: Sequence[int]) -> list[int]:
        return _word_of(self.spell(ids))

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
        line = normalise(line, lowercase=self.settings.lowercase, nfc=composes(self.settings))
        return line.replace(SPACE_MARK, " ")  # as SentencePiece does, but only after it has folded the spaces


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

    def decode(self, ids: Sequence[int], extras: Sequence[str] = ()) -> str:
        return one_line(self.between.join(self.pieces([n for n in ids if n > EOS], extras)))

    def spell(self, ids: Sequence[int], extras: Sequence[str] = ()) -> list[bytes]:
        tokens = zip(ids, self.pieces(ids, extras), strict=True)
        return [one_line(token + self.between).encode() if n > EOS else b"" for n, token in tokens]

    def normal(self, line: str) -> str:
        return self.between.join(self.split(line))

    def segment(self, line: str) -> Segments:
        pieces = self.split(line)
        spelled = [one_line(piece + self.between).encode() for piece in pieces]
        return _segments(self, line, self.lookup(pieces), pieces, spelled)

    def word_of(self, ids: Sequence[int]) -> list[int]:
        return _word_of(self.spell(ids))

    @property
    @abstractmethod
    def settings(self) -> WordsConfig | CharactersConfig: ...

    @property
    @abstractmethod
    def between(self) -> str:
        """What stands between two tokens."""

    @abstractmethod
    def split(self, line: str) -> list[str]:
        """The tokens of a line."""

    def save(self, folder: Path, side: str) -> None:
        stem = JOINT if self.settings.joint else side
        content = {"settings": self.settings.model_dump(), "tokens": self._tokens[len(SPECIALS) :]}
        (folder / f"{stem}.json").write_text(json_text(content), "utf-8", newline="\n")


class WordTokenizer(ListTokenizer):
    """Words as Unicode white space separates them. Joined by single spaces; an unknown word comes out as `<unk>`."""

    between = " "

    def __init__(self, tokens: Sequence[str], settings: WordsConfig) -> None:
        super().__init__(tokens)
        self._settings = settings

    @property
    def settings(self) -> WordsConfig:
        return self._settings

    def split(self, line: str) -> list[str]:
        return normalise(line, lowercase=self.settings.lowercase, nfc=composes(self.settings)).split()


class CharacterTokenizer(ListTokenizer):
    """Unicode code points after NFC, white space among them. An unknown one comes out as `<unk>`."""

    between = ""

    def __init__(self, tokens: Sequence[str], settings: CharactersConfig) -> None:
        super().__init__(tokens)
        self._settings = settings

    @property
    def settings(self) -> CharactersConfig:
        return self._settings

    def split(self, line: str) -> list[str]:
        return list(normalise(line, lowercase=self.settings.lowercase, nfc=True))


def _segments(tokenizer: Tokenizer, line: str, ids: list[int], pieces: list[str], spelled: list[bytes]) -> Segments:
    words = line.split()
    if not words:
        return Segments([], [], [], [])
    shown = normalise(line, lowercase=tokenizer.settings.lowercase, nfc=composes(tokenizer.settings)).split()
    letters = [len("".join(tokenizer.normal(word).split())) for word in words]
    return Segments(ids, pieces, shown, _word_numbers(spelled, letters))


def _word_of(spelled: Sequence[bytes]) -> list[int]:
    return _word_numbers(spelled, list(map(len, b"".join(spelled).decode(errors="replace").split())))


def _word_numbers(spelled: Sequence[bytes], letters: Sequence[int]) -> list[int]:
    """The word that each token belongs to, of words with so many `letters` (whatever is no white space) each."""
    ends, decoder = list(accumulate(letters)), codecs.getincrementaldecoder("utf-8")("replace")
    numbers, before = [], 0  # letters before the token; one of several bytes comes with the last of them
    for part in spelled:
        numbers.append(max(0, min(bisect_right(ends, before), len(ends) - 1)))
        before += len("".join(decoder.decode(part).split()))
    return numbers


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


def tokenizer_digest(folder: Path) -> str:
    """A digest of the tokenizers in a folder, whatever files they were made of."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        if path.stem in ("src", "tgt", "joint") and path.suffix in (".json", ".model"):
            content = read_small(path, MOST_BYTES)
            if path.suffix == ".json":
                values = parse_json(content, str(path))
                if isinstance(settings := values.get("settings"), dict):
                    values["settings"] = without_files(settings, ("tokenizer",))
                content = json.dumps(values, sort_keys=True).encode()
            digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _load(folder: Path, stem: str) -> Tokenizer:
    path = folder / f"{stem}.json"
    try:
        content = read_json(path)
        said = content["settings"]
        if said["kind"] == "words":
            said = {**BEFORE_NFC, **said}
        settings = TypeAdapter[Any](TokenizerConfig).validate_python(said)
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
