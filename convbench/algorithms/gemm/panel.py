"""gemm.panel: im2col a few columns at a time, Y[:, panel] = W M[:, panel], with a panel of M that stays in cache.

The same arithmetic as gemm.im2col with little memory. On the CPU each thread stretches a panel of its own: in float32
some channels at a time, multiplied by packed filters in vector code (packed.py, kernel.py); in float64 as a whole,
multiplied by single-threaded BLAS straight into the output. On CUDA a panel is some of one image's output rows,
stretched by im2col.cu.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from convbench.algorithms.base import Algorithm, Plan
from convbench.algorithms.gemm.im2col import THREADS, fully_connected, geometry, is_unstretched, loaded, unstretched
from convbench.algorithms.gemm.split import by_cublas
from convbench.algorithms.phased import phases_of, runs
from convbench.algorithms.unit import nothing_slides
from convbench.devices.base import Device
from convbench.problem import Problem

PANEL_BYTES = 512 * 1024  # about half of the second-level cache of current CPU cores
LEAST_COLUMNS = 32  # fewer starve the matrix product
PANEL_PART = 0.25  # of the L2 cache of a GPU; the input, the filters and the product want room beside the panel


def panel_columns(problem: Problem) -> int:
    """Columns a panel: what PANEL_BYTES hold, in equal parts of the output, at least LEAST_COLUMNS."""
    s = problem.shape
    depth = s.c // s.groups * s.r * s.s
    most = max(LEAST_COLUMNS, PANEL_BYTES // (depth * problem.number.bytes))
    return -(-s.p * s.q // -(-s.p * s.q // most))


def on_cpu(problem: Problem, device: Device) -> Plan:
    """Panels of all images and groups are shared out to the device's threads: vector code in float32, else BLAS."""
    s, xp = problem.shape, device.xp
    if s.is_matrix_product:
        return fully_connected(problem, device)
    if problem.precision == "float32":
        from convbench.algorithms.gemm.packed import packed

        return packed(problem, device)
    from convbench.algorithms.gemm.stretch import stretch_panel

    channels, depth, pixels = s.c // s.groups, s.c // s.groups * s.r * s.s, s.p * s.q
    columns = panel_columns(problem)
    panels = -(-pixels // columns)
    scratch = device.empty((device.threads, depth * columns), problem.precision)
    where = geometry(problem, device)

    def run(x: Any, w: Any, y: Any) -> None:
        filters = w.reshape(s.groups, s.k // s.groups, depth)
        images = x.reshape(s.n * s.groups, channels, s.h, s.w)
        outputs = y.reshape(s.n * s.groups, s.k // s.groups, pixels)

        def one_panel(item: int, thread: int) -> None:
            image, panel = divmod(item, panels)
            first = panel * columns
            width = min(columns, pixels - first)
            matrix = scratch[thread, : depth * width].reshape(depth, width)
            stretch_panel(images[image], matrix, first, where)
            xp.matmul(filters[image % s.groups], matrix, out=outputs[image, :, first : first + width])

        device.parallel(one_panel, s.n * s.groups * panels)

    return Plan(run, workspace=scratch.nbytes, note=f"panels of {columns} columns")


def panel_rows(problem: Problem, cache_bytes: int) -> int:
    """Output rows a panel on CUDA: what PANEL_PART of the cache holds for all groups, in equal parts, at least one."""
    s = problem.shape
    row_bytes = s.c * s.r * s.s * s.q * problem.number.bytes
    most = max(1, int(cache_bytes * PANEL_PART) // row_bytes)
    return -(-s.p // -(-s.p // most))


def on_cuda(problem: Problem, device: Device) -> Plan:
    """Panels of whole output rows of one image, all groups at once: im2col.cu, and the library's product, into y."""
    s = problem.shape
    if s.is_matrix_product:
        return by_cublas(problem, device)
    if is_unstretched(s):
        return unstretched(problem, device)
    taps, k, pixels = s.c // s.groups * s.r * s.s, s.k // s.groups, s.p * s.q
    columns = panel_rows(problem, device.cache_bytes) * s.q
    module, pitch, blocks = loaded(problem, device, columns, 1, joined=False)
    stretch = module.get_function("im2col")
    matrix = device.empty((s.groups, taps, pitch), problem.storage)

    def body(x: Any, w: Any, y: Any) -> Iterator[str]:
        filters, one = w.reshape(s.groups, k, taps), device.xp.int32(1)
        for n in range(s.n):
            target = y[n].reshape(s.groups, k, pixels)
            for first in range(0, pixels, columns):
                stretch((blocks,), (THREADS,), (x[n], matrix, one, device.xp.int32(first)))
                yield "stretch"
                out = target[..., first : first + columns]
                device.matmul(filters, matrix[..., : out.shape[-1]], out)
                yield "product"

    note = f"panels of {columns // s.q} of {s.p} output rows"
    return Plan(runs(body), workspace=matrix.nbytes, note=note, flops=s.flops, phases=phases_of(body, device))


def in_pairs(problem: Problem, device: Device) -> Plan:
    """The same with products in pairs."""
    from convbench.algorithms.gemm import packed

    return packed.in_pairs(problem, device)


ALGORITHMS = [
    Algorithm(
        "gemm.panel",
        on={"cpu": on_cpu, "cuda": on_cuda},
        summary="im2col in panels that stay in cache, multiplied one by one",
    ),
    Algorithm(
        "gemm.panel.pairs",
        on={"cpu": in_pairs},
        refuses=nothing_slides,
        precisions={"cpu": ("float32",)},
        summary="gemm.panel with products in pairs: of three products two as one of sums, which adders make",
    ),
]
