"""What a text may not say, against the text itself: every token after every text, one by one."""

from __future__ import annotations

import itertools
import random
import unicodedata

import pytest
import torch
from zoo import ZOO

from nmt.config import CharactersConfig, SamplingConfig, SearchConfig, SentencePieceConfig, WordsConfig
from nmt.models.build import build_model
from nmt.text.learn import learn_tokenizers
from nmt.text.tokenizer import EOS, UNK, Tokenizer
from nmt.text.wording import Banned, Repeated, Wording
from nmt.translate import Translator

LINES = [
    "the man's dog, the dogs",
    "l'ami d'un ami de l'homme",
    "a dog-man said: no! a no-man",
    "猫と犬と猫",
    "ma mère me",
]
BANNED = ["dog", "man", "ami", "d'un ami", "no!", "m", "猫", "the", "mère me", "zebra"]
BAN = ("m", "dog", "no!", "a", "e")
CONFIGS = {
    "bpe": SentencePieceConfig(size=330),
    "unigram": SentencePieceConfig(size=330, model="unigram"),
    "words": WordsConfig(joint=True),
    "characters": CharactersConfig(joint=True),
}


@pytest.fixture(scope="module", params=CONFIGS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return learn_tokenizers(CONFIGS[request.param], lambda: LINES * 9, lambda: LINES)[0]


def part(letter: str) -> bool:
    """Of a word."""
    return letter == "_" or (unicodedata.category(letter)[0] in "LMN" and letter not in "猫犬と")


def says(text: str, phrase: str, *, over: bool) -> bool:
    """Whether a text has the phrase as words; `over`: what is at its end is not going to go on."""
    for start in range(len(text) - len(phrase) + 1):
        end = start + len(phrase)
        if text[start:end] == phrase and not (start and part(text[start - 1]) and part(phrase[0])):
            last = part(phrase[-1])
            if over or not last if end == len(text) else not (last and part(text[end])):
                return True
    return False


def repeats(text: str, size: int, *, over: bool) -> bool:
    words = text.split()
    if words and not over and not text[-1].isspace():
        words.pop()
    runs = [tuple(words[n : n + size]) for n in range(len(words) - size + 1)]
    runs = [run for run in runs if "\ufffd" not in "".join(run)]  # broken letters look alike
    return len(set(runs)) < len(runs)


def spelled(tokenizer: Tokenizer, ids: list[int]) -> str:
    return b"".join(tokenizer.spell(ids)).decode(errors="replace")


def texts(tokenizer: Tokenizer, count: int) -> list[list[int]]:
    """Beginnings of lines, cut at random places and joined."""
    draw, found = random.Random(1), []
    for _ in range(count):
        cut = [tokenizer.encode(draw.choice(LINES)) for _ in range(3)]
        found.append([n for ids in cut for n in ids[: draw.randint(0, len(ids))]])
    return found


@pytest.mark.parametrize("what", ["ban", "words"])
def test_forbidden_is_what_would_be_said(tokenizer: Tokenizer, what: str) -> None:
    """Of texts that do not say it yet; a token that is a part of a letter is left out."""
    wording = Wording([Banned(BANNED, tokenizer) if what == "ban" else Repeated(2)], tokenizer)
    whole = [n for n in range(UNK + 1, len(tokenizer)) if "\ufffd" not in spelled(tokenizer, [n])]
    seen = 0

    def wrong(ids: list[int], *, over: bool) -> bool:
        text = spelled(tokenizer, ids)
        return repeats(text, 2, over=over) if what == "words" else any(says(text, p, over=over) for p in BANNED)

    for ids in texts(tokenizer, 60):
        while ids and wrong(ids, over=False):
            ids.pop()
        found, _ = wording.forbidden(ids, [], given=False)
        assert (EOS in found) == wrong(ids, over=True)
        expected = {n for n in whole if wrong([*ids, n], over=False)}
        assert {spelled(tokenizer, [*ids, n]) for n in (found & set(whole)) ^ expected} == set()
        seen += len(expected)
    assert seen


def test_what_is_copied_counts_as_what_is_written() -> None:
    words = learn_tokenizers(CONFIGS["words"], lambda: LINES, lambda: LINES)[0]
    size = len(words)
    banned = Wording([Banned(["Zora", "dog Zora"], words)], words)
    assert banned.forbidden([], ["Zora", "Mia", "Zora's"], given=False)[0] == {size, size + 2}
    again = Wording([Repeated(2)], words)
    assert again.forbidden([size + 1, size, size + 1], ["Zora", "Mia"], given=False)[0] == {size}
    assert banned.forbidden([size + 7], [], given=False)[0] == frozenset()  # of another sentence of the batch


def test_a_prefix_says_what_it_says(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a dog")
    wording = Wording([Banned(["dog"], tokenizer)], tokenizer)
    after, _ = wording.forbidden(ids, [], given=True)
    assert EOS not in after
    if tokenizer.settings.kind != "words":
        assert wording.forbidden(ids, [], given=False) == (wording.forbidden(ids, [], given=False)[0] | {EOS}, True)


@pytest.mark.parametrize("sampling", [None, SamplingConfig(count=4)])
def test_no_translation_says_it(tokenizer: Tokenizer, sampling: SamplingConfig | None) -> None:
    """Of a model that knows nothing, and so writes anything, bytes included."""
    plain = SearchConfig(sampling=sampling, beam=4, max_extra=20)
    ruled = plain.model_copy(update={"ban": BAN, "no_repeat_words": 1})
    seen = left = 0
    for seed, search in itertools.product(range(3), (plain, ruled)):
        torch.manual_seed(seed)
        model = build_model(ZOO["lstm"], len(tokenizer), len(tokenizer)).eval()
        for parameter in model.parameters():
            parameter.data.mul_(4.0)
        translator = Translator(model, (tokenizer, tokenizer), search, device=torch.device("cpu"))
        found = [c.text for t in translator.translate(LINES, nbest=4) for c in t.candidates]
        wrong = {text for text in found if repeats(text, 1, over=True) or any(says(text, p, over=True) for p in BAN)}
        if search is plain:
            seen += len(wrong)
        else:
            left += len(found)
            assert not wrong
    assert seen
    assert left
