"""What the settings of search make of raw text: rules, prefixes, samples, consensus, ensembles, coverage, alignment."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from zoo import WORDS, build, write_run

import nmt
from nmt.config import MbrConfig, SamplingConfig, SearchConfig, WordsConfig
from nmt.consensus import consensus
from nmt.errors import UserError
from nmt.score import score_pairs
from nmt.text.tokenizer import WordTokenizer
from nmt.translate import Translator

TOKENIZER = WordTokenizer(WORDS, WordsConfig(joint=True))
LINES = [" ".join(WORDS[n : n + 2 + n % 4]) for n in range(9)]


def make(name: str = "transformer", **search: object) -> Translator:
    settings = SearchConfig.model_validate(search)
    return Translator(build(name), (TOKENIZER, TOKENIZER), settings, device=torch.device("cpu"))


def words(translator: Translator, **options: object) -> list[list[str]]:
    return [result.text.split() for result in translator.translate(LINES, **options)]  # type: ignore[arg-type]


def test_lengths_and_rules_are_those_of_the_settings() -> None:
    translator = make(min_length=4, max_length=6, no_repeat=1, no_unk=True, ban=(WORDS[3], f"{WORDS[5]} {WORDS[6]}"))
    for found in words(translator):
        assert 4 <= len(found) + 1 <= 6
        assert len(set(found)) == len(found)
        assert not {"<unk>", WORDS[3]} & set(found)
        assert (WORDS[5], WORDS[6]) not in itertools.pairwise(found)


def test_lengths_can_depend_on_the_source() -> None:
    for line, found in zip(LINES, words(make(min_ratio=2.0, max_ratio=2.0, max_extra=1)), strict=True):
        source = len(line.split())
        assert 2 * source <= len(found) + 1 <= 2 * source + 1


def test_each_translation_begins_with_its_prefix() -> None:
    translator = make()
    prefixes = ["", WORDS[2], " ".join(WORDS[:7]), *[""] * (len(LINES) - 3)]
    plain, forced = words(translator), words(translator, prefixes=prefixes)
    for n, prefix in enumerate(prefixes):
        assert forced[n][: len(prefix.split())] == prefix.split()
        assert prefix or forced[n] == plain[n]
    with pytest.raises(ValueError, match="2 prefixes for 9 lines"):
        translator.translate(LINES, prefixes=["a", "b"])


def test_a_beam_can_be_given_with_the_call() -> None:
    assert words(make(beam=1), beam=4) == words(make(beam=4))


def test_samples_depend_on_seed_and_line_alone() -> None:
    def draw(seed: int, **options: object) -> list[list[str]]:
        sampling = SamplingConfig(count=3, seed=seed)
        found = make(sampling=sampling, **options).translate(LINES, nbest=3)
        return [[candidate.text for candidate in result.candidates] for result in found]

    assert draw(1) == draw(1, max_tokens=8)
    assert draw(1) != draw(2)
    translator = make(sampling=SamplingConfig(count=3))
    late = [[c.text for c in r.candidates] for r in translator.translate(LINES[4:], nbest=3, first=4)]
    assert late == draw(1)[4:]


@pytest.mark.parametrize("sampling", [None, SamplingConfig(count=8)])
def test_consensus_is_the_text_most_like_the_others(sampling: SamplingConfig | None) -> None:
    """Samples weigh alike; what a beam holds weighs as it is probable."""
    plain = make(sampling=sampling, beam=8).translate(LINES, nbest=8)
    chosen = make(sampling=sampling, beam=8, mbr=MbrConfig()).translate(LINES, nbest=8)
    for one, other in zip(plain, chosen, strict=True):
        weights = [float(np.exp(c.hypothesis.log_prob)) for c in one.candidates] if sampling is None else None
        order = consensus([c.text for c in one.candidates], utility="chrf", weights=weights)
        assert [c.text for c in other.candidates] == list(dict.fromkeys(one.candidates[n].text for n in order))


def test_what_is_scored_is_what_search_said() -> None:
    """With rules and samples, too, log-probabilities are those of the model."""
    for settings in ({"no_repeat": 2, "min_length": 5}, {"sampling": SamplingConfig(temperature=0.7, top_k=5)}):
        translator = make(**settings)
        found = translator.translate(LINES)
        scored = score_pairs(translator, [(r.source, r.text) for r in found if "<unk>" not in r.text])
        for result, score in zip([r for r in found if "<unk>" not in r.text], scored, strict=True):
            assert score.log_prob == pytest.approx(result.candidates[0].hypothesis.log_prob, rel=1e-4)


def test_coverage_ranks_what_search_found() -> None:
    plain = make("transformer", beam=6).translate(LINES, nbest=6)
    translator = make("transformer", beam=6, coverage_penalty=8.0)
    moved = 0
    for one, other in zip(plain, translator.translate(LINES, nbest=6), strict=True):
        scores = {}
        for n, candidate in enumerate(one.candidates):
            weights = translator.alignment(one, n).weights  # words are tokens here
            log = np.log(np.clip(weights.sum(axis=0), np.exp(-10), 1)).sum()
            scores[candidate.text] = candidate.hypothesis.score + 8.0 * log
        assert [c.text for c in other.candidates] == sorted(scores, key=lambda text: -scores[text])
        assert [c.hypothesis.score for c in other.candidates] == pytest.approx(sorted(scores.values())[::-1], abs=1e-4)
        moved += one.text != other.text
    assert moved
    with pytest.raises(UserError, match="coverage_penalty needs attention"):
        make("bottleneck", coverage_penalty=0.5)


def test_alignment_on_demand() -> None:
    translator = make("lstm")
    (result,) = translator.translate(LINES[:1], nbest=2)
    for n in range(2):
        found = translator.alignment(result, n)
        assert list(found.src) == LINES[0].split()
        assert list(found.tgt) == result.candidates[n].text.split()
    with pytest.raises(UserError, match="there is no candidate 2: the translation has 2"):
        translator.alignment(result, 2)


def test_runs_join_by_the_names_of_their_folders(tmp_path: Path) -> None:
    for name in ("lstm", "transformer"):
        write_run(tmp_path / name, name)
    alone = [nmt.load(tmp_path / name, device="cpu") for name in ("lstm", "transformer")]
    both = Translator.load(tmp_path / "lstm", others=[tmp_path / "transformer"], device="cpu")
    (pair,) = score_pairs(both, [(LINES[2], LINES[3])])
    parts = [next(score_pairs(one, [(LINES[2], LINES[3])])).token_log_probs for one in alone]
    expected = np.log(np.mean(np.exp(parts), axis=0))
    assert pair.token_log_probs == pytest.approx(expected.tolist(), abs=1e-4)
    assert len(both.translate(LINES)) == len(LINES)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_ratio": 3.0}, "min_ratio is 3.0, more than max_ratio: 2.0"),
        ({"min_length": 9, "max_length": 8}, "min_length is 9, more than max_length: 8"),
        ({"sampling": {}, "coverage_penalty": 0.1}, "sampling has no order"),
        ({"sampling": {}, "mbr": {}}, "sampling.count is 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchConfig.model_validate(settings)
