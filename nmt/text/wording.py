"""What a text may not say, however it is cut into tokens: banned phrases, words in a row that were there before.

A rule says which strings, after the text so far, would complete what it is against, and `Wording` which tokens begin
with them. Tokens may be parts of a letter, so text is here its UTF-8 bytes, each as the character of its number.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

from nmt.text.tokenizer import EOS, Tokenizer

UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Letters of scripts without spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""


class Rest(NamedTuple):
    """What is lacking of something that may not be said."""

    text: str
    bounded: bool  # said only if what follows does not go on with its last word
    begun: bool  # the last word of the text so far is one of it, or begins as one


class TextRule(Protocol):
    def rests(self, text: str, *, given: bool) -> frozenset[Rest]:
        """What may not follow the text. Of a text that was `given`, as a prefix, what it says itself is allowed."""
        ...

    def ends(self, after: str) -> bool:
        """Whether a text, not empty, does not go on with the word before it."""
        ...

    def within(self, token: str) -> bool:
        """Whether a token says by itself, after its first letter, what it may not."""
        ...


class Banned:
    """Phrases, as words of their own: between white space or punctuation; anywhere in scripts without spaces."""

    def __init__(self, phrases: Sequence[str], tokenizer: Tokenizer) -> None:
        normal = {tokenizer.normal(phrase).strip() for phrase in phrases} - {""}
        self._phrases = [(_bytes(p), in_word(p[0]), in_word(p[-1])) for p in sorted(normal)]
        self._reach = 4 + max((len(phrase) for phrase, *_ in self._phrases), default=0)  # with a letter before it
        self._after = lru_cache(maxsize=1 << 14)(self._rests)

    def rests(self, text: str, *, given: bool) -> frozenset[Rest]:
        return self._after(text[-self._reach :], given)

    def _rests(self, tail: str, given: bool) -> frozenset[Rest]:
        found = set()
        for phrase, opens, closes in self._phrases:
            for there in range(len(phrase) + 1 if closes and not given else len(phrase)):
                before = tail[: len(tail) - there]
                if tail.endswith(phrase[:there]) and not (opens and in_word(_letters(before)[-1:])):
                    found.add(Rest(phrase[there:], closes, in_word(_letters(phrase[:there])[-1:])))
        return frozenset(found)

    def ends(self, after: str) -> bool:
        return not in_word(_letters(after[:4])[:1])

    def within(self, token: str) -> bool:
        places = ((m.start(), *rest) for rest in self._phrases for m in re.finditer(f"(?={re.escape(rest[0])})", token))
        return any(
            place > 0
            and not (opens and in_word(_letters(token[:place])[-1:]))
            and (not closes or (token[place + len(phrase) :] and self.ends(token[place + len(phrase) :])))
            for place, phrase, opens, closes in places
        )


class Repeated:
    """So many words in a row, as white space separates them, that are in the text already. Of a token of several words
    only the last is looked at."""

    def __init__(self, size: int) -> None:
        self._size = size

    def rests(self, text: str, *, given: bool) -> frozenset[Rest]:
        words = [_bytes(word) for word in _letters(text).split()]
        begun = "" if not words or self.ends(text[-1:]) else words.pop()
        before = words[len(words) - self._size + 1 :]
        rows = (words[n : n + self._size] for n in range(len(words) - self._size + 1))
        again = {row[-1] for row in rows if row[:-1] == before and row[-1].startswith(begun)}
        return frozenset(Rest(word[len(begun) :], True, begun != "") for word in again if word != begun or not given)

    def ends(self, after: str) -> bool:
        return _letters(after[:4])[:1].isspace()

    def within(self, token: str) -> bool:
        return False


class Wording:
    """Text rules for a vocabulary."""

    def __init__(self, rules: Sequence[TextRule], tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._texts = [part.decode("latin-1") for part in tokenizer.spell(range(len(tokenizer)))]
        self._sorted = sorted((text, n) for n, text in enumerate(self._texts) if text)
        self._rules = [(rule, frozenset(n for text, n in self._sorted if rule.within(text))) for rule in rules]
        self._tokens = lru_cache(maxsize=1 << 12)(self._completing)

    def forbidden(self, ids: Sequence[int], extras: Sequence[str], *, given: bool) -> tuple[frozenset[int], bool]:
        """The tokens that may not follow `ids`, EOS perhaps among them; and whether the last word is, or begins as, one
        that may not be said. `given`: a prefix gave all of them, and what it says is allowed. `extras` are what ids
        beyond the vocabulary stand for; those past them are nothing."""
        size = len(self._texts)
        more = self._tokenizer.spell(range(size, size + len(extras)), extras)
        own = dict(enumerate((part.decode("latin-1") for part in more), start=size))
        text = "".join(self._texts[n] if n < size else own.get(n, "") for n in ids)
        found, begun = frozenset[int](), False
        for number, (rule, _) in enumerate(self._rules):
            rests = rule.rests(text, given=given)
            tokens = self._tokens(number, rests)
            found, begun = found | tokens if found else tokens, begun or any(rest.begun for rest in rests)
            if own:
                found |= {n for n, e in own.items() if rule.within(e) or any(_completes(rule, r, e) for r in rests)}
        return found, begun

    def _completing(self, number: int, rests: frozenset[Rest]) -> frozenset[int]:
        rule, within = self._rules[number]
        found = set(within)
        for rest in rests:
            found |= {EOS} if rest.text == "" else set()
            for text, n in self._sorted[bisect_left(self._sorted, (rest.text, 0)) :]:
                if not text.startswith(rest.text):
                    break
                if _completes(rule, rest, text):
                    found.add(n)
        return frozenset(found)


def after_prefix(
    tokenizer: Tokenizer, prefixes: Sequence[tuple[str, Sequence[int]]]
) -> Callable[[int, Sequence[int]], tuple[frozenset[int], bool]]:
    """For `ByText`: a word begins after a prefix (text, tokens) with white space at its end that its tokens lack."""
    within = frozenset(n for n, p in enumerate(tokenizer.spell(range(len(tokenizer)))) if n != EOS and p[:1] != b" ")
    lacking = [
        bool(ids) and text[-1:].isspace() and not b"".join(tokenizer.spell(ids)).decode(errors="replace")[-1:].isspace()
        for text, ids in ((text, [n for n in ids if n < len(tokenizer)]) for text, ids in prefixes)
    ]
    return lambda n, ids: (within if lacking[n] and len(ids) == len(prefixes[n][1]) else frozenset(), False)


def in_word(letter: str) -> bool:
    """Whether a character is one of a word, to which its neighbours belong. "" is none."""
    return letter != "" and (letter == "_" or unicodedata.category(letter)[0] in "LMN") and not UNSPACED.match(letter)


def _completes(rule: TextRule, rest: Rest, token: str) -> bool:
    after = token[len(rest.text) :]
    return token.startswith(rest.text) and (not rest.bounded or (after != "" and rule.ends(after)))


def _bytes(text: str) -> str:
    return text.encode(errors="surrogateescape").decode("latin-1")


def _letters(text: str) -> str:
    """The text of bytes; a part of a letter is a surrogate, which is in no word."""
    return text.encode("latin-1").decode(errors="surrogateescape")
