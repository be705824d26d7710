"""Winograd convolution by tiles: Y = A^T [ sum over c of (G g G^T) * (B^T d B) ] A, written once for NumPy and CuPy.

d is a window of (m + r - 1)^2 inputs, g a filter, * the product element by element: for each of the t^2 positions the
sum over channels is a matrix product [K x C] by [C x tiles] (Lavin & Gray, arXiv 1509.09308, algorithm 1). Filters of
more than five taps are cut into pieces; stride and dilation become phases (unit.py); both only mean more channels.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from convbench.algorithms.base import Algorithm, Plan, Unsupported
from convbench.algorithms.unit import axes, filter_pieces, nothing_slides, pad_input, put_phase, windows
from convbench.algorithms.winograd.filters import MOST_TAPS, matrices, note, transform_filters
from convbench.algorithms.winograd.transforms import LARGEST_WINDOW, transform
from convbench.devices.base import Device
from convbench.problem import Problem


def algorithm(m: int) -> Algorithm:
    """winograd.f<m>: tiles of m x m outputs."""
    return Algorithm(
        f"winograd.f{m}",
        on={
            "cpu": lambda problem, device: on_cpu(m, problem, device),
            "cuda": lambda problem, device: on_cuda(m, problem, device),
        },
        summary=f"Winograd F({m} x {m}, r x r): tiles of {m} x {m} outputs, one matrix product for each position",
    )


def short_algorithm(m: int) -> Algorithm:
    """winograd.f<m>.w24: the same with filters in 24 bits."""
    return Algorithm(
        f"winograd.f{m}.w24",
        on={"cpu": lambda problem, device: in_24_bits(m, problem, device)},
        refuses=nothing_slides,
        precisions={"cpu": ("float32",)},
        summary=f"winograd.f{m} with the transformed filters kept in 24 bits a number",
    )


def pairs_algorithm(m: int) -> Algorithm:
    """winograd.f<m>.pairs: the products in pairs."""

    def on_cpu(problem: Problem, device: Device) -> Plan:
        from convbench.algorithms.winograd import vector
        from convbench.vector.weights import EVEN_PAIRS

        return vector.plan((m, m), problem, device, EVEN_PAIRS)

    return Algorithm(
        f"winograd.f{m}.pairs",
        on={"cpu": on_cpu},
        refuses=nothing_slides,
        precisions={"cpu": ("float32",)},
        summary=f"winograd.f{m} with products in pairs: of three two as one of sums, which adders make",
    )


def split_algorithm(m: int) -> Algorithm:
    """winograd.f<m>.split3: the products on tensor cores."""

    def plan(problem: Problem, device: Device) -> Plan:
        from convbench.algorithms.halves import TERMS
        from convbench.algorithms.winograd import cuda

        if not cuda.takes(m, problem):
            raise Unsupported("its images have more numbers, or channels, than 32-bit indices and a grid can count")
        return cuda.plan(m, problem, device, TERMS)

    return Algorithm(
        f"winograd.f{m}.split3",
        on={"cuda": plan},
        refuses=nothing_slides,
        precisions={"cuda": ("float32",)},
        needs={"cuda": "tensor cores"},
        summary=f"winograd.f{m} with three products of float16 halves: float32's accuracy from tensor cores",
    )


def oblong_algorithm(m: tuple[int, int]) -> Algorithm:
    """winograd.f<m>x<n>: tiles of m x n outputs, by real points alone where the vector code has them."""
    rows, columns = m

    def on_cpu(problem: Problem, device: Device) -> Plan:
        from convbench.algorithms.winograd import vector

        return vector.plan(m, problem, device, are_real=True)

    return Algorithm(
        f"winograd.f{rows}x{columns}",
        on={"cpu": on_cpu},
        refuses=nothing_slides,
        precisions={"cpu": ("float32",)},
        summary=f"tiles of {rows} x {columns} outputs and real points alone: fewer products, larger errors",
    )


def on_cpu(m: int, problem: Problem, device: Device) -> Plan:
    """Vector code for float32; array code for float64, and where nothing slides."""
    if problem.precision != "float32" or problem.shape.is_matrix_product:
        return plan(m, problem, device)
    from convbench.algorithms.winograd import vector

    return vector.plan((m, m), problem, device)


def in_24_bits(m: int, problem: Problem, device: Device) -> Plan:
    """Vector code, a quarter less to read for each filter."""
    from convbench.algorithms.winograd import vector
    from convbench.vector.weights import FIXED24

    return vector.plan((m, m), problem, device, FIXED24)


def on_cuda(m: int, problem: Problem, device: Device) -> Plan:
    """Kernels and cuBLAS for float32; array code for float64, where nothing slides, and where ints cannot count."""
    from convbench.algorithms.winograd import cuda

    return cuda.plan(m, problem, device) if cuda.takes(m, problem) else plan(m, problem, device)


def plan(m: int, problem: Problem, device: Device) -> Plan:
    """The plan of winograd.f<m>. Images are taken in blocks whose V and M fit half of the last-level cache."""
    shape, xp, number = problem.shape, device.xp, problem.number
    rows, columns = (
        # One output an axis: F(1, r) is the plain sum, whatever r.
        replace(axis, limit=axis.taps) if axis.tile == 1 else axis
        for axis in axes(shape, (m, m), min(MOST_TAPS, LARGEST_WINDOW + 1 - m))
    )
    f_rows, f_columns = transform(rows.tile, rows.length), transform(columns.tile, columns.length)
    ath, gh, bth = matrices(xp, f_rows, problem.precision)
    atw, gw, btw = matrices(xp, f_columns, problem.precision)
    (mh, th), (mw, tw) = ath.shape, atw.shape
    g, k = shape.groups, shape.k // shape.groups
    c = shape.c // g * rows.channels * columns.channels
    tiles = rows.tiles * columns.tiles  # of one image and output phase

    per_image = (th * tw * g * (c + k) * tiles) * number.bytes
    block = max(1, min(shape.n, device.cache_bytes // 2 // per_image))

    def room(*dims: int) -> Any:
        return device.empty(dims, problem.precision)

    padded = device.empty((block, shape.c, rows.extent, columns.extent), problem.precision)
    padded[...] = 0
    # Each step reads one buffer and writes the other; the larger of a step's users decides the size.
    wide = block * tiles * g * max(c * max(rows.window * columns.window, th * tw), k * max(mh * mw, th * tw))
    buffers = [room(wide), room(wide)]

    def part(which: int, *dims: int) -> Any:
        return buffers[which][: prod(dims)].reshape(dims)

    def prepare(w: Any) -> Any:
        pieces = filter_pieces(xp, w, shape, rows, columns)
        return transform_filters(xp, pieces, gh, gw, problem.precision).reshape(th * tw * g, k, c)

    def run_block(x: Any, u: Any, y: Any) -> None:
        n = len(x)
        view = windows(xp, pad_input(xp, x, rows, columns, padded[:n]), shape, rows, columns)
        for psi in ((i, j) for i in range(rows.out_phases) for j in range(columns.out_phases)):
            # n g c (phase piece tile element) twice -> element element g (c phase piece)^2 n tile tile
            d = view[:, :, :, psi[0], :, :, :, :, psi[1]].transpose(6, 10, 1, 2, 3, 4, 7, 8, 0, 5, 9)
            stretched = part(0, *d.shape)
            stretched[...] = d
            v1 = xp.matmul(bth, stretched.reshape(rows.window, -1), out=part(1, th, d[0].size))
            v = device.matmul(btw, v1.reshape(th, columns.window, -1), part(0, th, tw, g * c * n * tiles))
            products = device.matmul(u, v.reshape(th * tw * g, c, -1), part(1, th * tw * g, k, n * tiles))
            y1 = xp.matmul(ath, products.reshape(th, -1), out=part(0, mh, tw * g * k * n * tiles))
            y2 = device.matmul(atw, y1.reshape(mh, tw, -1), part(1, mh, mw, g * k * n * tiles))
            # rows columns g k n tile tile -> n k (tile row) (tile column)
            order = y2.reshape(mh, mw, g, k, n, rows.tiles, columns.tiles).transpose(4, 2, 3, 5, 0, 6, 1)
            values = part(0, *order.shape)
            values[...] = order
            put_phase(y, values.reshape(n, shape.k, rows.tiles * mh, columns.tiles * mw), rows, columns, psi)

    def run(x: Any, u: Any, y: Any) -> None:
        for first in range(0, shape.n, block):
            run_block(x[first : first + block], u, y[first : first + block])

    return Plan(run, prepare, padded.nbytes + 2 * buffers[0].nbytes, note(m, shape, f_rows, f_columns))
