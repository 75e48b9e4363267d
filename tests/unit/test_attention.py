"""Scorers against loops over float64 numbers."""

import pytest
import torch
from oracles import attention_scores

from nmt.config import AdditiveConfig, DotConfig, GeneralConfig, ScaledDotConfig
from nmt.data.batch import BOS, EOS, PAD, UNK
from nmt.models.attention import Attention, build_attention, build_scorer
from nmt.models.interface import Memory
from nmt.models.layers import TokenEmbedding, embedding_table

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
        return attention(query, *attention.keys(memory), None)

    context, weights = attend(states)
    permuted_context, permuted = attend(states[:, order])
    torch.testing.assert_close(permuted, weights[:, :, order])
    torch.testing.assert_close(permuted_context, context)


@pytest.mark.parametrize("kind", SCORERS)
@torch.no_grad()
def test_many_heads_equal_loops(kind):
    """Each head is the scorer on its own projections; contexts are joined, weights averaged."""
    torch.manual_seed(3)
    config = SCORERS[kind].model_copy(update={"heads": 2})
    attention = build_attention(config, 6, 8, "test")
    query, memory = (
        drawn(2, 3, 6),
        Memory(drawn(2, 4, 8), torch.tensor([[True] * 4, [True] * 3 + [False]]), drawn(2, 8)),
    )
    context, weights = attention(query, *attention.keys(memory), memory.mask)
    assert (context.shape, weights.shape) == ((2, 3, 8), (2, 3, 4))
    for b, size in ((0, 4), (1, 3)):
        states = memory.states[b, :size]
        found = torch.zeros(3, 4)
        for head in range(2):
            q = (query[b] @ attention.query.weight.T)[:, 3 * head : 3 * head + 3]
            k = (states @ attention.key.weight.T)[:, 3 * head : 3 * head + 3]
            v = (states @ attention.value.weight.T)[:, 4 * head : 4 * head + 4]
            scores = torch.tensor(attention_scores(kind, q, k, dict(attention.scorer.named_parameters())))
            each = scores.float().softmax(-1)
            found[:, :size] += each / 2
            torch.testing.assert_close(context[b, :, 4 * head : 4 * head + 4], each @ v, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(weights[b], found, atol=1e-5, rtol=1e-5)


def test_additive_scores_in_parts(monkeypatch):
    """However few hidden layers may exist at a time, scores and gradients are the same."""
    torch.manual_seed(4)
    scorer, query, states = build_scorer(SCORERS["additive"], 6, 7), drawn(2, 5, 6), drawn(2, 4, 7)

    def scored():
        scores = scorer.score(query, scorer.keys(states))
        return scores, torch.autograd.grad(scores.square().sum(), list(scorer.parameters()))

    whole, gradients = scored()
    for most in (1, 2 * 4 * 5 * 2):
        monkeypatch.setattr("nmt.models.attention.MOST_HIDDEN", most)
        parts, found = scored()
        torch.testing.assert_close(parts, whole)
        torch.testing.assert_close(found, gradients)


def test_word_dropout_reads_unknown():
    torch.manual_seed(1)
    embedding = TokenEmbedding(embedding_table(9, 4), 0.0, 0.5)
    ids = torch.tensor([[BOS, EOS, PAD] + [5] * 997])
    torch.testing.assert_close(embedding.eval()(ids), embedding.table(ids) * 2)
    read = embedding.train()(ids) / 2
    unknown = (read == embedding.table.weight[UNK]).all(-1)[0]
    assert not unknown[:3].any()
    assert 0.4 < unknown[3:].float().mean() < 0.6
    torch.testing.assert_close(read[0, ~unknown], embedding.table(ids)[0, ~unknown])
