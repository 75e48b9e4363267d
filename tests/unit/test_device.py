"""Where to compute: what can be named, and what a CPU is told about memory."""

import platform
import subprocess
import sys

import pytest
import torch

from nmt.device import resolve_device
from nmt.errors import UserError


def test_devices_by_name():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    for name in ("gpu", "cuda:x", "cpu:0", ""):
        with pytest.raises(UserError, match="no such device"):
            resolve_device(name)


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
