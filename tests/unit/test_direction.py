"""Which side's language a text is in: real pairs of texts, turned and not, and those of which nothing can be said."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from itertools import islice
from pathlib import Path

import pytest

from nmt.data.phrasebook import generate
from nmt.files import json_text
from nmt.text.direction import Direction, Profile, learn_profile
from nmt.text.lines import read_lines

TEXTS = {
    "en-de": ("tatoeba/en-de/train.{}.gz", "tatoeba/en-de/test.{}"),
    "en-fr": ("tatoeba/en-fr/train.{}.gz", "tatoeba/en-fr/test.{}"),
    "fr-cs": ("multi30k/train.{}.gz", "multi30k/test_2016_flickr.{}"),
    "de-en": ("multi30k/train.{}.gz", "multi30k/test_2016_flickr.{}"),
    "chr-en": ("chren/train.{}.gz", "chren/test.{}"),
}
each_pair = pytest.mark.parametrize("name", [*TEXTS, "phrasebook"])

Sides = tuple[list[str], list[str]]


@cache
def texts(shared: Path, name: str) -> tuple[Sides, Sides]:
    """Source and target to learn from, and others."""
    if name == "phrasebook":
        return tuple(
            ([one.src for one in found], [one.tgt for one in found])
            for found in (generate("train", 1000), generate("test", 200))
        )  # type: ignore[return-value]
    files = [[shared / form.format(side) for side in name.split("-")] for form in TEXTS[name]]
    return tuple(tuple(list(islice(read_lines(file), 3000)) for file in pair) for pair in files)  # type: ignore[return-value]


def learned(src: list[str], tgt: list[str]) -> Profile | None:
    return learn_profile(lambda row: (src[row], tgt[row]), len(src))


def lines_until_sure(profile: Profile | None, lines: list[str]) -> int | None:
    direction = Direction(profile)
    return next((number for number, line in enumerate(lines, start=1) if direction.hear([line])), None)


@each_pair
def test_a_turned_text_is_noticed_and_another_is_not(shared: Path, name: str) -> None:
    """Both ways round, whatever the order of the lines."""
    train, test = texts(shared, name)
    for src, tgt in ((0, 1), (1, 0)):
        profile = learned(train[src], train[tgt])
        assert profile is not None
        assert len(json_text(asdict(profile)).encode()) < 50_000
        for lines in (test[src], test[src][::-1], train[src]):
            assert lines_until_sure(profile, lines) is None
        for lines in (test[tgt], test[tgt][::-1]):
            sure = lines_until_sure(profile, lines)
            assert sure is not None
            assert 1 < sure < 150
        whole = Direction(profile)
        assert whole.hear([line.encode() for line in test[tgt]])
        assert not whole.hear(test[tgt])  # told once


@each_pair
def test_one_line_again_and_again_says_nothing(shared: Path, name: str) -> None:
    train, test = texts(shared, name)
    profile = learned(*train)
    assert lines_until_sure(profile, [min(test[1], key=len)] * 1000) is None


def test_a_third_language_is_neither(shared: Path) -> None:
    for name, other, side in (
        ("en-fr", "chr-en", 0),
        ("en-de", "en-fr", 1),
        ("en-fr", "fr-cs", 1),
        ("en-de", "fr-cs", 1),
    ):
        profile = learned(*texts(shared, name)[0])
        assert lines_until_sure(profile, texts(shared, other)[1][side]) is None


def test_sides_of_one_language_are_not_told_apart(shared: Path) -> None:
    lines = texts(shared, "en-de")[0][0]
    backwards = [" ".join(reversed(line.split())) for line in lines]
    questions = [list(read_lines(shared / "copysql" / f"train.{side}")) for side in ("src", "tgt")]
    for src, tgt in ((lines, lines), (lines, lines[::-1]), (lines, backwards), questions):
        assert learned(src, tgt) is None


def test_little_text_has_no_profile() -> None:
    assert learned(["a b"], ["c d"]) is None
    assert learned(["a b"] * 100, ["c d"] * 100) is None


def test_no_profile_hears_nothing() -> None:
    assert not Direction(None).hear(["whatever"] * 100)
