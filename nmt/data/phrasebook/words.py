# ruff: noqa: SIM905 (lists of words read better as text)
"""The phrasebook's vocabulary: nouns, adjectives, verbs, numbers and names, as tables.

A table row is `English, French` plus what the grammar has to know. Words of a multiword unit are separated by spaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Noun(NamedTuple):
    en: tuple[str, str]  # singular, plural
    fr: tuple[str, str]
    feminine: bool
    mass: bool  # no plural; takes "some" in the singular


class Adjective(NamedTuple):
    en: str
    fr: tuple[str, str, str, str]  # masculine, feminine, masculine plural, feminine plural
    before: bool  # stands before its noun in French
    liaison: str  # masculine singular before a vowel: bel, nouvel, vieil


class Verb(NamedTuple):
    """A verb of both languages. Persons are numbered 0..4: je, il/elle, nous, vous, ils/elles."""

    en: str  # base form
    third: str  # he ...
    past: str
    particle: str  # right after the English verb: look FOR
    tail: str  # after the object: hit ... WITH A PIE
    infinitive: str
    present: tuple[str, ...]
    future: str  # stem
    imperfect: tuple[str, ...]  # what the English past becomes; empty: the compound past
    participle: str
    etre: bool  # auxiliary of the compound past
    after: str  # French words after the finite verb: avoir BESOIN DE
    to: str | None  # English preposition of the indirect object ("" = none); None: takes no indirect object
    objects: tuple[str, ...]  # categories of nouns it takes as direct object
    animals: bool  # animals do it, too


_NOUNS = """
person: man/men homme | woman/women +femme | child/children enfant | boy garçon | girl +fille | king roi | queen +reine
person: teacher professeur | doctor médecin | friend ami | neighbour voisin | brother frère | sister +sœur
person: mother +mère | father père | uncle oncle | grandmother +grand-mère/grands-mères | son fils/fils
person: daughter +fille | student étudiant | nurse +infirmière | baker boulanger | thief/thieves voleur | soldier soldat
animal: cat chat | dog chien | horse cheval/chevaux | bird oiseau/oiseaux | cow +vache | mouse/mice +souris/souris
animal: bear ours/ours | owl hibou/hiboux | donkey âne | wolf/wolves loup | bee +abeille
text: book livre | letter +lettre | newspaper journal/journaux | story/stories +histoire
thing: table +table | chair +chaise | hat chapeau/chapeaux | shirt +chemise | key +clé | car +voiture | bicycle vélo
thing: boat bateau/bateaux | clock +horloge | knife/knives couteau/couteaux | cup +tasse | axe +hache | ring +bague
thing: umbrella parapluie | gift cadeau/cadeaux | flower +fleur | washing_machine +machine_à_laver/machines_à_laver
thing: wheelchair fauteuil_roulant/fauteuils_roulants | toothbrush/toothbrushes +brosse_à_dents/brosses_à_dents
open: door +porte | window +fenêtre | box/boxes +boîte | bottle +bouteille | suitcase +valise
food: apple +pomme | potato/potatoes +pomme_de_terre/pommes_de_terre | egg œuf | pear +poire | cake gâteau/gâteaux
food: ice_cream +glace | apple_pie +tarte_aux_pommes/tartes_aux_pommes | tomato/tomatoes +tomate | orange +orange
food: chocolate_cake gâteau_au_chocolat/gâteaux_au_chocolat | bean haricot | onion oignon | pineapple ananas/ananas
edible: *bread pain | *cheese fromage | *meat +viande | *rice riz | *soup +soupe | *jam +confiture
drink: *water +eau | *milk lait | *coffee café | *wine vin | *beer +bière | *orange_juice jus_d'_orange
inside: kitchen +cuisine | garden jardin | house +maison | forest +forêt | living_room salon | castle château/châteaux
inside: bathroom +salle_de_bain/salles_de_bain
at: market marché | station +gare | hospital hôpital/hôpitaux | school +école | beach/beaches +plage
at: museum musée | church/churches +église | airport aéroport | library/libraries +bibliothèque | hotel hôtel
at: town_hall +mairie | swimming_pool +piscine
"""
"""`category: English[/plural] [+]French[/plural]`; + marks the feminine, * a mass noun."""

_ADJECTIVES = """
before any: little petit | beautiful beau/belle/beaux~bel | new nouveau/nouvelle/nouveaux~nouvel | big gros/grosse
before person: young jeune | old vieux/vieille~vieil | tall grand
before food: good bon/bonne | bad mauvais
after person: happy heureux/heureuse | sad triste | tired fatigué | rich riche | intelligent intelligent
after person: famous célèbre | sick malade | strong fort | proud fier/fière | jealous jaloux/jalouse | french français
after person: english anglais | italian italien/italienne
after thing: red rouge | blue bleu | green vert | black noir | white blanc/blanche | yellow jaune
after thing: heavy lourd | light léger/légère | expensive cher/chère | empty vide | dirty sale | strange étrange
after thing: modern moderne | broken cassé | wooden en_bois
after animal: black noir | white blanc/blanche | brown brun | fast rapide | slow lent
after food: hot chaud | cold froid | sweet sucré | delicious délicieux/délicieuse | fresh frais/fraîche
after place: quiet calme | dark sombre | modern moderne | empty vide | huge immense | famous célèbre
"""
"""`place category: English masculine[/feminine[/masculine plural]][~before a vowel]`."""

_VERBS = """
0: sleep slept, dormir: dors dort dormons dormez dorment; dormi; animals
0: work, travailler | sing sang, chanter
0: laugh, rire: ris rit rions riez rient; ri
0: cry, pleurer
0: swim swam, nager; animals
0: arrive, arriver; être; animals
0: leave left, partir: pars part partons partez partent; parti; être
0: come came, venir: viens vient venons venez viennent; venu; viendr; être
0: fall fell, tomber; être; animals
0: come_home came, rentrer; être
any: see saw, voir: vois voit voyons voyez voient; vu; verr; animals
any: find found, trouver; animals
any: look_for, chercher; animals
any: look_at, regarder; animals
any: love, aimer; =person animal food
person: help, aider
person: call, appeler: appelle appelle appelons appelez appellent; appelé; appeller
person: know knew, connaître: connais connaît connaissons connaissez connaissent; connu
person: wait_for, attendre: attends attend attendons attendez attendent; attendu
person: invite, inviter | hit hit ... with a pie, entarter
person: meet met, rencontrer
thing: buy bought, acheter: achète achète achetons achetez achètent; acheté; achèter; =thing text food edible drink
thing: sell sold, vendre: vends vend vendons vendez vendent; vendu; =thing text food edible drink animal
thing: lose lost, perdre: perds perd perdons perdez perdent; perdu; =thing text animal
thing: take took, prendre: prends prend prenons prenez prennent; pris; =thing text food
thing: wash, laver; =thing
thing: want, vouloir: veux veut voulons voulez veulent; voulu; voudr; =thing text food edible drink
thing: have had, avoir: ai a avons avez ont; eu; aur; imperfect; =thing text animal food
thing: need, avoir: ai a avons avez ont; eu; aur; imperfect; after besoin de; =thing text
text: read read, lire: lis lit lisons lisez lisent; lu
text: write wrote, écrire: écris écrit écrivons écrivez écrivent; écrit
open: open, ouvrir: ouvre ouvre ouvrons ouvrez ouvrent; ouvert
open: close, fermer
food: eat ate, manger; animals; =food edible
food: cook, cuisiner; =food edible
drink: drink drank, boire: bois boit buvons buvez boivent; bu; animals
give: give gave, donner; to to; =thing text food animal
give: show, montrer; to to; =thing text food animal
give: send sent, envoyer: envoie envoie envoyons envoyez envoient; envoyé; enverr; to to; =thing text
give: bring brought, apporter; to to; =thing text food edible drink
to: speak spoke, parler; to to
to: answer, répondre: réponds répond répondons répondez répondent; répondu; to
to: smile, sourire: souris sourit sourions souriez sourient; souri; to at
miss: miss, manquer
go: go went, aller: vais va allons allez vont; allé; ir; être; animals
be: be was, être: suis est sommes êtes sont; été; ser; imperfect
be: be was, avoir: ai a avons avez ont; eu; aur; imperfect
say: think thought, penser
say: say said, dire: dis dit disons dites disent; dit
say: know knew, savoir: sais sait savons savez savent; su; saur
modal: can can, pouvoir: peux peut pouvons pouvez peuvent; pu; pourr
modal: must must, devoir: dois doit devons devez doivent; dû; devr
modal: want_to, vouloir: veux veut voulons voulez veulent; voulu; voudr
"""
"""`group: English [past] [... tail], infinitive[: present of five persons]; participle; options`. An infinitive alone
is a regular verb in -er. Options: a future stem, être, imperfect, animals, `to PREPOSITION`, `after WORDS`,
`=categories` of direct objects."""

SURE = {
    ("apple pie", "tarte aux pommes"): ((1, 0), (0, 2)),
    ("chocolate cake", "gâteau au chocolat"): ((1, 0), (0, 2)),
    ("orange juice", "jus d' orange"): ((1, 0), (0, 2)),
    ("washing machine", "machine à laver"): ((1, 0), (0, 2)),
    ("living room", "salon"): ((1, 0),),
    ("wooden", "en bois"): ((0, 1),),
    ("in front of", "devant"): ((1, 0),),
    ("next to", "à côté de"): ((0, 1),),
    ("there is", "il y a"): ((1, 2),),
    ("there was", "il y avait"): ((1, 2),),
    ("there are", "il y a"): ((1, 2),),
    ("there were", "il y avait"): ((1, 2),),
    ("every day", "tous les jours"): ((0, 0), (1, 2)),
    ("last night", "hier soir"): ((0, 0), (1, 1)),
    ("this morning", "ce matin"): ((0, 0), (1, 1)),
    ("next week", "la semaine prochaine"): ((1, 1), (0, 2)),
    ("last week", "la semaine dernière"): ((1, 1), (0, 2)),
    ("years old", "ans"): ((0, 0),),
    ("afraid of", "peur de"): ((0, 0), (1, 1)),
}
"""Units with sure links other than (last English word, first French word)."""

DETERMINERS = {
    "the": ("le", "la", "les"),
    "a": ("un", "une", ""),
    "this": ("ce", "cette", "ces"),
    "some": ("", "", "des"),
    "any": ("de", "de", "de"),
    "my": ("mon", "ma", "mes"),
    "his": ("son", "sa", "ses"),
    "her": ("son", "sa", "ses"),
    "our": ("notre", "notre", "nos"),
    "your": ("votre", "votre", "vos"),
    "their": ("leur", "leur", "leurs"),
}
POSSESSIVES = ("my", "his", "her", "our", "your", "their")
TIMES = {
    "present": (("every day", "tous les jours"), ("today", "aujourd'hui"), ("now", "maintenant")),
    "past": (
        ("yesterday", "hier"),
        ("last night", "hier soir"),
        ("this morning", "ce matin"),
        ("last week", "la semaine dernière"),
    ),
    "future": (("tomorrow", "demain"), ("next week", "la semaine prochaine"), ("soon", "bientôt")),
}
PREPOSITIONS = (("with", "avec"), ("for", "pour"), ("without", "sans"), ("behind", "derrière"))
POSITIONS = (
    ("under", "sous"),
    ("on", "sur"),
    ("behind", "derrière"),
    ("near", "près de"),
    ("in front of", "devant"),
    ("next to", "à côté de"),
)
FREQUENCY = (("often", "souvent"), ("always", "toujours"), ("already", "déjà"))
STATES = (("hungry", "faim"), ("thirsty", "soif"), ("cold", "froid"), ("right", "raison"), ("wrong", "tort"))

ASPIRATED = frozenset("hibou hiboux haricot haricots hache haches onze huit".split())
"""Words before which nothing is elided although they begin with h or a vowel."""

MEN = (
    "Adam Albert Arthur Ben Bruno Carl Daniel David Denis Eric Felix Gaston Jules Karl Leo Louis Luc Marc Max Nathan "
    "Oscar Paul Robert Simon Theo Thomas Victor Vincent"
).split()
WOMEN = (
    "Alice Anna Camille Carla Clara Diane Elsa Emma Eva Flora Ida Irene Jade Julia Laura Lisa Louise Lucie Marie "
    "Martha Nina Nora Olga Rosa Sarah Sophie Tina Vera"
).split()


_EN_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_EN_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_FR_ONES = (
    "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept dix-huit "
    "dix-neuf"
).split()
_FR_TENS = "vingt trente quarante cinquante soixante soixante quatre-vingt quatre-vingt".split()


def number_words(number: int, *, feminine: bool = False) -> tuple[str, str]:
    """1..100 in both languages: 71 -> seventy-one, soixante et onze."""
    if number == 100:
        return "one hundred", "cent"
    tens, ones = divmod(number, 10)
    english = _EN_ONES[number] if number < 20 else _EN_TENS[tens - 2] + (f"-{_EN_ONES[ones]}" if ones else "")
    one = "une" if feminine else "un"
    if number < 20:
        return english, one if number == 1 else _FR_ONES[number]
    stem, rest = _FR_TENS[tens - 2], ones + 10 * (tens in (7, 9))
    if rest == 0:
        return english, "quatre-vingts" if tens == 8 else stem
    last = one if rest == 1 else _FR_ONES[rest]
    return english, f"{stem} et {last}" if tens < 8 and rest in (1, 11) else f"{stem}-{last}"


_OBJECTS: dict[str, tuple[str, ...]] = dict.fromkeys(("0", "to", "miss", "go", "be", "say", "modal"), ())
_OBJECTS["any"] = ("person", "animal", "thing", "text", "food")
"""What a group of verbs takes, where the group's name does not say it."""


