"""Every setting there is, with its default and its meaning. Frozen: the config that is saved is the one that ran.

Values that come in kinds (a tokenizer, a schedule, an attention) are told apart by their key `kind`.
Reading YAML, overriding and error messages live in `nmt.settings`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, Strict, field_validator, model_validator

PositiveInt = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]


class Settings(BaseModel):
    """Base of all sections: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataConfig(Settings):
    """Which text to learn from. Paths in a file are relative to that file; on the command line, to the folder you
    are in."""

    src: str | None = Field(None, description="source side of the training text, a sentence per line, plain or gzip")
    tgt: str | None = Field(None, description="target side: line N translates line N of src")
    dev_src: str | None = Field(None, description="source side of the development text; by default held out of train")
    dev_tgt: str | None = Field(None, description="target side of the development text")
    prepared: str | None = Field(None, description="a folder made by `nmt prepare`, instead of all the above")
    max_tokens: PositiveInt = Field(4096, description="size of a batch: target tokens, padding included (and source)")
    max_length: PositiveInt = Field(256, description="pairs with more tokens than this on a side are left out")
    bad_lines: Literal["error", "drop"] = Field(
        "error", description="on a line that is not UTF-8: stop, or drop the pair and count it"
    )

    @model_validator(mode="after")
    def _sides_come_in_pairs(self) -> Self:
        if (self.src is None) != (self.tgt is None):
            raise ValueError("src and tgt go together: one of them is missing")
        if (self.dev_src is None) != (self.dev_tgt is None):
            raise ValueError("dev_src and dev_tgt go together: one of them is missing")
        if self.dev_src is not None and self.src is None:
            raise ValueError("dev_src and dev_tgt need src and tgt beside them")
        if self.prepared is not None and self.src is not None:
            raise ValueError("prepared holds the text already: drop it, or drop src and tgt")
        return self


class SentencePieceConfig(Settings):
    """Subword pieces learned from the training text."""

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
    lowercase: bool = False


class CharactersConfig(Settings):
    """Single characters (Unicode code points), the space among them."""

    kind: Literal["characters"] = "characters"
    size: PositiveInt = 10000
    min_count: PositiveInt = 1
    joint: bool = False
    lowercase: bool = False


TokenizerConfig = Annotated[SentencePieceConfig | WordsConfig | CharactersConfig, Field(discriminator="kind")]


