"""`nmt score`."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmt.cli.common import Checkpoint, Device, ForceFile, SearchSettings, load
from nmt.errors import UserError
from nmt.told import tell

if TYPE_CHECKING:
    from nmt.score import PairScore
    from nmt.text.lines import Pair
    from nmt.translate import Translator

COUNTED = ("coverage_penalty", "length_penalty", "max_source", "max_tokens", "precision")
"""Settings of search that mean something where nothing is searched for."""


def score(
    run: Annotated[Path, typer.Argument(help="A run directory, made by `nmt train`.")],
    src: Annotated[Path, typer.Argument(help="Source lines.")],
    tgt: Annotated[Path, typer.Argument(help="Their translations, line by line.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write here, not to standard output.")] = None,
    details: Annotated[bool, typer.Option("--details", help="Write a JSON object per line, with each token.")] = False,
    as_written: Annotated[
        bool,
        typer.Option("--as-written", help="TGT is what `nmt translate --details` wrote: score its tokens as they are."),
    ] = False,
    ensemble: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN2", help="Average probabilities with those of this run; may be repeated."),
    ] = None,
    checkpoint: Checkpoint = "best",
    device: Device = "auto",
    overrides: SearchSettings = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 2 if any pair could not be scored.")] = False,
    force: ForceFile = False,
) -> None:
    """Say how probable the model finds translations that are there already.

    Writes a number per line, the natural-log probability of the translation, end of sentence included. It is of the
    tokens that its text is cut into. A model may have written the same text in other subwords; with --as-written they
    are read, and the figure is `log_prob` of `nmt translate --details`, as `score` there is `score` here. Figures are
    over the whole vocabulary: those of a translation made with a shortlist were higher.

    A pair with an empty source, or a line that is not UTF-8 or longer than search.max_source, becomes an empty line
    and a message with its number; all others are scored.

    \b
    Examples:
      nmt score runs/first test.en test.de -o test.scores
      nmt score runs/first test.en test.de --ensemble runs/second --details
      nmt score runs/first test.en output.jsonl --as-written
    """
    from nmt.score import score_pairs
    from nmt.text.lines import BadPair, Pair, check_inputs, is_stdin, open_output, read_parallel

    check_inputs(src, None if as_written and not is_stdin(tgt) else tgt)
    check_inputs(tgt, record=True)
    translator = _load(run, ensemble or [], checkpoint, device, overrides or [])
    problems = 0
    with open_output(output, overwrite=force) as stream:
        pairs, again = itertools.tee(read_parallel(src, tgt, drop_bad=True, tgt_record=as_written))
        texts = (
            (pair.src, _tokens(tgt, pair) if as_written else pair.tgt) if isinstance(pair, Pair) else ("", "")
            for pair in again
        )
        for pair, result in zip(pairs, score_pairs(translator, texts), strict=True):
            if isinstance(pair, BadPair):
                result = result._replace(problem=pair.reason)
            if result.problem is not None:
                problems += 1
                place = f"{src}, line {pair.number}: left empty: " if isinstance(pair, Pair) else "left empty: "
                tell(place + result.problem)
            stream.write(_record(result, pair.number) if details else _text(result))
    if problems and strict:
        raise UserError(f"{problems} of the pairs could not be scored (see above)")


def _load(run: Path, ensemble: list[Path], checkpoint: str, device: str, overrides: list[str]) -> Translator:

    for override in overrides:
        section, _, name = override.partition("=")[0].partition(".")
        if section != "search" or name.partition(".")[0] not in COUNTED:
            raise UserError(
                f"--set {override}: this changes nothing, as nothing is searched for here",
                f"What counts is search.{', search.'.join(COUNTED)}.",
            )
    return load(run, checkpoint, device, beam=None, overrides=overrides, others=ensemble)


def _tokens(path: Path, pair: Pair) -> list[str]:
    """Those of the best candidate; none where nothing was translated."""
    try:
        return [str(token) for candidate in json.loads(pair.tgt)["candidates"][:1] for token in candidate["tokens"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}, line {pair.number}: not what `nmt translate --details` writes") from error


def _text(result: PairScore) -> str:
    return f"{result.log_prob:.6f}\n" if result.problem is None else "\n"


def _record(result: PairScore, number: int) -> str:
    scored = result.problem is None
    record = {
        "line": number,
        "problem": result.problem,
        "score": round(result.score, 6) if scored else None,
        "log_prob": round(result.log_prob, 6) if scored else None,
        "tokens": result.tokens,
        "token_log_probs": [round(p, 6) for p in result.token_log_probs],
    }
    return json.dumps(record, ensure_ascii=False) + "\n"
