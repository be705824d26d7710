"""gemm.panel.pairs: what gemm.panel's kernel (kernel.py) does otherwise where its products are in pairs (paired.py).

A [tap, pixel], some channels, each pixel times a power of two that brings its largest number to between 2 and 4; beside
    it for each pixel  - sum over its pairs of a[k] a[16 + k], and the inverse
W [panel] [tap] [16 x blocks], each filter times a power of two; behind a panel what its pairs come to, chunk by
    chunk, and the inverses
"""

from __future__ import annotations

from math import gcd
from typing import Any

from convbench.algorithms.compiled import pack
from convbench.devices.base import Device
from convbench.shapes import ConvShape
from convbench.vector.build import Program
from convbench.vector.code import Code, Index, Mask, Pointer, Vector
from convbench.vector.coming import OF_PANEL, OF_TILE, Line, tiles_of
from convbench.vector.pairs import add_pairs
from convbench.vector.product import most_rows
from convbench.vector.scaling import most, powers, size
from convbench.vector.target import Target
from convbench.vector.weights import BLOCK, LINE, PAIRS, THREE, as_large_as

CHUNK_THREES = 3  # of the depth that are summed before their sum joins the others
MOST_PIXELS = 16  # whose sums are made together: more take as long each, and longer to compile


def most_pixels_in_pairs(target: Target, blocks: int) -> int:
    """Pixels whose sums are made together, for so many blocks of 16 filters."""
    return min(MOST_PIXELS, most_rows(target, blocks, PAIRS))


