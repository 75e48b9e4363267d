"""The transformer against PyTorch's own modules with the same weights, and its parts against their formulae."""

import math

import pytest
import torch
from torch import nn
from zoo import batch, build, sentences, transformer

from nmt.config import Config, DataConfig, ModelConfig, TransformerDecoderConfig, TransformerEncoderConfig
from nmt.data.batch import BOS, Padded, collate
from nmt.models.build import build_model
from nmt.models.interface import Memory, Source
from nmt.models.layers import Dropout
from nmt.models.multihead import BasicSelfAttention, CrossAttention, SelfAttention
from nmt.models.positions import Alibi, Learned, Places, Positions, Rotary, Sinusoidal, slopes, turned
from nmt.models.transformer import FeedForward, build_norm

WIDTH, HEADS = 16, 4
NEAR = {"atol": 1e-5, "rtol": 1e-5}
MASK = torch.tensor([[True] * 6, [True] * 4 + [False] * 2, [True] + [False] * 5])


class Keep:
    def __call__(self, name, weights, values):
        self.name, self.weights = name, weights
        return weights


def states(length=6, width=WIDTH, seed=1):
    return torch.randn(3, length, width, generator=torch.Generator().manual_seed(seed))


def copy_self(theirs, ours):
    """Weights of a SelfAttention into PyTorch's nn.MultiheadAttention."""
    theirs.in_proj_weight.copy_(ours.qkv.weight)
    theirs.in_proj_bias.copy_(ours.qkv.bias)
    theirs.out_proj.load_state_dict(ours.output.state_dict())


def copy_cross(theirs, ours):
    theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.kv.weight]))
    theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.kv.bias]))
    theirs.out_proj.load_state_dict(ours.output.state_dict())


def randomise(module):
    """No bias is 0 and no norm is the identity, so that none can be forgotten."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) / 3
            )


@pytest.mark.parametrize("probe", [None, Keep()], ids=["fused", "explicit"])
@torch.no_grad()
def test_self_attention_is_pytorchs(probe):
    ours, theirs = SelfAttention(WIDTH, HEADS, 0.0, "self"), nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    randomise(ours)
    copy_self(theirs, ours)
    x = states()
    expected, weights = theirs(x, x, x, key_padding_mask=~MASK, average_attn_weights=False)
    torch.testing.assert_close(ours(x, Places(), mask=MASK, probe=probe), expected, **NEAR)
    if probe is not None:
        torch.testing.assert_close(probe.weights, weights, **NEAR)
    future = torch.ones(6, 6, dtype=torch.bool).triu(1)
    expected, weights = theirs(x, x, x, attn_mask=future, average_attn_weights=False)
    torch.testing.assert_close(ours(x, Places(), causal=True, probe=probe), expected, **NEAR)
    if probe is not None:
        torch.testing.assert_close(probe.weights, weights, **NEAR)


@pytest.mark.parametrize("probe", [None, Keep()], ids=["fused", "explicit"])
@torch.no_grad()
def test_cross_attention_is_pytorchs(probe):
    ours, theirs = (
        CrossAttention(WIDTH, HEADS, WIDTH, 0.0, "cross"),
        nn.MultiheadAttention(WIDTH, HEADS, batch_first=True),
    )
    randomise(ours)
    copy_cross(theirs, ours)
    query, memory = states(5), states(6, seed=2)
    expected, weights = theirs(query, memory, memory, key_padding_mask=~MASK, average_attn_weights=False)
    torch.testing.assert_close(ours(query, *ours.keys(memory), MASK, probe), expected, **NEAR)
    if probe is not None:
        torch.testing.assert_close(probe.weights, weights, **NEAR)


def models(norm):
    """Our encoder and decoder, and PyTorch's, with the same weights."""
    sizes = {"layers": 2, "width": WIDTH, "heads": HEADS, "feed_forward": 24, "norm": norm}
    config = transformer(encoder=TransformerEncoderConfig(**sizes), decoder=TransformerDecoderConfig(**sizes))
    model = build_model(config, 19, 19).eval()
    randomise(model)
    options = {
        "d_model": WIDTH,
        "nhead": HEADS,
        "dim_feedforward": 24,
        "batch_first": True,
        "norm_first": norm == "pre",
    }
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(**options),
        2,
        nn.LayerNorm(WIDTH) if norm == "pre" else None,
        enable_nested_tensor=False,
    ).eval()
    decoder = nn.TransformerDecoder(
        nn.TransformerDecoderLayer(**options), 2, nn.LayerNorm(WIDTH) if norm == "pre" else None
    ).eval()

    def norms(theirs, *ours):
        for number, residual in enumerate(ours, start=1):
            getattr(theirs, f"norm{number}").load_state_dict(residual.norm.state_dict())

    with torch.no_grad():
        for ours, theirs in zip(model.encoder.layers, encoder.layers, strict=True):
            copy_self(theirs.self_attn, ours.attention)
            norms(theirs, ours.around_attention, ours.around_feed_forward)
        for ours, theirs in zip(model.decoder.layers, decoder.layers, strict=True):
            copy_self(theirs.self_attn, ours.attention)
            copy_cross(theirs.multihead_attn, ours.cross)
            norms(theirs, ours.around_attention, ours.around_cross, ours.around_feed_forward)
        for ours, theirs in zip(
            [*model.encoder.layers, *model.decoder.layers], [*encoder.layers, *decoder.layers], strict=True
        ):
            theirs.linear1.load_state_dict(ours.feed_forward.inner.state_dict())
            theirs.linear2.load_state_dict(ours.feed_forward.outer.state_dict())
        if norm == "pre":
            encoder.norm.load_state_dict(model.encoder.norm.state_dict())
            decoder.norm.load_state_dict(model.decoder.norm.state_dict())
    return model, encoder, decoder


