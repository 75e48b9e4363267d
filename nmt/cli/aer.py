"""`nmt aer`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nmt.errors import UserError
from nmt.told import say, tell

if TYPE_CHECKING:
    from nmt.text.links import Gold, Size

Which = Literal["hyp", "gold", "both"]


def aer(
    hyp: Annotated[Path, typer.Argument(help="Links to judge, in Pharaoh format; all of them count, sure or not.")],
    gold: Annotated[Path, typer.Argument(help="True links: `0-1` sure, `0?1` or `0p1` possible.")],
    one_based: Annotated[Which | None, typer.Option(help="Which file counts words from 1.")] = None,
    swap: Annotated[Which | None, typer.Option(help="Which file has the target word first.")] = None,
    src: Annotated[Path | None, typer.Option(help="Source lines: check that all linked words exist.")] = None,
    tgt: Annotated[Path | None, typer.Option(help="Target lines, with --src.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Compare word alignments with gold: alignment error rate, precision and recall, in percent.

    With the links A, sure links S and possible links P (S within P), counted over the whole file: precision is
    |A and P| / |A|, recall |A and S| / |S|, AER 1 - (|A and S| + |A and P|) / (|A| + |S|): 0 is best.

    \b
    Examples:
      nmt aer links.talp gold.talp
      nmt aer links.talp gold.talp --one-based gold --src test.en --tgt test.de
    """
    from nmt.align.links import score_links
    from nmt.text.lines import check_inputs
    from nmt.text.links import read_links

    check_inputs(src, tgt)
    check_inputs(hyp, gold, record=True)
    sizes = _sizes(src, tgt)

    def read(path: Path, name: Which) -> list[Gold]:
        return read_links(path, one_based=one_based in (name, "both"), reverse=swap in (name, "both"), sizes=sizes)

    found, true = read(hyp, "hyp"), read(gold, "gold")
    if len(found) != len(true):
        raise UserError(
            f"the files do not match: {hyp} has {len(found)} lines, {gold} has {len(true)}",
            "Line N of both is about sentence pair N; a pair without links has an empty line.",
        )
    score = score_links([sentence.possible for sentence in found], true)
    ratios = ("aer", "precision", "recall", "f1")
    if as_json:
        values = score._asdict()
        say(json.dumps({name: round(100 * values[name], 4) if name in ratios else values[name] for name in values}))
        return
    say(
        f"AER {100 * score.aer:.2f}  precision {100 * score.precision:.2f}  recall {100 * score.recall:.2f}  "
        f"links {score.links:,} (gold: {score.sure:,} sure, {score.possible - score.sure:,} only possible)"
    )


def _sizes(src: Path | None, tgt: Path | None) -> list[Size | None] | None:
    """Words per sentence of two text files; None of a pair with a line that is not text."""
    from nmt.text.lines import Pair, read_parallel

    if src is None and tgt is None:
        return None
    if src is None or tgt is None:
        raise UserError("--src and --tgt go together: one of them is missing")
    sizes: list[Size | None] = []
    for pair in read_parallel(src, tgt, drop_bad=True):
        if not isinstance(pair, Pair):
            tell(f"{pair.reason}: the links of this line are not checked")
        sizes.append((len(pair.src.split()), len(pair.tgt.split())) if isinstance(pair, Pair) else None)
    return sizes
