"""HostModule: CUDA C++ compiled by g++ against cuda_host.hpp, with CuPy's RawModule as the model."""

from __future__ import annotations

import ctypes
import getpass
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from cuda_host.launch import HostKernel

HEADERS = Path(__file__).parent
# Compiled kernels are shared by the workers of a test run, and by runs: the key is all that decides.
CACHE = Path(tempfile.gettempdir()) / f"pytest-of-{getpass.getuser()}" / "cuda_host"
FLAGS = (
    "-std=c++17", "-O1", "-g1", "-gdwarf-4", "-w", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique",
    "-fno-strict-aliasing",
    "-U_FORTIFY_SOURCE", "-fno-stack-protector", "-fcf-protection=none",
    "-ftrivial-auto-var-init=pattern",  # what is not initialised is a huge number, not by luck 0
    "-fsanitize=bounds,alignment,integer-divide-by-zero", "-fno-sanitize-recover=all",
)  # fmt: skip
LINK_FLAGS = ("-shared", "-nostartfiles", "-Wl,-z,now")  # without the C start files .bss is the shared memory alone
RACE_FLAGS = ("-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0", "-DCUDA_HOST_RACECHECK")
KERNEL = re.compile(r"__global__\b")
DYNAMIC = re.compile(
    r"extern\s+__shared__\s+(?:__align__\(\d+\)\s+|alignas\(\d+\)\s+)*"
    r"(?P<type>[\w:\s]+?)\s+(?:__align__\(\d+\)\s+)?(?P<name>\w+)\s*\[\s*\]\s*;"
)


class CompileError(Exception):
    """g++ refused the source; the text is what it said."""


def compiler() -> str | None:
    """g++, or what CXX names; None where there is none."""
    return shutil.which(os.environ.get("CXX", "g++"))


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
    return b"".join(path.read_bytes() for path in sorted(HEADERS.glob("*.hpp")))


def kernels_of(source: str) -> dict[str, str]:
    """Each `__global__` function's name and the first of its __launch_bounds__, as written (0 where there are none)."""
    text = re.sub(r"//.*|/\*.*?\*/", "", source)
    found = {}
    for match in KERNEL.finditer(text):
        head, bounds = text[match.end() : match.end() + 1000], "0"
        if mark := re.match(r"\s*(?:void\s+)?__launch_bounds__\s*\(", head):
            end = _closing(head, mark.end())
            bounds = _first_argument(head[mark.end() : end])
            head = head[end + 1 :]
        name = re.match(r"\s*(?:void\s+)?(\w+)\s*\(", head)
        if name:
            found[name[1]] = bounds
    return found


def _closing(text: str, start: int) -> int:
    """Where the parenthesis closes that was opened before `start`."""
    depth = 1
    for i in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i
    raise CompileError(f"no closing parenthesis after {text[:60]!r}")


def _first_argument(text: str) -> str:
    depth = 0
    for i, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            return text[:i]
    return text


def _dynamic_memory(match: re.Match[str]) -> str:
    """extern __shared__ T name[] as a pointer: within a function by value, outside one (no indent) by reference."""
    pointer = f"{match['type'].strip()}* const"
    if match.start() and match.string[match.start() - 1] != "\n":
        return f"{pointer} {match['name']} = ({pointer})cuda_host::machine.dynamic;"
    return f"{pointer}& {match['name']} = ({pointer}&)cuda_host::machine.dynamic;"


class HostModule:
    """The kernels of a source, complete in itself; `racecheck` watches every access of shared and global memory."""

    def __init__(self, source: str, racecheck: bool = False, shared_limit: int = 227 << 10) -> None:
        self.racecheck, self.shared_limit = racecheck, shared_limit
        bounds = kernels_of(source)
        lines = ['#include "cuda_host.hpp"', DYNAMIC.sub(_dynamic_memory, source)]
        lines.append('#line 1 "cuda_host.hpp"')
        lines += [f"CUDA_HOST_KERNEL({name}, {threads})" for name, threads in bounds.items()]
        flags = [*FLAGS, *_cpu_flags(), *(RACE_FLAGS if racecheck else ())]
        if racecheck and re.search(r"using T = unsigned short|\bunsigned char\b", source):
            flags.append(f"-DCUDA_HOST_CELL={1 if 'unsigned char' in source else 2}")
        self.path = compiled("\n".join(lines) + "\n", tuple(flags))
        self.library = ctypes.CDLL(str(self.path))
        self.names = tuple(bounds)
        self.static_bytes = int(self.library.cuda_host_static_bytes())

    def get_function(self, name: str) -> HostKernel:
        """A kernel by name, to be called as CuPy's: kernel(grid, block, arguments, shared_mem=0)."""
        if name not in self.names:
            raise AttributeError(f"no kernel {name}; there are {', '.join(self.names)}")
        return HostKernel(self, name)


def compiled(unit: str, flags: tuple[str, ...]) -> Path:
    """The library of a translation unit, from the cache if it was compiled before. Raises CompileError."""
    words = (unit, flags, LINK_FLAGS, _compiler_version())
    key = hashlib.sha256(_headers() + repr(words).encode()).hexdigest()[:32]
    target = CACHE / f"{key}.so"
    if target.exists():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        source, thing, library = (Path(folder, name) for name in ("unit.cpp", "unit.o", "unit.so"))
        source.write_text(unit)
        command = [compiler() or "g++"]
        _run([*command, *flags, "-I", str(HEADERS), "-c", str(source), "-o", str(thing)])
        _run([*command, *LINK_FLAGS, str(thing), "-o", str(library)])  # without libubsan and libtsan: we are those
        library.replace(target)
    return target


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise CompileError(result.stderr)
