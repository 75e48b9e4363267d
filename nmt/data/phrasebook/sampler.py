"""Draws sentences: which words and constructions, how many clauses. What they look like is the grammar's business."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal, TypeVar

from nmt.data.phrasebook.grammar import (
    FUTURE,
    PAST,
    PRESENT,
    Agreement,
    Nominal,
    Phrase,
    adjectival,
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
    sequence,
    unit,
)
from nmt.data.phrasebook.words import (
    ADJECTIVES,
    AVOIR,
    ETRE,
    FREQUENCY,
    MEN,
    NOUNS,
    POSITIONS,
    POSSESSIVES,
    PREPOSITIONS,
    STATES,
    TIMES,
    VERBS,
    WOMEN,
    YEARS,
    Adjective,
    Noun,
    Verb,
)

Kind = Literal["any", "definite", "indefinite"]
T = TypeVar("T")

OBJECT_VERBS = [v for group in ("any", "person", "thing", "text", "open", "food", "drink") for v in VERBS[group]]
OBJECT_VERBS += [v for v in OBJECT_VERBS if v.tail] * 3  # the idiom should be learned
ANIMAL_VERBS = [v for verbs in VERBS.values() for v in verbs if v.animals]
FRAMES = ((22, VERBS["0"]), (74, OBJECT_VERBS), (86, VERBS["give"]), (94, VERBS["to"]), (100, VERBS["go"]))
"""Verbs that take the same objects, with cumulated percentages."""
ADJECTIVES_OF = {"inside": "place", "at": "place", "text": "thing", "open": "thing", "edible": "food", "drink": "food"}
"""Categories of nouns that share the adjectives of another."""
SUBJECTS = (0, 0, 1, 2, 3, 3, 4, 4, 5)
"""Pronouns; he, she and they have the verb forms of nouns, which are frequent anyway."""


class Dice:
    """Draws that stay the same in every version of Python, which promises that of `random.random` only."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def below(self, count: int) -> int:
        return int(self._random() * count)

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self._random() * len(items))]


