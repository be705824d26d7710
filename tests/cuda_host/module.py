"""HostModule: CUDA C++ compiled by g++ against cuda_host.hpp, with CuPy's RawModule as the model."""

from __future__ import annotations

import ctypes
import re

from cuda_host.build import CompileError, library
from cuda_host.launch import HostKernel

KERNEL = re.compile(r"__global__\b")
DYNAMIC = re.compile(
    r"extern\s+__shared__\s+(?:__align__\(\d+\)\s+|alignas\(\d+\)\s+)*"
    r"(?P<type>[\w:\s]+?)\s+(?:__align__\(\d+\)\s+)?(?P<name>\w+)\s*\[\s*\]\s*;"
)


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


def parameters_of(source: str, name: str) -> list[str]:
    """The parameters of a kernel as its source declares them."""
    text = re.sub(r"//.*|/\*.*?\*/", "", source)
    match = re.search(rf"__global__[^;{{]*\b{name}\s*\(", text)
    assert match, f"no kernel {name}"
    found, depth = [""], 0
    for letter in text[match.end() : _closing(text, match.end())]:
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if letter == "," and not depth:
            found.append("")
        else:
            found[-1] += letter
    return [" ".join(parameter.split()) for parameter in found]


def _dynamic_memory(match: re.Match[str]) -> str:
    """extern __shared__ T name[] as a pointer: within a function by value, outside one (no indent) by reference."""
    pointer = f"{match['type'].strip()}* const"
    if match.start() and match.string[match.start() - 1] != "\n":
        return f"{pointer} {match['name']} = ({pointer})cuda_host::machine.dynamic;"
    return f"{pointer}& {match['name']} = ({pointer}&)cuda_host::machine.dynamic;"


class HostModule:
    """The kernels of a source, complete in itself; `racecheck` watches every access of shared and global memory."""

    def __init__(self, source: str, racecheck: bool = False, shared_limit: int = 227 << 10) -> None:
        self.source, self.racecheck, self.shared_limit = source, racecheck, shared_limit
        bounds = kernels_of(source)
        lines = [DYNAMIC.sub(_dynamic_memory, source)]
        lines.append('#line 1 "cuda_host.hpp"')
        lines += [f"CUDA_HOST_KERNEL({name}, {threads})" for name, threads in bounds.items()]
        cell = 1 if "unsigned char" in source else 2 if "using T = unsigned short" in source else 4
        self.path = library("\n".join(lines) + "\n", racecheck, cell)
        self.library = ctypes.CDLL(str(self.path))
        self.names = tuple(bounds)
        self.static_bytes = int(self.library.cuda_host_static_bytes())

    def parameters_of(self, name: str) -> list[str]:
        """As the source declares them."""
        return parameters_of(self.source, name)

    def get_function(self, name: str) -> HostKernel:
        """A kernel by name, to be called as CuPy's: kernel(grid, block, arguments, shared_mem=0)."""
        if name not in self.names:
            raise AttributeError(f"no kernel {name}; there are {', '.join(self.names)}")
        return HostKernel(self, name)
