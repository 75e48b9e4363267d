"""nmt score: a line that cannot be scored costs only itself, several runs are one, and settings mean what they say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from zoo import WORDS, ZOO, write_run

from nmt.config import GnmtPenalty, SamplingConfig, SearchConfig, SentencePieceConfig, WordsConfig
from nmt.errors import UserError
from nmt.models.build import build_model
from nmt.rundir import RunDir, check_shared
from nmt.score import score_pairs
from nmt.text.learn import learn_tokenizers
from nmt.text.tokenizer import WordTokenizer
from nmt.translate import Translator

SEARCH = SearchConfig(beam=2, max_ratio=1.0, max_extra=3, length_penalty=GnmtPenalty(), coverage_penalty=0.3)
SRC = "w1 w2\nw3 new w4\n\nw5\nw6 other new w7\n"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("score")
    write_run(folder / "rnn", "lstm-feeding", search=SEARCH)
    write_run(folder / "copy", "copy-transformer", seed=2)
    (folder / "src").write_text(SRC, "utf-8")
    return folder


@pytest.fixture(autouse=True)
def there(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)


def test_a_bad_line_costs_only_itself(command, tmp_path: Path) -> None:
    src, tgt = tmp_path / "src", tmp_path / "tgt"
    src.write_bytes(b"w1\n\n\xff\nw2 w2 w2 w2 w2\nw2\nw1\n")
    tgt.write_bytes(b"w2\nw1\nw1\nw1\n\xfe\nw2\n")
    out, err = command("score", "rnn", src, tgt, "--set", "search.max_source=4")
    lines = out.split("\n")
    assert [bool(line) for line in lines] == [True, False, False, False, False, True, False]
    assert lines[0] == lines[5]
    assert [line.replace(str(tmp_path), "") for line in err.splitlines()] == [
        "/src, line 2: left empty: the source is empty, so there is nothing to score its translation by",
        "left empty: /src, line 3: not UTF-8 at byte 1 of the line (0xFF)",
        "/src, line 4: left empty: the source has 5 tokens, more than search.max_source: 4",
        "left empty: /tgt, line 5: not UTF-8 at byte 1 of the line (0xFE)",
    ]
    out, _ = command("score", "rnn", src, tgt, "--details")
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["line"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert [record["log_prob"] is None for record in records] == [False, True, True, False, True, False]
    assert [record["problem"] is None for record in records] == [n in (1, 4, 6) for n in range(1, 7)]
    _, err = command("score", "rnn", src, tgt, "--strict", "-o", tmp_path / "out", code=2)
    assert err.splitlines()[-1] == "error: 3 of the pairs could not be scored (see above)"
    assert len((tmp_path / "out").read_text().split("\n")) == 7


@pytest.mark.parametrize("others", [(), ("copy",)])
def test_the_figures_of_translate(command, tmp_path: Path, others: tuple[str, ...]) -> None:
    """`score`, too, with a length penalty and a coverage penalty."""
    ensemble = [argument for other in others for argument in ("--ensemble", other)]
    translator = Translator.load("rnn", others=others, device="cpu")
    found = [(t.source, c) for t in translator.translate(SRC.split("\n"), nbest=2) for c in t.candidates]
    (tmp_path / "src").write_text("".join(f"{source}\n" for source, _ in found))
    (tmp_path / "tgt").write_text("".join(f"{candidate.text}\n" for _, candidate in found))
    out, _ = command("score", "rnn", tmp_path / "src", tmp_path / "tgt", "--details", *ensemble)
    for (_, (text, hypothesis, _)), line in zip(found, out.splitlines(), strict=True):
        record = json.loads(line)
        assert record["tokens"] == text.split()
        assert record["log_prob"] == pytest.approx(hypothesis.log_prob, rel=1e-5, abs=1e-5)
        assert record["score"] == pytest.approx(hypothesis.score, rel=1e-5, abs=1e-5)
        assert record["token_log_probs"] == pytest.approx(hypothesis.token_log_probs, abs=2e-5)


def test_an_ensemble_averages_probabilities(command, tmp_path: Path) -> None:
    (tmp_path / "tgt").write_text("w1 new\nw2\nw9\nw3 w4\n\n", "utf-8")
    figures = [
        [math.exp(float(line)) if line else 0.0 for line in command("score", *arguments)[0].splitlines()]
        for arguments in (
            ("rnn", "src", tmp_path / "tgt", "--ensemble", "rnn"),
            ("rnn", "src", tmp_path / "tgt"),
            ("rnn", "src", tmp_path / "tgt", "--ensemble", "copy"),
            ("copy", "src", tmp_path / "tgt", "--ensemble", "rnn"),
        )
    ]
    twice, once, mixed, turned = figures
    assert twice == pytest.approx(once, rel=1e-5)
    assert mixed == pytest.approx(turned, rel=1e-5)
    assert mixed != pytest.approx(once, rel=1e-2)


@pytest.mark.parametrize("setting", ["beam=3", "sampling.count=2", "no_unk=true", "stop=exact"])
def test_settings_that_would_change_nothing_are_refused(command, setting: str) -> None:
    _, err = command("score", "rnn", "src", "src", "--set", f"search.{setting}", code=2)
    assert err.startswith(f"error: --set search.{setting}: this changes nothing, as nothing is searched for here\n")
    assert "search.max_source" in err
    _, err = command("score", "rnn", "src", "src", "--set", "train.seed=3", code=2)
    assert "--set train.seed=3: this changes nothing" in err


def test_a_shortlist_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shortlist").write_text("\tw1 w2\nw3\tw4\n", "utf-8")
    translator = Translator.load("rnn", device="cpu", shortlist=tmp_path / "shortlist")
    with pytest.raises(UserError, match="scores are over the whole vocabulary, and a shortlist confines it"):
        score_pairs(translator, [("w1", "w2")])


def other_run(folder: Path, words: WordsConfig, tokens: list[str]) -> RunDir:
    """With another tokenizer, on both sides."""
    run = write_run(folder, "lstm")
    tokenizer = WordTokenizer(tokens, words)
    for path in (folder / "tokenizer").iterdir():
        path.unlink()
    for side in ("src", "tgt"):
        tokenizer.save(folder / "tokenizer", side)
    return run


@pytest.mark.parametrize(
    ("words", "tokens", "difference"),
    [
        (WordsConfig(), [*WORDS[:-1], "x"], "source token 18 is w14 in the first, x in the other"),
        (WordsConfig(), WORDS[:-2], "there are 19 source tokens in the first, 17 in the other"),
        (WordsConfig(lowercase=True), WORDS, "the source tokenizer has lowercase: False in the first, True in the"),
        (
            WordsConfig(joint=True),
            WORDS,
            "the tokenizer is one for each language in the first, one for both languages in the other",
        ),
    ],
)
def test_runs_of_other_vocabularies_are_refused(
    command, tmp_path: Path, words: WordsConfig, tokens: list[str], difference: str
) -> None:
    other_run(tmp_path / "other", words, tokens)
    _, err = command("score", "rnn", "src", "src", "--ensemble", tmp_path / "other", code=2)
    assert err.startswith(f"error: rnn and {tmp_path}/other do not share their vocabularies: {difference}")


def test_the_same_tokens_by_other_means_are_shared(tmp_path: Path) -> None:
    check_shared(RunDir(Path("rnn")), other_run(tmp_path / "other", WordsConfig(size=99, min_count=2), WORDS))


def test_tokens_are_scored_as_they_were_written(command, tmp_path: Path) -> None:
    """Of samples of subwords few texts are cut into the tokens that they were written in."""
    lines = ["a dog runs", "the dogs are running", "a running dog", ""]
    tokenizer, _ = learn_tokenizers(SentencePieceConfig(size=300), lambda: lines, lambda: lines)
    torch.manual_seed(1)
    translator = Translator(
        build_model(ZOO["lstm"], len(tokenizer), len(tokenizer)).eval(),
        (tokenizer, tokenizer),
        SearchConfig(sampling=SamplingConfig(), coverage_penalty=0.0),
        device=torch.device("cpu"),
    )
    found = translator.translate(lines)
    written = [h.hypothesis for t in found for h in t.candidates]
    pairs = [(t.source, t) for t in found if t.candidates]
    exact = score_pairs(
        translator, [(source, tokenizer.pieces(t.candidates[0].hypothesis.tokens)) for source, t in pairs]
    )
    again = score_pairs(translator, [(source, t.text) for source, t in pairs])
    log_probs = [h.log_prob for h in written]
    assert [score.log_prob for score in exact] == pytest.approx(log_probs, abs=1e-4)
    assert [score.log_prob for score in again] != pytest.approx(log_probs, abs=1e-1)


@pytest.mark.parametrize("run", ["rnn", "copy"])
def test_details_are_scored_as_they_were_written(command, run: str, tmp_path: Path) -> None:
    details = tmp_path / "details"
    command("translate", run, "src", "--details", "-o", details)
    expected = [json.loads(line) for line in details.read_text("utf-8").splitlines()]
    out, err = command(
        "score", run, "src", details, "--as-written", "--details", "--set", "search.coverage_penalty=0.3"
    )
    for record, line in zip(expected, out.splitlines(), strict=True):
        scored = json.loads(line)
        for candidate in record["candidates"][:1]:
            assert scored["tokens"] == candidate["tokens"]
            assert scored["log_prob"] == pytest.approx(candidate["log_prob"], abs=1e-4)
    assert err.count("left empty") == 1  # the empty line
    (tmp_path / "strange").write_text('{"candidates": [{"tokens": ["w1", "nowhere"]}]}\n' * 5, "utf-8")
    _, err = command("score", run, "src", tmp_path / "strange", "--as-written")
    assert err.count("the target vocabulary has no token 'nowhere'") == 4
    _, err = command("score", run, "src", "src", "--as-written", code=2)
    assert "src, line 1: not what `nmt translate --details` writes" in err