class Sampler:
    """Draws the features of a sentence and has the grammar build it."""

    def __init__(self, dice: Dice, names: Sequence[str]) -> None:
        self.dice = dice
        self.half = len(names) // 2
        self.surnames, self.towns = names[: self.half], names[self.half :]

    # Noun phrases

    def person(self) -> Nominal:
        """A proper name."""
        woman = self.dice.chance(0.5)
        if self.dice.chance(0.4):
            return name(self.dice.pick(self.surnames), feminine=woman, title=True)
        return name(self.dice.pick(WOMEN if woman else MEN), feminine=woman)

    def noun_phrase(self, *categories: str, negated: bool = False, kind: Kind = "any", depth: int = 1) -> Nominal:
        """A noun with determiner and adjectives, and with `depth` an owner or a relative clause."""
        dice = self.dice
        category = dice.pick(categories)
        noun = dice.pick(NOUNS[category])
        plural = not noun.mass and dice.chance(0.25)
        before = self.adjective("before", category) if dice.chance(0.15) else None
        after = self.adjective("after", category) if dice.chance(0.2) else None
        number = owner = None
        determiner = self.determiner(noun, plural=plural, negated=negated, kind=kind)
        if plural and kind != "definite" and dice.chance(0.5):
            number = 2 + dice.below(11 if dice.chance(0.4) else 99)
        elif depth and kind != "indefinite" and dice.chance(0.12):
            owner = self.person() if dice.chance(0.5) else self.noun_phrase("person", kind="definite", depth=0)
        whole = noun_phrase(
            noun,
            determiner=determiner,
            number=number,
            plural=plural,
            before=before,
            after=after,
            negated=negated,
            owner=owner,
        )
        if depth and owner is None and not negated and dice.chance(0.1):
            return self.relative(whole, category)
        return whole

    def adjective(self, place: str, category: str) -> Adjective | None:
        keys = [(place, ADJECTIVES_OF.get(category, category))] + [("before", "any")] * (place == "before")
        found = [adjective for key in keys for adjective in ADJECTIVES.get(key, ())]
        return self.dice.pick(found) if found else None

    def determiner(self, noun: Noun, *, plural: bool, negated: bool, kind: Kind) -> str:
        if kind == "indefinite" or (kind == "any" and self.dice.chance(0.4)):
            return "a" if not plural and not noun.mass else "any" if negated else "some"
        determiner = self.dice.pick(("the", "the", "my", "this"))
        return self.dice.pick(POSSESSIVES) if determiner == "my" else determiner

    def relative(self, nominal: Nominal, category: str) -> Nominal:
        tense = self.dice.pick((PRESENT, PAST))
        if category == "person" and self.dice.chance(0.5):
            return relative(nominal, ("who", "qui"), self.verbal(nominal.agreement, tense, depth=0))
        takers = [v for v in OBJECT_VERBS if category in v.objects and not v.after]
        if not takers:
            return nominal
        subject = self.subject(depth=0)
        verb = self.in_tense(takers, subject.agreement, tense)
        body = clause(subject, predicate(subject.agreement, verb, tense, gap=nominal.agreement))
        return relative(nominal, ("that", "que"), body)

    def subject(self, *, depth: int = 1) -> Nominal:
        draw = self.dice.below(10)
        if draw < 6:
            return pronoun(self.dice.pick(SUBJECTS), subject=True)
        if draw < 8:
            one = self.person()
            return both(one, self.person()) if self.dice.chance(0.15) else one
        return self.noun_phrase("person", kind="definite" if self.dice.chance(0.8) else "any", depth=depth)

    def object(self, categories: Sequence[str], agreement: Agreement, *, negated: bool, depth: int) -> Nominal:
        """A direct object. People (and them) may be pronouns, but nobody acts on himself."""
        if "person" in categories and self.dice.chance(0.45):
            return self.other(agreement)
        if "person" in categories and self.dice.chance(0.2):
            return self.person()
        if self.dice.chance(0.08):
            return pronoun(5)
        return self.noun_phrase(*categories, negated=negated, depth=depth)

    def other(self, agreement: Agreement) -> Nominal:
        """An object pronoun; i and we do not go together, nor you and you."""
        own = {0: (0, 3), 2: (0, 3), 3: (4,)}.get(agreement.person, ())
        return pronoun(self.dice.pick([n for n in range(6) if n not in own]))

    # Verbs

    def in_tense(self, verbs: Sequence[Verb], agreement: Agreement, tense: str) -> Verb:
        """A verb whose English form shows the tense: `they read` and `they hit` are past (but `he reads`)."""
        if tense == PRESENT and agreement.person != 1:
            verbs = [v for v in verbs if v.past != v.en]
        return self.dice.pick(verbs)

    def verbal(self, agreement: Agreement, tense: str, *, depth: int = 1, asked: bool = False) -> Phrase:
        """A predicate: verb, objects, adverbials."""
        if self.dice.chance(0.2):
            return self.copular(agreement, tense, asked=asked)
        dice = self.dice
        draw = dice.below(100)
        verb = self.in_tense(next(verbs for bound, verbs in FRAMES if draw < bound), agreement, tense)
        modal = dice.pick(VERBS["modal"]) if tense == PRESENT and not verb.after and dice.chance(0.15) else None
        negation = adverb = None
        if dice.chance(0.15) and not asked:
            negation = self.negation(plain=tense == FUTURE or (modal is not None and modal.en != "want"))
        elif dice.chance(0.1) and modal is None and not asked:
            adverb = dice.pick(FREQUENCY if tense == PAST else FREQUENCY[:2])
        negated = negation is not None
        direct = indirect = None
        rest: list[Phrase] = []
        if verb.objects:
            direct = self.object(verb.objects, agreement, negated=negated, depth=depth)
            if verb.after and (direct.direct or direct.fr[0].text in ("de", "des")):
                direct = self.noun_phrase(*verb.objects, kind="definite", depth=0)
        if verb.to is not None:
            indirect = self.recipient(agreement)
        if verb.en == "go":
            rest.append(self.place("to"))
        elif dice.chance(0.35 if direct is None and indirect is None else 0.15):
            rest.append(self.circumstance(tense))
        if modal is None and dice.chance(0.2):
            rest.append(unit(*dice.pick(TIMES[tense])))
        return predicate(
            agreement,
            verb,
            tense,
            negation=negation,
            adverb=adverb,
            modal=modal,
            question=asked,
            direct=direct,
            indirect=indirect,
            rest=rest,
        )

    def negation(self, *, plain: bool) -> str:
        return "never" if self.dice.chance(0.25) else "not" if plain or self.dice.chance(0.5) else "n't"

    def recipient(self, agreement: Agreement) -> Nominal:
        """An indirect object."""
        if self.dice.chance(0.5):
            return self.other(agreement)
        return self.person() if self.dice.chance(0.5) else self.noun_phrase("person", kind="definite", depth=0)

    def copular(self, agreement: Agreement, tense: str, *, asked: bool = False) -> Phrase:
        """be + adjective, state (avoir faim), age or place."""
        dice = self.dice
        verb, rest = ETRE, Phrase([], [])
        adverb = dice.pick(FREQUENCY[:2]) if dice.chance(0.1) else None
        negation = self.negation(plain=True) if adverb is None and not asked and dice.chance(0.15) else None
        draw = dice.below(10)
        if draw < 5:
            degree = dice.pick((("very", "très"), ("too", "trop"))) if dice.chance(0.3) else None
            rest = adjectival(dice.pick(ADJECTIVES["after", "person"]), agreement, degree)
        elif draw < 6:
            verb, rest = AVOIR, unit(*dice.pick(STATES))
        elif draw < 7:
            animal = self.noun_phrase("animal", kind="definite", depth=0)
            verb, rest = AVOIR, prepositional("afraid of", "peur de", animal)
        elif draw < 8:
            age = noun_phrase(YEARS, number=2 + dice.below(99), plural=True)
            verb, adverb, rest = AVOIR, None, sequence(age)
        else:
            rest = self.place("at")
        time = unit(*dice.pick(TIMES[tense])) if dice.chance(0.15) else Phrase([], [])
        return predicate(agreement, verb, tense, negation=negation, adverb=adverb, question=asked, rest=(rest, time))

    # Adverbials

    def place(self, way: str) -> Phrase:
        """Where (`at`) or where to (`to`)."""
        dice = self.dice
        if dice.chance(0.3):
            return prepositional("to" if way == "to" else "in", "à", name(dice.pick(self.towns)))
        if way == "to" or dice.chance(0.5):
            return prepositional(way, "à", self.noun_phrase("at", kind="definite", depth=0))
        if dice.chance(0.5):
            return prepositional("in", "dans", self.noun_phrase("inside", kind="definite", depth=0))
        category = "open" if dice.chance(0.3) else "thing"
        return prepositional(*dice.pick(POSITIONS), self.noun_phrase(category, kind="definite", depth=0))

    def circumstance(self, tense: str) -> Phrase:
        dice = self.dice
        if dice.chance(0.2):
            company = self.person() if dice.chance(0.5) else self.noun_phrase("person", kind="definite", depth=0)
            return prepositional(*dice.pick(PREPOSITIONS), company)
        if tense == PAST and dice.chance(0.3):
            digits = str(1980 + dice.below(45))
            return prepositional("in", "en", name(digits))
        if dice.chance(0.12):
            hours = prepositional("at", "à", name(str(2 + dice.below(11))))
            return sequence(hours, unit("o'clock", "heures"))
        return self.place("at")

    # Sentences

    def simple(self, tense: str, *, depth: int = 1) -> Phrase:
        """One clause (with a relative one inside it, maybe)."""
        dice = self.dice
        draw = dice.below(100)
        if draw < 5:
            experiencer = pronoun(dice.pick(SUBJECTS), subject=True) if dice.chance(0.6) else self.person()
            whom = self.noun_phrase("person", kind="definite", depth=0) if dice.chance(0.6) else self.person()
            return missing(experiencer, whom, VERBS["miss"][0], tense)
        if draw < 9 and tense != FUTURE:
            return self.existential(tense)
        if draw < 18:
            return self.with_animal(tense)
        if draw < 26:
            return self.described(tense)
        subject = self.subject(depth=depth)
        return clause(subject, self.verbal(subject.agreement, tense, depth=depth))

    def existential(self, tense: str) -> Phrase:
        noun = self.noun_phrase("person", "animal", "thing", "food", kind="indefinite", depth=0)
        be = ("was", "were") if tense == PAST else ("is", "are")
        opening = unit(f"there {be[noun.agreement.plural]}", "il y avait" if tense == PAST else "il y a")
        return sequence(opening, noun, self.place("at"))

    def with_animal(self, tense: str) -> Phrase:
        subject = self.noun_phrase("animal", kind="definite")
        verb = self.in_tense(ANIMAL_VERBS, subject.agreement, tense)
        direct = self.noun_phrase(*verb.objects, depth=0) if verb.objects else None
        place = self.place("to" if verb.en == "go" else "at")
        return clause(subject, predicate(subject.agreement, verb, tense, direct=direct, rest=[place]))

    def described(self, tense: str) -> Phrase:
        """the soup is cold"""
        category = self.dice.pick(("thing", "food", "drink", "animal", "inside", "text"))
        subject = self.noun_phrase(category, kind="definite")
        adjective = self.adjective("after", category)
        assert adjective is not None
        negation = self.negation(plain=True) if self.dice.chance(0.15) else None
        rest = [adjectival(adjective, subject.agreement)]
        return clause(subject, predicate(subject.agreement, ETRE, tense, negation=negation, rest=rest))

    def asked(self, tense: str) -> Phrase:
        subject = self.subject(depth=0)
        return question(subject, self.verbal(subject.agreement, tense, asked=True))

    def reported(self, tense: str) -> Phrase:
        """he says that ..."""
        subject = self.subject(depth=0)
        verb = self.dice.pick(VERBS["say"])
        return sequence(clause(subject, predicate(subject.agreement, verb, tense)), unit("that", "que"))

    def tense(self) -> str:
        return self.dice.pick((PRESENT, PAST, FUTURE))

    def chain(self, clauses: int) -> Phrase:
        """Clauses of one tense after one another; `he says that` may open any of them."""
        tense, parts = self.tense(), list[Phrase]()
        links = [("because", "parce que"), ("and", "et"), ("but", "mais")]
        if tense != FUTURE:
            links.append(("when", "quand"))
        for n in range(clauses):
            if n:
                parts.append(unit(*self.dice.pick(links)))
            if tense != FUTURE and clauses > 1 and self.dice.chance(0.25):
                parts.append(self.reported(tense))
            parts.append(self.simple(tense))
        return sequence(*parts)

    def sentence(self, *, long: bool = False) -> Phrase:
        if long:
            return self.chain(4 + self.dice.below(3))
        draw = self.dice.below(100)
        if draw < 8:
            return self.asked(self.tense())
        return self.chain(1 if draw < 65 else 2 if draw < 92 else 3)
