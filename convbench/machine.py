"""What a row says about where it was measured: hardware, operating system, versions, commit."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from convbench._version import __version__
from convbench.devices.base import Device, NoDevice

KEPT_BYTES = 1 << 30  # blocks up to this size stay with the process when they are freed
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

# Turns of the loop in which an idle thread of GNU's OpenMP (Numba's, PyTorch's) waits before it sleeps: some tenths of
# a millisecond. Its usual 300,000 would run into the next algorithm's turn.
SPINS = "20000"


def thread_environment(count: int) -> dict[str, str]:
    """The variables that size the thread pools of every library.

    Idle threads must soon sleep: two pools that spin on the same cores cost each call a scheduler's slice. But not at
    once: to wake them takes longer than a small layer.
    """
    sizes = dict.fromkeys(THREAD_VARIABLES, str(count))
    return sizes | {
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": SPINS,
        "OPENBLAS_THREAD_TIMEOUT": "4",  # 2^4 ticks of spinning, the least OpenBLAS takes
    }


def set_threads(count: int) -> None:
    """Put them into this process's environment; must come before NumPy is imported to be sure of all pools."""
    os.environ.update(thread_environment(count))


def keep_freed_memory() -> None:
    """Let malloc keep what is freed for the next call: else glibc returns every large block to the kernel at once.

    A call that allocates its result (every call of PyTorch, SciPy's FFTs) would then pay for a page fault every 4096
    bytes of it. For all algorithms alike; without glibc, nothing.
    """
    with contextlib.suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        for name in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            library.mallopt(name, KEPT_BYTES)


def give_back_memory() -> None:
    """Return to the kernel what was kept; without glibc, nothing."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def open_device(kind: str, threads: int) -> tuple[Device, str]:
    """The device of that kind ("cpu", "cuda", or "auto": CUDA where it works), and why it was chosen.

    Raises NoDevice where "cuda" was asked for and cannot be had.
    """
    from convbench.devices.cpu import Cpu

    if kind == "cpu":
        return Cpu(threads), "asked for with --device cpu"
    from convbench.devices.cuda import cuda_device

    if kind == "cuda":
        return cuda_device(threads), "asked for with --device cuda"
    try:
        return cuda_device(threads), "found a GPU"
    except NoDevice as reason:
        return Cpu(threads), f"no GPU: {reason}"


def describe(device: Device) -> dict[str, Any]:
    """The columns of a row that say where it was measured."""
    import numpy

    facts = {
        "device": device.kind,
        "hardware": device.hardware,
        "threads": device.threads,
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "blas": blas(),
        "cupy": "",
        "cuda": "",
        "driver": "",
        "convbench": __version__,
        "commit": commit(),
    }
    if device.kind == "cuda":
        from convbench.devices.cuda import versions

        facts |= versions()
    return facts


def blas() -> str:
    """Name and version of the BLAS that NumPy calls."""
    from threadpoolctl import threadpool_info

    for library in threadpool_info():
        if library["user_api"] == "blas":
            return f"{library['internal_api']} {library['version']} {library.get('architecture', '')}".strip()
    return ""


def commit() -> str:
    """The commit of the checkout this package runs from, `+` after it where files differ.

    Outside a checkout what CONVBENCH_COMMIT says (of a copy in a container, say), or "".
    """
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return os.environ.get("CONVBENCH_COMMIT", "")

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        changed = "+" if git("status", "--porcelain", "--untracked-files=no", "--", "convbench") else ""
        return git("rev-parse", "--short=12", "HEAD") + changed
    except (OSError, subprocess.TimeoutExpired):
        return ""


def memory_available() -> int | None:
    """Bytes that can be allocated without swapping, where the system tells (Linux)."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None
