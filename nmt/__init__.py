"""Neural machine translation from two text files: train, translate, and see which word came from which."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nmt.version import __version__

if TYPE_CHECKING:
    from nmt.translate import Translator

__all__ = ["__version__", "load"]


def __dir__() -> list[str]:
    return __all__


def load(run: str | Path, *, checkpoint: str = "best", device: str = "auto", trainable: bool = False) -> Translator:
    """The translator in a run directory, ready for raw text. Raises UserError where the directory holds no model.

    With `trainable` its `model` is as training had it, a torch module in float32 that gradients can be had of:

        translator = nmt.load("runs/first", trainable=True)
        losses = translator.model(translator.batch([("A man rides a horse.", "Ein Mann reitet ein Pferd.")]))
        losses.nll.sum().backward()
    """
    from nmt.translate import Translator  # brings torch along, which `nmt --help` does not wait for

    return Translator.load(Path(run), checkpoint=checkpoint, device=device, trainable=trainable)
