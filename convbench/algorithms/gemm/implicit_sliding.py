"""gemm.implicit by implicit_sliding.cu: which copy of x, which tile, and in how many shares the depth goes.

It is for filters that slide by one place over several taps; a stride becomes phases. The tile is chosen by a model of
the time, whose constants are those of an H200.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from convbench.algorithms.base import Plan
from convbench.algorithms.gemm.channels_last import (
    CHUNK_BYTES,
    HOPPER,
    ROW,
    SHARED_MEMORY,
    Product,
    Staged,
    filter_elements,
    plan_around,
    too_large,
)
from convbench.algorithms.gpu import MULTIPROCESSORS
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.shapes import ConvShape

LEAST_TAPS = 4  # for which a window pays
# Of the products that gathering tap by tap makes: phases may be zeros in part, and places are multiplied that no pixel
# has. On an H200 each product of the gathering kernel took about twice as long.
MOST_WORK = 1.8
# Filters x places of a block; a warpgroup multiplies 64 filters by all places.
TILES = (
    (192, 192), (128, 256), (128, 192), (256, 128), (192, 128), (128, 128), (64, 256), (64, 192), (128, 64), (64, 128),
    (64, 64),
)  # fmt: skip
STAGES = (3, 4, 6)  # buffers of filters
REGISTERS, OTHER_REGISTERS, MOST_RESIDENT = 65536, 32, 4  # of a multiprocessor; of a thread beside its sums; blocks
ROOM, RESERVED = SHARED_MEMORY[HOPPER], 1 << 10  # bytes of shared memory: of a block; what it takes beside its own
# Bytes that a multiprocessor gets in a cycle, if all want some. Cycles: until they come; of a block's beginning, beside
# its first copies; that a sum waits until it is written; of a second launch. Tensor cores' part of their nominal rate.
LEVEL_2_BYTES, MEMORY_BYTES = 25, 16
LATENCY, BEGIN, END, LAUNCH, RATE = 1500, 5000, 0.11, 2500, 0.86
MANY_TURNS = 4  # from which on the last one's idle multiprocessors are not counted


def copy_of(shape: ConvShape, chunk: int) -> tuple[Staged, int] | None:
    """The copy over which filters slide by one place, and the chunks of a slab; None where there is none.

    A slab is an even number of chunks of channels, 8 at most; channels are filled up to whole slabs. Padding between
    two rows, or images, is there once, unless it is wider than what a filter reaches.
    """
    if any(u > 1 and d > 1 for u, d in zip(shape.stride, shape.dilation, strict=True)):
        return None
    phases = shape.stride
    taps = -(-shape.r // phases[0]), -(-shape.s // phases[1])
    size = []
    for outputs, pad, n, reach, u in zip((shape.p, shape.q), shape.pad, taps, shape.dilation, phases, strict=True):
        beyond = (n - 1) * reach
        size.append(outputs + beyond - (pad if u == 1 and pad <= beyond else 0))
    chunks = -(-shape.c // shape.groups * prod(phases) // chunk)
    slabs = -(-chunks // ROW)
    slab = -(-chunks // slabs // 2) * 2
    copy = Staged(phases, taps, (1, 1), shape.dilation, (size[0], size[1]), slabs * slab * chunk)
    return copy, slab


@dataclass(frozen=True)
class Cut:
    """What a block computes, and how many there are."""

    copy: Staged
    slabs: int
    slab: int  # chunks
    filters: int
    pixels: int
    share_slabs: int
    share_taps: int  # all, or those of one slab
    tiles: int  # of filters and places, in all groups
    stages: int  # buffers of filters

    @property
    def taps(self) -> int:
        """Of the copy."""
        return prod(self.copy.taps)

    @property
    def shares(self) -> int:
        """That an output's sum goes in."""
        return -(-self.slabs // self.share_slabs) * -(-self.taps // self.share_taps)

    @property
    def steps(self) -> int:
        """Of a share."""
        return self.share_slabs * self.share_taps

    @property
    def product_cycles(self) -> int:
        """Of a step, on a multiprocessor's tensor cores."""
        return self.filters // 64 * (self.slab // 2) * (self.pixels // 2)

    @property
    def window(self) -> int:
        """Places that a block copies."""
        (rows, columns), (reach_h, reach_w) = self.copy.taps, self.copy.reach
        beyond = (rows - 1) * reach_h * self.copy.size[1] + (columns - 1) * reach_w
        return -(-(self.pixels + beyond) // 8) * 8

    @property
    def shared_bytes(self) -> int:
        """Windows and buffers of a block, or the sums that take their place."""
        windows = (2 if self.share_slabs > 1 else 1) * self.window
        operands = (windows + self.stages * self.filters) * ROW * CHUNK_BYTES
        return max(operands, self.filters * (self.pixels + 8) * 4)

    @property
    def resident(self) -> int:
        """Blocks that a multiprocessor can hold."""
        by_registers = REGISTERS // (2 * self.filters * (self.pixels // 2 + OTHER_REGISTERS))
        return max(1, min(MOST_RESIDENT, by_registers, ROOM // (self.shared_bytes + RESERVED)))

    @property
    def fits(self) -> bool:
        """Whether a block has the shared memory, and its windows the time to arrive."""
        return self.shared_bytes <= ROOM and (self.share_slabs == 1 or self.share_taps > self.stages - 2)

    def cycles(self, outputs: int, bytes_out: int) -> float:
        """An estimate of the busiest multiprocessor's time, where blocks that it holds write while others multiply."""
        blocks = self.tiles * self.shares
        together = min(self.resident, -(-blocks // MULTIPROCESSORS))
        turns = blocks / (MULTIPROCESSORS * together)
        turns = turns if turns > MANY_TURNS else -(-blocks // (MULTIPROCESSORS * together))
        moved = self.slab * CHUNK_BYTES * (self.filters + self.window / self.share_taps)
        step = max(together * max(self.product_cycles / RATE, moved / LEVEL_2_BYTES), LATENCY / (self.stages - 2))
        begin = BEGIN + together * self.window * self.slab * CHUNK_BYTES / LEVEL_2_BYTES
        end = self.filters * self.pixels * ((4 if self.shares > 1 else bytes_out) / MEMORY_BYTES + END)
        products = turns * (begin + self.steps * step + end)
        if self.shares == 1:
            return products
        return products + LAUNCH + outputs * (4 * self.shares + bytes_out) / (MEMORY_BYTES * MULTIPROCESSORS)

    @property
    def note(self) -> str:
        """In words, for a result's row."""
        words = f"tiles of {self.filters} filters x {self.pixels} places of one window"
        return words + (f", taps in {self.shares} shares" if self.shares > 1 else "")


def cuts(shape: ConvShape, copy: Staged, slab: int, chunk: int) -> Iterator[Cut]:
    """All there are: every tile, and shares of whole slabs, or of the taps of one."""
    slabs, taps = copy.channels // (slab * chunk), prod(copy.taps)
    for filters, pixels in TILES:
        tiles = shape.groups * -(-shape.k // shape.groups // filters) * -(-shape.n * prod(copy.size) // pixels)
        shares = [(each, taps) for each in equal_shares(slabs)]
        shares += [(1, each) for each in equal_shares(taps) if each < taps]
        for (share_slabs, share_taps), stages in product(shares, STAGES):
            yield Cut(copy, slabs, slab, filters, pixels, share_slabs, share_taps, tiles, stages)


def equal_shares(count: int) -> list[int]:
    """What each of one share, two, .. has of `count`, the most first; the last one may have less, but something."""
    return sorted({-(-count // shares) for shares in range(1, count + 1)}, reverse=True)


def best_cut(problem: Problem, copy: Staged, slab: int, chunk: int) -> Cut | None:
    """The one with the least estimated time, of those that fit."""
    s, number = problem.shape, problem.number.bytes
    fitting = [cut for cut in cuts(s, copy, slab, chunk) if cut.fits]
    return min(fitting, key=lambda cut: cut.cycles(prod(s.y_shape), number), default=None)


def sources_of(shape: ConvShape, cut: Cut, chunk: int) -> Any:
    """What the filters of each step are, [slabs * taps, elements], as filter_elements counts."""
    import numpy as np

    grid = np.indices((cut.slabs, *cut.copy.taps, cut.slab)).reshape(4, cut.slabs * cut.taps, cut.slab)
    slab, r, s, i = grid
    elements = filter_elements(shape, cut.copy, chunk, r, s, slab * cut.slab + i)
    return elements.reshape(cut.slabs * cut.taps, cut.slab * chunk)


def sliding(problem: Problem, device: Device, work: int) -> Plan | None:
    """The plan, or None where filters do not slide by one place, or it would not pay.

    work is what gathering tap by tap multiplies for each filter and image.
    """
    s, chunk = problem.shape, CHUNK_BYTES // problem.number.bytes
    found = copy_of(s, chunk)
    if found is None:
        return None
    copy, slab = found
    if prod(copy.taps) < LEAST_TAPS or copy.depth * prod(copy.size) > MOST_WORK * work or too_large(s, copy, chunk):
        return None
    cut = best_cut(problem, copy, slab, chunk)
    return plan_of(problem, device, cut) if cut else None


def plan_of(problem: Problem, device: Device, cut: Cut) -> Plan:
    """The plan of a cut."""
    s, chunk, copy = problem.shape, CHUNK_BYTES // problem.number.bytes, cut.copy
    knobs = copy.knobs(s) | {
        "TAPS_H": copy.taps[0], "TAPS_W": copy.taps[1], "REACH_H": copy.reach[0], "REACH_W": copy.reach[1],
        "SLAB_CHUNKS": cut.slab, "SHARE_SLABS": cut.share_slabs, "SHARE_TAPS": cut.share_taps, "SPLIT": cut.shares,
        "STAGES": cut.stages, "TILE_K": cut.filters, "TILE_P": cut.pixels, "RESIDENT": cut.resident,
    }  # fmt: skip
    module = device.load_own(Path(__file__).with_suffix(".cu"), problem, **knobs)
    blocks = cut.tiles * cut.shares
    launch = Product(
        copy, sources_of(s, cut, chunk), (), cut.filters, cut.shares, blocks, 2 * cut.filters, cut.shared_bytes
    )
    flops = 2 * cut.tiles * cut.filters * cut.pixels * cut.slabs * cut.taps * cut.slab * chunk
    return plan_around(problem, device, module, launch, cut.note, flops)
