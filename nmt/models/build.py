"""From settings to modules: one explicit place."""

from __future__ import annotations

from torch import nn

from nmt.config import ModelConfig
from nmt.models.heads import VocabHead
from nmt.models.layers import TokenEmbedding, embedding_table
from nmt.models.rnn import RnnDecoder, RnnEncoder
from nmt.models.seq2seq import Seq2Seq


def build_model(config: ModelConfig, src_size: int, tgt_size: int) -> Seq2Seq:
    """The model of `config` for vocabularies of `src_size` and `tgt_size`, with fresh weights."""
    tie, width = config.embedding.tie, config.embedding.width
    tgt_table = embedding_table(tgt_size, width)
    src_table = tgt_table if tie == "all" else embedding_table(src_size, width)
    encoder = RnnEncoder(config.encoder, TokenEmbedding(src_table, config.dropout), config.dropout)
    tgt_embedding = TokenEmbedding(tgt_table, config.dropout)
    decoder = RnnDecoder(config.decoder, tgt_embedding, config.encoder.width, config.dropout)
    head = VocabHead(config.decoder.width, tgt_size, None if tie == "none" else tgt_table)
    return Seq2Seq(encoder, decoder, head)


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
