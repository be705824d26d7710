"""The steps of a convolution by tiles, as vector code: gather, transform, transform back, scatter.

Everything in between has 16 channels side by side (a line). Planes are the points of the two transforms: along x the
real points, then one of each pair; within each, along y, the real points, the pairs, and (for a pair along x) their
conjugates. A complex point takes three planes, for Gauss's three products:

    V: re + im, re, im    U: re, im - re, re + im    product: first - third, first + second
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from convbench.algorithms.fused.values import Complex, Real, Transform, minus, plus
from convbench.algorithms.unit import UnitAxis
from convbench.vector.build import Program
from convbench.vector.code import Code, Index, Mask, Pointer, Vector
from convbench.vector.product import BLOCK, LINE

AHEAD = 256  # bytes ahead that are asked for while rows are gathered: small images' rows are short for the hardware
LANE_FIELDS = 3  # of a channel in the table: bytes from the image to its plane, its first row, its first column


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

    def infinity_planes(self, is_pair: bool) -> range:
        """Of one point along x: the planes of y's point at infinity, which only a tile's last row needs."""
        place = self.y.infinity
        if place is None:
            return range(0)
        return range(3 * place, 3 * place + 3) if is_pair else range(place, place + 1)

    def filters(self) -> Any:
        """What makes U of a filter: [planes, r s], float64."""
        ey, ex = self.y.filter_rows(), self.x.filter_rows()
        planes = []
        for j in range(self.x.reals + self.x.pairs):
            is_pair = j >= self.x.reals
            for i in range(len(ey) if is_pair else self.y.reals + self.y.pairs):
                point = np.outer(ey[i], ex[j]).ravel()
                if is_pair:
                    point = point * self.x.pair_weight
                elif i >= self.y.reals:
                    point = point * self.y.pair_weight
                if is_pair or i >= self.y.reals:
                    planes += [point.real, point.imag - point.real, point.real + point.imag]
                else:
                    planes.append(point.real)
        return np.array(planes)


def known(value: Real, code: Code) -> Vector:
    """A value as a vector, also where it is a known zero."""
    return value if value is not None else code.vector(0.0)


def gather(program: Program, code: Code, step: int, run: int, alike: bool) -> None:
    """Rows of 16 channels' planes into lines, zeros where a plane does not reach.

    Arguments: image, table of channels, height, width, input rows from line row to line row, first line row, line rows,
    line columns, buffer, bytes of a line row in it. step is the input columns from line to line. run: so many channels
    after each other are neighbours in the input (the phases of a stride), and come in one load. alike: all channels
    begin in the same row and column of their planes.
    """
    image, table, height, width, row_step, first, rows, columns, buffer, pitch = code.arguments
    for group in range(BLOCK // code.lanes):
        heads = [table + 8 * LANE_FIELDS * (group * code.lanes + lane) for lane in range(0, code.lanes, run)]
        planes = [image + head.integer() for head in heads]
        firsts = heads[:1] if alike else heads
        for i in code.range(rows):
            row = _Row(code, planes, step, run, buffer + i * pitch + group * code.bytes)
            for head in firsts:
                number, start = (head + 8).integer() + (first + i) * row_step, (head + 16).integer()
                inside = code.builder.and_(number >= 0, number < height)
                row.sizes.append(code.choose(inside, width, 0))
                row.offsets.append(code.choose(inside, number * width + start, 0))
                row.starts.append(start)
            low, high = row.inside(columns)
            for begin, end, masked in ((0, low, True), (low, high, False), (high, columns, True)):
                for column in code.range(begin, end, code.lanes // run):
                    row.lines(column, masked)


class _Row:
    """One row of 16 (or a vector's) channels, on its way into lines. One offset, size, start: the same for all."""

    def __init__(self, code: Code, planes: list[Pointer], step: int, run: int, target: Pointer) -> None:
        self.code, self.planes, self.step, self.run, self.target = code, planes, step, run, target
        self.offsets: list[Index] = []
        self.sizes: list[Index] = []
        self.starts: list[Index] = []

    def inside(self, columns: Index) -> tuple[Index, Index]:
        """The columns, from and to, whose vectors lie within the row whole; both begin a vector."""
        code, each = self.code, self.code.lanes // self.run
        first, left = self.starts[0], self.sizes[0] - self.starts[0]
        for start, size in zip(self.starts[1:], self.sizes[1:], strict=True):
            first, left = code.least(first, start), code.least(left, size - start)
        read = code.lanes * self.step // self.run
        low = (code.most(0, 0 - first) + (self.step * each - 1)) // (self.step * each) * each
        low = code.least(low, (columns + (each - 1)) // each * each)
        fitting = code.most(0, left - (read - self.step)) // self.step  # columns that may begin a vector
        high = (code.least(fitting, columns) + (each - 1)) // each * each
        return low, code.most(low, high)

    def lines(self, column: Index, masked: bool) -> None:
        """As many lines as one vector of each channel (or run of channels) gives, from a column on."""
        code, step = self.code, self.step // self.run
        reaches = [
            Reach(code, start + column * self.step, size, step) if masked else Reach(code, None, None, step)
            for start, size in zip(self.starts, self.sizes, strict=True)
        ]
        vectors = []
        for lane, plane in enumerate(self.planes):
            which = lane if len(self.starts) > 1 else 0
            place = plane + (self.offsets[which] + column * self.step) * 4
            (place + AHEAD).prefetch()
            vectors.append(reaches[which].load(place))
        for j, vector in enumerate(code.transpose(vectors, self.run)):
            (self.target + (column + j) * LINE).store(vector)


def longest_run(lanes: int, step: int, columns: UnitAxis) -> int:
    """How many channels after each other one load brings: all phases of a stride, where they fill a vector evenly."""
    together = columns.in_phases == step and columns.pieces == 1 and columns.dilation == 1
    return step if together and lanes % step == 0 else 1


class Reach:
    """Every step-th number of a row, from its number `start` on, zeros outside of the row's `size` numbers.

    Neither is named where all that is read lies within the row.
    """

    def __init__(self, code: Code, start: Index | None, size: Index | None, step: int) -> None:
        self.code, self.step = code, step
        self._sources = [i * step for i in range(code.lanes)]
        parts = sorted({source // code.lanes for source in self._sources})
        self._masks: dict[int, Mask | None] = dict.fromkeys(parts)
        if start is not None and size is not None:
            self._masks = {part: code.within(start + part * code.lanes, size) for part in parts}

    def load(self, place: Pointer) -> Vector:
        """They begin at `place`."""
        lanes = self.code.lanes
        out: Vector | None = None
        for part, mask in self._masks.items():
            vector = (place + part * self.code.bytes).load(mask)
            if self.step == 1:
                return vector
            here = [source - part * lanes if source // lanes == part else None for source in self._sources]
            kept = out if out is not None else vector
            out = kept.pick(vector, [i if lane is None else lanes + lane for i, lane in enumerate(here)])
        assert out is not None
        return out


def strided(code: Code, place: Pointer, start: Index, size: Index, step: int) -> Vector:
    """Every step-th number from `place`, number `start` of a row of `size`; zeros outside of the row."""
    return Reach(code, start, size, step).load(place)


def forward_rows(program: Program, code: Code, tile: Tile) -> None:
    """The transform along x of one block of 16 channels, row by row.

    Arguments: buffer, bytes of a line row in it, where to (row, tile, point), rows, tiles a row.
    """
    buffer, pitch, room, rows, tiles = code.arguments
    x = tile.x
    for i in code.range(rows):
        for t in code.range(tiles):
            for part in code.range(BLOCK // code.lanes):
                line = buffer + i * pitch + t * (x.outputs * LINE) + part * code.bytes
                reals, pairs = x.spectrum([(line + k * LINE).load() for k in range(x.window)])
                into = room + (i * tiles + t) * (tile.columns * LINE) + part * code.bytes
                for k, value in enumerate([*reals, *(number for pair in pairs for number in pair)]):
                    (into + k * LINE).store(known(value, code))


def forward_columns(program: Program, code: Code, tile: Tile, streams: bool) -> None:
    """The transform along y of a rectangle of tiles, to V; streams: past the caches, a line at a time.

    Arguments: what forward_rows left of the first tile, bytes from row to row of it, V (these channels, first tile),
    bytes from plane to plane, rows of tiles, tiles a row.
    """
    room, row, v, plane, tile_rows, tiles = code.arguments
    for tile_row in code.range(tile_rows):
        for t in code.range(tiles):
            for part in code.range(BLOCK // code.lanes):
                source = room + tile_row * tile.y.outputs * row + t * (tile.columns * LINE) + part * code.bytes
                target = v + (tile_row * tiles + t) * LINE + part * code.bytes
                forward_tile(code, tile, source, row, target, plane, streams)


def forward_tile(
    code: Code, tile: Tile, source: Pointer, row: Index, target: Pointer, plane: Index, streams: bool
) -> None:
    """The transform along y of one tile."""
    y, x = tile.y, tile.x

    def store(into: Pointer, value: Vector) -> None:
        (into.stream if streams else into.store)(value)

    def store_three(into: Pointer, value: Complex) -> None:
        re, im = known(value.re, code), known(value.im, code)
        for k, part in enumerate((re + im, re, im)):
            store(into + plane * k, part)

    for c in code.range(x.reals):
        line = source + c * LINE
        reals, pairs = y.spectrum([(line + row * k).load() for k in range(y.window)])
        into = target + plane * (c * tile.real_column)
        for k, value in enumerate(reals):
            store(into + plane * k, known(value, code))
        for k, pair in enumerate(pairs):
            store_three(into + plane * (y.reals + 3 * k), pair)
    if not x.pairs:
        return
    for c in code.range(x.pairs):
        line = source + (c * 2 + x.reals) * LINE
        values = [Complex((line + row * k).load(), (line + row * k + LINE).load()) for k in range(y.window)]
        into = target + plane * (c * tile.pair_column + x.reals * tile.real_column)
        for k, point in enumerate(y.complex_spectrum(values)):
            store_three(into + plane * (3 * k), point)


def load_complex(place: Pointer, plane: Index) -> Complex:
    """A complex product from its three planes."""
    first, second, third = (place + plane * k for k in range(3))
    return Complex(minus(first.load(), third.load()), plus(first.load(), second.load()))


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


def backward_rows(program: Program, code: Code, tile: Tile) -> None:
    """The inverse transform along x of one row of tiles, and its pixels into the output's planes.

    Arguments: tiles' rows as backward_column left them, in two places, how many in each, output rows, output columns,
    room for pixels, output (first channel, first row), bytes from channel to channel, channels, where to put what has
    no channel.
    """
    first, second, firsts, seconds, rows, columns, room, output, channel, channels, nowhere = code.arguments
    y, x = tile.y, tile.x
    for i in code.range(rows):
        for source, tiles, before in ((first, firsts, 0), (second, seconds, firsts)):
            for t in code.range(tiles):
                for part in code.range(BLOCK // code.lanes):
                    line = source + (t * y.outputs + i) * (tile.columns * LINE) + part * code.bytes
                    values: list[Real] = [(line + k * LINE).load() for k in range(tile.columns)]
                    pairs = [Complex(values[x.reals + 2 * k], values[x.reals + 2 * k + 1]) for k in range(x.pairs)]
                    # A row's last tile may reach into the next row, which is written after it.
                    into = room + (i * columns + (t + before) * x.outputs) * LINE + part * code.bytes
                    for k, value in enumerate(x.result(values[: x.reals], pairs)):
                        (into + k * LINE).store(known(value, code))
    scatter(code, room, output, channel, channels, rows * columns, nowhere)


def scatter(
    code: Code, lines: Pointer, output: Pointer, channel: Index, channels: Index, pixels: Index, nowhere: Pointer
) -> None:
    """Lines of 16 channels into the channels' planes, pixels next to each other; channels beyond the last: nowhere."""
    lanes = code.lanes
    for group in range(BLOCK // lanes):
        targets = []
        for lane in range(lanes):
            number = group * lanes + lane
            inside = code.index(number) < channels
            place = code.builder.select(inside, (output + channel * number).value, nowhere.value)
            targets.append(Pointer(code, place))
        source = lines + group * code.bytes
        whole = pixels - pixels % lanes
        for p in code.range(0, whole, lanes):
            vectors = [(source + (p + i) * LINE).load() for i in range(lanes)]
            for target, vector in zip(targets, code.transpose(vectors), strict=True):
                (target + p * 4).store(vector)
        with code.when(whole < pixels):
            mask = code.within(0, pixels - whole)
            vectors = [(source + (whole + i) * LINE).load() for i in range(lanes)]
            for target, vector in zip(targets, code.transpose(vectors), strict=True):
                (target + whole * 4).store(vector, mask)
