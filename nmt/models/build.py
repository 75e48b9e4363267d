"""From settings to modules: one explicit place."""

from __future__ import annotations

from typing import Any, TypeVar, assert_never

from torch import nn

from nmt.config import (
    CopyHeadConfig,
    DecoderPointer,
    EncoderConfig,
    ModelConfig,
    RnnDecoderConfig,
    RnnEncoderConfig,
    TransformerDecoderConfig,
    TransformerEncoderConfig,
    VocabHeadConfig,
)
from nmt.errors import UserError
from nmt.limits import enough_memory
from nmt.models.attention import build_attention
from nmt.models.heads import CopyHead, VocabHead
from nmt.models.interface import Decoder, Encoder, Head
from nmt.models.layers import TokenEmbedding, embedding_table
from nmt.models.rnn import RnnDecoder, RnnEncoder
from nmt.models.seq2seq import Seq2Seq
from nmt.models.transformer import TransformerDecoder, TransformerEncoder

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@enough_memory(
    "while making the model",
    "Take a smaller one: model.embedding.width, width and layers of encoder and decoder, tokenizer.size.",
)
def build_model(config: ModelConfig, src_size: int, tgt_size: int) -> Seq2Seq:
    """The model of `config` for vocabularies of `src_size` and `tgt_size`, with fresh weights."""
    tie, width = config.embedding.tie, config.embedding.width
    tgt_table = embedding_table(tgt_size, width)
    src_table = tgt_table if tie == "all" else embedding_table(src_size, width)
    drop = (config.dropout, config.word_dropout)
    src_embedding = TokenEmbedding(src_table, *drop, ngrams=config.embedding.ngrams)
    tgt_embedding = TokenEmbedding(tgt_table, *drop)
    encoder = build_encoder(config.encoder, src_embedding, config.dropout)
    decoder = build_decoder(config, tgt_embedding)
    vocabulary = VocabHead(decoder.width, tgt_size, None if tie == "none" else tgt_table)
    head = build_head(config, vocabulary, decoder.width)
    return Seq2Seq(encoder, decoder, head, config.coverage, config.guided_alignment)


def build_encoder(config: EncoderConfig, embedding: TokenEmbedding, dropout: float) -> Encoder:
    match config:
        case RnnEncoderConfig():
            return RnnEncoder(config, embedding, dropout)
        case TransformerEncoderConfig():
            return initialised(TransformerEncoder(config, embedding, dropout))
        case _:
            assert_never(config)


def build_decoder(config: ModelConfig, embedding: TokenEmbedding) -> Decoder[Any]:
    decoder, memory_width, dropout = config.decoder, config.encoder.width, config.dropout
    match decoder:
        case RnnDecoderConfig():
            return RnnDecoder(decoder, embedding, memory_width, dropout)
        case TransformerDecoderConfig():
            pointer = DecoderPointer() if config.coverage else None
            if config.guided_alignment:
                pointer = DecoderPointer(head=1)  # the others stay free to look elsewhere (Garg et al. 2019)
            if isinstance(config.head, CopyHeadConfig) and isinstance(config.head.attention, DecoderPointer):
                pointer = config.head.attention
            guided = config.guided_alignment > 0
            return initialised(TransformerDecoder(decoder, embedding, memory_width, dropout, pointer, guided=guided))
        case _:
            assert_never(decoder)


def build_head(config: ModelConfig, vocabulary: VocabHead, width: int) -> Head:
    """`width` is that of what the decoder says."""
    head, memory_width = config.head, config.encoder.width
    match head:
        case VocabHeadConfig():
            return vocabulary
        case CopyHeadConfig():
            pointer = None
            if not isinstance(head.attention, DecoderPointer):
                pointer = build_attention(head.attention, width, memory_width, "head.copy")
                if pointer.scorer.uses_history:
                    raise UserError(
                        "model.head.attention: its scorer uses history, but a head sees the whole target at once",
                        "set it in model.decoder.attention, and let the head point with that",
                    )
            gate_width = width + memory_width + config.embedding.width
            return CopyHead(vocabulary, pointer, head.gate, gate_width=gate_width, memory_width=memory_width)
        case _:
            assert_never(head)


def initialised(module: ModuleT) -> ModuleT:
    """Glorot's uniform weights in all linear layers (Glorot and Bengio 2010), biases 0, as transformers want it."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return module


def census(model: Seq2Seq) -> dict[str, int]:
    """Parameters by part; a shared tensor counts once, as an embedding."""
    seen: set[int] = set()

    def count(parameters: list[nn.Parameter]) -> int:
        new = {id(p): p.numel() for p in parameters if id(p) not in seen}
        seen.update(new)
        return sum(new.values())

    tables = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    return {
        "embeddings": count([p for table in tables for p in table.parameters()]),
        "encoder": count(list(model.encoder.parameters())),
        "decoder": count(list(model.decoder.parameters())),
        "head": count(list(model.head.parameters())),
    }
