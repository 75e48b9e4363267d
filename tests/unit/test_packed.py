"""Packed models say what they said before."""

import copy

import pytest
import torch
from zoo import batch, build, each_model

from nmt.models.packed import PackedLinear, _packable, pack

packable = pytest.mark.skipif(not _packable(torch.zeros(1)), reason="this PyTorch has no oneDNN")


@packable
@each_model
def test_a_packed_model_says_the_same(name):
    model, pairs = build(name), batch()
    packed = copy.deepcopy(model)
    pack(packed)
    with torch.inference_mode():
        expected = model.force(pairs)
        found = packed.force(pairs)
        ours, theirs = (m.head.log_probs(f.features, f.source) for m, f in ((packed, found), (model, expected)))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@packable
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_any_number_of_rows_and_any_strides(dtype, bias):
    if not _packable(torch.zeros(1, dtype=dtype)):
        pytest.skip("this processor has no layout for weights in bfloat16, and nothing is packed")
    torch.manual_seed(1)
    linear = torch.nn.Linear(48, 33, bias=bias).to(dtype)
    packed = PackedLinear(linear.weight, linear.bias)
    with torch.inference_mode():
        for states in (
            torch.randn(1, 1, 48),
            torch.randn(7, 48),
            torch.randn(3, 700, 48),
            torch.randn(48, 5, 2).permute(2, 1, 0),
        ):
            states = states.to(dtype)
            torch.testing.assert_close(
                packed(states), linear(states), atol=1e-5 if dtype == torch.float32 else 0.05, rtol=1e-2
            )


def test_elsewhere_than_on_a_cpu_nothing_is_packed():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2, device="meta"))
    pack(model)
    assert type(model[0]) is torch.nn.Linear
