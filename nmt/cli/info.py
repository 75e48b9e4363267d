"""`nmt info`: what is in a run directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmt.told import say

if TYPE_CHECKING:
    from nmt.config import DecoderConfig, EncoderConfig, ModelConfig
    from nmt.rundir import RunDir


def info(
    run: Annotated[Path, typer.Argument(help="A run directory.", metavar="RUN")],
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Say what is in a run directory: model, size, training so far, score.

    \b
    Example:
      nmt info runs/rnn
    """
    from nmt.rundir import RunDir

    facts = _facts(RunDir(run))
    say(*(json.dumps(facts, indent=1, ensure_ascii=False).split("\n") if as_json else _rows(facts)))


def _facts(run: RunDir) -> dict[str, Any]:
    import torch

    from nmt.align.extract import attentions
    from nmt.models.build import build_model, census

    config = run.config
    run.check_code()
    src, tgt = run.tokenizers()
    model = build_model(config.model, len(src), len(tgt))
    parameters = census(model)
    state = run.progress
    return {
        "run": str(run.path),
        "model": _describe(config.model),
        "parameters": {**parameters, "total": sum(parameters.values())},
        "attentions": attentions(model, torch.device("cpu")),
        "tokenizer": {"kind": config.tokenizer.kind, "joint": src is tgt, "source": len(src), "target": len(tgt)},
        "steps": state.get("step", 0),
        "of": config.train.steps,
        "seconds": round(state.get("seconds", 0.0), 1),
        "tokens": state.get("tokens", 0),
        "metric": config.train.metric,
        "score": state.get("best"),
        "best": run.pointed("best"),
        "last": run.pointed("last"),
        "checkpoints": sorted(path.name for path in run.checkpoints.iterdir() if not path.name.startswith(".")),
        "fingerprint": run.facts.get("fingerprint"),
        "sessions": run.facts.get("sessions", []),
    }


def _describe(model: ModelConfig) -> str:
    encoder, decoder = model.encoder, model.decoder
    parts = [f"{encoder.kind} encoder ({_size(encoder)})", f"{decoder.kind} decoder ({_size(decoder)})"]
    return " + ".join([*parts, f"{model.head.kind} head"])


def _size(part: EncoderConfig | DecoderConfig) -> str:
    from nmt.config import RnnDecoderConfig

    size = f"{part.layers} x {part.width}"
    if part.kind == "transformer":
        return f"{size}, {part.heads} heads, feed-forward {part.feed_forward}, {part.norm}-norm"
    if not isinstance(part, RnnDecoderConfig):
        return f"{size} {part.cell}"
    feeding = ", input feeding" if part.feeds else ""
    attention = "no" if part.attention.kind == "none" else part.attention.kind
    return f"{size} {part.cell}{feeding}, {attention} attention"


def _rows(facts: dict[str, Any]) -> list[str]:
    tokenizer, parameters = facts["tokenizer"], facts["parameters"]
    sizes = ", ".join(f"{part} {count:,}" for part, count in parameters.items() if part != "total")
    shared = "joint" if tokenizer["joint"] else "separate"
    rows = {
        "run": facts["run"],
        "model": facts["model"],
        "parameters": f"{parameters['total']:,} ({sizes})",
        "attentions": ", ".join(facts["attentions"]),
        "tokenizer": f"{tokenizer['kind']}, {shared}: {tokenizer['source']:,} source, {tokenizer['target']:,} target",
        "trained": f"{facts['steps']:,} of {facts['of']:,} steps, {facts['tokens']:,} target tokens, "
        f"{facts['seconds'] / 60:.1f} minutes",
        "best": "no validation yet"
        if facts["score"] is None
        else f"{facts['best']} (best {facts['metric']} of training {facts['score']:.3f})",
        "checkpoints": ", ".join(facts["checkpoints"]),
        "corpus": ", ".join(f"{side} {value}" for side, value in (facts["fingerprint"] or {}).items()),
    }
    return [f"{name:<12} {value}" for name, value in rows.items()]
