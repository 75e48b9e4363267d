"""Embeddings that start from word vectors of a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from nmt.config import EmbeddingConfig
from nmt.data.prepare import Prepared
from nmt.models.seq2seq import Seq2Seq
from nmt.text.vectors import read_vectors
from nmt.train.metrics import Console


def pretrained_tables(model: Seq2Seq, config: EmbeddingConfig) -> list[tuple[nn.Embedding, Path, Sequence[str]]]:
    """The tables that start from vectors, the files these come from, and the sides of the text a table is for."""
    found: list[tuple[nn.Embedding, Path, Sequence[str]]] = []
    for side, part, name in (("src", model.encoder, config.src_vectors), ("tgt", model.decoder, config.tgt_vectors)):
        if name is not None:
            table = part.get_submodule("embedding.table")
            assert isinstance(table, nn.Embedding)
            found.append((table, Path(name), ("src", "tgt") if config.tie == "all" else (side,)))
    return found


def start_from_vectors(
    table: nn.Embedding, path: Path, prepared: Prepared, sides: Sequence[str], console: Console
) -> None:
    """Puts the vectors of a file into a table, and says how many words have one."""
    tokenizer, corpus = prepared.tokenizers[sides[0] == "tgt"], prepared.train
    vectors = read_vectors(path, tokenizer, table.embedding_dim)
    found = torch.from_numpy(vectors.found).to(table.weight.device)
    with torch.no_grad():
        table.weight[found] = torch.from_numpy(vectors.values).to(table.weight)[found]
    read = {"src": corpus.src, "tgt": corpus.tgt}
    coverage = vectors.coverage(read[side](i) for side in sides for i in range(len(corpus)))
    console.say(f"{path.name}: {coverage}")
