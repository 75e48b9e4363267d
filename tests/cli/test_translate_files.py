"""nmt translate on files: interrupted and gone on with, flags, alignments, pipes, and files of any size."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from zoo import WORDS, write_run

from nmt.align.extract import attention_maps
from nmt.config import SamplingConfig, SearchConfig
from nmt.translate import Translator

WINDOW = 4


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    search = SearchConfig(beam=3, max_source=100, max_ratio=1.0, max_extra=5)
    return write_run(tmp_path_factory.mktemp("run") / "run", "lstm-feeding", search=search).path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Eighteen lines of different lengths: some empty, one not UTF-8, with CRLF, none at the end of the last."""
    draw = random.Random(1)
    lines = [" ".join(draw.choices(WORDS, k=draw.choice([0, 1, 3, 5, 8, 13]))).encode() for _ in range(18)]
    lines[5] += b"\xff"
    path = tmp_path / "input"
    path.write_bytes(b"\r\n".join(lines))
    return path


@pytest.fixture
def windows_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nmt.translate.WINDOW", WINDOW)


class Interrupts:
    """Makes the translator raise what it is told to when it has translated so many windows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.error = 10**9, KeyboardInterrupt
        whole = Translator.translate

        def translate(translator, lines, **options):
            if not self.left:
                raise self.error
            self.left -= 1
            return whole(translator, lines, **options)

        monkeypatch.setattr(Translator, "translate", translate)


@pytest.fixture
def interrupts(monkeypatch: pytest.MonkeyPatch, windows_of_four: None) -> Interrupts:
    return Interrupts(monkeypatch)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith((".", "out")))


FORMS = [
    [],
    ["--nbest", "2"],
    ["--details", "--flag", "--nbest", "2"],
    ["--set", "search.sampling={count: 2, seed: 3}"],
]


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_going_on_gives_what_going_through_gives(
    command, run: Path, text: Path, tmp_path: Path, interrupts: Interrupts, form: list[str]
) -> None:
    """Interrupted after every number of windows, and with half a line, or half of another's records, at the end."""
    (tmp_path / "more.gz").write_bytes(gzip.compress(b"w1 w2\n\nw3\n"))
    inputs = [text, tmp_path / "more.gz"]
    command("translate", run, *inputs, "-o", tmp_path / "whole", *form)
    expected = (tmp_path / "whole").read_bytes()
    for windows in (1, 3, 5):
        interrupts.left = windows
        _, err = command("translate", run, *inputs, "-o", tmp_path / "out", *form, code=130)
        assert f"The first {windows * WINDOW} lines are kept: --continue goes on after them." in err
        assert leftovers(tmp_path) == ["out.partial", "out.partial.json"]
        with (tmp_path / "out.partial").open("ab") as file:
            file.write(expected[file.tell() :][: 10 * windows])  # as if killed while it wrote
        interrupts.left = 10**9
        command("translate", run, *inputs, "-o", tmp_path / "out", *form, "--continue")
        assert leftovers(tmp_path) == ["out"]
        assert (tmp_path / "out").read_bytes() == expected
        (tmp_path / "out").unlink()


def test_interrupted_again_and_again(command, run: Path, text: Path, tmp_path: Path, interrupts: Interrupts) -> None:
    expected, _ = command("translate", run, text, "--nbest", 2)
    for _ in range(4):
        interrupts.left = 1
        command("translate", run, text, "-o", tmp_path / "out", "--nbest", 2, "--continue", code=130)
    command("translate", run, text, "-o", tmp_path / "out", "--nbest", 2, "--continue", code=130)
    interrupts.left = 1
    command("translate", run, text, "-o", tmp_path / "out", "--nbest", 2, "--continue")
    assert (tmp_path / "out").read_text() == expected


@pytest.mark.parametrize("content", [b"", b"w1", b"w1\n", b"\n", b"\r\n\r\n"])
def test_nothing_to_go_on_with_starts(command, run: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "input").write_bytes(content)
    expected, _ = command("translate", run, tmp_path / "input")
    assert expected.count("\n") == content.count(b"\n") + (content == b"w1")
    command("translate", run, tmp_path / "input", "-o", tmp_path / "out", "--continue")
    assert (tmp_path / "out").read_text() == expected
    assert leftovers(tmp_path) == ["out"]


