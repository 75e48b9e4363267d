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
    runs: Annotated[list[Path], typer.Argument(help="Run directories; of several a table.", metavar="RUN...")],
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object; of several runs a list of them.")] = False,
) -> None:
    """Say what is in a run directory: model, size, training so far, score.

    \b
    Examples:
      nmt info runs/rnn
      nmt info runs/*
    """
    from nmt.rundir import RunDir

    facts = [_facts(RunDir(run)) for run in runs]
    if as_json:
        text = json.dumps(facts if len(facts) > 1 else facts[0], indent=1, ensure_ascii=False)
        say(*text.split("\n"))
    else:
        say(*(_table(facts) if len(facts) > 1 else _rows(facts[0])))


def _facts(run: RunDir) -> dict[str, Any]:
    import torch

    from nmt.align.extract import attentions
    from nmt.models.build import build_model, census
    from nmt.train.checkpoint import score_of

    config = run.config
    run.check_code()
    src, tgt = run.tokenizers()
    model = build_model(config.model, len(src), len(tgt))
    parameters = census(model)
    state, best = run.progress, run.pointed("best")
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
        "score": None if best is None else score_of(run, best),
        "best_of_training": state.get("best"),
        "best": best,
        "last": run.pointed("last"),
        "checkpoints": sorted(path.name for path in run.checkpoints.iterdir() if not path.name.startswith(".")),
        "fingerprint": run.facts.get("fingerprint"),
        "sessions": run.facts.get("sessions", []),
    }


def _describe(model: ModelConfig) -> str:
    encoder, decoder, head = model.encoder, model.decoder, model.head
    parts = [f"{encoder.kind} encoder ({_size(encoder)})", f"{decoder.kind} decoder ({_size(decoder)})"]
    pointing = f" ({head.gate} gate, {head.attention.kind} attention)" if head.kind == "copy" else ""
    return " + ".join([*parts, f"{head.kind} head{pointing}"])


def _size(part: EncoderConfig | DecoderConfig) -> str:
    from nmt.config import RnnDecoderConfig

    size = f"{part.layers} x {part.width}"
    if part.kind == "transformer":
        shape = f"{part.heads} heads, feed-forward {part.feed_forward}, {part.norm}-norm"
        return f"{size}, {shape}, {part.positions} positions"
    if not isinstance(part, RnnDecoderConfig):
        return f"{size} {part.cell}"
    wiring = f"{part.wiring} wiring" + (" with input feeding" if part.feeds else "")
    attention = "no" if part.attention.kind == "none" else part.attention.kind
    return f"{size} {part.cell}, {wiring}, {attention} attention, {part.bridge.kind} bridge"


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
        "trained": f"{_trained(facts)}, {facts['tokens']:,} target tokens",
        "best": _best(facts),
        "checkpoints": ", ".join(facts["checkpoints"]),
        # so many digits tell two texts apart; all are in --json
        "corpus": ", ".join(f"{side} {value[:8]}" for side, value in (facts["fingerprint"] or {}).items()),
    }
    return [f"{name:<12} {value}" for name, value in rows.items()]


def _table(runs: list[dict[str, Any]]) -> list[str]:
    head = ["run", "parameters", "trained", "best", "model"]
    rows = [[one["run"], f"{one['parameters']['total']:,}", _trained(one), _best(one), one["model"]] for one in runs]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    aligned = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [head, *rows]]
    return ["  ".join(row).rstrip() for row in aligned]


def _trained(facts: dict[str, Any]) -> str:
    return f"{facts['steps']:,} of {facts['of']:,} steps, {facts['seconds'] / 60:.1f} minutes"


def _best(facts: dict[str, Any]) -> str:
    if facts["best"] is None:
        return "none yet"
    if facts["score"] is not None:
        return f"{facts['best']} (dev {facts['metric']} {facts['score']:.3f})"
    known = facts["best_of_training"]
    return facts["best"] + ("" if known is None else f" (best dev {facts['metric']} of training {known:.3f})")
