"""Layers that PyTorch's compiler fuses: fewer passes over memory, for some minutes before the first update.

Layers are compiled one by one, for any shape, so that all of a kind share their code; search and validation do without.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from contextlib import AbstractContextManager

import torch

from nmt.errors import UserError
from nmt.models.seq2seq import Seq2Seq


def check_compiler(device: torch.device) -> None:
    """UserError where PyTorch lacks what `train.compile` needs on this device."""
    match device.type:
        case "cuda":
            if importlib.util.find_spec("triton") is None:
                raise UserError("train.compile needs triton on a GPU", "install it, or set train.compile: false")
        case "cpu":
            names = (os.environ["CXX"],) if "CXX" in os.environ else ("g++", "clang++")
            if not any(map(shutil.which, names)):
                raise UserError(
                    f"train.compile needs a C++ compiler ({' or '.join(names)})",
                    "install it, or set train.compile: false",
                )
        case other:
            raise UserError(f"train.compile is not supported on {other}", "set it to false")


def compile_layers(model: Seq2Seq, backend: str = "inductor") -> None:
    """Compiles the layers of `model`, and what its head does between products, when they are next called, outside of
    `interpreted`."""
    layers = [layer for part in (model.encoder, model.decoder) for layer in part.fusible()]
    for part in (*layers, *(model.head.fusible() if layers else ())):
        part.compile(dynamic=True, backend=backend)


def interpreted() -> AbstractContextManager[None]:
    """A context in which nothing is compiled, nor what was compiled is used."""
    context: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return context
