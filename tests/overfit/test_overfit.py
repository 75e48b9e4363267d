"""Every member of the zoo learns a small task by heart, to the last token, through search. And those that copy learn
what cannot be learned by heart: words that training never saw."""

import random

import pytest
import torch
from zoo import KNOWN, MEAN, SRC_SIZE, TGT_SIZE, ZOO, collate, each_model, sentences, widened

from nmt.config import SearchConfig, WordsConfig
from nmt.data.example import Feeder, collate_examples
from nmt.models.build import build_model
from nmt.search.beam import beam_search
from nmt.text.tokenizer import WordTokenizer
from nmt.translate import Translator

TASKS = {"reverse": lambda s: s[::-1], "copy": list, "sort": sorted}
PAIRS = 24
WARM_UP = 40
"""Updates until Adam has its full rate. Without, a transformer with norms after its layers may never learn."""


SEEDS = range(1, 6)
"""Tried one after the other until one learns. Most learn with any; a sentinel goes astray with three of ten."""


def quick_task(name):
    """What `make test` has the model learn: one in which positions and content matter, if it knows of positions."""
    encoder = ZOO[name].encoder
    return "sort" if encoder.kind == "transformer" and encoder.positions == "none" else "reverse"


@each_model
def test_overfits(name):
    assert any(steps_to_learn(name, quick_task(name), seed) for seed in SEEDS)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "task"), [(n, t) for n in ZOO if quick_task(n) != "sort" for t in ("copy", "sort")])
def test_overfits_other_tasks(name, task):
    assert any(steps_to_learn(name, task, seed) for seed in SEEDS)


def steps_to_learn(name, task, seed, most=400):
    """Updates until the model translates all pairs without a mistake; None if `most` are too few."""
    torch.manual_seed(seed)
    model = build_model(widened(ZOO[name]), TGT_SIZE, TGT_SIZE)
    size = KNOWN if model.head.copies else SRC_SIZE  # words from KNOWN on would have to be translated, not copied
    src = [list(dict.fromkeys(s)) for s in sentences(PAIRS, seed=seed, shortest=2, longest=5, size=size)]  # none twice
    tgt = [TASKS[task](s) for s in src]
    batch = collate(src, tgt)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(1, most + 1):
        warm_up(optimizer, 5e-3, step)
        model(batch).objective.sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 0 and translate(model, src) == tgt:
            return step
    return None


def warm_up(optimizer, rate, step):
    for group in optimizer.param_groups:
        group["lr"] = rate * min(1.0, step / WARM_UP)


def translate(model, src):
    model.eval()
    with torch.no_grad():
        found = beam_search(model.predictor(collate(src)), beam=2, limits=torch.full((len(src),), 8), penalty=MEAN)
    model.train()
    return [hypotheses[0].tokens for hypotheses in found]


TOKENIZER = WordTokenizer(list("abcdef"), WordsConfig(joint=True))


def with_names(draw, count):
    """Pairs of a few words among which there are one or two new names; the target is the source backwards."""
    lines = []
    for _ in range(count):
        words = draw.choices("abcdef", k=draw.randint(1, 3)) + [f"N{draw.random()}" for _ in range(draw.randint(1, 2))]
        draw.shuffle(words)
        lines.append((" ".join(words), " ".join(reversed(words))))
    return lines


@pytest.mark.parametrize("name", [name for name in ZOO if ZOO[name].head.kind == "copy"])
def test_learns_to_copy_words_never_seen(name):
    assert any(steps_to_copy(name, seed) for seed in SEEDS)


def steps_to_copy(name, seed, most=1000):
    """Updates until the model copies all names of 50 new sentences; None if `most` are too few."""
    torch.manual_seed(seed)
    draw = random.Random(seed)
    model = build_model(widened(ZOO[name]), len(TOKENIZER), len(TOKENIZER))
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    feeder, new = Feeder(TOKENIZER, TOKENIZER, copies=True, spells=model.spells), with_names(draw, 50)
    # With a fixed gate nothing else tells the generating half not to end the sentence where a name is due. A gate that
    # is learned may close under it: smoothing wears out what the generating half knows and asks for nothing of a gate.
    smoothing = 0.1 if ZOO[name].head.gate == "fixed" else 0.0
    for step in range(1, most + 1):
        warm_up(optimizer, 4e-3, step)
        examples = [feeder.example((a, TOKENIZER.encode(a)), (b, TOKENIZER.encode(b))) for a, b in with_names(draw, 32)]
        model(collate_examples(examples), smoothing=smoothing).objective.sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0:
            translator = Translator(model, (TOKENIZER, TOKENIZER), SearchConfig(beam=2), device=torch.device("cpu"))
            if [translation.text for translation in translator.translate([a for a, _ in new])] == [b for _, b in new]:
                return step
    return None
