"""The softmax over the vocabulary in bfloat16 on a CPU: filled up to round numbers of rows, which nobody sees."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nmt.device import autocast
from nmt.models import softmax
from nmt.models.softmax import ROWS

CPU = torch.device("cpu")
V, D = 19, 12


def layer(positions):
    """Hidden states, weights and biases, all with gradients, and labels."""
    torch.manual_seed(1)
    hidden, weight, bias = (torch.randn(*shape).requires_grad_() for shape in ((positions, D), (V, D), (V,)))
    return (hidden, weight, bias), torch.randint(V, (positions,))


@pytest.fixture(autouse=True)
def _several_chunks(monkeypatch):
    monkeypatch.setattr(softmax, "CHUNK", (2 * ROWS + 3) * V)


@pytest.mark.parametrize("positions", [1, ROWS, 3 * ROWS + 5])
@pytest.mark.parametrize("of", ["cross_entropy", "divergence"])
def test_results_and_gradients_are_those_of_float64(of, positions):
    tensors, labels = layer(positions)
    other = torch.randn(positions, D)

    with autocast(CPU, "bfloat16"):
        if of == "cross_entropy":
            ours = softmax.CrossEntropy()(*tensors, labels)
        else:
            ours = softmax.divergence(tensors[0], other, *tensors[1:])
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    p, q = (torch.log_softmax(states @ exact[1].T + exact[2], dim=-1) for states in (exact[0], other.double()))
    if of == "cross_entropy":
        theirs = -p.gather(1, labels[:, None])[:, 0], -p.mean(dim=-1)
    else:
        theirs = (p.exp() * (p - q)).sum(dim=-1), (q.exp() * (q - p)).sum(dim=-1)
    ours += torch.autograd.grad((ours[0] + 2 * ours[1]).sum(), tensors)
    theirs += torch.autograd.grad((theirs[0] + 2 * theirs[1]).sum(), exact)
    for one, another in zip(ours, theirs, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), another, rtol=0.05, atol=0.03 * float(another.detach().abs().max()))


class Shapes(TorchDispatchMode):
    """Of the products that are made."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            self.seen.add(tuple(tuple(factor.shape) for factor in args[-2:]))
        return func(*args, **(kwargs or {}))


def test_batches_of_like_size_have_products_of_the_same_shapes():
    seen = []
    for positions in (2 * ROWS + 1, 2 * ROWS + 40, 3 * ROWS):
        tensors, labels = layer(positions)
        with Shapes() as shapes:
            with autocast(CPU, "bfloat16"):
                nll, uniform = softmax.CrossEntropy()(*tensors, labels)
            (nll + uniform).sum().backward()
        seen.append(shapes.seen)
    assert seen[0] == seen[1] == seen[2]
    assert ((2 * ROWS, D), (D, V)) in seen[0]
    assert ((ROWS, D), (D, V)) in seen[0]
