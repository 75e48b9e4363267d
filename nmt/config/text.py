"""Settings of the text to learn from and of how it is cut into tokens."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, Strict, field_validator, model_validator

from nmt.config.base import PositiveInt, Settings


class CorpusConfig(Settings):
    """Another corpus to learn from."""

    src: str = Field(description="its source side")
    tgt: str = Field(description="its target side: line N translates line N of src")
    weight: Annotated[float, Field(gt=0, le=10_000)] = Field(
        1.0, description="how often each pair comes in an epoch: 2 = twice, 0.5 = in every other one"
    )
    tag: str | None = Field(
        None, description="a word put before each source line, such as <bt>, so that the model knows these pairs"
    )

    @field_validator("tag")
    @classmethod
    def _tag_is_a_word(cls, tag: str | None) -> str | None:
        if tag is not None and tag.split() != [tag]:
            raise ValueError("it must be one word, without white space, such as <bt>")
        return tag


class DataConfig(Settings):
    """Which text to learn from. Paths in a file are relative to that file; on the command line, to the folder you
    are in."""

    src: str | None = Field(None, description="source side of the training text, a sentence per line, plain or gzip")
    tgt: str | None = Field(None, description="target side: line N translates line N of src")
    more: Annotated[tuple[CorpusConfig, ...], Strict(False)] = Field(
        (), description="list of further corpora, each with src, tgt, weight (that of the first is 1) and tag"
    )
    dev_src: str | None = Field(None, description="source side of the development text; by default held out of train")
    dev_tgt: str | None = Field(None, description="target side of the development text")
    links: str | None = Field(
        None,
        description="which words of src and tgt belong together, for model.guided_alignment: a line per pair in the "
        "Pharaoh format (0-0 1-2: source word, target word, from 0, as white space separates them)",
    )
    prepared: str | None = Field(None, description="a folder made by `nmt prepare`, instead of all the above")
    max_tokens: PositiveInt = Field(4096, description="size of a batch: target tokens, padding included (and source)")
    max_length: PositiveInt = Field(256, description="pairs with more tokens than this on a side are left out")
    bad_lines: Literal["error", "drop"] = Field(
        "error", description="on a line that is not UTF-8: stop, or drop the pair and count it"
    )

    @property
    def texts(self) -> list[str]:
        """The files of sentences, both sides of all corpora."""
        more = [path for corpus in self.more for path in (corpus.src, corpus.tgt)]
        return [path for path in (self.src, self.tgt, *more, self.dev_src, self.dev_tgt) if path is not None]

    @model_validator(mode="after")
    def _sides_come_in_pairs(self) -> Self:
        if (self.src is None) != (self.tgt is None):
            raise ValueError("src and tgt go together: one of them is missing")
        if (self.dev_src is None) != (self.dev_tgt is None):
            raise ValueError("dev_src and dev_tgt go together: one of them is missing")
        if self.dev_src is not None and self.src is None:
            raise ValueError("dev_src and dev_tgt need src and tgt beside them")
        if self.more and self.src is None and self.prepared is None:
            raise ValueError("more names further corpora: src and tgt name the first")
        if self.links is not None and self.src is None and self.prepared is None:
            raise ValueError("links are those of src and tgt: name them, too")
        if self.prepared is not None and (self.src is not None or self.more or self.links):
            named = "src, tgt, more and links" if self.more or self.links else "src and tgt"
            raise ValueError(f"prepared holds the text already: drop it, or drop {named}")
        return self


class SentencePieceConfig(Settings):
    """Subword pieces learned from the training text. A tab or a no-break space is a character like others."""

    kind: Literal["sentencepiece"] = "sentencepiece"
    model: Literal["bpe", "unigram"] = "bpe"
    size: PositiveInt = Field(8000, description="pieces; lowered by itself where the text is too small for as many")
    joint: bool = Field(True, description="one set of pieces for both languages")
    byte_fallback: bool = Field(True, description="spell characters never seen in training as bytes")
    normalization: Literal["identity", "nfc", "nmt_nfkc"] = "nfc"
    lowercase: bool = False
    path: str | None = Field(None, description="use this SentencePiece model instead of learning one")
    tgt_path: str | None = Field(None, description="another one for the target side")

    @model_validator(mode="after")
    def _paths_fit(self) -> Self:
        if self.tgt_path is not None and self.path is None:
            raise ValueError("tgt_path needs path beside it")
        if self.tgt_path is not None and self.joint:
            raise ValueError("tgt_path names a model of its own for the target side: set joint: false")
        return self


class WordsConfig(Settings):
    """Words as white space separates them (the text is taken as tokenized already)."""

    kind: Literal["words"] = "words"
    size: PositiveInt = Field(50000, description="the most frequent words are kept")
    min_count: PositiveInt = Field(1, description="rarer words are unknown")
    joint: bool = False
    normalization: Literal["identity", "nfc"] = Field("nfc", description="nfc: é is é, however it is encoded")
    lowercase: bool = False


class CharactersConfig(Settings):
    """Single characters (Unicode code points after NFC), the space among them."""

    kind: Literal["characters"] = "characters"
    size: PositiveInt = 10000
    min_count: PositiveInt = 1
    joint: bool = False
    lowercase: bool = False


TokenizerConfig = Annotated[SentencePieceConfig | WordsConfig | CharactersConfig, Field(discriminator="kind")]
