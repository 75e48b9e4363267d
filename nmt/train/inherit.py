"""What a new run takes from another one: parts of its weights, and the settings that come with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from nmt.config import Config

PARTS = {"embeddings": "embedding", "encoder": "encoder", "decoder": "decoder", "head": "head"}
"""Parts of a model that another run may give, and the sections of `model` that come with them."""

FREE = frozenset(
    {
        "dropout",
        "word_dropout",
        "attention_dropout",
        "activation_dropout",
        "variational",
        "coverage",
        "guided_alignment",
        "freeze",
        "input_feeding",  # null stands for a default; another one has other shapes
        "src_vectors",  # these have a check of their own
        "tgt_vectors",
    }
)
"""Keys of `model` that say how it learns, not what its weights mean: they may be others."""


def may_differ(key: str) -> bool:
    """Whether a setting, a dotted key, may be another than that of the run whose weights are taken."""
    section, _, rest = key.partition(".")
    return section not in ("model", "tokenizer") or rest.rpartition(".")[2] in FREE


def takes_vocabulary(parts: Collection[str]) -> bool:
    """Whether something among the parts has a row for each token, so that the tokenizers come, too."""
    return "embeddings" in parts or "head" in parts


def inherited(other: Config, parts: Collection[str]) -> dict[str, Any]:
    """What holds where the user says nothing: model and tokenizer of the other run."""
    settings = other.model_dump(include={"model", "tokenizer"})
    if "embeddings" not in parts:  # new ones may start from vectors, but not from those of another text
        settings["model"]["embedding"] |= {"src_vectors": None, "tgt_vectors": None, "freeze": False}
    return settings


def settled(other: Config, parts: Collection[str]) -> dict[str, Any]:
    """As much of it as the weights decide: who says otherwise is contradicted."""
    settings = inherited(other, parts)
    model = settings["model"]
    if set(parts) != set(PARTS):
        model = {section: model[section] for part, section in PARTS.items() if part in parts}
    return {"model": _without_free(model)} | ({"tokenizer": settings["tokenizer"]} if takes_vocabulary(parts) else {})


def advice(run: Path, parts: Collection[str]) -> str:
    """What to do when settings and weights contradict each other."""
    taken = "the model and the tokenizer" if set(parts) == set(PARTS) else f"what belongs to its {', '.join(parts)}"
    return (
        f"with --init-from, {taken} is that of {run}: leave these out, or take less of it, such as "
        "--parts encoder,decoder (of embeddings,encoder,decoder,head)"
    )


def _without_free(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_free(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if key not in FREE
    }
