"""Products of training in bfloat16 on a CPU: filled up to round numbers of rows, which nobody sees in the results."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from zoo import build, collate

from nmt.config import TrainConfig
from nmt.device import autocast
from nmt.models import softmax
from nmt.models.layers import ROWS, Linear, fill_rows
from nmt.train.objective import Objective

CPU = torch.device("cpu")


@pytest.mark.parametrize("rows", [1, ROWS - 1, ROWS, ROWS + 1])
def test_rows_are_filled_with_zeros(rows):
    states = torch.randn(rows, 3).bfloat16()
    filled = fill_rows(states)
    assert len(filled) % ROWS == 0
    assert len(filled) - rows < ROWS
    assert torch.equal(filled[:rows], states)
    assert not filled[rows:].any()
    assert fill_rows(states.float()).shape == (rows, 3)


@pytest.mark.parametrize("shape", [(5, 7), (ROWS,), (1,), (2, 3, 50)])
def test_linear_is_linear(shape):
    """Against float64: outputs and all gradients, to bfloat16's 8 bits."""
    torch.manual_seed(1)
    linear, states = Linear(24, 10), torch.randn(*shape, 24, requires_grad=True)
    weigh = torch.randn(*shape, 10)
    with autocast(CPU, "bfloat16"):
        said = linear(states)
    assert said.shape == weigh.shape
    assert said.dtype == torch.bfloat16
    ours = torch.autograd.grad((said * weigh).sum(), [states, *linear.parameters()])
    exact, read = torch.nn.Linear(24, 10).double(), states.detach().double().requires_grad_()
    exact.load_state_dict(linear.state_dict())
    expected = exact(read)
    theirs = torch.autograd.grad((expected * weigh).sum(), [read, *exact.parameters()])
    for one, other in zip((said, *ours), (expected, *theirs), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0.05, atol=0.02 * float(other.detach().abs().max()))


def test_nothing_is_filled_in_float32_or_in_evaluation():
    linear, states = Linear(4, 4), torch.randn(3, 4)
    with Shapes() as shapes:
        linear(states)
        linear.eval()
        with autocast(CPU, "bfloat16"):
            linear(states)
    assert shapes.seen == {((3, 4), (4, 4))}


class Shapes(TorchDispatchMode):
    """Of the plain products that are made."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            self.seen.add(tuple(tuple(factor.shape) for factor in args[-2:]))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["transformer", "transformer-alibi", "transformer-post"])
def test_batches_of_like_size_have_products_of_the_same_shapes(name, monkeypatch):
    monkeypatch.setattr(softmax, "CHUNK", 128 * 19)  # several chunks
    objective, seen = Objective(build(name).train(), TrainConfig()), []
    for count in (41, 42, 45):
        pairs = collate([[5, 6, 7, 8, 9, 10]] * count, [[7, 8, 9, 10]] * count)
        with Shapes() as shapes:
            with autocast(CPU, "bfloat16"):
                losses = objective(pairs)
            losses.objective.sum().backward()
        seen.append(shapes.seen)
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0]) > 10
