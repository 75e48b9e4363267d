"""The translations of a line: all different as text, and what they were to begin with as it was given."""

from __future__ import annotations

import itertools

import pytest
import torch
from zoo import WORDS, ZOO, build

from nmt.candidates import Candidate, different
from nmt.config import CharactersConfig, MbrConfig, SamplingConfig, SearchConfig, SentencePieceConfig, WordsConfig
from nmt.consensus import consensus
from nmt.models.build import build_model
from nmt.search.hypothesis import Hypothesis
from nmt.text.learn import learn_tokenizers
from nmt.text.tokenizer import WordTokenizer
from nmt.translate import Translator

LINES = [" ".join(WORDS[n : n + 2 + n % 4]) for n in range(6)]
SEVERAL_WAYS = WordTokenizer(list("abcde") * 3, WordsConfig())
"""Each word is three tokens, as a text of subwords may be cut in several ways."""


def make(name: str = "transformer", **search: object) -> Translator:
    settings = SearchConfig.model_validate(search)
    words = WordTokenizer(WORDS, WordsConfig())
    return Translator(build(name), (words, SEVERAL_WAYS), settings, device=torch.device("cpu"))


def test_rows_of_a_line_differ_as_text() -> None:
    """Of equal texts the best is there; if there are too few, not even a beam four times as wide has more."""
    short = 0
    for settings in ({"beam": 4}, {"beam": 4, "max_length": 2, "no_unk": True}):
        few, every = make(**settings), make(**{**settings, "beam": 16})
        for result, wide in zip(few.translate(LINES, nbest=4), every.translate(LINES, nbest=16), strict=True):
            rows = [(c.text, c.hypothesis.score) for c in result.candidates]
            assert len({text for text, _ in rows}) == len(rows)
            assert rows == sorted(rows, key=lambda row: -row[1])
            best = {c.text: c.hypothesis.score for c in wide.candidates}
            assert len(rows) >= min(4, len(best))
            assert all(score <= best[text] + 1e-5 for text, score in rows if text in best)
            short += len(rows) < 4
    assert not short
    assert all(len(r.candidates) == 1 for r in make(beam=4, max_length=1).translate(LINES, nbest=4))


def test_the_best_stays_where_the_first_stood() -> None:
    rows = [("a", -2.0), ("b", -1.0), ("a", -0.5), ("b", -3.0), ("c", -0.1)]
    candidates = [Candidate(text, Hypothesis([4], score, score, [score]), ()) for text, score in rows]
    assert [(c.text, c.hypothesis.score) for c in different(candidates)] == [("a", -0.5), ("b", -1.0), ("c", -0.1)]


def test_consensus_has_texts_that_differ() -> None:
    """What a text was written as in all ways counts for it."""
    for result in make(beam=4, mbr=MbrConfig()).translate(LINES, nbest=4):
        texts = [c.text for c in result.candidates]
        assert len(set(texts)) == len(texts) >= 2
    drawn = make(sampling=SamplingConfig(count=8)).translate(LINES, nbest=8)
    chosen = make(sampling=SamplingConfig(count=8), mbr=MbrConfig()).translate(LINES, nbest=8)
    for one, other in zip(drawn, chosen, strict=True):
        texts = [c.text for c in one.candidates]
        assert len(texts) == 8  # samples come as often as they are drawn
        order = consensus(texts, utility="chrf")
        assert [c.text for c in other.candidates] == list(dict.fromkeys(texts[n] for n in order))


TOKENIZERS = {
    "words": WordsConfig(joint=True),
    "lower case": WordsConfig(joint=True, lowercase=True),
    "characters": CharactersConfig(joint=True),
    "subwords": SentencePieceConfig(size=300),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_prefix_comes_out_as_it_was_given(kind: str) -> None:
    """What the vocabulary lacks, case, and white space included; and then it goes on with a word of its own if there is
    white space at its end."""
    text = ["the dog runs", "Hélas ma mère", "a b c d e f"]
    tokenizer, _ = learn_tokenizers(TOKENIZERS[kind], lambda: text, lambda: text)
    torch.manual_seed(1)
    model = build_model(ZOO["lstm"], len(tokenizer), len(tokenizer)).eval()
    for parameter in model.parameters():
        parameter.data.mul_(3.0)
    translator = Translator(model, (tokenizer, tokenizer), SearchConfig(beam=3), device=torch.device("cpu"))
    prefixes = ["zebra", "Hélas zebra", "the dog ", "the\u3000dog", "The  dog", " the", "", "a\rb", "d "]
    for prefix, line in itertools.product(prefixes, text):
        (result,) = translator.translate([line], prefixes=[prefix], nbest=3)
        assert result.candidates
        for candidate in result.candidates:
            assert candidate.text.startswith(prefix.replace("\r", " "))
            rest = candidate.text[len(prefix) :]
            if prefix.endswith(" ") and kind == "subwords":
                spelled = b"".join(tokenizer.spell(candidate.hypothesis.tokens)).decode(errors="replace")
                assert not rest or spelled.strip().replace("\n", " ").startswith(prefix)
