"""Scorers against loops over float64 numbers."""

import pytest
import torch
from oracles import attention_scores

from nmt.config import AdditiveConfig, DotConfig, GeneralConfig, ScaledDotConfig
from nmt.models.attention import Attention, build_scorer
from nmt.models.interface import Memory

SCORERS = {
    "dot": DotConfig(),
    "scaled-dot": ScaledDotConfig(),
    "general": GeneralConfig(),
    "additive": AdditiveConfig(width=5),
}


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("kind", SCORERS)
def test_scorer_equals_loops(kind):
    torch.manual_seed(1)
    memory_width = 6 if "dot" in kind else 7
    scorer = build_scorer(SCORERS[kind], query_width=6, memory_width=memory_width)
    query, states = drawn(2, 3, 6), drawn(2, 4, memory_width)
    scores = scorer.score(query, scorer.keys(states))
    assert scores.shape == (2, 3, 4)
    for b in range(2):
        expected = attention_scores(kind, query[b], states[b], dict(scorer.named_parameters()))
        torch.testing.assert_close(scores[b], torch.tensor(expected, dtype=torch.float32), atol=1e-5, rtol=1e-5)


def test_bilinear_with_identity_is_dot():
    scorer = build_scorer(GeneralConfig(), 6, 6)
    with torch.no_grad():
        scorer.bilinear.weight.copy_(torch.eye(6))
    query, states = drawn(2, 3, 6), drawn(2, 4, 6)
    dot = build_scorer(DotConfig(), 6, 6)
    torch.testing.assert_close(scorer.score(query, scorer.keys(states)), dot.score(query, dot.keys(states)))


@pytest.mark.parametrize("kind", SCORERS)
def test_permuting_the_source_permutes_the_weights(kind):
    torch.manual_seed(2)
    attention = Attention(build_scorer(SCORERS[kind], 6, 6), "test")
    query, states, order = drawn(1, 3, 6), drawn(1, 5, 6), torch.tensor([3, 0, 4, 1, 2])

    def attend(states):
        memory = Memory(states, None, states[:, 0])
        return attention(query, attention.keys(memory), memory)

    context, weights = attend(states)
    permuted_context, permuted = attend(states[:, order])
    torch.testing.assert_close(permuted, weights[:, :, order])
    torch.testing.assert_close(permuted_context, context)
