"""Every member of the zoo learns a small task by heart, to the last token, through search."""

import pytest
import torch
from zoo import TGT_SIZE, ZOO, collate, each_model, sentences

from nmt.models.build import build_model
from nmt.search.beam import beam_search

TASKS = {"copy": list, "reverse": lambda s: s[::-1], "sort": sorted}
PAIRS = 24


ROOM = {"width": 64, "feed_forward": 128, "attention_dropout": 0.0, "activation_dropout": 0.0}


def widened(config):
    """The zoo member with room to learn: the zoo is sized for laws, not for memory."""

    def roomy(part):
        return part.model_copy(update={key: value for key, value in ROOM.items() if key in type(part).model_fields})

    parts = {"embedding": roomy(config.embedding), "encoder": roomy(config.encoder), "decoder": roomy(config.decoder)}
    return config.model_copy(update={**parts, "dropout": 0.0})


@each_model
@pytest.mark.parametrize("task", TASKS)
def test_overfits(name, task):
    torch.manual_seed(1)
    model = build_model(widened(ZOO[name]), TGT_SIZE, TGT_SIZE)
    src = sentences(PAIRS, shortest=2, longest=5)
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
        found = beam_search(model.predictor(collate(src)), beam=2, limits=torch.full((len(src),), 8))
    model.train()
    return [hypotheses[0].tokens for hypotheses in found]
