"""Laws of models: what encoder, decoder and head promise each other, for every member of the zoo."""

import pytest
import torch
from zoo import TGT_SIZE, ZOO, batch, build, collate, each_attentive, each_model, sentences

from nmt.data.batch import PAD, Padded
from nmt.device import bfloat16_of_cpu
from nmt.models.interface import Features
from nmt.models.seq2seq import Seq2Seq

TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}


def assert_gradients_close(ours, theirs):
    """Rounding errors of a sum are as large as its terms allow: measured by the largest entry."""
    torch.testing.assert_close(ours, theirs, atol=2e-5 * max(5.0, float(theirs.abs().max())), rtol=1e-4)


class Recorder:
    def __init__(self):
        self.seen = {}

    def __call__(self, name, weights, values):
        self.seen.setdefault(name, []).append(weights)
        return weights


def forced(model, pairs, probe=None):
    """Log-probabilities [B,T,V] of a known target."""
    source = model.read(pairs)
    features = model.decoder.decode(pairs.tgt.ids[:, :-1], source, probe)
    return model.head.log_probs(features, source)


@each_model
def test_step_equals_decode(name):
    model, pairs = build(name), batch()
    expected = forced(model, pairs)
    predictor = model.predictor(pairs)
    state = predictor.start(1, expected.shape[1])
    for t in range(expected.shape[1]):
        log_probs, state = predictor.step(pairs.tgt.ids[:, t], state)
        torch.testing.assert_close(log_probs, expected[:, t], **TOLERANCE)


@each_model
def test_beams_are_queries(name):
    """K beams that read K different prefixes say what K sentences of one beam would."""
    model, beams, steps = build(name), 3, 4
    src = sentences(4)
    tokens = torch.randint(4, TGT_SIZE, (steps, 4 * beams), generator=torch.Generator().manual_seed(3))
    together = model.predictor(collate(src))
    tiled = model.predictor(collate([s for s in src for _ in range(beams)]))
    one, many = together.start(beams, steps), tiled.start(1, steps)
    for t in range(steps):
        a, one = together.step(tokens[t], one)
        b, many = tiled.step(tokens[t], many)
        torch.testing.assert_close(a, b, **TOLERANCE)


@each_model
def test_reorder_commutes(name):
    """Reordering the state and then stepping is stepping and then reordering."""
    model, beams = build(name), 4
    predictor = model.predictor(collate(sentences(2)))
    tokens = torch.arange(4, 4 + 2 * beams)
    rows = torch.tensor([3, 3, 0, 1, 4, 7, 7, 6])  # beams never leave their sentence

    def after_one_step():
        return predictor.step(tokens, predictor.start(beams, 3))[1]

    plain, _ = predictor.step(tokens, after_one_step())
    reordered, _ = predictor.step(tokens[rows], after_one_step().reorder(rows))
    torch.testing.assert_close(reordered, plain[rows], **TOLERANCE)


@each_model
def test_select_keeps_the_rest(name):
    model = build(name)
    predictor = model.predictor(collate(sentences(5)))
    chosen = torch.tensor([4, 1])
    tokens = torch.arange(4, 14)
    everything, _ = predictor.step(tokens, predictor.start(2, 3))
    some = predictor.select(chosen)
    rows = (chosen[:, None] * 2 + torch.arange(2)).flatten()
    assert some.sentences == 2
    torch.testing.assert_close(some.step(tokens[rows], some.start(2, 3))[0], everything[rows], **TOLERANCE)


@each_model
def test_padding_is_invisible(name):
    """More padding on either side changes no loss and no gradient."""
    model, pairs = build(name), batch()

    def widened(part, columns):
        spelled = part.spelled
        if spelled is not None:
            spelled = spelled._replace(words=torch.nn.functional.pad(spelled.words, (0, columns)))
        return Padded(torch.nn.functional.pad(part.ids, (0, columns), value=PAD), part.lengths, False, spelled)

    copy_ids = torch.nn.functional.pad(pairs.copy_ids, (0, 3), value=PAD)
    wide = pairs._replace(src=widened(pairs.src, 3), tgt=widened(pairs.tgt, 2), copy_ids=copy_ids)
    losses = model(pairs, 0.1).objective
    wider = model(wide, 0.1).objective
    torch.testing.assert_close(wider[:, : losses.shape[1]], losses, **TOLERANCE)
    assert (wider[:, losses.shape[1] :] == 0).all()
    parameters = list(model.parameters())
    for a, b in zip(
        torch.autograd.grad(losses.sum(), parameters), torch.autograd.grad(wider.sum(), parameters), strict=True
    ):
        assert_gradients_close(a, b)


@each_model
def test_batch_is_invisible(name):
    """A pair has the same losses alone as among others."""
    model = build(name)
    src, tgt = sentences(5), sentences(5, 9)
    together = model(collate(src, tgt)).nll
    for n in range(5):
        alone = model(collate([src[n]], [tgt[n]])).nll[0]
        torch.testing.assert_close(together[n, : len(alone)], alone, **TOLERANCE)
        assert (together[n, len(alone) :] == 0).all()


