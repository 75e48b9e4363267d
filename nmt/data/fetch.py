"""Public corpora by name.

A card (a YAML file in `cards/`) says where a corpus is, at which commit, under which licence, and what the SHA-256 of
each file is after decompression. Files come from the network, or from the folder that the environment variable
NMT_MIRROR names; either way they are decompressed, checked, and appear under their name only when they are right.
"""

from __future__ import annotations

import contextlib
import difflib
import gzip
import hashlib
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from nmt.data.phrasebook import write_phrasebook
from nmt.errors import UserError

CARDS = Path(__file__).parent / "cards"
CHUNK = 1 << 16


class CardFile(BaseModel):
    """One file of a corpus; what is written is `path` without .gz."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    split: str
    language: str
    lines: int
    sha256: str

    @property
    def name(self) -> str:
        return self.path.removesuffix(".gz")


class Card(BaseModel):
    """What is known about a corpus. A file's address is base/path; in a mirror it is mirror/path or without .gz."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    licence: str
    citation: str = ""
    url: str = ""
    commit: str = ""
    base: str = ""
    mirror: str = ""
    files: tuple[CardFile, ...] = ()


PHRASEBOOK = Card(
    name="phrasebook",
    title="An English-French-like corpus with gold word alignment, generated here: 20,000 / 1,000 / 1,000 pairs",
    licence="CC0 1.0",
)


class Fetched(NamedTuple):
    card: Card
    folder: Path
    files: tuple[Path, ...]


class Bar(Protocol):
    """A progress bar as pooch drives it."""

    total: int

    def update(self, count: int) -> None: ...
    def reset(self) -> None: ...
    def close(self) -> None: ...


def read_cards(folder: Path = CARDS) -> dict[str, Card]:
    """All cards by name, the generated phrasebook first."""
    cards = {PHRASEBOOK.name: PHRASEBOOK}
    for path in sorted(folder.glob("*.yaml")):
        try:
            card = Card.model_validate(YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise UserError(f"{path}: not a card: {wrong}") from error
        except YAMLError as error:
            raise UserError(f"{path}: not YAML: {error}") from error
        cards[card.name] = card
    return cards


def fetch(
    name: str,
    *,
    folder: Path | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda message: None,
    bar: Callable[[str], Bar | None] = lambda name: None,
    cards: Path = CARDS,
) -> Fetched:
    """Puts the files of a corpus into `folder`, by default its own in the user's cache (NMT_CACHE).

    Files that are there and right are left alone. One that is there and wrong is replaced in the cache; in a folder of
    the user's, only with `overwrite`. `report` gets a line per file, `bar` makes the progress bar of a download.

    Raises:
        UserError: no such corpus; no network and no mirror; a file that is not what its checksum says; a file of the
            same name and other content in `folder`.
    """
    known = read_cards(cards)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(known)}."
        raise UserError(f"there is no corpus `{name}`", hint)
    card = known[name]
    target = cache() / card.name if folder is None else folder
    replace = overwrite or folder is None
    fresh = not target.exists()
    try:
        target.mkdir(parents=True, exist_ok=True)
        # Aside, but in the same file system, so that a file appears under its name at once and complete.
        with tempfile.TemporaryDirectory(dir=target, prefix=".fetch-") as draft:
            if card is PHRASEBOOK:
                files = _generate(target, Path(draft), replace, report)
            else:
                files = tuple(_obtain(card, file, target, Path(draft), replace, report, bar) for file in card.files)
    except OSError as error:
        raise UserError(f"{error.filename or target}: {error.strerror or error}") from error
    finally:
        if fresh and target.is_dir() and not any(target.iterdir()):
            target.rmdir()
    return Fetched(card, target, files)


def cache() -> Path:
    """The folder of all fetched corpora: NMT_CACHE, or the usual place of this system."""
    import pooch

    chosen = os.environ.get("NMT_CACHE")
    return Path(chosen) if chosen else Path(pooch.os_cache("nmt"))


def _generate(target: Path, draft: Path, replace: bool, report: Callable[[str], None]) -> tuple[Path, ...]:
    written = write_phrasebook(draft)
    paths = tuple(target / path.name for path in written)
    for new, path in zip(written, paths, strict=True):
        if _there(path, _sha256(new), replace, report):
            continue
        os.replace(new, path)
        report(f"{path.name}: generated")
    return paths


def _obtain(
    card: Card,
    file: CardFile,
    target: Path,
    draft: Path,
    replace: bool,
    report: Callable[[str], None],
    bar: Callable[[str], Bar | None],
) -> Path:
    path = target / file.name
    if _there(path, file.sha256, replace, report):
        return path
    mirror = os.environ.get("NMT_MIRROR")
    raw = _in_mirror(Path(mirror), card, file) if mirror else _download(card, file, draft, bar)
    origin = str(raw) if mirror else f"{card.base}/{file.path}"
    text = draft / file.name
    try:
        _decompress(raw, text)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{origin}: damaged: {error}", "Nothing was kept; try again.") from error
    found = _sha256(text)
    if found != file.sha256:
        raise UserError(
            f"{origin}: not the text that the card `{card.name}` promises: its SHA-256 is {found}, not {file.sha256}",
            "Nothing was kept. The file is damaged or has been changed; try again or use another mirror.",
        )
    os.replace(text, path)
    report(f"{file.name}: {file.lines} lines from {origin}, checked")
    return path


def _there(path: Path, sha256: str, replace: bool, report: Callable[[str], None]) -> bool:
    """Whether the right file is there already."""
    if not path.exists():
        return False
    if path.is_file() and _sha256(path) == sha256:
        report(f"{path.name}: already there, checked")
        return True
    if not replace:
        raise UserError(
            f"{path}: exists already with other content", "Choose another folder, or replace it with --overwrite."
        )
    report(f"{path.name}: there, but its checksum is wrong; fetching it again")
    return False


def _in_mirror(mirror: Path, card: Card, file: CardFile) -> Path:
    places = (mirror / card.mirror / file.path, mirror / card.mirror / file.name)
    for place in places:
        if place.is_file():
            return place
    raise UserError(
        f"neither {places[0]} nor {places[1].name} exists",
        f"NMT_MIRROR is {mirror}: name the folder that has {card.mirror}/ in it, or unset it to download.",
    )


def _download(card: Card, file: CardFile, draft: Path, bar: Callable[[str], Bar | None]) -> Path:
    import pooch

    pooch.get_logger().setLevel("ERROR")  # it would tell users to write the checksum of the packed file into code
    url = f"{card.base}/{file.path}"
    shown = bar(file.name)
    downloader = pooch.HTTPDownloader(progressbar=shown or False, chunk_size=CHUNK, timeout=30)
    try:
        with contextlib.closing(shown) if shown is not None else contextlib.nullcontext():
            return Path(pooch.retrieve(url, None, fname=f"{file.name}.download", path=draft, downloader=downloader))
    except OSError as error:  # what `requests` raises is one, too
        response = getattr(error, "response", None)
        if response is not None:  # an answer like 404, whose connection pooch leaves open
            response.close()
        raise UserError(
            f"{url}: cannot be downloaded",
            "Without a network, set NMT_MIRROR to a folder that has the file as "
            f"{card.mirror}/{file.path} (or {file.name}). The reason: {error}",
        ) from error


def _decompress(raw: Path, text: Path) -> None:
    with raw.open("rb") as source:
        packed = source.read(2) == b"\x1f\x8b"
    with gzip.open(raw) if packed else raw.open("rb") as source, text.open("wb") as out:
        shutil.copyfileobj(source, out, CHUNK)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
