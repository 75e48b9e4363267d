"""What each ingredient of training gives: one model with some more settings each time, compared on development text.

A recipe is a model, which is a YAML file, and ingredients, each of which is some settings or more text. Each training
has the same minutes. Whatever is chosen is chosen on dev; the test set is translated by the chosen recipe alone.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from nmt.errors import UserError
from nmt.evaluate import evaluate
from nmt.files import json_text, write_atomically
from nmt.records import read_json
from nmt.rundir import RunDir
from nmt.text.lines import read_lines
from nmt.train.checkpoint import scored_checkpoints
from recipes.study import (
    Pair,
    facts,
    fingerprint,
    is_made,
    keep_best,
    log_of,
    markdown,
    nmt,
    reports,
    settings_of,
    spread,
    text_options,
    train,
    training_speed,
)

AVERAGED = 5
"""Checkpoints in an average, at most."""
CHECKPOINTS = {"best": "best checkpoint", "average-best": "average of 5 best", "average-last": "average of 5 last"}
"""What of a training is judged, and how the table calls it."""


class Task(NamedTuple):
    """A direction of a corpus."""

    name: str
    train: Pair
    dev: Pair
    test: Pair
    tokenize: str  # how BLEU cuts words


class More(NamedTuple):
    """A further corpus to learn from, as data.more has it."""

    pair: Pair
    tag: str

    def as_setting(self) -> str:
        return f"{{src: '{self.pair.src.resolve()}', tgt: '{self.pair.tgt.resolve()}', tag: {self.tag}}}"


class Recipe(NamedTuple):
    """A model and what is added to it."""

    model: str
    ingredients: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return "+".join([self.model, *self.ingredients])

    @classmethod
    def of(cls, name: str) -> Self:
        model, *ingredients = name.split("+")
        return cls(model, tuple(ingredients))


class Validated(NamedTuple):
    """A validation during training."""

    step: int
    minutes: float
    bleu: float  # greedy


class Cell(NamedTuple):
    """One training and what came out on dev."""

    task: str
    recipe: str
    seed: int
    dev: dict[str, float]  # BLEU by checkpoint, with beam search
    chosen: str  # the checkpoint that scores best there
    steps: int
    minutes: float  # of training, validations included
    speed: float | None  # target tokens a second, validations not included
    parameters: int
    curve: list[Validated]
    signature: str  # of BLEU
    commit: str
    date: str
    fingerprint: str  # of settings, minutes and text

    @property
    def score(self) -> float:
        return self.dev[self.chosen]

    @classmethod
    def read(cls, path: Path) -> Self:
        values = read_json(path)
        return cls(**{**values, "curve": [Validated(*point) for point in values["curve"]]})


@dataclass(frozen=True)
class Study:
    """The runs in a folder."""

    out: Path
    tasks: Sequence[Task]
    models: Path  # folder of their YAML files
    ingredients: Mapping[str, Sequence[str]]  # their settings
    parent: Callable[[Recipe], Recipe]  # what a recipe is compared with
    minutes: float  # of each training
    settings: Sequence[str] = ()  # for all alike

    def run(self, task: Task, recipe: Recipe, seed: int) -> Path:
        return self.out / task.name / f"{recipe.name}-{seed}"

    def complete(self, task: Task, recipe: Recipe, seed: int, more: Sequence[More] = ()) -> Cell:
        """The cell; trains what is missing of it, and writes the results anew then."""
        run, config = self.run(task, recipe, seed), self.models / f"{recipe.model}.yaml"
        overrides = [setting for name in recipe.ingredients for setting in self.ingredients[name]]
        overrides += ["train.average=null", f"train.seed={seed}", *self.settings]
        files = [path for pair in (task.train, task.dev, *(corpus.pair for corpus in more)) for path in pair]
        about = [settings_of(config, overrides), self.minutes, task.tokenize, [corpus.tag for corpus in more]]
        digest = fingerprint(about, files)[:16]
        path = run / "cell.json"
        if not is_made(run, digest):
            print(f"{task.name} {recipe.name} {seed} ...", file=sys.stderr, flush=True)
            if more:
                overrides.append(f"data.more=[{', '.join(corpus.as_setting() for corpus in more)}]")
            train(run, config, text_options(task.train, task.dev), overrides, minutes=self.minutes)
            cell = judge(run, task, recipe, seed, digest)
            write_atomically(path, json_text(cell._asdict()))
            self.write()
        cell = Cell.read(path)
        if (run / "last").exists():
            if cell.chosen != "best":
                RunDir(run).point("best", cell.chosen)
            keep_best(run)
        return cell

    def find(self, task: Task, recipe: Recipe, seed: int) -> Cell | None:
        """The cell, if it is there."""
        path = self.run(task, recipe, seed) / "cell.json"
        return Cell.read(path) if path.exists() else None

    def cells(self, task: Task) -> list[Cell]:
        """All that are there."""
        return [Cell.read(path) for path in sorted((self.out / task.name).glob("*/cell.json"))]

    def test(self, task: Task) -> dict[str, Any]:
        """Scores the chosen recipe on the test set, each seed once; UserError where another one was scored before."""
        path, cells = self.out / task.name / "test.json", self.cells(task)
        recipe = choose(cells)
        found: dict[str, Any] = read_json(path) if path.exists() else {"recipe": recipe, "seeds": {}}
        if found["recipe"] != recipe:
            raise UserError(
                f"the test set of {task.name} was scored with {found['recipe']}, and by now {recipe} is best on dev",
                f"report {found['recipe']}; or delete {path}, and report that the test set was looked at twice",
            )
        for cell in cells:
            if cell.recipe == recipe and str(cell.seed) not in found["seeds"]:
                run = self.run(task, Recipe.of(recipe), cell.seed)
                scores = translate(run, task.test, "test", "best", task.tokenize)
                found["seeds"][str(cell.seed)] = {name: score._asdict() for name, score in scores.items()}
                write_atomically(path, json_text(found))
        return found

    def write(self) -> str:
        """results.json and results.md, of all cells; gives the latter."""
        lines, values = [], {}
        for task in self.tasks:
            cells, path = self.cells(task), self.out / task.name / "test.json"
            values[task.name] = [cell._asdict() for cell in cells]
            lines += table(task.name, cells, self.parent, self.minutes)
            lines += tested(read_json(path)) if path.exists() else []
        text = "\n".join(lines)
        write_atomically(self.out / "results.json", json_text(values))
        write_atomically(self.out / "results.md", f"{text}\n")
        return text


def judge(run: Path, task: Task, recipe: Recipe, seed: int, digest: str) -> Cell:
    """Translates dev with the best checkpoint and with averages, which cost no training."""
    info, count = facts(run), min(AVERAGED, len(scored_checkpoints(RunDir(run))))
    scores = {"best": translate(run, task.dev, "dev", "best", task.tokenize)["BLEU"]}
    for which in ("best", "last") if count > 1 else ():
        name = f"average-{which}"
        nmt(log_of(run), "average", run, f"--{which}", count, "-o", name)
        scores[name] = translate(run, task.dev, "dev", name, task.tokenize)["BLEU"]
    dev = {name: score.value for name, score in scores.items()}
    session = RunDir(run).facts["sessions"][-1]
    return Cell(
        task.name,
        recipe.name,
        seed,
        dev,
        chosen=max(dev, key=lambda name: dev[name]),
        steps=info["steps"],
        minutes=round(info["seconds"] / 60, 2),
        speed=training_speed(run),
        parameters=info["parameters"]["total"],
        curve=[
            Validated(report["step"], round(report["seconds"] / 60, 2), round(report["dev_bleu"], 3))
            for report in reports(run, "dev_bleu")
        ],
        signature=scores["best"].signature,
        commit=session.get("commit", "unknown"),
        date=session["time"][:10],
        fingerprint=digest,
    )


def translate(run: Path, pair: Pair, part: str, checkpoint: str, tokenize: str) -> dict[str, Any]:
    """Scores of the translations, BLEU and chrF; they stay in the run."""
    output = run / f"{part}.{checkpoint}.hyp"
    nmt(log_of(run), "translate", run, pair.src, "-o", output, "--checkpoint", checkpoint, "--force")
    hypotheses, references = (list(read_lines(path)) for path in (output, pair.tgt))
    return {s.name: s for s in evaluate(hypotheses, [references], metrics=["bleu", "chrf"], tokenize=tokenize)}


def choose(cells: Sequence[Cell]) -> str:
    """The recipe that is best on dev, among those with the most seeds."""
    found = by_recipe(cells)
    if not found:
        raise UserError("there is nothing to test: no training is complete")
    most = max(map(len, found.values()))
    full = {name: some for name, some in found.items() if len(some) == most}
    return max(full, key=lambda name: statistics.mean(cell.score for cell in full[name]))


def by_recipe(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Fewest ingredients first."""
    names = dict.fromkeys(cell.recipe for cell in sorted(cells, key=lambda cell: cell.recipe.count("+")))
    return {name: [cell for cell in cells if cell.recipe == name] for name in names}