def _rows(table: str) -> Iterator[tuple[str, str]]:
    """(what stands before the colon, entry) of a table."""
    for line in table.strip().splitlines():
        group, entries = line.split(": ", 1)
        for entry in entries.split(" | "):
            yield group, entry.strip()


def _parse_nouns(table: str) -> dict[str, tuple[Noun, ...]]:
    found: dict[str, list[Noun]] = {}
    for category, entry in _rows(table):
        en, fr = entry.split()
        feminine, mass = fr.startswith("+"), en.startswith("*")
        found.setdefault(category, []).append(Noun(_numbers(en.lstrip("*")), _numbers(fr.lstrip("+")), feminine, mass))
    return {category: tuple(nouns) for category, nouns in found.items()}


def _numbers(forms: str) -> tuple[str, str]:
    singular, _, plural = forms.replace("_", " ").partition("/")
    return singular, plural or singular + "s"


def _parse_adjectives(table: str) -> dict[tuple[str, str], tuple[Adjective, ...]]:
    found: dict[tuple[str, str], list[Adjective]] = {}
    for group, entry in _rows(table):
        place, category = group.split()
        en, forms = entry.split()
        forms, _, liaison = forms.replace("_", " ").partition("~")
        masculine, feminine, plural, *_ = [*forms.split("/"), "", ""]
        invariable = " " in masculine
        feminine = feminine or (masculine if invariable or masculine.endswith("e") else masculine + "e")
        plural = plural or (masculine if invariable or masculine[-1] in "sx" else masculine + "s")
        four = (masculine, feminine, plural, feminine if invariable else feminine + "s")
        found.setdefault((place, category), []).append(Adjective(en, four, place == "before", liaison))
    return {key: tuple(adjectives) for key, adjectives in found.items()}


