"""Scorers against loops over float64 numbers."""

import math

import pytest
import torch
from oracles import attention_scores
from zoo import collate, rnn

from nmt.config import AdditiveConfig, DotConfig, GeneralConfig, ScaledDotConfig
from nmt.data.batch import BOS, EOS, PAD, UNK
from nmt.models.attention import Attention, build_attention, build_scorer
from nmt.models.build import build_model
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


def with_coverage(**settings):
    return AdditiveConfig(width=5, coverage=True, **settings)


def test_coverage_equals_loops():
    """See et al. 2017, equation 11, in float64 numbers."""
    torch.manual_seed(5)
    scorer = build_scorer(with_coverage(), 6, 7)
    query, states, history = drawn(2, 3, 6), drawn(2, 4, 7), drawn(2, 3, 4).abs()
    scores = scorer.score(query, scorer.keys(states), history)
    p = {name: value.double().tolist() for name, value in scorer.named_parameters()}
    for b in range(2):
        for q in range(3):
            for s in range(4):
                expected = 0.0
                for a in range(5):
                    inner = p["memory.bias"][a] + p["coverage"][a][0] * history[b, q, s].item()
                    inner += sum(w * x for w, x in zip(p["query.weight"][a], query[b, q].tolist(), strict=True))
                    inner += sum(w * x for w, x in zip(p["memory.weight"][a], states[b, s].tolist(), strict=True))
                    expected += p["v.weight"][0][a] * math.tanh(inner)
                assert scores[b, q, s].item() == pytest.approx(expected, abs=1e-5)


def test_no_history_yet_is_plain_additive():
    torch.manual_seed(6)
    scorer, plain = build_scorer(with_coverage(), 6, 7), build_scorer(SCORERS["additive"], 6, 7)
    plain.load_state_dict(scorer.state_dict(), strict=False)
    query, states = drawn(2, 3, 6), drawn(2, 4, 7)
    scores = scorer.score(query, scorer.keys(states), torch.zeros(2, 3, 4))
    torch.testing.assert_close(scores, plain.score(query, plain.keys(states)))


@pytest.mark.parametrize("config", [AdditiveConfig(width=5), with_coverage(), AdditiveConfig(width=5, heads=2)])
@pytest.mark.parametrize("calls", [1, 3])
def test_scores_in_parts(config, calls, monkeypatch):
    """However few hidden layers may be kept, scores and gradients are the same."""
    torch.manual_seed(4)
    attention = build_attention(config, 6, 8, "test")
    query, memory = drawn(2, 5, 6), Memory(drawn(2, 4, 8), None, drawn(2, 8))
    past = [None, drawn(2, 5, 4).abs()] if attention.scorer.uses_history else []

    def scored():
        context, weights = attention(query, *attention.keys(memory), None, *past, calls=calls)
        total = context.square().sum() + weights.square().sum()
        return weights, torch.autograd.grad(total, list(attention.parameters()))

    whole, gradients = scored()
    for most in (1, 2 * 4 * 5 * 2, 2 * 4 * 5 * 6):
        monkeypatch.setattr("nmt.models.attention.MOST_KEPT", most)
        parts, found = scored()
        torch.testing.assert_close(parts, whole)
        torch.testing.assert_close(found, gradients)


