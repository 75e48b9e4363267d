"""Settings of the model: attention, encoder, decoder and head."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from nmt.config.base import PositiveInt, Rate, Settings, Small, Weight, Width


class ScoredAttention(Settings):
    """Weights are the softmax of scores."""

    heads: Small = Field(
        1, description="more than one: each scores and weighs projections of its own; must divide both widths"
    )


class DotConfig(ScoredAttention):
    """score = q . k; with one head, query and memory must have one width."""

    kind: Literal["dot"] = "dot"


class ScaledDotConfig(ScoredAttention):
    """score = q . k / sqrt(D)."""

    kind: Literal["scaled_dot"] = "scaled_dot"


class GeneralConfig(ScoredAttention):
    """score = q' W k, the bilinear form."""

    kind: Literal["general"] = "general"


class AdditiveConfig(ScoredAttention):
    """score = v' tanh(W [q;k] + b), a small network."""

    kind: Literal["additive"] = "additive"
    width: Width = 512
    coverage: bool = Field(
        False,
        description="the network hears how much attention a position had so far; so the decoder goes step by step",
    )


class CustomConfig(ScoredAttention):
    """A scorer of your own; see `Add your own` in nmt/README.md."""

    kind: Literal["custom"] = "custom"
    scorer: str = Field(
        "", description="module:Class, importable from the current folder; using the run later needs NMT_TRUST_CODE=1"
    )
    options: dict[str, Any] = Field({}, description="keyword arguments of the class")

    @model_validator(mode="after")
    def _names_a_class(self) -> Self:
        if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", self.scorer):
            found = f"not {self.scorer}" if self.scorer else "and is missing"
            raise ValueError(f"scorer is a class by its import path, like mypackage.mymodule:MyScorer, {found}")
        return self


class NoAttentionConfig(Settings):
    """The bottleneck: all the decoder has of the sentence is the vector it starts from."""

    kind: Literal["none"] = "none"


ScorerConfig = DotConfig | ScaledDotConfig | GeneralConfig | AdditiveConfig | CustomConfig
AttentionConfig = Annotated[ScorerConfig | NoAttentionConfig, Field(discriminator="kind")]


class LastBridge(Settings):
    """Where the encoder's two directions ended; the mean of a transformer's states."""

    kind: Literal["last"] = "last"


class ZeroBridge(Settings):
    """Nothing of the source."""

    kind: Literal["zero"] = "zero"


class SumBridge(Settings):
    """The sum of the encoder's states."""

    kind: Literal["sum"] = "sum"


class MeanBridge(Settings):
    """Their mean."""

    kind: Literal["mean"] = "mean"


class MaxBridge(Settings):
    """The largest value of each feature."""

    kind: Literal["max"] = "max"


class PooledBridge(Settings):
    """Learned vectors v attend to the states x: dot is v'x, bilinear v'Wx, mlp v'tanh(Wx)."""

    kind: Literal["attention"] = "attention"
    score: Literal["dot", "bilinear", "mlp"] = "mlp"
    vectors: Small = Field(1, description="how many, joined")


BridgeConfig = Annotated[
    LastBridge | ZeroBridge | SumBridge | MeanBridge | MaxBridge | PooledBridge, Field(discriminator="kind")
]


class EmbeddingConfig(Settings):
    width: Width = 256
    tie: Literal["none", "decoder", "all"] = Field(
        "decoder",
        description="decoder: target embedding and output layer share weights; all: the source embedding, too "
        "(needs a joint tokenizer)",
    )
    src_vectors: str | None = Field(
        None, description="pretrained vectors of source words to start from: text of word2vec or GloVe, plain or gzip"
    )
    tgt_vectors: str | None = Field(None, description="the same of target words; with tie: all, one of the two is set")
    ngrams: Annotated[int, Field(ge=0, le=2**24)] = Field(
        0,
        description="source words that the vocabulary lacks are read as n-grams of characters, which share so many "
        "vectors, such as 8192; 0: they all look alike (kind: words only)",
    )
    freeze: bool = Field(
        False, description="do not train the tables that start from vectors, words without a vector included"
    )

    @model_validator(mode="after")
    def _vectors_fit(self) -> Self:
        if self.tie == "all" and self.src_vectors is not None and self.tgt_vectors is not None:
            raise ValueError("with tie: all there is one table: drop src_vectors or tgt_vectors")
        if not self.freeze:
            return self
        if self.src_vectors is None and self.tgt_vectors is None:
            raise ValueError(
                "freeze keeps pretrained vectors as they are, but neither src_vectors nor tgt_vectors is set"
            )
        if self.tie == "all" or (self.tie == "decoder" and self.tgt_vectors is not None):
            raise ValueError(
                f"freeze would keep the output layer from learning, too, which with tie: {self.tie} shares the target "
                "table; set tie: none"
            )
        return self

    @property
    def vectors(self) -> list[str]:
        """The files to start from."""
        return [path for path in (self.src_vectors, self.tgt_vectors) if path is not None]