def test_without_a_finished_window_nothing_is_kept(
    command, run: Path, text: Path, tmp_path: Path, interrupts: Interrupts
) -> None:
    interrupts.left = 0
    _, err = command("translate", run, text, "-o", tmp_path / "out", code=130)
    assert err == ""
    assert leftovers(tmp_path) == []


def test_problems_of_the_first_part_count_in_the_end(
    command, run: Path, text: Path, tmp_path: Path, interrupts: Interrupts
) -> None:
    interrupts.left = 3
    arguments = ["translate", run, text, "-o", tmp_path / "out", "--strict", "--flag"]
    _, first = command(*arguments, code=130)
    interrupts.left = 10**9
    _, rest = command(*arguments, "--continue", code=2)
    assert "input, line 6: left empty: not UTF-8" in first
    assert "left empty" not in rest
    assert "error: 1 of the lines could not be translated" in rest
    command(*arguments, "--force", code=2)
    _, whole = command("translate", run, text, "--flag")
    assert rest.splitlines()[-2 if "error" in rest.splitlines()[-1] else -1] == whole.splitlines()[-1]


def test_an_interrupted_file_is_not_lost_by_accident(
    command, run: Path, text: Path, tmp_path: Path, interrupts: Interrupts
) -> None:
    interrupts.left = 2
    arguments = ["translate", run, text, "-o", tmp_path / "out"]
    command(*arguments, code=130)
    before = (tmp_path / "out.partial").read_bytes()
    assert len(before.splitlines()) == 2 * WINDOW
    _, err = command(*arguments, code=2)
    assert err == (
        f"error: {tmp_path}/out.partial: a translation that was interrupted\n"
        "Go on with it: --continue. Start again: --force.\n"
    )
    assert (tmp_path / "out.partial").read_bytes() == before
    interrupts.left = 10**9
    command(*arguments, "--force")
    assert leftovers(tmp_path) == ["out"]
    assert (tmp_path / "out").read_text() == command("translate", run, text)[0]


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (["--beam", "2"], "search.beam was 3, now 2"),
        (["--set", "search.length_penalty=0.5"], "search.length_penalty.alpha was 1.0, now 0.5"),
        (["--details"], "output.details was false, now true"),
        (["--nbest", "2", "--flag"], "output.nbest was 1, now 2; output.flag was false, now true"),
    ],
)
def test_other_settings_are_named(
    command, run: Path, text: Path, tmp_path: Path, interrupts: Interrupts, options: list[str], difference: str
) -> None:
    interrupts.left = 2
    arguments = ["translate", run, text, "-o", tmp_path / "out"]
    command(*arguments, code=130)
    _, err = command(*arguments, "--continue", *options, code=2)
    assert err == (
        f"error: {tmp_path}/out.partial was made in another way: {difference}\n"
        "Repeat the command as it was, or start again with --force.\n"
    )


def test_other_inputs_and_models_are_told(
    command, run: Path, text: Path, tmp_path: Path, interrupts: Interrupts
) -> None:
    interrupts.left = 2
    out = tmp_path / "out"
    command("translate", run, text, "-o", out, code=130)
    interrupts.left = 10**9
    _, err = command("translate", run, text, text, "-o", out, "--continue", code=2)
    assert f'inputs was ["{text}"], now ["{text}", "{text}"]' in err
    settings = SearchConfig(beam=3, max_source=100, max_ratio=1.0, max_extra=5)
    other = write_run(tmp_path / "other", "lstm-feeding", seed=2, search=settings).path
    _, err = command("translate", other, text, "-o", out, "--continue", code=2)
    assert "was made in another way: checkpoints was " in err
    whole = text.read_bytes()
    for changed in (whole.replace(b"w", b"v", 1), whole[:10]):
        text.write_bytes(changed)
        _, err = command("translate", run, text, "-o", out, "--continue", code=2)
        assert err == (
            f"error: {out}.partial has translations of 8 lines, and the input begins with others\n"
            "Start again with --force.\n"
        )
    text.write_bytes(whole + b"\nw1")  # what comes after may be mended
    command("translate", run, text, "-o", out, "--continue")
    assert out.read_text() == command("translate", run, text)[0]


