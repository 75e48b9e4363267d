"""The phrasebook's grammar: deterministic builders that make English and French side by side.

The gold alignment comes by construction. English words are objects, and each French word carries the English words it
renders; phrases are lists of words that builders join and reorder at will, and only `render` turns objects into
positions. Elision and contraction (le -> l', de + le -> du) happen there, too, in one pass.

The rule for links: content words that render each other one to one are sure. In a unit of several words (potato -
pomme de terre, not - ne ... pas) the heads are sure and the rest is possible; so are auxiliaries, which have no
partner, and the article inside a contraction (at the - au: `at` is sure).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nmt.data.phrasebook.words import ASPIRATED, AVOIR, DETERMINERS, ETRE, SURE, Adjective, Noun, Verb, number_words

PRESENT, PAST, FUTURE = "present", "past", "future"


class En:
    """An English word; two of the same spelling are different words."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Fr:
    """A French word and the English words it renders."""

    __slots__ = ("article", "possible", "sure", "text")

    def __init__(
        self, text: str, sure: Sequence[En] = (), possible: Sequence[En] = (), *, article: bool = False
    ) -> None:
        self.text = text
        self.sure = sure
        self.possible = possible
        self.article = article  # the definite article: contracts with à and de


class Agreement(NamedTuple):
    person: int  # 0..4: je, il/elle, nous, vous, ils/elles
    feminine: bool = False
    plural: bool = False

    def choose(self, forms: Sequence[str]) -> str:
        """One of masculine, feminine, masculine plural, feminine plural."""
        return forms[2 * self.plural + self.feminine]


class Phrase(NamedTuple):
    en: list[En]
    fr: list[Fr]


class Nominal(NamedTuple):
    """A noun phrase, a name or a pronoun."""

    en: list[En]
    fr: list[Fr]
    agreement: Agreement
    direct: str = ""  # the clitics of a pronoun
    dative: str = ""


class Link(NamedTuple):
    """Positions of a source and a target word, from 0."""

    src: int
    tgt: int
    sure: bool


MASCULINE = Agreement(1)
PRONOUNS = (  # English subject and object, French subject, direct and dative object
    ("i", "me", "je", "me", "me", Agreement(0)),
    ("he", "him", "il", "le", "lui", Agreement(1)),
    ("she", "her", "elle", "la", "lui", Agreement(1, feminine=True)),
    ("we", "us", "nous", "nous", "nous", Agreement(2, plural=True)),
    ("you", "you", "vous", "vous", "vous", Agreement(3, plural=True)),
    ("they", "them", "ils", "les", "leur", Agreement(4, plural=True)),
)
"""English does not say the gender of i, you, we and they: French takes the masculine, and the plural for you."""

_BEFORE_VOWEL = {w: w[:-1] + "'" for w in ("je", "me", "le", "la", "ne", "de", "que")} | {
    "ma": "mon",
    "sa": "son",
    "ce": "cet",
}
_CONTRACTED = {("à", "le"): "au", ("à", "les"): "aux", ("de", "le"): "du", ("de", "les"): "des"}
_CLITIC_ORDER = ("me", "nous", "vous", "le", "la", "les", "lui", "leur")
_FUTURE_ENDINGS = ("ai", "a", "ons", "ez", "ont")


def unit(en: str, fr: str) -> Phrase:
    """Words that translate each other as a whole; the last English and the first French word are the heads, unless
    the table `SURE` knows better."""
    english = [En(text) for text in en.split()]
    french = [Fr(text) for text in fr.split()]
    if len(english) == len(french) == 1:
        french[0].sure = english
        return Phrase(english, french)
    sure = SURE.get((en, fr), ((len(english) - 1, 0),))
    partners_en, partners_fr = {i for i, _ in sure}, {j for _, j in sure}
    for j, word in enumerate(french):
        word.sure = [english[i] for i, k in sure if k == j]
        word.possible = [e for i, e in enumerate(english) if i not in partners_en or j not in partners_fr]
    return Phrase(english, french)


def pronoun(index: int, *, subject: bool = False) -> Nominal:
    en_subject, en_object, fr_subject, direct, dative, agreement = PRONOUNS[index]
    word = En(en_subject if subject else en_object)
    return Nominal([word], [Fr(fr_subject, [word])], agreement, direct, dative)


