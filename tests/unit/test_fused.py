"""What `train.compile` asks of a machine and of the settings, before any work."""

from __future__ import annotations

import importlib.util
import shutil

import pytest
import torch

from nmt.errors import UserError
from nmt.settings.load import load_config
from nmt.train.fused import check_compiler


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_a_machine_that_has_what_it_takes(name, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/clang++" if name == "clang++" else None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    check_compiler(torch.device(name))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cpu", r"needs a C\+\+ compiler \(g\+\+ or clang\+\+\)"),
        ("cuda", "needs triton"),
        ("mps", "not supported on mps"),
    ],
)
def test_one_that_has_not(name, message, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=message):
        check_compiler(torch.device(name))


def test_the_compiler_that_is_named(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"\(no-such-compiler\)"):
        check_compiler(torch.device("cpu"))


def test_a_recurrent_model_has_nothing_to_compile():
    settings = ["train.compile=true", "data.src=a", "data.tgt=b"]
    with pytest.raises(UserError, match=r"train\.compile fuses the layers of a transformer"):
        load_config(None, settings)
    assert load_config(None, [*settings, "model.encoder={kind: transformer}"]).train.compile