def test_files_beside_the_partial_that_do_not_fit(
    command, run: Path, text: Path, tmp_path: Path, interrupts: Interrupts
) -> None:
    interrupts.left = 2
    arguments = ["translate", run, text, "-o", tmp_path / "out"]
    command(*arguments, code=130)
    state, partial = tmp_path / "out.partial.json", tmp_path / "out.partial"
    known, written = state.read_text(), partial.read_bytes()

    def refused(message: str, *options: str) -> None:
        """Twice with the same words, and nothing is changed."""
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        for _ in range(2):
            assert message in command(*arguments, *options, code=2)[1]
            assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before

    for cut in (0, 1, len(written) // 2, len(written) - 1):
        partial.write_bytes(written[:cut])
        refused("is shorter than out.partial.json says", "--continue")
    for place in (0, len(written) // 2, len(written) - 1):
        partial.write_bytes(written[:place] + b"\0" + written[place + 1 :] + b"more")
        refused("out.partial has been changed: it is not what out.partial.json says", "--continue")
    partial.write_bytes(written + b"w1 w")
    lines = text.read_bytes()
    text.write_bytes(b"w1\n" + lines)
    refused("the input begins with others", "--continue")
    refused("search.beam was 3, now 2", "--continue", "--beam", "2")
    text.write_bytes(lines)
    entries = json.loads(known)
    damages = [{**entries, "more": 1}, {**entries, "lines": "8"}, {**entries, "bytes": -1}, {**entries, "made_by": 5}]
    for damage in (known[:20], "{}", *map(json.dumps, damages)):
        state.write_text(damage)
        refused("out.partial.json is damaged: ", "--continue")
    state.unlink()
    for option in ("--continue", "--force"):  # without its word on what made it, it may be anybody's
        refused("out.partial is in the way: out.partial.json, which would say what made it, is missing", option)
    (tmp_path / "stranger").write_text("of somebody else\n")
    for path in (partial, state):
        path.unlink(missing_ok=True)
        path.symlink_to(tmp_path / "stranger")
        for options in ((), ("--continue",), ("--force",)):
            refused(f"{path} is in the way: it is no file of this program", *options)
        path.unlink()
        partial.touch()
    partial.unlink()
    state.write_text("{}")
    refused("out.partial.json is in the way: it is no file of this program")
    state.write_text(known)
    interrupts.left = 10**9
    command(*arguments)


def test_an_output_of_an_earlier_version_is_gone_on_with(
    command, run: Path, text: Path, tmp_path: Path, interrupts: Interrupts
) -> None:
    """Its state does not say what the text was."""
    interrupts.left = 2
    arguments = ["translate", run, text, "-o", tmp_path / "out"]
    command(*arguments, code=130)
    state = tmp_path / "out.partial.json"
    entries = json.loads(state.read_text())
    del entries["written_sha256"]
    state.write_text(json.dumps(entries))
    interrupts.left = 10**9
    command(*arguments, "--continue")
    assert (tmp_path / "out").read_text() == command("translate", run, text)[0]


def test_where_nothing_can_be_gone_on_with(command, run: Path, text: Path, tmp_path: Path) -> None:
    _, err = command("translate", run, "-o", tmp_path / "out", "--continue", stdin=b"w1\n", code=2)
    assert err.startswith("error: --continue needs input files: standard input or a pipe cannot be read")
    _, err = command("translate", run, text, "--continue", code=2)
    assert err == "error: --continue needs an output file, not standard output\nName it with -o.\n"
    _, err = command("translate", run, text, "-o", "/dev/null", "--continue", code=2)
    assert err == "error: --continue needs an output file, not /dev/null\nName it with -o.\n"
    (tmp_path / "out").write_text("kept\n")
    _, err = command("translate", run, text, "-o", tmp_path / "out", "--continue", code=2)
    assert "exists already" in err
    _, err = command("translate", run, text, "-o", tmp_path / "new", "--continue", "--reference", text, code=2)
    assert "--continue sees only the lines that are left" in err


def test_a_dictionary_from_a_pipe_is_read_once_and_never_the_same(
    command, run: Path, text: Path, tmp_path: Path, interrupts: Interrupts
) -> None:
    os.mkfifo(tmp_path / "pipe")
    arguments = ["translate", run, text, "-o", tmp_path / "out", "--replace-unk", "--dictionary", tmp_path / "pipe"]
    for left, options, code in ((2, [], 130), (10**9, ["--continue"], 2), (10**9, ["--force"], 0)):
        interrupts.left = left
        writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"w1\tw2\n",))
        writer.start()
        _, err = command(*arguments, *options, code=code)
        writer.join()
        assert ('dictionary was "pipe ' in err) == (code == 2)
    assert leftovers(tmp_path) == ["out"]


