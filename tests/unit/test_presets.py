"""Settings for so many pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmt.config import CharactersConfig, SentencePieceConfig, WordsConfig
from nmt.presets import PRESETS, choose, explain
from nmt.settings.load import load_config, said

ROOT = Path(__file__).resolve().parents[2]
SIZES = (500, 5_000, 30_000, 200_000, 5_000_000)
PIECES = SentencePieceConfig()


def settings(pairs, *overrides, tokenizer=PIECES, path=None):
    return load_config(path, overrides, beneath=choose(pairs, tokenizer).settings)


def lines(pairs, *overrides, tokenizer=PIECES):
    choice = choose(pairs, tokenizer)
    config = load_config(None, overrides, beneath=choice.settings)
    return explain(choice, said(None, overrides), config.model_dump())


def test_every_size_has_settings_that_hold_together():
    configs = [settings(pairs) for pairs in SIZES]
    assert [preset.kind for preset in PRESETS] == [config.model.encoder.kind for config in configs]
    assert [config.tokenizer.size for config in configs] == [1_000, 2_000, 6_000, 10_000, 32_000]
    assert all(config.model.decoder.kind == config.model.encoder.kind for config in configs)
    assert all(config.train.patience for config in configs)


def test_more_text_bears_more_of_everything_and_less_noise():
    configs = [settings(pairs) for pairs in SIZES]
    grows = (
        lambda c: c.tokenizer.size,
        lambda c: c.model.encoder.layers,
        lambda c: c.data.max_tokens * c.train.accumulate,
        lambda c: c.train.steps,
        lambda c: c.train.schedule.warmup,
        lambda c: c.train.validate_every,
        lambda c: -c.model.dropout,
        lambda c: -c.model.word_dropout,
        lambda c: -c.train.label_smoothing,
    )
    for measure in grows:
        values = [measure(config) for config in configs]
        assert values == sorted(values)
        assert values[0] < values[-1]


@pytest.mark.parametrize(
    ("pairs", "size"),
    [(1, 1_000), (1_500, 1_000), (1_501, 2_000), (12_000, 2_000), (12_001, 6_000), (80_001, 10_000), (10**9, 32_000)],
)
def test_the_nearest_size_counts(pairs, size):
    assert choose(pairs, PIECES).settings["tokenizer"]["size"] == size


def test_thirty_thousand_pairs_get_what_the_recipe_has():
    """recipes/multi30k/transformer.yaml was measured. Its rate comes down to nothing at a known end; patience, which
    ends a chosen training, cannot know it."""
    ours, recipe = settings(30_000), load_config(ROOT / "recipes/multi30k/transformer.yaml")
    assert ours.model == recipe.model
    assert ours.tokenizer == recipe.tokenizer
    assert ours.data.max_tokens == recipe.data.max_tokens
    assert ours.train.optimizer == recipe.train.optimizer
    assert ours.train.patience is not None


def test_what_the_user_says_wins(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("train: {label_smoothing: 0.0, patience: null}\ntokenizer: {size: 777}\nmodel:\n")
    config = settings(5_000, "model.dropout=0.1", "train.schedule.warmup=9", path=path)
    assert config.train.label_smoothing == 0.0
    assert config.train.patience is None
    assert config.tokenizer.size == 777
    assert config.model.dropout == 0.1
    assert config.train.schedule.warmup == 9
    assert config.model.encoder.width == 512  # chosen


def test_a_section_of_another_kind_is_left_alone():
    config = settings(5_000, "train.schedule.kind=constant", "train.subword_sampling.kind=none")
    assert (config.train.schedule.kind, config.train.schedule.warmup) == ("constant", 0)
    assert config.train.subword_sampling.kind == "none"
    assert settings(5_000, "train.optimizer.kind=adamw").train.optimizer.lr == 1.5e-3  # the same settings as adam


@pytest.mark.parametrize("pairs", SIZES)
@pytest.mark.parametrize(
    ("tokenizer", "overrides"),
    [
        (WordsConfig(), ["tokenizer.kind=words"]),
        (CharactersConfig(), ["tokenizer.kind=characters"]),
        (SentencePieceConfig(model="unigram"), ["tokenizer.model=unigram"]),
        (SentencePieceConfig(joint=False), ["tokenizer.joint=false"]),
    ],
)
def test_any_tokenizer_will_do(pairs, tokenizer, overrides):
    """A joint one shares all embeddings; only subwords can be sampled, and of each model in its own way."""
    config = settings(pairs, *overrides, tokenizer=tokenizer)
    assert (config.model.embedding.tie == "all") == tokenizer.joint
    sampled = {"bpe": "bpe_dropout", "unigram": "unigram"}.get(getattr(tokenizer, "model", ""), "none")
    assert config.train.subword_sampling.kind == ("none" if pairs == 5_000_000 else sampled)


def test_a_tokenizer_that_is_there_stays():
    assert "tokenizer" not in choose(5_000, PIECES, learned=False).settings
    given = SentencePieceConfig(path="some.model")
    chosen = choose(5_000, given).settings
    assert "tokenizer" not in chosen
    assert "subword_sampling" not in chosen["train"]  # who knows which model that is


def test_what_is_chosen_is_said_with_the_reason():
    said_lines = lines(5_000)
    assert said_lines[0] == (
        "tokenizer.size 2000: in little text rare pieces are seen too seldom (Sennrich and Zhang 2019)"
    )
    assert said_lines[1].startswith("model.encoder.kind rnn, model.encoder.layers 1, model.encoder.width 512: ")
    assert len(said_lines) == 5


def test_what_is_not_chosen_is_not_said():
    said_lines = lines(5_000, "tokenizer.size=100", "train.schedule.kind=constant", "model.dropout=0")
    assert not any("tokenizer.size" in line or "warmup" in line or "model.dropout" in line for line in said_lines)
    assert any("model.word_dropout 0.1" in line for line in said_lines)
