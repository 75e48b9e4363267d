"""Every setting there is, with its default and its meaning. Frozen: the config that is saved is the one that ran.

Values that come in kinds (a tokenizer, a schedule, an attention) are told apart by their key `kind`.
Reading YAML, overriding and error messages live in `nmt.settings`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, Strict, field_validator, model_validator

from nmt.config.base import (
    PositiveInt,
    Rate,
    Settings,
)
from nmt.config.model import (
    AdditiveConfig,
    AttentionConfig,
    BridgeConfig,
    CopyHeadConfig,
    CustomConfig,
    DecoderConfig,
    DecoderPointer,
    DotConfig,
    EmbeddingConfig,
    EncoderConfig,
    GeneralConfig,
    HeadConfig,
    LastBridge,
    MaxBridge,
    MeanBridge,
    ModelConfig,
    NoAttentionConfig,
    PooledBridge,
    RnnDecoderConfig,
    RnnEncoderConfig,
    ScaledDotConfig,
    ScoredAttention,
    ScorerConfig,
    SumBridge,
    TransformerDecoderConfig,
    TransformerEncoderConfig,
    VocabHeadConfig,
    ZeroBridge,
)
from nmt.config.search import (
    AveragePenalty,
    GnmtPenalty,
    LengthPenaltyConfig,
    MbrConfig,
    NoPenalty,
    RewardPenalty,
    SamplingConfig,
    SearchConfig,
)
from nmt.config.text import (
    CharactersConfig,
    CorpusConfig,
    DataConfig,
    SentencePieceConfig,
    TokenizerConfig,
    WordsConfig,
)
from nmt.config.training import (
    AdamConfig,
    AverageConfig,
    BpeDropout,
    ConsistencyConfig,
    ConstantSchedule,
    InverseSqrtSchedule,
    LinearSchedule,
    NoamSchedule,
    NoConsistency,
    NoSampling,
    PlateauSchedule,
    RDrop,
    ScheduleConfig,
    SimCut,
    SubwordSamplingConfig,
    TrainConfig,
    UnigramSampling,
)

__all__ = [
    "AdamConfig",
    "AdditiveConfig",
    "AlignConfig",
    "AttentionConfig",
    "AverageConfig",
    "AveragePenalty",
    "BpeDropout",
    "BridgeConfig",
    "CharactersConfig",
    "Config",
    "ConsistencyConfig",
    "ConstantSchedule",
    "CopyHeadConfig",
    "CorpusConfig",
    "CustomConfig",
    "DataConfig",
    "DecoderConfig",
    "DecoderPointer",
    "DotConfig",
    "EmbeddingConfig",
    "EncoderConfig",
    "GeneralConfig",
    "GnmtPenalty",
    "HeadConfig",
    "InverseSqrtSchedule",
    "LastBridge",
    "LengthPenaltyConfig",
    "LinearSchedule",
    "MaxBridge",
    "MbrConfig",
    "MeanBridge",
    "ModelConfig",
    "NoAttentionConfig",
    "NoConsistency",
    "NoPenalty",
    "NoSampling",
    "NoamSchedule",
    "PlateauSchedule",
    "PooledBridge",
    "PositiveInt",
    "RDrop",
    "Rate",
    "RewardPenalty",
    "RnnDecoderConfig",
    "RnnEncoderConfig",
    "SamplingConfig",
    "ScaledDotConfig",
    "ScheduleConfig",
    "ScoredAttention",
    "ScorerConfig",
    "SearchConfig",
    "SentencePieceConfig",
    "Settings",
    "SimCut",
    "SubwordSamplingConfig",
    "SumBridge",
    "TokenizerConfig",
    "TrainConfig",
    "TransformerDecoderConfig",
    "TransformerEncoderConfig",
    "UnigramSampling",
    "VocabHeadConfig",
    "WordsConfig",
    "ZeroBridge",
]


class AlignConfig(Settings):
    """Which attention `nmt align` and `nmt plot` ask, unless told otherwise; by default the model's own choice."""

    attention: str | None = Field(None, description="its name, like decoder.2.cross: layers count from 1")
    heads: Annotated[tuple[PositiveInt, ...], Strict(False)] | None = Field(  # not strict: YAML has lists, no tuples
        None, description="list of heads to average, counted from 1; all by default"
    )
    read: Literal["output", "input"] | None = Field(
        None, description="ask the step that writes a word, or the next one, which reads it"
    )

    @field_validator("heads")
    @classmethod
    def _each_head_once(cls, heads: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if heads == ():
            raise ValueError("no head is named; null means all")
        if heads is not None and len(set(heads)) < len(heads):
            raise ValueError(f"a head is there twice: {', '.join(map(str, heads))}")
        return heads


class Config(Settings):
    data: DataConfig = DataConfig()
    tokenizer: TokenizerConfig = SentencePieceConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    search: SearchConfig = SearchConfig()
    align: AlignConfig = AlignConfig()

    @model_validator(mode="after")
    def _positions_are_learned(self) -> Self:
        for side, part in (("encoder", self.model.encoder), ("decoder", self.model.decoder)):
            if part.kind != "transformer" or part.positions != "learned":
                continue
            if part.max_positions <= self.data.max_length:
                raise ValueError(
                    f"model.{side}.max_positions is {part.max_positions}, but data.max_length lets "
                    f"{self.data.max_length} tokens and an end through: raise the one or lower the other"
                )
        return self

    @model_validator(mode="after")
    def _vectors_are_of_words(self) -> Self:
        if self.data.prepared is not None and "tokenizer" not in self.model_fields_set:
            return self  # the prepared one will be here instead
        for name in ("src_vectors", "tgt_vectors"):
            if getattr(self.model.embedding, name) is not None and self.tokenizer.kind != "words":
                other = "characters" if self.tokenizer.kind == "characters" else "subwords"
                raise ValueError(
                    f"model.embedding.{name}: the vectors are of words, and tokenizer.kind: {self.tokenizer.kind} has "
                    f"{other}; set it to words, or drop the vectors"
                )
        return self

    @model_validator(mode="after")
    def _subwords_can_be_sampled(self) -> Self:
        kind, tokenizer = self.train.subword_sampling.kind, self.tokenizer
        if kind == "none" or (self.data.prepared is not None and "tokenizer" not in self.model_fields_set):
            return self
        if tokenizer.kind != "sentencepiece":
            raise ValueError(
                f"train.subword_sampling.kind: {kind} cuts words into other subwords, and tokenizer.kind: "
                f"{tokenizer.kind} has none; set it to sentencepiece, or train.subword_sampling.kind to none"
            )
        needed = "unigram" if kind == "unigram" else "bpe"
        if tokenizer.path is None and tokenizer.model != needed:  # what a file holds is seen when it is read
            other = "unigram" if tokenizer.model == "unigram" else "bpe_dropout"
            raise ValueError(
                f"train.subword_sampling.kind: {kind} is for tokenizer.model: {needed}, but that is {tokenizer.model}; "
                f"set it to {needed}, or train.subword_sampling.kind to {other}"
            )
        return self

    @model_validator(mode="after")
    def _something_compiles(self) -> Self:
        if self.train.compile and self.model.encoder.kind == self.model.decoder.kind == "rnn":
            raise ValueError("train.compile fuses the layers of a transformer, which this model lacks: set it to false")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.model.embedding.tie == "all" and not self.tokenizer.joint:
            raise ValueError("model.embedding.tie: all shares one embedding, so it needs tokenizer.joint: true")
        if self.model.embedding.ngrams and self.tokenizer.kind != "words":
            raise ValueError(
                f"model.embedding.ngrams spells words that the vocabulary lacks, but tokenizer.kind is "
                f"{self.tokenizer.kind}, which has none: set it to 0, or take words"
            )
        decoder = self.model.decoder
        if decoder.kind == "rnn" and decoder.attention.kind != "none":
            _check_attention(decoder.attention, "model.decoder", decoder.width, self.model.encoder.width)
        else:
            _check_without_attention(self.model)
        if self.model.guided_alignment and self.data.src is not None and self.data.links is None:
            raise ValueError(
                "model.guided_alignment learns from links between words: name their file, data.links, or set it to 0"
            )
        if self.model.head.kind == "copy":
            _check_copying(self.model.head, self)
        return self


def _check_without_attention(model: ModelConfig) -> None:
    """All that needs the attention of a recurrent decoder which has none, and what to set instead."""
    if model.decoder.kind != "rnn":
        return
    points = model.head.kind == "copy" and model.head.attention.kind == "decoder"
    needs = {
        "model.decoder.wiring=luong": model.decoder.wiring == "bahdanau",
        "model.decoder.input_feeding=null": bool(model.decoder.input_feeding),
        "model.coverage=0": model.coverage > 0,
        "model.guided_alignment=0": model.guided_alignment > 0,
        "model.head=vocab": points,
    }
    missed = [instead for instead, needed in needs.items() if needed]
    if missed:
        own = " (or give the head an attention of its own: model.head.attention=additive)" if points else ""
        raise ValueError(f"model.decoder.attention is none, and without one these have to be: {', '.join(missed)}{own}")


def _check_copying(head: CopyHeadConfig, config: Config) -> None:
    tokenizer, decoder, memory_width = config.tokenizer, config.model.decoder, config.model.encoder.width
    if tokenizer.kind == "sentencepiece" and not tokenizer.joint:
        raise ValueError(
            "model.head copies tokens of the source into the target, but tokenizer.joint: false gives each side "
            "subwords of its own: make it joint, or take words or characters"
        )
    if head.attention.kind != "decoder":
        width = decoder.width
        if decoder.kind == "rnn" and decoder.output == "concat" and decoder.attention.kind != "none":
            width += memory_width  # what the head sees is [context; state]
        if head.attention.heads > 1:
            raise ValueError("model.head.attention.heads: what points is one distribution over the source: heads is 1")
        if getattr(head.attention, "coverage", False):
            raise ValueError(
                "model.head.attention.coverage: a head sees the whole target at once, not what was attended to before: "
                "set it in model.decoder.attention, and let the head point with that"
            )
        _check_attention(head.attention, "model.head", width, memory_width)
    elif decoder.kind == "rnn":
        if head.attention.layer is not None or head.attention.head is not None:
            raise ValueError("model.head.attention.layer and .head choose among a transformer's; an RNN has one")
    else:
        chosen = (("layer", "layers", head.attention.layer), ("head", "heads", head.attention.head))
        for name, number, value in chosen:
            if value is not None and value > getattr(decoder, number):
                raise ValueError(
                    f"model.head.attention.{name} is {value}, but model.decoder.{number} is {getattr(decoder, number)}"
                )


def _check_attention(attention: ScorerConfig, place: str, width: int, memory_width: int) -> None:
    """Whether it can compare queries of `width` with a memory of `memory_width`."""
    asks = "model.decoder" if place == "model.decoder" else "what the decoder gives the head"
    for side, size in (("model.encoder", memory_width), (asks, width)):
        if size % attention.heads:
            raise ValueError(
                f"{place}.attention.heads: {attention.heads} heads cannot share the width of {side}: {size}; "
                "it must be a multiple"
            )
    if attention.kind in ("dot", "scaled_dot") and attention.heads == 1 and width != memory_width:
        raise ValueError(
            f"{attention.kind} attention compares vectors of one width: model.encoder.width is "
            f"{memory_width}, that of {asks} {width}; make them equal or use `general`"
        )
