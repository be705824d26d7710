"""The micro-kernel of sliding filters: pixels in a row x 16 channels (or 32), summed in registers over all taps.

    C [pixel, 16] += sum over c, r, s:  x [c, r, pixel * stride + s * dilation]  B [c, r, s, 16]

The pixels' numbers are read where they lie and loaded into all lanes. What each tap of a row may reach of the pixels is
known when the kernel is written: a tap that meets padding there is left out. With one tap this is a product of a matrix
whose columns lie in memory as rows, such as planes of pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from convbench.vector.build import Program
from convbench.vector.code import Code, Index, Number, Pointer, Variable, Vector
from convbench.vector.coming import OF_PANEL, OF_TILE, Line, tiles_of
from convbench.vector.target import Target
from convbench.vector.weights import BLOCK, LINE

Spans = tuple[tuple[int, int], ...]  # for each tap: the pixels it reaches, first and behind the last
UNROLLED = 12  # taps alike that are written one by one; more become a loop


def most_pixels(target: Target, blocks: int) -> int:
    """Pixels whose sums fit the registers, for blocks of 16 channels: with one, 28, 6 or 3 (AVX-512, AVX, SSE)."""
    return max(1, target.sums // (blocks * BLOCK // target.lanes))


def alike(spans: Spans) -> Iterator[tuple[int, int, int, int]]:
    """Runs of taps that reach the same pixels: first tap, taps, first pixel, behind the last; none that reach none."""
    first = 0
    for (low, high), run in groupby(spans):
        count = len(list(run))
        if low < high:
            yield first, count, low, high
        first += count


def keep_order(code: Code) -> None:
    """No load moves up across this: a tap's numbers loaded beside another's would push sums out of the registers."""
    code.builder.fence("acq_rel", "singlethread")  # it holds for the compiler alone, and costs no instruction


def line_of(code: Code, place: Pointer, blocks: int) -> list[Vector]:
    """Side by side, as many vectors as blocks of 16 channels take."""
    return [(place + part * code.bytes).load() for part in range(blocks * BLOCK // code.lanes)]


def add_to(code: Code, sums: Sequence[Sequence[Variable]], into: Pointer, block_bytes: Index) -> None:
    """Sums [pixel][vector] onto C, [block, pixel, 16]."""
    each = BLOCK // code.lanes
    for pixel, row in enumerate(sums):
        for number, total in enumerate(row):
            place = into + block_bytes * (number // each) if number >= each else into
            place = place + (pixel * LINE + number % each * code.bytes)
            place.store(place.load() + total.get())


def tile(
    program: Program, code: Code, pixels: int, spans: Spans, steps: tuple[int, int], blocks: int, by_rows: bool,
    asks: bool,
) -> None:  # fmt: skip
    """steps: bytes from pixel to pixel, and from tap to tap. by_rows: there may be other than one row of taps.

    Arguments: x at the first pixel and tap, its bytes from channel to channel and from row to row; B, its bytes from
    channel to channel; channels, rows; C, its bytes from block to block; if it asks, for which Line.
    """
    x, plane, row, b, filters, channels, rows, into, block_bytes, *ahead = code.arguments
    vectors = blocks * BLOCK // code.lanes
    line = blocks * LINE
    sums = [[code.variable(0.0) for _ in range(vectors)] for _ in range(pixels)]

    def tap(place: Pointer, weights: Pointer, low: int, high: int) -> None:
        factors = line_of(code, weights, blocks)
        for pixel in range(low, high):
            number = (place + pixel * steps[0]).broadcast()
            for total, factor in zip(sums[pixel], factors, strict=True):
                total.add(number * factor)
        keep_order(code)

    def taps(place: Pointer, weights: Pointer) -> None:
        for first, count, low, high in alike(spans):
            if count > UNROLLED:
                for s in code.range(first, first + count):
                    tap(place + s * steps[1], weights + s * line, low, high)
            else:
                for number in range(first, first + count):
                    tap(place + number * steps[1], weights + number * line, low, high)

    for c in code.range(channels):
        start, weights = x + c * plane, b + c * filters
        if asks:
            Line(*ahead).ask(c)
        if by_rows:
            for r in code.range(rows):
                taps(start + r * row, weights + r * (len(spans) * line))
        else:
            taps(start, weights)
    add_to(code, sums, into, block_bytes)


def tile_of(
    program: Program, pixels: int, spans: Spans, steps: tuple[int, int], blocks: int, by_rows: bool = True,
    asks: bool = False,
) -> Any:  # fmt: skip
    """The micro-kernel for so many pixels that each tap reaches as spans say."""
    return program.function("piipiiipi" + OF_TILE * asks, tile, pixels, spans, steps, blocks, by_rows, asks)


def lone_pixel(program: Program, code: Code, tap_bytes: int, blocks: int) -> None:
    """One pixel, with as many taps a row as it reaches.

    Arguments: as of tile, x and B at the first tap that is reached; taps, and B's bytes from row to row, at the end.
    """
    x, plane, row, b, filters, channels, rows, into, block_bytes, taps, filter_row = code.arguments
    sums = [code.variable(0.0) for _ in range(blocks * BLOCK // code.lanes)]
    for c in code.range(channels):
        for r in code.range(rows):
            place, weights = x + c * plane + r * row, b + c * filters + r * filter_row
            for s in code.range(taps):
                number = (place + s * tap_bytes).broadcast()
                for total, factor in zip(sums, line_of(code, weights + s * (blocks * LINE), blocks), strict=True):
                    total.add(number * factor)
    add_to(code, [sums], into, block_bytes)


def lone_pixel_of(program: Program, tap_bytes: int, blocks: int) -> Any:
    """The micro-kernel of one pixel."""
    return program.function("piipiiipiii", lone_pixel, tap_bytes, blocks)


def columns(program: Program, code: Code, blocks: int, asks: bool) -> None:
    """C [pixels, 16] += A^T B, with A [depth, pixels], for any number of pixels, cut into equal parts.

    Arguments: A, its bytes from row to row, B [depth, 16], C, its bytes from block to block, pixels, depth; if it asks,
    what is Coming.
    """
    a, pitch, b, into, block_bytes, pixels, depth, *coming = code.arguments
    for asked, first, number in tiles_of(code, pixels, most_pixels(program.target, blocks), coming):
        one: Number = 1
        code.call(
            tile_of(program, number, ((0, number),), (4, 4), blocks, by_rows=False, asks=asks),
            a + first * 4, pitch, 0, b, blocks * LINE, depth, one, into + first * LINE, block_bytes, *asked,
        )  # fmt: skip


def columns_of(program: Program, blocks: int = 1, asks: bool = False) -> Any:
    """The product of a matrix that lies in memory as its columns, at least one of them."""
    return program.function("pippiii" + OF_PANEL * asks, columns, blocks, asks)


def clear(code: Code, place: Pointer, lines: Number) -> None:
    """Zeros into so many lines of 16 channels."""
    for i in code.range(lines):
        for part in range(BLOCK // code.lanes):
            (place + i * LINE + part * code.bytes).store(code.vector(0.0))
