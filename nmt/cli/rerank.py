"""`nmt rerank`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmt.cli.common import Checkpoint, Device, ForceFile, StrictSide, check_direction, load, tracked
from nmt.cli.pairs import readable_lines, told
from nmt.errors import UserError
from nmt.told import say, tell

if TYPE_CHECKING:
    from nmt.rerank import Ranked

WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
"""What --choose compares."""


def rerank(
    run: Annotated[Path, typer.Argument(help="A run of the reverse direction: from the target language.")],
    src: Annotated[Path, typer.Argument(help="The lines that were translated.")],
    nbest: Annotated[Path, typer.Argument(help="Their translations, as `nmt translate --nbest` wrote them.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write here, not to standard output.")] = None,
    weight: Annotated[
        float, typer.Option(min=0.0, max=1e6, help="How much the reverse model says beside the first.")
    ] = 0.2,
    choose: Annotated[
        Path | None,
        typer.Option(metavar="REF", help="Write nothing; compare weights by these references. Use development text."),
    ] = None,
    checkpoint: Checkpoint = "best",
    device: Device = "auto",
    strict: StrictSide = False,
    force: ForceFile = False,
) -> None:
    """Choose among several translations with a model of the reverse direction.

    A translation that leaves something out, or says something else, is one from which the source is hard to guess. This
    takes, for each line, the translation with the highest

      score + weight * log p(line | translation) / tokens of the line

    and writes it, one line in, one line out. `nmt backtranslate` uses such a reverse model, too. A line that is not
    UTF-8, or longer than search.max_source, costs only itself: it keeps its first translation.

    \b
    Example:
      nmt translate runs/en-de dev.en --beam 10 --nbest 10 -o dev.nbest
      nmt rerank runs/de-en dev.en dev.nbest --choose dev.de
      nmt translate runs/en-de test.en --beam 10 --nbest 10 -o test.nbest
      nmt rerank runs/de-en test.en test.nbest --weight 0.3 -o test.de
    """
    from nmt.rerank import best, read_nbest, with_reverse
    from nmt.text.lines import Pair, check_inputs, check_output, open_output, read_lines

    check_inputs(src, choose)
    check_inputs(nbest, record=True)
    if choose is not None and output is not None:
        raise UserError("--choose compares weights and writes nothing: leave out --output, or --choose")
    if output is not None:
        check_output(output, overwrite=force)
    lines = readable_lines(src)
    found = read_nbest(nbest, len(lines))
    references = None if choose is None else list(read_lines(choose))
    if references is not None and len(references) != len(lines):
        raise UserError(f"{choose} has {len(references):,} lines, {src} {len(lines):,}: they must be the same")
    check_direction(run, [n_best[0].text for n_best in found], strict=strict)
    translator = load(run, checkpoint, device, beam=None, overrides=[])
    lines = [told(Pair(n, "", line), src, translator)[1] for n, line in enumerate(lines, start=1)]
    scored = tracked(with_reverse(translator, lines, found), "scoring", sum(map(len, found)))
    ranked = [list(islice(scored, len(n_best))) for n_best in found]
    if references is not None:
        return _compare(ranked, references)
    with open_output(output, overwrite=force) as stream:
        stream.writelines(best(n_best, weight) + "\n" for n_best in ranked)
    changed = sum(best(n_best, weight) != n_best[0].text for n_best in ranked)
    tell(f"{changed:,} of {len(ranked):,} lines have another translation than the first")
    return None


def _compare(ranked: Sequence[Sequence[Ranked]], references: Sequence[str]) -> None:
    """A row for each weight, and how the scores were made."""
    from nmt.evaluate import evaluate
    from nmt.rerank import best

    signatures: dict[str, str] = {}
    for weight in WEIGHTS:
        scores = evaluate([best(n_best, weight) for n_best in ranked], [references], metrics=("bleu", "chrf", "exact"))
        signatures |= {score.name: score.signature for score in scores}
        say(f"--weight {weight:<5}" + "".join(f"  {score.name} {score.value:5.2f}" for score in scores))
    tell(*(f"{name}  {signature}" for name, signature in signatures.items()))
