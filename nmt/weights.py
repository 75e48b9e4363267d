"""Files of tensors, and what their weights were trained with: tokenizers, settings, corpus. A file of weights says it,
so that weights of one run are never used with the tokenizer or the settings of another.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nmt.config import Config
from nmt.errors import UserError
from nmt.records import check_plain, parse_json
from nmt.settings.paths import without_files
from nmt.text.tokenizer import tokenizer_digest

ORIGIN = "nmt"
"""The one entry of the file's metadata: JSON. Of several, the order would be another each time."""
NEUTRAL = ("model.embedding.freeze", "data.bad_lines")
"""Settings that change nothing for weights that are there."""
RESUMABLE = (
    "steps",
    "patience",
    "log_every",
    "validate_every",
    "samples",
    "keep_last",
    "keep_best",
    "average",
    "accumulate",
)
"""Settings of `train` that may change when a run goes on; any other would make it another experiment. But for
`accumulate`, which must fit the number of processes."""


class MixtureError(UserError):
    """Weights that were trained with something else than what is beside them."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], origin: Mapping[str, Any] | None = None) -> None:
    """A new safetensors file, readable as new files are (umask), with what its weights were trained with; OSError where
    it cannot be written."""
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    metadata = None if origin is None else {ORIGIN: json.dumps(origin, sort_keys=True)}
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path, metadata)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))  # all that it lets out of what the system said
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    path.chmod(mode)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file, on the CPU; UserError where it is missing, damaged or not for the user to read."""
    with open_tensors(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """The reader of a safetensors file, for its names, shapes, tensors and metadata. UserError as of `read_tensors`."""
    try:
        check_plain(path)  # the reader would wait for a pipe, and takes any reason for a missing file
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: {error}", "it may have been cut short by a full disk or a copy") from error


def origin_of(config: Config, tokenizers: Path, corpus: Mapping[str, str] | None) -> dict[str, Any]:
    """What weights are trained with, as JSON; `corpus`: its fingerprints. It names no file."""
    settings = without_files(config.model_dump(mode="json"))
    return {
        "tokenizer": tokenizer_digest(tokenizers),
        "corpus": dict(corpus or {}),
        "model": settings["model"],
        "train": {name: value for name, value in settings["train"].items() if name not in RESUMABLE},
        "data": {name: settings["data"][name] for name in ("max_tokens", "max_length")},
    }


def check_origin(path: Path, now: Mapping[str, Any], parts: Collection[str]) -> None:
    """MixtureError unless the weights in a file were trained with what there is now. Compared is what both know of
    `parts`, such as `tokenizer` and `model`: files of an earlier version say less, or nothing."""
    with open_tensors(path) as file:
        metadata = (file.metadata() or {}).get(ORIGIN)
    if metadata is None:
        return
    then = parse_json(metadata, str(path))
    changed = [key for part in parts for key in _changed(then.get(part), now[part], part)]
    if changed:
        raise MixtureError(
            f"{path} does not belong to what is beside it: it was trained with another {', '.join(changed)}",
            "put back what it was trained with; have two runs been mixed, or files of a run edited?",
        )


def _changed(then: Any, now: Any, at: str) -> list[str]:
    """Dotted keys that both have, with other values."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        return [key for name in then if name in now for key in _changed(then[name], now[name], f"{at}.{name}")]
    return [at] if then is not None and then != now and at not in NEUTRAL else []
