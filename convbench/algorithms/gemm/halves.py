"""Y = X W^T in seven products of halves instead of eight (Strassen, Numerische Mathematik 13, 1969): the kernel.

With A = X [N, D] and B = W^T [D, K] cut into four each, upper and lower, left and right,

    M_i = (sum of LEFT[i] of A's quarters) (sum of RIGHT[i] of B's),    Y's quarters = sums of M by RESULT

Strassen's own form is taken: Winograd's has fewer additions, which cost nothing beside products of this size, but errs
by a third more. The right-hand sums are made ahead, in float64. Where a size is odd the missing half-row is zero.

    U [panel of 16 filters] [M] [D / 2] [16],   A [M] [chunk of D / 2] [N / 2] [chunk],   sums [M] [panel] [N / 2] [16]
"""

from __future__ import annotations

from collections.abc import Sequence

from convbench.algorithms.gemm.cut import Cut
from convbench.algorithms.gemm.stream import panels_in_turn, parts_of, rows_of
from convbench.vector.build import Program
from convbench.vector.code import Code, Index, Pointer, Vector
from convbench.vector.team import Fields, Team, shared_out
from convbench.vector.weights import BLOCK, LINE

# Quarters in the order upper left, upper right, lower left, lower right.
LEFT = ((1, 0, 0, 1), (0, 0, 1, 1), (1, 0, 0, 0), (0, 0, 0, 1), (1, 1, 0, 0), (-1, 0, 1, 0), (0, 1, 0, -1))
RIGHT = ((1, 0, 0, 1), (1, 0, 0, 0), (0, 1, 0, -1), (-1, 0, 1, 0), (0, 0, 0, 1), (1, 1, 0, 0), (0, 0, 1, 1))
RESULT = ((1, 0, 0, 1, -1, 0, 1), (0, 0, 1, 0, 1, 0, 0), (0, 1, 0, 1, 0, 0, 0), (1, -1, 1, 0, 0, 1, 0))
PRODUCTS = len(LEFT)

FIELDS = (
    "x", "y", "u", "packed", "sums", "counters",  # addresses
    "own", "packed_bytes",  # 1: each thread has chunks of its own; bytes to the next one's
    "images", "groups", "depth", "filters",  # depth, filters: of a group
    "half_images", "half_depth", "half_filters",  # of the upper and left halves
    "image_bytes", "out_image_bytes", "chunks", "panels", "panel_bytes", "product_bytes",
    "shared_panels", "shares",  # panels that share a chunk of A; parts the panels come in
    "block_images", "blocks",  # images of a block; blocks
    "sums_bytes", "tickets",
)  # fmt: skip


def in_halves(program: Program, code: Code, cut: Cut) -> None:
    """The kernel: the left-hand sums into chunks, then the products; cut: of halves."""
    place, thread, threads = code.arguments
    f = Fields(code, place, FIELDS)
    counters, team = f.pointer("counters"), Team(thread, threads)
    packed = f.pointer("packed") + thread * f.packed_bytes * f.own
    for item in parts_of(code, f, counters, f.groups * PRODUCTS * f.chunks, team):
        pack(code, cut, f, packed, item)
    with shared_out(code, counters + f.tickets, f.groups * f.shares * f.blocks, team, wait=False) as item:
        finish(program, code, cut, f, packed, item, f.pointer("sums") + thread * f.sums_bytes)


def weighted(signs: Sequence[int], values: Sequence[Vector]) -> Vector:
    """The values whose sign is not 0, added or taken away; the first that is added comes first."""
    kept = sorted(((sign, value) for sign, value in zip(signs, values, strict=True) if sign), key=lambda one: -one[0])
    total = kept[0][1]
    for sign, value in kept[1:]:
        total = total + value if sign > 0 else total - value
    return total


def pack(code: Code, cut: Cut, f: Fields, packed: Pointer, item: Index) -> None:
    """One chunk of one left-hand sum of a group, for all images of a half."""
    group, product, chunk = item // (PRODUCTS * f.chunks), item // f.chunks % PRODUCTS, item % f.chunks
    first = chunk * cut.depth
    length = code.least(f.half_depth - first, cut.depth)
    with code.cases(product, range(PRODUCTS)) as cases:
        for number in cases:
            for n in code.range(f.half_images):
                into = packed + (item * f.half_images + n) * cut.pitch
                sources = []
                for quarter in range(4):
                    row, column = n + f.half_images * (quarter // 2), first + f.half_depth * (quarter % 2)
                    left = code.choose(row < f.images, code.most(0, f.depth - column), 0)
                    source = f.pointer("x") + code.least(row, f.images - 1) * f.image_bytes
                    sources.append((source + (group * f.depth + column) * 4, left))
                for k in code.range(0, length, code.lanes):
                    quarters = [
                        (source + k * 4).load(code.within(k, left)) if sign else code.vector(0.0)
                        for sign, (source, left) in zip(LEFT[number], sources, strict=True)
                    ]
                    (into + k * 4).store(weighted(LEFT[number], quarters))


def finish(program: Program, code: Code, cut: Cut, f: Fields, packed: Pointer, item: Index, sums: Pointer) -> None:
    """Some panels for a block of images: all products, one after another, and what is added up of them."""
    first_image = item % f.blocks * f.block_images
    images = code.least(f.block_images, f.half_images - first_image)
    group = item // f.blocks // f.shares
    first_panel = item // f.blocks % f.shares * f.shared_panels
    panels = code.least(f.shared_panels, f.panels - first_panel)
    weights = f.pointer("u") + (group * f.panels + first_panel) * f.panel_bytes
    side = program.target.panels
    lines = (panels + (side - 1)) // side * side * images  # of a product
    for line in code.range(lines * PRODUCTS):
        for j in range(BLOCK // code.lanes):
            (sums + (line * LINE + j * code.bytes)).store(code.vector(0.0))
    for product in code.range(PRODUCTS):
        for chunk in code.range(f.chunks):
            depth = code.least(f.half_depth - chunk * cut.depth, cut.depth)
            number = (group * PRODUCTS + product) * f.chunks + chunk
            a = rows_of(code, cut, packed + number * f.half_images * cut.row_bytes, f.half_images).since(first_image)
            scales = weights + product * f.product_bytes
            here = (a, scales + cut.weights.before(chunk * cut.depth), scales, sums + product * lines * LINE)
            panels_in_turn(program, code, cut, f, here, images, panels, depth)
    for panel in code.range(panels):
        for n in code.range(images):
            place = sums + (panel * images + n) * LINE
            store(code, f, place, lines * LINE, group, first_image + n, first_panel + panel)


def store(code: Code, f: Fields, sums: Pointer, product: Index, group: Index, n: Index, panel: Index) -> None:
    """What one image's products of a panel, so many bytes apart, come to: up to 16 filters of each quarter of y."""
    for j in range(BLOCK // code.lanes):
        products = [(sums + (product * i + j * code.bytes)).load() for i in range(PRODUCTS)]
        for quarter, signs in enumerate(RESULT):
            row, column = n + f.half_images * (quarter // 2), panel * BLOCK + f.half_filters * (quarter % 2)
            left = code.choose(row < f.images, code.most(0, f.filters - column), 0)
            into = f.pointer("y") + row * f.out_image_bytes + (group * f.filters + column) * 4
            with code.when(code.index(j * code.lanes) < left):
                (into + j * code.bytes).store(weighted(signs, products), code.within(j * code.lanes, left))
