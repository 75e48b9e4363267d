"""Corpora by name: cards, mirror, download, checksums."""

from __future__ import annotations

import gc
import gzip
import hashlib
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from os import environ
from pathlib import Path

import pytest
from click.testing import CliRunner

from nmt.cli.fetch import Bars
from nmt.cli.main import main
from nmt.data.fetch import Fetched, cache, fetch, read_cards
from nmt.errors import UserError

SHARED = Path(environ.get("NMT_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
TEXTS = {"train.en": b"one\ntwo\n", "train.fr": "un\ndéjà\n".encode(), "val.en": b"three\n"}


class Place:
    """A card of three small files, a mirror that has them, and somewhere to put them."""

    def __init__(self, root: Path, base: str = "http://127.0.0.1:9") -> None:
        self.cards, self.mirror, self.out = root / "cards", root / "mirror", root / "out"
        self.cards.mkdir()
        (self.mirror / "toy").mkdir(parents=True, exist_ok=True)
        (self.mirror / "toy" / "train.en.gz").write_bytes(gzip.compress(TEXTS["train.en"]))
        (self.mirror / "toy" / "train.fr.gz").write_bytes(gzip.compress(TEXTS["train.fr"]))
        (self.mirror / "toy" / "val.en").write_bytes(TEXTS["val.en"])
        files = "".join(
            f"  - {{path: {name}.gz, split: {name[:-3]}, language: {name[-2:]}, lines: {len(text.splitlines())}, "
            f"sha256: {hashlib.sha256(text).hexdigest()}}}\n"
            for name, text in TEXTS.items()
        )
        (self.cards / "toy.yaml").write_text(
            f"name: toy\ntitle: A toy\nlicence: none\nbase: {base}\nmirror: toy\nfiles:\n{files}"
        )
        self.lines: list[str] = []

    def fetch(self, name: str = "toy", **options: bool) -> Fetched:
        return fetch(name, folder=self.out, cards=self.cards, report=self.lines.append, **options)

    def written(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.out.iterdir()}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path)
    monkeypatch.setenv("NMT_MIRROR", str(made.mirror))
    monkeypatch.setenv("NMT_CACHE", str(tmp_path / "cache"))
    return made


def test_files_from_a_mirror_packed_or_not(place: Place) -> None:
    fetched = place.fetch()
    assert place.written() == TEXTS
    assert fetched.folder == place.out
    assert fetched.files == tuple(place.out / name for name in TEXTS)
    assert fetched.card.title == "A toy"


def test_right_files_are_left_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.fetch()
    before = {path: path.stat().st_mtime_ns for path in place.out.iterdir()}
    monkeypatch.setenv("NMT_MIRROR", "/nowhere")
    place.lines.clear()
    place.fetch()
    assert {path: path.stat().st_mtime_ns for path in place.out.iterdir()} == before
    assert place.lines == [f"{name}: already there, checked" for name in TEXTS]


def test_a_wrong_file_in_the_cache_is_fetched_again(place: Place) -> None:
    folder = fetch("toy", cards=place.cards).folder
    assert folder == cache() / "toy"
    (folder / "val.en").write_bytes(b"cut of")
    lines: list[str] = []
    fetch("toy", cards=place.cards, report=lines.append)
    assert (folder / "val.en").read_bytes() == TEXTS["val.en"]
    assert "val.en: there, but its checksum is wrong; fetching it again" in lines


def test_a_file_of_the_users_is_replaced_only_when_asked(place: Place) -> None:
    place.out.mkdir()
    (place.out / "train.en").write_bytes(b"my own work\n")
    with pytest.raises(UserError) as caught:
        place.fetch()
    assert caught.value.message == f"{place.out / 'train.en'}: exists already with other content"
    assert "--overwrite" in str(caught.value.hint)
    assert place.written() == {"train.en": b"my own work\n"}
    place.fetch(overwrite=True)
    assert place.written() == TEXTS


def test_a_changed_file_in_the_mirror_is_refused(place: Place) -> None:
    changed = place.mirror / "toy" / "train.en.gz"
    changed.write_bytes(gzip.compress(b"one\nthree\n"))
    with pytest.raises(UserError, match=r"not the text that the card `toy` promises: its SHA-256 is ") as caught:
        place.fetch()
    assert caught.value.message.startswith(f"{changed}: ")
    assert not place.out.exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "trailing"])
def test_a_damaged_file_in_the_mirror_is_refused(place: Place, damage: str) -> None:
    damaged = place.mirror / "toy" / "train.fr.gz"
    packed = bytearray(damaged.read_bytes())
    if damage == "cut":
        del packed[-9:]
    elif damage == "flipped":
        packed[-6] ^= 1
    else:
        packed += b"garbage"
    damaged.write_bytes(packed)
    with pytest.raises(UserError) as caught:
        place.fetch()
    assert caught.value.message.startswith(f"{damaged}: damaged: ")
    assert set(place.written()) == {"train.en"}


