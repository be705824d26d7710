"""fft.tiled for float32 on the CPU: the size of its transforms, and the engine of algorithms/fused."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from convbench.algorithms.base import Plan
from convbench.algorithms.fused.blocks import cut
from convbench.algorithms.fused.dft import Dft
from convbench.algorithms.fused.plan import caches_of, fused, work_of
from convbench.algorithms.fused.stages import Tile
from convbench.algorithms.unit import UnitAxis, axes
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.vector.target import host
from convbench.vector.weights import FLOAT32, Weights

SIZES = (8, 9, 10, 12, 14, 15, 16, 18, 20, 30)
LONGEST_PIECE = 11  # taps of a piece of the filter
# Fitted to times of these sizes on Zen 5, the first to phases on Zen 4; two are multiplied by, or shared among, the
# panels of a product (vector/target.py), as multiply-adds alone are that much faster where there are two:
TRANSFORM = 12  # multiply-adds in the time that a transform takes for one number
IN_REGISTERS, SPILLS = 20, 1.1  # points along one axis up to which it is so; by how much it takes longer with more
BYTES_AN_OPERATION = 0.4  # bytes of filters that come from memory in the time of one multiply-add, of all threads
NEARER = 3  # times as many come from the shared cache


def plan(problem: Problem, device: Device, weights: Weights = FLOAT32) -> Plan:
    """The plan of fft.tiled for float32 on the CPU."""
    rows, columns = axes(problem.shape, None, LONGEST_PIECE)
    sizes = product(sizes_of(rows), sizes_of(columns))
    return of_size(problem, device, min(sizes, key=lambda size: cost(problem, size, device, weights)), weights)


def of_size(problem: Problem, device: Device, size: tuple[int, int], weights: Weights = FLOAT32) -> Plan:
    """The plan with transforms of size[0] rows and size[1] columns, each larger than a piece of the filter."""
    s = problem.shape
    tile, rows, columns = tile_of(problem, size)
    words = [f"{size[0]}x{size[1]} points, {rows.tiles * columns.tiles} tile"]
    words[0] += "s an image" if rows.tiles * columns.tiles > 1 else " an image"
    if s.stride != (1, 1) or s.dilation != (1, 1):
        words.append("polyphase")
    words.append(f"{tile.planes} products a tile, vector code")
    return fused(problem, device, tile, rows, columns, "; ".join(words), weights)


def sizes_of(axis: UnitAxis) -> list[int]:
    """Sizes that hold a piece of the filter and an output, and no more than the first that holds all outputs."""
    if axis.length == 1:
        return [1]  # nothing to transform
    fitting = [size for size in SIZES if size > axis.length]
    enough = next((i for i, size in enumerate(fitting) if size >= axis.ring), len(fitting))
    return fitting[: enough + 1]


def tile_of(problem: Problem, size: tuple[int, int]) -> tuple[Tile, UnitAxis, UnitAxis]:
    """Tiles of as many outputs as the size gives, also where they reach beyond the image; all of them on a ring."""
    rows, columns = (
        replace(axis, tile=axis.unit_outputs if axis.ring <= points < axis.window else points - axis.length + 1)
        for points, axis in zip(size, axes(problem.shape, None, LONGEST_PIECE), strict=True)
    )
    return Tile(Dft(rows.tile, rows.length, size[0]), Dft(columns.tile, columns.length, size[1])), rows, columns


def cost(problem: Problem, size: tuple[int, int], device: Device, weights: Weights = FLOAT32) -> float:
    """The time for all images, in multiply-adds: products, or the filters' way from memory, and transforms."""
    s = problem.shape
    tile, rows, columns = tile_of(problem, size)
    c, k = s.c // s.groups * rows.channels * columns.channels, s.k // s.groups
    numbers = tile.planes * s.groups * rows.out_phases * columns.out_phases * s.n * rows.tiles * columns.tiles
    work, caches, panels = work_of(problem, tile, rows, columns, weights), caches_of(device), host().panels
    blocks = cut(tile, work, caches)
    filters = blocks.number(work) * work.filter_bytes * panels / BYTES_AN_OPERATION
    products = max(numbers * c * k, filters if work.passes(caches) else filters / NEARER)
    uneven = 1 if blocks.private else work.unevenness(blocks.groups, caches.threads)
    spilled = SPILLS ** sum(points > IN_REGISTERS for points in size)
    return uneven * (products + numbers * spilled * TRANSFORM * panels * (c + k))
