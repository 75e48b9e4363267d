"""The copying head against a naive loop, and at the edges of what numbers can say."""

import math

import pytest
import torch
from zoo import SRC_SIZE, TGT_SIZE, ZOO, build, collate, sentences

from nmt.config import CharactersConfig, Config, SentencePieceConfig, WordsConfig
from nmt.data.batch import PAD, UNK
from nmt.models.build import build_model
from nmt.models.interface import Features, Memory, Source
from nmt.models.seq2seq import Seq2Seq, coverage_loss

COPYING = [name for name in ZOO if ZOO[name].head.kind == "copy"]
each_copying = pytest.mark.parametrize("name", COPYING)


def repeated(count=6):
    """Sources that say some words twice, words the target lacks among them, and targets that have those words."""
    src = [[*s, s[0], 17, 17, s[-1]] for s in sentences(count)]
    src[0] = [4, 5, 4]  # nothing beyond the vocabulary
    tgt = [[TGT_SIZE, s[0], 7, UNK, s[0], TGT_SIZE] if 17 in s else [4, 9, 5] for s in src]
    return collate(src, tgt)


def spoken(model, pairs):
    source = model.read(pairs)
    return model.decoder.decode(pairs.tgt.ids[:, :-1], source), source


def naive(mixture, generated, copy_ids, size):
    """Probabilities [B,Q,V+E] in float64, number by number."""
    total = torch.zeros(*generated.shape[:2], size, dtype=torch.float64)
    for b in range(total.shape[0]):
        for q in range(total.shape[1]):
            for v in range(generated.shape[2]):
                total[b, q, v] += math.exp(mixture.log_generate[b, q, 0]) * math.exp(generated[b, q, v])
            for s in range(copy_ids.shape[1]):
                total[b, q, int(copy_ids[b, s])] += float(mixture.copied[b, q, s])
    return total


@each_copying
def test_the_mixture_is_that_of_a_naive_loop(name):
    model, pairs = build(name), repeated()
    with torch.no_grad():
        features, source = spoken(model, pairs)
        log_probs = model.head.log_probs(features, source)
        mixture = model.head.mixture(features, source)
        generated = model.head.vocabulary.log_probs(features, source)
        losses = model(pairs)
    assert pairs.extras > 0
    assert log_probs.shape[2] == TGT_SIZE + pairs.extras
    expected = naive(mixture, generated, pairs.copy_ids, log_probs.shape[2])
    torch.testing.assert_close(log_probs.double().exp(), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(log_probs.shape[:2]), atol=1e-6, rtol=0)
    labels = pairs.tgt.ids[:, 1:]
    nll = -expected.gather(2, labels[:, :, None])[:, :, 0].log() * (labels != PAD)
    torch.testing.assert_close(losses.nll.double(), nll, atol=1e-5, rtol=1e-5)


