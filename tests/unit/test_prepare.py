"""From text files to a prepared folder, and every way in which that is refused."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.progress import TextColumn

import nmt.data.corpus as corpus_module
import nmt.data.prepare as prepare_module
from nmt import workers
from nmt.cli.main import load_command
from nmt.config import Config
from nmt.data.corpus import Counts
from nmt.data.loader import batches
from nmt.data.look import _progress, choose_held_out
from nmt.data.plan import Part
from nmt.data.prepare import Prepared, Source, open_prepared, prepare
from nmt.errors import UserError
from nmt.settings.load import load_config
from nmt.text.learn import learn_tokenizers

WORDS = {"kind": "words"}


class Workshop:
    """Writes text, prepares it, keeps what was reported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.reports: list[str] = []

    def write(self, name: str, lines: list[str]) -> Path:
        path = self.folder / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
        return path

    def config(self, src: Path, tgt: Path, tokenizer: dict[str, Any] = WORDS, **data: object) -> Config:
        files = {name: str(value) if isinstance(value, Path) else value for name, value in data.items()}
        return load_config(None, base={"data": {"src": str(src), "tgt": str(tgt), **files}, "tokenizer": tokenizer})

    def prepare(self, config: Config) -> Prepared:
        return prepare(config, self.out, report=self.reports.append)

    def refused(self, config: Config) -> UserError:
        """The error, which leaves nothing behind."""
        before = sorted(self.folder.iterdir())
        with pytest.raises(UserError) as caught:
            self.prepare(config)
        assert sorted(self.folder.iterdir()) == before
        return caught.value


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.fixture
def messy(shop: Workshop, shared: Path) -> Callable[..., Config]:
    def config(stem: str, **data: object) -> Config:
        return shop.config(shared / "messy" / f"{stem}.en", shared / "messy" / f"{stem}.de", **data)

    return config


def sentences(count: int, *, sources: int) -> tuple[list[str], list[str]]:
    return [f"s{n % sources} common" for n in range(count)], [f"t{n} x" for n in range(count)]


def texts(prepared: Prepared, part: str) -> list[tuple[str, str]]:
    corpus = getattr(prepared, part)
    return [corpus.text(i) for i in range(len(corpus))]


def test_two_files_become_a_prepared_folder(shop: Workshop) -> None:
    src, tgt = sentences(200, sources=200)
    prepared = shop.prepare(shop.config(shop.write("a.src", src), shop.write("a.tgt", tgt)))
    train, dev = texts(prepared, "train"), texts(prepared, "dev")
    assert len(dev) == 4
    assert sorted(train + dev) == sorted(zip(src, tgt, strict=True))
    assert train == [pair for pair in zip(src, tgt, strict=True) if pair not in dev]  # in the order of the files
    assert prepared.counts == {"train": Counts(pairs=196), "dev": Counts(pairs=4)}
    assert shop.reports == [
        "no development files: held out 4 of 200 pairs, by a hash of the source line",
        "learning the tokenizer",
        f"vocabulary: {4 + 196 + 1} source, {4 + 196 + 1} target",
        "training: 196 pairs",
        "development: 4 pairs",
    ]
    src_words, tgt_words = prepared.tokenizers
    assert prepared.train.src(0).tolist() == src_words.encode(train[0][0])
    assert prepared.train.tgt(0).tolist() == tgt_words.encode(train[0][1])


def test_the_tokenizer_sees_the_training_part_only(shop: Workshop) -> None:
    src, tgt = sentences(200, sources=200)
    prepared = shop.prepare(shop.config(shop.write("a.src", src), shop.write("a.tgt", tgt)))
    for i in range(len(prepared.dev)):
        assert prepared.dev.src(i).tolist() == [3, prepared.tokenizers[0].encode("common")[0]]
        assert prepared.dev.tgt(i)[0] == 3


def test_opening_gives_the_same(shop: Workshop) -> None:
    src, tgt = sentences(60, sources=60)
    made = shop.prepare(shop.config(shop.write("a.src", src), shop.write("a.tgt", tgt), {"kind": "sentencepiece"}))
    opened = open_prepared(shop.out)
    assert opened.counts == made.counts
    assert [opened.train.fingerprint, opened.dev.fingerprint] == [made.train.fingerprint, made.dev.fingerprint]
    assert opened.tokenizers[0] is opened.tokenizers[1]
    assert opened.tokenizers[0].encode("s1 common") == made.tokenizers[0].encode("s1 common")
    assert sorted(p.name for p in shop.out.iterdir()) == ["data.json", "dev", "tokenizer", "train"]


