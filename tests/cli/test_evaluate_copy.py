"""`nmt evaluate --copy`: of translations, and of a run with random weights and a corpus of its own."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest
from zoo import WORDS, write_run

from nmt.config import Config, DataConfig, SearchConfig
from nmt.data.prepare import prepare

SRC = "pay Anna 5 %s , Anna\nhello Bert\n"
HYP = "zahle Anna 5 %s , Eva\nhallo Berta\n"
REF = "zahle Anna 5 %s , Anna\nhallo Bert\n"
HYP_FORM = ("evaluate", "--hyp", "hyp", "--ref", "ref")
RUN_FORM = ("evaluate", "run", "--src", "words", "--ref", "words", "--copy")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, `run` with its corpus in it, and `apart` with its corpus in a folder of its own."""
    folder = tmp_path_factory.mktemp("copy")
    texts = {"src": SRC, "hyp": HYP, "ref": REF, "short": "one line\n", "train": "Anna zahlt 5 , 5 , 5 , 5 , 5\n"}
    texts["words"] = "".join(f"{' '.join(WORDS[4:])}\n" for _ in range(3))
    texts["tgt"] = "".join(f"{' '.join(WORDS[4:6])} \n" for _ in range(3))
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    run = write_run(folder / "run", "lstm-feeding")
    src, tgt = str(folder / "words"), str(folder / "tgt")
    config = Config(data=DataConfig(src=src, tgt=tgt, dev_src=src, dev_tgt=tgt))
    prepare(config, folder / "run" / "data", report=lambda _: None, tokenizers=run.tokenizers())
    shutil.copytree(folder / "run" / "data", folder / "corpus")
    apart = write_run(folder / "apart", "lstm-feeding")
    data = DataConfig(prepared=str(folder / "corpus"))
    apart.replace_config(apart.config.model_copy(update={"data": data}))
    return folder


