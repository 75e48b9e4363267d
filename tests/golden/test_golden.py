"""What must not change unnoticed: defaults, help texts, pictures, batch order, generated text, signatures.

Each golden file stands beside this one. After a change that is meant, rewrite them and look at the difference:
NMT_REWRITE_GOLDEN=1 python -m pytest tests/golden && git diff tests/golden
"""

from __future__ import annotations

import hashlib
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from nmt.align.heatmap import draw_heatmap
from nmt.align.maps import AttentionMap
from nmt.cli.main import COMMANDS, load_command, main
from nmt.config import Config
from nmt.data.phrasebook import generate
from nmt.data.plan import plan_epoch
from nmt.evaluate import evaluate
from nmt.settings.load import dump_config
from nmt.text.links import Gold

HERE = Path(__file__).parent
SVG = "{http://www.w3.org/2000/svg}"


def check(name: str, text: str) -> None:
    """`text` is what the golden file `name` holds."""
    path = HERE / name
    if os.environ.get("NMT_REWRITE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    expected = path.read_text(encoding="utf-8") if path.exists() else None
    assert text == expected, (
        f"tests/golden/{name} says otherwise. If the change is meant: "
        "NMT_REWRITE_GOLDEN=1 python -m pytest tests/golden, and commit the file"
    )


def digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def test_defaults() -> None:
    """Every setting with its default; a run that was made with others is not comparable with one made now."""
    check("config.yaml", dump_config(Config()))


def help_of(command: object, name: str) -> str:
    """The help page of a click command, and of its subcommands, 100 columns wide wherever this runs."""
    with command.make_context(  # type: ignore[attr-defined]
        name, [], resilient_parsing=True, terminal_width=100, max_content_width=100
    ) as context:
        text = context.get_help().rstrip() + "\n"
    if name == "nmt":
        return text
    parts = getattr(command, "commands", {})
    return "\n".join([text, *(help_of(part, f"{name} {key}") for key, part in parts.items())])


def test_help() -> None:
    check("help/nmt.txt", help_of(main(), "nmt"))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_command(name: str) -> None:
    check(f"help/{name}.txt", help_of(load_command(name), f"nmt {name}"))


def test_no_help_text_of_a_command_that_is_gone() -> None:
    assert {path.stem for path in (HERE / "help").glob("*.txt")} == {"nmt", *COMMANDS}


def test_heatmap_structure(tmp_path: Path) -> None:
    """Which texts are drawn, in which order, how many cells and outlines; not where, and not the bytes."""
    src, tgt = ["he", "$x_1$", "<b>me</b>"], ["il", "&amp;"]
    weights = np.array([[0.7, 0.2, 0.1], [0.0, 0.4, 0.6]], np.float32)
    path = tmp_path / "map.svg"
    gold = Gold(frozenset({(0, 0)}), frozenset({(0, 0), (2, 1)}))
    draw_heatmap(AttentionMap(src, tgt, weights), path, title="a $title$", gold=gold)
    root = ET.parse(path).getroot()
    texts = list(root.iter(f"{SVG}text"))
    assert [len(node) for node in texts] == [0] * len(texts), "a text with an element inside is markup"
    mesh = next(node for node in root.iter(f"{SVG}g") if node.get("id", "").startswith("QuadMesh"))
    fills = [fill(node) for node in [*mesh.iter(f"{SVG}use"), *mesh.iter(f"{SVG}path")] if fill(node)]
    order = sorted(range(weights.size), key=lambda n: weights.flat[n])
    assert sorted(range(len(fills)), key=lambda n: -brightness(fills[n])) == order, "the more weight, the darker"
    outlines = [node.get("style", "") for node in root.iter(f"{SVG}path") if "#d95f02" in node.get("style", "")]
    lines = [
        *(f"text {''.join(node.itertext()).strip()}" for node in texts),
        f"cells {len(fills)}",
        f"outlines solid {sum('stroke-dasharray' not in style for style in outlines)}",
        f"outlines dotted {sum('stroke-dasharray' in style for style in outlines)}",
    ]
    check("heatmap.txt", "".join(f"{line}\n" for line in lines))


def fill(node: ET.Element) -> str | None:
    found = re.search(r"fill: (#[0-9a-f]{6})", node.get("style", ""))
    return found[1] if found else None


def brightness(color: str) -> int:
    return sum(bytes.fromhex(color.removeprefix("#")))


def test_plan() -> None:
    """Resumed runs rely on the order of batches: if this changes, runs begun before go on with other batches."""
    n = np.arange(2000)
    src, tgt = n * 7919 % 61 + 1, n * 104729 % 53 + 1
    batches = plan_epoch(src, tgt, max_tokens=1024, seed=1, epoch=0)
    lines = [" ".join(map(str, batch)) for batch in batches]
    check("plan.txt", f"batches {len(batches)}\nfirst {lines[0]}\nsha256 {digest(lines)}\n")


def test_phrasebook() -> None:
    """Published results on the phrasebook are of this text."""
    examples = generate("test", 100, seed=1)
    lines = [f"{example.src}\t{example.tgt}\t{example.talp}" for example in examples]
    check("phrasebook.txt", "".join(f"{line}\n" for line in [*lines[:3], f"sha256 {digest(lines)}"]))


def test_signatures() -> None:
    """Scores compare only where signatures agree. The version of sacrebleu, their last field, is left out."""
    scores = evaluate(["a b c d"], [["a b c d"]])
    check("signatures.txt", "".join(f"{s.name} {s.signature.rpartition('|version:')[0]}\n" for s in scores))