# Tables


def table(name: str, cells: Sequence[Cell], parent: Callable[[Recipe], Recipe], minutes: float) -> list[str]:
    """What each recipe gives on dev, and how fast it gets there."""
    found = by_recipe(cells)
    if not found:
        return []
    header = ["recipe", "seeds", *CHECKPOINTS.values(), "gain", "parameters", "updates", "minutes", "target tokens/s"]
    times = [minutes * part / 4 for part in (1, 2, 3, 4)]
    rows, curves = [], []
    for recipe, some in found.items():
        seeds = ", ".join(str(cell.seed) for cell in sorted(some, key=lambda cell: cell.seed))
        scores = [spread([cell.dev.get(checkpoint) for cell in some]) for checkpoint in CHECKPOINTS]
        facts = [spread([getattr(cell, key) for cell in some], form) for key, form in _FACTS]
        over = found.get(parent(Recipe.of(recipe)).name, ())
        rows.append([recipe, seeds, *scores, gain(some, over), f"{some[0].parameters:,}", *facts])
        curves.append([recipe, *(spread([at(cell, time) for cell in some]) for time in times)])
    best = choose(cells)
    made = sorted({f"{c.date}, commit {c.commit[:10]}{'-dirty' * c.commit.endswith('-dirty')}" for c in cells})
    return [
        *(f"## {name}", "", "Dev BLEU with beam search:", ""),
        *markdown(header, rows),
        "",
        f"Best on dev, and so the one for the test set: **{best}** (of it: {found[best][0].chosen}).",
        f"BLEU {cells[0].signature}; {'; '.join(made)}.",
        *("", "Dev BLEU, greedy, at the last validation within so many minutes of training:", ""),
        *markdown(["recipe", *(f"{time:g}" for time in times)], curves),
        "",
    ]