def name(text: str, *, feminine: bool = False, title: bool = False) -> Nominal:
    """A proper name, copied; `title` puts mr or mrs before it."""
    titles = unit("mrs", "madame") if feminine else unit("mr", "monsieur")
    word = En(text)
    before = titles if title else Phrase([], [])
    return Nominal([*before.en, word], [*before.fr, Fr(text, [word])], Agreement(1, feminine))


def noun_phrase(
    noun: Noun,
    *,
    determiner: str = "the",
    number: int | None = None,
    plural: bool = False,
    before: Adjective | None = None,
    after: Adjective | None = None,
    negated: bool = False,
    owner: Nominal | None = None,
) -> Nominal:
    """the little red book -> le petit livre rouge; Paul 's book -> le livre de Paul (an owner is the determiner).

    `negated`: the direct object of a negated verb, where un, du and des become de.
    """
    agreement = Agreement(4 if plural else 1, noun.feminine, plural)
    core = unit(noun.en[plural], noun.fr[plural])
    front = back = Phrase([], [])
    if before is not None:
        vowel = before.liaison and not noun.feminine and not plural and _vowel(core.fr[0].text)
        front = unit(before.en, before.liaison if vowel else agreement.choose(before.fr))
    if after is not None:
        back = unit(after.en, agreement.choose(after.fr))
    if owner is not None:
        mark = En("'" if owner.agreement.plural and owner.en[-1].text.endswith("s") else "'s")
        opening = Phrase([*owner.en, mark], [Fr(_the(agreement), (), [mark], article=True)])
        closing = [Fr("de", [mark]), *owner.fr]
    elif number is not None:
        opening, closing = unit(*number_words(number, feminine=noun.feminine)), []
    else:
        opening, closing = _determiner(determiner, agreement, mass=noun.mass, adjective=before, negated=negated), []
    return Nominal(
        [*opening.en, *front.en, *back.en, *core.en],
        [*opening.fr, *front.fr, *core.fr, *back.fr, *closing],
        agreement,
    )


def _the(agreement: Agreement) -> str:
    return agreement.choose(("le", "la", "les", "les"))


def _determiner(
    determiner: str, agreement: Agreement, *, mass: bool, adjective: Adjective | None, negated: bool
) -> Phrase:
    word = En("these" if determiner == "this" and agreement.plural else determiner)
    masculine, feminine, plural = DETERMINERS[determiner]
    text = agreement.choose((masculine, feminine, plural, plural))
    if determiner == "some" and mass:
        return Phrase([word], [Fr("de", [word]), Fr(_the(agreement), (), [word], article=True)])
    if (negated and determiner == "a") or (determiner == "some" and adjective is not None):
        text = "de"
    return Phrase([word], [Fr(text, [word], article=determiner == "the")])


def prepositional(en: str, fr: str, nominal: Nominal) -> Phrase:
    """near the station -> près de la gare."""
    preposition = unit(en, fr)
    return Phrase([*preposition.en, *nominal.en], [*preposition.fr, *nominal.fr])


def adjectival(adjective: Adjective, agreement: Agreement, adverb: tuple[str, str] | None = None) -> Phrase:
    """What stands after `be`: very tired -> très fatiguée."""
    phrase = unit(adjective.en, agreement.choose(adjective.fr))
    return phrase if adverb is None else sequence(unit(*adverb), phrase)


def sequence(*phrases: Phrase | Nominal) -> Phrase:
    return Phrase([e for phrase in phrases for e in phrase.en], [f for phrase in phrases for f in phrase.fr])


