"""Lines unlike those of a training text: several sentences on one, or far longer than any."""

from __future__ import annotations

import pytest

from nmt.text.shape import Unlike, learn_shape, sentences


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("", 1),
        ("A man rides a horse .", 1),
        ("I saw him. He ran.", 2),
        ("We go. They stay! Why? Because.", 4),
        ('"Go." "No."', 2),
        ("Mr. Smith met J. K. Rowling.", 1),
        ("He paid 3.5 dollars. 3 were mine.", 1),
        ("see www.example.com, e.g. at night ... or not", 1),
        ("我去。他不去。", 2),
        ("وصلت. ذهبت؟ نعم", 3),
    ],
)
def test_sentences_are_counted_by_their_marks(line, count) -> None:
    assert sentences(line) == count


def test_what_is_usual_is_learned_from_the_text() -> None:
    """Where training lines hold several sentences, such lines are like them; the rarest decide nothing."""
    lines = ["I go. You stay."] * 9_990 + ["One. Two. Three. Four."] * 10
    assert learn_shape(lines.__getitem__, len(lines), 40) == {"longest": 40, "sentences": 2}
    assert learn_shape(lines.__getitem__, 1, 40) == {"longest": 40, "sentences": 2}


def test_unlike_lines_are_counted() -> None:
    unlike = Unlike({"longest": 10, "sentences": 1})
    unlike.hear(["a b c", b"a" * 20, "\xe9"], 5)
    assert (unlike.count, unlike.first) == (0, None)
    unlike.hear([b"a" * 41, "I go. You stay.", b"\xff. A. B."], 8)
    assert (unlike.count, unlike.first) == (3, (9, "4 times as long"))
    silent = Unlike(None)
    silent.hear(["I go. You stay. " * 100], 0)
    assert silent.count == 0