class ScoredAttention(Settings):
    """Weights are the softmax of scores."""

    heads: PositiveInt = Field(
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
    width: PositiveInt = 512


class NoAttentionConfig(Settings):
    """The bottleneck: all the decoder has of the sentence is the vector it starts from."""

    kind: Literal["none"] = "none"


ScorerConfig = DotConfig | ScaledDotConfig | GeneralConfig | AdditiveConfig
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
    vectors: PositiveInt = Field(1, description="how many, joined")


BridgeConfig = Annotated[
    LastBridge | ZeroBridge | SumBridge | MeanBridge | MaxBridge | PooledBridge, Field(discriminator="kind")
]


class EmbeddingConfig(Settings):
    width: PositiveInt = 256
    tie: Literal["none", "decoder", "all"] = Field(
        "decoder",
        description="decoder: target embedding and output layer share weights; all: the source embedding, too "
        "(needs a joint tokenizer)",
    )


class RnnEncoderConfig(Settings):
    """Bidirectional; each direction has half the width."""

    kind: Literal["rnn"] = "rnn"
    cell: Literal["lstm", "gru", "tanh"] = "lstm"
    layers: PositiveInt = 1
    width: PositiveInt = 512
    residual: bool = Field(False, description="each layer but the first adds to what it reads; for deep stacks")

    @model_validator(mode="after")
    def _two_halves(self) -> Self:
        if self.width % 2:
            raise ValueError(f"width must be even (each direction has half of it), not {self.width}")
        return self


class RnnDecoderConfig(Settings):
    kind: Literal["rnn"] = "rnn"
    cell: Literal["lstm", "gru", "tanh"] = "lstm"
    layers: PositiveInt = 1
    width: PositiveInt = 512
    residual: bool = Field(False, description="each layer but the first adds to what it reads; for deep stacks")
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
        if self.wiring == "bahdanau" and self.attention.kind == "none":
            raise ValueError("bahdanau wiring feeds what attention brings into the cell: attention cannot be none")
        if self.input_feeding and (self.wiring == "bahdanau" or self.attention.kind == "none"):
            reason = "there is none" if self.attention.kind == "none" else "in bahdanau wiring the context does that"
            raise ValueError(f"input_feeding tells the next step what attention brought, but {reason}: leave it out")
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
    layers: PositiveInt = 3
    width: PositiveInt = Field(256, description="must be that of the embedding")
    heads: PositiveInt = Field(4, description="must divide the width")
    feed_forward: Annotated[int, Field(ge=0)] = Field(
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
    max_positions: PositiveInt = Field(1024, description="learned positions: those beyond share the last one's vector")
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


EncoderConfig = Annotated[RnnEncoderConfig | TransformerEncoderConfig, Field(discriminator="kind")]
DecoderConfig = Annotated[RnnDecoderConfig | TransformerDecoderConfig, Field(discriminator="kind")]
HeadConfig = VocabHeadConfig


class ModelConfig(Settings):
    embedding: EmbeddingConfig = EmbeddingConfig()
    encoder: EncoderConfig = RnnEncoderConfig()
    decoder: DecoderConfig = RnnDecoderConfig()
    head: HeadConfig = VocabHeadConfig()
    word_dropout: Rate = Field(0.0, description="share of the words, on either side, that are read as unknown")
    dropout: Rate = Field(
        0.3, description="on embeddings; between recurrent layers, on the attentional state; on each residual branch"
    )

    @model_validator(mode="after")
    def _residuals_fit(self) -> Self:
        for side, part in (("encoder", self.encoder), ("decoder", self.decoder)):
            if part.kind == "transformer" and part.width != self.embedding.width:
                raise ValueError(
                    f"a transformer adds to its embeddings, so {side}.width and embedding.width must be equal, "
                    f"not {part.width} and {self.embedding.width}"
                )
        return self


class AdamConfig(Settings):
    kind: Literal["adam", "adamw"] = "adam"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    beta1: Rate = 0.9
    beta2: Rate = 0.98
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class ConstantSchedule(Settings):
    """optimizer.lr throughout, after a linear warm-up."""

    kind: Literal["constant"] = "constant"
    warmup: Annotated[int, Field(ge=0)] = 0


class InverseSqrtSchedule(Settings):
    """Linear warm-up to optimizer.lr, then lr * sqrt(warmup / step)."""

    kind: Literal["inverse_sqrt"] = "inverse_sqrt"
    warmup: PositiveInt = 2000


class NoamSchedule(Settings):
    """optimizer.lr * width**-0.5 * min(step**-0.5, step * warmup**-1.5) (Vaswani et al. 2017, equation 3).

    There optimizer.lr is 1.0; with the default of 0.001 nothing would be learned.
    """

    kind: Literal["noam"] = "noam"
    warmup: PositiveInt = 4000
    width: PositiveInt = 512


class PlateauSchedule(Settings):
    """optimizer.lr, times `factor` whenever the development score has not improved for `patience` validations."""

    kind: Literal["plateau"] = "plateau"
    warmup: Annotated[int, Field(ge=0)] = 0
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    patience: PositiveInt = 2


ScheduleConfig = Annotated[
    ConstantSchedule | InverseSqrtSchedule | NoamSchedule | PlateauSchedule, Field(discriminator="kind")
]


class AverageConfig(Settings):
    """At the end, average the weights of some checkpoints and keep the average if it scores better on dev."""

    which: Literal["last", "best"] = "best"
    count: PositiveInt = 5


class TrainConfig(Settings):
    steps: PositiveInt = Field(10000, description="updates of the weights")
    optimizer: AdamConfig = AdamConfig()
    schedule: ScheduleConfig = InverseSqrtSchedule()
    clip: Annotated[float, Field(ge=0)] = Field(1.0, description="largest gradient norm; 0 = no clipping")
    accumulate: PositiveInt = Field(1, description="batches per update")
    label_smoothing: Rate = 0.1
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of matrix products; auto takes what this machine is fast at"
    )
    seed: Annotated[int, Field(ge=0)] = 1
    log_every: PositiveInt = 50
    validate_every: PositiveInt = 500
    metric: Literal["bleu", "chrf", "loss"] = Field("bleu", description="the development score that chooses `best`")
    patience: PositiveInt | None = Field(None, description="stop after so many validations without a better score")
    samples: Annotated[int, Field(ge=0)] = Field(4, description="translations shown at each validation")
    keep: PositiveInt = Field(5, description="checkpoints kept: so many of the last and so many of the best")
    average: AverageConfig | None = AverageConfig()

    @model_validator(mode="after")
    def _enough_are_kept(self) -> Self:
        if self.average is not None and self.average.count > self.keep:
            raise ValueError(f"average.count is {self.average.count}, but only keep: {self.keep} checkpoints are kept")
        return self


class SearchConfig(Settings):
    beam: PositiveInt = Field(5, description="hypotheses kept per sentence; 1 = greedy")
    length_penalty: Annotated[float, Field(ge=0)] = Field(
        1.0, description="log-probability is divided by length ** length_penalty"
    )
    max_ratio: Annotated[float, Field(gt=0)] = Field(2.0, description="longest output: max_ratio * source + max_extra")
    max_extra: PositiveInt = 10
    max_tokens: PositiveInt = Field(8192, description="size of a batch: source tokens times beams, padding included")
    max_source: PositiveInt = Field(1024, description="longer lines are not translated (an empty line and a message)")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "float32", description="of the weights in search; bfloat16 is faster where the machine is, and rounds scores"
    )


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
    def _parts_fit(self) -> Self:
        if self.model.embedding.tie == "all" and not self.tokenizer.joint:
            raise ValueError("model.embedding.tie: all shares one embedding, so it needs tokenizer.joint: true")
        if self.model.decoder.kind == "rnn":
            _check_attention(self.model.decoder, self.model.encoder.width)
        return self


def _check_attention(decoder: RnnDecoderConfig, memory_width: int) -> None:
    attention = decoder.attention
    if attention.kind == "none":
        return
    for side, width in (("encoder", memory_width), ("decoder", decoder.width)):
        if width % attention.heads:
            raise ValueError(
                f"model.decoder.attention.heads: {attention.heads} heads cannot share model.{side}.width: {width}; "
                "it must be a multiple"
            )
    if attention.kind in ("dot", "scaled_dot") and attention.heads == 1 and decoder.width != memory_width:
        raise ValueError(
            f"{attention.kind} attention compares vectors of one width: model.encoder.width is "
            f"{memory_width}, model.decoder.width {decoder.width}; make them equal or use `general`"
        )