def predicate(
    agreement: Agreement,
    verb: Verb,
    tense: str,
    *,
    negation: str | None = None,
    adverb: tuple[str, str] | None = None,
    modal: Verb | None = None,
    question: bool = False,
    direct: Nominal | None = None,
    indirect: Nominal | None = None,
    gap: Agreement | None = None,
    rest: Sequence[Phrase] = (),
) -> Phrase:
    """Everything but the subject, which agrees with `agreement`.

    `negation` is not, n't or never; `modal` goes with the present; `gap` is what an object relative clause is about
    (the letter that i WROTE -> la lettre que j' AI ÉCRITE). In a question the first English word is the auxiliary.
    """
    bare = negation in ("not", "n't") or question
    auxiliary, own = _english_verb(verb if modal is None else modal, agreement, tense, bare=bare)
    infinitive = [] if modal is None else [En(verb.en)]
    words = Group(
        helping=auxiliary if own else [],
        conjugated=[*auxiliary, *own][-1],
        verb=[*auxiliary, *own, *infinitive][-1],
        to=[En("to")] if modal is not None and modal.particle else [],
        particle=[En(text) for text in verb.particle.split()],
        tail=[En(text) for text in verb.tail.split()],
    )
    denied = [En(negation)] if negation is not None else []
    frequency = unit(*adverb) if adverb is not None else Phrase([], [])
    preposition = [En(verb.to)] if verb.to and indirect is not None else []
    shifted = indirect is not None and indirect.dative != "" and direct is not None and not direct.direct
    if shifted:  # gave HIM THE BOOK, for: gave THE BOOK TO PAUL
        preposition = []
    objects = [direct.en if direct is not None else [], [*preposition, *indirect.en] if indirect is not None else []]
    english = [
        *auxiliary, *denied, *frequency.en, *own, *words.to, *infinitive, *words.particle,
        *(e for part in (objects[::-1] if shifted else objects) for e in part),
        *words.tail, *(e for phrase in rest for e in phrase.en),
    ]  # fmt: skip

    clitics = _clitics(direct, indirect, preposition)
    ahead = gap if direct is None else direct.agreement if direct.direct else None
    head, nonfinite = _french_verb(words, agreement, verb, tense, modal=modal, ahead=ahead or MASCULINE)
    ne = [Fr("ne", (), denied)] if denied else []
    pas = [Fr("jamais" if negation == "never" else "pas", denied)] if denied else []
    french = [
        *ne, *(clitics if modal is None else []), head, *pas, *frequency.fr, *(clitics if modal is not None else []),
        *nonfinite, *_objects(direct, indirect, preposition, words.verb), *(f for phrase in rest for f in phrase.fr),
    ]  # fmt: skip
    return Phrase(english, french)


class Group(NamedTuple):
    """The English words of a verb group; `he does not want to look for` has all of them but a tail."""

    helping: list[En]  # does
    conjugated: En  # want: what the finite verb of French renders, or its participle
    verb: En  # look
    to: list[En]
    particle: list[En]  # for
    tail: list[En]  # hit me WITH A PIE


def _french_verb(
    words: Group, agreement: Agreement, verb: Verb, tense: str, *, modal: Verb | None, ahead: Agreement
) -> tuple[Fr, list[Fr]]:
    """The finite verb, and what else there is: infinitive, participle (agreeing with the object `ahead` of it, if the
    auxiliary is avoir), fixed words (avoir BESOIN de)."""
    extra = [*words.particle, *words.tail]
    if modal is not None:
        finite = Fr(modal.present[agreement.person], [words.conjugated], [*words.helping, *words.to])
        return finite, [Fr(verb.infinitive, [words.verb], extra)]
    if tense == PAST and not verb.imperfect:
        auxiliary = (ETRE if verb.etre else AVOIR).present[agreement.person]
        participle = _participle(verb.participle, agreement if verb.etre else ahead)
        return Fr(auxiliary, (), [words.verb, *words.helping]), [Fr(participle, [words.verb], extra)]
    text = _finite(verb, tense, agreement.person)
    if verb.after:
        first, *others = verb.after.split()
        fixed = [Fr(first, [words.verb]), *(Fr(other, (), [words.verb]) for other in others)]
        return Fr(text, (), [words.verb, *words.helping]), fixed
    return Fr(text, [words.verb], [*words.helping, *extra]), []


def _english_verb(verb: Verb, agreement: Agreement, tense: str, *, bare: bool = False) -> tuple[list[En], list[En]]:
    """The auxiliary (do, will; be, can and must are their own), and the inflected or bare verb."""
    third = agreement.person == 1
    if verb.en in ("can", "must"):
        return [En(verb.en)], []
    if tense == FUTURE:
        return [En("will")], [En(verb.en)]
    if verb.en == "be":
        present = ("am", "is", "are", "are", "are")[agreement.person]
        return [En(present if tense == PRESENT else "was" if agreement.person < 2 else "were")], []
    if bare:
        return [En("did" if tense == PAST else "does" if third else "do")], [En(verb.en)]
    return [], [En(verb.past if tense == PAST else verb.third if third else verb.en)]


def _clitics(direct: Nominal | None, indirect: Nominal | None, to: Sequence[En]) -> list[Fr]:
    """The pronouns before the verb, in their order."""
    clitics = []
    if direct is not None and direct.direct:
        clitics.append(Fr(direct.direct, direct.en))
    if indirect is not None and indirect.dative:
        clitics.append(Fr(indirect.dative, indirect.en, to))
    return sorted(clitics, key=lambda word: _CLITIC_ORDER.index(word.text))


