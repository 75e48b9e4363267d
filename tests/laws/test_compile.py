"""Law: a compiled model computes what the plain one does, losses and gradients.

What PyTorch cannot compile (its own recurrent layers, for one) may break the graph; nothing may raise.
"""

from __future__ import annotations

import pytest
import torch
from zoo import ZOO, batch, build

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
        losses, gradients = losses_and_gradients(model, model, pairs)
        compiled_losses, compiled_gradients = losses_and_gradients(model, compiled, pairs)
        torch.testing.assert_close(compiled_losses.nll, losses.nll, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(compiled_losses.objective, losses.objective, atol=1e-5, rtol=1e-5)
        for found, expected in zip(compiled_gradients, gradients, strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5 * max(10.0, float(expected.abs().max())), rtol=1e-4)
