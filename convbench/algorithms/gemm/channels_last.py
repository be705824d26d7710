"""gemm.implicit on tensor cores: the copy of x with its channels last, packed filters, and the plan around a product.

Tensor cores want operands in pieces of 16 bytes along the depth of the product, and a tap of NCHW has 4. So each call
first copies x to [N, rows, columns, groups, channels] (the phase "layout"), padding and phases of the stride written
out. Products read chunks of 16 bytes from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from convbench.algorithms.base import Plan
from convbench.algorithms.gpu import MULTIPROCESSORS, adding
from convbench.algorithms.phased import phases_of, runs
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.shapes import ConvShape

HOPPER = 90  # compute capability of the GPUs that multiply by warpgroups
CHUNK_BYTES = 16  # of an asynchronous copy
ROW = 8  # chunks of a step
# Bytes of shared memory a block may have, by capability; others have what the least of sm_80 and newer have.
SHARED_MEMORY = {80: 163 << 10, 87: 163 << 10, 90: 227 << 10, 100: 227 << 10, 103: 227 << 10}
LEAST_SHARED_MEMORY = 99 << 10
MOST_CHUNKS = 1 << 31  # of the copy of x: 32-bit indices
TURNED, SPANS, LAYOUT_THREADS = 64, (64, 32), 256  # channels at most, and places, that a block of `layout` turns
MANY_BLOCKS = 4 * MULTIPROCESSORS  # for which it turns more


@dataclass(frozen=True)
class Staged:
    """The copy of x, [N, *size, groups, channels], and the convolution without padding that is left on it.

    Of each channel `phases` neighbours become channels. The filter has `taps`, `reach` places apart; pixels are `step`
    places apart.
    """

    phases: tuple[int, int]
    taps: tuple[int, int]
    step: tuple[int, int]
    reach: tuple[int, int]
    size: tuple[int, int]
    channels: int  # of a group, filled up to whole chunks

    @property
    def depth(self) -> int:
        """Terms of an output's sum, zeros included."""
        return prod(self.taps) * self.channels

    def blocks(self, n: int, groups: int, span: int) -> int:
        """Of the kernel `layout`, for n images, by so many places."""
        return -(-self.channels // min(self.channels, TURNED)) * groups * -(-n * prod(self.size) // span)

    def span(self, n: int, groups: int) -> int:
        """Places that a block of `layout` turns."""
        return next((span for span in SPANS if self.blocks(n, groups, span) >= MANY_BLOCKS), SPANS[-1])

    def knobs(self, shape: ConvShape) -> dict[str, int]:
        """The constants of layout.cuh beside the shape."""
        return {
            "SPAN": self.span(shape.n, shape.groups),
            "STAGED_H": self.size[0], "STAGED_W": self.size[1], "STAGED_C": self.channels,
            "PHASES_H": self.phases[0], "PHASES_W": self.phases[1],
        }  # fmt: skip


@dataclass(frozen=True)
class Product:
    """What a product reads, and how it is launched.

    sources [steps, elements]: what packed filters consist of, as filter_elements counts. tables: more arguments.
    """

    copy: Staged
    sources: Any
    tables: tuple[Any, ...]
    tile_filters: int
    shares: int
    blocks: int
    threads: int
    shared_bytes: int


def filter_elements(shape: ConvShape, copy: Staged, chunk: int, r: Any, s: Any, i: Any) -> Any:
    """The filter elements that chunks i under taps (r, s) of the copy are multiplied by, [..., chunk] int64.

    An element (c, r, s) is counted through; C R S / groups where there is none.
    """
    import numpy as np

    channels = shape.c // shape.groups
    c, phase = np.divmod(i[..., None] * chunk + np.arange(chunk), prod(copy.phases))
    r = r[..., None] * copy.phases[0] + phase // copy.phases[1]
    s = s[..., None] * copy.phases[1] + phase % copy.phases[1]
    there = (c < channels) & (r < shape.r) & (s < shape.s)
    return np.where(there, (c * shape.r + r) * shape.s + s, channels * shape.r * shape.s)


def rounded_to_tf32(xp: Any, w: Any) -> Any:
    """Floats with the 10 bits of mantissa that tensor cores read, the nearest, ties away from zero."""
    return ((w.view(xp.uint32) + xp.uint32(1 << 12)) & xp.uint32(0xFFFFE000)).view(xp.float32)


def too_large(shape: ConvShape, copy: Staged, chunk: int) -> bool:
    """Whether a copy of x is of 32 GB or more: chunks are counted in 32 bits."""
    return shape.n * prod(copy.size) * shape.groups * copy.channels // chunk >= MOST_CHUNKS


def plan_around(problem: Problem, device: Device, module: Any, product: Product, note: str, flops: int) -> Plan:
    """The copy of x, the product, and add_parts where the depth is in shares."""
    s, xp, copy = problem.shape, device.xp, product.copy
    layout, multiply, add_parts = (module.get_function(name) for name in ("layout", "product", "add_parts"))
    multiply.max_dynamic_shared_size_bytes = product.shared_bytes
    sources = device.put(product.sources)
    channels_last = device.empty((s.n, *copy.size, s.groups, copy.channels), problem.storage)
    k, outputs, tiles = s.k // s.groups, prod(s.y_shape), -(-s.k // s.groups // product.tile_filters)
    parts = device.empty((product.shares, outputs) if product.shares > 1 else (0,), "float32")
    layout_blocks = copy.blocks(s.n, s.groups, copy.span(s.n, s.groups))

    def prepare(w: Any) -> Any:
        padded = xp.zeros((s.groups, tiles * product.tile_filters, w[0].size + 1), problem.storage)
        padded[:, :k, :-1] = w.reshape(s.groups, k, -1)
        if problem.precision == "tf32":
            padded = rounded_to_tf32(xp, padded)
        by_tile = padded[:, :, sources].reshape(s.groups, tiles, product.tile_filters, *sources.shape)
        return xp.ascontiguousarray(by_tile.transpose(0, 1, 3, 2, 4))  # groups, tiles, steps, filters, elements

    def body(x: Any, packed: Any, y: Any) -> Any:
        layout((layout_blocks,), (LAYOUT_THREADS,), (x, channels_last))
        yield "layout"
        arguments = (channels_last, packed, *product.tables, parts if product.shares > 1 else y)
        grid, block = (product.blocks,), (product.threads,)
        device.launch(multiply, grid, block, arguments, product.shared_bytes, follows=True, evenly=True)
        yield "product"
        if product.shares > 1:
            device.launch(add_parts, *adding(outputs), (parts, y), follows=True)
            yield "sum"

    workspace = channels_last.nbytes + sources.nbytes + parts.nbytes + sum(table.nbytes for table in product.tables)
    words = note + (f", {copy.phases[0]} x {copy.phases[1]} phases" if prod(copy.phases) > 1 else "")
    return Plan(runs(body), prepare, workspace, words, flops, phases_of(body, device))