@pytest.mark.parametrize("norm", ["pre", "post"])
@torch.no_grad()
def test_encoder_is_pytorchs(norm):
    model, theirs, _ = models(norm)
    src = Padded(
        torch.randint(4, 19, MASK.shape, generator=torch.Generator().manual_seed(1)) * MASK, MASK.sum(1), False
    )
    embedded = model.encoder.embedding.lookup(src.ids)
    positions = Sinusoidal(WIDTH).embed(torch.arange(6))
    expected = theirs(embedded + positions, src_key_padding_mask=~MASK)
    memory = model.encoder(src)
    torch.testing.assert_close(memory.states[MASK], expected[MASK], **NEAR)
    assert (memory.states[~MASK] == 0).all()
    for n, length in enumerate(MASK.sum(1)):
        torch.testing.assert_close(memory.summary[n], expected[n, :length].mean(0), **NEAR)


@pytest.mark.parametrize("norm", ["pre", "post"])
@torch.no_grad()
def test_decoder_is_pytorchs(norm):
    model, _, theirs = models(norm)
    tgt = torch.randint(4, 19, (3, 5), generator=torch.Generator().manual_seed(1))
    memory = Memory(states() * MASK[:, :, None], MASK, states()[:, 0])
    source = Source(memory, model.decoder.prepare(memory), (), None, 0)
    embedded = model.decoder.embedding.lookup(tgt) + Sinusoidal(WIDTH).embed(torch.arange(5))
    future = nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float32)
    expected = theirs(embedded, memory.states, tgt_mask=future, memory_key_padding_mask=~MASK)
    torch.testing.assert_close(model.decoder.decode(tgt, source).hidden, expected, **NEAR)


def test_sinusoids_are_the_papers():
    found = Sinusoidal(8).embed(torch.arange(100))
    for position in (0, 1, 7, 99):
        for i in range(4):
            angle = position / 10000 ** (2 * i / 8)
            assert float(found[position, 2 * i]) == pytest.approx(math.sin(angle), abs=1e-5)
            assert float(found[position, 2 * i + 1]) == pytest.approx(math.cos(angle), abs=1e-5)
    assert Sinusoidal(7).embed(torch.arange(3)).shape == (3, 7)


def test_learned_positions_end():
    positions = Learned(4, 8)
    found = positions.embed(torch.tensor([0, 3, 4, 100]))
    torch.testing.assert_close(found[:2], positions.table.weight[[0, 3]])
    torch.testing.assert_close(found[2:], positions.table.weight[[3, 3]])


def test_alibi_slopes_are_the_papers():
    """Section 3: for 8 heads 1/2 to 1/256; for 16, 1/sqrt(2) to 1/256; for others, as the authors' code has it."""
    assert slopes(8) == pytest.approx([2.0**-h for h in range(1, 9)])
    assert slopes(16) == pytest.approx([2.0 ** (-h / 2) for h in range(1, 17)])
    assert slopes(1) == [2.0**-8]
    assert slopes(6) == pytest.approx([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8, 2.0**-1, 2.0**-3])


def test_alibi_falls_with_the_distance():
    bias = Alibi(2).places(torch.arange(4), torch.arange(4)).bias
    for head, slope in enumerate((2.0**-4, 2.0**-8)):
        for i in range(4):
            for j in range(4):
                assert float(bias[head, i, j]) == pytest.approx(-slope * abs(i - j))


