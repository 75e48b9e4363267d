"""Links between words, as shares of tokens."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nmt.config import CharactersConfig, SentencePieceConfig, WordsConfig
from nmt.data.guiding import Guide, collate_links
from nmt.text.learn import learn_tokenizers

LINES = ["the white car is here", "a blackbird sings over the white houses", "they sell nineteen blackbirds", "so what"]


@pytest.fixture(scope="module", params=["words", "characters", "sentencepiece"])
def tokenizer(request):
    settings = {
        "words": WordsConfig(joint=True),
        "characters": CharactersConfig(joint=True),
        "sentencepiece": SentencePieceConfig(size=290),
    }[request.param]
    return learn_tokenizers(settings, lambda: iter(LINES), lambda: iter(LINES))[0]


def by_hand(tokenizer, src, tgt, links):
    """[T,S] one share at a time, in words as `segment` has them."""
    source, target = tokenizer.segment(src), tokenizer.segment(tgt)
    rows = []
    for word in [*target.word_of, None]:
        row = [float((at, word) in links) for at in source.word_of] + [0.0]
        rows.append([share / (sum(row) or 1.0) for share in row])
    return rows


@given(st.data())
def test_shares_are_those_of_the_words(tokenizer, data):
    src, tgt = (data.draw(st.sampled_from(LINES)) for _ in range(2))
    pairs = st.tuples(*(st.integers(0, len(line.split()) - 1) for line in (src, tgt)))
    links = data.draw(st.sets(pairs))
    array = np.array(sorted(links), np.int64).reshape(-1, 2)
    shares = Guide(tokenizer, tokenizer).spread(array, tokenizer.encode(src), tokenizer.encode(tgt))
    np.testing.assert_allclose(shares, by_hand(tokenizer, src, tgt, links), rtol=1e-6)


def test_it_fits_where_words_are_those_between_white_space(tokenizer):
    guide = Guide(tokenizer, tokenizer)
    one, other = (tokenizer.encode(line) for line in LINES[:2])
    assert guide.fits((LINES[0], LINES[1]), one, other)
    assert not guide.fits((LINES[0], LINES[1]), other, other)
    assert not guide.fits((LINES[0], LINES[1]), one, one)


def test_batches_are_padded_with_nothing():
    shares = [np.ones((2, 3), np.float32), np.full((1, 4), 0.25, np.float32)]
    links = collate_links(shares)
    assert links.shape == (2, 2, 4)
    assert torch.equal(links[0], torch.tensor([[1.0, 1, 1, 0], [1, 1, 1, 0]]))
    assert torch.equal(links[1], torch.tensor([[0.25] * 4, [0.0] * 4]))
