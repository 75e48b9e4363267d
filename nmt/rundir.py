"""A run is one directory with all that is needed to translate raw text, or to train on. Nothing in it is a pickle.

config.yaml         every setting, resolved: what ran
tokenizer/          both tokenizers; sides.json, how the words of the two sides are spelled, where they differ
data/               the prepared corpus, where `nmt train` prepared it
checkpoints/        step-00000500/{model.safetensors, optimizer.safetensors, state.json}, average-best-5/, ...
best, last          pointers: the name of a checkpoint
metrics.jsonl       a line per report; samples.jsonl: sample translations; attention.jsonl: theirs, in the same order
report.html         all of this to look at, see nmt/report.py
run.json            commands, versions, hardware, fingerprint of the corpus
lock                while it is trained: by whom
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, ConfigDict
from torch import Tensor, nn
from typing_extensions import TypedDict

from nmt.config import Config
from nmt.errors import UserError
from nmt.files import check_place, json_text, owned, write_atomically, written_aside
from nmt.layout import LOCK, STEP, is_run, strangers
from nmt.layout import MODEL as MODEL
from nmt.layout import OPTIMIZER as OPTIMIZER
from nmt.layout import SIDES as SIDES
from nmt.layout import STATE as STATE
from nmt.models.build import build_model
from nmt.models.seq2seq import Seq2Seq
from nmt.records import Count, Seconds, is_name, read_json, read_name, whole_number
from nmt.settings.load import dump_config, load_config
from nmt.text.direction import Direction, Profile
from nmt.text.shape import Shape
from nmt.text.tokenizer import BEFORE_NFC, JOINT, SentencePieceTokenizer, Tokenizer, load_tokenizers
from nmt.told import shell
from nmt.weights import check_origin, origin_of
from nmt.weights import read_tensors as read_tensors
from nmt.weights import save_tensors as save_tensors


def _checked(session: dict[str, Any]) -> dict[str, Any]:
    if all(isinstance(session.get(name, 1), int) for name in ("processes", "accumulate")):
        return session
    raise ValueError("its numbers of processes and batches are no numbers")


class Facts(TypedDict, total=False):
    """What run.json says."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    fingerprint: dict[str, str]
    source: Shape  # what its lines are like
    init_from: str
    keep: list[str]
    sessions: list[Annotated[dict[str, Any], AfterValidator(_checked)]]  # each start of training


class Progress(TypedDict, total=False):
    """How far training has come, as a checkpoint's state says; nothing of it before the first checkpoint."""

    step: Count
    tokens: Count
    seconds: Seconds
    best: float | None