@each_model
def test_causal(name):
    """What is said at a position does not depend on later target tokens."""
    model, pairs = build(name), batch()
    before = forced(model, pairs)
    for t in range(1, before.shape[1]):
        ids = pairs.tgt.ids.clone()
        ids[:, t + 1 :] = 5
        changed = forced(model, pairs._replace(tgt=pairs.tgt._replace(ids=ids)))
        torch.testing.assert_close(changed[:, : t + 1], before[:, : t + 1], **TOLERANCE)


@each_attentive
def test_weights_sum_to_one_and_padding_gets_none(name):
    model, pairs, recorder = build(name), batch(), Recorder()
    model.attend(pairs, recorder)
    weights = torch.cat(recorder.seen[model.decoder.alignment.name], dim=2)  # [B,H,T,S]
    assert weights.shape[2:] == (pairs.tgt.ids.shape[1] - 1, pairs.src.ids.shape[1])
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]), atol=1e-6, rtol=0)
    assert (weights.masked_select(~pairs.src.mask[:, None, None]) == 0).all()
    assert (weights.masked_select(pairs.src.mask[:, None, None]) > 0).all()


@each_model
def test_padding_embeddings_get_no_gradient(name):
    model, pairs = build(name), batch()
    embedded = []
    model.encoder.embedding.table.register_forward_hook(lambda _m, _i, output: embedded.append(output))
    losses = model(pairs)
    (gradient,) = torch.autograd.grad(losses.nll.sum(), embedded[:1])
    assert (gradient[~pairs.src.mask] == 0).all()
    assert (gradient[pairs.src.mask].abs().sum(-1) > 0).all()


@each_attentive
def test_a_probe_sees_and_changes(name):
    """Handing the weights back changes nothing, whichever kernels ran without; handing others back changes what is
    said."""
    model, pairs = build(name), batch()
    plain = forced(model, pairs)
    torch.testing.assert_close(forced(model, pairs, Recorder()), plain, **TOLERANCE)

    def first_word_only(_name, weights, _values):
        return torch.zeros_like(weights).index_fill(-1, torch.tensor([0]), 1.0)

    assert not torch.allclose(forced(model, pairs, first_word_only), plain, atol=1e-3)


@each_model
def test_distribution_sums_to_one(name):
    model, pairs = build(name), batch()
    log_probs = forced(model, pairs)
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(log_probs.shape[:2]), atol=1e-6, rtol=0)


@each_model
@pytest.mark.parametrize("chunk", [1, 3 * TGT_SIZE, 1 << 20])
def test_losses_are_the_distributions(name, chunk, monkeypatch):
    """In chunks of any size, losses and their gradients are those of the whole distribution at once."""
    monkeypatch.setattr("nmt.models.softmax.CHUNK", chunk)
    model, pairs = build(name), batch()
    labels = pairs.tgt.ids[:, 1:]
    losses = model(pairs, smoothing=0.2)
    log_probs = forced(model, pairs)
    nll = -log_probs.gather(2, labels[:, :, None])[:, :, 0] * (labels != PAD)
    vocabulary = getattr(model.head, "vocabulary", model.head)  # smoothing is over what it generates
    generated = forced(Seq2Seq(model.encoder, model.decoder, vocabulary), pairs)
    smoothed = 0.8 * nll - 0.2 * generated.mean(-1) * (labels != PAD)
    torch.testing.assert_close(losses.nll, nll, **TOLERANCE)
    torch.testing.assert_close(losses.objective, smoothed, **TOLERANCE)
    parameters = list(model.parameters())
    weights = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1))
    for ours, plain in zip(
        torch.autograd.grad((losses.objective * weights + losses.nll).sum(), parameters),
        torch.autograd.grad((smoothed * weights + nll).sum(), parameters),
        strict=True,
    ):
        assert_gradients_close(ours, plain)


@each_model
def test_gradients_reach_every_parameter(name):
    model, pairs = build(name).train(), batch(8)
    model(pairs, 0.1).objective.sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@each_model
def test_low_precision_is_close(name):
    """bfloat16 autocast keeps losses in float32 and within its three digits."""
    if ZOO[name].has_lstm and not bfloat16_of_cpu().lstm:
        pytest.skip("this processor cannot train LSTM layers in bfloat16")
    model, pairs = build(name), batch(8)
    with torch.autocast("cpu", torch.bfloat16):
        low = model(pairs).nll
    assert low.dtype == torch.float32
    exact = model(pairs).nll
    assert (low.sum() - exact.sum()).abs() < 0.03 * exact.sum()


@each_model
def test_dropout_is_drawn_from_the_seed_alone(name):
    model, pairs = build(name).train(), batch()

    def drawn(seed):
        torch.manual_seed(seed)
        return model(pairs).nll

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_features_carry_what_heads_may_use():
    model, pairs = build("lstm-feeding"), batch(3)
    features = model.decoder.decode(pairs.tgt.ids[:, :-1], model.read(pairs))
    positions = pairs.tgt.ids[:, :-1].shape
    assert isinstance(features, Features)
    assert features.hidden.shape == (*positions, 16)
    assert features.context.shape == (*positions, 16)
    assert features.embedded.shape == (*positions, 12)
    assert features.weights.shape == (*positions, pairs.src.ids.shape[1])
