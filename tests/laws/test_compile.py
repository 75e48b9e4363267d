"""Law: a compiled model computes what the plain one does, losses and gradients; and so do compiled layers.

What PyTorch cannot compile (its own recurrent layers, for one) may break the graph; nothing may raise.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from zoo import ZOO, batch, build

from nmt.train.fused import compile_layers, interpreted

# PyTorch's compiler looks at deprecated parts of PyTorch while it traces, and warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore")

QUICK = [("lstm", "eager"), ("transformer", "eager")]
"""What `make test` compiles. Tracing takes seconds, above all where a target is read step by step."""
SLOW = [
    *((name, "aot_eager") for name in ZOO),
    ("lstm-deep-feeding", "inductor"),
    ("gru", "inductor"),
    ("transformer", "inductor"),
]
"""aot_eager traces what inductor does, both ways; inductor, which then calls a C++ compiler, takes up to minutes."""


@pytest.fixture(autouse=True)
def _fresh():
    """Nothing compiled is left over from another test, or to one."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def losses_and_gradients(model, forward, pairs):
    losses = forward(pairs, 0.1)
    return losses, torch.autograd.grad(losses.objective.sum(), list(model.parameters()))


@pytest.mark.parametrize(("name", "backend"), [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)])
def test_compile_equals_eager(name, backend):
    model = build(name)
    compiled = torch.compile(model, backend=backend)
    other = [] if (name, backend) in QUICK else [batch(3, seed=7)]  # it may compile again, with free dimensions
    for pairs in (batch(), *other):
        assert_equal(losses_and_gradients(model, compiled, pairs), losses_and_gradients(model, model, pairs))


def assert_equal(found, expected):
    (losses, gradients), (expected_losses, expected_gradients) = found, expected
    torch.testing.assert_close(losses.nll, expected_losses.nll, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(losses.objective, expected_losses.objective, atol=1e-5, rtol=1e-5)
    for one, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5 * max(10.0, float(other.abs().max())), rtol=1e-4)


# What `train.compile` does

TRANSFORMERS = [name for name, config in ZOO.items() if "transformer" in (config.encoder.kind, config.decoder.kind)]


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("transformer", "aot_eager"),
        *(pytest.param(name, "aot_eager", marks=pytest.mark.slow) for name in TRANSFORMERS[1:]),
        pytest.param("transformer", "inductor", marks=pytest.mark.slow),
    ],
)
def test_compiled_layers_are_equal(name, backend):
    """For batches of any shape, by code that layers and shapes share."""
    model, counter = build(name), CompileCounterWithBackend(backend)
    compiled = copy.deepcopy(model)
    compile_layers(compiled, counter)
    for size in (3, 5, 6, 7):
        pairs = batch(size, seed=size)
        assert_equal(losses_and_gradients(compiled, compiled, pairs), losses_and_gradients(model, model, pairs))
        # At most three for either kind of layer (padded or not, a probe or none), and two for the head.
        assert counter.frame_count <= 8


def test_layers_are_compiled_for_training_alone():
    model, counter = build("transformer"), CompileCounterWithBackend("eager")
    compile_layers(model, counter)
    with interpreted():
        expected = model(batch()).nll
    assert counter.frame_count == 0
    torch.testing.assert_close(model(batch()).nll, expected)
    assert counter.frame_count > 0


@pytest.mark.slow
def test_dropout_of_compiled_layers_is_drawn_from_the_seed_alone():
    model = build("transformer").train()
    compile_layers(model, "aot_eager")

    def drawn(seed):
        torch.manual_seed(seed)
        return model(batch()).nll

    torch.testing.assert_close(drawn(1), drawn(1), atol=0, rtol=0)
    assert not torch.allclose(drawn(1), drawn(2), atol=1e-3)


def test_nothing_of_a_recurrent_model_is_compiled():
    model = build("lstm")
    compile_layers(model, "no such backend")
    model(batch())
