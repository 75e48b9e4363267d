"""Fixtures for all tests."""

from __future__ import annotations

import io
import os
import random
import signal
import sys
from pathlib import Path

import pytest
import torch

# The models of the tests are tiny: a second thread costs more than it gives. Commands that tests start inherit it.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
# Shells let what they start in the background ignore Ctrl-C, and so would the commands whose end by it is tested.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared corpora: NMT_SHARED_DATA, or ../shared/data beside the repository."""
    folder = Path(os.environ.get("NMT_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the shared corpora are not here ({folder}); NMT_SHARED_DATA may name another place")
    return folder


class Command:
    """Runs `nmt ARGUMENTS` in this process, as the console entry does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capfd = monkeypatch, capfd

    def __call__(self, *arguments: object, code: int = 0, stdin: bytes | None = None) -> tuple[str, str]:
        """What it wrote to standard output and standard error. It must end with `code`; `stdin` is what it reads."""
        ended, out, err = self.ending(*arguments, stdin=stdin)
        assert ended == code, err
        return out, err

    def ending(self, *arguments: object, stdin: bytes | None = None) -> tuple[int | str, str, str]:
        """Its exit code, and what it wrote to standard output and standard error."""
        from nmt.cli.main import run

        self.monkeypatch.setattr(sys, "argv", ["nmt", *map(str, arguments)])
        if stdin is not None:
            self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as caught:
            run()
        return caught.value.code or 0, *self.capfd.readouterr()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capfd)


@pytest.fixture
def reversals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with train.src and train.tgt, dev.src and dev.tgt: a few letters, and the same backwards."""
    draw = random.Random(1)
    for name, count in (("train", 60), ("dev", 8)):
        lines = [" ".join(draw.choices("abcdefgh", k=draw.randint(1, 5))) for _ in range(count)]
        (tmp_path / f"{name}.src").write_text("".join(f"{line}\n" for line in lines))
        (tmp_path / f"{name}.tgt").write_text("".join(f"{line[::-1]}\n" for line in lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path
