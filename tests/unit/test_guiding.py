"""Links between words, as shares of tokens."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nmt.cli.train import _data_section
from nmt.config import CharactersConfig, SentencePieceConfig, WordsConfig
from nmt.data.batch import UNK
from nmt.data.guiding import Guide, collate_links
from nmt.data.loader import batches
from nmt.data.prepare import prepare
from nmt.errors import UserError
from nmt.settings.load import load_config
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


def by_hand(tokenizers, pair, links):
    """[T,S] one share at a time, in words as `segment` has them."""
    source, target = (tokenizer.segment(line) for tokenizer, line in zip(tokenizers, pair, strict=True))
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
    np.testing.assert_allclose(shares, by_hand((tokenizer, tokenizer), (src, tgt), links), rtol=1e-6)


def test_words_of_tokens_are_those_of_the_links(tokenizer):
    """Whatever white space is between them."""
    lines = [re.sub(" ", white, LINES[0]) for white in ("\u00a0", "\t", "\u3000", "  ")]
    for line in lines:
        ids = tokenizer.encode(line)
        if UNK not in ids or tokenizer.settings.kind == "words":
            assert Guide(tokenizer, tokenizer).fits((line, line), ids, ids)


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


# From files to batches

PAIRS = [("a b c", "A B"), ("b a", "B A C"), ("c b a", "C B"), ("a", "A")]
LINKS = ["0-0 2?1", "", "0-1 1-1 2p0", "0-0"]


@pytest.fixture
def text(tmp_path):
    """Options of data; the files are rewritten by `text(links)`."""

    def write(links):
        sides = {"src": [a for a, _ in PAIRS], "tgt": [b for _, b in PAIRS], "links": links}
        sides |= {"dev_src": ["a b"], "dev_tgt": ["A B"]}
        for name, lines in sides.items():
            (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), "utf-8")
        return {name: str(tmp_path / name) for name in sides}

    return write


def prepared_from(data, folder, tokenizer="words", **more):
    said = []
    base = {"data": {**data, **more}, "tokenizer": {"kind": tokenizer}, "model": {"guided_alignment": 0.1}}
    return prepare(load_config(None, base=base), folder, report=said.append), said


def test_links_come_with_their_pairs(text, tmp_path):
    data = text(LINKS)
    (tmp_path / "src2").write_text("b c\n")
    (tmp_path / "tgt2").write_text("B C\n")
    more = [{"src": str(tmp_path / "src2"), "tgt": str(tmp_path / "tgt2"), "tag": "<x>"}]
    prepared, _ = prepared_from(data, tmp_path / "out", max_length=3, more=more)
    corpus = prepared.train
    assert corpus.has_links
    assert not prepared.dev.has_links
    expected = {
        pair: {tuple(map(int, re.split("[-?p]", link))) for link in line.split()}
        for pair, line in zip(PAIRS, LINKS, strict=True)
    }
    expected["<x> b c", "B C"] = set()
    assert {corpus.text(i): set(map(tuple, corpus.links(i).tolist())) for i in range(len(corpus))} == expected

    src, tgt = prepared.tokenizers
    _, batch = next(batches(corpus, max_tokens=100, seed=1, start=0, guide=Guide(src, tgt)))
    assert len(batch.indices) == len(corpus)
    for row, n in zip(batch.links.tolist(), batch.indices.tolist(), strict=True):
        a, b = corpus.text(n)
        shares = np.zeros(batch.links.shape[1:])
        shares[: len(b.split()) + 1, : len(a.split()) + 1] = by_hand((src, tgt), (a, b), expected[a, b])
        np.testing.assert_allclose(row, shares, rtol=1e-6)
    with pytest.raises(ValueError, match="has no links"):
        prepared.dev.links(0)


@pytest.mark.parametrize(
    ("links", "error"),
    [
        (["0-0", "", "0-0", "1-0"], "links, line 4: link 1-0: source 1 of 0..0"),
        (["0-0", "0-3", "", ""], "links, line 2: link 0-3: target 3 of 0..2"),
        (["0-0", "0:3", "", ""], "links, line 2: '0:3' is not a link"),
        (LINKS[:3], "links has 3 lines, but there are more sentence pairs"),
        ([*LINKS, ""], "links has more lines than there are sentence pairs, 4"),
    ],
)
def test_bad_links_are_told_before_anything_is_made(text, tmp_path, links, error):
    with pytest.raises(UserError) as caught:
        prepared_from(text(links), tmp_path / "out")
    assert error in caught.value.message
    assert not (tmp_path / "out").exists()


def test_what_the_tokenizer_joins_has_no_links(text, tmp_path):
    """U+200B is no white space, but SentencePiece's rule makes a space of it."""
    data = text(LINKS)
    (tmp_path / "src").write_text("a\u200bb b c\nb a\nc b a\na\n", "utf-8")
    (tmp_path / "config.yaml").write_text("")
    base = {
        "data": data,
        "tokenizer": {"kind": "sentencepiece", "normalization": "nmt_nfkc"},
        "model": {"guided_alignment": 0.1},
    }
    said = []
    corpus = prepare(load_config(None, base=base), tmp_path / "out", report=said.append).train
    assert "training: 4 pairs; 1 without their links: the tokenizer makes other words of the line" in said
    assert [len(corpus.links(i)) for i in range(4)] == [0, 0, 3, 1]


def test_a_prepared_corpus_stands_in_place_of_links():
    """Those of a configuration file are of the text that --data replaces."""
    assert _data_section(None, None, None, None, Path("corpus"))["links"] is None


@pytest.mark.parametrize(
    ("base", "error"),
    [
        ({"data": {"src": "a", "tgt": "b"}, "model": {"guided_alignment": 0.1}}, "name their file, data.links"),
        ({"data": {"links": "a"}}, "links are those of src and tgt"),
        ({"data": {"links": "a", "prepared": "b"}}, "prepared holds the text already: drop it, or drop"),
        (
            {"model": {"guided_alignment": 0.1, "decoder": {"kind": "rnn", "attention": {"kind": "none"}}}},
            "model.decoder.attention is none, and without one these have to be: model.guided_alignment=0",
        ),
    ],
)
def test_settings_that_contradict_each_other(base, error):
    with pytest.raises(UserError) as caught:
        load_config(None, base=base)
    assert error in caught.value.message
