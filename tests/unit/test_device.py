"""Where to compute: what can be named, and what a CPU is told to keep."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from nmt.device import resolve_device, resolve_precision, round_float32
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
