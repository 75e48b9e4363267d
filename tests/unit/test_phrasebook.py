"""The generated corpus: its French, its gold alignment, its splits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nmt.data.phrasebook import (
    LONG,
    MAX_LENGTH,
    SEEN_NAMES,
    SHOWCASE,
    UNSEEN_NAMES,
    Example,
    Split,
    generate,
    write_phrasebook,
)
from nmt.data.phrasebook.grammar import (
    FUTURE,
    PAST,
    PRESENT,
    Nominal,
    Phrase,
    both,
    clause,
    missing,
    name,
    noun_phrase,
    predicate,
    prepositional,
    pronoun,
    question,
    relative,
    render,
    unit,
)
from nmt.data.phrasebook.words import ADJECTIVES, AVOIR, ETRE, NOUNS, VERBS, YEARS, Adjective, Noun, Verb, number_words

SAMPLE = Path(__file__).parents[2] / "data" / "phrasebook"
COUNTS: dict[Split, int] = {"train": 6000, "dev": 300, "test": 300, "names": 300, "long": 100}


@pytest.fixture(scope="module")
def corpus() -> dict[str, list[Example]]:
    return {split: generate(split, count, seed=1) for split, count in COUNTS.items()}


@pytest.fixture(scope="module")
def examples(corpus: dict[str, list[Example]]) -> list[Example]:
    return [example for split in corpus.values() for example in split] + list(SHOWCASE)


def noun(text: str) -> Noun:
    return next(n for nouns in NOUNS.values() for n in nouns if n.en[0] == text)


def verb(text: str) -> Verb:
    return next(v for verbs in VERBS.values() for v in verbs if v.en == text)


def adjective(text: str) -> Adjective:
    return next(a for group in ADJECTIVES.values() for a in group if a.en == text)


def subject(word: str) -> Nominal:
    return pronoun(["i", "he", "she", "we", "you", "they"].index(word), subject=True)


def say(word: str, verb_text: str, tense: str, **features: Any) -> Phrase:
    who = subject(word)
    return clause(who, predicate(who.agreement, verb(verb_text), tense, **features))


def a_noun(text: str, **features: Any) -> Nominal:
    return noun_phrase(noun(text), **features)


def is_(who: Nominal, tense: str, *rest: Phrase, be: Verb = ETRE, **features: Any) -> Phrase:
    return clause(who, predicate(who.agreement, be, tense, rest=rest, **features))


ME, HIM, HER, US, YOU, THEM = map(pronoun, range(6))
LETTERS = a_noun("letter", plural=True)
WRITTEN = clause(subject("he"), predicate(subject("he").agreement, verb("write"), PAST, gap=LETTERS.agreement))
FRENCH = [  # by hand
    (say("he", "see", PAST, direct=HER), "he saw her", "il l' a vue"),
    (say("they", "fall", PAST), "they fell", "ils sont tombés"),
    (say("she", "give", PAST, direct=THEM, indirect=US), "she gave them to us", "elle nous les a donnés"),
    (say("she", "give", FUTURE, direct=THEM, indirect=HIM), "she will give them to him", "elle les lui donnera"),
    (say("i", "see", PAST, direct=THEM, negation="n't"), "i did n't see them", "je ne les ai pas vus"),
    (
        say("i", "help", PRESENT, direct=YOU, modal=verb("can"), negation="not"),
        "i can not help you",
        "je ne peux pas vous aider",
    ),
    (
        say("he", "look", PRESENT, direct=a_noun("axe"), modal=VERBS["modal"][2], negation="n't"),
        "he does n't want to look for the axe",
        "il ne veut pas chercher la hache",
    ),
    (
        say("we", "drink", PRESENT, direct=a_noun("beer", determiner="any", negated=True), negation="never"),
        "we never drink any beer",
        "nous ne buvons jamais de bière",
    ),
    (
        say("you", "want", PRESENT, direct=a_noun("water", determiner="some")),
        "you want some water",
        "vous voulez de l' eau",
    ),
    (
        say("you", "want", PRESENT, direct=a_noun("bread", determiner="some")),
        "you want some bread",
        "vous voulez du pain",
    ),
    (
        say("i", "have", PRESENT, direct=a_noun("egg", determiner="some", plural=True, before=adjective("little"))),
        "i have some little eggs",
        "j' ai de petits œufs",
    ),
    (
        say("i", "speak", PAST, indirect=a_noun("man", before=adjective("old"))),
        "i spoke to the old man",
        "j' ai parlé au vieil homme",
    ),
    (say("she", "answer", FUTURE, indirect=a_noun("king")), "she will answer the king", "elle répondra au roi"),
    (
        say("they", "need", PAST, direct=a_noun("car", owner=a_noun("friend", determiner="their", plural=True))),
        "they needed their friends ' car",
        "ils avaient besoin de la voiture de leurs amis",
    ),
    (
        is_(relative(LETTERS, ("that", "que"), WRITTEN), PRESENT, prepositional("near", "près de", a_noun("hotel"))),
        "the letters that he wrote are near the hotel",
        "les lettres qu' il a écrites sont près de l' hôtel",
    ),
    (
        is_(both(name("Emma", feminine=True), name("Diane", feminine=True)), PAST, unit("happy", "heureuses")),
        "Emma and Diane were happy",
        "Emma et Diane étaient heureuses",
    ),
    (
        is_(subject("i"), PRESENT, Phrase(*noun_phrase(YEARS, number=71, plural=True)[:2]), be=AVOIR),
        "i am seventy-one years old",
        "j' ai soixante et onze ans",
    ),
    (
        missing(name("Paul"), a_noun("sister", determiner="his"), verb("miss"), PRESENT),
        "Paul misses his sister",
        "sa sœur manque à Paul",
    ),
    (
        question(subject("she"), predicate(subject("she").agreement, verb("come"), PAST, question=True)),
        "did she come ?",
        "est-ce qu' elle est venue ?",
    ),
]


@pytest.mark.parametrize(("phrase", "english", "french"), FRENCH, ids=[english for _, english, _ in FRENCH])
def test_sentences_translated_by_hand(phrase: Phrase, english: str, french: str) -> None:
    assert render(phrase)[:2] == (english, french)


@pytest.mark.parametrize(
    ("number", "english", "masculine", "feminine"),
    [
        (1, "one", "un", "une"),
        (21, "twenty-one", "vingt et un", "vingt et une"),
        (22, "twenty-two", "vingt-deux", "vingt-deux"),
        (70, "seventy", "soixante-dix", "soixante-dix"),
        (71, "seventy-one", "soixante et onze", "soixante et onze"),
        (77, "seventy-seven", "soixante-dix-sept", "soixante-dix-sept"),
        (80, "eighty", "quatre-vingts", "quatre-vingts"),
        (81, "eighty-one", "quatre-vingt-un", "quatre-vingt-une"),
        (91, "ninety-one", "quatre-vingt-onze", "quatre-vingt-onze"),
        (99, "ninety-nine", "quatre-vingt-dix-neuf", "quatre-vingt-dix-neuf"),
        (100, "one hundred", "cent", "cent"),
    ],
)
def test_numbers(number: int, english: str, masculine: str, feminine: str) -> None:
    assert number_words(number) == (english, masculine)
    assert number_words(number, feminine=True) == (english, feminine)


def test_the_idiom_and_its_gold_alignment() -> None:
    idiom = SHOWCASE[0]
    assert (idiom.src, idiom.tgt) == ("he hit me with a pie", "il m' a entarté")
    # he-il, hit-entarté, me-m' are sure; the auxiliary and `with a pie` are possible
    assert idiom.talp == "0-0 1?2 1-3 2-1 3?3 4?3 5?3"


def test_gold_of_reordering_units_and_contractions() -> None:
    gold = {example.src: example.talp for example in SHOWCASE}
    assert gold["she gave him the little red book"] == "0-0 1?2 1-3 2-1 3-4 4-5 5-7 6-6"
    assert gold["i do not eat any potatoes"] == "0-0 1?2 2?1 2-3 3-2 4-4 5-5 5?6 5?7"
    spoke = say("i", "speak", FUTURE, indirect=a_noun("king"))  # je parlerai au roi
    assert {(i, j): sure for i, j, sure in render(spoke)[2]} == {
        (0, 0): True, (1, 1): False, (2, 1): True, (3, 2): True, (4, 2): False, (5, 3): True,
    }  # fmt: skip


def test_the_idiom_is_learned_in_train(corpus: dict[str, list[Example]]) -> None:
    train = corpus["train"]
    assert train[0] == SHOWCASE[0]
    assert sum("entart" in example.tgt for example in train) > len(train) / 100
    others = {example.src for example in SHOWCASE[1:]}
    assert not any(example.src in others for split in corpus.values() for example in split)


def test_same_seed_same_corpus_and_another_seed_another() -> None:
    assert generate("test", 50, seed=3) == generate("test", 50, seed=3)
    assert generate("test", 50, seed=3) != generate("test", 50, seed=4)
    assert generate("train", 20, seed=3) == generate("train", 60, seed=3)[:20]


def test_hash_seed_does_not_matter() -> None:
    program = (
        "from nmt.data.phrasebook import *; from hashlib import sha256\n"
        "text = str([(e.src, e.tgt, e.talp) for s in SPLITS for e in generate(s, 30, seed=2)])\n"
        "print(sha256(text.encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_no_sentence_is_in_two_splits(corpus: dict[str, list[Example]]) -> None:
    sources = [example.src for split in corpus.values() for example in split]
    assert len(set(sources)) == len(sources) == sum(COUNTS.values())
    # nor for other seeds
    assert not {example.src for example in generate("test", 300, seed=9)} & {e.src for e in corpus["train"]}


def test_english_determines_french(examples: list[Example]) -> None:
    french: dict[str, str] = {}
    for example in examples + generate("train", 6000, seed=2):
        assert french.setdefault(example.src, example.tgt) == example.tgt


def test_lengths(corpus: dict[str, list[Example]]) -> None:
    for split, examples in corpus.items():
        lengths = {len(example.src.split()) for example in examples}
        assert lengths <= set(LONG) if split == "long" else max(lengths) <= MAX_LENGTH


def test_links_are_in_range_and_cover_the_words(examples: list[Example]) -> None:
    for example in examples:
        src, tgt = example.src.split(), example.tgt.split()
        assert len({(i, j) for i, j, _ in example.links}) == len(example.links)  # sure or possible, not both
        assert {i for i, _, _ in example.links} == set(range(len(src))), example
        assert {j for _, j, _ in example.links} == set(range(len(tgt))), example
        assert sum(sure for *_, sure in example.links) >= min(len(src), len(tgt)) / 3
        assert example.talp.split() == sorted(
            example.talp.split(), key=lambda link: tuple(map(int, re.split("[-?]", link)))
        )


def test_names(corpus: dict[str, list[Example]]) -> None:
    seen, unseen = set(SEEN_NAMES), set(UNSEEN_NAMES)
    assert not seen & unseen
    for split, examples in corpus.items():
        for example in examples:
            new = [word for word in example.src.split() if word in unseen]
            assert example.has_unseen_name == (split == "names") == bool(new)
            capitals = sorted(word for word in example.src.split() if word[0].isupper())
            assert capitals == sorted(word for word in example.tgt.split() if word[0].isupper())


def test_vocabulary_of_a_few_hundred_words(corpus: dict[str, list[Example]]) -> None:
    for side, least, most in (("src", 400, 700), ("tgt", 700, 1300)):
        words = {word for e in corpus["train"] for word in getattr(e, side).split() if word.islower()}
        assert least < len(words) < most, side


def test_french_spelling_rules_hold_everywhere(examples: list[Example]) -> None:
    mute = "homme|hôpital|hôpitaux|hôtel|horloge|heures|heureux|heureuses?|histoire"
    vowel = rf"(?:[aeiouâàéèêîôûœ][^ ]*|(?:{mute})s?)(?: |$)"
    forbidden = [
        rf"(?:^| )(?:je|me|le|la|ne|de|que|ce|ma|sa|beau|nouveau) (?!onze |huit ){vowel}",
        r"(?:^| )(?:de|à) les? ",
        r"(?:^| )(?:j|m|n|d|l|qu)' (?![aeiouâàéèêîôûœh])",
        r"(?:^| )(?:j|m|n|d|l|qu)' (?:hibou|haricot|hache)",
        r"(?:^| )de des ",
    ]
    for example in examples:
        for pattern in forbidden:
            assert not re.search(pattern, example.tgt, re.IGNORECASE), example.tgt
        assert not re.search(r"(?:^| )a [aeiou]|(?:^| )an [^aeiou]", example.src), example.src


def test_ambiguous_english_is_past(examples: list[Example]) -> None:
    """`they read` and `they hit` could be present or past."""
    ambiguous = re.compile(r"(?:^| )(?:i|we|you|they) (?:often |always |never )?(?:read|hit) ")
    found = [e for e in examples if ambiguous.search(e.src) and "?" not in e.src]
    assert found
    for example in found:
        assert re.search(r"(?: lue?s?| entartée?s?)(?: |$)", example.tgt), example.tgt


def test_written_files(tmp_path: Path) -> None:
    written = write_phrasebook(tmp_path / "pb", seed=5, train=40, dev=5, test=6, names=7, long=3)
    assert sorted(path.name for path in written) == sorted(
        [f"{split}.{end}" for split in (*COUNTS, "showcase") for end in ("en", "fr", "talp")] + ["README.txt"]
    )
    expected = generate("names", 7, seed=5)
    for end, lines in (
        ("en", [e.src for e in expected]), ("fr", [e.tgt for e in expected]), ("talp", [e.talp for e in expected]),
    ):  # fmt: skip
        assert (tmp_path / "pb" / f"names.{end}").read_bytes().decode().split("\n") == [*lines, ""]
    assert (tmp_path / "pb" / "train.en").read_text().count("\n") == 40


def test_sample_in_the_repository_is_what_is_generated() -> None:
    examples = [*SHOWCASE, *generate("test", 10), *generate("names", 4)]
    for end, lines in (
        ("en", [e.src for e in examples]), ("fr", [e.tgt for e in examples]), ("talp", [e.talp for e in examples]),
    ):  # fmt: skip
        assert (SAMPLE / f"sample.{end}").read_text(encoding="utf-8").splitlines() == lines
