"""The laws on a device: what the CPU computes in float32, a GPU computes, too, and in bfloat16 nearly.

Run `pytest tests/gpu` where there is an NVIDIA GPU; elsewhere all of it is skipped. NMT_TEST_DEVICE names another
device: mps, cuda:1, or cpu to test the tests.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

import pytest
import torch

from nmt.device import resolve_device
from nmt.errors import UserError


@pytest.fixture(scope="session")
def device() -> torch.device:
    try:
        return resolve_device(os.environ.get("NMT_TEST_DEVICE", "cuda"))
    except UserError as error:
        pytest.skip(f"{error.message} (NMT_TEST_DEVICE names another)")


@pytest.fixture
def synchronisations(device: torch.device) -> Callable[[Callable[[], object]], int]:
    """How often the host waits for the device in an action, by PyTorch's own account."""
    if device.type != "cuda":
        pytest.skip("PyTorch counts synchronisations on CUDA devices only")

    def count(action: Callable[[], object]) -> int:
        torch.cuda.synchronize()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                action()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return sum("synchronizing" in str(warning.message) for warning in caught)

    return count