_FACTS = (("steps", ",.0f"), ("minutes", ".1f"), ("speed", ",.0f"))


def gain(cells: Sequence[Cell], others: Sequence[Cell]) -> str:
    """Of the best checkpoint or average over that of others, seed by seed: mean and deviation."""
    base = {cell.seed: cell for cell in others}
    pairs = [(cell, base[cell.seed]) for cell in cells if cell.seed in base and base[cell.seed] is not cell]
    differences = [cell.score - other.score for cell, other in pairs]
    text = spread(differences)
    return f"+{text}" if differences and statistics.mean(differences) >= 0 else text


def at(cell: Cell, minutes: float) -> float | None:
    """The latest greedy BLEU; what little time runs over the limit belongs to it."""
    reached = [point.bleu for point in cell.curve if point.minutes <= minutes + 1]
    return reached[-1] if reached else None


def tested(found: Mapping[str, Any]) -> list[str]:
    seeds = found["seeds"].values()
    bleu, chrf = (spread([scores[name]["value"] for scores in seeds]) for name in ("BLEU", "chrF"))
    signatures = next(iter(seeds))
    return [
        f"Test set, {found['recipe']}, seeds {', '.join(found['seeds'])}: **BLEU {bleu}**, chrF {chrf}",
        f"({signatures['BLEU']['signature']}; {signatures['chrF']['signature']}).",
        "",
    ]
