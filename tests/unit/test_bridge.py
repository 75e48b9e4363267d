"""The aggregation operators of the bridge against loops, and the wirings of the recurrent decoder."""

import math

import pytest
import torch
from zoo import batch, build, rnn

from nmt.config import (
    AdditiveConfig,
    Config,
    LastBridge,
    MaxBridge,
    MeanBridge,
    ModelConfig,
    NoAttentionConfig,
    PooledBridge,
    RnnDecoderConfig,
    SumBridge,
    ZeroBridge,
)
from nmt.models.bridge import Bridge, build_summary
from nmt.models.build import build_model
from nmt.models.interface import Memory

LENGTHS = (4, 2, 1)
MASK = torch.arange(4) < torch.tensor(LENGTHS)[:, None]
STATES = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(1))
NEAR = {"atol": 1e-6, "rtol": 1e-5}


def memory(mask=MASK):
    return Memory(STATES, mask, STATES[:, 0])


def real(sentence):
    return [STATES[sentence, position] for position in range(LENGTHS[sentence])]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LastBridge(), lambda b: STATES[b, 0]),
        (SumBridge(), lambda b: sum(real(b))),
        (MeanBridge(), lambda b: sum(real(b)) / LENGTHS[b]),
        (MaxBridge(), lambda b: torch.tensor([max(float(x[d]) for x in real(b)) for d in range(6)])),
    ],
)
def test_operators_equal_loops(config, expected):
    found = build_summary(config, 6)(memory())
    for b in range(3):
        torch.testing.assert_close(found[b], expected(b), **NEAR)


@pytest.mark.parametrize("score", ["dot", "bilinear", "mlp"])
@torch.no_grad()
def test_learned_vectors_attend(score):
    torch.manual_seed(1)
    pooled = build_summary(PooledBridge(score=score, vectors=2), 6)
    found = pooled(memory())
    assert found.shape == (3, 12)
    for b in range(3):
        for m in range(2):
            scores = []
            for x in real(b):
                mapped = x if score == "dot" else pooled.map.weight @ x
                mapped = torch.tanh(mapped) if score == "mlp" else mapped
                scores.append(math.exp(float(pooled.vectors[:, m] @ mapped)))
            expected = sum(s / sum(scores) * x for s, x in zip(scores, real(b), strict=True))
            torch.testing.assert_close(found[b, 6 * m : 6 * m + 6], expected, **NEAR)


def test_zero_starts_from_nothing():
    assert build_summary(ZeroBridge(), 6) is None
    start = Bridge(None, parts=2, layers=3, width=5)(memory())
    assert start.shape == (3, 2, 3, 5)
    assert (start == 0).all()


@torch.no_grad()
def test_a_bottleneck_knows_the_source_by_one_vector():
    """Two sources with the same summary are the same to it; and no probe hears anything."""
    model, pairs = build("bottleneck"), batch()
    assert model.decoder.alignment is None
    source = model.read(pairs)
    other = source._replace(memory=source.memory._replace(states=torch.zeros_like(source.memory.states)))
    tgt = pairs.tgt.ids[:, :-1]
    assert not torch.allclose(
        model.decoder.decode(tgt, source).hidden, model.decoder.decode(tgt, other).hidden, atol=1e-3
    )
    plain = build_model(rnn(attention=NoAttentionConfig()), 19, 19).eval()  # bridge: last, the encoder's summary
    source = plain.read(pairs)
    other = source._replace(memory=source.memory._replace(states=torch.zeros_like(source.memory.states)))
    torch.testing.assert_close(plain.decoder.decode(tgt, source).hidden, plain.decoder.decode(tgt, other).hidden)

    def never(*_):
        raise AssertionError

    plain.decoder.decode(tgt, source, never)


@torch.no_grad()
def test_bahdanau_asks_before_it_reads():
    """Its attention at a step does not depend on the token read there, Luong's does."""

    def weights(name, token):
        model, pairs = build(name), batch(2)
        source = model.read(pairs)
        return model.decoder.step(torch.tensor([token, token]), model.decoder.start(source, 2, 1), source)[0].weights

    torch.testing.assert_close(weights("bahdanau", 5), weights("bahdanau", 6))
    assert not torch.allclose(weights("lstm", 5), weights("lstm", 6), atol=1e-4)


def test_the_plain_concatenation_is_context_and_state():
    model, pairs = build("concat-feeding"), batch()
    features = model.decoder.decode(pairs.tgt.ids[:, :-1], model.read(pairs))
    assert features.hidden.shape[-1] == model.decoder.width == 32
    torch.testing.assert_close(features.hidden[..., :16], features.context)


def test_wires_that_do_not_fit():
    with pytest.raises(ValueError, match=r"attention is none, and .* these have to be: model\.decoder\.wiring=luong"):
        Config(model=ModelConfig(decoder=RnnDecoderConfig(wiring="bahdanau", attention=NoAttentionConfig())))
    with pytest.raises(ValueError, match=r"input_feeding .* in bahdanau wiring the context does that: leave it out"):
        RnnDecoderConfig(wiring="bahdanau", input_feeding=True)
    with pytest.raises(ValueError, match=r"these have to be: model\.decoder\.input_feeding=null"):
        Config(model=ModelConfig(decoder=RnnDecoderConfig(attention=NoAttentionConfig(), input_feeding=True)))
    assert RnnDecoderConfig(attention=AdditiveConfig()).feeds
    assert not RnnDecoderConfig(attention=NoAttentionConfig()).feeds
    assert not RnnDecoderConfig(input_feeding=False).feeds
