"""Lexical shortlists: counted from links, written, read again, and what they leave a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from zoo import WORDS, build

from nmt.config import CharactersConfig, SearchConfig, WordsConfig
from nmt.data.batch import EOS
from nmt.data.copying import Copies
from nmt.data.example import Example
from nmt.errors import UserError
from nmt.shortlist import Shortlist, count_links, lines_of, read_shortlist
from nmt.text.tokenizer import CharacterTokenizer, WordTokenizer
from nmt.translate import Translator

SRC, TGT = (WordTokenizer(list(text), WordsConfig(joint=False)) for text in ("abcde", "vwxyz"))
A, B, C = 4, 5, 6
V, W, X, Y, Z = 4, 5, 6, 7, 8


def test_the_most_linked_are_kept() -> None:
    links = [(0, 0), (0, 1), (1, 2)]
    pairs = [([A, B], [V, W, X], links), ([A, B], [V, Y, X], links), ([A, B], [V, Z, W], links)]
    made = count_links(pairs, each=2, always=1)
    assert made.becomes[A].tolist() == [V, W]  # V three times, then W, Y and Z once each: the first
    assert made.becomes[B].tolist() == [X, W]
    assert set(made.becomes) == {A, B}
    assert made.always.tolist() == [0, 1, 2, 3, V]


def test_a_sentence_may_use_what_its_tokens_may_become() -> None:
    made = Shortlist({A: [Y, V], B: [Z]}, [W])
    tokens = made.tokens([Example([A, B, A], None), Example([C], None), Example([B], None, Copies([Z, 9], ["new"]))])
    assert tokens.tolist() == [
        [0, 1, EOS, 3, V, W, Y, Z],
        [0, 1, EOS, 3, W, 0, 0, 0],
        [0, 1, EOS, 3, W, Z, 9, 0],
    ]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = Shortlist({A: [Y, V], C: [Z]}, [W])
    path = tmp_path / "list"
    path.write_text("".join(f"{line}\n" for line in lines_of(made, (SRC, TGT))))
    assert path.read_text() == "\tw\na\ty v\nc\tz\n"
    again = read_shortlist(path, (SRC, TGT))
    assert again.always.tolist() == made.always.tolist()
    assert {token: ids.tolist() for token, ids in again.becomes.items()} == {A: [Y, V], C: [Z]}


def test_any_token_comes_back(tmp_path: Path) -> None:
    """Subwords may hold tabs, line ends, spaces and byte order marks, at the begin of a file, too."""
    odd = ["\ufeff", "\t", "\r", "a\r", "\n", "a b", "\u00a0", "\u2028", '["a"]', '"', "\\t", "["]
    both = CharacterTokenizer(odd, CharactersConfig(joint=True))
    ids = list(range(4, len(both)))
    made = Shortlist({n: [n, *ids[:3]] for n in ids}, ids)
    path = tmp_path / "list"
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines_of(made, (both, both)))
    words = WordTokenizer(odd, WordsConfig(joint=True))  # for characters have no lists
    again = read_shortlist(path, (words, words))
    assert again.always.tolist() == made.always.tolist()
    assert {n: found.tolist() for n, found in again.becomes.items()} == {n: [n, *ids[:3]] for n in ids}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tv\nb w\n", "line 2: not a token, a tab"),
        ('a\tv\n["b", "v"]\n', "line 2: not a token, a tab"),
        ("a\tv\n5\n", "line 2: not a token, a tab"),
        ("a\tv\nq\tw\n", "line 2: the source vocabulary has no token 'q'"),
        ("a\tv b\n", "line 1: the target vocabulary has no token 'b'"),
        ("\tv\n", "no source token"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "list"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_shortlist(path, (SRC, TGT))


def test_characters_have_none(tmp_path: Path) -> None:
    letters = CharacterTokenizer(list("ab"), CharactersConfig())
    with pytest.raises(UserError, match="characters are few enough"):
        read_shortlist(tmp_path / "list", (letters, letters))


@pytest.mark.parametrize("name", ["lstm", "transformer", "copy"])
def test_a_translator_writes_nothing_else(name: str) -> None:
    tokenizer = WordTokenizer(WORDS, WordsConfig(joint=True))
    some, lines = tokenizer.encode(" ".join(WORDS[:4])), [" ".join(WORDS[n : n + 3]) for n in range(6)]
    translators = [
        Translator(
            build(name), (tokenizer, tokenizer), SearchConfig(no_unk=True), device=torch.device("cpu"), shortlist=each
        )
        for each in (None, Shortlist(dict.fromkeys(tokenizer.encode(" ".join(WORDS)), some), []))
    ]
    free, confined = ([result.text.split() for result in t.translate(lines)] for t in translators)
    copied = [line.split() if name == "copy" else [] for line in lines]
    assert all(set(words) <= {*WORDS[:4], *own} for words, own in zip(confined, copied, strict=True))
    assert free != confined
