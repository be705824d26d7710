"""The transforms of a convolution by tiles, as vector code: from lines to V, and from M to lines.

Everything has 16 channels side by side (a line). Planes are the points of the two transforms: along x the
real points, then one of each pair; within each, along y, the real points, the pairs, and (for a pair along x) their
conjugates. A complex point takes three planes, for Gauss's three products, of which the third's U is the sum of the
others' and need not be kept:

    V: re + im, re, im    U: re, (im - re) / 2, (re + im) / 2    product: first - 2 third, first + 2 second
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from convbench.algorithms.fused.lines import goes_past, scatter
from convbench.algorithms.fused.values import Complex, Real, Transform, plus_times
from convbench.vector.build import Program
from convbench.vector.code import Code, Index, Pointer, Vector
from convbench.vector.weights import BLOCK, LINE

POWER_BYTES = 8  # of a power, and its inverse behind it (row_powers.py)


@dataclass(frozen=True)
class Tile:
    """The two transforms of a tile, and the order of its planes."""

    y: Transform
    x: Transform

    @property
    def columns(self) -> int:
        """Lines that one row of a tile takes between the two transforms."""
        return self.x.reals + 2 * self.x.pairs

    @property
    def real_column(self) -> int:
        """Planes of a real point along x."""
        return self.y.reals + 3 * self.y.pairs

    @property
    def pair_column(self) -> int:
        """Planes of a complex point along x."""
        return 3 * (self.y.reals + 2 * self.y.pairs)

    @property
    def planes(self) -> int:
        """Products a tile: as many matrix products there are."""
        return self.x.reals * self.real_column + self.x.pairs * self.pair_column

    @property
    def runs(self) -> list[tuple[int, int]]:
        """Real points, and complex ones behind them, that follow one another in the order of planes."""
        of_pairs = self.x.pairs * (self.y.reals + 2 * self.y.pairs)
        return [(self.y.reals, self.y.pairs)] * self.x.reals + [(0, of_pairs)]

    def infinity_planes(self, is_pair: bool) -> range:
        """Of one point along x: the planes of y's point at infinity, which only a tile's last row needs."""
        place = self.y.infinity
        if place is None:
            return range(0)
        return range(3 * place, 3 * place + 3) if is_pair else range(place, place + 1)

    def points(self, of_y: Any, of_x: Any) -> Iterator[tuple[Any, float]]:
        """What two axes' rows make of a square, point by point, complex or real; and the weight of a pair, else 1.

        of_y, of_x: rows for real points, pairs and their conjugates.
        """
        for j in range(self.x.reals + self.x.pairs):
            is_pair = j >= self.x.reals
            for i in range(len(of_y) if is_pair else self.y.reals + self.y.pairs):
                point = np.outer(of_y[i], of_x[j]).ravel()
                if is_pair or i >= self.y.reals:
                    yield point, self.x.pair_weight if is_pair else self.y.pair_weight
                else:
                    yield point.real, 1.0

    def filters(self) -> Any:
        """What makes U of a filter: [planes but for complex points' third ones, r s], float64."""
        planes = []
        for point, weight in self.points(self.y.filter_rows(), self.x.filter_rows()):
            re, im = point.real * weight, point.imag * weight
            planes += [re, (im - re) / 2] if np.iscomplexobj(point) else [re]
        return np.array(planes)

    @cached_property
    def input_sizes(self) -> Any:
        """How many times as large as noise V is that comes of it: the root mean square of each plane, [planes]."""
        planes = []
        for point, _ in self.points(*(_input_rows(axis) for axis in (self.y, self.x))):
            re, im = point.real, point.imag
            planes += [re + im, re, im] if np.iscomplexobj(point) else [re]
        return np.linalg.norm(planes, axis=1)

    @property
    def mean_size(self) -> float:
        """The power of two nearest to what they are in the (geometric) mean."""
        return float(2 ** round(np.log2(self.input_sizes).mean()))


def _input_rows(axis: Transform) -> Any:
    """B^T: for real points, pairs and their conjugates [reals + 2 pairs, window], complex."""
    inputs: Any = list(np.eye(axis.window))
    reals, pairs = axis.spectrum(inputs)
    rows = [np.asarray(pair.re, complex) + 1j * np.asarray(pair.im) for pair in pairs]
    return np.array([*reals, *rows, *(row.conj() for row in rows)], complex)


def known(value: Real, code: Code) -> Vector:
    """A value as a vector, also where it is a known zero."""
    return value if value is not None else code.vector(0.0)


def forward_rows(program: Program, code: Code, tile: Tile) -> None:
    """The transform along x of one block of 16 channels, row by row.

    Arguments: buffer, bytes of a line row in it, where to (row, tile, point), rows, tiles a row, those not short.
    """
    buffer, pitch, room, rows, tiles, whole = code.arguments
    x = tile.x
    for i in code.range(rows):
        for t in code.range(tiles):
            column = t * x.outputs - code.most(0, t - whole)
            for part in code.range(BLOCK // code.lanes):
                line = buffer + i * pitch + column * LINE + part * code.bytes
                reals, pairs = x.spectrum([(line + k * LINE).load() for k in range(x.window)])
                into = room + (i * tiles + t) * (tile.columns * LINE) + part * code.bytes
                for k, value in enumerate([*reals, *(number for pair in pairs for number in pair)]):
                    (into + k * LINE).store(known(value, code))


def forward_columns(program: Program, code: Code, tile: Tile, streams: bool, sized: bool = False) -> None:
    """The transform along y of a rectangle of tiles, to V; streams: past the caches, a line at a time.

    Arguments: what forward_rows left of the first tile, bytes from row to row of it and from one row of tiles to the
    next, V (these channels, first tile), bytes from plane to plane, rows of tiles, tiles a row; if sized, for each row
    of tiles the power that it is multiplied by, POWER_BYTES apart.
    """
    room, row, down, v, plane, tile_rows, tiles, *powers = code.arguments
    for tile_row in code.range(tile_rows):
        power = (powers[0] + tile_row * POWER_BYTES).broadcast() if sized else None
        for t in code.range(tiles):
            for part in code.range(BLOCK // code.lanes):
                source = room + tile_row * down + t * (tile.columns * LINE) + part * code.bytes
                target = v + (tile_row * tiles + t) * LINE + part * code.bytes
                forward_tile(code, tile, source, row, target, plane, streams, power)


def forward_tile(
    code: Code, tile: Tile, source: Pointer, row: Index, target: Pointer, plane: Index, streams: bool,
    power: Vector | None = None,
) -> None:  # fmt: skip
    """The transform along y of one tile, times a power if there is one."""
    y, x = tile.y, tile.x

    def load(place: Pointer) -> Vector:
        return place.load() * power if power is not None else place.load()

    def store(into: Pointer, value: Vector) -> None:
        (into.stream if streams else into.store)(value)

    def store_three(into: Pointer, value: Complex) -> None:
        re, im = known(value.re, code), known(value.im, code)
        for k, part in enumerate((re + im, re, im)):
            store(into + plane * k, part)

    for c in code.range(x.reals):
        line = source + c * LINE
        reals, pairs = y.spectrum([load(line + row * k) for k in range(y.window)])
        into = target + plane * (c * tile.real_column)
        for k, value in enumerate(reals):
            store(into + plane * k, known(value, code))
        for k, pair in enumerate(pairs):
            store_three(into + plane * (y.reals + 3 * k), pair)
    if not x.pairs:
        return
    for c in code.range(x.pairs):
        line = source + (c * 2 + x.reals) * LINE
        values = [Complex(load(line + row * k), load(line + row * k + LINE)) for k in range(y.window)]
        into = target + plane * (c * tile.pair_column + x.reals * tile.real_column)
        for k, point in enumerate(y.complex_spectrum(values)):
            store_three(into + plane * (3 * k), point)


def load_complex(place: Pointer, plane: Index) -> Complex:
    """A complex product from its three planes."""
    first, second, third = ((place + plane * k).load() for k in range(3))
    return Complex(plus_times(first, -2, third), plus_times(first, 2, second))


def backward_column(program: Program, code: Code, tile: Tile, is_pair: bool) -> None:
    """The inverse transform along y of one point along x, for many tiles.

    Arguments: M (the planes of this point), bytes from plane to plane, where to (tile, row, point), tiles.
    """
    m, plane, into, tiles = code.arguments
    y = tile.y
    for t in code.range(tiles):
        for part in code.range(BLOCK // code.lanes):
            source = m + t * LINE + part * code.bytes
            target = into + t * (y.outputs * tile.columns * LINE) + part * code.bytes
            if is_pair:
                values = [load_complex(source + plane * (3 * k), plane) for k in range(y.reals + 2 * y.pairs)]
                for k, pixel in enumerate(y.complex_result(values)):
                    (target + k * tile.columns * LINE).store(known(pixel.re, code))
                    (target + (k * tile.columns + 1) * LINE).store(known(pixel.im, code))
                continue
            reals: list[Real] = [(source + plane * k).load() for k in range(y.reals)]
            pairs = [load_complex(source + plane * (y.reals + 3 * k), plane) for k in range(y.pairs)]
            for k, value in enumerate(y.result(reals, pairs)):
                (target + k * tile.columns * LINE).store(known(value, code))


def backward_rows(program: Program, code: Code, tile: Tile, sized: bool = False) -> None:
    """The inverse transform along x of one row of tiles, and its pixels into the output's planes.

    Arguments: tiles' rows as backward_column left them, whole ones and short ones, how many of each, output rows, how
    many of them at once, output columns, room for their pixels, output (first channel, first row), bytes from channel
    to channel, channels, where to put what has no channel, past as of goes_past; if sized, the number that pixels are
    multiplied by.
    """
    first, second, firsts, seconds, rows, some, columns, room, output, channel, channels, nowhere, past, *sizes = (
        code.arguments
    )
    y, x = tile.y, tile.x
    back = sizes[0].broadcast() if sized else None
    asks = goes_past(code, output, channel, past).is_equal(0)
    every = max(1, BLOCK // x.outputs)  # tiles whose pixels fill about a cache line of each channel
    for begin in code.range(0, rows, some):
        end, pixels = code.least(begin + some, rows), output + begin * columns * 4
        for i in code.range(begin, end):
            for source, tiles, start, step in (
                (first, firsts, code.index(0), x.outputs), (second, seconds, firsts * x.outputs, x.outputs - 1),
            ):  # fmt: skip
                for t in code.range(tiles):
                    pixel = (i - begin) * columns + start + t * step
                    with code.when(code.builder.and_((t % every).is_equal(0), asks)):
                        for c, byte in product(range(BLOCK), range(0, 4 * x.outputs, LINE)):
                            (pixels + (channel * c + pixel * 4 + byte)).prefetch(write=True)
                    for part in code.range(BLOCK // code.lanes):
                        line = source + (t * y.outputs + i) * (tile.columns * LINE) + part * code.bytes
                        values: list[Real] = [(line + k * LINE).load() for k in range(tile.columns)]
                        pairs = [Complex(values[x.reals + 2 * k], values[x.reals + 2 * k + 1]) for k in range(x.pairs)]
                        # A short tile reaches into the next one, a row's last tile into the next row: written after it.
                        into = room + pixel * LINE + part * code.bytes
                        for k, value in enumerate(x.result(values[: x.reals], pairs)):
                            pixel_value = known(value, code)
                            (into + k * LINE).store(pixel_value * back if back is not None else pixel_value)
        scatter(code, room, pixels, channel, channels, (end - begin) * columns, nowhere, past)
