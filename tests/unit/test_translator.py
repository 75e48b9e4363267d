"""The Translator: order, laziness, threads, and a model that stays as it was."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from zoo import WORDS, build, each_model

import nmt
from nmt.candidates import Translation
from nmt.config import SearchConfig, WordsConfig
from nmt.errors import UserError
from nmt.score import score_pairs
from nmt.text.tokenizer import WordTokenizer
from nmt.translate import Translator

CPU = torch.device("cpu")
TOKENIZER = WordTokenizer(WORDS, WordsConfig())


def make(name: str = "lstm-feeding", **search: object) -> Translator:
    settings = SearchConfig.model_validate({"beam": 2, "max_ratio": 1.0, "max_extra": 4, **search})
    return Translator(build(name), (TOKENIZER, TOKENIZER), settings, device=CPU)


def random_lines(count: int, seed: int = 1) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(0, 12))) for _ in range(count)]


def texts(translations: Iterator[Translation]) -> list[str]:
    return [translation.text for translation in translations]


@each_model
def test_each_line_gets_its_own_translation_in_order(name: str) -> None:
    """Translating a line alone is the oracle for its place in a batch, a window and the whole."""
    translator, lines = make(name), random_lines(25)
    together = list(translator.translate(lines))
    for line, translation in zip(lines, together, strict=True):
        (alone,) = translator.translate([line])
        assert translation.text == alone.text
        assert (translation.candidates == []) == (line == "")
        for one, other in zip(translation.candidates, alone.candidates, strict=True):
            assert one.hypothesis.score == pytest.approx(other.hypothesis.score, rel=1e-5)


def test_bytes_and_text_are_the_same() -> None:
    translator, lines = make(), ["w1 w2", "", "w3 ж", " \t "]
    assert list(translator.translate(lines)) == list(translator.translate([line.encode() for line in lines]))
    assert list(translator.translate([])) == []


def test_not_more_than_a_window_is_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """And an endless input is no trouble."""
    monkeypatch.setattr("nmt.translate.WINDOW", 4)
    monkeypatch.setattr("nmt.translate.PATIENCE", math.inf)
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield WORDS[taken % len(WORDS)]

    results = make().stream(endless())
    assert taken == 0
    for given in range(1, 15):
        next(results)
        assert taken == math.ceil(given / 4) * 4


def test_threads_can_share_a_translator() -> None:
    translator = make()
    inputs = [random_lines(20, seed) for seed in range(4)]
    expected = [texts(translator.translate(lines)) for lines in inputs]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda lines: texts(translator.translate(lines)), inputs)) == expected


def test_interleaved_generators_do_not_disturb_each_other() -> None:
    translator, one, other = make(), random_lines(12, 1), random_lines(12, 2)
    pairs = list(zip(translator.translate(one), translator.translate(other), strict=True))
    assert [a.text for a, _ in pairs] == texts(translator.translate(one))
    assert [b.text for _, b in pairs] == texts(translator.translate(other))


def test_the_model_given_goes_on_training_and_the_translator_does_not_notice() -> None:
    model = build("lstm").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    translator = Translator(model, (TOKENIZER, TOKENIZER), SearchConfig(beam=2), device=CPU)
    lines = random_lines(8)
    expected = texts(translator.translate(lines))
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    assert texts(translator.translate(lines)) == expected


def test_problems_leave_the_other_lines_alone() -> None:
    translator = make(max_source=3)
    good = ["w1 w2", "w3"]
    lines = ["w1 w2", b"\xc3", "w1 w2 w3 w4", "w3", "", b"w1 \xff w2"]
    results = list(translator.translate(lines))
    assert [result.problem for result in results] == [
        None,
        "not UTF-8 at byte 1 of the line (0xC3)",
        "the source has 4 tokens, more than search.max_source: 3",
        None,
        None,
        "not UTF-8 at byte 4 of the line (0xFF)",
    ]
    assert all(result.candidates == [] and result.text == "" for result in results if result.problem)
    assert [results[0].text, results[3].text] == texts(translator.translate(good))


def test_outputs_keep_to_their_limit() -> None:
    """max_ratio * source + max_extra tokens, the end of the sentence among them."""
    translator = make(max_ratio=0.5, max_extra=2)
    for line, result in zip(lines := random_lines(20), translator.translate(lines), strict=True):
        for candidate in result.candidates:
            assert len(candidate.hypothesis.tokens) + 1 <= len(line.split()) // 2 + 2


def test_nbest_is_cut_from_the_beam() -> None:
    translator, lines = make(beam=4), random_lines(6)
    for nbest in (1, 2, 4):
        for line, result in zip(lines, translator.translate(lines, nbest=nbest), strict=True):
            assert len(result.candidates) == (nbest if line else 0)
    whole = list(translator.translate(lines, nbest=4))
    assert [r.candidates[:2] for r in whole] == [r.candidates for r in translator.translate(lines, nbest=2)]


def test_bfloat16_searches_with_nearly_the_same_scores() -> None:
    rough, exact = make(precision="bfloat16"), make()
    assert {parameter.dtype for parameter in rough.model.parameters()} == {torch.bfloat16}
    lines = [line for line in random_lines(12) if line]
    results = list(rough.translate(lines))
    pairs = [(line, result.text) for line, result in zip(lines, results, strict=True)]
    for result, forced in zip(results, score_pairs(exact, pairs), strict=True):
        found = result.candidates[0].hypothesis
        assert math.isfinite(found.log_prob)
        assert found.log_prob == pytest.approx(forced.log_prob, rel=0.05, abs=0.3)


def test_load_says_what_is_missing(tmp_path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist"):
        nmt.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="nowhere does not exist"):
        nmt.load(str(tmp_path / "nowhere"))


def test_scores_come_in_order_and_by_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    translator = make("gru", max_tokens=20)
    lines = [line for line in random_lines(20) if line]
    pairs = list(zip(lines, reversed(lines), strict=True))
    together = list(score_pairs(translator, pairs))
    monkeypatch.setattr("nmt.score.WINDOW", 3)
    for pair, whole, cut in zip(pairs, together, score_pairs(translator, pairs), strict=True):
        (alone,) = score_pairs(translator, [pair])
        assert whole.log_prob == pytest.approx(alone.log_prob, rel=1e-5)
        assert cut.log_prob == pytest.approx(alone.log_prob, rel=1e-5)
        assert len(whole.token_log_probs) == len(pair[1].split()) + 1
        assert sum(whole.token_log_probs) == pytest.approx(whole.log_prob)


def test_a_pair_that_has_no_score_costs_only_itself() -> None:
    translator, long = make(max_source=3, length_penalty=0.5), "w1 w2 w3 w4"
    pairs = [("w1 w2", "w3"), (" ", "w1"), ("w1", long), (long, "w1"), ("w1 w2 w3", "w1 w2 w3"), ("w1", "")]
    scores = list(score_pairs(translator, pairs))
    limit = "has 4 tokens, more than search.max_source: 3"
    assert [score.problem for score in scores] == [
        None, "the source is empty, so there is nothing to score its translation by", f"the target {limit}",
        f"the source {limit}", None, None,
    ]  # fmt: skip
    for pair, score in zip(pairs, scores, strict=True):
        if score.problem is not None:
            assert math.isnan(score.log_prob)
            continue
        (alone,) = score_pairs(translator, [pair])
        assert score.log_prob == pytest.approx(alone.log_prob, rel=1e-5)
        assert score.score == pytest.approx(score.log_prob / len(score.token_log_probs) ** 0.5)
