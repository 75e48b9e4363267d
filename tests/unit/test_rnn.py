"""The recurrent encoder against PyTorch's own packed bidirectional layers with the same weights; coverage as an input
of attention; variational dropout."""

import pytest
import torch
from zoo import SRC_SIZE, TGT_SIZE, batch, build, rnn, sentences

from nmt.config import AdditiveConfig, NoAttentionConfig
from nmt.data.batch import collate
from nmt.models.build import build_model
from nmt.models.layers import VariationalDropout


@pytest.mark.parametrize("name", ["lstm", "lstm-deep-feeding", "gru-deep"])
def test_encoder_equals_packed_bidirectional(name):
    model, pairs = build(name), batch(6)
    encoder = model.encoder
    layers = len(encoder.forwards)
    kind = type(encoder.forwards[0])
    reference = kind(encoder.embedding.width, encoder.width // 2, layers, batch_first=True, bidirectional=True).eval()
    with torch.no_grad():
        for layer in range(layers):
            for suffix, ours in (("", encoder.forwards[layer]), ("_reverse", encoder.backwards[layer])):
                for weight in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                    getattr(reference, f"{weight}_l{layer}{suffix}").copy_(getattr(ours, f"{weight}_l0"))
    embedded = encoder.embedding(pairs.src.ids)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        embedded, pairs.src.lengths, batch_first=True, enforce_sorted=False
    )
    outputs, final = reference(packed)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
    memory = encoder(pairs.src)
    torch.testing.assert_close(memory.states, expected, atol=1e-5, rtol=1e-5)
    hidden = final[0] if isinstance(final, tuple) else final  # [2L,B,D/2]
    torch.testing.assert_close(memory.summary, torch.cat([hidden[-2], hidden[-1]], dim=-1), atol=1e-5, rtol=1e-5)


class Histories:
    """A probe that notes what a scorer hears of earlier steps, beside the weights, which it may change."""

    def __init__(self, model, change=lambda weights: weights):
        self.weights, self.heard, self.change = [], [], change
        attention = model.decoder.attention
        self.plain = attention.scorer.score
        attention.scorer.score = self.score

    def score(self, query, keys, history):
        self.heard.append(history)
        return self.plain(query, keys, history)

    def __call__(self, name, weights, values):
        self.weights.append(self.change(weights))
        return self.weights[-1]


COVERING = AdditiveConfig(width=8, coverage=True)


def covering(attention=COVERING, **settings):
    torch.manual_seed(1)
    return build_model(rnn(attention=attention, **settings), SRC_SIZE, TGT_SIZE).eval()


@pytest.mark.parametrize("settings", [{"feeding": False}, {"feeding": True}, {"wiring": "bahdanau"}])
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("change", [False, True])
def test_coverage_is_the_attention_of_all_earlier_steps(settings, heads, change):
    """That which was used, whatever a probe made of it."""
    model, pairs = covering(COVERING.model_copy(update={"heads": heads}), **settings), batch(4)
    probe = Histories(model, torch.zeros_like if change else lambda weights: weights)
    model.attend(pairs, probe)
    rows, steps = pairs.tgt.ids[:, :-1].shape
    assert len(probe.heard) == len(probe.weights) == steps
    total = torch.zeros(rows, 1, pairs.src.ids.shape[1])
    for heard, weights in zip(probe.heard, probe.weights, strict=True):
        torch.testing.assert_close(heard, total.repeat_interleave(heads, dim=0))
        total = total + weights.mean(dim=1)
    if not change:
        torch.testing.assert_close(total.sum(-1), torch.full((rows, 1), float(steps)))


def test_coverage_moves_with_its_beam():
    """What a beam's attention hears is the sum along its own path, whichever rows it came through."""
    model = covering(feeding=False)
    probe = Histories(model)
    predictor = model.predictor(batch(2))
    state, paths = predictor.start(3, 4), torch.zeros(6, batch(2).src.ids.shape[1])
    for step, rows in enumerate(([0, 1, 2, 3, 4, 5], [2, 2, 0, 4, 3, 3], [1, 0, 1, 5, 5, 4])):
        moved = torch.tensor(rows)
        state, paths = state.reorder(moved), paths[moved]
        before = state.coverage
        _, state = predictor.step(torch.arange(4, 10) + step, state)
        torch.testing.assert_close(probe.heard[-1], paths.view(2, 3, -1))
        paths = paths + (state.coverage - before)
    assert paths.sum(-1).tolist() == pytest.approx([3.0] * 6, abs=1e-5)
    assert not torch.allclose(paths[0], paths[1])


