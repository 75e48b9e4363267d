"""Extraction, with a model whose attention is known: the step that reads a token looks at the source position that
has the same id."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from nmt.align import extract
from nmt.align.extract import Read, Reading, Recorder, attention_maps, attentions, choose_reading
from nmt.align.maps import AttentionMap
from nmt.config import (
    AlignConfig,
    DecoderConfig,
    EmbeddingConfig,
    ModelConfig,
    RnnDecoderConfig,
    TransformerDecoderConfig,
    TransformerEncoderConfig,
    WordsConfig,
)
from nmt.data.batch import EOS, PAD, Batch
from nmt.errors import UserError
from nmt.models.build import build_model
from nmt.models.interface import Alignment, Probe
from nmt.text.tokenizer import Segments, WordTokenizer

WORDS = ["a", "b", "c", "d", "e", "f", "g", "h"]
TOKENIZER = WordTokenizer(WORDS, WordsConfig())
CPU = torch.device("cpu")


class Planted:
    """Row t looks at the source position whose id is the decoder's input t; where there is none, at EOS."""

    def __init__(self, *, stepwise: bool, heads: int = 1) -> None:
        self.training = False
        self.alignment = Alignment("decoder.cross", "output")
        self.spells = False
        self.stepwise = stepwise
        self.heads = heads
        self.batches: list[tuple[int, ...]] = []

    def attend(self, batch: Batch, probe: Probe) -> None:
        assert batch.tgt is not None
        self.batches.append((*batch.src.ids.shape, batch.tgt.ids.shape[1]))
        src, inputs = batch.src.ids, batch.tgt.ids[:, :-1]
        same = (src[:, None] == inputs[:, :, None]) & (src != PAD)[:, None]  # [B,T,S]
        same |= ~same.any(dim=2, keepdim=True) & (src == EOS)[:, None]
        weights = (same / same.sum(dim=2, keepdim=True))[:, None].expand(-1, self.heads, -1, -1).clone()
        if self.heads == 2:
            weights[:, 1] = (src == EOS)[:, None]  # the other head always looks at EOS
        values = torch.zeros(*src.shape, 1)
        probe("encoder.1.self", torch.ones(len(src), 1, src.shape[1], src.shape[1]), values)
        if self.stepwise:
            for t in range(inputs.shape[1]):
                probe("decoder.cross", weights[:, :, t : t + 1], values)
        else:
            probe("decoder.cross", weights, values)


def cross(read: Read, *heads: int) -> Reading:
    return Reading("decoder.cross", heads or None, read)


