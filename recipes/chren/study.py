"""Cherokee and English, both ways, from 11,639 pairs: what each ingredient gives.

    python recipes/chren/study.py -o runs/chren --data FOLDER [--seeds 1 2 3] [--directions chr-en en-chr] [--test]

FOLDER has train, dev and test with the suffixes .chr and .en, and mono.chr, all plain or gzip. Ingredients are tried
on top of the better model, and text on top of the best of that, as dev (of the first seed) decides. Trains what is
missing in runs/chren, and writes results.json and results.md there after each training. --test scores what dev has
chosen on the test set.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from nmt.errors import UserError

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from recipes.ablation import More, Recipe, Study, Task
from recipes.study import Pair, log_of, nmt, options_of, start

MODELS = ("transformer", "rnn")
STAGES = (("fewer-pieces", "more-pieces", "subwords"),)
"""What is tried in turn; of several in a stage one is kept at most."""
INGREDIENTS = {
    "fewer-pieces": ("tokenizer.size=2000",),
    "more-pieces": ("tokenizer.size=8000",),
    "subwords": ("train.subword_sampling={kind: bpe_dropout, rate: 0.1}",),
    "back": (),  # both are more text, see `learn_from_mono`
    "self": (),
}
DIRECTIONS = ("chr-en", "en-chr")
LAST = {"chr-en": ("self", "<st>"), "en-chr": ("back", "<bt>")}
"""The last ingredient of a direction, and the tag of its pairs. Of mono.chr and its translations back-translation makes
translations of real sentences, and self-training sources of them."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_of(__doc__, seeds=(1,))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--directions", nargs="+", choices=DIRECTIONS, default=list(DIRECTIONS))
    parser.add_argument("--minutes", type=float, default=60.0, help="a training has at most")
    parser.add_argument("--test", action="store_true", help="score the rows that dev has chosen, and train nothing")
    options = parser.parse_args(arguments)
    tasks, mono = {name: find(options.data, name) for name in DIRECTIONS}, _file(options.data, "mono", "chr")
    study = Study(
        options.output,
        list(tasks.values()),
        Path(__file__).parent,
        INGREDIENTS,
        parent,
        options.minutes,
        options.settings,
    )
    asked, seeds = [tasks[name] for name in options.directions], list(dict.fromkeys(options.seeds))
    if options.test:
        for task in asked:
            study.test(task)
    else:
        for seed in seeds:
            for task in asked:
                climb(trained(study, task, seed, first=seeds[0]))
            translated = translate_mono(study, tasks["chr-en"], mono, seed, first=seeds[0])
            if translated is not None:
                for task in asked:
                    learn_from_mono(study, task, translated, seed, first=seeds[0])
    print(study.write())


def climb(score: Callable[[Recipe], float | None]) -> Recipe | None:
    """Tries the models, then the ingredients stage by stage, each on top of what has been best so far, and gives what
    is best in the end; None once a score is not known."""
    kept, best = None, float("-inf")
    for stage in (MODELS, *STAGES):
        options = [Recipe(name) if kept is None else add(kept, name) for name in stage]
        scores = []
        for recipe in options:
            found = score(recipe)
            if found is None:
                return None
            scores.append(found)
        if max(scores) > best:
            best = max(scores)
            kept = options[scores.index(best)]
    return kept


def add(recipe: Recipe, ingredient: str) -> Recipe:
    return recipe._replace(ingredients=(*recipe.ingredients, ingredient))


def parent(recipe: Recipe) -> Recipe:
    """What an ingredient was tried on top of; a model is compared with the first one."""
    return recipe._replace(ingredients=recipe.ingredients[:-1]) if recipe.ingredients else Recipe(MODELS[0])


def trained(study: Study, task: Task, seed: int, *, first: int) -> Callable[[Recipe], float]:
    """Scores by the first seed; makes sure that this seed is there, too."""

    def score(recipe: Recipe) -> float:
        decides = study.complete(task, recipe, first)
        if seed != first:
            study.complete(task, recipe, seed)
        return decides.score

    return score


def known(study: Study, task: Task, seed: int) -> Callable[[Recipe], float | None]:
    """Scores of what is there."""

    def score(recipe: Recipe) -> float | None:
        cell = study.find(task, recipe, seed)
        return None if cell is None else cell.score

    return score


# Text in one language


def translate_mono(study: Study, task: Task, mono: Path, seed: int, *, first: int) -> Path | None:
    """Translates Cherokee text with the best model from Cherokee, once, and gives the folder; None while there is
    none."""
    best = climb(known(study, task, first))
    if best is None or study.find(task, best, seed) is None:
        print("back-translation waits for all models from Cherokee", file=sys.stderr)
        return None
    folder = study.out / "text" / f"{best.name}-{seed}"
    if not (folder / "mono.src").exists():  # the last thing that is written
        nmt(log_of(folder), "backtranslate", study.run(task, best, seed), mono, "-o", folder, "--continue")
    return folder


def learn_from_mono(study: Study, task: Task, folder: Path, seed: int, *, first: int) -> None:
    """The last ingredient, on top of what has been kept."""
    kept = climb(known(study, task, first))
    if kept is None:
        return
    texts = {"en": folder / "mono.src", "chr": folder / "mono.tgt"}
    src, tgt = task.name.split("-")
    name, tag = LAST[task.name]
    study.complete(task, add(kept, name), seed, [More(Pair(texts[src], texts[tgt]), tag)])


# Files


def find(folder: Path, direction: str) -> Task:
    """The files of a direction; UserError where one is missing."""
    src, tgt = direction.split("-")
    train, dev, test = (Pair(_file(folder, part, src), _file(folder, part, tgt)) for part in ("train", "dev", "test"))
    return Task(direction, train, dev, test, "13a")


def _file(folder: Path, part: str, side: str) -> Path:
    for path in (folder / f"{part}.{side}", folder / f"{part}.{side}.gz"):
        if path.is_file():
            return path
    raise UserError(f"{folder / f'{part}.{side}'} is missing", "--data names the folder of ChrEn; see README.md there")


if __name__ == "__main__":
    start(main)