class RnnEncoderConfig(Settings):
    """Bidirectional; each direction has half the width."""

    kind: Literal["rnn"] = "rnn"
    cell: Literal["lstm", "gru", "tanh"] = "lstm"
    layers: Small = 1
    width: Width = 512
    residual: bool = Field(False, description="each layer but the first adds to what it reads; for deep stacks")
    variational: bool = Field(
        False, description="dropout takes one mask for all positions of a sentence (Gal and Ghahramani 2016)"
    )

    @model_validator(mode="after")
    def _two_halves(self) -> Self:
        if self.width % 2:
            raise ValueError(f"width must be even (each direction has half of it), not {self.width}")
        return self


class RnnDecoderConfig(Settings):
    kind: Literal["rnn"] = "rnn"
    cell: Literal["lstm", "gru", "tanh"] = "lstm"
    layers: Small = 1
    width: Width = 512
    residual: bool = Field(False, description="each layer but the first adds to what it reads; for deep stacks")
    variational: bool = Field(
        False, description="dropout takes one mask for all positions of a sentence (Gal and Ghahramani 2016)"
    )
    wiring: Literal["luong", "bahdanau"] = Field(
        "luong",
        description="luong: the state after reading a token asks; bahdanau: the one before asks, and what attention "
        "brings enters the cell",
    )
    input_feeding: bool | None = Field(
        None, description="the attentional state of a step is input of the next; by default so with luong and attention"
    )
    attention: AttentionConfig = AdditiveConfig()
    output: Literal["tanh", "concat"] = Field(
        "tanh", description="what the head sees: tanh(W [context; state]), or [context; state] as it is"
    )
    bridge: BridgeConfig = LastBridge()

    @model_validator(mode="after")
    def _wires_fit(self) -> Self:
        if self.input_feeding and self.wiring == "bahdanau":
            raise ValueError(
                "input_feeding tells the next step what attention brought, but in bahdanau wiring the context does "
                "that: leave it out"
            )
        return self

    @property
    def feeds(self) -> bool:
        """Whether there is input feeding."""
        if self.input_feeding is None:
            return self.wiring == "luong" and self.attention.kind != "none"
        return self.input_feeding


class VocabHeadConfig(Settings):
    """Generates from the target vocabulary."""

    kind: Literal["vocab"] = "vocab"


class TransformerEncoderConfig(Settings):
    """Self-attention and a feed-forward network, `layers` times (Vaswani et al. 2017)."""

    kind: Literal["transformer"] = "transformer"
    layers: Small = 3
    width: Width = Field(256, description="must be that of the embedding")
    heads: Small = Field(4, description="must divide the width")
    feed_forward: Annotated[int, Field(ge=0, le=2**20)] = Field(
        1024, description="width inside the feed-forward network; 0 = there is none"
    )
    attention: Literal["multihead", "basic"] = Field(
        "multihead", description="basic: self-attention without parameters, each token's vector being query, key, value"
    )
    norm: Literal["pre", "post"] = Field(
        "pre", description="normalisation before each part (easier to train) or after it (as in the paper)"
    )
    normalization: Literal["layer", "rms"] = Field("layer", description="layer norm, or its root mean square alone")
    activation: Literal["relu", "gelu", "swiglu"] = Field(
        "relu", description="of the feed-forward network; swiglu has a third matrix"
    )
    bias: bool = Field(True, description="whether linear layers add a bias")
    positions: Literal["sinusoidal", "learned", "alibi", "rotary", "none"] = Field(
        "sinusoidal", description="vectors added to embeddings; biases by distance; turned queries and keys; nothing"
    )
    max_positions: Annotated[int, Field(gt=0, le=2**24)] = Field(
        1024, description="learned positions: those beyond share the last one's vector"
    )
    attention_dropout: Rate = Field(0.1, description="on attention weights")
    activation_dropout: Rate = Field(0.1, description="inside the feed-forward network")

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads cannot share a width of {self.width}: it must be a multiple of heads")
        if self.positions == "rotary" and self.width // self.heads % 2:
            raise ValueError(
                f"rotary positions turn pairs of features, but each of {self.heads} heads has "
                f"{self.width // self.heads}: make width / heads even"
            )
        return self