def maps(
    model: extract.Attends, pairs: list[tuple[str, str]], max_tokens: int = 64, **options: object
) -> list[AttentionMap]:
    return list(
        attention_maps(model, (TOKENIZER, TOKENIZER), pairs, device=CPU, max_tokens=max_tokens, **options)  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("stepwise", [True, False])
@pytest.mark.parametrize("level", ["words", "pieces"])
def test_input_and_output_rows(stepwise: bool, level: str) -> None:
    pair = ("a b c", "c a b")
    (read,) = maps(Planted(stepwise=stepwise), [pair], reading=cross("input"), level=level)
    assert (read.src, read.tgt) == (["a", "b", "c"], ["c", "a", "b"])
    np.testing.assert_array_equal(read.weights, [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    (written,) = maps(Planted(stepwise=stepwise), [pair], reading=cross("output"), level=level)
    np.testing.assert_array_equal(written.weights, [[0, 0, 0], [0, 0, 1], [1, 0, 0]])  # BOS looks at EOS, dropped
    assert written.weights.dtype == np.float32


def test_keep_eos() -> None:
    (written,) = maps(Planted(stepwise=True), [("a b", "b")], keep_eos=True)
    assert (written.src, written.tgt) == (["a", "b", "</s>"], ["b", "</s>"])
    np.testing.assert_array_equal(written.weights, [[0, 0, 1], [0, 1, 0]])
    (read,) = maps(Planted(stepwise=True), [("a b", "b")], keep_eos=True, reading=cross("input"))
    assert (read.src, read.tgt) == (["a", "b", "</s>"], ["b"])  # nothing reads EOS
    np.testing.assert_array_equal(read.weights, [[0, 1, 0]])


@pytest.mark.parametrize(
    ("heads", "row"), [((), [0, 0.5, 0.5]), ((1,), [0, 1, 0]), ((2,), [0, 0, 1]), ((2, 1), [0, 0.5, 0.5])]
)
def test_heads_are_averaged(heads: tuple[int, ...], row: list[float]) -> None:
    (read,) = maps(Planted(stepwise=False, heads=2), [("a b", "b")], reading=cross("input", *heads), keep_eos=True)
    np.testing.assert_array_equal(read.weights, [row])


def test_by_default_the_models_own_choice() -> None:
    model = Planted(stepwise=False)
    for read in ("output", "input"):
        model.alignment = Alignment("decoder.cross", read)
        (own,), (asked,) = (maps(model, [("a b", "b a")], **options) for options in ({}, {"reading": cross(read)}))
        np.testing.assert_array_equal(own.weights, asked.weights)


def test_empty_lines() -> None:
    found = maps(Planted(stepwise=True), [("", ""), ("a b", ""), ("", "a b"), ("a", "a")], reading=cross("input"))
    assert [attention.weights.shape for attention in found] == [(0, 0), (0, 2), (2, 0), (1, 1)]
    assert maps(Planted(stepwise=True), []) == []


def random_pairs(count: int) -> list[tuple[str, str]]:
    rng = np.random.default_rng(3)
    sides = [[" ".join(rng.choice(WORDS, rng.integers(0, 9))) for _ in range(count)] for _ in range(2)]
    return list(zip(*sides, strict=True))


@pytest.mark.parametrize("max_tokens", [1, 20, 64])
def test_order_and_budget_whatever_the_batches(max_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "_WINDOW_PAIRS", 7)
    pairs = random_pairs(30)
    model = Planted(stepwise=True)
    found = maps(model, pairs, max_tokens, reading=cross("input"))
    assert [(" ".join(attention.src), " ".join(attention.tgt)) for attention in found] == pairs
    for attention in found:
        for word, row in zip(attention.tgt, attention.weights, strict=True):
            expected = np.array([float(src == word) for src in attention.src], np.float32)
            np.testing.assert_allclose(row, expected / max(expected.sum(), 1))
    assert sum(batch for batch, *_ in model.batches) == len(pairs)
    assert all(batch == 1 or batch * max(src, tgt - 1) <= max_tokens for batch, src, tgt in model.batches)


def test_streams_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "_WINDOW_PAIRS", 5)
    taken = 0

    def endless() -> Iterator[tuple[str, str]]:
        nonlocal taken
        while True:
            taken += 1
            yield "a b", "b"

    found = attention_maps(Planted(stepwise=True), (TOKENIZER, TOKENIZER), endless(), device=CPU, max_tokens=64)
    for _ in range(12):
        next(found)
    assert taken <= 16


def test_windows_are_limited_in_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "_WINDOW_CELLS", 20)
    model = Planted(stepwise=True)
    assert len(maps(model, [("a b c", "a b c")] * 3, 1000)) == 3
    assert [batch for batch, *_ in model.batches] == [1, 1, 1]  # 16 cells each


def test_recorder_joins_steps_and_keeps_names_apart() -> None:
    recorder, chosen = Recorder(), Recorder(("x",))
    parts = [torch.rand(2, 3, 1, 4, dtype=torch.bfloat16, requires_grad=True) for _ in range(5)]
    values = torch.zeros(2, 4, 1)
    for part in parts:
        for probe in (recorder, chosen):
            assert probe("x", part, values) is part
            assert probe("y", part[:, :1], values).shape == (2, 1, 1, 4)
    recorded: dict[str, Tensor] = recorder.weights()
    assert recorded["x"].shape == (2, 3, 5, 4)
    assert recorded["x"].dtype == torch.float32
    assert not recorded["x"].requires_grad
    assert recorded["y"].shape == (2, 1, 5, 4)
    assert list(chosen.weights()) == ["x"]


def test_refuses_a_model_in_training_and_what_it_lacks() -> None:
    model = Planted(stepwise=True)
    with pytest.raises(ValueError, match=r"no attention called 'decoder\.9\.cross'"):
        maps(model, [("a", "a")], reading=Reading("decoder.9.cross", None, "output"))
    for head in (0, 2):
        with pytest.raises(ValueError, match=r"has 1 heads, counted from 1"):
            maps(model, [("a", "a")], reading=cross("output", head))
    model.training = True
    with pytest.raises(ValueError, match="training mode"):
        maps(model, [("a", "a")])


class Layered:
    """In the mean of two heads, every position of the source looks 3/4 at itself and 1/4 at EOS, and every step of
    the target half at what it reads and half at BOS."""

    def __init__(self) -> None:
        self.training = self.spells = False
        self.alignment = Alignment("decoder.2.cross", "input")

    def attend(self, batch: Batch, probe: Probe) -> None:
        assert batch.tgt is not None
        src, inputs = batch.src.ids, batch.tgt.ids[:, :-1]
        ends = (src == EOS)[:, None].float().expand(-1, src.shape[1], -1)
        first = (torch.arange(inputs.shape[1]) == 0).float().expand(len(inputs), inputs.shape[1], -1)
        for layer in (1, 2):
            own = torch.eye(src.shape[1]).expand(len(src), -1, -1)
            weights = torch.stack([own / 2 + ends / 2, own], dim=1)
            probe(f"encoder.{layer}.self", weights, torch.zeros(*src.shape, 1))
        for layer in (1, 2):
            own = torch.eye(inputs.shape[1]).expand(len(inputs), -1, -1)
            probe(f"decoder.{layer}.self", torch.stack([first, own], dim=1), torch.zeros(*inputs.shape, 1))
            uniform = torch.full((len(src), 4, inputs.shape[1], src.shape[1]), 1 / src.shape[1])
            probe(f"decoder.{layer}.cross", uniform, torch.zeros(*src.shape, 1))


class Letters:
    """Cuts words into letters."""

    def segment(self, line: str) -> Segments:
        words = line.split()
        word_of = [n for n, word in enumerate(words) for _ in word]
        pieces = [letter for word in words for letter in word]
        return Segments([ord(letter) - 90 for letter in pieces], pieces, words, word_of)


def self_attention(
    name: str, pairs: list[tuple[str, str]], read: Read = "input", level: str = "words"
) -> list[AttentionMap]:
    return list(
        attention_maps(
            Layered(), (Letters(), Letters()), pairs, device=CPU, max_tokens=64,
            reading=Reading(name, None, read), level=level,  # type: ignore[arg-type]
        )
    )  # fmt: skip


LONGER = ("abcdef g", "abc defghi")  # in the same batch, so that all others are padded


def test_self_attention_of_the_encoder() -> None:
    found, _ = self_attention("encoder.2.self", [("ab c", "x"), LONGER], level="pieces")
    assert found.src == found.tgt == ["a", "b", "c", "</s>"]
    expected = [[0.75, 0, 0, 0.25], [0, 0.75, 0, 0.25], [0, 0, 0.75, 0.25], [0, 0, 0, 1]]
    np.testing.assert_array_equal(found.weights, expected)
    found, _ = self_attention("encoder.2.self", [("ab c", "x"), LONGER])
    assert found.src == found.tgt == ["ab", "c", "</s>"]
    np.testing.assert_array_equal(found.weights, [[0.75, 0, 0.25], [0, 0.75, 0.25], [0, 0, 1]])


def test_self_attention_of_the_decoder() -> None:
    half = [[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.5, 0, 0.5, 0], [0.5, 0, 0, 0.5]]
    found, _ = self_attention("decoder.1.self", [("x", "ab c"), LONGER], level="pieces")
    assert found.src == found.tgt == ["<s>", "a", "b", "c"]
    np.testing.assert_array_equal(found.weights, half)
    found, _ = self_attention("decoder.1.self", [("x", "ab c"), LONGER])
    assert found.src == found.tgt == ["<s>", "ab", "c"]
    np.testing.assert_array_equal(found.weights, [[1, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]])


def test_self_attention_of_the_decoder_by_what_is_written() -> None:
    found, _ = self_attention("decoder.1.self", [("x", "ab c"), LONGER], "output", "pieces")
    assert (found.src, found.tgt) == (["<s>", "a", "b", "c"], ["a", "b", "c", "</s>"])
    np.testing.assert_array_equal(found.weights[:, 0], [1, 0.5, 0.5, 0.5])
    found, _ = self_attention("decoder.1.self", [("x", "ab c"), LONGER], "output")
    assert (found.src, found.tgt) == (["<s>", "ab", "c"], ["ab", "c", "</s>"])
    # "ab" is written by the steps that read <s> and a
    np.testing.assert_array_equal(found.weights, [[0.75, 0.25, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]])


@pytest.mark.parametrize("level", ["words", "pieces"])
def test_self_attention_of_nothing(level: str) -> None:
    for name, shapes in (("encoder.1.self", [(0, 0), (2, 2)]), ("decoder.1.self", [(2, 2), (0, 0)])):
        found = self_attention(name, [("", "a"), ("a", "")], level=level)
        assert [attention.weights.shape for attention in found] == shapes
        assert [(len(attention.tgt), len(attention.src)) for attention in found] == shapes


def test_attentions_of_a_model() -> None:
    assert attentions(Layered(), CPU) == {
        "encoder.1.self": 2, "encoder.2.self": 2,
        "decoder.1.self": 2, "decoder.1.cross": 4, "decoder.2.self": 2, "decoder.2.cross": 4,
    }  # fmt: skip
    assert attentions(Planted(stepwise=True, heads=2), CPU) == {"encoder.1.self": 1, "decoder.cross": 2}


def choose(settings: AlignConfig | None = None, **options: object) -> Reading:
    return choose_reading(Layered(), settings or AlignConfig(), device=CPU, **options)  # type: ignore[arg-type]


def test_options_then_settings_then_the_model_choose() -> None:
    assert choose() == Reading("decoder.2.cross", None, "input")
    settings = AlignConfig(attention="decoder.1.cross", heads=(2, 3), read="output")
    assert choose(settings) == Reading("decoder.1.cross", (2, 3), "output")
    assert choose(settings, heads=(1,)) == Reading("decoder.1.cross", (1,), "output")
    assert choose(settings, read="input") == Reading("decoder.1.cross", (2, 3), "input")
    assert choose(AlignConfig(heads=(4,))) == Reading("decoder.2.cross", (4,), "input")


def test_settings_of_one_attention_are_not_those_of_another() -> None:
    settings = AlignConfig(attention="decoder.1.cross", heads=(4,), read="output")
    assert choose(settings, attention="decoder.1.cross") == Reading("decoder.1.cross", (4,), "output")
    assert choose(settings, attention="decoder.2.cross") == Reading("decoder.2.cross", None, "input")
    assert choose(AlignConfig(heads=(4,)), attention="decoder.2.cross") == Reading("decoder.2.cross", (4,), "input")


def test_self_attention_is_read_at_the_input() -> None:
    model = Planted(stepwise=True)
    assert choose_reading(model, AlignConfig(), device=CPU).read == "output"
    assert choose_reading(model, AlignConfig(), device=CPU, attention="encoder.1.self").read == "input"
    assert choose(attention="decoder.1.self", read="output").read == "output"
    assert choose(AlignConfig(attention="decoder.1.self", read="output")).read == "output"


def test_what_there_is_not() -> None:
    with pytest.raises(UserError) as caught:
        choose(attention="decoder.3.cross")
    assert str(caught.value) == (
        "the model has no attention called 'decoder.3.cross'\n"
        "It has encoder.1.self, encoder.2.self, decoder.1.self, decoder.1.cross, decoder.2.self, decoder.2.cross; "
        "layers count from 1."
    )
    for options in ({"heads": (1, 5)}, {"settings": AlignConfig(heads=(1, 5))}):
        with pytest.raises(UserError, match=r"^decoder\.2\.cross has no head 5: it has 4\n"):
            choose(**options)  # type: ignore[arg-type]


FEEDING = RnnDecoderConfig(width=8, input_feeding=True)
TRANSFORMER = {"layers": 2, "width": 8, "heads": 2, "feed_forward": 8}


@pytest.mark.parametrize(
    ("decoder", "name"),
    [
        (FEEDING, "decoder.cross"),
        (FEEDING.model_copy(update={"input_feeding": False}), "decoder.cross"),
        (TransformerDecoderConfig(**TRANSFORMER), "decoder.2.cross"),
        (TransformerDecoderConfig(**TRANSFORMER), "decoder.2.self"),
        (TransformerDecoderConfig(**TRANSFORMER), "encoder.1.self"),
    ],
)
def test_a_real_model_gives_the_same_maps_whatever_the_batch(decoder: DecoderConfig, name: str) -> None:
    torch.manual_seed(1)
    config = ModelConfig(
        embedding=EmbeddingConfig(width=8), encoder=TransformerEncoderConfig(**TRANSFORMER), decoder=decoder
    )
    model = build_model(config, len(TOKENIZER), len(TOKENIZER)).eval()
    reading = choose_reading(model, AlignConfig(), device=CPU, attention=name)
    pairs = random_pairs(8)

    def found(max_tokens: int) -> list[AttentionMap]:
        return maps(model, pairs, max_tokens, reading=reading, keep_eos=True)

    for alone, together in zip(found(1), found(200), strict=True):
        np.testing.assert_allclose(alone.weights.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(alone.weights, together.weights, atol=1e-5)
        if name == "decoder.2.self":
            np.testing.assert_array_equal(alone.weights, np.tril(alone.weights))  # nobody reads the future