def _parse_verbs(table: str) -> dict[str, tuple[Verb, ...]]:
    found: dict[str, list[Verb]] = {}
    for line in table.strip().splitlines():
        group, entries = line.split(": ", 1)
        for entry in entries.split(" | "):
            found.setdefault(group, []).append(_parse_verb(entry.strip(), group))
    return {group: tuple(verbs) for group, verbs in found.items()}


def _parse_verb(entry: str, group: str) -> Verb:
    english, french = entry.split(", ", 1)
    english, _, tail = english.partition(" ... ")
    base, past, *_ = [*english.split(), ""]
    base, _, particle = base.partition("_")
    infinitive, *options = french.replace(":", ";").split("; ")
    if options and len(options[0].split()) == 5:
        present, participle = tuple(options.pop(0).split()), options.pop(0)
    else:
        stem = infinitive.removesuffix("er")
        present, participle = (
            (stem + "e", stem + "e", stem + ("eons" if stem.endswith("g") else "ons"), stem + "ez", stem + "ent"),
            stem + "é",
        )
    future, after = infinitive.removesuffix("e") if infinitive.endswith("re") else infinitive, ""
    to: str | None = None
    objects = _OBJECTS.get(group, (group,))
    imperfect: tuple[str, ...] = ()
    for option in options:
        key, _, value = option.partition(" ")
        if key == "to":
            to = value
        elif key == "after":
            after = value
        elif key == "imperfect":
            stem = "ét" if infinitive == "être" else present[2].removesuffix("ons")
            imperfect = tuple(stem + ending for ending in ("ais", "ait", "ions", "iez", "aient"))
        elif key.startswith("="):
            objects = tuple(option[1:].split())
        elif key not in ("être", "animals"):  # a future stem
            future = option
    return Verb(
        base, _third(base), past or _past(base), particle, tail, infinitive, present, future, imperfect, participle,
        "être" in options, after, to, objects, "animals" in options,
    )  # fmt: skip


def _third(base: str) -> str:
    if base == "have":
        return "has"
    if base[-1] == "y" and base[-2] not in "aeiou":
        return base[:-1] + "ies"
    return base + ("es" if base.endswith(("s", "sh", "ch", "x", "o")) else "s")


def _past(base: str) -> str:
    if base[-1] == "y" and base[-2] not in "aeiou":
        return base[:-1] + "ied"
    return base + ("d" if base.endswith("e") else "ed")


NOUNS = _parse_nouns(_NOUNS)
ADJECTIVES = _parse_adjectives(_ADJECTIVES)
VERBS = _parse_verbs(_VERBS)
ETRE, AVOIR = VERBS["be"]
YEARS = Noun(("year old", "years old"), ("an", "ans"), feminine=False, mass=False)