@pytest.mark.parametrize("feeding", [True, False])
def test_hidden_layers_are_not_kept_beyond_the_bound(feeding, monkeypatch):
    """All at once or step by step: a backward pass finds no more of them than it may."""
    config = rnn(feeding=feeding, attention=AdditiveConfig(width=37))
    model, pairs = build_model(config, 19, 19).eval(), collate([[5] * 9] * 3, [[6] * 11] * 3)

    def kept():
        layers = {}  # by where they lie

        def pack(tensor):
            if tensor.ndim == 4 and tensor.shape[-1] == 37:
                layers[tensor.data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(pairs).objective.sum()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        return sum(tensor.numel() for tensor in layers.values()), gradients

    whole, expected = kept()
    assert whole == 3 * 12 * 10 * 37  # [B,T,S,A], EOS included
    monkeypatch.setattr("nmt.models.attention.MOST_KEPT", whole - 1)
    bounded, found = kept()
    assert bounded == 0
    torch.testing.assert_close(found, expected)


def test_all_heads_hear_the_same_history():
    torch.manual_seed(7)
    attention = build_attention(with_coverage(heads=2), 6, 8, "test")
    query, history, heard = drawn(2, 3, 6), drawn(2, 3, 4).abs(), []
    memory = Memory(drawn(2, 4, 8), None, drawn(2, 8))
    keys, values = attention.keys(memory)
    attention(query, keys, values, None, lambda _, weights, __: heard.append(weights) or weights, history)
    for head in range(2):
        q = attention.query(query)[..., 3 * head : 3 * head + 3]
        expected = attention.scorer.score(q, keys[:, head], history).softmax(-1)
        torch.testing.assert_close(heard[0][:, head], expected)


def test_history_is_for_those_who_use_it():
    memory = Memory(drawn(2, 4, 6), None, drawn(2, 6))
    for config, history in ((with_coverage(), None), (DotConfig(), drawn(2, 3, 4))):
        attention = build_attention(config, 6, 6, "test")
        with pytest.raises(ValueError, match="a scorer that uses history must be given it"):
            attention(drawn(2, 3, 6), *attention.keys(memory), None, None, history)


@pytest.mark.parametrize("kind", SCORERS)
def test_padding_has_no_weight_and_no_gradient(kind):
    """Whatever stands there."""
    torch.manual_seed(8)
    attention = build_attention(SCORERS[kind], 6, 6, "test")
    states = drawn(2, 4, 6).requires_grad_()
    mask = torch.tensor([[True, True, False, False], [True] * 4])

    def attend(states):
        memory = Memory(states, mask, states[:, 0])
        return attention(drawn(2, 3, 6), *attention.keys(memory), mask)

    context, weights = attend(states)
    assert (weights[0, :, 2:] == 0).all()
    assert (weights[1] > 0).all()
    (gradient,) = torch.autograd.grad(context.square().sum() + weights.square().sum(), states)
    assert (gradient[0, 2:] == 0).all()
    assert (gradient[1].abs().sum(-1) > 0).all()
    other = states.detach().clone()
    other[0, 2:] = 1e4
    for one, two in zip(attend(other), (context, weights), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("kind", SCORERS)
def test_weights_do_not_change_with_a_shift_of_all_scores(kind):
    attention = build_attention(SCORERS[kind], 6, 6, "test")
    query, memory = drawn(2, 3, 6), Memory(drawn(2, 4, 6), None, drawn(2, 6))
    _, weights = attention(query, *attention.keys(memory), None)
    plain, shift = attention.scorer.score, drawn(2, 3, 1)
    attention.scorer.score = lambda *arguments: plain(*arguments) + 10 * shift
    _, shifted = attention(query, *attention.keys(memory), None)
    torch.testing.assert_close(shifted, weights, atol=1e-5, rtol=1e-5)
    assert weights.std() > 0.01


def test_additive_with_tiny_weights_is_the_mean():
    attention = build_attention(with_coverage(), 6, 6, "test")
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.mul_(1e-6)
    mask = torch.tensor([[True] * 3 + [False], [True] * 4])
    memory = Memory(drawn(2, 4, 6), mask, drawn(2, 6))
    context, weights = attention(drawn(2, 3, 6), *attention.keys(memory), mask, None, drawn(2, 3, 4).abs())
    for b, size in ((0, 3), (1, 4)):
        torch.testing.assert_close(weights[b, :, :size], torch.full((3, size), 1 / size))
        torch.testing.assert_close(context[b], memory.states[b, :size].mean(0).expand(3, -1), atol=1e-5, rtol=1e-5)


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
