"""Words that the vocabulary lacks, read by how they are spelled."""

import random

import pytest
import torch
from zoo import ZOO, spelling, widened, write_run

from nmt.align.extract import attention_maps
from nmt.config import SearchConfig, WordsConfig
from nmt.data.batch import UNK
from nmt.data.example import Feeder, collate_examples
from nmt.data.spelling import LONGEST, collate_spelled, ngrams, unknown_words
from nmt.errors import UserError
from nmt.models.build import build_model
from nmt.models.layers import NgramEmbedding
from nmt.score import score_pairs
from nmt.settings.load import load_config
from nmt.text.tokenizer import WordTokenizer
from nmt.translate import Translator

TOKENIZER = WordTokenizer(["the", "cat", "sees"], WordsConfig(joint=True))


def test_ngrams_by_hand():
    """CRC-32 of `abc` and `<ab` as other programs give it; each part once: <abc>, 4 of two, 3 of three, 2 of four."""
    found = ngrams("abc")
    assert {1 + 0x352441C2} <= set(found)  # the published check value of "abc"
    assert len(found) == 10
    assert len(ngrams("ab")) == len({"<ab>", "<a", "ab", "b>", "<ab", "ab>"})
    assert list(found) == sorted(found)
    assert all(1 <= n <= 2**32 for n in found)


def test_digits_are_alike_and_letters_are_not():
    assert ngrams("1,928") == ngrams("4,305")
    assert ngrams("1,928") != ngrams("19,28")
    assert ngrams("rex") != ngrams("Rex")
    assert ngrams("x" * LONGEST) == ngrams("x" * 10_000)
    assert ngrams("\ud800")  # half a surrogate pair: no file has one, a caller's string may


def test_unknown_words_of_a_line():
    line = "the Zora sees  Rex the Zora"
    assert unknown_words(TOKENIZER, line, TOKENIZER.encode(line)) == {1: "Zora", 3: "Rex", 5: "Zora"}
    assert unknown_words(TOKENIZER, "the cat", TOKENIZER.encode("the cat")) == {}


def test_words_of_a_batch_are_spelled_once():
    spelled = collate_spelled([{1: "Zora", 2: "Rex"}, {}, {0: "Rex"}], 4)
    assert spelled.words.tolist() == [[0, 1, 2, 0], [0, 0, 0, 0], [2, 0, 0, 0]]
    assert spelled.ngrams[0].tolist() == list(ngrams("Zora"))
    short = ngrams("Rex")
    assert spelled.ngrams[1].tolist() == [*short, *[0] * (spelled.ngrams.shape[1] - len(short))]
    nothing = collate_spelled([{}, {}], 3)
    assert nothing.words.tolist() == [[0] * 3] * 2
    assert len(nothing.ngrams) == 0


def test_vectors_against_a_loop():
    torch.manual_seed(1)
    embedding = NgramEmbedding(37, 8).double()
    sentences = [{0: "Zora", 2: "Rex"}, {1: "Zora"}, {}]
    found = embedding(collate_spelled(sentences, 3))
    for b, sentence in enumerate(sentences):
        for position in range(3):
            expected = torch.zeros(8, dtype=torch.float64)
            if position in sentence:
                parts = ngrams(sentence[position])
                for n in parts:
                    expected += embedding.table.weight[1 + n % 37]
                expected *= (8 / len(parts)) ** 0.5
            torch.testing.assert_close(found[b, position], expected, rtol=1e-12, atol=1e-12)
    assert embedding(collate_spelled([{}], 2)).eq(0).all()


def test_padding_learns_nothing():
    embedding = NgramEmbedding(37, 8)
    embedding(collate_spelled([{0: "Zora", 1: "R"}], 2)).square().sum().backward()
    assert embedding.table.weight.grad[0].eq(0).all()
    assert embedding.table.weight[0].eq(0).all()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["copy-ngrams", "transformer-ngrams"])
def test_unknown_words_are_told_apart(name, precision, tmp_path):
    """By every road that reads a source: translating, scoring and drawing attention."""
    run = write_run(tmp_path / "run", name)
    translator = Translator.load(run.path, search=SearchConfig(precision=precision))
    lines = ["w1 Zora w2", "w1 Beth w2", "w1 Zora w2"]
    first, second, third = translator.translate(lines)
    scores = [t.candidates[0].hypothesis.log_prob for t in (first, second, third)]
    assert scores[0] == pytest.approx(scores[2], abs=1e-5)
    assert abs(scores[0] - scores[1]) > 1e-3
    target = "w3 w4"
    forced = [scored.log_prob for scored in score_pairs(translator, [(line, target) for line in lines])]
    assert forced[0] == pytest.approx(forced[2], abs=1e-5)
    assert abs(forced[0] - forced[1]) > 1e-3
    maps = attention_maps(
        translator.model, translator.tokenizers, [(line, target) for line in lines], device=translator.device,
        max_tokens=100,
    )  # fmt: skip
    one, other, again = (found.weights for found in maps)
    assert abs(one - again).max() < 1e-5
    assert abs(one - other).max() > 1e-3


def test_without_ngrams_they_are_all_alike(tmp_path):
    translator = Translator.load(write_run(tmp_path / "run", "copy").path)
    first, second = translator.translate(["w1 Zora w2", "w1 Beth w2"])
    assert first.candidates[0].hypothesis.log_prob == pytest.approx(second.candidates[0].hypothesis.log_prob, abs=1e-5)


def test_what_is_scored_is_what_was_found(tmp_path):
    translator = Translator.load(write_run(tmp_path / "run", "copy-ngrams").path)
    (found,) = translator.translate(["w1 Zora w2 Beth"])
    best = found.candidates[0]
    (scored,) = score_pairs(translator, [("w1 Zora w2 Beth", best.text)])
    assert scored.log_prob == pytest.approx(best.hypothesis.log_prob, abs=1e-4)


ENDS = {"ski": "cat", "ova": "the"}


def pairs(draw, count):
    """Names that nobody has seen before, and what their endings say."""
    for _ in range(count):
        end = draw.choice(list(ENDS))
        yield "".join(draw.choices("bdgklmnprt", k=5)) + end, ENDS[end]


def test_endings_of_unseen_names_are_learned():
    torch.manual_seed(1)
    draw = random.Random(1)
    model = build_model(spelling(widened(ZOO["lstm"])), len(TOKENIZER), len(TOKENIZER))
    feeder, optimizer = Feeder(TOKENIZER, TOKENIZER, spells=True), torch.optim.Adam(model.parameters(), lr=5e-3)

    def batch(count):
        examples = [feeder.example((a, TOKENIZER.encode(a)), (b, TOKENIZER.encode(b))) for a, b in pairs(draw, count)]
        assert all(list(example.src) == [UNK] for example in examples)
        return collate_examples(examples)

    for _ in range(60):
        model(batch(32)).objective.sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        assert model(batch(100)).nll.exp().reciprocal().mean() > 0.9  # half of it by chance


@pytest.mark.parametrize("kind", ["sentencepiece", "characters"])
def test_only_words_are_spelled(kind):
    with pytest.raises(UserError, match="ngrams spells words that the vocabulary lacks"):
        load_config(None, ["model.embedding.ngrams=100", f"tokenizer.kind={kind}"])
    with pytest.raises(ValueError, match="only words"):
        Feeder(*[object()] * 2, spells=True)  # type: ignore[list-item]
