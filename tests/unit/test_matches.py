"""Fuzzy matches: a memory finds what a plain computation of all cosines finds."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from nmt.data.matches import SEPARATOR, TranslationMemory, augment, words

RARE = [f"w{n}" for n in range(40)]


def similarities(sources: list[str], line: str) -> list[float]:
    """The cosine of the line with each source, from vectors over all words, by the definition."""
    of_sources = [words(source) for source in sources]
    counts = Counter(word for source in of_sources for word in source)
    idf = {word: math.log(len(sources) / counts.get(word, 1)) for word in words(line).union(*of_sources)}

    def norm(some: frozenset[str]) -> float:
        return math.sqrt(sum(idf[word] ** 2 for word in some))

    wanted = words(line)
    products = [sum(idf[word] ** 2 for word in wanted & source) for source in of_sources]
    return [p / (norm(wanted) * norm(s)) if p else 0.0 for p, s in zip(products, of_sources, strict=True)]


def some_lines(count: int, seed: int) -> list[str]:
    """Some words are in many of them, others in few."""
    drawn = random.Random(seed)
    return [
        " ".join(drawn.choices(RARE, [1 / (n + 1) for n in range(40)], k=drawn.randint(1, 9))) for _ in range(count)
    ]


@pytest.mark.parametrize("count", [1, 3, 100])
def test_the_closest_are_those_of_all_cosines(count: int) -> None:
    sources = some_lines(60, seed=1)
    memory = TranslationMemory(sources, [f"t{n}" for n in range(60)])
    for line in [*some_lines(30, seed=2), "unheard w1", "unheard of"]:
        expected = similarities(sources, line)
        found = memory.closest(line, count)
        rounded = [round(similarity, 9) for similarity in expected]
        order = sorted((n for n in range(60) if expected[n]), key=lambda n: (-rounded[n], n))[:count]
        assert [match.number for match in found] == order
        assert [match.similarity for match in found] == pytest.approx([expected[n] for n in order], abs=1e-12)


def test_a_line_is_most_like_itself() -> None:
    sources = some_lines(60, seed=3)
    memory = TranslationMemory(sources, sources)
    for line in sources:
        best = memory.closest(line, 1)[0]
        assert best.similarity == pytest.approx(1, abs=1e-12)
        assert best.similarity <= 1
        assert words(memory.sources[best.number]) == words(line)


def test_without_itself_and_all_its_twins() -> None:
    memory = TranslationMemory(["a b", "c", "a b", "a d", "B a"], ["1", "2", "3", "4", "5"])
    assert [match.number for match in memory.closest("a b", 9)] == [0, 2, 4, 3]
    assert [match.number for match in memory.closest("a b", 9, skip_same=True)] == [4, 3]


def test_least_is_the_similarity_of_the_worst() -> None:
    sources = some_lines(60, seed=4)
    memory = TranslationMemory(sources, sources)
    for line in some_lines(10, seed=5):
        every = memory.closest(line, 60)
        least = every[len(every) // 2].similarity
        assert memory.closest(line, 60, least=least) == [match for match in every if match.similarity >= least]


def test_a_word_of_every_source_is_no_likeness() -> None:
    memory = TranslationMemory(["the cat", "the dog"], ["la chatte", "le chien"])
    assert memory.closest("the bird", 2) == []
    assert [match.number for match in memory.closest("THE DOG !", 2)] == [1]
    assert memory.closest("", 2) == []
    assert TranslationMemory(["the cat"], ["la chatte"]).closest("the cat", 2) == []  # of one line, every word is


def test_words() -> None:
    assert words("The cat's 66-72") == {"the", "cat", "'", "s", "66", "-", "72"}
    assert words("犬と猫 cats") == {"犬", "と", "猫", "cats"}


def test_lines_keep_their_order_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many that processes are started."""
    monkeypatch.setattr("nmt.data.matches.BLOCK", 2)
    monkeypatch.setattr("nmt.data.matches.usable_cores", lambda: 2)
    sources = some_lines(50, seed=6)
    memory = TranslationMemory(sources, [f"t{n}" for n in range(50)])
    found = list(augment(memory, sources, 2, skip_same=True))
    for line, augmented in zip(sources, found, strict=True):
        matches = memory.closest(line, 2, skip_same=True)
        assert augmented.text == line + "".join(f" {SEPARATOR} t{match.number}" for match in matches)
        assert augmented.similarities == tuple(match.similarity for match in matches)


def test_sources_and_targets_are_pairs() -> None:
    with pytest.raises(ValueError, match="2 sources, but 1 targets"):
        TranslationMemory(["a", "b"], ["c"])
