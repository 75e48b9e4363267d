"""Laws of guided alignment: the loss by hand and by differences, what it moves, and that it joins every other loss."""

import math

import pytest
import torch
from zoo import SRC_SIZE, TGT_SIZE, ZOO, batch, each_attentive

from nmt.config import CopyHeadConfig, DecoderPointer, RDrop, TrainConfig
from nmt.data.batch import PAD
from nmt.models.build import build_model
from nmt.models.seq2seq import alignment_loss, coverage_loss
from nmt.train.objective import Objective, _twice


def guided(name, **changes):
    """A member of the zoo that is to learn alignments, and pairs with links for most labels."""
    torch.manual_seed(5)
    config = ZOO[name].model_copy(update={"guided_alignment": 0.3, **changes})
    pairs = batch()
    labels, src = pairs.tgt.ids[:, 1:], pairs.src
    links = (torch.rand(*labels.shape, src.ids.shape[1]) < 0.4).float()
    links = links * (labels != PAD)[:, :, None] * (src.ids != PAD)[:, None, :]
    return build_model(config, SRC_SIZE, TGT_SIZE), pairs._replace(
        links=links / links.sum(-1, keepdim=True).clamp_min(1)
    )


def test_the_loss_by_hand():
    weights = torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.9, 0.0]]])
    one, half, none = [1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 0.0]
    for links, expected in (
        ([one, none], [math.log(2), 0.0]),
        ([half, [0.0, 1.0, 0.0]], [math.log(4), -math.log(0.9)]),
        ([none, [0.0, 0.0, 1.0]], [0.0, -math.log(torch.finfo(torch.float32).tiny)]),
    ):
        torch.testing.assert_close(alignment_loss(weights, torch.tensor([links])), torch.tensor([expected]))


def test_its_gradient_is_that_of_differences():
    torch.manual_seed(1)
    scores = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    links = torch.rand(2, 3, 4, dtype=torch.float64).softmax(dim=-1)
    assert torch.autograd.gradcheck(lambda s: alignment_loss(s.softmax(dim=-1), links), (scores,))


@each_attentive
def test_it_joins_the_other_losses(name):
    model, pairs = guided(name, coverage=0.7)
    model.eval()
    forced = model.force(pairs)
    weights, real = forced.features.weights, forced.labels != PAD
    plain = model.head.losses(forced.features, forced.labels, forced.source, 0.1)
    expected = plain.objective + 0.3 * alignment_loss(weights, pairs.links) + 0.7 * coverage_loss(weights) * real
    found = model(pairs, smoothing=0.1)
    torch.testing.assert_close(found.objective, expected)
    torch.testing.assert_close(found.nll, plain.nll)
    assert (found.objective[~real] == 0).all()
    torch.testing.assert_close(
        model(pairs._replace(links=None), 0.1).objective, expected - 0.3 * alignment_loss(weights, pairs.links)
    )
    grads = torch.autograd.grad(
        found.objective.sum(), [w for w in model.parameters() if w.requires_grad], allow_unused=True
    )
    assert all(grad is None or torch.isfinite(grad).all() for grad in grads)


@each_attentive
def test_two_passes_are_guided_alike(name):
    model, pairs = guided(name)
    twice = _twice(pairs, cut=0.0)
    assert torch.equal(twice.links, torch.cat([pairs.links] * 2))
    settings = TrainConfig(consistency=RDrop())  # in evaluation mode both passes are the same one
    plain, both = (Objective(model, train).eval()(pairs) for train in (TrainConfig(), settings))
    torch.testing.assert_close(both.objective, plain.objective, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("copies", [False, True])
def test_only_the_chosen_head_is_moved(copies):
    """Of a transformer's attention to the source, the loss moves queries and keys of one head in one layer."""
    head = CopyHeadConfig(attention=DecoderPointer(layer=2, head=2)) if copies else ZOO["transformer"].head
    model, pairs = guided("transformer", head=head)
    layer, number = (2, 2) if copies else (1, 1)
    assert model.alignment == (f"decoder.{layer}.cross", "output", number)
    forced = model.force(pairs)
    alignment_loss(forced.features.weights, pairs.links).sum().backward()
    for n, part in enumerate(model.decoder.layers, 1):
        query, keys = part.cross.query.weight, part.cross.kv.weight
        if n > layer:
            assert query.grad is None
        if n == layer:
            for moved in (query.grad.chunk(2), keys.grad.chunk(2)[0].chunk(2)):
                assert [bool((rows != 0).any()) for rows in moved] == [number == 1, number == 2]
            assert (keys.grad.chunk(2)[1] == 0).all()  # values
