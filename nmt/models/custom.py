"""Scorers of the user's own, by import path."""

from __future__ import annotations

import importlib
import inspect
import os
import sys

import torch
from torch import Tensor

from nmt.config import CustomConfig
from nmt.errors import UserError
from nmt.models.scorers import Scorer


def build_custom(config: CustomConfig, query_width: int, memory_width: int) -> Scorer:
    """The user's own scorer, tried out once; UserError where it does not keep the contract of `Scorer`."""
    said, options = f"attention.scorer: {config.scorer}", config.options
    cls = _find_class(config.scorer, said)
    if not issubclass(cls, Scorer) or inspect.isabstract(cls):
        lacks = "is no subclass of nmt.models.scorers.Scorer" if not issubclass(cls, Scorer) else "has no `score`"
        raise UserError(f"{said} {lacks}", "derive it from Scorer and write `score`; nmt/README.md has an example")
    try:
        inspect.signature(cls).bind(query_width, memory_width, **options)
    except TypeError as error:
        takes = f"its parameters are {inspect.signature(cls)}"
        raise UserError(
            f"{said} cannot be made of (query_width, memory_width) and attention.options {options}: {error}", takes
        ) from error
    scorer = cls(query_width, memory_width, **options).eval()
    query, states = torch.zeros(2, 3, query_width), torch.zeros(2, 4, memory_width)
    with torch.no_grad():
        keys = scorer.keys(states)
        _check_result(f"{said}: keys() of states [2, 4, {memory_width}]", keys, (2, 4, None))
        scores = scorer.score(query, keys, *([torch.zeros(2, 3, 4)] if scorer.uses_history else []))
    _check_result(f"{said}: score() of a query [2, 3, {query_width}] and keys {list(keys.shape)}", scores, (2, 3, 4))
    return scorer.train()


def _find_class(path: str, said: str) -> type:
    """The class `module:Class`, looked for in the current folder first, as `python -m` does."""
    name, _, attribute = path.partition(":")
    here = os.getcwd()
    importlib.invalidate_caches()
    sys.path.insert(0, here)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            missing = f"{said}: {name} imports {error.name}, which is not there"
            raise UserError(missing, f"install {error.name}") from error
        raise UserError(
            f"{said}: there is no module {error.name}, neither in {here} nor among those installed",
            "run nmt in the folder that holds it, or name that folder in PYTHONPATH",
        ) from error
    finally:
        sys.path.remove(here)
    found = getattr(module, attribute, None)
    if not isinstance(found, type):
        there = [key for key, value in vars(module).items() if isinstance(value, type) and value.__module__ == name]
        file = getattr(module, "__file__", name)  # a module of the interpreter has none
        raise UserError(f"{said}: {file} has no class {attribute}", f"its classes: {', '.join(there) or 'none'}")
    return found


def _check_result(said: str, result: object, shape: tuple[int | None, ...]) -> None:
    wanted = "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"
    if not isinstance(result, Tensor) or not result.is_floating_point():
        found = str(result.dtype) if isinstance(result, Tensor) else type(result).__name__
        raise UserError(f"{said} gives {found}", f"it must be a tensor of floating-point numbers {wanted}")
    if result.ndim != len(shape) or any(w not in (None, size) for w, size in zip(shape, result.shape, strict=True)):
        raise UserError(f"{said} gives {list(result.shape)}", f"it must be {wanted}")