@each_copying
def test_losses_and_distribution_have_one_gradient_with_extras(name):
    model, pairs = build(name), repeated()
    labels = pairs.tgt.ids[:, 1:]
    features, source = spoken(model, pairs)
    plain = -(model.head.log_probs(features, source).gather(2, labels[:, :, None])[:, :, 0] * (labels != PAD)).sum()
    parameters = list(model.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(model(pairs).nll.sum(), parameters, allow_unused=True),
        torch.autograd.grad(plain, parameters, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


@each_copying
def test_padding_and_special_tokens_are_not_copied(name):
    model, pairs = build(name), repeated()
    with torch.no_grad():
        mixture = model.head.mixture(*spoken(model, pairs))
    assert (mixture.copied.masked_select(~pairs.src.mask[:, None]) == 0).all()
    torch.testing.assert_close(
        mixture.log_generate[:, :, 0].exp() + mixture.copied.sum(-1),
        torch.ones(mixture.copied.shape[:2]),
        atol=1e-6,
        rtol=0,
    )


@each_copying
def test_words_beyond_the_vocabulary_are_read_as_unknown(name):
    model = build(name)
    named, unknown = collate([[17, 5, 18]], [[TGT_SIZE, 6, TGT_SIZE + 1]]), collate([[17, 5, 18]], [[UNK, 6, UNK]])
    with torch.no_grad():
        a, b = (spoken(model, pairs)[0].hidden for pairs in (named, unknown))
    assert torch.equal(a, b)


def says(weights, gate, hidden):
    """Features of one sentence for a head whose pointer is the decoder's."""
    context = torch.zeros(1, len(weights), 16)
    embedded = torch.zeros(1, len(weights), 12)
    embedded[..., 0] = gate
    return Features(hidden, context, embedded, torch.tensor([weights]))


def pointed(copy_ids, extras=2):
    memory = Memory(torch.zeros(1, len(copy_ids), 16), None, torch.zeros(1, 16))
    return Source(memory, (), (), torch.tensor([copy_ids]), extras)


@pytest.fixture
def head():
    """Its gate is sigmoid of the first feature of what was read."""
    head = build("copy").head
    with torch.no_grad():
        head.gate.linear.weight.zero_()
        head.gate.linear.bias.zero_()
        head.gate.linear.weight[0, 16 + 16] = 1.0
    return head


def test_the_gate_s_limits_are_the_softmax_and_the_pointer(head):
    hidden = torch.randn(1, 1, 16)
    source = pointed([5, TGT_SIZE, 5, TGT_SIZE + 1])
    weights = [[0.1, 0.2, 0.3, 0.4]]
    open_gate = head.log_probs(says(weights, 200.0, hidden), source)
    torch.testing.assert_close(open_gate[..., :TGT_SIZE], head.vocabulary.log_probs(says(weights, 0, hidden), source))
    closed = head.log_probs(says(weights, -200.0, hidden), source).exp()
    expected = torch.zeros(1, 1, TGT_SIZE + 2)
    expected[0, 0, [5, TGT_SIZE, TGT_SIZE + 1]] = torch.tensor([0.4, 0.2, 0.4])
    torch.testing.assert_close(closed, expected)


def test_a_sure_pointer_under_the_fixed_gate_gives_one_half_and_half_the_softmax():
    head = build("copy-fixed").head
    head.pointer = None
    hidden = torch.randn(1, 1, 16)
    features = says([[0.0, 1.0, 0.0]], 0.0, hidden)
    source = pointed([4, 9, 7])
    with torch.no_grad():
        softmax = head.vocabulary.log_probs(features, source).exp()
        probability = head.log_probs(features, source).exp()[0, 0, 9]
    assert probability == pytest.approx(0.5 + 0.5 * float(softmax[0, 0, 9]), rel=1e-6)


def test_a_label_that_nothing_supports_has_a_finite_loss_and_gradient(head):
    hidden = torch.randn(1, 2, 16, requires_grad=True)
    features = says([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], 0.0, hidden)
    source = pointed([4, 5, TGT_SIZE])
    labels = torch.tensor([[TGT_SIZE, TGT_SIZE + 1]])  # no weight on it; not in this sentence at all
    nll = head.losses(features, labels, source, 0.1).nll
    assert nll.tolist()[0] == pytest.approx([87.336, 87.336], abs=0.01)
    nll.sum().backward()
    assert hidden.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


def test_very_improbable_words_keep_their_order_in_log_space(head):
    """Below what float32 can say as a probability, a loss is still exact."""
    hidden = torch.randn(1, 1, 16)
    source = pointed([4])
    with torch.no_grad():
        head.vocabulary.bias[7] = -300.0
        labels = torch.tensor([[7]])
        nll = head.losses(says([[1.0]], 0.0, hidden), labels, source, 0.0).nll
        expected = head.vocabulary.cross_entropy(says([[1.0]], 0.0, hidden), labels)[0] + math.log(2)
    assert float(nll) > 200
    torch.testing.assert_close(nll, expected)


def test_a_batch_without_what_can_be_copied_is_refused():
    model, pairs = build("copy"), repeated()
    with pytest.raises(ValueError, match="copy_ids"):
        model(pairs._replace(copy_ids=None, extras=0))


@each_copying
def test_the_probe_hears_what_is_copied(name):
    model, pairs, heard = build(name), repeated(), {}

    def probe(attention, weights, values):
        heard[attention] = weights, values.shape[:2]
        return weights

    with torch.no_grad():
        model.attend(pairs, probe)
        mixture = model.head.mixture(*spoken(model, pairs))
    weights, positions = heard["head.copy"]
    torch.testing.assert_close(weights[:, 0], mixture.copied)
    assert positions == pairs.src.ids.shape


SMALL = {"encoder": {"kind": "rnn", "width": 16}, "decoder": {"kind": "rnn", "width": 16}}
TRANSFORMER = {"kind": "transformer", "width": 16, "heads": 2, "layers": 2}


@pytest.mark.parametrize(
    ("head", "changes", "words"),
    [
        ({}, {"tokenizer": SentencePieceConfig(joint=False)}, "subwords of its own"),
        ({}, {"decoder": {**SMALL["decoder"], "attention": {"kind": "none"}}}, "attention of its own"),
        ({"gate": "sentinel"}, {}, "one more slot"),
        ({"attention": {"kind": "decoder", "layer": 1}}, {}, "an RNN has one"),
        ({"attention": {"kind": "decoder", "layer": 3}}, {"decoder": TRANSFORMER}, "layer is 3"),
        ({"attention": {"kind": "decoder", "head": 3}}, {"decoder": TRANSFORMER}, "head is 3"),
        ({"attention": {"kind": "dot"}}, {"decoder": {"kind": "rnn", "width": 32}}, "vectors of one width"),
        ({"attention": {"kind": "general", "heads": 2}}, {}, "heads is 1"),
        ({"attention": {"kind": "additive", "coverage": True}}, {}, "whole target at once"),
        ({"gate": "open"}, {}, "gate"),
    ],
)
def test_what_cannot_be_is_an_error_of_the_settings(head, changes, words):
    model = {**SMALL, "embedding": {"width": 16}, "head": {"kind": "copy", **head}}
    tokenizer = changes.get("tokenizer", WordsConfig())
    model |= {key: value for key, value in changes.items() if key != "tokenizer"}
    with pytest.raises(ValueError, match=words):
        Config.model_validate({"tokenizer": tokenizer.model_dump(), "model": model})


@pytest.mark.parametrize(
    "tokenizer", [WordsConfig(), CharactersConfig(), SentencePieceConfig(), WordsConfig(joint=True)]
)
def test_what_can_be_is_accepted(tokenizer):
    model = {**SMALL, "embedding": {"width": 16}, "head": {"kind": "copy"}}
    assert Config.model_validate({"tokenizer": tokenizer.model_dump(), "model": model}).model.head.kind == "copy"


def test_the_coverage_loss_by_hand():
    weights = torch.tensor([[[0.7, 0.3, 0.0], [0.5, 0.1, 0.4], [0.9, 0.05, 0.05]]])
    # Before the third step the positions have had 1.2, 0.4 and 0.4.
    torch.testing.assert_close(coverage_loss(weights), torch.tensor([[0.0, 0.6, 1.0]]))
    never_again = torch.eye(4)[None]
    assert (coverage_loss(never_again) == 0).all()


@pytest.mark.parametrize("name", [n for n in ZOO if n != "bottleneck" and n != "copy-bottleneck"])
def test_coverage_adds_to_the_objective_alone(name):
    """With smoothing and copying, RNN and transformer; padding costs nothing."""
    pairs = repeated() if name in COPYING else collate(sentences(4), sentences(4, 9))
    config = ZOO[name].model_copy(update={"coverage": 0.5})
    torch.manual_seed(1)
    with_loss = build_model(config, SRC_SIZE, TGT_SIZE).eval()
    without = Seq2Seq(with_loss.encoder, with_loss.decoder, with_loss.head)
    ours, plain = with_loss(pairs, 0.1), without(pairs, 0.1)
    torch.testing.assert_close(ours.nll, plain.nll)
    features, _ = spoken(with_loss, pairs)
    heard = features.weights
    expected = torch.zeros_like(plain.nll)
    for t in range(1, heard.shape[1]):
        expected[:, t] = torch.minimum(heard[:, t], heard[:, :t].sum(1)).sum(-1)
    expected *= pairs.tgt.ids[:, 1:] != PAD
    torch.testing.assert_close(ours.objective - plain.objective, 0.5 * expected, atol=2e-5, rtol=1e-4)
    ours.objective.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in with_loss.parameters())
