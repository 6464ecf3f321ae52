"""What this machine can do: its allocator, its number formats, its compiler, its speed."""

import ctypes
import functools
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "30000000000",
    "MALLOC_TOP_PAD_": "268435456",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""glibc returns large blocks to the system after every operation, and the page faults cost up to 1.6x."""
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def glibc() -> bool:
    """Whether the allocator is glibc's."""
    return sys.platform == "linux" and platform.libc_ver()[0] == "glibc"


def restart_with_allocator() -> None:
    """Starts this command again, with environment variables that make glibc keep the memory it has.

    Returns where that was done already, where the C library is not glibc, and where the user has set one of the
    variables. The command line calls this before it imports torch.
    """
    if not glibc() or any(name in os.environ for name in ALLOCATOR) or "REMASK_ALLOCATOR" in os.environ:
        return
    environment = {**os.environ, **ALLOCATOR, "REMASK_ALLOCATOR": "set"}
    os.execve(sys.executable, [sys.executable, "-m", "remask", *sys.argv[1:]], environment)


def keep_memory() -> None:
    """Makes glibc keep its memory, as far as that can be asked for inside a running process."""
    if glibc() and "REMASK_ALLOCATOR" not in os.environ:
        libc = ctypes.CDLL(None)
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**28)):
            libc.mallopt(option, value)


def fast_bf16(device: Any) -> bool:
    """Whether matrix products in bfloat16 are faster than in float32."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = (getattr(torch.cpu, f"_is_{name}_supported", lambda: False) for name in ("avx512_bf16", "amx_tile"))
    return any(check() for check in has)


def compiler() -> str | None:
    """The C++ compiler that torch.compile would use on a CPU; None where there is none."""
    return shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")


@functools.cache
def seconds_to_compile() -> float:
    """About how long torch.compile takes for a network on this CPU with nothing in its cache: 8 to 105 s were measured.

    Nearly all of that is the C++ compiler's work on a few dozen kernels, each of which reads torch's vector classes, so
    one such file is compiled here, and the rest is proportion: 10M took 65 times as long on the one machine where both
    were measured (benchmarks/results/small.md). Processor time counts, which other work beside does not change.
    Infinite where there is no compiler, or it fails.
    """
    import torch

    name, include = compiler(), Path(torch.__file__).parent / "include"
    if name is None:
        return math.inf
    command = [name, "-x", "c++", "-std=c++20", "-O3", "-c", "-o", os.devnull, f"-I{include}", "-"]
    before = os.times()
    source = "#include <torch/csrc/inductor/cpp_prefix.h>\n"
    if subprocess.run(command, input=source, text=True, capture_output=True, check=False).returncode:
        return math.inf
    after = os.times()
    return 65 * (after.children_user + after.children_system - before.children_user - before.children_system)


def compile_correctly() -> None:
    """Makes torch.compile leave out an optimisation of g++ whose output is wrong.

    At -O3, g++ 12 vectorises torch 2.13's transposition of two 32 x 32 blocks of bfloat16 with AVX-512 in a way that
    leaves most of them undefined: gradients of attention with heads 64 wide are nan then. Without the vectorisation of
    straight-line code they are right, and no slower. torch has no setting for more flags, so this one stands behind
    another.
    """
    from torch._inductor import config

    if "slp" not in config.cpp.enable_floating_point_contract_flag:
        config.cpp.enable_floating_point_contract_flag += " -fno-tree-slp-vectorize"


def peak(device: Any, bf16: bool, seconds: float = 0.2) -> float:
    """FLOP/s of a large matrix product: the fastest of as many as fit into `seconds`."""
    import torch

    size = 8192 if torch.device(device).type == "cuda" else 1024
    matrix = torch.randn(size, size, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until or best == float("inf"):
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        if matrix.is_cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


@contextmanager
def deterministic(device: Any) -> Iterator[None]:
    """On the CPU, compiled kernels add up in a fixed order, as eager ones do; else no run could be repeated."""
    import torch
    from torch.utils import deterministic as settings

    before = torch.are_deterministic_algorithms_enabled(), settings.fill_uninitialized_memory  # type: ignore[attr-defined]
    if torch.device(device).type == "cpu":
        torch.use_deterministic_algorithms(True)
        settings.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        settings.fill_uninitialized_memory = before[1]  # type: ignore[attr-defined]
