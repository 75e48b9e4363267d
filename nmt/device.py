"""Where to compute, and how precisely: what a machine has and what it is fast at."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import time
from collections.abc import Mapping
from typing import NamedTuple

import torch

from nmt.errors import UserError
from nmt.version import __version__

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def resolve_device(name: str) -> torch.device:
    """`auto` (the best there is), `cpu`, `cuda` (or `cuda:1`) or `mps`. UserError when this machine has no such one."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdecimal())):
        raise UserError(f"no such device: {name}", "choose auto, cpu, cuda, cuda:N or mps")
    if kind == "cuda" and not cuda:
        reason = "this PyTorch is built without CUDA" if torch.version.cuda is None else "PyTorch finds no NVIDIA GPU"
        raise UserError(f"device {name} is not available: {reason}", "use --device cpu, or auto to take what is there")
    if kind == "mps" and not mps:
        raise UserError("device mps is not available: it needs macOS on Apple silicon", "use --device cpu or auto")
    if number and int(number) >= torch.cuda.device_count():
        raise UserError(f"device {name} is not available: GPUs 0 to {torch.cuda.device_count() - 1} are there")
    if kind == "cpu":
        _keep_freed_memory()
        _keep_kernels()
    if kind == "cuda":
        round_float32(False)
    return torch.device(name)


def _keep_freed_memory() -> None:
    """Tells glibc to keep large blocks for the next tensor of their size.

    By default it gives them back to the system at once and gets new ones, whose pages are cleared one by one as they
    are touched: on two cores a seventh of the time of beam search in float32, a quarter in bfloat16.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def _keep_kernels() -> None:
    """Tells oneDNN, which makes bfloat16 products, to keep the code that it writes for each shape of a product.

    A training has the same shapes in every epoch: some thirty products of each of its batches, and writing the code for
    one takes up to 15 ms. Of itself oneDNN keeps 1,024, so that each epoch would write them all again; 29,000 captions
    in batches of 2,048 tokens have, by estimate, some 3,500. A kept one takes up to 1 MB, most of them far less. This
    is before the first product, which is when oneDNN looks; a user's own number stands.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "4096")


def round_float32(allowed: bool) -> None:
    """Whether an NVIDIA GPU may round the factors of float32 products to 10 bits of mantissa (TF32), which is several
    times as fast. PyTorch lets cuDNN's recurrent layers do so, and nothing else."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


class Bfloat16(NamedTuple):
    """What a processor can do in bfloat16. All can multiply matrices; without instructions for it that is emulated."""

    fast: bool  # its matrix products take less time than those in float32
    lstm: bool  # it can train LSTM layers


@functools.cache
def bfloat16_of_cpu() -> Bfloat16:
    """What this machine's processor can do in bfloat16, found by trying."""
    return Bfloat16(_cpu_is_fast_at_bfloat16(), _cpu_trains_lstm_in_bfloat16())


def resolve_precision(setting: str, device: torch.device, *, trains_lstm: bool = False) -> str:
    """`float32`, `tf32` or `bfloat16`: what `setting` says, or for `auto` what the device is fast at. `trains_lstm`:
    whether LSTM layers are to be trained in it. UserError for one that the device does not have."""
    if setting == "tf32" and device.type != "cuda":
        raise UserError(f"precision tf32 is of NVIDIA GPUs, not of {device}", "choose float32, bfloat16 or auto")
    lacks_lstm = device.type == "cpu" and trains_lstm and not bfloat16_of_cpu().lstm
    if setting == "bfloat16" and lacks_lstm:
        raise UserError("this processor cannot train LSTM layers in bfloat16", "choose float32 or auto")
    if setting != "auto":
        return setting
    match device.type:
        case "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        case "cpu":
            fast = bfloat16_of_cpu().fast and not lacks_lstm
        case _:
            fast = False
    return "bfloat16" if fast else "float32"


def is_emulated(precision: str, device: torch.device) -> bool:
    """Whether matrix products in `precision` are slower on the device than those in float32."""
    return precision == "bfloat16" and device.type == "cpu" and not bfloat16_of_cpu().fast


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which matrix products run in `precision`; weights and reductions stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def describe_machine(device: torch.device) -> Mapping[str, str | int]:
    """Versions and hardware, for the record of a run."""
    cpu = torch.cpu.get_capabilities().get("cpu_name", platform.processor()) or platform.machine()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    return {
        "nmt": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(device),
        "hardware": str(name),
        "threads": torch.get_num_threads(),
    }


def _cpu_is_fast_at_bfloat16() -> bool:
    """By its instructions and whether oneDNN, which makes the products, may use them; where the instructions are not
    known, by a race of about 20 ms."""
    capabilities = torch.cpu.get_capabilities()
    if capabilities.get("architecture") != "x86_64":
        return _matmul_seconds(torch.bfloat16) < 0.7 * _matmul_seconds(torch.float32)
    has_instructions = bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return has_instructions and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _cpu_trains_lstm_in_bfloat16() -> bool:
    """By a tiny layer: oneDNN's kernels for it need instructions that its matrix products do without."""
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        layer = torch.nn.LSTM(8, 8)
        try:
            with torch.autocast("cpu", torch.bfloat16):
                layer(torch.ones(1, 1, 8))[0].float().sum().backward()
        except RuntimeError:  # "could not create a primitive descriptor"
            return False
    return True


def _matmul_seconds(dtype: torch.dtype) -> float:
    matrix = torch.ones(384, 384, dtype=dtype)
    best = float("inf")
    for _ in range(5):  # the first is a warm-up
        start = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - start)
    return best
