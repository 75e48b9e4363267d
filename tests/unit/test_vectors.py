"""Pretrained word vectors: what is read, how it is scaled, how coverage counts, and every message."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import unicodedata
import warnings

import numpy as np
import pytest

from nmt.config import Config, DataConfig, EmbeddingConfig, ModelConfig, WordsConfig
from nmt.errors import UserError
from nmt.settings.load import load_config
from nmt.text.tokenizer import WordTokenizer
from nmt.text.vectors import Coverage, check_vectors, check_words, read_vectors

LINES = ["the 0.5 -1 2", "Dog 1 1e0 0", "cat 0 .25 -0.75", "dog 3 0 0", "the 9 9 9"]
WORDS = ["the", "dog", "Cat", "Dog", "DOG", "unseen"]  # ids from 4


def words(*tokens):
    return WordTokenizer(tokens, WordsConfig())


def write(folder, lines, name="vectors.txt"):
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
    return path


def refused(path, width=3, tokenizer=None):
    with pytest.raises(UserError) as caught:
        read_vectors(path, tokenizer or words("the", "cat"), width)
    return caught.value


def test_values_by_hand(tmp_path):
    """Each word's own vector, else that in lower case; the first of two; one factor brings the root mean square to
    3**-0.5."""
    vectors = read_vectors(write(tmp_path, LINES), words(*WORDS), 3)
    expected = np.zeros((10, 3))
    expected[4] = [0.5, -1, 2]  # the: the first of its two
    expected[5] = [3, 0, 0]  # dog
    expected[6] = [0, 0.25, -0.75]  # Cat: as cat
    expected[7] = [1, 1, 0]  # Dog: its own, though dog is there, too
    expected[8] = [3, 0, 0]  # DOG: as dog
    assert vectors.found.tolist() == [False] * 4 + [True] * 5 + [False]
    factor = np.sqrt(15 / (expected**2).sum() / 3)
    np.testing.assert_allclose(vectors.values, expected * factor, rtol=1e-6, atol=0)
    assert vectors.values.dtype == np.float32


def test_words_are_found_however_their_letters_are_encoded(tmp_path):
    spelled = [unicodedata.normalize(form, "Zoé 1 2") for form in ("NFC", "NFD")]
    for form in spelled:
        path, (word, *_) = write(tmp_path, [form]), form.split()
        check_words(path, words("Zoé"), 2)
        assert read_vectors(path, words("Zoé"), 2).found[4]
        as_it_is = WordTokenizer([word], WordsConfig(normalization="identity"))
        assert read_vectors(path, as_it_is, 2).found[4]


@pytest.mark.parametrize("order", [["dog 1 0", "Dog 0 1"], ["Dog 0 1", "dog 1 0"]])
def test_a_words_own_vector_goes_before_that_in_lower_case(tmp_path, order):
    vectors = read_vectors(write(tmp_path, order), words("Dog"), 2)
    np.testing.assert_allclose(vectors.values[4], [0, 1])


def test_both_formats_plain_and_packed_are_equal(tmp_path):
    glove = write(tmp_path, LINES)
    word2vec = write(tmp_path, ["5 3", *LINES], "word2vec.vec")
    spaced = write(tmp_path, ["5 3 ", *(f"{line} \r" for line in LINES)], "spaced.vec")  # as word2vec itself writes
    paths = [glove, word2vec, spaced]
    for path in (glove, word2vec):
        paths.append(path.with_suffix(".gz"))
        paths[-1].write_bytes(gzip.compress(path.read_bytes()))
    results = [read_vectors(path, words(*WORDS), 3) for path in paths]
    for result in results[1:]:
        assert np.array_equal(result.values, results[0].values)
        assert np.array_equal(result.found, results[0].found)


def test_words_with_spaces_are_parsed_from_the_right(tmp_path):
    """As in GloVe of 840 billion words: no such word is ever looked up, and those after it are right."""
    path = write(tmp_path, [". . . 0.1 0.2", "at name@domain.com 3 4", "to infinity 5 5", "2 1 0", ". 0 1"])
    check_vectors(path, 2)
    vectors = read_vectors(path, words(".", "2", "at"), 2)
    assert vectors.found.tolist() == [False] * 4 + [True, True, False]
    np.testing.assert_allclose(vectors.values[4:6], [[0, 1], [1, 0]])


def test_special_tokens_never_have_vectors(tmp_path):
    """A word of the text that looks like one has."""
    path = write(tmp_path, ["3 2", "</s> 1 1", "<unk> 2 2", "a 1 1"])
    assert read_vectors(path, words("a"), 2).found.tolist() == [False] * 4 + [True]
    assert read_vectors(path, words("a", "</s>"), 2).found.tolist() == [False] * 4 + [True, True]


def test_separators_are_spaces_alone(tmp_path):
    """White space of other kinds is part of a word, and no end of a line."""
    path = write(tmp_path, ["10\u00a0000 1 0", "a\u2028b 0 1", "c\x85 5 5", "c 1 1"])
    vectors = read_vectors(path, words("c"), 2)
    np.testing.assert_allclose(vectors.values[4], [0.5**0.5] * 2)
    assert vectors.found.sum() == 1


@pytest.mark.parametrize("width", [1, 7, 64])
def test_scale(tmp_path, width):
    """Whatever the scale of the file: the root mean square is that of a fresh table, and directions stay."""
    draw = np.random.default_rng(width)
    raw = draw.normal(0, 17, (50, width))
    path = write(tmp_path, [f"w{n} " + " ".join(map(repr, map(float, row))) for n, row in enumerate(raw)])
    values = read_vectors(path, words(*(f"w{n}" for n in range(50))), width).values[4:]
    assert np.square(values, dtype=np.float64).mean() == pytest.approx(1 / width)
    ratios = values / raw
    np.testing.assert_allclose(ratios, ratios.flat[0], rtol=1e-5)


def test_coverage_by_hand(tmp_path):
    vectors = read_vectors(write(tmp_path, LINES), words(*WORDS), 3)
    # unk is a running word without a vector; 4..8 have one, 9 has none
    coverage = vectors.coverage([np.array([4, 4, 3, 9]), np.array([5, 9, 8]), np.array([9])])
    assert coverage == Coverage(words=5, of_words=6, running=4, of_running=8)
    assert str(coverage) == "5 of 6 words (83.3 %), 50.0 % of the running words"
    assert str(Coverage(1234, 2000, 931, 1000)) == "1,234 of 2,000 words (61.7 %), 93.1 % of the running words"


def test_only_what_is_needed_stays_in_memory(tmp_path):
    draw = random.Random(1)
    path = write(tmp_path, [f"word{n} " + " ".join(f"{draw.random():.3f}" for _ in range(20)) for n in range(9000)])
    tokenizer = words("word7")
    tracemalloc.start()
    try:
        assert read_vectors(path, tokenizer, 20).found.sum() == 1
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 2
    finally:
        tracemalloc.stop()


FORM = (
    "Each line is a word and 3 numbers, with single spaces between, in UTF-8. Binary files of word2vec and zip "
    "archives are not read: convert or unpack them first."
)


def told_early(path):
    """What checks say before there is a vocabulary, or else of it."""
    try:
        check_vectors(path, 3)
    except UserError as error:
        return error
    with pytest.raises(UserError) as caught:
        check_words(path, words("the", "cat"), 3)
    return caught.value


@pytest.mark.parametrize(
    ("lines", "said", "hint"),
    [
        ([], ": is empty", FORM),
        (
            ["the 1 2"],
            ", line 1: vectors of width 2, but model.embedding.width is 3",
            "Set model.embedding.width to 2, or take vectors of width 3.",
        ),
        (
            ["9 4", "the 1 2 3 4"],
            ", line 1: vectors of width 4, but model.embedding.width is 3",
            "Set model.embedding.width to 4, or take vectors of width 3.",
        ),
        ([". . 1 2 3 4"], ", line 1: vectors of width 4, but model.embedding.width is 3", None),
        (
            ["one two"],
            ", line 1: neither COUNT WIDTH, as word2vec has it, nor a word and its numbers",
            FORM.replace(" 3 ", " its "),
        ),
        (["the 1 x 3"], ", line 1: `x` is not a number", FORM),
        (["the 1 2 3", "cat 1 2"], ", line 2: 2 numbers after the word, not 3", FORM),
        (["the 1 2 3", "cat 1 2 3 4"], ", line 2: 4 numbers or more after the word, not 3", FORM),
        (["2 3", "the 1 2 3", ""], ", line 3: 0 numbers after the word, not 3", FORM),
        (["the 1 2 3", "dog 1 2,5 3"], ", line 2: `2,5` is not a number", FORM),
        (["the 1 2 3", "dog 1  2 3"], ", line 2: `` is not a number", FORM),
        (["2 3", "the 1 2 3", "dog 1 nan 3"], ", line 3: nan is not a finite number", FORM),
        (["the 1 2 3", "dog 1 2 -inf"], ", line 2: -inf is not a finite number", FORM),
        (["the 1 2 3", "cat 1e39 2 3"], ", line 2: 1e39 is not a finite number", FORM),
        (
            ["3 3", "the 1 2 3", "dog 4 5 6"],
            ", line 1: speaks of 3 words, but 2 lines follow",
            "The file may have been cut short. If that was meant, make line 1: 2 3",
        ),
        (["1 3", "the 1 2 3", "dog 4 5 6"], ", line 1: speaks of 1 words, but 2 lines follow", None),
        (
            ["dog 1 2 3", "The 4 5 6"],
            ": has no vector for any of the 2 words of the vocabulary",
            "Is it of the right language, and cut into words as the text is?",
        ),
        (
            ["the 0 0 0", "dog 1 2 3"],
            ": all its vectors of words in the vocabulary are 0",
            "Take another file.",
        ),
    ],
)
def test_what_can_be_wrong_with_a_file(tmp_path, lines, said, hint):
    path = write(tmp_path, lines)
    with warnings.catch_warnings(action="error"):
        error = refused(path)
    assert error.message == f"{path}{said}"
    assert hint is None or error.hint == hint
    early = told_early(path)
    assert (early.message, early.hint) == (error.message, error.hint)


def test_files_that_are_no_text(tmp_path):
    latin = tmp_path / "latin1.txt"
    latin.write_bytes("the 1 2 3\nété 1 2 3\n".encode("latin-1"))
    error = refused(latin)
    assert error.message == f"{latin}, line 2: not UTF-8 at byte 1 of the line (0xE9)"
    assert error.hint == FORM.replace(" 3 ", " its ")
    binary = tmp_path / "vectors.bin"
    binary.write_bytes(b"2 3\nthe " + np.array([0.5, -1, 2], "<f4").tobytes() + b"\ncat " + bytes(12))
    assert "Binary files of word2vec and zip archives are not read" in (refused(binary).hint or "")
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(b"the 1 2 3\n" * 100)[:-9])
    assert f"{cut}: damaged gzip data" in refused(cut).message


def test_a_file_is_checked_to_its_last_line_and_its_words_to_the_first_that_has_a_vector(tmp_path):
    many = [f"w{n} 1 2 3" for n in range(999)]
    with pytest.raises(UserError, match=r"line 1000: 1 numbers after the word, not 3"):
        check_vectors(write(tmp_path, [*many, "cat 1"]), 3)
    check_vectors(write(tmp_path, many), 3)
    check_words(write(tmp_path, [*many[:7], "cat"]), words("cat", "W6"), 3)  # in lower case


WORD_MODEL = "tokenizer: {kind: words}\nmodel:\n  embedding:\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "model:\n  embedding:\n    src_vectors: x.vec",
            "c.yaml:3: model.embedding.src_vectors: the vectors are of words, and tokenizer.kind: sentencepiece has "
            "subwords; set it to words, or drop the vectors",
        ),
        (
            "tokenizer: {kind: characters}\nmodel: {embedding: {tgt_vectors: x.vec}}",
            "c.yaml:2: model.embedding.tgt_vectors: the vectors are of words, and tokenizer.kind: characters has "
            "characters; set it to words, or drop the vectors",
        ),
        (
            "tokenizer: {kind: words, joint: true}\nmodel: {embedding: {tie: all, src_vectors: x, tgt_vectors: x}}",
            "c.yaml:2: model.embedding: with tie: all there is one table: drop src_vectors or tgt_vectors",
        ),
        (
            WORD_MODEL + "    freeze: true",
            "c.yaml:4: model.embedding: freeze keeps pretrained vectors as they are, but neither src_vectors nor "
            "tgt_vectors is set",
        ),
        (
            WORD_MODEL + "    tgt_vectors: x\n    freeze: true",
            "c.yaml:5: model.embedding: freeze would keep the output layer from learning, too, which with tie: decoder "
            "shares the target table; set tie: none",
        ),
        (
            "tokenizer: {kind: words, joint: true}\nmodel: {embedding: {tie: all, src_vectors: x, freeze: true}}",
            "c.yaml:2: model.embedding: freeze would keep the output layer from learning, too, which with tie: all "
            "shares the target table; set tie: none",
        ),
    ],
)
def test_impossible_settings(tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        load_config(tmp_path / "c.yaml")
    assert caught.value.message == f"{tmp_path}/{said}"


def test_possible_settings(tmp_path):
    """Paths are relative to the file; a frozen source table leaves the output layer alone; of a prepared text, the
    tokenizer is known later."""
    (tmp_path / "c.yaml").write_text(WORD_MODEL + "    src_vectors: x.vec\n    freeze: true")
    embedding = load_config(tmp_path / "c.yaml").model.embedding
    assert (embedding.src_vectors, embedding.vectors) == (str(tmp_path / "x.vec"), [str(tmp_path / "x.vec")])
    model = ModelConfig(embedding=EmbeddingConfig(tie="none", src_vectors="x", tgt_vectors="y", freeze=True))
    assert Config(model=model, tokenizer=WordsConfig()).model.embedding.vectors == ["x", "y"]
    assert Config(model=model, data=DataConfig(prepared="folder")).model == model
