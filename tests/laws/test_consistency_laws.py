"""Laws of training with two passes: divergences against the plain formula, the objectives against their papers."""

import pytest
import torch
from zoo import TGT_SIZE, batch, build, each_model

from nmt.config import RDrop, SimCut, TrainConfig
from nmt.data.batch import EOS, PAD, UNK
from nmt.models import heads, softmax
from nmt.train.objective import Objective, _twice


def plain_divergence(p, q, real):
    """KL(p || q) of log-probabilities [B,T,V], summed by words that p supports at all."""
    supported = p > -80
    return torch.where(supported, p.exp() * (p - q.clamp_min(-87.3365)), 0.0).sum(dim=-1) * real


def passes(model, pairs):
    """Two that differ by dropout."""
    model.train()
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout) and part.p == 0:
            part.p = 0.3
    torch.manual_seed(1)
    return model.force(pairs), model.force(pairs)


@each_model
def test_divergence_is_that_of_the_log_probabilities(name, monkeypatch):
    monkeypatch.setattr(heads, "ROWS", 10)  # several chunks
    monkeypatch.setattr(softmax, "CHUNK", 3 * TGT_SIZE)
    model, pairs = build(name), batch()
    one, other = passes(model, pairs)
    there, back = model.head.divergence(one, other)
    real = one.labels != PAD
    p, q = (model.head.log_probs(said.features, said.source) for said in (one, other))
    expected = plain_divergence(p, q, real), plain_divergence(q, p, real)
    for ours, theirs in zip((there, back), expected, strict=True):
        assert (ours[~real] == 0).all()
        assert (ours[real] > 0).any()
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)

    parameters = [w for w in model.parameters() if w.requires_grad]
    weigh = torch.rand(there.shape, generator=torch.Generator().manual_seed(2))
    grads = [
        torch.autograd.grad(((a + 2 * b) * weigh).sum(), parameters, retain_graph=True, materialize_grads=True)
        for a, b in ((there, back), expected)
    ]
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5 * max(1.0, float(theirs.abs().max())), rtol=1e-3)


@each_model
def test_without_chance_rdrop_changes_nothing(name):
    """In evaluation mode both passes are the same one."""
    model, pairs = build(name), batch()
    plain, twice = (
        Objective(model, TrainConfig(consistency=kind)).eval()(pairs) for kind in (TrainConfig().consistency, RDrop())
    )
    torch.testing.assert_close(twice.nll, plain.nll, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(twice.objective, plain.objective, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", ["lstm-feeding", "transformer"])
def test_rdrop_is_the_papers(name):
    """Half of -log p - log q + weight (KL(p || q) + KL(q || p)) / 2, for the rows of one doubled batch."""
    model, pairs = build(name).train(), batch()
    objective = Objective(model, TrainConfig(consistency=RDrop(weight=4.0), label_smoothing=0.0))
    torch.manual_seed(3)
    losses = objective(pairs)
    torch.manual_seed(3)
    doubled = _twice(pairs, cut=0.0)
    p, q = log_probs(model, doubled).chunk(2)
    labels = pairs.tgt.ids[:, 1:]
    real = labels != PAD
    nll = [-x.gather(2, labels[:, :, None])[:, :, 0] * real for x in (p, q)]
    divergences = plain_divergence(p, q, real) + plain_divergence(q, p, real)
    torch.testing.assert_close(losses.nll, sum(nll) / 2, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(losses.objective, (sum(nll) + 4.0 * divergences / 2) / 2, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["lstm-feeding", "transformer"])
def test_simcut_is_the_papers(name):
    """-log p + weight KL(p || q), q reading the pair with words cut out; it is not told other labels."""
    model, pairs = build(name).train(), batch()
    objective = Objective(model, TrainConfig(consistency=SimCut(weight=2.0, cut=0.4), label_smoothing=0.0))
    torch.manual_seed(3)
    losses = objective(pairs)
    torch.manual_seed(3)
    doubled = _twice(pairs, cut=0.4)
    for whole, cut in (part.ids.chunk(2) for part in (doubled.src, doubled.tgt)):
        changed = whole != cut
        assert changed.any()
        assert (cut[changed] == UNK).all()
        assert (whole[changed] > EOS).all()
    p, q = log_probs(model, doubled).chunk(2)
    labels = pairs.tgt.ids[:, 1:]
    real = labels != PAD
    nll = -p.gather(2, labels[:, :, None])[:, :, 0] * real
    torch.testing.assert_close(losses.nll, nll, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(losses.objective, nll + 2.0 * plain_divergence(p, q, real), atol=1e-4, rtol=1e-4)


def log_probs(model, pairs):
    said = model.force(pairs)
    return model.head.log_probs(said.features, said.source)
