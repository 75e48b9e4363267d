"""`nmt score`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def score(
    run: Annotated[Path, typer.Argument(help="A run directory, made by `nmt train`.")],
    src: Annotated[Path, typer.Argument(help="Source lines.")],
    tgt: Annotated[Path, typer.Argument(help="Their translations, line by line.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write here, not to standard output.")] = None,
    details: Annotated[bool, typer.Option("--details", help="Write a JSON object per line, with each token.")] = False,
    checkpoint: Annotated[str, typer.Option(help="best, last, a step, or a name that `nmt info` lists.")] = "best",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output file.")] = False,
) -> None:
    """Say how probable the model finds translations that are there already.

    Writes a number per line, the natural-log probability of the translation, end of sentence included: the same
    figure as `log_prob` of `nmt translate --details` for the model's own output.

    \b
    Example:
      nmt score runs/first test.en test.de -o test.scores
    """
    from nmt.cli.translate import load
    from nmt.score import score_pairs
    from nmt.text.lines import Pair, open_output, read_parallel

    pairs = [pair for pair in read_parallel(src, tgt) if isinstance(pair, Pair)]
    translator = load(run, checkpoint, device, beam=None, overrides=[])
    with open_output(output, overwrite=force) as stream:
        results = score_pairs(translator, ((p.src, p.tgt) for p in pairs), name=str(src))
        for pair, scores in zip(pairs, results, strict=True):
            if not details:
                stream.write(f"{scores.log_prob:.6f}\n")
                continue
            record = {
                "line": pair.number,
                "log_prob": round(scores.log_prob, 6),
                "tokens": scores.tokens,
                "token_log_probs": [round(p, 6) for p in scores.token_log_probs],
            }
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")
