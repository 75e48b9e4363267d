"""Those parts of gpu.py that train on Multi30k, and translate with what comes of it."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from gpu_parts import CPU, RECIPES, TINY, TINY_OF, Options, pace, updater

from nmt.data.loader import batches
from nmt.data.phrasebook import generate
from nmt.data.prepare import open_prepared
from nmt.evaluate import evaluate
from nmt.models.build import build_model
from nmt.rundir import MODEL, RunDir
from nmt.settings.load import load_config
from nmt.text.lines import read_lines
from nmt.translate import Translator
from nmt.weights import read_tensors, save_tensors

MOST_PACKED = 16 << 20
"""Bytes of an archive."""


def multi30k_text(options: Options) -> tuple[Path, Path]:
    """The prepared corpus and the folder of the test set: those of the pack; on a dry run without one, a few generated
    pairs."""
    if not options.dry or (options.pack / "prepared").is_dir():
        return options.pack / "prepared", options.pack / "text"
    prepared, text = options.scratch / "prepared", options.scratch / "text"
    if prepared.is_dir():
        return prepared, text
    text.mkdir()
    examples = generate("train", 400)
    for name, part in (("train", examples[:380]), ("val", examples[380:]), ("test", examples[:20])):
        for side, lines in (("en", [e.src for e in part]), ("de", [e.tgt for e in part])):
            (text / f"{name}.{side}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    sides = [f"--{kind}={text}/{name}" for kind, name in (("src", "train.en"), ("tgt", "train.de"))]
    nmt("prepare", RECIPES / "multi30k/transformer.yaml", "--set", "tokenizer.size=300", *sides, "-o", prepared)
    return prepared, text


def nmt(*arguments: object) -> None:
    """Runs the command; an error ends the part."""
    subprocess.run([sys.executable, "-m", "nmt", *map(str, arguments)], check=True)


def to_the_end(options: Options) -> None:
    """The recipe's transformer, for as many updates as there is time for; with R-Drop if that leaves enough of them."""
    device, (folder, _) = options.device, multi30k_text(options)
    prepared = open_prepared(folder)
    recipe = RECIPES / "multi30k/transformer.yaml"
    sets = [f"data.prepared={folder.resolve()}", "data.max_tokens=8192", "train.precision=bfloat16"]
    if options.dry:
        sets += [] if (options.pack / "prepared").is_dir() else ["tokenizer.size=300"]
        sets += [*TINY, *TINY_OF["transformer"], "data.max_tokens=512", "search.max_ratio=0.5", "search.max_extra=1"]

    def seconds_of_an_update(extra: list[str]) -> float:
        config = load_config(recipe, [*sets, *extra])
        model = build_model(config.model, *map(len, prepared.tokenizers)).to(device).train()
        stream = batches(prepared.train, max_tokens=config.data.max_tokens, seed=1, start=0)
        _, seconds, _ = pace(updater(model, config, stream, device), options)
        return seconds / options.sizes.updates

    plain, rdrop = [], ["train.consistency={kind: rdrop, weight: 5}"]
    times = [seconds_of_an_update(extra) for extra in (plain, rdrop)]
    fit = [int(options.sizes.seconds / each) for each in times]
    chosen, steps = (rdrop, fit[1]) if fit[1] >= 2500 or options.dry else (plain, fit[0])
    steps = 8 if options.dry else min(steps, 5000)
    every = max(1, steps // (1 if options.dry else 8))
    sets += [*chosen, f"train.validate_every={every}", f"train.log_every={every}", f"train.steps={steps}"]
    sets += [f"train.schedule.steps={steps}", f"train.schedule.warmup={steps // 9 + 1}"]  # as the recipe's, of 7,200
    plain_ms, rdrop_ms = (round(1e3 * each, 2) for each in times)
    options.found("plan", steps=steps, rdrop=chosen == rdrop, ms_plain=plain_ms, ms_rdrop=rdrop_ms)
    start = time.perf_counter()
    run, limit = options.scratch / "run", f"{int(1.5 * options.sizes.seconds) + 5}s"
    keys = [word for value in sets for word in ("--set", value)]
    nmt("train", recipe, *keys, "-o", run, "--device", device, "--max-time", limit)
    reports = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    dev = [round(report["dev_bleu"], 2) for report in reports if "dev_bleu" in report]
    rates = [report["tokens_per_second"] for report in reports if "tokens_per_second" in report]
    took = round(time.perf_counter() - start, 1)
    options.found("trained", seconds=took, dev=dev, rate=round(sorted(rates)[len(rates) // 2]))


def packed(options: Options) -> None:
    """The run in one archive, as `nmt pack` makes it, with weights in 16 bits."""
    small = options.scratch / "multi30k-gpu"
    nmt("pack", options.scratch / "run", "-o", small)
    run = RunDir(small)
    weights = run.checkpoint("best") / MODEL
    save_tensors(weights, {name: tensor.half() for name, tensor in read_tensors(weights).items()}, run.origin)
    archive = options.out / "run.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(small, small.name)
    size = archive.stat().st_size
    options.found("packed", bytes=size)
    if size > MOST_PACKED:
        archive.unlink()
        raise RuntimeError(f"the archive has {size} bytes, more than {MOST_PACKED}")


def translating(options: Options) -> None:
    """The test set by the run as it was trained, by the packed one, and by that one on the CPU."""
    _, text = multi30k_text(options)
    source, reference = (list(read_lines(text / f"test.{side}")) for side in ("en", "de"))
    if options.dry:
        source, reference = source[:20], reference[:20]
    before: list[str] = []
    places = (("run", options.device), ("multi30k-gpu", options.device), ("multi30k-gpu", CPU))
    for name, device in places:
        translator = Translator.load(options.scratch / name, device=str(device))
        start = time.perf_counter()
        texts = [translation.text for translation in translator.translate(source)]
        seconds = time.perf_counter() - start
        (bleu,) = evaluate(texts, [reference], metrics=("bleu",))
        same = sum(one == other for one, other in zip(texts, before, strict=True)) if before else None
        rate = round(len(texts) / seconds, 1)
        values = {"device": device.type, "bleu": round(bleu.value, 2), "rate": rate, "lines": len(texts), "same": same}
        options.found("translated", of="weights in 32 bits" if name == "run" else "the archive", **values)
        print(bleu.signature)
        if name == "multi30k-gpu" and device == options.device:
            (options.out / "test.de").write_text("".join(f"{line}\n" for line in texts), encoding="utf-8")
        before = texts
