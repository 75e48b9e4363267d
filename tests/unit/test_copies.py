"""What can be copied from a sentence, as ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.config import CharactersConfig, SentencePieceConfig, WordsConfig
from nmt.data.batch import EOS, PAD, UNK
from nmt.data.copying import make_copier
from nmt.data.example import Example, Feeder, collate_examples
from nmt.text.learn import learn_tokenizers
from nmt.text.tokenizer import CharacterTokenizer, WordTokenizer

SRC = WordTokenizer(["the", "cat", "Rex", "sees"], WordsConfig())
TGT = WordTokenizer(["Rex", "chat", "voit"], WordsConfig())
V = len(TGT)
FEEDER = Feeder(SRC, TGT, copies=True)


def example(src, tgt=None):
    return FEEDER.example((src, SRC.encode(src)), None if tgt is None else (tgt, TGT.encode(tgt)))


def test_words_are_named_by_what_they_are_in_the_target():
    made = example("the Zora sees Rex the Zora", "Zora voit Rex Mia Zora")
    assert made.copies.extras == ["the", "Zora", "sees"]  # the source knows some of them: the target does not
    assert list(made.copies.ids) == [V, V + 1, V + 2, TGT.lookup(["Rex"])[0], V, V + 1]
    assert list(made.tgt) == [V + 1, TGT.lookup(["voit"])[0], TGT.lookup(["Rex"])[0], UNK, V + 1]
    assert TGT.decode(made.tgt, made.copies.extras) == "Zora voit Rex <unk> Zora"
    assert TGT.pieces([V + 1], made.copies.extras) == ["Zora"]


def test_what_looks_like_a_special_token_is_a_word():
    made = example("<unk> <s> </s>", "</s> <unk>")
    assert made.copies.extras == ["<unk>", "<s>", "</s>"]
    assert list(made.tgt) == [V + 2, V]


def test_a_batch_pads_and_counts_the_most_extras():
    batch = collate_examples([example("Rex", "Rex"), example("Zora Mia Rex", "Mia")])
    assert batch.extras == 2
    assert batch.copy_ids.tolist() == [[4, EOS, PAD, PAD], [V, V + 1, 4, EOS]]
    assert batch.tgt.ids[1].tolist() == [1, V + 1, EOS]
    assert batch.copy_ids.shape == batch.src.ids.shape


def test_who_does_not_copy_gets_no_copies():
    batch = collate_examples([Feeder(SRC, TGT).example(("x", [5]), ("y", [6])), Example([5], [6])])
    assert batch.copy_ids is None
    assert batch.extras == 0


@given(st.lists(st.sampled_from("abcdefg "), max_size=12), st.lists(st.sampled_from("abcdxyz "), max_size=12))
def test_characters_come_back_where_the_source_has_them(src, tgt):
    one, two = CharacterTokenizer("abc ", CharactersConfig()), CharacterTokenizer("xy ", CharactersConfig())
    src, tgt = "".join(src), "".join(tgt)
    made = Feeder(one, two, copies=True).example((src, one.encode(src)), (tgt, two.encode(tgt)))
    expected = [c if c in "xy " or c in src else "<unk>" for c in tgt]
    assert two.pieces(made.tgt, made.copies.extras) == expected
    assert [*two.pieces(made.copies.ids, made.copies.extras)] == list(src)


def test_subwords_of_one_vocabulary_have_one_name():
    settings = SentencePieceConfig(size=60)
    src, tgt = learn_tokenizers(settings, lambda: iter(["the cat sees Rex"] * 3), lambda: iter(["Rex voit"] * 3))
    ids = src.encode("Zora sees Rex")
    made = Feeder(src, tgt, copies=True).example(("Zora sees Rex", ids), ("Zora voit", tgt.encode("Zora voit")))
    assert list(made.copies.ids) == ids
    assert made.copies.extras == ()
    other = learn_tokenizers(settings, lambda: iter(["a b"]), lambda: iter(["a b"]))[0]
    with pytest.raises(ValueError, match="one vocabulary"):
        make_copier(src, other)