def test_a_mirror_without_the_file(place: Place) -> None:
    (place.mirror / "toy" / "val.en").unlink()
    with pytest.raises(UserError) as caught:
        place.fetch()
    assert caught.value.message == f"neither {place.mirror}/toy/val.en.gz nor val.en exists"
    assert f"NMT_MIRROR is {place.mirror}" in str(caught.value.hint)


def test_no_network_and_no_mirror(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NMT_MIRROR")
    with pytest.raises(UserError) as caught:
        place.fetch()
    assert caught.value.message == "http://127.0.0.1:9/train.en.gz: cannot be downloaded"
    assert "set NMT_MIRROR to a folder that has the file as toy/train.en.gz" in str(caught.value.hint)
    assert not place.out.exists()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "mirror" / "toy").mkdir(parents=True)
    handler = partial(_Quiet, directory=str(tmp_path / "mirror" / "toy"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_download_with_a_progress_bar(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NMT_MIRROR", raising=False)
    place = Place(tmp_path, server)
    (tmp_path / "mirror" / "toy" / "val.en.gz").write_bytes(gzip.compress(TEXTS["val.en"]))
    bars = Bars()
    fetched = fetch("toy", folder=place.out, cards=place.cards, bar=bars.start)
    bars.close()
    assert place.written() == TEXTS
    assert len(fetched.files) == 3
    assert bars.progress is not None
    assert [task.description for task in bars.progress.tasks] == list(TEXTS)
    assert all(task.finished and task.completed == task.total for task in bars.progress.tasks)
    assert capsys.readouterr().out == ""

    (tmp_path / "mirror" / "toy" / "val.en.gz").unlink()
    (place.out / "val.en").unlink()
    with pytest.raises(UserError) as caught:
        fetch("toy", folder=place.out, cards=place.cards)
    assert caught.value.message == f"{server}/val.en.gz: cannot be downloaded"
    assert "404" in str(caught.value.hint)
    del caught
    gc.collect()  # a connection left open would be a warning here, so an error


def test_unknown_name(place: Place) -> None:
    with pytest.raises(UserError) as caught:
        place.fetch("tox")
    assert caught.value.message == "there is no corpus `tox`"
    assert caught.value.hint == "Did you mean toy?"
    with pytest.raises(UserError) as caught:
        place.fetch("qqqq")
    assert caught.value.hint == "There are: phrasebook, toy."


def test_a_card_that_is_none(place: Place) -> None:
    (place.cards / "bad.yaml").write_text("name: bad\ntitle: bad\nlicense: x\n")
    with pytest.raises(UserError) as caught:
        place.fetch()
    assert caught.value.message == (
        f"{place.cards}/bad.yaml: not a card: licence: Field required; license: Extra inputs are not permitted"
    )


def test_command_prints_the_folder_alone(tmp_path: Path) -> None:
    """And makes the corpus, at its full size, in less than five seconds."""
    out, start = tmp_path / "pb", time.process_time()
    done = CliRunner().invoke(main(), ["fetch", "phrasebook", "-o", str(out)])
    assert done.exit_code == 0
    assert done.stdout == f"{out}\n"
    assert "train.en: generated" in done.stderr
    assert "licence: CC0 1.0" in done.stderr
    assert time.process_time() - start < 10  # 3 on a quiet machine
    for split, count in (("train", 20_000), ("dev", 1_000), ("test", 1_000), ("names", 300), ("long", 300)):
        assert (out / f"{split}.en").read_bytes().count(b"\n") == count
    assert (out / "train.en").read_text("utf-8").startswith("he hit me with a pie\n")


@pytest.mark.parametrize("arguments", [["fetch"], ["fetch", "--list"]])
def test_command_lists_the_corpora_with_licences(arguments: list[str]) -> None:
    listed = CliRunner().invoke(main(), arguments).stdout
    assert "multi30k     Multi30k" in listed
    assert "licence: Research and education, non-commercial" in listed
    assert "phrasebook   An English-French-like corpus" in listed


def test_cards_are_complete() -> None:
    card = read_cards()["multi30k"]
    assert card.commit in card.base
    assert all((card.licence, card.citation, card.url, card.title))
    assert {(file.split, file.language) for file in card.files} == {
        (split, language) for split in ("train", "val", "test_2016_flickr") for language in ("en", "de", "fr", "cs")
    }
    assert all(file.path == f"{file.split}.{file.language}.gz" for file in card.files)


@pytest.mark.skipif(not (SHARED / "multi30k").is_dir(), reason=f"no copy of Multi30k in {SHARED}")
def test_multi30k_from_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMT_MIRROR", str(SHARED))
    fetched = fetch("multi30k", folder=tmp_path)
    for file, path in zip(fetched.card.files, fetched.files, strict=True):
        assert path.read_bytes().count(b"\n") == file.lines
