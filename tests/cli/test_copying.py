"""What a model copies, and what replaces unknown words, as commands show it. Tiny runs with random weights."""

import json
import unicodedata

import matplotlib.image
import pytest
from zoo import ZOO, write_run

from nmt.align.extract import attention_maps
from nmt.config import Config, SearchConfig, SentencePieceConfig
from nmt.models.build import build_model
from nmt.rundir import MODEL, RunDir, distinct_tensors, save_tensors
from nmt.text.learn import learn_tokenizers
from nmt.translate import Translator

LINES = ["w1 w2 Zora", "", "Mia w3 Mia w9", "w4", "Zora Mia Rex"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copying")
    search = SearchConfig(max_ratio=1.0, max_extra=3)
    for name in ("copy", "copy-transformer", "copy-sentinel", "lstm", "bottleneck", "transformer"):
        write_run(folder / name, name, search=search, seed=15 if name == "transformer" else 3)
    (folder / "src").write_text("".join(f"{line}\n" for line in LINES))
    return folder


@pytest.fixture
def call(folder, monkeypatch, command):
    monkeypatch.chdir(folder)
    return command


each_copying = pytest.mark.parametrize("run", ["copy", "copy-transformer", "copy-sentinel"])


@each_copying
def test_details_say_what_was_copied(call, run):
    out, _ = call("translate", run, "src", "--details", "--nbest", 2)
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["line"] for record in records] == [1, 2, 3, 4, 5]
    assert "source" not in records[1]  # nothing was translated
    for line, record in zip(LINES, records, strict=True):
        for candidate in record["candidates"]:
            assert record["source"] == line.split()
            assert len(candidate["gate"]) == len(candidate["copied"]) == len(candidate["tokens"]) + 1
            assert candidate["text"] == " ".join(candidate["tokens"])
            unknown = [n for n, token in enumerate(candidate["tokens"]) if token in ("Zora", "Mia", "Rex")]
            assert candidate["outside"] == unknown
            for gate, row in zip(candidate["gate"], candidate["copied"], strict=True):
                assert len(row) == len(line.split()) + 1
                assert gate + sum(row) == pytest.approx(1.0, abs=1e-3)
    copied = {token for r in records for c in r["candidates"] for token in c["tokens"]}
    assert copied & {"Zora", "Mia", "Rex"}, "a test of copying in which nothing is copied tests nothing"


@each_copying
def test_what_was_copied_has_the_score_that_search_gave_it(call, run, tmp_path):
    out, _ = call("translate", run, "src", "--details")
    found = [(line, json.loads(r)["candidates"]) for line, r in zip(LINES, out.splitlines(), strict=True) if line]
    (tmp_path / "src").write_text("".join(f"{line}\n" for line, _ in found))
    (tmp_path / "tgt").write_text("".join(f"{best['text']}\n" for _, (best, *_) in found))
    scores, _ = call("score", run, tmp_path / "src", tmp_path / "tgt", "--details")
    for (_, (best, *_)), line in zip(found, scores.splitlines(), strict=True):
        forced = json.loads(line)
        assert forced["tokens"] == best["tokens"]
        assert forced["token_log_probs"] == pytest.approx(best["token_log_probs"], abs=2e-5)


def test_models_that_do_not_copy_say_nothing_of_it(call):
    out, _ = call("translate", "lstm", "src", "--details")
    for line in out.splitlines():
        record = json.loads(line)
        assert all(candidate.keys().isdisjoint({"gate", "copied", "outside"}) for candidate in record["candidates"])


@pytest.mark.parametrize("run", ["lstm", "transformer"])
def test_unknown_words_are_replaced_by_what_they_look_at(call, folder, run):
    plain = call("translate", run, "src")[0].split("\n")
    assert any("<unk>" in line for line in plain), "choose another seed"
    replaced = call("translate", run, "src", "--replace-unk")[0].split("\n")
    translator = Translator.load(folder / run)
    pairs = list(zip(LINES, plain, strict=False))
    maps = attention_maps(translator.model, translator.tokenizers, pairs, device=translator.device, max_tokens=999)
    for line, before, after, attention in zip(LINES, plain, replaced, maps, strict=False):
        source = line.split()
        expected = [
            source[attention.weights[t].argmax()] if word == "<unk>" else word for t, word in enumerate(before.split())
        ]
        assert after.split() == expected


def test_a_dictionary_says_better(call, tmp_path):
    entries = {word: word.upper() for line in LINES for word in line.split()}
    (tmp_path / "words").write_text("".join(f"{a}\t{b}\n{a}\tlater\n" for a, b in entries.items()))
    copied = call("translate", "lstm", "src", "--replace-unk")[0].split()
    looked_up = call("translate", "lstm", "src", "--replace-unk", "--dictionary", tmp_path / "words")[0].split()
    plain = call("translate", "lstm", "src")[0].split()
    for before, one, other in zip(plain, copied, looked_up, strict=True):
        assert (one, other) == (before, before) if before != "<unk>" else other == entries[one]


