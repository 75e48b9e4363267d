"""Extraction, with a model whose attention is known: the step that reads a token looks at the source position that
has the same id."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from nmt.align import extract
from nmt.align.extract import Recorder, attention_maps
from nmt.align.maps import EOS_LABEL, AttentionMap
from nmt.config import EmbeddingConfig, ModelConfig, RnnDecoderConfig, RnnEncoderConfig, WordsConfig
from nmt.data.batch import EOS, PAD, Batch
from nmt.models.build import build_model
from nmt.models.interface import Probe
from nmt.text.tokenizer import WordTokenizer

WORDS = ["a", "b", "c", "d", "e", "f", "g", "h"]
TOKENIZER = WordTokenizer(WORDS, WordsConfig())
CPU = torch.device("cpu")


class Planted:
    """Row t looks at the source position whose id is the decoder's input t; where there is none, at EOS."""

    def __init__(self, *, stepwise: bool, heads: int = 1) -> None:
        self.training = False
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
        probe("encoder.self", torch.ones(len(src), 1, src.shape[1], src.shape[1]), values)
        if self.stepwise:
            for t in range(inputs.shape[1]):
                probe("decoder.cross", weights[:, :, t : t + 1], values)
        else:
            probe("decoder.cross", weights, values)


def maps(model: Planted, pairs: list[tuple[str, str]], max_tokens: int = 64, **options: object) -> list[AttentionMap]:
    return list(
        attention_maps(model, (TOKENIZER, TOKENIZER), pairs, device=CPU, max_tokens=max_tokens, **options)  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("stepwise", [True, False])
@pytest.mark.parametrize("level", ["words", "pieces"])
def test_input_and_output_rows(stepwise: bool, level: str) -> None:
    pair = ("a b c", "c a b")
    (read,) = maps(Planted(stepwise=stepwise), [pair], read="input", level=level)
    assert (read.src, read.tgt) == (["a", "b", "c"], ["c", "a", "b"])
    np.testing.assert_array_equal(read.weights, [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    (written,) = maps(Planted(stepwise=stepwise), [pair], read="output", level=level)
    np.testing.assert_array_equal(written.weights, [[0, 0, 0], [0, 0, 1], [1, 0, 0]])  # BOS looks at EOS, dropped
    assert written.weights.dtype == np.float32


def test_keep_eos() -> None:
    (written,) = maps(Planted(stepwise=True), [("a b", "b")], keep_eos=True)
    assert (written.src, written.tgt) == (["a", "b", EOS_LABEL], ["b", EOS_LABEL])
    np.testing.assert_array_equal(written.weights, [[0, 0, 1], [0, 1, 0]])
    (read,) = maps(Planted(stepwise=True), [("a b", "b")], keep_eos=True, read="input")
    assert (read.src, read.tgt) == (["a", "b", EOS_LABEL], ["b"])  # nothing reads EOS
    np.testing.assert_array_equal(read.weights, [[0, 1, 0]])


def test_heads_are_averaged() -> None:
    (read,) = maps(Planted(stepwise=False, heads=2), [("a b", "b")], read="input", keep_eos=True)
    np.testing.assert_array_equal(read.weights, [[0, 0.5, 0.5]])


def test_empty_lines() -> None:
    found = maps(Planted(stepwise=True), [("", ""), ("a b", ""), ("", "a b"), ("a", "a")], read="input")
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
    found = maps(model, pairs, max_tokens, read="input")
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


def test_refuses_a_model_in_training_and_an_unknown_name() -> None:
    model = Planted(stepwise=True)
    with pytest.raises(ValueError, match=r"no attention called 'decoder\.9\.cross'"):
        maps(model, [("a", "a")], name="decoder.9.cross")
    model.training = True
    with pytest.raises(ValueError, match="training mode"):
        maps(model, [("a", "a")])


@pytest.mark.parametrize("input_feeding", [True, False])
def test_a_real_model_gives_the_same_maps_whatever_the_batch(input_feeding: bool) -> None:
    torch.manual_seed(1)
    config = ModelConfig(
        embedding=EmbeddingConfig(width=8),
        encoder=RnnEncoderConfig(width=8),
        decoder=RnnDecoderConfig(width=8, input_feeding=input_feeding),
    )
    model = build_model(config, len(TOKENIZER), len(TOKENIZER)).eval()
    pairs = random_pairs(8)

    def found(max_tokens: int) -> list[AttentionMap]:
        tokenizers = (TOKENIZER, TOKENIZER)
        return list(attention_maps(model, tokenizers, pairs, device=CPU, max_tokens=max_tokens, keep_eos=True))

    for alone, together in zip(found(1), found(200), strict=True):
        np.testing.assert_allclose(alone.weights.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(alone.weights, together.weights, atol=1e-5)
