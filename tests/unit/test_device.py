"""Where to compute: what can be named, and what a CPU is told to keep."""

import os
import platform
import subprocess
import sys

import pytest
import torch

import nmt.device
from nmt.device import Bfloat16, bfloat16_of_cpu, is_emulated, resolve_device, resolve_precision, round_float32
from nmt.errors import UserError


def test_devices_by_name():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    for name in ("gpu", "cuda:x", "cpu:0", ""):
        with pytest.raises(UserError, match="no such device"):
            resolve_device(name)


@pytest.fixture
def _rounding():
    """As PyTorch has it, before and after."""
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True


@pytest.mark.usefixtures("_rounding")
def test_float32_is_not_rounded_unless_it_may(monkeypatch):
    """Products of a GPU: PyTorch's own default lets recurrent layers round, which here is set off with the device."""
    round_float32(True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    resolve_device("cuda")
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    round_float32(True)
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32


def test_tf32_is_of_gpus():
    assert resolve_precision("tf32", torch.device("cuda")) == "tf32"
    with pytest.raises(UserError, match="precision tf32 is of NVIDIA GPUs, not of cpu"):
        resolve_precision("tf32", torch.device("cpu"))


CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("able", "transformer", "lstm"),
    [
        (Bfloat16(fast=True, lstm=True), "bfloat16", "bfloat16"),
        (Bfloat16(fast=True, lstm=False), "bfloat16", "float32"),
        (Bfloat16(fast=False, lstm=False), "float32", "float32"),
        (Bfloat16(fast=False, lstm=True), "float32", "float32"),
    ],
)
def test_precision_follows_the_processor(monkeypatch, able, transformer, lstm):
    monkeypatch.setattr(nmt.device, "bfloat16_of_cpu", lambda: able)
    assert resolve_precision("auto", CPU) == transformer
    assert resolve_precision("auto", CPU, trains_lstm=True) == lstm
    assert resolve_precision("bfloat16", CPU) == "bfloat16"  # emulated, if need be
    assert is_emulated("bfloat16", CPU) != able.fast
    assert not is_emulated("float32", CPU)
    if able.lstm:
        assert resolve_precision("bfloat16", CPU, trains_lstm=True) == "bfloat16"
    else:
        with pytest.raises(UserError, match="this processor cannot train LSTM layers in bfloat16"):
            resolve_precision("bfloat16", CPU, trains_lstm=True)


def test_what_a_processor_can_do_is_found_without_a_trace():
    """Random numbers are those that would have come, and the answer is the same where no gradients are kept."""
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with torch.inference_mode():
        found = bfloat16_of_cpu.__wrapped__()
    assert torch.equal(torch.rand(3), expected)
    assert found == bfloat16_of_cpu.__wrapped__()


def test_a_processor_without_the_instructions_is_known():
    """Told to do without them, oneDNN has no LSTM in bfloat16; that is found out, not guessed."""
    code = "from nmt.device import bfloat16_of_cpu; print(*bfloat16_of_cpu())"
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, env=environment)
    if torch.cpu.get_capabilities().get("architecture") != "x86_64" or not torch.backends.mkldnn.is_available():
        pytest.skip("oneDNN cannot be told to do without instructions here")
    assert told.stdout.split() == ["False", "False"]


PAGES = """
import resource, sys, torch
from nmt.device import resolve_device
if sys.argv[1] == "keep":
    resolve_device("cpu")
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def use():
    torch.ones(16 << 20)  # 64 MB, 16,384 pages of 4 kB, unless the system has larger ones
for _ in range(20):  # blocks that are aligned fit where they were once two of them have become one
    use()
before = faults()
for _ in range(4):
    use()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what is told to glibc only")
def test_freed_memory_is_used_again():
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", PAGES, mode], capture_output=True, check=True).stdout)
        for mode in ("keep", "leave")
    )
    assert kept * 10 < given_back


KERNELS = """
import sys, torch
from nmt.device import resolve_device
if sys.argv[1] == "keep":
    resolve_device("cpu")
factor = torch.ones(64, 64, dtype=torch.bfloat16)
for epoch in range(2):
    print("epoch", epoch, flush=True)
    for rows in range(10, 1210):  # oneDNN keeps 1,024 of itself
        torch.ones(rows, 64, dtype=torch.bfloat16) @ factor
"""


def test_kernels_for_all_shapes_of_an_epoch_are_kept():
    written = {}
    for mode in ("keep", "leave"):
        environment = {**os.environ, "ONEDNN_VERBOSE": "2", "OMP_NUM_THREADS": "1"}
        environment.pop("ONEDNN_PRIMITIVE_CACHE_CAPACITY", None)
        told = subprocess.run(
            [sys.executable, "-c", KERNELS, mode], capture_output=True, check=True, text=True, env=environment
        ).stdout
        written[mode] = [part.count("create:cache_miss") for part in told.split("epoch ")[1:]]
    if written["leave"][0] < 1200:
        pytest.skip("here oneDNN does not make these products")
    assert written["leave"][1] > 0
    assert written["keep"][1] == 0