class TransformerDecoderConfig(TransformerEncoderConfig):
    """Causal self-attention, attention to the source, and a feed-forward network, `layers` times."""


class DecoderPointer(Settings):
    """The decoder's own attention to the source: of an RNN, the one it has; of a transformer, that of a layer."""

    kind: Literal["decoder"] = "decoder"
    layer: PositiveInt | None = Field(None, description="of a transformer; by default the one alignments are read from")
    head: PositiveInt | None = Field(None, description="of a transformer; by default the mean of the layer's heads")


class CopyHeadConfig(Settings):
    """Generates from the target vocabulary or copies a word of the source."""

    kind: Literal["copy"] = "copy"
    gate: Literal["learned", "fixed", "sentinel"] = Field(
        "learned",
        description="who decides between the two: a small network (pointer-generator); nobody, each counts half; one "
        "more slot of the attention",
    )
    attention: Annotated[ScorerConfig | DecoderPointer, Field(discriminator="kind")] = Field(
        DecoderPointer(), description="what points: the decoder's attention, or one of the head's own"
    )

    @model_validator(mode="after")
    def _gate_fits(self) -> Self:
        if self.gate == "sentinel" and self.attention.kind == "decoder":
            raise ValueError(
                "a sentinel is one more slot of the attention that points, and the decoder's has none: give the head "
                "an attention of its own, like attention: {kind: general}"
            )
        return self


EncoderConfig = Annotated[RnnEncoderConfig | TransformerEncoderConfig, Field(discriminator="kind")]
DecoderConfig = Annotated[RnnDecoderConfig | TransformerDecoderConfig, Field(discriminator="kind")]
HeadConfig = Annotated[VocabHeadConfig | CopyHeadConfig, Field(discriminator="kind")]


class ModelConfig(Settings):
    embedding: EmbeddingConfig = EmbeddingConfig()
    encoder: EncoderConfig = RnnEncoderConfig()
    decoder: DecoderConfig = RnnDecoderConfig()
    head: HeadConfig = VocabHeadConfig()
    word_dropout: Rate = Field(0.0, description="share of the words, on either side, that are read as unknown")
    coverage: Weight = Field(
        0.0, description="weight of the coverage loss: what it costs to attend to a source word again"
    )
    guided_alignment: Weight = Field(
        0.0, description="weight of the alignment loss: what it costs to attend elsewhere than data.links say"
    )
    dropout: Rate = Field(
        0.3, description="on embeddings; between recurrent layers, on the attentional state; on each residual branch"
    )

    @property
    def has_lstm(self) -> bool:
        """Whether its encoder or decoder has LSTM layers."""
        return any(part.kind == "rnn" and part.cell == "lstm" for part in (self.encoder, self.decoder))

    @property
    def own_code(self) -> list[str]:
        """Import paths of all classes in it that are not ours."""
        return _own_code(self)

    @model_validator(mode="after")
    def _residuals_fit(self) -> Self:
        for side, part in (("encoder", self.encoder), ("decoder", self.decoder)):
            if part.kind == "transformer" and part.width != self.embedding.width:
                raise ValueError(
                    f"a transformer adds to its embeddings, so {side}.width and embedding.width must be equal, "
                    f"not {part.width} and {self.embedding.width}"
                )
        return self


def _own_code(section: Settings) -> list[str]:
    if isinstance(section, CustomConfig):
        return [section.scorer]
    return [path for _, value in section if isinstance(value, Settings) for path in _own_code(value)]