@pytest.fixture
def here(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def test_a_table_after_the_scores(command, here: Path) -> None:
    plain, _ = command(*HYP_FORM)
    out, err = command(*HYP_FORM, "--src", "src", "--copy", "--train", "train")
    assert err == ""
    assert out == plain + (
        # Two lines: drawn alone, the first has a recall of 4/5, the second of 0.
        "copied          recall           95 %  precision           95 %   right  in ref  in out\n"
        "all             0.6667  0.0000-0.8000     1.0000  1.0000-1.0000       4       6       4\n"
        "words           0.6000  0.0000-0.7500     1.0000  1.0000-1.0000       3       5       3\n"
        "unseen          0.5000  0.0000-1.0000     1.0000  1.0000-1.0000       1       2       1\n"
        "1-4             0.6667  0.6667-0.6667     1.0000  1.0000-1.0000       2       3       2\n"
        "5-19            1.0000  1.0000-1.0000     1.0000  1.0000-1.0000       1       1       1\n"
        "20-99             none                      none                      0       0       0\n"
        "100+              none                      none                      0       0       0\n"
        "numbers         1.0000  1.0000-1.0000     1.0000  1.0000-1.0000       1       1       1\n"
        "names           0.3333  0.0000-0.5000     1.0000  1.0000-1.0000       1       3       1\n"
        "placeholders    1.0000  1.0000-1.0000     1.0000  1.0000-1.0000       1       1       1\n"
        "numbers, F1     1.0000  1.0000-1.0000  1 of 1 in the reference and 1 in the output, however they are spelled\n"
        "spans           0.0000  0.0000-0.0000  0 of 1 spans of two or more source tokens that the reference has\n"
        "exactly kept    1.0000  1.0000-1.0000  1 of 1 placeholders are as often in the output as in the source\n"
        "95 %: bootstrap intervals over lines, 1,000 resamples, seed 12345\n"
    )


def test_without_training_text_it_says_why_rows_are_missing(command, here: Path) -> None:
    out, _ = command(*HYP_FORM, "--src", "src", "--copy")
    assert "\nNo rows by training frequency: no training text is named (--train FILE).\n" in out
    assert "unseen" not in out
    copied = json.loads(command(*HYP_FORM, "--src", "src", "--copy", "--json")[0])["copy"]
    assert copied["training"] is None
    assert list(copied["rows"]) == ["all", "words", "numbers", "names", "placeholders"]


def test_json(command, here: Path, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "train.gz", "wt", encoding="utf-8") as file:
        file.write("Anna zahlt 5 , 5 , 5 , 5 , 5\n")
    report = json.loads(command(*HYP_FORM, "--src", "src", "--copy", "--train", tmp_path / "train.gz", "--json")[0])
    assert [score["name"] for score in report["scores"]] == ["BLEU", "chrF", "TER"]
    copied = report["copy"]
    assert copied["training"] == str(tmp_path / "train.gz")
    assert copied["intervals"] == {"percent": 95, "of": "lines", "resamples": 1000, "seed": 12345}
    kept = {"in_source": 1, "kept": 1, "share": 1.0, "interval": [1.0, 1.0]}
    assert copied["placeholders"] == {**kept, "order": None, "order_interval": None, "pairs": 0}
    assert copied["rows"]["unseen"] == {  # %s is there, Bert is not
        "recall": 0.5,
        "recall_interval": [0.0, 1.0],
        "precision": 1.0,
        "precision_interval": [1.0, 1.0],
        "spurious": 0.0,
        "right": 1,
        "in_reference": 2,
        "in_output": 1,
    }
    assert copied["numerals"] == {"f1": 1.0, "f1_interval": [1.0, 1.0], "right": 1, "in_reference": 1, "in_output": 1}
    assert copied["spans"] == {"share": 0.0, "interval": [0.0, 0.0], "part": 0, "whole": 1}
    assert "gate" not in copied
    assert copied["rows"]["100+"]["recall"] is None
    assert "copy" not in json.loads(command(*HYP_FORM, "--json")[0])


def test_lowercase_makes_names_disappear(command, here: Path) -> None:
    options = ("--src", "src", "--copy", "--train", "train", "--lowercase", "--json")
    rows = json.loads(command(*HYP_FORM, *options)[0])["copy"]["rows"]
    assert rows["names"]["in_reference"] == 0
    assert rows["1-4"]["in_reference"] == 3  # training has Anna, which counts as anna


@pytest.mark.parametrize(("run", "corpus"), [("run", "run/data"), ("apart", "corpus")])
def test_a_run_counts_in_its_own_training_text(command, here: Path, tmp_path: Path, run: str, corpus: str) -> None:
    form = ("evaluate", run, *RUN_FORM[2:])
    out, _ = command(*form, "-o", tmp_path / "out")
    assert command("evaluate", "--hyp", tmp_path / "out", *RUN_FORM[2:], "--train", "tgt")[0] == out
    copied = json.loads(command(*form, "--json")[0])["copy"]
    assert Path(copied["training"]).resolve() == (here / corpus).resolve()
    # The two words of the training target text, three times each; all the others are unseen.
    assert copied["rows"]["1-4"]["in_reference"] == 6
    assert copied["rows"]["unseen"]["in_reference"] == 3 * (len(WORDS) - 6)
    assert copied["rows"]["all"]["in_output"] > 0
    other = json.loads(command(*form, "--train", "words", "--json")[0])["copy"]
    assert (other["training"], other["rows"]["unseen"]["in_reference"]) == ("words", 0)


def test_a_run_whose_corpus_is_gone(command, here: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "bare", "lstm-feeding")
    out, _ = command("evaluate", tmp_path / "bare", *RUN_FORM[2:])
    reason = f"the run's corpus is no longer at {tmp_path}/bare/data (--train FILE names its target text)"
    assert f"\nNo rows by training frequency: {reason}.\n" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*HYP_FORM, "--copy"), "--copy looks for words of the source, and there is no --src\nName it: --src FILE."),
        ((*HYP_FORM, "--src", "src"), "--src is for RUN, for --copy or for --worst, and there is none of them"),
        ((*HYP_FORM, "--train", "train"), "--train is for --copy, which is not there"),
        (
            (*HYP_FORM, "--src", "src", "--copy", "--ref", "ref"),
            "--copy compares with one reference, and there are 2",
        ),
        (
            (*HYP_FORM, "--src", "short", "--copy"),
            "the files do not match: hyp has 2 lines, short has 1",
        ),
        ((*HYP_FORM, "--src", "src", "--copy", "-o", "out"), "-o is for what one RUN translates, and there are none"),
        (
            (*HYP_FORM, "--src", "src", "--copy", "--train", "nowhere"),
            "nowhere: cannot be read: No such file or directory",
        ),
        ((*RUN_FORM, "--train", "nowhere"), "nowhere: cannot be read: No such file or directory"),
        ((*RUN_FORM, "--ref", "words"), "--copy compares with one reference, and there are 2"),
        (
            ("evaluate", "run", "--ref", "ref", "--copy"),
            "evaluate needs either RUN, --src and --ref, or --hyp and --ref\n"
            "nmt evaluate RUN --src F --ref F    or    nmt evaluate --hyp F --ref F",
        ),
        (
            ("evaluate", "run", "--hyp", "hyp", "--src", "src", "--ref", "ref", "--copy"),
            "--copy is of one system, and there are 2",
        ),
    ],
)
def test_what_is_refused(command, here: Path, arguments: tuple[str, ...], message: str) -> None:
    assert command(*arguments, code=2) == ("", f"error: {message}\n")


