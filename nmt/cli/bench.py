"""`nmt bench train` and `nmt bench decode`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmt.cli.common import Device
from nmt.cli.main import CONTEXT
from nmt.told import say

if TYPE_CHECKING:
    from nmt.bench import Speed

bench = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    context_settings=CONTEXT,
    help="Measure the speed of training and translating on this machine, with random text.\n\n"
    "Let nothing else run meanwhile; figures of different hours differ by a third.",
)

ConfigFile = Annotated[Path | None, typer.Argument(help="A configuration file; the defaults when none is given.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting.")]
Vocabulary = Annotated[int, typer.Option(min=10, help="Size of both vocabularies.")]
Length = Annotated[int, typer.Option(min=1, help="Tokens of each sentence.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON object.")]


@bench.command("train", context_settings=CONTEXT)
def train(
    config: ConfigFile = None,
    overrides: Overrides = None,
    vocabulary: Vocabulary = 8000,
    length: Length = 14,
    steps: Annotated[int, typer.Option(min=1, help="Updates to time, after 3 of warm-up.")] = 10,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Time updates of the weights: target tokens per second, and the share of this machine's matrix peak, by part.

    \b
    Example:
      nmt bench train recipes/multi30k/rnn.yaml --set train.precision=float32
    """
    from nmt.bench import bench_train
    from nmt.device import resolve_device
    from nmt.settings.load import load_config

    settings = load_config(config, overrides or [])
    speed = bench_train(settings, vocabulary=vocabulary, length=length, steps=steps, device=resolve_device(device))
    _show(speed, as_json)


@bench.command("decode", context_settings=CONTEXT)
def decode(
    config: ConfigFile = None,
    overrides: Overrides = None,
    vocabulary: Vocabulary = 8000,
    length: Length = 14,
    steps: Annotated[int, typer.Option(min=1, help="Tokens each output has, exactly.")] = 16,
    sentences: Annotated[int, typer.Option(min=1, help="Sentences searched at once.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, help="Searches to time, after 1 of warm-up.")] = 5,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Time beam search: sentences per second, and the share of this machine's matrix peak, by part.

    \b
    Example:
      nmt bench decode recipes/multi30k/rnn.yaml --set search.precision=bfloat16
    """
    from nmt.bench import bench_decode
    from nmt.device import resolve_device
    from nmt.settings.load import load_config

    settings = load_config(config, overrides or [])
    speed = bench_decode(
        settings,
        vocabulary=vocabulary,
        length=length,
        steps=steps,
        sentences=sentences,
        repeats=repeats,
        device=resolve_device(device),
    )
    _show(speed, as_json)


def _show(speed: Speed, as_json: bool) -> None:
    if as_json:
        parts = {name: part._asdict() for name, part in speed.parts.items()}
        say(json.dumps({**speed._asdict(), "parts": parts}))
        return
    say(f"{speed.rate:,.0f} {speed.unit} ({speed.precision})")
    say(f"{speed.seconds * 1e3:,.1f} ms each, median; slowest / fastest {speed.spread:.2f}")
    each = speed.unit.removesuffix("s/s")
    say(f"{speed.work / 1e6:,.1f} MFLOP of the model per {each}, {speed.flops / 1e9:,.1f} GFLOP/s,")
    measured = f"measured here just before ({speed.peak / 1e9:,.0f} GFLOP/s)"
    say(f"{speed.flops / speed.peak:.0%} of the matrix peak {measured}", "")
    say(f"{'part':<12}{'time':>6}{'ms':>10}{'GFLOP/s':>10}{'of peak':>9}")
    for name, part in speed.parts.items():
        line = f"{name:<12}{part.share:>6.0%}{part.seconds * 1e3:>10,.2f}"
        if part.flops is not None:
            line += f"{part.flops / 1e9:>10,.1f}{part.peak_share:>9.0%}"
        say(line)
    say(f"bounded by {speed.bound}")
    say("Parts were timed in a second pass, which waits for the device around each of them.")