def _objects(direct: Nominal | None, indirect: Nominal | None, to: Sequence[En], verb: En) -> list[Fr]:
    """The objects after the verb."""
    words = [] if direct is None or direct.direct else list(direct.fr)
    if indirect is not None and not indirect.dative:
        words += [Fr("à", to) if to else Fr("à", (), [verb]), *indirect.fr]
    return words


def _finite(verb: Verb, tense: str, person: int) -> str:
    if tense == FUTURE:
        return verb.future + _FUTURE_ENDINGS[person]
    return (verb.imperfect if tense == PAST else verb.present)[person]


def _participle(masculine: str, agreement: Agreement) -> str:
    text = masculine + "e" * agreement.feminine
    return text + "s" if agreement.plural and not text.endswith("s") else text


def clause(subject: Nominal, predicate: Phrase) -> Phrase:
    return sequence(subject, predicate)


def question(subject: Nominal, predicate: Phrase) -> Phrase:
    """do you see the cat ? -> est-ce que vous voyez le chat ?"""
    opening = [Fr(text, (), [predicate.en[0]]) for text in ("est-ce", "que")]
    end = unit("?", "?")
    return Phrase(
        [predicate.en[0], *subject.en, *predicate.en[1:], *end.en], [*opening, *subject.fr, *predicate.fr, *end.fr]
    )


def missing(who: Nominal, whom: Nominal, miss: Verb, tense: str) -> Phrase:
    """i miss my mother -> ma mère me manque: what English has as object is the subject of French."""
    helping, (verb,) = _english_verb(miss, who.agreement, tense)
    person = whom.agreement.person
    clitic = [Fr(who.dative, who.en)] if who.dative else []
    dative = [] if who.dative else [Fr("à", (), [verb]), *who.fr]
    if tense == PAST:
        verbs = [Fr(AVOIR.present[person], (), [verb]), Fr(miss.participle, [verb])]
    else:
        verbs = [Fr(_finite(miss, tense, person), [verb], helping)]
    return Phrase([*who.en, *helping, verb, *whom.en], [*whom.fr, *clitic, *verbs, *dative])


def relative(nominal: Nominal, link: tuple[str, str], body: Phrase) -> Nominal:
    """the man WHO SEES THE CAT, the cat THAT I SEE."""
    added = sequence(unit(*link), body)
    return Nominal([*nominal.en, *added.en], [*nominal.fr, *added.fr], nominal.agreement)


def both(one: Nominal, other: Nominal) -> Nominal:
    """Paul and Anna; masculine as soon as one of them is."""
    feminine = one.agreement.feminine and other.agreement.feminine
    joined = sequence(one, unit("and", "et"), other)
    return Nominal(joined.en, joined.fr, Agreement(4, feminine, plural=True))


def render(phrase: Phrase) -> tuple[str, str, frozenset[Link]]:
    """English, French, links; spelling that depends on the next word is settled here."""
    english = phrase.en
    french = _sandhi(phrase.fr)
    position = {id(word): i for i, word in enumerate(english)}
    links = set()
    for j, word in enumerate(french):
        sure = {position[id(e)] for e in word.sure}
        links |= {Link(i, j, True) for i in sure}
        links |= {Link(i, j, False) for i in {position[id(e)] for e in word.possible} - sure}
    texts = [word.text for word in english]
    for i, following in enumerate(texts[1:]):
        if texts[i] == "a" and following[0] in "aeiou":
            texts[i] = "an"
    return " ".join(texts), " ".join(word.text for word in french), frozenset(links)


def _vowel(text: str) -> bool:
    """Whether the word begins with a vowel or a mute h."""
    return text[0].lower() in "aàâeéèêiîoôœuûh" and text not in ASPIRATED


def _sandhi(words: Sequence[Fr]) -> list[Fr]:
    """Elision and contraction, from the end, since each depends on the word that follows."""
    out: list[Fr] = []
    for word in reversed(words):
        if out and _vowel(out[-1].text) and word.text in _BEFORE_VOWEL:
            out.append(Fr(_BEFORE_VOWEL[word.text], word.sure, word.possible))
        elif out and out[-1].article and (word.text, out[-1].text) in _CONTRACTED:
            article = out.pop()
            text = _CONTRACTED[word.text, article.text]
            out.append(Fr(text, word.sure, [*word.possible, *article.sure, *article.possible]))
        else:
            out.append(word)
    return out[::-1]
