"""What is asked of a new run, and as much of its mistakes as can be told at once, before PyTorch is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nmt.config import Config
from nmt.errors import UserError
from nmt.settings.load import contradictions, load_config, said
from nmt.settings.paths import check_files
from nmt.text.documents import check_settings
from nmt.text.lines import check_inputs
from nmt.told import shell
from nmt.train.inherit import advice, inherited, settled, takes_vocabulary


class Order(NamedTuple):
    """A new run, as the user wants it."""

    path: Path | None  # the configuration file
    overrides: Sequence[str]
    base: Mapping[str, Any]  # what other options say of the settings, as `load_config` takes it
    out: Path
    device: str
    force: bool
    init_from: Path | None
    parts: Sequence[str]  # of its weights, those to take: see PARTS
    keep: Sequence[str]  # what to take from there besides weights
    budget: float | None  # seconds of training

    def load(self, *, beneath: Mapping[str, Any] | None = None) -> Config:
        """The settings; those of `beneath` stand for defaults."""
        return load_config(self.path, self.overrides, self.base, beneath=beneath)

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
        config = self.load(beneath=self.taken())
        if config.data.src is None and config.data.prepared is None:
            raise UserError(
                "no training text",
                "give --src and --tgt, or --data, or a configuration with `data: {src: ..., tgt: ...}`",
            )
        check_files(config, self.path, vectors=self.init_from is None or "embeddings" not in self.parts)
        check_inputs(*map(Path, config.data.texts))
        return config

    def taken(self) -> dict[str, Any]:
        """Settings that come from the run to start from; UserError where the user says otherwise."""
        if self.init_from is None:
            return {}
        from nmt.rundir import RunDir  # which imports PyTorch

        other = RunDir(self.init_from).config
        fixed = settled(other, self.parts)
        error = contradictions(self.path, self.overrides, self.base, fixed, self.init_from)
        if error is not None:
            raise UserError(error.message, advice(self.init_from, self.parts))
        taken = inherited(other, self.parts)
        if not takes_vocabulary(self.parts) and (self.said().get("data") or {}).get("prepared") is not None:
            del taken["tokenizer"]  # that of the prepared text is there already
        return taken