KILLED = """
import os, signal, sys
import nmt.translate
from nmt.cli.main import run
nmt.translate.WINDOW = 4
whole, windows = nmt.translate.Translator.translate, []
def translate(translator, lines, **options):
    windows.append(len(lines))
    if len(windows) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(translator, lines, **options)
nmt.translate.Translator.translate = translate
run()
"""


def test_kill_9_keeps_all_finished_windows(
    command, run: Path, text: Path, tmp_path: Path, windows_of_four: None
) -> None:
    arguments = ["translate", run, text, "-o", tmp_path / "out"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *map(str, arguments)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert leftovers(tmp_path) == [".out.lock", "out.partial", "out.partial.json"]  # nobody holds that lock
    kept = (tmp_path / "out.partial").read_text()
    assert len(kept.splitlines()) == 3 * WINDOW
    command(*arguments, "--continue")
    written = (tmp_path / "out").read_text()
    assert written.startswith(kept)
    assert written == command("translate", run, text)[0]


def test_a_pipe_gets_each_translation_before_the_next_line_is_sent(run: Path) -> None:
    """Though a forced pass stands between; and Ctrl-C ends it while it waits for more."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nmt", "translate", run, "--details", "--flag"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    for line in (b"w1 w2\n", b"\n", b"w3\nw1\n"):
        process.stdin.write(line)
        process.stdin.flush()
        for _ in range(line.count(b"\n")):
            assert process.stdout.readline().endswith(b"\n")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    assert b"Fatal" not in err


def test_details_name_file_and_line(command, run: Path, text: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").touch()
    (tmp_path / "two").write_text("w1\n\n")
    inputs = [tmp_path / "two", tmp_path / "nothing", text]
    records = [json.loads(line) for line in command("translate", run, *inputs, "--details")[0].splitlines()]
    expected = [(str(tmp_path / "two"), 1), (str(tmp_path / "two"), 2), *((str(text), n) for n in range(1, 19))]
    assert [(record["file"], record["line"]) for record in records] == expected


@pytest.mark.parametrize("name", ["lstm-feeding", "bahdanau", "transformer", "copy-transformer", "coverage-heads"])
def test_alignment_is_the_largest_weight_of_the_forced_pass(command, tmp_path: Path, text: Path, name: str) -> None:
    """Against the maps that `nmt align` is made from."""
    run = write_run(tmp_path / "run", name, search=SearchConfig(beam=3, max_ratio=1.0, max_extra=5)).path
    translator = Translator.load(run)
    out, _ = command("translate", run, text, "--details", "--nbest", 2)
    links = 0
    for record in map(json.loads, out.splitlines()):
        for candidate in record["candidates"]:
            pair = (" ".join(record["source"]), candidate["text"])
            (found,) = attention_maps(translator.model, translator.tokenizers, [pair], device=translator.device,
                                      max_tokens=1000, level="pieces")  # fmt: skip
            assert [n for _, n in candidate["links"]] == list(range(len(candidate["tokens"])))
            for row, (source, _) in zip(found.weights, candidate["links"], strict=True):
                assert row[source] == pytest.approx(row.max(), abs=1e-5)
                links += 1
    assert links > 20


def test_a_model_without_attention_says_nothing_of_it(command, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "bottleneck").path
    (tmp_path / "input").write_text("w1 w2\n")
    out, _ = command("translate", run, tmp_path / "input", "--details", "--flag", "--set", "search.max_extra=2")
    record = json.loads(out)
    assert "source" not in record
    assert "uncovered source" not in record["flags"]
    assert record["candidates"]
    assert all("links" not in candidate for candidate in record["candidates"])


def test_flags_on_standard_error_are_those_of_the_details(command, run: Path, text: Path, tmp_path: Path) -> None:
    plain, err = command("translate", run, text, text, "--flag", "--set", "search.max_extra=40")
    assert plain == command("translate", run, text, text, "--set", "search.max_extra=40")[0]
    out, silent = command("translate", run, text, text, "--flag", "--details", "--set", "search.max_extra=40")
    records = [json.loads(line) for line in out.splitlines()]
    flagged = [record for record in records if record["flags"]]
    assert 0 < len(flagged) < len(records), "choose another seed"
    assert all(record["flags"] == [] for record in records if not record["candidates"])
    told = [line for line in err.splitlines() if "left empty" not in line]
    assert told == [
        *(f"{record['file']}, line {record['line']}: {', '.join(record['flags'])}" for record in flagged),
        f"{len(flagged)} of 36 lines flagged",
    ]
    assert all("left empty" in line for line in silent.splitlines())
    assert "flags" not in json.loads(command("translate", run, text, "--details")[0].splitlines()[0])


def test_samples_depend_on_the_line_and_not_on_windows(
    command, run: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = SamplingConfig(seed=5).model_dump_json()
    expected, _ = command("translate", run, text, "--set", f"search.sampling={sampling}")
    monkeypatch.setattr("nmt.translate.WINDOW", 1)
    assert command("translate", run, text, "--set", f"search.sampling={sampling}")[0] == expected


PEAK = """
import sys
from pathlib import Path
from nmt.search.hypothesis import Hypothesis
from nmt.translate import Candidate, Translator
def search(translator, tasks, settings):  # a model that repeats the source
    for task in tasks:
        tokens = [int(n) for n in task.example.src]
        text = translator.tokenizers[1].decode(tokens)
        yield [Candidate(text, Hypothesis(tokens, -1.0, -1.0 - len(tokens), [-1.0] * (len(tokens) + 1)), ())]
Translator._translate_batch = search
from nmt.cli.main import run
try:
    run()
finally:
    # Not ru_maxrss: on Linux a new program inherits there what the one that started it had.
    status = Path("/proc/self/status").read_text().splitlines()
    print(next(line.split()[1] for line in status if line.startswith("VmHWM:")), file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
@pytest.mark.parametrize(("options", "counts"), [([], (100_000, 1_000_000)), (["--details"], (10_000, 40_000))])
def test_memory_does_not_grow_with_the_file(
    run: Path, tmp_path: Path, options: list[str], counts: tuple[int, int]
) -> None:
    """Many times the lines, one and a fifth times the memory at most; and each line its own translation.

    With details it is fewer lines: their forced pass, unlike search here, is the model's."""
    draw = random.Random(1)
    part = "".join(" ".join(draw.choices(WORDS, k=draw.randint(0, 20))) + "\n" for _ in range(10_000))
    peaks = []
    for count in counts:
        (tmp_path / "input").write_text(part * (count // 10_000))
        arguments = ["translate", run, tmp_path / "input", "-o", tmp_path / "out", "--force", *options]
        done = subprocess.run([sys.executable, "-c", PEAK, *map(str, arguments)], stderr=subprocess.PIPE, check=False)
        assert done.returncode == 0, done.stderr.decode()
        peaks.append(int(done.stderr.split()[-1]))
        with (tmp_path / "out").open() as out, (tmp_path / "input").open() as lines:
            for line, written in zip(lines, out, strict=True):
                assert (json.loads(written)["text"] + "\n" if options else written) == line
    print("peaks in kB:", peaks)
    assert peaks[1] <= 1.2 * peaks[0], peaks