def test_given_development_files_and_tokenizers(shop: Workshop) -> None:
    src, tgt = sentences(50, sources=50)
    files = shop.write("a.src", src), shop.write("a.tgt", tgt)
    dev = {"dev_src": shop.write("d.src", ["one", "two " * 400]), "dev_tgt": shop.write("d.tgt", ["eins", "zwei"])}
    first = shop.prepare(shop.config(*files, **dev))
    assert len(first.train) == 50
    assert texts(first, "dev") == [("one", "eins"), ("two " * 400, "zwei")]  # of development text nothing is too long
    assert "held out" not in "".join(shop.reports)
    config = shop.config(*files, {"kind": "characters"}, **dev)
    second = prepare(config, shop.folder / "second", report=shop.reports.append, tokenizers=first.tokenizers)
    assert second.train.fingerprint == first.train.fingerprint
    assert len(open_prepared(shop.folder / "second").tokenizers[0]) == len(first.tokenizers[0])


def test_equal_source_lines_stay_together(shop: Workshop) -> None:
    src, tgt = sentences(1000, sources=250)
    lowest = sorted(set(src), key=lambda line: hashlib.sha256(line.encode()).digest()[7::-1])
    for line in lowest[:5]:
        src[src.index(line)] += " "  # white space at an end makes no other sentence
    prepared = shop.prepare(shop.config(shop.write("a.src", src), shop.write("a.tgt", tgt)))
    sides = [{src.strip() for src, _ in texts(prepared, part)} for part in ("train", "dev")]
    assert not sides[0] & sides[1]
    assert len(prepared.dev) == 20
    assert sides[1] == set(lowest[:5])


def test_how_much_is_held_out() -> None:
    def held(counts: list[int]) -> int:
        hashes = np.repeat(np.arange(len(counts), dtype=np.uint64), counts)
        return sum(counts[n] for n in choose_held_out(hashes))

    assert held([1] * 1000) == 20
    assert held([1] * 100_000) == 1000
    assert held([1, 1]) == 1
    assert held([500, 500] + [1] * 99) == 21  # the frequent lines do not fit
    assert held([5, 3, 4]) == 3  # nothing fits: the line with the fewest pairs
    assert held([7]) == 0
    assert held([]) == 0