class RunDir:
    """An existing run directory; UserError where `path` is none."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not (self.path / "config.yaml").is_file():
            what = "is not a run: it has no config.yaml" if self.path.exists() else "does not exist"
            raise UserError(f"{self.path} {what}", "a run is the folder that `nmt train ... -o RUN` made")

    @staticmethod
    def check_free(path: Path, *, overwrite: bool = False) -> None:
        """UserError if a run cannot be created at `path` without destroying something the user did not name, or at
        all."""
        check_place(path)
        if not path.exists() or not any(path.iterdir()):
            return
        if not is_run(path):
            raise UserError(f"{path} is not empty and holds no run", "choose another folder with -o")
        if not overwrite:
            go_on = shell("nmt", "train", path, "--resume")
            raise UserError(
                f"{path} holds a run already",
                f"go on with it by `{go_on}`, replace it with --force, or choose another -o",
            )
        stranger = next(strangers(path), None)
        if stranger is not None:
            raise UserError(
                f"{stranger} would be lost with the run {path}, and is no part of it",
                "move it out of there, or choose another folder with -o",
            )

    @classmethod
    def create(
        cls,
        path: Path,
        config: Config,
        tokenizers: tuple[Tokenizer, Tokenizer],
        *,
        overwrite: bool = False,
        data: Path | None = None,
        facts: Mapping[str, Any] | None = None,
        profile: Profile | None = None,
    ) -> RunDir:
        """A new run at `path`, there completely or not at all; an old one goes only with `overwrite`.

        `data`, a prepared corpus on the same file system, is moved into the run. `facts` go into run.json.
        `profile`: how the words of the two sides are spelled.
        """
        cls.check_free(path, overwrite=overwrite)
        final = path.resolve()  # so that a link stays and what it points to is written
        with written_aside(final, overwrite=overwrite) as draft:
            (draft / "config.yaml").write_text(dump_config(config), encoding="utf-8")
            (draft / "run.json").write_text(json_text({**(facts or {}), "sessions": []}), encoding="utf-8")
            (draft / "checkpoints").mkdir()
            folder = draft / "tokenizer"
            folder.mkdir()
            src, tgt = tokenizers
            src.save(folder, "src")
            tgt.save(folder, "tgt")
            if profile is not None:
                (folder / SIDES).write_text(json_text(asdict(profile)), encoding="utf-8")
            if data is not None:
                os.rename(data, draft / "data")
        return cls(path)

    @cached_property
    def config(self) -> Config:
        return self.config_with(())

    def config_with(self, overrides: Sequence[str]) -> Config:
        """The run's settings, changed on the command line."""
        return load_config(self.path / "config.yaml", overrides, beneath={"tokenizer": BEFORE_NFC})

    def check_code(self) -> None:
        """UserError if this run's model has classes of someone's own, which would be imported, that is, executed, and
        the user has not allowed it."""
        paths = self.config.model.own_code
        if paths and os.environ.get("NMT_TRUST_CODE") != "1":
            raise UserError(
                f"{self.path} has code of its own: to load it is to run {', '.join(dict.fromkeys(paths))} from the "
                "current folder or from what is installed",
                "if you trust that code, set the environment variable NMT_TRUST_CODE=1 and repeat the command",
            )

    @contextmanager
    def owned(self, report: Callable[[str], None]) -> Iterator[None]:
        """Within it no other command may train, or replace, the run; UserError where one does so now. What an owner on
        another machine has left, whose locks may not be heard of here, is reported."""
        with owned(self.path / LOCK, self.path) as left:
            if left and f" on {platform.node()} " not in left:
                report(f"{self.path} was left by {left}: should that still write there, stop one of the two")
            yield

    def replace_config(self, config: Config) -> None:
        write_atomically(self.path / "config.yaml", dump_config(config))
        for known in ("config", "origin"):
            self.__dict__.pop(known, None)

    @property
    def corpus(self) -> Path:
        """The folder of what it is trained on: one of its own, or one that was prepared before."""
        prepared = self.config.data.prepared
        return self.path / "data" if prepared is None else Path(prepared)

    def tokenizers(self) -> tuple[Tokenizer, Tokenizer]:
        """Source and target; the same object where they are joint."""
        return load_tokenizers(self.path / "tokenizer")

    @property
    def direction(self) -> Direction:
        """What notices that a text is in the language of the target side, if the run knows how that is spelled."""
        path = self.path / "tokenizer" / SIDES
        return Direction(read_json(path, Profile) if path.exists() else None)

    @property
    def facts(self) -> Facts:
        facts: Facts = read_json(self.path / "run.json", Facts)
        return facts

    @property
    def progress(self) -> Progress:
        last = self.pointed("last")
        return {} if last is None else read_json(self.checkpoints / last / STATE, Progress)

    @cached_property
    def origin(self) -> dict[str, Any]:
        """What its weights are trained with, as it is when this is asked first; see `nmt.weights`."""
        return origin_of(self.config, self.path / "tokenizer", self.facts.get("fingerprint"))

    def record_session(self, session: Mapping[str, Any]) -> None:
        """Adds to run.json where, when and by which command training started or went on."""
        facts = self.facts
        facts["sessions"] = [*facts.get("sessions", []), dict(session)]
        write_atomically(self.path / "run.json", json_text(facts))

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def pointed(self, pointer: str) -> str | None:
        """The checkpoint's name that `best` or `last` holds; None before there is one. UserError for what is no name of
        a folder in `checkpoints`, such as a way into another run."""
        return read_name(self.path / pointer)

    def steps(self) -> list[str]:
        """Names of the checkpoints that training wrote, the newest first."""
        names = [path.name for path in self.checkpoints.iterdir() if STEP.fullmatch(path.name)]
        return sorted(names, key=lambda name: int(name.removeprefix("step-")), reverse=True)

    def point(self, pointer: str, name: str) -> None:
        write_atomically(self.path / pointer, name + "\n")

    def checkpoint(self, name: str = "best") -> Path:
        """The folder of a checkpoint: `best`, `last`, a step (`500`), or a folder's name (`average-best-5`)."""
        wanted = self.pointed(name) if name in ("best", "last") else str(name)
        if wanted is None:
            latest = next(iter(self.steps()), None)
            hint = f"the latest is --checkpoint {latest}" if latest else "it is written at the first validation"
            raise UserError(f"{self.path} has no checkpoint `{name}` yet", hint)
        step = whole_number(wanted)
        folder = self.checkpoints / (wanted if step is None else f"step-{step:08d}")
        if not is_name(wanted) or not (folder / MODEL).is_file():
            there = sorted(p.name for p in self.checkpoints.glob("*") if (p / MODEL).is_file())
            raise UserError(
                f"{self.path} has no checkpoint {wanted}", f"there are: best, last, {', '.join(there) or 'no others'}"
            )
        check_origin(folder / MODEL, self.origin, ("tokenizer", "model"))
        return folder


