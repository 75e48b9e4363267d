"""Every model we ship, tiny. A new one joins by one line and inherits every law."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from nmt.config import (
    AdditiveConfig,
    AveragePenalty,
    Config,
    CopyHeadConfig,
    DecoderPointer,
    DotConfig,
    EmbeddingConfig,
    GeneralConfig,
    MaxBridge,
    MeanBridge,
    ModelConfig,
    NoAttentionConfig,
    PooledBridge,
    RnnDecoderConfig,
    RnnEncoderConfig,
    ScaledDotConfig,
    SearchConfig,
    TransformerDecoderConfig,
    TransformerEncoderConfig,
    WordsConfig,
    ZeroBridge,
)
from nmt.data import batch as data_batch
from nmt.data.batch import EOS, Batch, pad
from nmt.data.spelling import collate_spelled
from nmt.models.build import build_model
from nmt.models.seq2seq import Seq2Seq
from nmt.rundir import MODEL, RunDir, distinct_tensors, save_tensors
from nmt.search.penalty import length_penalty
from nmt.text.tokenizer import WordTokenizer

SRC_SIZE, TGT_SIZE = 19, 19
KNOWN = 16
"""Source tokens from this id on are words that the target vocabulary lacks; those below have the same id there."""


def rnn(cell="lstm", layers=1, feeding=False, attention=None, tie="decoder", **decoder):
    return ModelConfig(
        embedding=EmbeddingConfig(width=12, tie=tie),
        encoder=RnnEncoderConfig(cell=cell, layers=layers, width=16, residual=decoder.get("residual", False)),
        decoder=RnnDecoderConfig(
            cell=cell,
            layers=layers,
            width=16,
            input_feeding=feeding,
            attention=attention or AdditiveConfig(width=8),
            **decoder,
        ),
        dropout=0.1,
    )


SIZES = {"layers": 2, "width": 16, "heads": 2, "feed_forward": 24}


def transformer(tie="decoder", encoder=None, decoder=None, **settings):
    return ModelConfig(
        embedding=EmbeddingConfig(width=16, tie=tie),
        encoder=encoder or TransformerEncoderConfig(**SIZES, **settings),
        decoder=decoder or TransformerDecoderConfig(**SIZES, **settings),
        dropout=0.1,
    )


def spelling(config):
    return config.model_copy(update={"embedding": config.embedding.model_copy(update={"ngrams": 50})})


def copying(config, **head):
    return config.model_copy(update={"head": CopyHeadConfig(**head)})


ZOO: dict[str, ModelConfig] = {
    "lstm": rnn(),
    "lstm-feeding": rnn(feeding=True, tie="none"),
    "lstm-deep-feeding": rnn(layers=2, feeding=True, tie="all"),
    "gru": rnn(cell="gru"),
    "gru-deep": rnn(cell="gru", layers=3),
    "gru-feeding": rnn(cell="gru", feeding=True),
    "dot": rnn(attention=DotConfig()),
    "scaled-dot": rnn(attention=ScaledDotConfig(), feeding=True),
    "general": rnn(attention=GeneralConfig()),
    "additive-heads": rnn(attention=AdditiveConfig(width=8, heads=2), feeding=True),
    "dot-heads": rnn(attention=DotConfig(heads=4)),
    "bottleneck": rnn(attention=NoAttentionConfig(), bridge=PooledBridge(vectors=2)),
    "bahdanau": rnn(wiring="bahdanau", bridge=MeanBridge()),
    "tanh-residual": rnn(cell="tanh", layers=3, residual=True, bridge=MaxBridge()),
    "concat-feeding": rnn(cell="gru", layers=2, residual=True, feeding=True, output="concat", bridge=ZeroBridge()),
    "coverage": rnn(attention=AdditiveConfig(width=8, coverage=True)),
    "coverage-heads": rnn(
        layers=2, cell="gru", feeding=True, attention=AdditiveConfig(width=8, coverage=True, heads=2)
    ),
    "coverage-bahdanau": rnn(wiring="bahdanau", feeding=None, attention=AdditiveConfig(width=8, coverage=True)),
    "variational": rnn(layers=2, feeding=True, variational=True),
    "transformer": transformer(),
    "transformer-post": transformer(tie="all", norm="post", positions="learned"),
    "transformer-alibi": transformer(positions="alibi", normalization="rms", activation="swiglu", bias=False),
    "transformer-rotary": transformer(positions="rotary", activation="gelu", norm="post"),
    "transformer-basic": transformer(positions="none", attention="basic"),
    "transformer-to-lstm": transformer(decoder=rnn(feeding=True).decoder),
    "gru-to-transformer": transformer(tie="none", encoder=rnn(cell="gru").encoder),
    "copy": copying(rnn(feeding=True)),
    "copy-fixed": copying(rnn(cell="gru"), gate="fixed", attention=GeneralConfig()),
    "copy-sentinel": copying(rnn(tie="none"), gate="sentinel", attention=AdditiveConfig(width=8)),
    "copy-bottleneck": copying(rnn(attention=NoAttentionConfig()), attention=GeneralConfig()),
    "copy-transformer": copying(transformer(), attention=DecoderPointer(layer=2, head=1)),
    "copy-transformer-mean": copying(transformer(tie="none", norm="post"), gate="learned"),
    "copy-transformer-own": copying(transformer(), gate="sentinel", attention=ScaledDotConfig()),
    "copy-ngrams": spelling(copying(rnn(feeding=True, tie="all"))),
    "transformer-ngrams": spelling(transformer()),
}

each_model = pytest.mark.parametrize("name", ZOO)
"""Runs a law for every member: `@each_model` above `def test_law(name)`."""


ROOM = {"width": 64, "feed_forward": 128, "attention_dropout": 0.0, "activation_dropout": 0.0}


def widened(config):
    """The zoo member with room to learn: the zoo is sized for laws, not for memory."""

    def roomy(part):
        return part.model_copy(update={key: value for key, value in ROOM.items() if key in type(part).model_fields})

    parts = {"embedding": roomy(config.embedding), "encoder": roomy(config.encoder), "decoder": roomy(config.decoder)}
    return config.model_copy(update={**parts, "dropout": 0.0})


def attends(name: str) -> bool:
    """Whether something in its decoder looks at the source."""
    return getattr(ZOO[name].decoder, "attention", None) != NoAttentionConfig()


each_attentive = pytest.mark.parametrize("name", [name for name in ZOO if attends(name)])
"""The same for those that have attention between source and target."""


def build(name: str, seed: int = 1) -> Seq2Seq:
    """The named model with weights large enough that attention and outputs are far from uniform; eval mode."""
    torch.manual_seed(seed)
    model = build_model(ZOO[name], SRC_SIZE, TGT_SIZE).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:  # gains of norms stay: they would multiply up rounding errors, too
                parameter.mul_(2.0)
    return model


def sentences(count: int, seed: int = 1, shortest: int = 1, longest: int = 7, size: int = SRC_SIZE) -> list[list[int]]:
    draw = random.Random(seed)
    return [[draw.randrange(4, size) for _ in range(draw.randint(shortest, longest))] for _ in range(count)]


def collate(src: list[list[int]], tgt: list[list[int]] | None = None) -> Batch:
    """A batch whose sources have words to copy, and to spell, for the models that do."""
    copies, extras = [], 0
    for sentence in src:
        unknown = dict.fromkeys(token for token in sentence if token >= KNOWN)
        ids = {token: TGT_SIZE + n for n, token in enumerate(unknown)}
        copies.append([*(ids.get(token, token) for token in sentence), EOS])
        extras = max(extras, len(unknown))
    batch = data_batch.collate(src, tgt)
    unknown = [{n: f"w{token}" for n, token in enumerate(sentence) if token >= KNOWN} for sentence in src]
    spelled = collate_spelled(unknown, batch.src.ids.shape[1])
    return batch._replace(src=batch.src._replace(spelled=spelled), copy_ids=pad(copies).ids, extras=extras)


def batch(count: int = 5, seed: int = 1) -> Batch:
    """Pairs of different lengths, so that both sides have padding."""
    return collate(sentences(count, seed), sentences(count, seed + 100))


WORDS = [f"w{n}" for n in range(SRC_SIZE - 4)]
"""The vocabulary, on both sides, of the runs that `write_run` makes."""


def write_run(path: Path, name: str, *, seed: int = 1, search: SearchConfig | None = None) -> RunDir:
    """A run directory with the model `build(name, seed)`, as training would have left it."""
    words = WordsConfig(joint=ZOO[name].embedding.tie == "all")
    config = Config(tokenizer=words, model=ZOO[name], search=search or SearchConfig())
    tokenizer = WordTokenizer(WORDS, words)
    run = RunDir.create(path, config, (tokenizer, tokenizer))
    (run.checkpoints / "step-00000001").mkdir()
    save_tensors(run.checkpoints / "step-00000001" / MODEL, distinct_tensors(build(name, seed)))
    run.point("best", "step-00000001")
    return run


MEAN = length_penalty(AveragePenalty())
"""Hypotheses are compared by the mean of their tokens' log-probabilities."""
