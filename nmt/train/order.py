"""What is asked of a new run, and as much of its mistakes as can be told at once, before PyTorch is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nmt.config import Config
from nmt.errors import UserError
from nmt.settings.load import load_config, said
from nmt.settings.paths import check_files
from nmt.text.documents import check_settings
from nmt.text.lines import check_inputs
from nmt.told import shell


class Order(NamedTuple):
    """A new run, as the user wants it."""

    path: Path | None  # the configuration file
    overrides: Sequence[str]
    base: Mapping[str, Any]  # what other options say of the settings, as `load_config` takes it
    out: Path
    device: str
    force: bool
    init_from: Path | None
    keep: Sequence[str]  # what to take from there besides weights
    budget: float | None  # seconds of training

    def load(self, more: Mapping[str, Any] | None = None, *, beneath: Mapping[str, Any] | None = None) -> Config:
        """The settings; `more` sections stand in place of the file's, and `beneath` for defaults."""
        return load_config(self.path, self.overrides, {**self.base, **(more or {})}, beneath=beneath)

    def said(self) -> Mapping[str, Any]:
        """What the user says of the settings, nested, without defaults."""
        return said(self.path, self.overrides, self.base)

    def checked(self) -> Config:
        """The settings; UserError where they are wrong, have no text, or name files that are not there or no text."""
        if self.path is not None and self.path.is_dir():
            raise UserError(
                f"{self.path} is a folder, not a file of settings",
                f"to go on with a run: {shell('nmt', 'train', self.path, '--resume')}",
            )
        check_settings(self.path)
        config = self.load()
        if config.data.src is None and config.data.prepared is None:
            raise UserError(
                "no training text",
                "give --src and --tgt, or --data, or a configuration with `data: {src: ..., tgt: ...}`",
            )
        check_files(config, self.path, vectors=self.init_from is None)
        check_inputs(*map(Path, config.data.texts))
        return config
