"""`nmt match`: one line in, one line out; what is wrong is said before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

SRC = "the red cat\nthe black dog\nred wine\n\nthe sun\n"
TGT = "la chatte rouge\nle chien noir\nvin rouge\n\nle soleil\n"


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("src").write_text(SRC)
    Path("tgt").write_text(TGT)
    Path("text").write_text("a red dog\n\nnothing known\nred wine\n")


def test_a_text(command) -> None:
    out, err = command("match", "src", "tgt", "text", "--count", "1")
    assert out.split("\n") == ["a red dog ¦ le chien noir", "", "nothing known", "red wine ¦ vin rouge", ""]
    assert err == "2 of 4 lines have a match: similarity of the best 0.73 on average, 1.00 for 1\n"


def test_the_memory_itself(command) -> None:
    """No line is given its own translation."""
    command("match", "src", "tgt", "-o", "out")
    lines = Path("out").read_text().split("\n")
    assert lines[0] == "the red cat ¦ vin rouge ¦ le soleil"
    assert lines[2:] == ["red wine ¦ la chatte rouge", "", "the sun ¦ la chatte rouge ¦ le chien noir", ""]


def test_a_match_may_have_to_be_good(command) -> None:
    out, err = command("match", "src", "tgt", "text", "--least", "0.9")
    assert out.split("\n") == ["a red dog", "", "nothing known", "red wine ¦ vin rouge", ""]
    assert err.startswith("1 of 4 lines")


def test_nothing_is_overwritten_or_half_written(command) -> None:
    Path("out").write_text("mine\n")
    _, err = command("match", "src", "tgt", "text", "-o", "out", code=2)
    assert "out: exists already" in err
    Path("text").write_bytes(b"red\n\xff\n")
    _, err = command("match", "src", "tgt", "text", "-o", "out", "--force", code=2)
    assert "text, line 2: not UTF-8 at byte 1" in err
    Path("tgt").write_text("le chat\n")
    _, err = command("match", "src", "tgt", "-o", "out", "--force", code=2)
    assert "the files do not match: tgt has 1 lines, src has 5" in err
    Path("src").write_text("")
    Path("tgt").write_text("")
    _, err = command("match", "src", "tgt", "-o", "out", "--force", code=2)
    assert "there is nothing to find" in err
    assert Path("out").read_text() == "mine\n"
    assert sorted(path.name for path in Path().iterdir()) == ["out", "src", "text", "tgt"]
