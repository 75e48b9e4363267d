"""`nmt prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nmt.told import tell


def prepare(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="The folder to make.")],
    config: Annotated[
        Path | None, typer.Argument(help="A configuration file; the defaults when none is given.")
    ] = None,
    src: Annotated[Path | None, typer.Option(help="Source side of the training text, plain or gzip.")] = None,
    tgt: Annotated[Path | None, typer.Option(help="Target side: line N translates line N of --src.")] = None,
    dev_src: Annotated[
        Path | None, typer.Option(help="Source side of the development text; by default held out of training.")
    ] = None,
    dev_tgt: Annotated[Path | None, typer.Option(help="Target side of the development text.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting.")] = None,
) -> None:
    """Turn text into a tokenizer and a corpus, ahead of training.

    `nmt train` does this by itself. Doing it ahead saves time when several models learn from the same text.

    Further corpora are listed in data.more, each with a weight, which says how often its pairs come while those of
    --src and --tgt come once, and perhaps a tag, a word that is put before its sources (see `nmt backtranslate`). The
    tokenizer is learned from all of them as they are, whatever their weights; development text is held out of --src
    and --tgt.

    \b
    Examples:
      nmt prepare --src train.en --tgt train.de --set tokenizer.size=4000 -o corpora/en-de
      nmt train --set data.prepared=corpora/en-de -o runs/first
      nmt prepare --src train.en --tgt train.de -o corpora/more \\
        --set 'data.more=[{src: web.en, tgt: web.de, weight: 0.5}]'
    """
    from nmt.data.prepare import prepare as prepare_text
    from nmt.settings.load import load_config
    from nmt.settings.paths import check_files
    from nmt.text.documents import check_settings
    from nmt.text.lines import check_inputs

    check_settings(config)
    named = {"src": src, "tgt": tgt, "dev_src": dev_src, "dev_tgt": dev_tgt}
    files = {key: str(path) for key, path in named.items() if path is not None}
    settings = load_config(config, overrides or [], base={"data": files})
    check_files(settings, config)
    check_inputs(*map(Path, settings.data.texts))
    prepare_text(settings, output, report=tell)
    tell(f"prepared: {output}")