def test_coverage_learns():
    """The gradient of a later step goes back through what earlier steps attended to."""
    model, pairs = covering(feeding=False), batch(4)
    probe = Histories(model)
    model.attend(pairs, probe)
    later = probe.weights[-1].square().sum()
    assert torch.autograd.grad(later, probe.weights[0])[0].abs().sum() > 0


def test_variational_dropout_is_constant_over_time():
    torch.manual_seed(1)
    dropout = VariationalDropout(0.4)
    states = torch.ones(300, 5, 40)
    dropped = dropout(states)
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert dropped.unique().tolist() == [0.0, pytest.approx(1 / 0.6, abs=1e-4)]
    assert dropped.mean().item() == pytest.approx(1, abs=0.03)
    assert dropout.eval()(states) is states


VARIATIONAL = {
    "parallel": rnn(layers=3, attention=NoAttentionConfig(), variational=True),
    "feeding": rnn(layers=3, feeding=True, variational=True),
    "bahdanau": rnn(layers=2, cell="gru", wiring="bahdanau", variational=True),
    "residual": rnn(layers=3, feeding=None, residual=True, variational=True, output="concat", tie="none"),
}


def variational(name, **changes):
    config = VARIATIONAL[name].model_copy(update={"dropout": 0.5})
    encoder = config.encoder.model_copy(update={"variational": True, **changes})
    decoder = config.decoder.model_copy(update=changes)
    torch.manual_seed(1)
    return build_model(config.model_copy(update={"encoder": encoder, "decoder": decoder}), SRC_SIZE, TGT_SIZE)


@pytest.mark.parametrize("name", VARIATIONAL)
def test_variational_dropout_changes_training_only(name):
    pairs = batch(5)
    varied, plain = variational(name), variational(name, variational=False)
    plain.load_state_dict(varied.state_dict())
    torch.testing.assert_close(varied.eval()(pairs).nll, plain.eval()(pairs).nll, atol=0, rtol=0)
    losses = varied.train()(pairs).objective
    losses.sum().backward()
    for parameter_name, parameter in varied.named_parameters():
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name
    assert not torch.equal(varied(pairs).nll, varied(pairs).nll)


@pytest.mark.parametrize("name", VARIATIONAL)
def test_one_mask_for_all_steps_of_a_target(name):
    """What is dropped of the embedding, between layers and of the output is the same at each position, and another
    set in each sentence and each pass."""
    same_length = sentences(5, shortest=6, longest=6)  # the vector of padding is 0 throughout
    model, pairs = variational(name).train(), collate(same_length, same_length)
    read = [[] for _ in model.decoder.recurrence.layers]
    plain = model.decoder.recurrence._read

    def listen(states, layer, state):
        read[layer].append(plain(states, layer, state))
        return read[layer][-1]

    model.decoder.recurrence._read = listen
    features = model.decoder.decode(pairs.tgt.ids[:, :-1], model.read(pairs))
    steps = features.hidden.shape[1]
    for layer, parts in enumerate(read):
        sequence = parts[0] if parts[0].ndim == 3 else torch.stack(parts, dim=1)  # [B,T,D]
        assert sequence.shape[1] == steps
        if layer > 0:
            assert_one_mask(sequence)
    assert_one_mask(features.hidden)
    assert_one_mask(features.embedded)
    again = model.decoder.decode(pairs.tgt.ids[:, :-1], model.read(pairs))
    assert not torch.equal(again.hidden == 0, features.hidden == 0)


def assert_one_mask(sequence):
    """[B,T,D]: each sentence has features that are always 0, and others that never are."""
    dropped = sequence == 0
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert 0.2 < dropped.float().mean() < 0.8
    assert not torch.equal(dropped[0], dropped[1])


def test_a_step_while_training_keeps_the_mask():
    """Search, too, and through changes of rows, should anybody search with dropout."""
    model = variational("feeding").train()
    predictor = model.predictor(batch(2))
    state = predictor.start(2, 3)
    hidden = []
    for _ in range(3):
        features, state = model.decoder.step(torch.arange(4, 8), state, predictor.source)
        hidden.append(features.hidden == 0)
    assert torch.equal(hidden[0], hidden[1])
    assert torch.equal(hidden[0], hidden[2])
    features, _ = model.decoder.step(torch.arange(4, 8), state.reorder(torch.tensor([1, 0, 2, 2])), predictor.source)
    assert torch.equal(features.hidden.flatten(0, 1) == 0, hidden[0].flatten(0, 1)[[1, 0, 2, 2]])
