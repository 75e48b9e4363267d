"""Guided attention learns the alignment it is shown, on pairs it has not seen, and is where the model looks it up."""

import numpy as np
import pytest
import torch
from zoo import KNOWN, TGT_SIZE, ZOO, collate, sentences, widened

from nmt.align.extract import default_reading, forced_weights
from nmt.data.example import Example
from nmt.data.guiding import collate_links
from nmt.models.build import build_model


def reversed_pairs(count, seed):
    """Sources, and a batch of them with their reverse as targets and links between words that are one."""
    src = sentences(count, shortest=2, longest=4, size=KNOWN, seed=seed)
    shares = [np.pad(np.eye(len(s), dtype=np.float32)[::-1], ((0, 1), (0, 1))) for s in src]
    return src, collate(src, [s[::-1] for s in src])._replace(links=collate_links(shares))


@pytest.mark.parametrize("name", ["general", "transformer", "copy-transformer"])
def test_attention_goes_where_links_say(name):
    assert any(steps_to_guide(name, seed) for seed in range(1, 6))


def steps_to_guide(name, seed, most=600):
    """Updates until attention looks up every word of 20 new pairs where it comes from; None if `most` are too few."""
    torch.manual_seed(seed)
    config = widened(ZOO[name]).model_copy(update={"guided_alignment": 1.0})
    model = build_model(config, TGT_SIZE, TGT_SIZE)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    unseen, _ = reversed_pairs(20, seed=1000 * seed)
    for step in range(1, most + 1):
        model(reversed_pairs(32, seed=1000 * seed + step)[1]).objective.sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 25 == 0:
            model.eval()
            known = [Example(s, s[::-1]) for s in unseen]
            reading, cpu = default_reading(model), torch.device("cpu")
            weights = forced_weights(model, known, reading, device=cpu, max_tokens=4096)
            if all(
                (part[: len(s), : len(s)].argmax(axis=1) == np.arange(len(s))[::-1]).all()
                for s, part in zip(unseen, weights, strict=True)
            ):
                return step
            model.train()
    return None