def load_model(run: RunDir, checkpoint: str = "best") -> Seq2Seq:
    """The run's model in eval mode, float32, on the CPU."""
    folder = run.checkpoint(checkpoint)
    run.check_code()
    src, tgt = run.tokenizers()
    model = build_model(run.config.model, len(src), len(tgt))
    load_weights(folder / MODEL, model)
    return model.eval()


def check_shared(first: RunDir, *others: RunDir) -> None:
    """Raises UserError, naming what differs, unless all runs have the same tokenizers, ids and all."""
    for other in others:
        difference = _difference(first, other)
        if difference is not None:
            raise UserError(
                f"{first.path} and {other.path} do not share their vocabularies: {difference}",
                "train the runs of an ensemble on one corpus made by `nmt prepare`",
            )


def _difference(first: RunDir, other: RunDir) -> str | None:
    """What first differs between the tokenizers of two runs."""
    ours, theirs = first.tokenizers(), other.tokenizers()
    joint, separate = "one for both languages", "one for each language"
    kinds = [joint if src is tgt else separate for src, tgt in (ours, theirs)]
    if kinds[0] != kinds[1]:
        return f"the tokenizer is {kinds[0]} in the first, {kinds[1]} in the other"
    for side, name, one, two in zip(("src", "tgt"), ("source", "target"), ours, theirs, strict=True):
        for setting in ("kind", "lowercase", "normalization"):
            a, b = (getattr(tokenizer.settings, setting, None) for tokenizer in (one, two))
            if a != b:
                return f"the {name} tokenizer has {setting}: {a} in the first, {b} in the other"
        if len(one) != len(two):
            return f"there are {len(one):,} {name} tokens in the first, {len(two):,} in the other"
        for n, (a, b) in enumerate(zip(one.pieces(range(len(one))), two.pieces(range(len(two))), strict=True)):
            if a != b:
                return f"{name} token {n} is {a} in the first, {b} in the other"
        if isinstance(one, SentencePieceTokenizer):
            file = f"tokenizer/{JOINT if kinds[0] == joint else side}.model"
            if (first.path / file).read_bytes() != (other.path / file).read_bytes():
                return f"{file} has the same pieces, but is another model"
    return None


def distinct_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each tied tensor once (under its first name)."""
    return {names[0]: tensor for names, tensor in _tied(model)}


def load_weights(path: Path, model: nn.Module, parts: Collection[str] | None = None) -> None:
    """Copies the tensors of a safetensors file into `model`; UserError unless they fit it exactly and are all
    finite numbers. With `parts` (see `part_of`) only those of some parts, which have to fit."""
    stored = {n: t for n, t in read_tensors(path).items() if parts is None or part_of([n]) in parts}
    problems = []
    for names, tensor in _tied(model):
        if parts is not None and part_of(names) not in parts:
            continue
        name = next((n for n in names if n in stored), None)
        if name is None:
            problems.append(f"{names[0]} is missing")
            continue
        found = stored.pop(name)
        if found.shape != tensor.shape:
            problems.append(f"{name} is {list(found.shape)} in the file, {list(tensor.shape)} in the model")
        elif not found.is_floating_point():
            problems.append(f"{name} is of {str(found.dtype).removeprefix('torch.')}, not of real numbers")
        elif not tensor.copy_(found).isfinite().all():
            problems.append(f"{name} has values that are not finite")
    problems += [f"the model has no {name}" for name in stored]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise UserError(f"{path} does not fit the model: {'; '.join(problems[:3])}{more}")


def part_of(names: Sequence[str]) -> str:
    """The part of a model that a tensor of these names is of: embeddings, encoder, decoder or head. One that is shared
    with an embedding is an embedding."""
    return "embeddings" if any(".embedding." in name for name in names) else names[0].partition(".")[0]


def describe_software() -> dict[str, str]:
    """Versions of what results depend on besides PyTorch, and the commit where this package is part of a checkout."""
    names = ("numpy", "safetensors", "sentencepiece", "sacrebleu")
    facts = {"libraries": ", ".join(f"{name} {version(name)}" for name in names)}
    here = Path(__file__).parent
    try:
        if _git(here, "ls-files", Path(__file__).name):  # else the repository around it is somebody else's
            facts["commit"] = _git(here, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        pass  # no git here, or no checkout
    return facts


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def _tied(model: nn.Module) -> list[tuple[list[str], Tensor]]:
    """Each tensor of the model once, with all the names it goes by."""
    groups: dict[tuple[int, torch.Size, tuple[int, ...]], tuple[list[str], Tensor]] = {}
    for name, tensor in model.state_dict().items():
        key = (tensor.data_ptr(), tensor.shape, tensor.stride())
        groups.setdefault(key, ([], tensor))[0].append(name)
    return list(groups.values())
