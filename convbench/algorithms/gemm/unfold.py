"""im2col as vector code: taps' rows of the matrix [C R S, P Q], straight from where the image lies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convbench.algorithms.fused.lines import strided
from convbench.algorithms.gemm.kernel import copy_row
from convbench.devices.base import Device
from convbench.shapes import ConvShape
from convbench.vector.build import Program, address_of
from convbench.vector.code import Code
from convbench.vector.target import Target
from convbench.vector.team import KERNEL, Fields, later, runner

FIELDS = (
    "x", "matrix", "first", "last", "table",
    "height", "width", "stride_rows", "rows", "columns",  # of x; of the output
)  # fmt: skip
TAP_BYTES = 24  # of an entry of the table: bytes from x to the tap's plane, its first row and column


def stretch(program: Program, code: Code, step: int) -> None:
    """Rows first .. last - 1 of the matrix; nothing is written beyond them, so that threads can share one."""
    place, *_ = code.arguments
    f = Fields(code, place, FIELDS)
    vectors = (f.columns + (code.lanes - 1)) // code.lanes * code.lanes  # numbers that a row in full vectors writes
    whole = f.rows * f.columns - vectors
    for t in code.range(f.first, f.last):
        entry = f.pointer("table") + t * TAP_BYTES
        plane, first_row, begin = f.pointer("x") + entry.integer(), (entry + 8).integer(), (entry + 16).integer()
        target = f.pointer("matrix") + t * f.rows * f.columns * 4
        for p in code.range(f.rows):
            row = first_row + p * f.stride_rows
            inside = code.builder.and_(row >= 0, row < f.height)
            size = code.choose(inside, f.width, 0)
            source = plane + code.choose(inside, row * f.width + begin, 0) * 4
            into = target + p * f.columns * 4
            with code.when(whole >= p * f.columns):  # what is too much is written over by the next row
                copy_row(code, source, into, begin, size, step, f.columns)
            with code.when(whole < p * f.columns):
                for i in code.range(0, f.columns, code.lanes):
                    values = strided(code, source + i * (4 * step), begin + i * step, size, step)
                    (into + i * 4).store(values, code.within(i, f.columns))


Stretch = Callable[[Any, Any, int, int, int], None]  # x of one image and group, matrix, first and last row, thread


def stretcher(s: ConvShape, device: Device, target: Target | None = None) -> Stretch:
    """A function that writes rows of the matrix on the calling thread, in float32."""
    xp = device.xp
    channels = xp.arange(s.c // s.groups)[:, None, None] * (4 * s.h * s.w)
    row = xp.arange(s.r)[:, None] * s.dilation[0] - s.pad[0]
    column = xp.arange(s.s) * s.dilation[1] - s.pad[1]
    table = xp.stack([part.ravel() for part in xp.broadcast_arrays(channels, row, column)], axis=1).astype(xp.int64)
    values = {
        "table": table.ctypes.data, "height": s.h, "width": s.w, "stride_rows": s.stride[0],
        "rows": s.p, "columns": s.q,
    }  # fmt: skip
    arguments = xp.array([[values.get(name, 0) for name in FIELDS]] * device.threads, xp.int64)
    call = later(lambda: runner(address_of(KERNEL, stretch, s.stride[1], target=target), 1))

    def write(x: Any, matrix: Any, first: int, last: int, thread: int, held: Any = table) -> None:
        arguments[thread, :4] = x.ctypes.data, matrix.ctypes.data, first, last
        call(arguments[thread].ctypes.data)

    return write