def test_a_damaged_corpus_is_noticed_before_translating(command, here: Path, tmp_path: Path) -> None:
    shutil.copytree(here / "run", tmp_path / "run")
    (tmp_path / "run" / "data" / "train" / "tgt.text").write_bytes(b"")
    _, err = command("evaluate", tmp_path / "run", *RUN_FORM[2:], "-o", tmp_path / "out", code=2)
    assert "tgt.text: damaged: 0 bytes where" in err
    assert not (tmp_path / "out").exists()


GATES = [
    {
        "text": "zahle Anna 5 %s , Eva",
        "source": SRC.split("\n")[0].split(),
        "candidates": [
            {
                "tokens": ["zahle", "Anna", "5", "%s", ",", "Eva"],
                "outside": [1, 3],
                "gate": [1.0, 0.25, 0.5, 0.0, 0.75, 0.25, 1.0],
            }
        ],
    },
    {
        "text": "hallo Berta",
        "source": ["hello", "Bert"],
        "candidates": [{"tokens": ["hallo", "Berta"], "outside": [], "gate": [1, 1, 1]}],
    },
]
GATE_FORM = ("evaluate", "--details", "details", "--ref", "ref", "--src", "src", "--copy")


@pytest.fixture
def details(here: Path) -> Path:
    (here / "details").write_text("".join(f"{json.dumps({'problem': None, **line})}\n" for line in GATES), "utf-8")
    return here / "details"


