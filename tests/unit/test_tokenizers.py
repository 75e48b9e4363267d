"""Tokenizers: there and back, special tokens, words of pieces, learning, saving and loading."""

from __future__ import annotations

import io
import json
import random
import re
import unicodedata

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from nmt.config import CharactersConfig, SentencePieceConfig, WordsConfig
from nmt.errors import UserError
from nmt.text import learn
from nmt.text.learn import learn_tokenizers
from nmt.text.tokenizer import (
    BOS,
    EOS,
    PAD,
    UNK,
    CharacterTokenizer,
    Segments,
    WordTokenizer,
    load_tokenizers,
)

SRC = ["A dog runs in the park .", "Two dogs are running in a park .", "The man sees a dog .", "A dog and a man ."]
TGT = [
    "Ein Hund läuft im Park .",
    "Zwei Hunde laufen im Park .",
    "Der Mann sieht einen Hund .",
    "Ein Hund , ein Mann .",
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def learned(config, src=SRC, tgt=TGT):
    return learn_tokenizers(config, lambda: src, lambda: tgt)


def sentencepiece_model(**options) -> bytes:
    """A model made without this package."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SRC + TGT), model_writer=model, hard_vocab_limit=False, minloglevel=2, **options
    )
    return model.getvalue()


@pytest.fixture(scope="module")
def by_kind():
    """One tokenizer of each kind (and of each SentencePiece model), learned from both sides."""
    return {
        "bpe": learned(SentencePieceConfig())[0],
        "unigram": learned(SentencePieceConfig(model="unigram"))[0],
        "words": learned(WordsConfig(joint=True))[0],
        "characters": learned(CharactersConfig(joint=True))[0],
    }


def spaces_folded(line: str) -> str:
    """What SentencePiece keeps of white space; one line."""
    kept = " ".join(part for part in line.replace("▁", " ").split(" ") if part)
    return kept.replace("\n", " ").replace("\r", " ")


def nfc(line: str) -> str:
    return unicodedata.normalize("NFC", line)


# There and back


@pytest.mark.parametrize("kind", ["bpe", "unigram", "words", "characters"])
def test_training_text_comes_back(by_kind, kind):
    tokenizer = by_kind[kind]
    for line in SRC + TGT:
        ids = tokenizer.encode(line)
        assert min(ids) > UNK
        assert max(ids) < len(tokenizer)
        assert tokenizer.decode([BOS, *ids, EOS, PAD]) == line


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@given(line=TEXT)
def test_any_text_comes_back_through_bytes(by_kind, kind, line):
    ids = by_kind[kind].encode(line)
    assert by_kind[kind].decode(ids) == spaces_folded(nfc(line))
    assert all(n > UNK for n in ids)


@pytest.mark.parametrize("normalization", ["identity", "nfc", "nmt_nfkc"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_normalisation(normalization, lowercase):
    tokenizer, _ = learned(SentencePieceConfig(normalization=normalization, lowercase=lowercase))
    line = "Ü U\u0308 ﬁ ① Ⅸ"
    expected = line.lower() if lowercase else line
    if normalization != "identity":
        expected = unicodedata.normalize("NFC" if normalization == "nfc" else "NFKC", expected)
    assert tokenizer.decode(tokenizer.encode(line)) == expected


@given(line=TEXT)
def test_characters_come_back_unless_unknown(line):
    tokenizer, _ = learned(CharactersConfig(joint=True), [line, "x"], ["y"])
    assert tokenizer.decode(tokenizer.encode(line)) == nfc(line).replace("\n", " ").replace("\r", " ")
    assert UNK not in tokenizer.encode(line)


@given(line=TEXT)
def test_words_come_back_unless_unknown(line):
    tokenizer, _ = learned(WordsConfig(joint=True), [line, "x"], ["y"])
    assert tokenizer.decode(tokenizer.encode(line)) == " ".join(nfc(line).split())
    assert UNK not in tokenizer.encode(line)


def test_lower_case_of_words_and_characters():
    for config in (WordsConfig(lowercase=True, joint=True), CharactersConfig(lowercase=True, joint=True)):
        tokenizer, _ = learned(config)
        assert tokenizer.decode(tokenizer.encode("EIN HUND LÄUFT")) == "ein hund läuft"


def test_unknown_tokens_are_shown():
    words, _ = learned(WordsConfig(joint=True))
    assert words.encode("A cat .") == [words.encode("A")[0], UNK, words.encode(".")[0]]
    assert words.decode(words.encode("A cat .")) == "A <unk> ."
    characters, _ = learned(CharactersConfig(joint=True))
    assert characters.decode(characters.encode("qA")) == "<unk>A"
    pieces, _ = learned(SentencePieceConfig(byte_fallback=False))
    assert UNK in pieces.encode("A 猫 .")
    assert pieces.decode(pieces.encode("A 猫 .")) == "A  ⁇  ."  # SentencePiece's own sign


def test_a_model_may_write_line_ends_and_broken_bytes(by_kind):
    tokenizer = by_kind["bpe"]
    [byte_a, lf] = [n for n in range(len(tokenizer)) if tokenizer.pieces([n])[0] in ("<0xC3>", "<0x0A>")][::-1]
    assert tokenizer.pieces([byte_a, lf]) == ["<0xC3>", "<0x0A>"]
    assert tokenizer.decode([*tokenizer.encode("A"), lf, *tokenizer.encode("dog")]) == "A  dog"
    assert tokenizer.decode([byte_a]) == "\ufffd"


# Special tokens


LOOK_ALIKES = ["<s>", "</s> <unk> <pad>", "<s> start </s> end", "<0x41>", "a<s>b", "<bos> <mask> [UNK]", "⁇"]


@pytest.mark.parametrize("line", LOOK_ALIKES)
def test_what_looks_like_a_special_token_is_text(by_kind, line):
    for kind in ("bpe", "unigram"):
        assert by_kind[kind].decode(by_kind[kind].encode(line)) == line
    for config in (
        SentencePieceConfig(),
        SentencePieceConfig(model="unigram"),
        WordsConfig(joint=True),
        CharactersConfig(joint=True),
    ):
        tokenizer, _ = learned(config, [line] * 20 + SRC, TGT)
        ids = tokenizer.encode(line)
        assert min(ids) > UNK
        assert tokenizer.decode(ids) == line


def test_the_space_mark_becomes_a_space_and_nul_stays(by_kind):
    assert by_kind["bpe"].decode(by_kind["bpe"].encode("a▁b")) == "a b"
    assert by_kind["bpe"].encode("▁") == []
    for line in ("\0", "a\0b", "\0a dog\0"):
        assert by_kind["bpe"].decode(by_kind["bpe"].encode(line)) == line
    [a] = by_kind["characters"].encode("A")
    assert by_kind["characters"].encode("A\0A") == [a, UNK, a]


def test_specials_have_the_same_ids_everywhere(by_kind):
    for tokenizer in by_kind.values():
        assert tokenizer.pieces([PAD, BOS, EOS, UNK]) == ["<pad>", "<s>", "</s>", "<unk>"]
        assert tokenizer.decode([PAD, BOS, EOS]) == ""


# Words of pieces


KINDS = ["bpe", "unigram", "words", "characters"]
WHITE = " \t\u00a0\u2003\u2028\u3000\x1c"


@pytest.mark.parametrize("kind", KINDS)
@given(line=st.one_of(TEXT, st.text(WHITE + "aé猫.\u0301\u200b▁", max_size=12)))
def test_words_are_what_white_space_separates(by_kind, kind, line):
    """For every tokenizer; and no word is without tokens, as none of these has a piece with white space inside."""
    line = line.replace("\n", "").replace("\r", "")
    ids, pieces, words, word_of = by_kind[kind].segment(line)
    assert words == nfc(line).split()
    assert ids == (by_kind[kind].encode(line) if words else [])
    assert len(ids) == len(pieces) == len(word_of)
    assert word_of == sorted(word_of)
    if "▁" not in line:
        assert sorted(set(word_of)) == list(range(len(words)))
        if UNK not in ids:
            assert by_kind[kind].word_of(ids) == word_of


@pytest.mark.parametrize("kind", KINDS)
@given(line=TEXT)
def test_tokens_spell_what_they_decode_to(by_kind, kind, line):
    tokenizer = by_kind[kind]
    ids = tokenizer.encode(line)
    text = b"".join(tokenizer.spell([BOS, *ids, EOS])).decode().replace("\n", " ").replace("\r", " ")
    assert text.strip(" ") == tokenizer.decode(ids).strip(" ")


@given(line=st.text(WHITE + "aﬁ\u200b\ufeff½Ⅸ.", max_size=12))
def test_words_of_a_model_that_rewrites_the_line(line):
    """What it takes for white space, and what it leaves out, makes no other words."""
    tokenizer, _ = learned(SentencePieceConfig(normalization="nmt_nfkc"))
    _, pieces, words, word_of = tokenizer.segment(line)
    assert words == line.split()
    for word, text in enumerate(words):
        spelled = "".join(piece for piece, n in zip(pieces, word_of, strict=True) if n == word)
        if "<0x" not in spelled:
            assert spelled.replace("▁", "") == "".join(tokenizer.normal(text).split())


def test_words_by_hand(by_kind):
    bpe, characters = by_kind["bpe"], by_kind["characters"]
    assert bpe.segment("the doä猫\u00a0x Hund").words == ["the", "doä猫", "x", "Hund"]
    assert characters.segment(" A  A ") == Segments(
        [*characters.encode(" A  A ")], list(" A  A "), ["A", "A"], [0, 0, 1, 1, 1, 1]
    )
    assert by_kind["words"].segment("A cat").pieces == ["A", "cat"]
    wide, _ = learned(SentencePieceConfig(), [f"{line}\u00a0?" for line in SRC * 9])
    [piece] = [piece for piece in wide.pieces(range(len(wide))) if piece.strip("▁") == ".\u00a0?"]
    _, pieces, words, word_of = wide.segment("A .\u00a0? B")
    assert (words, pieces[1:2], word_of) == (["A", ".", "?", "B"], [piece], [0, 1, *[3] * (len(pieces) - 2)])
    assert not any(part for tokenizer in by_kind.values() for part in tokenizer.segment("\u00a0\t "))


def test_an_unknown_piece_shows_its_text():
    tokenizer, _ = learned(SentencePieceConfig(byte_fallback=False))
    segments = tokenizer.segment("A 猫咪 .")
    assert segments.words == ["A", "猫咪", "."]
    assert "猫咪" in segments.pieces


def test_one_line_whatever_the_vocabulary_holds(tmp_path):
    """A vocabulary may come from anywhere; what it writes is a line of UTF-8."""
    for config in (WordsConfig(), CharactersConfig()):
        kind = {"words": WordTokenizer, "characters": CharacterTokenizer}[config.kind]
        tokenizer = kind(["a\nb", "c\r", "d\ud800"], config)
        text = tokenizer.decode([4, 5, 6, 7], ["e\nf"])
        assert text.encode("utf-8").decode() == text
        assert not {"\n", "\r"} & set(text)
        assert b"".join(tokenizer.spell([4, 5, 6, 7], ["e\nf"])).decode().split() == text.split()
        (tmp_path / "joint.json").write_text(json.dumps({"settings": config.model_dump(), "tokens": ["a", "d\ud800"]}))
        with pytest.raises(UserError, match=r"joint\.json is damaged"):
            load_tokenizers(tmp_path)


def test_words_are_composed_as_pieces_are():
    """By a setting: the vocabulary of a run made before there was one stays what it was."""
    lines = ["Zoé dort"]
    now, before = (
        learned(WordsConfig(normalization=name, joint=True), lines, lines)[0] for name in ("nfc", "identity")
    )
    decomposed = unicodedata.normalize("NFD", lines[0])
    assert now.encode(decomposed) == now.encode(lines[0])
    assert before.encode(decomposed) == [UNK, *before.encode("dort")]


def test_a_file_from_before_words_were_composed(tmp_path):
    words, _ = learned(WordsConfig(joint=True))
    words.save(tmp_path, "src")
    content = json.loads((tmp_path / "joint.json").read_text("utf-8"))
    assert content["settings"].pop("normalization") == "nfc"
    assert load_tokenizers(tmp_path)[0].settings.normalization == "nfc"
    (tmp_path / "joint.json").write_text(json.dumps(content), "utf-8")
    assert load_tokenizers(tmp_path)[0].settings.normalization == "identity"


# Learning


@pytest.mark.parametrize("model", ["bpe", "unigram"])
@pytest.mark.parametrize("byte_fallback", [True, False])
@pytest.mark.parametrize("size", [1, 50, 300, 8000])
@pytest.mark.parametrize("text", ["a", "A dog runs in the park .", "".join(map(chr, range(0x4E00, 0x4F00)))])
def test_small_text_never_fails_on_size(model, byte_fallback, size, text):
    config = SentencePieceConfig(model=model, byte_fallback=byte_fallback, size=size)
    tokenizer, _ = learned(config, [text], [text])
    assert tokenizer.decode(tokenizer.encode(text)) == text
    needed = 4 + 256 * byte_fallback + min(len(set(text)), 100 if byte_fallback else 300) + 1
    assert len(tokenizer) <= max(size, needed)


def test_size_is_kept_where_the_text_is_large_enough():
    lines = ["".join(chr(97 + (i * i + i * j) % 26) for j in range(30)) for i in range(200)]
    assert len(learned(SentencePieceConfig(size=400), lines, lines)[0]) == 400


@pytest.mark.parametrize("model", ["bpe", "unigram"])
def test_rare_characters_are_left_to_bytes(model):
    common, rare = "abcdefgh " * 500, "".join(map(chr, range(0x4E00, 0x4E00 + 500)))
    tokenizer, _ = learned(SentencePieceConfig(model=model, size=600), [common, rare], [])
    assert len(tokenizer) <= 600
    assert len(tokenizer.encode("a" * 3)) <= 4
    assert any(piece.startswith("<0x") for piece in tokenizer.segment(rare).pieces)
    assert tokenizer.decode(tokenizer.encode(rare)) == rare
    every, _ = learned(SentencePieceConfig(model=model, size=600, byte_fallback=False), [common, rare], [])
    assert UNK not in every.encode(rare)


@pytest.mark.parametrize(
    "config",
    [SentencePieceConfig(size=320), SentencePieceConfig(model="unigram", size=320), WordsConfig(), CharactersConfig()],
)
def test_learning_depends_on_text_and_settings_only(config, tmp_path):
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        for tokenizer, side in zip(learned(config), ("src", "tgt"), strict=True):
            tokenizer.save(folder, side)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_most_frequent_first_and_ties_in_order():
    config = WordsConfig(size=3)
    src, tgt = learned(config, ["b b c a", "d d d a c"], ["z y"])
    assert src.pieces(range(4, len(src))) == ["d", "a", "b"]
    assert tgt.pieces(range(4, len(tgt))) == ["y", "z"]
    src, _ = learned(WordsConfig(min_count=3), ["b b c a", "d d d a c"], ["z z z"])
    assert src.pieces(range(4, len(src))) == ["d"]
    joint, same = learned(CharactersConfig(joint=True, size=2), ["xxy"], ["yyz"])
    assert joint is same
    assert joint.pieces([4, 5]) == ["y", "x"]


@pytest.mark.parametrize(
    "config",
    [
        SentencePieceConfig(joint=False),
        SentencePieceConfig(joint=False, model="unigram"),
        WordsConfig(),
        CharactersConfig(),
    ],
)
def test_sides_are_learned_apart(config):
    src, tgt = learned(config, ["aaa bbb"], ["ccc ddd"])
    learned_pieces = [set("".join(t.pieces(range(4, len(t))))) for t in (src, tgt)]
    assert "c" not in learned_pieces[0]
    assert "a" not in learned_pieces[1]


@pytest.mark.parametrize("config", [SentencePieceConfig(joint=False), WordsConfig(), CharactersConfig()])
def test_no_text_is_refused(config):
    with pytest.raises(UserError) as caught:
        learned(config, SRC, [""])
    assert caught.value.message == (
        "the target side of the training text is empty: there is nothing to learn a tokenizer from"
    )
    with pytest.raises(UserError, match="the source side of the training text is empty"):
        learned(config, [], TGT)


def test_nothing_frequent_enough_is_refused():
    with pytest.raises(UserError) as caught:
        learned(WordsConfig(min_count=9))
    assert caught.value.message == (
        "tokenizer.min_count is 9, but nothing in the source side of the training text occurs so often"
    )


@pytest.mark.parametrize("model", ["bpe", "unigram"])
@pytest.mark.parametrize(
    "lines",
    [
        ["a\rb", "c\td", "\0", "e▅f", "g ▁ h", "\u2028", "\ufeffi"],
        ["".join(random.Random(1).choices("abcdefghij", k=70_000))],
        ["ﷺ" * 500],
        ["▅ \0 z"],
        ["", " ", "one"],
    ],
)
def test_odd_training_text_can_be_learned(model, lines):
    for normalization in ("nfc", "nmt_nfkc"):
        tokenizer, _ = learned(SentencePieceConfig(model=model, normalization=normalization), lines, [])
        assert tokenizer.decode(tokenizer.encode("one")) == "one"


def test_long_lines_are_learned_too():
    tokenizer, _ = learned(SentencePieceConfig(), ["short"], ["a zebra " * 2000])
    assert "▁zebra" in tokenizer.segment("zebra").pieces


def test_large_text_is_thinned_out(monkeypatch):
    monkeypatch.setattr(learn, "MOST_LINES", 2)
    tokenizer, _ = learned(SentencePieceConfig(), ["aaaa", "bbbb", "aaaa", "bbbb"], [])
    pieces = "".join(tokenizer.pieces(range(4, len(tokenizer))))
    assert "aa" in pieces
    assert "bb" not in pieces


# Existing models


@pytest.mark.parametrize(
    "options",
    [
        {},  # unk 0, bos 1, eos 2, no pad
        {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3},
        {"pad_id": 3, "bos_id": 0, "eos_id": 1, "unk_id": 2},
        {"bos_id": -1, "eos_id": -1, "unk_id": 5, "pad_id": 7},
    ],
)
@pytest.mark.parametrize("byte_fallback", [True, False])
def test_an_existing_model_is_renumbered(tmp_path, options, byte_fallback):
    content = sentencepiece_model(vocab_size=330, model_type="bpe", byte_fallback=byte_fallback, **options)
    (tmp_path / "theirs.model").write_bytes(content)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=content)
    config = SentencePieceConfig(path=str(tmp_path / "theirs.model"), normalization="identity")
    tokenizer, same = learned(config, [], [])
    assert tokenizer is same
    lacking = sum(n < 0 for n in (theirs.pad_id(), theirs.bos_id(), theirs.eos_id(), theirs.unk_id()))
    assert len(tokenizer) == theirs.get_piece_size() + lacking
    every = tokenizer.pieces(range(len(tokenizer)))
    assert every[:4] == ["<pad>", "<s>", "</s>", "<unk>"]
    assert len(set(every)) == len(every)
    for line in [*SRC, *TGT, "x 猫 y", "<s> </s>"]:
        ids = tokenizer.encode(line)
        assert min(ids) >= UNK
        assert tokenizer.decode(ids) == theirs.decode(theirs.encode(line))
        assert [n == UNK for n in ids] == [n == theirs.unk_id() for n in theirs.encode(line)]
        assert tokenizer.segment(line).pieces == theirs.encode(line, out_type=str)
        assert tokenizer.segment(line).words == line.split()


def test_marks_behind_words(tmp_path):
    (tmp_path / "suffix.model").write_bytes(sentencepiece_model(vocab_size=60, treat_whitespace_as_suffix=True))
    tokenizer, _ = learned(SentencePieceConfig(path=str(tmp_path / "suffix.model")), [], [])
    assert [tokenizer.segment(line).words for line in SRC] == [line.split() for line in SRC]


def test_another_model_for_the_target(tmp_path):
    (tmp_path / "a").write_bytes(sentencepiece_model(vocab_size=40))
    (tmp_path / "b").write_bytes(sentencepiece_model(vocab_size=41))
    config = SentencePieceConfig(path=str(tmp_path / "a"), tgt_path=str(tmp_path / "b"), joint=False)
    src, tgt = learned(config)
    assert len(tgt) == len(src) + 1


@pytest.mark.parametrize("content", [b"", b"abc", bytes(20), b"\x1f\x8b"])
def test_what_is_no_model_is_refused(tmp_path, content):
    path = tmp_path / "bad.model"
    with pytest.raises(UserError) as caught:
        learned(SentencePieceConfig(path=str(path)))
    assert caught.value.message == f"{path}: cannot be read: No such file or directory"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        learned(SentencePieceConfig(path=str(path)))
    assert caught.value.message == f"{path}: not a SentencePiece model"


# Saving and loading


@pytest.mark.parametrize(
    "config",
    [
        SentencePieceConfig(lowercase=True, normalization="nmt_nfkc"),
        SentencePieceConfig(joint=False, model="unigram"),
        WordsConfig(lowercase=True),
        WordsConfig(joint=True),
        CharactersConfig(),
        CharactersConfig(joint=True, lowercase=True),
    ],
)
def test_what_is_saved_is_loaded(tmp_path, config):
    saved = learned(config, [*SRC, "x\u2028y"], TGT)
    saved[0].save(tmp_path, "src")
    saved[1].save(tmp_path, "tgt")
    loaded = load_tokenizers(tmp_path)
    assert (loaded[0] is loaded[1]) == config.joint
    for before, after in zip(saved, loaded, strict=True):
        assert type(after) is type(before)
        assert after.settings == config
        assert len(after) == len(before)
        for line in [*SRC, *TGT, "ﬁ Ü 猫", "x\u2028y"]:
            assert after.segment(line) == before.segment(line)
    stems = {path.stem for path in tmp_path.iterdir()}
    assert stems == ({"joint"} if config.joint else {"src", "tgt"})


def test_a_damaged_tokenizer_is_named(tmp_path):
    with pytest.raises(UserError) as caught:
        load_tokenizers(tmp_path)
    assert caught.value.message == f"{tmp_path / 'src.json'} is missing"
    for content in ("{", "[]", "{}", '{"settings": {"kind": "wurds"}}', '{"settings": {"kind": "words"}, "tokens": 3}'):
        (tmp_path / "src.json").write_text(content)
        with pytest.raises(UserError) as caught:
            load_tokenizers(tmp_path)
        assert re.match(r".*src.json(: not a tokenizer saved by nmt| is damaged)", caught.value.message)
    tokenizer, _ = learned(SentencePieceConfig())
    tokenizer.save(tmp_path, "src")
    (tmp_path / "joint.model").write_bytes(b"abc")
    with pytest.raises(UserError, match=r"joint\.model: not a SentencePiece model"):
        load_tokenizers(tmp_path)


def test_half_a_character_is_no_error_of_a_library(by_kind) -> None:
    for name in ("bpe", "unigram"):
        with pytest.raises(UserError, match=r"no text, for it has lone surrogates: 'a \\udce9'"):
            by_kind[name].encode("a \udce9")
