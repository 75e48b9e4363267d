"""A new run: settings that are taken from another run or chosen, text that is prepared, a run directory, training."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from nmt.align.extract import choose_reading
from nmt.config import AlignConfig, Config, WordsConfig
from nmt.data.corpus import Corpus
from nmt.data.look import Text, look
from nmt.data.prepare import Prepared, open_prepared, prepare, read_about
from nmt.device import resolve_precision
from nmt.errors import UserError
from nmt.files import remove_leftovers, writing
from nmt.layout import is_run
from nmt.models.build import build_model
from nmt.presets import Choice, choose, explain, tune
from nmt.rundir import MODEL, RunDir, load_weights
from nmt.text.direction import Direction, learn_profile
from nmt.text.sampling import check_sampling
from nmt.text.shape import Shape, learn_shape
from nmt.text.vectors import check_vectors, check_words
from nmt.told import shell
from nmt.train.checkpoint import schedule_of, trained_checkpoint
from nmt.train.fused import check_compiler
from nmt.train.inherit import PARTS, takes_vocabulary
from nmt.train.metrics import Console
from nmt.train.order import Order
from nmt.train.sense import check_sense, remarks
from nmt.train.session import differences, fingerprints, train_run
from nmt.train.world import this_world


def begin(order: Order, config: Config) -> int:
    """Makes the run and trains it; gives the exit code.

    `config` is what `order.checked()` gives. Further mistakes are told before the work that they would spoil.
    """
    RunDir.check_free(order.out, overwrite=order.force)
    other = None if order.init_from is None else RunDir(order.init_from)
    if other is not None:
        other.check_code()
        if "embeddings" in order.parts:
            _check_vectors_of(other, config)
    _check_outside(order.out, config, order.init_from)
    if config.data.links is not None and not config.model.guided_alignment:
        raise UserError("data.links: nothing would learn from them", "set model.guided_alignment, perhaps to 0.05")
    world = this_world()
    place = world.device(order.device)
    if config.train.compile:
        check_compiler(place)
    vectors = [] if other is not None and "embeddings" in order.parts else _vectors_of(config)
    for file, _ in vectors:
        check_vectors(file, config.model.embedding.width)
    console = Console()
    weights = None if other is None else _weights_of(other, order.keep, console)
    _check_model(config, order, other, weights)

    text = None if config.data.prepared is not None else look(config, console.say)
    config, choice = _settle(order, config, other, text)
    check_sense(config, order.said(), schedule_of(weights)[0] if weights and "schedule" in order.keep else 0)
    precision = resolve_precision(config.train.precision, place, trains_lstm=config.model.has_lstm)
    # fixed for the life of the run
    config = config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})
    if other is not None and "embeddings" in order.parts and config.model.embedding.vectors:
        console.say(f"word vectors are not read: the weights come from {order.init_from}")
    if weights is not None and len(order.parts) < len(PARTS):
        fresh = [part for part in PARTS if part not in order.parts]
        tokenizers = [] if takes_vocabulary(order.parts) else ["tokenizers"]
        console.say(f"taken from {order.init_from}: {', '.join(order.parts)}; new: {', '.join(tokenizers + fresh)}")
    if choice is not None:
        console.say(f"{choice.pairs:,} pairs{choice.why}: chosen (all is in {order.out / 'config.yaml'}):")
        for line in explain(choice, order.said(), config.model_dump()):
            console.say(f"  {line}")
    for line in remarks(config):
        console.say(line)

    origin: dict[str, Any] = {}
    if weights is not None:
        origin = {"init_from": str(weights.resolve()), "parts": list(order.parts), "keep": list(order.keep)}
    with RunDir(order.out).owned(console.say) if is_run(order.out) else nullcontext():
        run, prepared = _make_run(order, config, other, text, vectors, origin, console)
    with run.owned(console.say), writing(order.out, f"go on: {shell('nmt', 'train', order.out, '--resume')}"), world:
        world.tell({"run": str(run.path), "budget": order.budget, **origin})
        return train_run(
            run,
            prepared,
            console,
            place,
            world,
            budget=order.budget,
            init_from=weights,
            parts=order.parts,
            keep=order.keep,
        )


def _check_model(config: Config, order: Order, other: RunDir | None, weights: Path | None) -> None:
    """Builds the model where that may fail, so that it is told before hours are spent on the text."""
    if not (config.model.own_code or weights or config.align != AlignConfig()):
        return
    sizes = [4, 4]  # of the vocabularies: without weights, any will do
    if other is not None and takes_vocabulary(order.parts):
        sizes = [len(tokenizer) for tokenizer in other.tokenizers()]
    model = build_model(config.model, *sizes)
    if weights is not None:
        load_weights(weights / MODEL, model, order.parts)
    if config.align != AlignConfig():
        choose_reading(model, config.align, device=torch.device("cpu"))


def _settle(order: Order, config: Config, other: RunDir | None, text: Text | None) -> tuple[Config, Choice | None]:
    """The settings with what is chosen for as many pairs as there are; nothing where the user has said what the model
    is, and not taken from another run."""
    said = order.said()
    if other is None and {"embedding", "encoder", "decoder", "head"} & {*(said.get("model") or {})}:
        return config, None
    if text is None:
        prepared = open_prepared(Path(str(config.data.prepared)))
        pairs, tokenizer = len(prepared.train), prepared.tokenizers[0].settings
    else:
        pairs, tokenizer = text.pairs, config.tokenizer
    if other is not None and len(order.parts) == len(PARTS):
        choice = tune(pairs, other.config.train, schedule="schedule" in order.keep)
    else:
        own_joint = "joint" in (said.get("tokenizer") or {})
        two_scripts = text is not None and not own_joint and text.two_scripts()
        choice = choose(pairs, tokenizer, learned=text is not None, two_scripts=two_scripts)
        choice = choice if other is None else choice.only("data", "train")
    return order.load(beneath={**order.taken(), **choice.settings}), choice


def _make_run(
    order: Order,
    config: Config,
    other: RunDir | None,
    text: Text | None,
    vectors: Sequence[tuple[Path, int]],
    origin: Mapping[str, Any],
    console: Console,
) -> tuple[RunDir, Prepared]:
    """The run directory and its corpus, which is prepared into it unless the settings name a prepared one."""
    out, draft = order.out, None
    if not takes_vocabulary(order.parts):
        other = None
    tokenizers = None if other is None else other.tokenizers()
    try:
        if config.data.prepared is not None:
            prepared = open_prepared(Path(config.data.prepared), whole=True)
            for source in prepared.sources if len(prepared.sources) > 1 else ():
                console.say(f"  {source}")
            _tell_of_long(prepared, config, console)
            _check_tokenizers(prepared, other)
            config = _as_prepared(prepared, config, order)
            check_sampling(config.train.subword_sampling, config.tokenizer, prepared.tokenizers)
            if config.model.guided_alignment and not prepared.train.has_links:
                raise UserError(
                    f"{prepared.folder} has no links between words, which model.guided_alignment learns from",
                    "prepare it again with data.links",
                )
        else:
            check_sampling(config.train.subword_sampling, config.tokenizer, tokenizers)  # before all the work
            out.parent.mkdir(parents=True, exist_ok=True)
            final = out.resolve()
            draft = final.with_name(f".{final.name}.{os.getpid()}.data.tmp")
            prepared = prepare(config, draft, report=console.say, tokenizers=tokenizers, text=text)
        for file, side in vectors:
            check_words(file, prepared.tokenizers[side], config.model.embedding.width)
        profile = learn_profile(prepared.train.text, len(prepared.train))
        if Direction(profile).hear(prepared.dev.text(row)[0] for row in range(len(prepared.dev))):
            console.say(
                "warning: the development source is spelled like the target side of the training text: are the two "
                "development files the wrong way round?"
            )
        run = RunDir.create(
            out,
            config,
            prepared.tokenizers,
            overwrite=order.force,
            data=draft,
            facts={"fingerprint": fingerprints(prepared), "source": _shape(prepared.train), **origin},
            profile=profile,
        )
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)
    if draft is not None:
        prepared = open_prepared(run.corpus)
    remove_leftovers(out.resolve().parent, out.resolve().name)  # of earlier ones that were killed
    return run, prepared


def _tell_of_long(prepared: Prepared, config: Config, console: Console) -> None:
    """Preparation left out what is beyond its own search.max_source; here that may be lower."""
    limit = config.search.max_source
    if count := int((prepared.dev.src_lengths > limit).sum()):
        console.say(f"{count:,} development pairs count as not translated: longer than search.max_source: {limit:,}")


def _shape(corpus: Corpus) -> Shape:
    return learn_shape(lambda row: corpus.text(row)[0], len(corpus), corpus.longest_source)


def _vectors_of(config: Config) -> list[tuple[Path, int]]:
    """Files of word vectors, each with its side: 0 source, 1 target."""
    embedding = config.model.embedding
    tables = [(embedding.src_vectors, 0), (embedding.tgt_vectors, 1)]
    return [(Path(file), side) for file, side in tables if file is not None]


def _weights_of(other: RunDir, keep: Sequence[str], console: Console) -> Path:
    """The best checkpoint; with `keep`, the best that has what to keep; the last of a run that was never validated."""
    if other.pointed("best") is None and other.pointed("last") is not None:
        console.say(f"{other.path} has not been validated yet: its last checkpoint is taken, {other.pointed('last')}")
        return other.checkpoint("last")
    best = other.checkpoint()
    return trained_checkpoint(other) if keep else best


def _check_outside(out: Path, config: Config, init_from: Path | None) -> None:
    """Nothing that training reads may lie in the folder that --force replaces."""
    data, tokenizer = config.data, config.tokenizer.model_dump()
    paths = [*data.texts, data.links, data.prepared]
    vectors = config.model.embedding.vectors
    for path in (*paths, tokenizer.get("path"), tokenizer.get("tgt_path"), *vectors, init_from):
        if path is not None and Path(path).resolve().is_relative_to(out.resolve()):
            raise UserError(f"{path} lies in {out}, the run to be written", "choose another folder with -o")


def _check_vectors_of(other: RunDir, config: Config) -> None:
    """Vectors that are not those of the run to start from would be named in the settings and never read."""
    for name in ("src_vectors", "tgt_vectors"):
        if getattr(config.model.embedding, name) != getattr(other.config.model.embedding, name):
            raise UserError(
                f"model.embedding.{name}: with --init-from the weights, embeddings included, come from {other.path}, "
                "and no vectors are read",
                "drop the one or the other",
            )


def _check_tokenizers(prepared: Prepared, other: RunDir | None) -> None:
    """Weights are of use with their own vocabulary only."""
    if other is None:
        return
    for side, ours, theirs in zip(("source", "target"), prepared.tokenizers, other.tokenizers(), strict=True):
        ids = range(len(ours))
        if len(ours) != len(theirs) or ours.pieces(ids) != theirs.pieces(ids):
            raise UserError(
                f"{prepared.folder} was prepared with another {side} tokenizer than that of {other.path}",
                "give --src and --tgt, which are then prepared with the tokenizers of --init-from",
            )


def _as_prepared(prepared: Prepared, config: Config, order: Order) -> Config:
    """The settings, saying of tokenizer and lengths what is true of the prepared text."""
    actual, asked = prepared.tokenizers[0].settings, config.tokenizer
    if isinstance(actual, WordsConfig) and "normalization" not in asked.model_fields_set:
        asked = asked.model_copy(update={"normalization": actual.normalization})
    if "tokenizer" in config.model_fields_set and asked != actual:
        changed = ", ".join(differences(actual.model_dump(), asked.model_dump(), "tokenizer."))
        raise UserError(
            f"{prepared.folder} was prepared with other settings of the tokenizer than "
            f"{order.path or 'the command line'} has: {changed}",
            "prepare again, or leave the section `tokenizer` out",
        )
    longest = read_about(prepared.folder).get("max_length") or config.data.max_length
    if "max_length" in (order.said().get("data") or {}) and config.data.max_length != longest:
        raise UserError(
            f"{prepared.folder} was prepared with data.max_length: {longest}, not {config.data.max_length}",
            "prepare again, or leave data.max_length out",
        )
    data = {**config.data.model_dump(), "max_length": longest}
    # validated again: what the model needs of a tokenizer (a joint one, to share embeddings) must be there
    try:
        return Config.model_validate({**config.model_dump(), "tokenizer": actual.model_dump(), "data": data})
    except ValidationError as error:
        problems = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        raise UserError(f"{prepared.folder} does not fit the settings: {problems}") from error