def test_the_gate_in_details(command, here: Path, details: Path) -> None:
    """Of the details' own translations; all else is as with --hyp."""
    plain, _ = command(*HYP_FORM, "--src", "src", "--copy", "--train", "train")
    out, err = command(*GATE_FORM, "--train", "train")
    assert err == ""
    *table, foot = plain.splitlines(keepends=True)
    # Of the first line Anna has 0.75, 5 0.5, %s 1, the comma 0.25, zahle 0, Eva 0.75; of the second both words have 0.
    # The intervals are from both lines to the first alone: in the second nothing was copied.
    assert out == "".join(table) + (
        "gate             AUROC           95 % cal. error           95 %  p(copy)  elsewhere  copied  others\n"
        "unknown         0.9583  0.9375-0.9583     0.1562  0.1562-0.2083   0.8750     0.2500       2       6\n"
        "in source       0.8438  0.6875-0.8438     0.2188  0.2188-0.2917   0.6250     0.1875       4       4\n"
        "unseen          1.0000  1.0000-1.0000     0.1500  0.1500-0.2500   1.0000     0.1875       1       4\n"
        "1-4             0.8125  0.6250-0.8125     0.2083  0.2083-0.3125   0.5000     0.1875       2       4\n"
        "5-19            0.7500  0.5000-0.7500     0.2500  0.2500-0.4167   0.5000     0.1875       1       4\n"
        "20-99             none                      none                    none     0.1875       0       4\n"
        "100+              none                      none                    none     0.1875       0       4\n"
        f"{foot}"
    )
    gate = json.loads(command(*GATE_FORM, "--json")[0])["copy"]["gate"]
    assert list(gate) == ["unknown", "in source"]
    assert gate["in source"] == {
        "auroc": 13.5 / 16,
        "auroc_interval": [0.6875, 13.5 / 16],
        "calibration_error": 1.75 / 8,
        "calibration_error_interval": pytest.approx([1.75 / 8, 3.5 / 12]),
        "mean_copied": 0.625,
        "mean_others": 0.1875,
        "copied": 4,
        "others": 4,
    }


@pytest.mark.parametrize("name", ["copy", "copy-sentinel"])
def test_what_translate_says_is_what_evaluate_reads(command, here: Path, tmp_path: Path, name: str) -> None:
    write_run(tmp_path / "run", name, search=SearchConfig(max_ratio=1.0, max_extra=3), seed=3)
    (tmp_path / "src").write_text("w1 w2 Zora\n\nMia w3 Mia w9\nZora Mia Rex\n")
    records = tmp_path / "details.jsonl"
    command("translate", tmp_path / "run", tmp_path / "src", "--details", "--nbest", 2, "-o", records)
    command("translate", tmp_path / "run", tmp_path / "src", "-o", tmp_path / "hyp")
    form = ("--ref", tmp_path / "src", "--src", tmp_path / "src", "--copy", "--train", "train", "--json")
    report = json.loads(command("evaluate", "--details", records, *form)[0])
    gate = report["copy"].pop("gate")
    report["systems"][0]["system"] = str(tmp_path / "hyp")
    assert report == json.loads(command("evaluate", "--hyp", tmp_path / "hyp", *form)[0])
    written = [word for line in (tmp_path / "hyp").read_text().splitlines() for word in line.split()]
    assert gate["unknown"]["copied"] == sum(word in ("Zora", "Mia", "Rex") for word in written) > 0
    assert gate["unknown"]["copied"] + gate["unknown"]["others"] == len(written)
    assert gate["unseen"]["copied"] == gate["in source"]["copied"]  # the training text has none of these words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "--details", "details", "--ref", "ref"), "--details is for --copy, which is not there"),
        (
            (*GATE_FORM, "--hyp", "hyp"),
            "--details has translations of its own, and --hyp others\nLeave one of them out.",
        ),
        (
            ("evaluate", "run", *GATE_FORM[1:]),
            "--details has translations of its own, and RUN others\nLeave one of them out.",
        ),
        (
            ("evaluate", "--details", "hyp", *GATE_FORM[3:]),
            "hyp, line 1: not what `nmt translate --details` writes",
        ),
        (
            ("evaluate", "--details", "short", *GATE_FORM[3:]),
            "the files do not match: short has 1 lines, src has 2",
        ),
        (
            ("evaluate", "--details", "details", "--ref", "ref", "--copy"),
            "--copy looks for words of the source, and there is no --src\nName it: --src FILE.",
        ),
    ],
)
def test_details_that_are_refused(command, here: Path, details: Path, arguments: tuple[str, ...], message: str) -> None:
    assert command(*arguments, code=2) == ("", f"error: {message}\n")
