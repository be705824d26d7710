"""Kernels' sources to libraries by g++, with a cache: the headers are precompiled, the runtime is compiled once."""

from __future__ import annotations

import getpass
import hashlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
# Shared by the workers of a test run, and by runs: the keys are made of everything that decides.
CACHE = Path(tempfile.gettempdir()) / f"pytest-of-{getpass.getuser()}" / "cuda_host"
KEEP_SECONDS = 2 * 24 * 3600.0
COMMON = (
    "-std=c++17",
    "-w",
    "-g1",
    "-gdwarf-4",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-exceptions",
    "-fno-rtti",
    "-fasynchronous-unwind-tables",
    "-U_FORTIFY_SOURCE",
)
RUNTIME = (*COMMON, "-O2")
KERNEL = (
    *COMMON, "-O1", "-fno-gnu-unique", "-fno-strict-aliasing", "-fno-stack-protector",
    "-ftrivial-auto-var-init=pattern",  # what is not initialised is a huge number, not by luck 0
    "-fsanitize=bounds,alignment,integer-divide-by-zero", "-fno-sanitize-recover=all",
)  # fmt: skip
RACECHECK = ("-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0")
# Without the C start files, and with the runtime in front, .bss is the static shared memory alone. libubsan and libtsan
# are not linked: the runtime has what g++ calls.
LINK = ("-shared", "-nostdlib", "-Wl,-z,now")


class CompileError(Exception):
    """g++ refused the source; the text is what it said."""


def compiler() -> str | None:
    """g++'s path; None where there is none. (Not what CXX names: the flags and the hooks are GCC's.)"""
    return shutil.which("g++")


@cache
def _compiler_version() -> str:
    return subprocess.run([compiler() or "g++", "--version"], capture_output=True, text=True, check=True).stdout


@cache
def _cpu_flags() -> tuple[str, ...]:
    """Fused multiply-adds where the CPU has them, as a GPU does."""
    try:
        words = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return ()
    return ("-mavx2", "-mfma") if "avx2" in words and "fma" in words else ()


@cache
def _headers() -> bytes:
    return b"".join(path.read_bytes() for path in sorted([*HERE.glob("*.hpp"), HERE / "runtime.cpp"]))


def prune() -> None:
    """Removes what lies in the cache for longer than KEEP_SECONDS."""
    for path in CACHE.glob("*"):
        try:
            if time.time() - path.stat().st_mtime > KEEP_SECONDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except FileNotFoundError:  # another worker removes it too
            pass


def library(source: str, racecheck: bool, cell: int) -> Path:
    """The shared library of a kernel's source; `cell` is the bytes racecheck watches together. Raises CompileError."""
    flags = (*KERNEL, *_cpu_flags(), *(RACECHECK if racecheck else ()))
    defines = ("-DCUDA_HOST_RACECHECK", f"-DCUDA_HOST_CELL={cell}") if racecheck else ()

    def build(target: Path) -> None:
        runtime = _cached("runtime", ".o", (RUNTIME, defines), lambda out: _compile_runtime(defines, out))
        headers = _cached("headers", "", flags, lambda out: _precompile(flags, out))
        unit = target.with_name("unit.cpp")
        unit.write_text(source)
        includes = ("-I", str(headers), "-I", str(HERE), "-include", "cuda_host.hpp")
        _run(*flags, *includes, str(runtime), str(unit), *LINK, "-lm", "-lc", "-o", str(target))

    return _cached("kernel", ".so", (source, flags, defines, LINK), build)


def _compile_runtime(defines: tuple[str, ...], out: Path) -> None:
    _run(*RUNTIME, *defines, "-c", str(HERE / "runtime.cpp"), "-o", str(out))


def _precompile(flags: tuple[str, ...], out: Path) -> None:
    """A folder with cuda_host.hpp.gch in it, which g++ takes in the header's stead if the flags are the same."""
    out.mkdir()
    _run(*flags, "-x", "c++-header", str(HERE / "cuda_host.hpp"), "-o", str(out / "cuda_host.hpp.gch"))


def _cached(name: str, suffix: str, words: object, build: Callable[[Path], None]) -> Path:
    """A file (or folder) of the cache, built first if it is not there; complete or absent, whoever else builds it."""
    key = hashlib.sha256(_headers() + repr((words, _compiler_version())).encode()).hexdigest()[:32]
    target = CACHE / f"{name}-{key}{suffix}"
    if target.exists():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        made = Path(folder, f"made{suffix}")
        build(made)
        try:
            made.rename(target)
        except OSError:  # another worker was first, with a folder
            if not target.is_dir():
                raise
    return target


def _run(*arguments: str) -> None:
    result = subprocess.run([compiler() or "g++", *arguments], capture_output=True, text=True)
    if result.returncode:
        raise CompileError(result.stderr)
