"""A run to give away: what translating takes, and nothing of the text, the machine or the folders it was made in."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from nmt.config import Config
from nmt.files import check_new, json_text, written_aside
from nmt.records import read_json
from nmt.rundir import MODEL, SIDES, STATE, RunDir
from nmt.settings.load import dump_config
from nmt.settings.paths import without_files
from nmt.train.checkpoint import last_state, score_of
from nmt.train.state import Scored

KEPT = ("fingerprint", "source")
"""What run.json says of the text: which it was, and what its lines were like."""
PRIVATE = ("command", "folder")
"""What run.json says of a session that is nobody else's business."""


def pack(run: RunDir, out: Path, checkpoint: str = "best") -> RunDir:
    """Writes a new run `out` with one checkpoint of `run`: weights without the optimiser's memory, tokenizers, settings
    without names of files. There completely or not at all; UserError if something is there already."""
    check_new(out)
    source = run.checkpoint(checkpoint)
    settings = without_files(run.config.model_dump())
    settings["model"]["embedding"]["freeze"] = False  # said of tables that are read from files; here they are weights
    state, score = last_state(run), score_of(run, source.name)
    state.checkpoints = [] if score is None else [Scored(source.name, state.step, score)]
    state.best, state.window = score, []
    kept = {name: value for name, value in run.facts.items() if name in KEPT}
    facts: dict[str, Any] = {"packed": source.name, "fingerprint": {}, **kept}
    facts["sessions"] = [
        {name: value for name, value in session.items() if name not in PRIVATE}
        for session in run.facts.get("sessions", [])
    ]
    with written_aside(out.resolve(), overwrite=False) as draft:
        folder, tokenizer = draft / "checkpoints" / source.name, draft / "tokenizer"
        folder.mkdir(parents=True)
        tokenizer.mkdir()
        shutil.copyfile(source / MODEL, folder / MODEL)
        (folder / STATE).write_text(json_text(state.to_json()), encoding="utf-8")
        for path in (run.path / "tokenizer").glob("*"):
            if path.suffix != ".json" or path.name == SIDES:
                shutil.copyfile(path, tokenizer / path.name)
                continue
            content = read_json(path)
            if path.name != SIDES:
                content["settings"] = without_files(content["settings"], ("tokenizer",))
            (tokenizer / path.name).write_text(json_text(content), encoding="utf-8")
        (draft / "config.yaml").write_text(dump_config(Config.model_validate(settings)), encoding="utf-8")
        (draft / "run.json").write_text(json_text(facts), encoding="utf-8")
        for pointer in ("best", "last"):
            (draft / pointer).write_text(source.name + "\n", encoding="utf-8")
    return RunDir(out)
