"""The text that is compiled for a `.cu` file and a problem: the shape as constants, then the file with its includes.

Written out in full because CuPy's disk cache takes its key from this text alone: it does not see included headers. As
`constexpr`, not as macros: a macro named N or T breaks CUDA's own headers. Pure text; nothing here needs CUDA.
"""

from __future__ import annotations

import re
from math import prod
from pathlib import Path

from convbench.devices.base import Knob
from convbench.problem import Problem

# From here on an index into x, w or y is 64 bits wide. Half of 2^31, so that the last block may count past the end.
WIDE_INDEX = 1 << 30
_INCLUDE = re.compile(r'\s*#\s*include\s*"([^"]+)"')
_PRAGMA_ONCE = re.compile(r"\s*#\s*pragma\s+once\b")


def cuda_source(path: Path, problem: Problem, **knobs: Knob) -> str:
    """The CUDA C++ of `path` for one problem, complete in itself.

    In front stand `T` (the element type), `Index` (int, or long long where an array is large), N C H W K R S P Q,
    STRIDE_H STRIDE_W PAD_H PAD_W DILATION_H DILATION_W GROUPS, and the knobs by their names: ints, and matrices as
    double, exactly. Each local include is written in where it stands, the first time; `#line` marks make the compiler's
    messages name the right file and line. Raises FileNotFoundError for a local include that is not there, ValueError
    for a knob that is named like a size and for a matrix whose rows differ in length.
    """
    sizes = constants(problem)
    for name in knobs:
        if name in sizes or name in ("T", "Index"):
            raise ValueError(f"{path.name}: a knob cannot be called {name}, the shape has that name")
    index = "long long" if largest_array(problem) >= WIDE_INDEX else "int"
    lines = [f"using T = {problem.number.c_type};", f"using Index = {index};"]
    lines += [constant(name, value) for name, value in (sizes | knobs).items()]
    return "\n".join(lines + _written_in(path, set())) + "\n"


def constant(name: str, value: Knob) -> str:
    """The definition of a knob; numbers of a matrix in hexadecimal, so that none is rounded."""
    if not isinstance(value, tuple):
        return f"[[maybe_unused]] constexpr int {name} = {value};"
    if len({len(row) for row in value}) != 1 or not value[0]:
        raise ValueError(f"{name}: rows of lengths {[len(row) for row in value]} make no matrix")
    rows = ", ".join("{" + ", ".join(float(number).hex() for number in row) + "}" for row in value)
    return f"[[maybe_unused]] __device__ constexpr double {name}[{len(value)}][{len(value[0])}] = {{{rows}}};"


def constants(problem: Problem) -> dict[str, int]:
    """The sizes a kernel knows, by the names it knows them by."""
    s = problem.shape
    sizes = {"N": s.n, "C": s.c, "H": s.h, "W": s.w, "K": s.k, "R": s.r, "S": s.s, "P": s.p, "Q": s.q}
    for name, pair in (("STRIDE", s.stride), ("PAD", s.pad), ("DILATION", s.dilation)):
        sizes |= {f"{name}_H": pair[0], f"{name}_W": pair[1]}
    return sizes | {"GROUPS": s.groups}


def largest_array(problem: Problem) -> int:
    """Elements of the largest of x, w and y."""
    s = problem.shape
    return max(prod(s.x_shape), prod(s.w_shape), prod(s.y_shape))


def _written_in(path: Path, done: set[Path]) -> list[str]:
    """The lines of `path`, local includes replaced by the files' lines; `done` holds the files that are in already."""
    done.add(path.resolve())
    lines = [f'#line 1 "{path.name}"']
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = _INCLUDE.match(line)
        if match:
            inner = path.parent / match[1]
            if not inner.is_file():
                raise FileNotFoundError(f'{path.name}, line {number}: #include "{match[1]}": there is no file {inner}')
            if inner.resolve() not in done:
                lines += _written_in(inner, done)
            lines.append(f'#line {number + 1} "{path.name}"')
        else:
            lines.append("" if _PRAGMA_ONCE.match(line) else line)
    return lines