def test_a_dictionary_with_entries_that_replace_nothing_is_told(call, tmp_path):
    (tmp_path / "words").write_text("good morning\tbonjour\nw1\tun\n")
    _, err = call("translate", "lstm", "src", "--replace-unk", "--dictionary", tmp_path / "words")
    assert f"{tmp_path / 'words'}: 1 of 2 entries are not one word, and replace nothing: good morning\n" in err


def test_a_dictionary_knows_a_word_however_its_letters_are_encoded(call, tmp_path):
    (tmp_path / "words").write_text(unicodedata.normalize("NFD", "é") + "\tfound\n", "utf-8")
    (tmp_path / "src").write_text("é é é\n" + unicodedata.normalize("NFD", "é é é\n"), "utf-8")
    out, _ = call("translate", "lstm", tmp_path / "src", "--replace-unk", "--dictionary", tmp_path / "words")
    assert "found" in out.split()
    assert "é" not in unicodedata.normalize("NFC", out)


def test_what_cannot_be_replaced_is_told_before_any_work(call, tmp_path):
    _, err = call("translate", "bottleneck", "src", "--replace-unk", code=2)
    assert "nothing in this model looks at the source" in err
    (tmp_path / "words").write_text("a\tb\nno tab\n")
    _, err = call("translate", "lstm", "src", "--replace-unk", "--dictionary", tmp_path / "words", code=2)
    assert f"{tmp_path / 'words'}, line 2: not a word, a tab and its translation" in err
    _, err = call("translate", "lstm", "src", "--dictionary", tmp_path / "words", code=2)
    assert "add --replace-unk" in err
    _, err = call("translate", "lstm", "src", "--replace-unk", "--dictionary", tmp_path / "none", code=2)
    assert "there is no such file" in err


def test_subwords_have_no_unknown_words_to_replace(call, tmp_path):
    """Told before anything is translated or written, with any other option."""
    said = (
        "error: --replace-unk is for words and characters, and the tokens of this run are subwords\n"
        "They spell words that training never had, so that there is no unknown word to replace.\n"
    )
    settings = SentencePieceConfig(size=30, byte_fallback=False)
    lines = [" ".join(f"w{n}" for n in range(9))] * 9
    tokenizer, _ = learn_tokenizers(settings, lambda: lines, lambda: lines)
    config = Config(tokenizer=settings, model=ZOO["lstm"])
    run = RunDir.create(tmp_path / "run", config, (tokenizer, tokenizer))
    model = build_model(config.model, len(tokenizer), len(tokenizer))
    (run.checkpoints / "step-00000001").mkdir()
    save_tensors(run.checkpoints / "step-00000001" / MODEL, distinct_tensors(model))
    run.point("best", "step-00000001")
    assert call("translate", run.path, "src")[0].count("\n") == len(LINES)
    for more in ((), ("--details",), ("--nbest", 2), ("-o", tmp_path / "out")):
        assert call("translate", run.path, "src", "--replace-unk", *more, code=2) == ("", said)
    assert not list(tmp_path.glob("out*"))


@each_copying
def test_pictures_have_a_column_for_what_was_copied(call, run, tmp_path):
    call("plot", run, "src", "--lines", "1", "-o", tmp_path / "a")
    call("plot", run, "src", "--lines", "1", "-o", tmp_path / "b", "--format", "svg")
    assert "copied" in (tmp_path / "b" / "0001.svg").read_text()
    assert matplotlib.image.imread(tmp_path / "a" / "0001.png").ndim == 3
    call("plot", "lstm", "src", "--lines", "1", "-o", tmp_path / "c", "--format", "svg")
    assert "copied" not in (tmp_path / "c" / "0001.svg").read_text()


@each_copying
def test_the_head_s_own_attention_can_be_drawn_and_written(call, run, tmp_path):
    call("plot", run, "src", "--lines", "3", "-o", tmp_path / "a", "--attention", "head.copy")
    call("align", run, "src", "--attention", "head.copy", "--format", "json", "-o", tmp_path / "maps")
    assert (tmp_path / "maps").read_text().count("\n") == len(LINES)


@pytest.mark.parametrize("rule", ["search.ban=[w1]", "search.no_repeat_words=1"])
def test_what_replaces_unknown_words_is_under_no_rule(call, rule):
    _, err = call("translate", "lstm", "src", "--replace-unk", "--set", rule, code=2)
    assert f"--replace-unk and {rule.partition('=')[0]} exclude each other" in err
