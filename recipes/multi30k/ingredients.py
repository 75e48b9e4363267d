"""What R-Drop, SimCut, subword sampling, a running mean of the weights and averaged checkpoints each give on Multi30k.

    python recipes/multi30k/ingredients.py -o runs/ingredients --data FOLDER [--seeds 1 2 3] [--rows NAME ...] [--test]

FOLDER has train, val and test_2016_flickr in English and German, by default lower-cased and tokenised (README.md says
where that is from). Trains small.yaml with each of the ingredients, what is missing of it in runs/ingredients,
and writes results.json and results.md there after each training. --test scores what dev has chosen on the test set.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from nmt.errors import UserError

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from recipes.ablation import Recipe, Study, Task
from recipes.study import Pair, options_of, start

BASE = Recipe("small")
INGREDIENTS = {
    "rdrop": ("train.consistency={kind: rdrop, weight: 5}",),
    "simcut": ("train.consistency={kind: simcut, weight: 3, cut: 0.05}",),
    "subwords": ("train.subword_sampling={kind: bpe_dropout, rate: 0.1}",),
    "mean": ("train.mean_decay=0.999",),
}
"""With the values of those who proposed them. Averages need no row: they are made of every row's checkpoints."""
TOGETHER = ((), ("subwords",), ("rdrop", "subwords", "mean"), ("rdrop",), ("simcut",), ("mean",))
ROWS = tuple(Recipe(BASE.model, names).name for names in TOGETHER)
"""R-Drop and SimCut exclude each other. What the score depends on comes first."""
LONG = ("train.steps=100000",)
"""The clock ends training, not a number of updates: a second pass has to be worth its time."""
FORMS = ("{part}.{side}", "{part}.lc.norm.tok.{side}")
"""What the files are called; each may be a gzip file, .gz."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_of(__doc__, seeds=(1,))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--minutes", type=float, default=58.0, help="of each training, validations included")
    parser.add_argument(
        "--tokenize",
        choices=("none", "13a"),
        default="none",
        help="for BLEU: none of the tokenised text, 13a of the raw one",
    )
    parser.add_argument("--test", action="store_true", help="score the row that dev has chosen, and train nothing")
    options = parser.parse_args(arguments)
    task, settings = find(options.data, options.tokenize), [*LONG, *options.settings]
    study = Study(
        options.output, [task], Path(__file__).parent, INGREDIENTS, lambda recipe: BASE, options.minutes, settings
    )
    if options.test:
        study.test(task)
    else:
        for seed in dict.fromkeys(options.seeds):  # a seed of all rows first: what is there early can be looked at
            for name in options.rows:
                study.complete(task, Recipe.of(name), seed)
    print(study.write())


def find(folder: Path, tokenize: str) -> Task:
    """The files of the corpus; UserError where one is missing."""
    train, dev, test = (
        Pair(*(_file(folder, part, side) for side in ("en", "de"))) for part in ("train", "val", "test_2016_flickr")
    )
    return Task("en-de", train, dev, test, tokenize)


def _file(folder: Path, part: str, side: str) -> Path:
    names = [form.format(part=part, side=side) + zipped for form in FORMS for zipped in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder / names[0]} is missing", "--data names the folder of Multi30k; see README.md there")


if __name__ == "__main__":
    start(main)