def test_rotary_is_a_product_of_complex_numbers():
    """Features 2i and 2i+1 are a complex number, turned by exp(i p theta); so products know the distance alone."""
    draw = torch.Generator().manual_seed(1)
    query, key = (torch.randn(1, 1, 9, 8, generator=draw) for _ in range(2))
    turn = Rotary(8).places(torch.arange(9), torch.arange(9)).turn
    theta = torch.tensor([10000.0 ** (-2 * i / 8) for i in range(4)], dtype=torch.float64)
    angles = torch.arange(9, dtype=torch.float64)[:, None] * theta
    expected = torch.view_as_complex(query.double().unflatten(-1, (4, 2)).contiguous()) * torch.exp(1j * angles)
    torch.testing.assert_close(turned(query, turn), torch.view_as_real(expected).flatten(-2).float(), **NEAR)
    same_query, same_key = query[:, :, :1].expand_as(query), key[:, :, :1].expand_as(key)
    scores = (turned(same_query, turn) @ turned(same_key, turn).transpose(2, 3))[0, 0]
    for distance in range(-8, 9):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), **NEAR)


@torch.no_grad()
def test_without_positions_the_encoder_cannot_tell_the_order():
    model = build("transformer-basic")
    order = [3, 0, 4, 1, 2]
    one, other = ([5, 6, 7, 8, 9], [[5, 6, 7, 8, 9][n] for n in order])
    states, mixed = (model.encoder(collate([src]).src).states[0] for src in (one, other))
    torch.testing.assert_close(mixed[:5], states[order], **NEAR)
    assert Positions().embed(torch.arange(3)) is None


@torch.no_grad()
def test_basic_attention_is_a_mean_by_likeness():
    """y_i = sum_j softmax_j(x_i . x_j / sqrt(D)) x_j, and nothing to learn in it."""
    attention, x = BasicSelfAttention(1, 0.0, "self"), states()
    assert list(attention.parameters()) == []
    for b in range(3):
        for i in range(6):
            scores = torch.stack([x[b, i] @ x[b, j] / math.sqrt(WIDTH) for j in range(6)])
            expected = sum(w * x[b, j] for j, w in enumerate(scores.softmax(0)))
            torch.testing.assert_close(attention(x, Places())[b, i], expected, **NEAR)


@torch.no_grad()
def test_activations_and_norms_are_their_formulae():
    x = states()
    for activation, f in (
        ("relu", lambda z: z.clamp(min=0)),
        ("gelu", lambda z: z * 0.5 * (1 + torch.erf(z / 2**0.5))),
    ):
        part = FeedForward(TransformerEncoderConfig(width=WIDTH, feed_forward=8, activation=activation)).eval()
        expected = f(x @ part.inner.weight.T + part.inner.bias) @ part.outer.weight.T + part.outer.bias
        torch.testing.assert_close(part(x), expected, **NEAR)
    part = FeedForward(TransformerEncoderConfig(width=WIDTH, feed_forward=8, activation="swiglu", bias=False)).eval()
    gate, values = x @ part.inner.weight[:8].T, x @ part.inner.weight[8:].T
    torch.testing.assert_close(part(x), (gate * torch.sigmoid(gate) * values) @ part.outer.weight.T, **NEAR)
    norm = build_norm(TransformerEncoderConfig(width=WIDTH, normalization="rms"))
    torch.testing.assert_close(norm(x), x / x.square().mean(-1, keepdim=True).sqrt(), atol=1e-4, rtol=1e-4)


def test_without_biases_there_is_none():
    names = [name for name, _ in build("transformer-alibi").named_parameters() if name.endswith("bias")]
    assert names == ["head.bias"]


@pytest.mark.parametrize("name", ["transformer", "transformer-post", "transformer-alibi", "transformer-rotary"])
def test_order_matters(name):
    """Without positions attention could not tell a sentence from its reverse."""
    model, tgt = build(name), [[5, 6, 7, 8]]
    forwards, backwards = (model(collate([src], tgt)).nll for src in ([9, 10, 11, 12], [12, 11, 10, 9]))
    assert not torch.allclose(forwards, backwards, atol=1e-3)


@torch.no_grad()
def test_the_cache_is_made_once():
    """Steps write into one storage, no beam's past is moved, and what has not been written is never read."""
    model = build("transformer")
    predictor = model.predictor(batch(3))
    state = predictor.start(2, 5)
    for part in (state.keys, state.values):
        part.fill_(torch.nan)
    place = state.keys.data_ptr()
    tokens = torch.full((6,), BOS)
    for step in range(5):
        log_probs, state = predictor.step(tokens, state)
        assert log_probs.isfinite().all()
        state = state.reorder(torch.tensor([1, 0, 3, 3, 4, 5]))
        assert (state.position, state.keys.data_ptr()) == (step + 1, place)
    assert state.writers[:, :, 4].tolist() == [[1, 0], [1, 1], [0, 1]]
    few = state.reorder(torch.tensor([4, 5]))  # the other sentences are done
    assert few.keys.shape[1] == len(few.writers) == 1
    assert torch.equal(few.values[:, 0], state.values[:, 2])