def test_cores_change_nothing(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    src, tgt = sentences(300, sources=280)
    more = [further(shop, "b", src[:90], tgt[:90], weight=0.5, tag="<bt>")]
    config = shop.config(shop.write("a.src", [*src, " "]), shop.write("a.tgt", [*tgt, "t"]), more=more)
    monkeypatch.setattr(workers, "BLOCKS_ALONE", 2)
    monkeypatch.setattr(corpus_module, "BLOCK", 1000)
    made = []
    for cores in (1, 3):
        monkeypatch.setattr(prepare_module, "usable_cores", lambda cores=cores: cores)
        shop.out, shop.reports = shop.folder / f"by {cores}", []
        shop.prepare(config)
        files = {path.relative_to(shop.out): path.read_bytes() for path in shop.out.rglob("*") if path.is_file()}
        made.append((files, shop.reports))
    assert made[0] == made[1]
    assert len(made[0][0]) == 1 + 2 + 2 * 9


def test_an_interruption_leaves_nothing(shop: Workshop) -> None:
    src, tgt = sentences(50, sources=50)
    config = shop.config(shop.write("a.src", src), shop.write("a.tgt", tgt))
    before = sorted(shop.folder.iterdir())

    def report(line: str) -> None:
        if line.startswith("training"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(config, shop.out, report=report)
    assert sorted(shop.folder.iterdir()) == before


def test_folder_that_is_taken(shop: Workshop) -> None:
    src, tgt = sentences(50, sources=50)
    config = shop.config(shop.write("a.src", src), shop.write("a.tgt", tgt))
    shop.out.mkdir()
    shop.prepare(config)  # an empty folder is as good as none
    assert shop.refused(config).message == f"{shop.out} is not empty"
    open_prepared(shop.out)  # and it is still there
    shop.out = shop.folder / "a.src"
    assert shop.refused(config).message == f"{shop.out} is a file, not a folder"


def test_no_text_is_named(shop: Workshop) -> None:
    error = shop.refused(Config())
    assert error.message == "there is no text to prepare: data.src and data.tgt are not set"


def test_files_are_checked_first(shop: Workshop) -> None:
    error = shop.refused(shop.config(shop.folder / "no.src", shop.folder / "no.tgt"))
    assert f"data.src: no such file: {shop.folder / 'no.src'}" in error.message
    assert f"data.tgt: no such file: {shop.folder / 'no.tgt'}" in error.message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_cannot_be_read_twice(shop: Workshop) -> None:
    os.mkfifo(shop.folder / "pipe")
    error = shop.refused(shop.config(shop.folder / "pipe", shop.write("a.tgt", ["x"])))
    assert error.message == f"{shop.folder / 'pipe'} is not a plain file"


def test_too_much_is_empty(shop: Workshop) -> None:
    files = shop.write("a.src", ["a", "b", " ", "d", ""] + ["e"] * 5), shop.write("a.tgt", list("0123456789"))
    error = shop.refused(shop.config(*files))
    assert error.message == f"{files[0]} and {files[1]}: 2 of 10 pairs have an empty side, more than 10%"
    assert error.hint == "The first is line 3. Do the files belong together?"
    files = shop.write("a.src", ["a", "b", "c", "d", ""] + ["e"] * 5), shop.write("a.tgt", list("0123456789"))
    prepared = shop.prepare(shop.config(*files))  # 1 of 10 is not more than 10 %
    assert prepared.counts["train"].empty == 1
    assert any(line.endswith("left out: 1 with an empty side") for line in shop.reports)


def test_what_the_tokenizer_cannot_see_is_empty_too(shop: Workshop) -> None:
    """U+200B is no white space, but the model's normalisation removes it."""
    src, tgt = sentences(40, sources=40)
    pieces = {"kind": "sentencepiece", "normalization": "nmt_nfkc"}
    invisible = ["\u200b"] * 5
    files = shop.write("a.src", invisible + src[5:]), shop.write("a.tgt", tgt)
    error = shop.refused(shop.config(*files, pieces))
    assert error.message == f"{files[0]} and {files[1]}: 5 of 40 pairs have an empty side, more than 10%"
    assert error.hint == "The tokenizer finds no token in some of them."
    files = shop.write("a.src", invisible[:4] + src[4:]), shop.write("a.tgt", tgt)
    assert shop.prepare(shop.config(*files, pieces)).counts == {"train": Counts(35, empty=4), "dev": Counts(1)}


def test_nothing_is_left(shop: Workshop) -> None:
    empty = shop.write("0.src", []), shop.write("0.tgt", [])
    assert shop.refused(shop.config(*empty)).message == f"{empty[0]} and {empty[1]} are empty"
    long = shop.write("l.src", ["a b c", "b c d"]), shop.write("l.tgt", ["1", "2"])
    error = shop.refused(shop.config(*long, max_length=2))
    assert error.message == (
        f"{long[0]} and {long[1]}: no training pair is left: 1 longer than 2 tokens (data.max_length)"
    )
    bad = shop.folder / "b.src"
    bad.write_bytes(b"\xe9\n\xe8\n")
    error = shop.refused(shop.config(bad, long[1], bad_lines="drop"))
    assert error.message == f"{bad} and {long[1]}: no pair is left: 2 with a line that is not UTF-8"


def test_what_no_model_may_read_is_left_out_and_counted(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of development text by search.max_source; and any line that is longer than a line may be, as it is read."""
    monkeypatch.setattr("nmt.text.lines.LINE_BYTES", 1000)
    src, tgt = sentences(20, sources=20)
    train = shop.write("a.src", [*src, "x" * 2000]), shop.write("a.tgt", [*tgt, "y"])
    dev = (
        shop.write("d.src", ["s1 common", "a b c d", "s2", "x" * 2000]),
        shop.write("d.tgt", ["1", "2", "a b c d", "3"]),
    )
    config = shop.config(*train, dev_src=dev[0], dev_tgt=dev[1])
    search = config.search.model_copy(update={"max_source": 3})
    prepared = shop.prepare(config.model_copy(update={"search": search}))
    assert prepared.counts == {"train": Counts(20, too_long=1), "dev": Counts(1, too_long=3)}
    assert f"left out: {train[0]}, line 21: longer than 1,000 bytes" in shop.reports
    assert "development: 1 pair; left out: 3 longer than 3 tokens (search.max_source)" in shop.reports


def test_standard_input_is_no_file_to_learn_from(shop: Workshop) -> None:
    error = shop.refused(shop.config(Path("-"), shop.write("a.tgt", ["x"])))
    assert "data.src: standard input (-) is read but once" in error.message


def test_the_name_of_a_file_is_no_markup() -> None:
    bar = _progress()
    bar.add_task("reading: a[red]b.en")
    shown = [column for column in bar.columns if isinstance(column, TextColumn)]
    assert "a[red]b.en" in shown[0].render(bar.tasks[0]).plain


def test_the_same_file_twice_is_told(shop: Workshop) -> None:
    path = shop.write("a", sentences(20, sources=20)[0])
    shop.prepare(shop.config(path, path))
    assert f"{path} is both sides: what is learned from it is to copy" in shop.reports


def test_one_source_line_cannot_be_split(shop: Workshop, messy: Callable[..., Config], shared: Path) -> None:
    for stem in ("degenerate/all_same", "degenerate/same_src_many_tgt", "degenerate/one_pair"):
        error = shop.refused(messy(stem))
        assert error.message == (
            f"{shared / 'messy' / stem}.en: all source lines are the same, so none can be held out for development"
        )
        assert error.hint == "Give development files: --dev-src and --dev-tgt."


@pytest.mark.parametrize(
    ("stem", "short", "long"),
    [
        ("short_tgt", "de has 99", "en has 100"),
        ("missing_middle", "de has 99", "en has 100"),
        ("blank_tail", "de has 100", "en has 103"),
    ],
)
def test_unequal_counts(
    shop: Workshop, messy: Callable[..., Config], shared: Path, stem: str, short: str, long: str
) -> None:
    path = shared / "messy" / "count" / stem
    assert shop.refused(messy(f"count/{stem}")).message == (
        f"the files do not match: {path}.{short} lines, {path}.{long}"
    )


@pytest.mark.parametrize(
    ("stem", "kept", "empty"),
    [
        ("count/no_final_newline", 100, 0),
        ("count/empty_lines", 93, 7),
        ("eol/crlf", 100, 0),
        ("degenerate/copy", 100, 0),
        ("degenerate/all_unique", 300, 0),
        ("degenerate/punct_only", 3, 0),
    ],
)
def test_odd_but_good_files(shop: Workshop, messy: Callable[..., Config], stem: str, kept: int, empty: int) -> None:
    prepared = shop.prepare(messy(stem))
    assert len(prepared.train) + len(prepared.dev) == kept
    assert prepared.counts["train"].empty == empty
    assert not any("\r" in side for pair in texts(prepared, "train") for side in pair)


@pytest.mark.parametrize(("limit", "kept"), [(49, 1), (50, 2), (51, 3), (256, 8), (1025, 15)])
def test_longest_length_is_inclusive(
    shop: Workshop, messy: Callable[..., Config], shared: Path, limit: int, kept: int
) -> None:
    one = {"dev_src": shared / "messy/count/one_line.en", "dev_tgt": shared / "messy/count/one_line.de"}
    prepared = shop.prepare(messy("long/just_at_limit", max_length=limit, **one))
    assert prepared.counts["train"] == Counts(pairs=kept, too_long=15 - kept)
    assert prepared.train.src_lengths.max() == limit


def test_a_line_that_is_not_utf8(shop: Workshop, messy: Callable[..., Config]) -> None:
    assert "one_bad_line.en, line 58: not UTF-8" in shop.refused(messy("encoding/one_bad_line")).message
    prepared = shop.prepare(messy("encoding/one_bad_line", bad_lines="drop"))
    assert prepared.counts["train"].bad == 1
    assert len(prepared.train) + len(prepared.dev) == 99
    assert "one_bad_line.en, line 58: not UTF-8" in shop.reports[0]
    assert any(line.endswith("left out: 1 with a line that is not UTF-8") for line in shop.reports)


def test_folders_that_are_not_what_they_should_be(shop: Workshop) -> None:
    with pytest.raises(UserError, match="out does not exist"):
        open_prepared(shop.out)
    shop.out.mkdir()
    with pytest.raises(UserError, match=r"was not made by `nmt prepare`: it has no data\.json"):
        open_prepared(shop.out)
    shop.out.rmdir()
    src, tgt = sentences(50, sources=50)
    shop.prepare(shop.config(shop.write("a.src", src), shop.write("a.tgt", tgt)))
    (shop.out / "train").rename(shop.out / "x")
    (shop.out / "dev").rename(shop.out / "train")
    (shop.out / "x").rename(shop.out / "dev")
    with pytest.raises(UserError, match=r"out/train is not the corpus that .*data\.json speaks of"):
        open_prepared(shop.out)


def test_from_the_command_line(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    src, tgt = sentences(50, sources=50)
    files = ["--src", str(shop.write("a.src", src)), "--tgt", str(shop.write("a.tgt", tgt))]
    arguments = [*files, "-o", str(shop.out), "--set", "tokenizer.size=300"]
    load_command("prepare").main(arguments, standalone_mode=False)
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert stderr.splitlines()[-1] == f"prepared: {shop.out}"
    assert len(open_prepared(shop.out).train) == 49


# Several corpora


def further(shop: Workshop, stem: str, src: list[str], tgt: list[str], **settings: object) -> dict[str, object]:
    """An item of `data.more`, whose files are written."""
    files = {"src": str(shop.write(f"{stem}.src", src)), "tgt": str(shop.write(f"{stem}.tgt", tgt))}
    return {**files, **settings}


def test_several_corpora_become_one_with_parts(shop: Workshop) -> None:
    src, tgt = sentences(200, sources=200)
    more = [
        further(shop, "b", ["web one"] * 14 + [""], ["netz eins", "leer", "netz zwei"] * 5, weight=0.5),
        further(shop, "c", ["spoken"] * 3, ["gesagt"] * 3, weight=2, tag="<c>"),
    ]
    main = shop.write("a.src", src)
    prepared = shop.prepare(shop.config(main, shop.write("a.tgt", tgt), more=more))
    train = texts(prepared, "train")
    assert len(prepared.dev) == 4
    assert {src for src, _ in texts(prepared, "dev")} <= set(src)
    assert train[196:210] == list(zip(["web one"] * 14, (["netz eins", "leer", "netz zwei"] * 5)[:14], strict=True))
    assert train[210:] == [("<c> spoken", "gesagt")] * 3
    assert prepared.counts["train"] == Counts(pairs=213, empty=1)
    assert prepared.train.parts == (Part(196, 1.0), Part(14, 0.5), Part(3, 2.0))
    assert prepared.train.pairs_per_epoch == 196 + 7 + 6
    assert prepared.dev.parts == (Part(4, 1.0),)
    assert prepared.sources == [
        Source(str(main), str(shop.folder / "a.tgt"), 1.0, None, Counts(196)),
        Source(more[0]["src"], more[0]["tgt"], 0.5, None, Counts(14, empty=1)),
        Source(more[1]["src"], more[1]["tgt"], 2.0, "<c>", Counts(3)),
    ]
    assert shop.reports[-5:] == [
        "training: 213 pairs",
        f"  196 pairs of {main}",
        f"  14 pairs of {more[0]['src']}, weight 0.5: 7 an epoch; left out: 1 with an empty side",
        f"  3 pairs of {more[1]['src']}, weight 2: 6 an epoch, each source with <c> before it",
        "development: 4 pairs",
    ]
    opened = open_prepared(shop.out)
    assert (opened.sources, opened.train.parts) == (prepared.sources, prepared.train.parts)
    words = prepared.tokenizers[0]
    assert 3 not in words.encode("<c> web one spoken")  # learned from all of them
    assert prepared.train.src(212).tolist() == words.encode("<c> spoken")


def test_batches_have_each_pair_as_often_as_its_weight_says(shop: Workshop) -> None:
    src, tgt = sentences(60, sources=60)
    more = [further(shop, "b", [f"web{n}" for n in range(20)], ["netz"] * 20, weight=2.5, tag="<b>")]
    prepared = shop.prepare(shop.config(shop.write("a.src", src), shop.write("a.tgt", tgt), more=more))
    seen: Counter[int] = Counter()
    for _, batch in batches(prepared.train, max_tokens=60, seed=1, start=0):
        seen.update(batch.indices.tolist())
        if seen.total() >= 4 * prepared.train.pairs_per_epoch:
            break
    assert [seen[n] for n in range(79)] == [4] * 59 + [10] * 20


def test_weights_and_tags_are_part_of_the_fingerprint(shop: Workshop) -> None:
    src, tgt = sentences(60, sources=60)
    files = shop.write("a.src", src), shop.write("a.tgt", tgt)
    found = []
    for n, settings in enumerate([{}, {"weight": 1}, {"weight": 2}, {"tag": "<b>"}]):
        shop.out = shop.folder / f"out{n}"
        config = shop.config(*files, more=[further(shop, "b", ["web"] * 5, ["netz"] * 5, **settings)])
        found.append(shop.prepare(config).train.fingerprint)
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_what_is_held_out_is_nowhere_in_training(shop: Workshop) -> None:
    src, tgt = sentences(200, sources=200)
    config = shop.config(
        shop.write("a.src", src), shop.write("a.tgt", tgt), more=[further(shop, "b", src, tgt, tag="<b>")]
    )
    prepared = shop.prepare(config)
    assert len(prepared.dev) == 4
    held_out = {src for src, _ in texts(prepared, "dev")}
    assert not held_out & {src.removeprefix("<b> ") for src, _ in texts(prepared, "train")}
    assert any(line.endswith("before it; left out: 4 with a source line that is held out") for line in shop.reports)


TOKENIZERS = [
    ({"kind": "words", "size": 5}, "<bt>"),
    ({"kind": "words", "lowercase": True, "min_count": 30}, "<BT>"),
    ({"kind": "characters", "size": 5}, "◆"),
    ({"kind": "sentencepiece", "size": 300}, "<bt>"),
    ({"kind": "sentencepiece", "size": 300, "joint": False, "lowercase": True, "model": "unigram"}, "<BT>"),
    ({"kind": "sentencepiece", "size": 300, "normalization": "nmt_nfkc"}, "＜bt＞"),
    ({"kind": "sentencepiece", "size": 300, "byte_fallback": False, "normalization": "identity"}, "__de,fr__"),
]


@pytest.mark.parametrize(("tokenizer", "tag"), TOKENIZERS)
def test_a_tag_is_one_token(shop: Workshop, tokenizer: dict[str, Any], tag: str) -> None:
    src, tgt = sentences(60, sources=60)
    files = shop.write("a.src", src), shop.write("a.tgt", tgt)
    more = [further(shop, name, [f"web{name} one"], ["netz"], tag=tag) for name in "bc"]
    prepared = shop.prepare(shop.config(*files, tokenizer, more=more))
    words = prepared.tokenizers[0]
    tagged, plain = prepared.train.src(60 - 1).tolist(), words.encode("webb one")
    (mark,) = [n for n in words.encode(tag) if n > 3]
    assert tagged[0] == mark
    assert tagged[-len(plain) :] == plain
    assert len(tagged) - len(plain) == (2 if tokenizer["kind"] == "characters" else 1)  # there is a space after it
    assert mark not in words.encode("s1 common")
    saved = open_prepared(shop.out).tokenizers[0]
    assert saved.encode(f"{tag} webb one") == tagged


def test_a_tag_that_cannot_be_one_token(shop: Workshop) -> None:
    src, tgt = sentences(60, sources=60)
    files = shop.write("a.src", src), shop.write("a.tgt", tgt)
    more = [further(shop, "b", ["web"], ["netz"], tag="<bt>")]
    error = shop.refused(shop.config(*files, {"kind": "characters"}, more=more))
    assert error.message == "data.more: the tag <bt> is 4 characters, and so 4 tokens"
    assert error.hint == "With tokenizer.kind: characters take one character that the text has not, such as ◆."

    learned = shop.config(*files, {"kind": "sentencepiece", "size": 300}).tokenizer
    own = learn_tokenizers(learned, lambda: src, lambda: tgt)
    (shop.folder / "model").mkdir()
    own[0].save(shop.folder / "model", "src")
    given = {"kind": "sentencepiece", "path": str(shop.folder / "model" / "joint.model")}
    config = shop.config(*files, given, more=more)
    error = shop.refused(config)
    pieces = " ".join(piece for piece in own[0].pieces(own[0].encode("<bt>")) if piece != "▁")
    assert error.message == (f"data.more: the tag <bt> is not a token of the tokenizer, which makes it: {pieces}")
    assert error.hint is not None
    assert error.hint.startswith("A tokenizer that is learned with the corpus has it;")
    with pytest.raises(UserError, match="the tag <bt> is not a token of the tokenizer"):  # as with --init-from
        prepare(config, shop.out, report=shop.reports.append, tokenizers=own)


def test_mistakes_in_a_further_corpus_are_named_with_its_file(shop: Workshop) -> None:
    src, tgt = sentences(60, sources=60)
    files = shop.write("a.src", src), shop.write("a.tgt", tgt)
    bad = shop.folder / "bad.src"
    bad.write_bytes(b"one\nca\xe9\n")
    more = {"src": str(bad), "tgt": str(shop.write("b.tgt", ["eins", "zwei"]))}
    error = shop.refused(shop.config(*files, more=[more]))
    assert error.message.startswith(f"{bad}, line 2: not UTF-8 at byte 3 of the line (0xE9)")
    prepared = shop.prepare(shop.config(*files, more=[more], bad_lines="drop"))
    assert prepared.sources[1].counts == Counts(1, bad=1)
    assert any(line.startswith(f"left out: {bad}, line 2: not UTF-8") for line in shop.reports)
    shop.out = shop.folder / "again"
    long = [further(shop, "l", ["a b c"], ["a b c"])]
    error = shop.refused(shop.config(*files, more=long, max_length=2))
    assert error.message.endswith("l.tgt: no training pair is left: 1 longer than 2 tokens (data.max_length)")
    error = shop.refused(shop.config(*files, more=[more, {**more, "src": str(shop.folder / "absent")}]))
    assert error.message == f"data.more.2.src: no such file: {shop.folder / 'absent'}"


def test_several_corpora_from_the_command_line(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shop.folder)
    src, tgt = sentences(60, sources=60)
    further(shop, "b", ["web"], ["netz"])
    shop.write("a.src", src)
    shop.write("a.tgt", tgt)
    more = "data.more=[{src: b.src, tgt: b.tgt, tag: <bt>}]"
    arguments = ["--src", "a.src", "--tgt", "a.tgt", "-o", "out", "--set", more, "--set", "data.more.1.weight=3"]
    load_command("prepare").main([*arguments, "--set", "tokenizer.kind=words"], standalone_mode=False)
    assert f"  1 pair of {shop.folder / 'b.src'}, weight 3: 3 an epoch, each source with <bt> before it" in (
        capsys.readouterr().err.splitlines()
    )
    assert open_prepared(shop.out).train.parts == (Part(59), Part(1, 3.0))


def test_what_was_prepared_is_known_byte_for_byte(tmp_path):
    """One byte of any file, of the same size, weights and links included; and the tokenizers."""
    lines = [f"w{n % 7} w{n % 5} x{n}" for n in range(40)]
    for name, text in (("a", lines), ("b", lines[::-1]), ("l", ["0-0 1-1"] * 40)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in text))
    data = {"src": str(tmp_path / "a"), "tgt": str(tmp_path / "b"), "links": str(tmp_path / "l"),
            "more": [{"src": str(tmp_path / "a"), "tgt": str(tmp_path / "b"), "weight": 2}]}  # fmt: skip
    config = Config.model_validate({"data": data, "tokenizer": {"kind": "words"}})
    folder = tmp_path / "prepared"
    prepare(config, folder, report=lambda line: None)
    open_prepared(folder, whole=True)
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("meta.json", "data.json")]
    assert len(paths) == 2 + 2 * 10
    for path in paths:
        content = path.read_bytes()
        place = content.index(b"w") if path.suffix == ".json" else len(content) // 2
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        for _ in range(2):
            with pytest.raises(UserError) as caught:
                open_prepared(folder, whole=True)
            assert str(path.parent) in caught.value.message
        path.write_bytes(content)
    open_prepared(folder, whole=True)
    about = json.loads((folder / "data.json").read_text())
    del about["tokenizer_sha256"]  # as an earlier version left it
    (folder / "data.json").write_text(json.dumps(about))
    open_prepared(folder, whole=True)
