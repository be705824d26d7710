"""Between an image's planes and lines, 16 channels side by side, as vector code: gather and scatter."""

from __future__ import annotations

from math import prod

from convbench.algorithms.unit import UnitAxis
from convbench.devices.base import Device
from convbench.shapes import ConvShape
from convbench.vector.build import Program
from convbench.vector.code import Code, Index, Mask, Pointer, Vector
from convbench.vector.target import host
from convbench.vector.weights import BLOCK, LINE

NEAR = 16 * 1024  # bytes of lines that are written and read again while they lie in the first-level cache
LANE_FIELDS = 3  # of a channel in the table: bytes from the image to its plane, its first row, its first column


def gather(program: Program, code: Code, step: int, run: int, alike: bool) -> None:
    """Rows of 16 channels' planes into lines, zeros where a plane does not reach.

    Arguments: image, table of channels, height, width, input rows from line row to line row, first line row, line rows,
    line columns, buffer, bytes of a line row in it, bytes to the rows that will be wanted next: they are asked for by
    the way, as those of small images are too short for the hardware to see what comes. step is the input columns from
    line to line. run: so many channels after each other are neighbours in the input (the phases of a stride), and come
    in one load. alike: all channels begin in the same row and column of their planes.
    """
    image, table, height, width, row_step, first, rows, columns, buffer, pitch, ahead = code.arguments
    for group in range(BLOCK // code.lanes):
        heads = [table + 8 * LANE_FIELDS * (group * code.lanes + lane) for lane in range(0, code.lanes, run)]
        planes = [image + head.integer() for head in heads]
        firsts = heads[:1] if alike else heads
        for i in code.range(rows):
            row = _Row(code, planes, step, run, buffer + i * pitch + group * code.bytes, ahead)
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

    def __init__(self, code: Code, planes: list[Pointer], step: int, run: int, target: Pointer, ahead: Index) -> None:
        self.code, self.planes, self.step, self.run, self.target, self.ahead = code, planes, step, run, target, ahead
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
            (place + self.ahead).prefetch()
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


def past_caches(s: ConvShape, device: Device) -> int:
    """1 where y is too large for the caches, else 0."""
    return int(4 * prod(s.y_shape) > device.cache_bytes)


def is_read_first(s: ConvShape, device: Device) -> bool:
    """Whether y's lines come from memory before they are written: too large for the caches, and not to go past them."""
    return past_caches(s, device) == 1 and (host().lanes < BLOCK or 4 * s.p * s.q % LINE != 0)


def goes_past(code: Code, output: Pointer, channel: Index, past: Index) -> Index:
    """1 where channels' planes, so many bytes apart, go past the caches: they do not fit them, and lie in whole lines.

    Else each line would be read before it is written; a vector must be a line for it, and a fence must follow. To write
    other planes by whole lines, what lies between two of their vectors, costs more than to read them.
    """
    if code.lanes < BLOCK:
        return code.index(0)
    is_line = (output.address % LINE + channel % LINE).is_equal(0)
    return code.choose(code.builder.and_(is_line, past.is_equal(1)), 1, 0)


def scatter(
    code: Code, lines: Pointer, output: Pointer, channel: Index, channels: Index, pixels: Index, nowhere: Pointer,
    past: Index,
) -> None:  # fmt: skip
    """Lines of 16 channels into the channels' planes, pixels next to each other; channels beyond the last: nowhere.

    past: 1 where the planes are too large for the caches (goes_past).
    """
    streams = goes_past(code, output, channel, past)
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

        def write(
            low: Index | int, high: Index, streams: bool, source: Pointer = source, targets: list[Pointer] = targets
        ) -> None:
            for p in code.range(low, high, lanes):
                vectors = [(source + (p + i) * LINE).load() for i in range(lanes)]
                for target, vector in zip(targets, code.transpose(vectors), strict=True):
                    place = target + p * 4
                    (place.stream if streams else place.store)(vector)

        streamed = whole * streams
        if lanes == BLOCK:
            write(0, streamed, True)
        write(streamed, whole, False)
        with code.when(whole < pixels):
            mask = code.within(0, pixels - whole)
            vectors = [(source + (whole + i) * LINE).load() for i in range(lanes)]
            for target, vector in zip(targets, code.transpose(vectors), strict=True):
                (target + whole * 4).store(vector, mask)