@torch.no_grad()
def test_fused_kernels_run_unless_a_probe_listens(monkeypatch):
    """The weights of attention exist in the forced pass with a probe, and nowhere else."""
    import nmt.models.multihead as module

    calls = []
    fused = module.scaled_dot_product_attention
    monkeypatch.setattr(module, "scaled_dot_product_attention", lambda *a, **k: calls.append(None) or fused(*a, **k))
    model, pairs = build("transformer"), batch()
    model(pairs)
    assert len(calls) == 6  # two layers: self; self and cross
    predictor = model.predictor(pairs)
    calls.clear()
    predictor.step(torch.full((10,), BOS), predictor.start(2, 3))
    assert len(calls) == 4
    calls.clear()
    model.attend(pairs, Keep())
    assert calls == []


def test_a_probe_hears_every_attention():
    heard = []

    def listen(name, weights, values):
        heard.append((name, tuple(weights.shape), tuple(values.shape)))
        return weights

    model, pairs = build("transformer"), batch()
    model.attend(pairs, listen)
    (rows, src), tgt = pairs.src.ids.shape, pairs.tgt.ids.shape[1] - 1
    assert heard == [
        *[(f"encoder.{n}.self", (rows, 2, src, src), (rows, src, 16)) for n in (1, 2)],
        *[
            (f"decoder.{n}.{kind}", (rows, 2, tgt, size), (rows, size, 16))
            for n in (1, 2)
            for kind, size in (("self", tgt), ("cross", src))
        ],
    ]
    assert model.decoder.alignment.name in [name for name, _, _ in heard]


@pytest.mark.parametrize("tie", ["none", "decoder", "all"])
def test_tied_embeddings(tie):
    model = build_model(transformer(tie=tie), 19, 19)
    src, tgt, out = model.encoder.embedding.table.weight, model.decoder.embedding.table.weight, model.head.weight
    assert (tgt is out) == (tie != "none")
    assert (src is tgt) == (tie == "all")


@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize("shape", [(7,), (300, 101)])
def test_dropout_keeps_the_mean(rate, shape):
    torch.manual_seed(1)
    dropout, x = Dropout(rate), torch.full(shape, 2.0, requires_grad=True)
    assert dropout.eval()(x) is x
    y = dropout.train()(x)
    kept = y != 0
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 2.0 / (1 - rate)), atol=1e-3, rtol=0)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, y / 2)
    if len(shape) == 2:  # 30,300 draws: five standard deviations; and no column is like its neighbour
        deviation = math.sqrt(rate * (1 - rate) / kept.numel())
        assert float(kept.float().mean()) == pytest.approx(1 - rate, abs=5 * deviation)
        both = (kept[:, 1:] & kept[:, :-1]).float().mean()
        assert float(both) == pytest.approx((1 - rate) ** 2, abs=10 * deviation)


def test_dropout_reaches_every_place():
    """Each of the three rates alone makes training differ from evaluation."""
    for rates in ({"dropout": 0.5}, {"attention_dropout": 0.5}, {"activation_dropout": 0.5}):
        inner = {
            "attention_dropout": 0.0,
            "activation_dropout": 0.0,
            **{k: v for k, v in rates.items() if k != "dropout"},
        }
        config = transformer(**inner).model_copy(update={"dropout": rates.get("dropout", 0.0)})
        torch.manual_seed(1)
        model, pairs = build_model(config, 19, 19), batch()
        assert not torch.allclose(model.train()(pairs).nll, model.eval()(pairs).nll, atol=1e-4), rates
    still = transformer(attention_dropout=0.0, activation_dropout=0.0).model_copy(update={"dropout": 0.0})
    model = build_model(still, 19, 19)
    torch.testing.assert_close(model.train()(batch()).nll, model.eval()(batch()).nll)


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="3 heads cannot share a width of 16"):
        TransformerEncoderConfig(width=16, heads=3)
    with pytest.raises(ValueError, match=r"decoder.width and embedding.width must be equal, not 64 and 256"):
        ModelConfig(decoder=TransformerDecoderConfig(width=64))
    learned = ModelConfig(encoder=TransformerEncoderConfig(positions="learned", max_positions=100))
    with pytest.raises(ValueError, match=r"encoder.max_positions is 100, but data.max_length lets 256 tokens"):
        Config(model=learned)
    Config(model=learned, data=DataConfig(max_length=99))


def test_a_sentence_longer_than_learned_positions_is_read():
    model = build_model(transformer(positions="learned", max_positions=8), 19, 19)
    assert (
        model(collate(sentences(2, shortest=12, longest=15), sentences(2, shortest=12, longest=15)))
        .nll.isfinite()
        .all()
    )
