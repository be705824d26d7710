"""fft.tiled for float32 on the CPU: the size of its transforms, and the engine of algorithms/fused."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from convbench.algorithms.base import Plan
from convbench.algorithms.fused.dft import Dft
from convbench.algorithms.fused.plan import fused
from convbench.algorithms.fused.stages import Tile
from convbench.algorithms.unit import UnitAxis, axes
from convbench.devices.base import Device
from convbench.problem import Problem

SIZES = (8, 9, 10, 12, 15, 16, 18, 20)  # larger ones do not fit the registers, nor their filters the caches
LONGEST_PIECE = 11  # taps of a piece of the filter
TRANSFORM = 12  # operations a transform does on each number: found by timing phases
BYTES_AN_OPERATION = 0.25  # bytes of filters that come from memory in the time of one multiply-add of all threads


def plan(problem: Problem, device: Device) -> Plan:
    """The plan of fft.tiled for float32 on the CPU."""
    s = problem.shape
    rows, columns = axes(s, None, LONGEST_PIECE)
    size = min(product(_sizes(rows), _sizes(columns)), key=lambda pair: cost(problem, pair))
    tile, rows, columns = _tile(problem, size)
    words = [f"{rows.window}x{columns.window} points, {rows.tiles * columns.tiles} tile"]
    words[0] += "s an image" if rows.tiles * columns.tiles > 1 else " an image"
    if s.stride != (1, 1) or s.dilation != (1, 1):
        words.append("polyphase")
    words.append(f"{tile.planes} products a tile, vector code")
    return fused(problem, device, tile, rows, columns, "; ".join(words))


def _sizes(axis: UnitAxis) -> list[int]:
    """Sizes that hold a piece of the filter and an output, and no more than the first that holds all outputs."""
    if axis.length == 1:
        return [1]  # nothing to transform
    fitting = [size for size in SIZES if size > axis.length]
    enough = next((i for i, size in enumerate(fitting) if size >= axis.window), len(fitting))
    return fitting[: enough + 1]


def _tile(problem: Problem, size: tuple[int, int]) -> tuple[Tile, UnitAxis, UnitAxis]:
    """Tiles of as many outputs as the size gives, also where they reach beyond the image."""
    rows, columns = (
        replace(axis, tile=points - axis.length + 1)
        for points, axis in zip(size, axes(problem.shape, None, LONGEST_PIECE), strict=True)
    )
    return Tile(Dft(rows.tile, rows.length), Dft(columns.tile, columns.length)), rows, columns


def cost(problem: Problem, size: tuple[int, int]) -> float:
    """Multiply-adds of products and transforms, and the time to read the filters in the same unit, for all images."""
    s = problem.shape
    tile, rows, columns = _tile(problem, size)
    c, k = s.c // s.groups * rows.channels * columns.channels, s.k // s.groups
    points = tile.planes * s.groups * rows.out_phases * columns.out_phases
    tiles = s.n * rows.tiles * columns.tiles
    return points * (tiles * (c * k + TRANSFORM * (c + k)) + 4 * c * k / BYTES_AN_OPERATION / 16)