def chunk_of(channels: int, taps: int) -> int:
    """Channels a chunk: whole threes where they come to CHUNK_THREES at most, else as many as leave the least over."""
    limit = CHUNK_THREES * THREE
    whole = THREE // gcd(THREE, taps)
    if whole * taps <= limit:
        return min(channels, limit // (whole * taps) * whole)
    return min(channels, max(1, limit // taps))


def pair_lines(channels: int, taps: int, chunk: int) -> int:
    """Lines of pairs' sums that a panel has: as many for each chunk as a whole one has."""
    return -(-channels // chunk) * (chunk * taps // THREE)


def packed_filters(xp: Any, device: Device, s: ConvShape, blocks: int, w: Any, chunk: int) -> Any:
    """Filters [groups, panels, C R S + pair_lines + 1, 16 x blocks]."""
    plain = pack(xp, device, s, blocks, w)
    groups, panels, depth, width = plain.shape
    taps = s.r * s.s
    lines = pair_lines(s.c // s.groups, taps, chunk)
    out = device.empty((groups, panels, depth + lines + 1, width), "float32")
    numbers, scales = as_large_as(xp, 1, plain)
    out[:, :, :depth], out[:, :, -1:] = numbers, scales
    each = chunk * taps // THREE
    for line in range(lines):
        first = line // each * chunk * taps + line % each * THREE
        out[:, :, depth + line] = 0
        if first + THREE <= min(depth, (line // each + 1) * chunk * taps):
            one, other = (numbers[:, :, first + i * BLOCK : first + (i + 1) * BLOCK].astype(float) for i in range(2))
            with xp.errstate(invalid="ignore"):  # where there is an infinity: NaN is what its filter comes to
                out[:, :, depth + line] = -(one * other).sum(axis=2)
    return out


def scale(program: Program, code: Code) -> None:
    """A, each pixel times a power of two; what its pairs come to, and the inverse.

    Arguments: the numbers (A, or x where it lies there as in A), bytes from tap to tap; A, its bytes from tap to tap;
    taps, pixels, where to put the one, and the other.
    """
    source, source_pitch, a, pitch, depth, pixels, into, into_inverse = code.arguments
    threes = depth // THREE
    for j in code.range(0, pixels, code.lanes):
        numbers, column, inside = source + j * 4, a + j * 4, code.within(j, pixels)
        largest, pairs = code.variable(0.0), code.variable(0.0)
        for k in code.range(depth):
            largest.set(most(size((numbers + k * source_pitch).load(inside)), largest.get()))
        power, inverse = powers(largest.get())

        def scaled(
            k: Index, numbers: Pointer = numbers, column: Pointer = column, inside: Mask = inside, power: Vector = power
        ) -> Vector:
            number = (numbers + k * source_pitch).load(inside) * power
            (column + k * pitch).store(number, inside)
            return number

        for three in code.range(threes):
            for i in code.range(BLOCK):
                k = three * THREE + i
                pairs.add(scaled(k) * scaled(k + BLOCK))
                scaled(k + 2 * BLOCK)
        for k in code.range(threes * THREE, depth):
            scaled(k)
        (into + j * 4).store(-pairs.get(), inside)
        (into_inverse + j * 4).store(inverse, inside)


def tile(program: Program, code: Code, pixels: int, blocks: int, asks: bool) -> None:
    """C [block, pixel, 16] += A^T B.

    Arguments: A at the first pixel, its bytes from tap to tap; B, its pairs' sums, its scales; C, its bytes from block
    to block; taps; what the pixels' pairs come to, and the inverses; if it asks, for which Line.
    """
    a, pitch, b, lines_of_pairs, scales, into, block_bytes, depth, pairs_of_a, inverses, *ahead = code.arguments
    each, line = BLOCK // code.lanes, blocks * LINE
    vectors = range(blocks * each)
    sums = [[code.variable(0.0) for _ in vectors] for _ in range(pixels)]
    pairs_of_b = [code.variable(0.0) for _ in vectors]

    def pairs(three: Index) -> None:
        for number, total in enumerate(pairs_of_b):
            total.add((lines_of_pairs + (three * line + number * code.bytes)).load())

    def weights(k: Index) -> list[Vector]:
        if asks:
            Line(*ahead).ask(k)
        return [(b + (k * line + number * code.bytes)).load() for number in vectors]

    def of_b(three: Index, i: Index, part: int) -> list[Vector]:
        return weights(three * THREE + i + part * BLOCK)

    def of_a(three: Index, i: Index, part: int, r: int) -> Vector:
        return (a + (three * THREE + i + part * BLOCK) * pitch + 4 * r).broadcast()

    threes = depth // THREE
    add_pairs(code, threes, sums, of_a, of_b, pairs)
    for k in code.range(threes * THREE, depth):
        factors = weights(k)
        for r in range(pixels):
            number = (a + k * pitch + 4 * r).broadcast()
            for total, factor in zip(sums[r], factors, strict=True):
                total.add(number * factor)
    for r in range(pixels):
        of_pixel, inverse = (pairs_of_a + 4 * r).broadcast(), (inverses + 4 * r).broadcast()
        for number, (total, other) in enumerate(zip(sums[r], pairs_of_b, strict=True)):
            factor = (scales + number * code.bytes).load() * inverse
            place = into + block_bytes * (number // each) if number >= each else into
            place = place + (r * LINE + number % each * code.bytes)
            place.store((total.get() + (other.get() + of_pixel)) * factor + place.load())


def columns_of(program: Program, blocks: int, asks: bool) -> Any:
    """The product that `columns` writes."""
    return program.function("pipppp" + "iiipp" + OF_PANEL * asks, columns, blocks, asks)


def columns(program: Program, code: Code, blocks: int, asks: bool) -> None:
    """The same for any number of pixels, cut into equal parts.

    Arguments: A, its bytes from tap to tap; B, its pairs' sums, its scales; C, its bytes from block to block; pixels;
    taps; what the pixels' pairs come to, and the inverses; if it asks, what is Coming.
    """
    a, pitch, b, pairs_of_b, scales, into, block_bytes, pixels, depth, pairs_of_a, inverses, *coming = code.arguments
    for ahead, first, number in tiles_of(code, pixels, most_pixels_in_pairs(program.target, blocks), coming):
        code.call(
            program.function("pippppiipp" + OF_TILE * asks, tile, number, blocks, asks),
            a + first * 4, pitch, b, pairs_of_b, scales, into + first * LINE, block_bytes, depth,
            pairs_of_a + first * 4, inverses + first * 4, *ahead,
        )  # fmt: skip
