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
QUICK = "reverse"
"""What `make test` has each model learn: positions and content matter in it."""
PAIRS = 24


@each_model
@pytest.mark.parametrize("task", [QUICK, *(pytest.param(t, marks=pytest.mark.slow) for t in TASKS if t != QUICK)])
def test_overfits(name, task):
    torch.manual_seed(1)
    model = build_model(widened(ZOO[name]), TGT_SIZE, TGT_SIZE)
    size = KNOWN if model.head.copies else SRC_SIZE  # words from KNOWN on would have to be translated, not copied
    src = sentences(PAIRS, shortest=2, longest=5, size=size)
    tgt = [TASKS[task](s) for s in src]
    batch = collate(src, tgt)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(1, 401):
        model(batch).objective.sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 0 and translate(model, src) == tgt:
            return
    assert translate(model, src) == tgt


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
    torch.manual_seed(1)
    draw = random.Random(1)
    model = build_model(widened(ZOO[name]), len(TOKENIZER), len(TOKENIZER))
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    feeder, new = Feeder(TOKENIZER, TOKENIZER, copies=True, spells=model.spells), with_names(draw, 50)
    for step in range(1, 801):
        examples = [feeder.example((a, TOKENIZER.encode(a)), (b, TOKENIZER.encode(b))) for a, b in with_names(draw, 32)]
        # Smoothed: else nothing tells the generating half of a fixed gate not to end the sentence where a name is due.
        model(collate_examples(examples), smoothing=0.1).objective.sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0:
            translator = Translator(model, (TOKENIZER, TOKENIZER), SearchConfig(beam=2), device=torch.device("cpu"))
            found = [translation.text for translation in translator.translate([a for a, _ in new])]
            if found == [b for _, b in new]:
                return
    pytest.fail(str([(a, b, c) for (a, b), c in zip(new, found, strict=True) if b != c][:5]))
