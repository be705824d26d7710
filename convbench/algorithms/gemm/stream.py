"""Y [N, K] = X [N, D] W^T with W read once, in the order it lies in memory: the kernel of gemm.gemv on the CPU.

    U [panel of 16 filters] [D] [16],   X [chunk of D] [N] [chunk],   C [N, 16] += X [N, chunk] U [chunk, 16]

A fully connected layer's filters are read from memory, and there are few images to use them for. Where all images' sums
leave registers free, some panels are multiplied together: a core reads several streams faster than one. Else, while
one chunk of a panel (or two side by side, Target.panels) is multiplied, the next one is asked for, evenly spread over
the time that takes, and several panels share a chunk of X. Sums are kept in registers for a chunk and then join C.

In pairs, on CPUs that lose requests (Target.drops_requests), weights that all rows meet at a time lie in the order in
which they are read: then what follows can be asked for far ahead and once more nearby. Of some panels one chunk follows
the other, so that X's chunk and the sums stay in the first cache.

    U [some panels]: their scales [panel] [16], then [chunk] [panel] [numbers of the chunk] [16]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from convbench.algorithms.gemm import paired
from convbench.algorithms.gemm.cut import Cut
from convbench.vector.build import Program
from convbench.vector.code import Code, Index, Pointer
from convbench.vector.product import most_rows
from convbench.vector.target import Target
from convbench.vector.team import Fields, Team, shared_out
from convbench.vector.weights import BLOCK, LINE, Weights

STREAMS = 4  # panels multiplied together at most
NEAR = 512  # bytes ahead that are asked for in each of several streams
PLAIN, IN_PAIRS = "pppipiipi", "pipppipiipi"  # arguments of `multiply` and of paired.multiply
CHAINS = 8  # sums that must be under way at once to keep two multiply-add units busy through a latency of four

FIELDS = (
    "x", "y", "u", "packed", "sums", "counters",  # addresses
    "own", "packed_bytes",  # 1: each thread has chunks of its own; bytes to the next one's
    "images", "groups", "depth", "filters",  # depth, filters: of a group
    "image_bytes", "out_image_bytes", "chunks", "panels", "panel_bytes",
    "shared_panels", "shares",  # panels that share a chunk of X; parts the panels come in
    "block_images", "blocks",  # images of a block; blocks
    "sums_bytes", "tickets",
)  # fmt: skip


def together(target: Target, images: int, form: Weights) -> int:
    """How many panels are multiplied together: a power of two, so that the registers hold all sums."""
    if form.in_pairs:
        return 1
    room = target.sums - form.spare
    fitting = [n for n in (STREAMS, STREAMS // 2) if n * images * (BLOCK // target.lanes) <= room]
    return fitting[0] if fitting else 1


def ways_of(target: Target, images: int, form: Weights) -> int:
    """Sums each element is kept in, where all images' sums leave units idle.

    The same for any number of panels, and one where images come in blocks: the bits must not depend on who works.
    """
    panels = together(target, images, form)
    chains = panels * images * (BLOCK // target.lanes)
    return 1 if panels == 1 else next(n for n in (1, 2, 4, 8) if n * chains >= CHAINS)


def multiply(program: Program, code: Code, cut: Cut, rows: int, panels: int, ways: int, near: bool) -> None:
    """C [panels, rows, 16] += A [rows, depth] B [panels, depth, 16], the depth a multiple of the cut's unit.

    Arguments: A, its rows the cut's pitch apart, B and its scales, bytes from panel to panel, C, bytes from panel to
    panel, depth. Near: what follows in each panel is prefetched, unless the CPU foresees it; else so many bytes for
    each k from an address on, and of the panels that lie beside it as B's do: the last two arguments.
    """
    a, b, scales, beside_b, c, beside_c, depth, ahead, step = code.arguments
    form, each = cut.weights, BLOCK // code.lanes
    vectors = [(panel, j) for panel in range(panels) for j in range(each)]
    sums = [[[code.variable(0.0) for _ in vectors] for _ in range(rows)] for _ in range(ways)]
    streams = [b + beside_b * panel for panel in range(panels)]
    for start in code.range(0, depth, ways):
        for way in range(ways):
            k = start + way
            for panel, place in enumerate(streams):
                if not near:
                    (ahead + (beside_b * panel + k * step)).prefetch(cut.once)
                elif not program.target.foresees:
                    (place + k * form.line + NEAR).prefetch()
            numbers = [form.load(code, streams[panel] + k * form.line, j) for panel, j in vectors]
            for r in range(rows):
                number = (a + k * 4 + r * cut.pitch).broadcast()
                for each_sum, weight in zip(sums[way][r], numbers, strict=True):
                    each_sum.add(number * weight)
    for r in range(rows):
        for i, (panel, j) in enumerate(vectors):
            place = c + (beside_c * panel + (r * LINE + j * code.bytes))
            total = sums[0][r][i].get()
            for way in range(1, ways):
                total = total + sums[way][r][i].get()
            place.store(place.load() + form.scaled(code, total, scales + beside_b * panel, j))


def stream(program: Program, code: Code, cut: Cut, rows: int) -> None:
    """The kernel: X into chunks, then the products; rows: all images, where panels are multiplied together, else 0."""
    place, thread, threads = code.arguments
    f = Fields(code, place, FIELDS)
    counters, team = f.pointer("counters"), Team(thread, threads)
    packed = f.pointer("packed") + thread * f.packed_bytes * f.own
    for item in parts_of(code, f, counters, f.groups * f.chunks, team):
        pack(code, cut, f, packed, item)
    with shared_out(code, counters + f.tickets, f.groups * f.shares * f.blocks, team, wait=False) as item:
        finish(program, code, cut, rows, f, packed, item, f.pointer("sums") + thread * f.sums_bytes)


def parts_of(code: Code, f: Fields, counters: Pointer, items: Index, team: Team) -> Iterator[Index]:
    """The body for each item: shared out and waited for; or all by each thread, for chunks of its own.

    For where threads share no cache what another has just written is far away.
    """
    with code.when(f.own.is_equal(0)), shared_out(code, counters, items, team) as item:
        yield item
    with code.when(f.own.is_equal(1)):
        yield from code.range(items)


def pack(code: Code, cut: Cut, f: Fields, packed: Pointer, item: Index) -> None:
    """One chunk of all images' numbers of a group, the last one filled up to a unit."""
    group, chunk = item // f.chunks, item % f.chunks
    length = code.least(f.depth - chunk * cut.depth, cut.depth)
    whole = length - length % cut.unit
    for n in code.range(f.images):
        source = f.pointer("x") + n * f.image_bytes + (group * f.depth + chunk * cut.depth) * 4
        if cut.weights.in_pairs:
            rows = paired.rows_of(code, cut, packed + item * f.images * cut.row_bytes, f.images)
            paired.pack(code, source, rows.since(n), length)
            continue
        into = packed + (item * f.images + n) * cut.pitch
        for k in code.range(0, whole, code.lanes):
            (into + k * 4).store((source + k * 4).load())
        with code.when(whole < length):
            for lane in range(0, cut.unit, code.lanes):
                rest = (source + (whole + lane) * 4).load(code.within(lane, length - whole))
                (into + (whole + lane) * 4).store(rest)


def finish(
    program: Program, code: Code, cut: Cut, rows: int, f: Fields, packed: Pointer, item: Index, sums: Pointer
) -> None:
    """Some panels for a block of images. Blocks of the same panels follow one another, and find them in a cache."""
    first_image = item % f.blocks * f.block_images
    images = code.least(f.block_images, f.images - first_image)
    group = item // f.blocks // f.shares
    first_panel = item // f.blocks % f.shares * f.shared_panels
    panels = code.least(f.shared_panels, f.panels - first_panel)
    weights = f.pointer("u") + (group * f.panels + first_panel) * f.panel_bytes
    side = 1 if rows else program.target.panels
    for line in code.range((panels + (side - 1)) // side * side * images):
        for j in range(BLOCK // code.lanes):
            (sums + (line * LINE + j * code.bytes)).store(code.vector(0.0))
    packed = packed + group * f.chunks * f.images * cut.row_bytes
    if cut.streams:
        panels_streaming(program, code, cut, f, rows, (packed, weights, sums), panels)
    else:
        for chunk in code.range(f.chunks):
            a = rows_of(code, cut, packed + chunk * f.images * cut.row_bytes, f.images).since(first_image)
            here = (a, weights + cut.weights.before(chunk * cut.depth), weights, sums)
            depth = depth_of(code, cut, f, chunk)
            if rows:
                panels_together(program, code, cut, f, rows, here, panels, depth)
            else:
                panels_in_turn(program, code, cut, f, here, images, panels, depth)
    for panel in code.range(panels):
        store(code, f, sums + panel * images * LINE, images, first_image, group, first_panel + panel)


class Rows(NamedTuple):
    """Rows of a chunk of X, not in pairs."""

    numbers: Pointer
    pitch: int  # bytes from row to row

    def since(self, first: Index) -> Rows:
        """Those from one on."""
        return Rows(self.numbers + first * self.pitch, self.pitch)


def rows_of(code: Code, cut: Cut, chunk: Pointer, images: Index) -> Rows | paired.Rows:
    """All rows of a chunk."""
    return paired.rows_of(code, cut, chunk, images) if cut.weights.in_pairs else Rows(chunk, cut.pitch)


def depth_of(code: Code, cut: Cut, f: Fields, chunk: Index) -> Index:
    """Of a chunk, filled up."""
    return (code.least(f.depth - chunk * cut.depth, cut.depth) + (cut.unit - 1)) // cut.unit * cut.unit


Matrices = tuple[Rows | paired.Rows, Pointer, Pointer, Pointer]  # A, B, its scales, C


def micro_kernel(program: Program, cut: Cut, rows: int, panels: int, ways: int, near: bool) -> Any:
    """The function that `multiply` writes."""
    return program.function(PLAIN, multiply, cut, rows, panels, ways, near)


def panels_together(
    program: Program, code: Code, cut: Cut, f: Fields, rows: int, matrices: Matrices, panels: Index, depth: Index
) -> None:
    """All images, some panels at a time."""
    a, b, scales, c = matrices
    most, ways = (rule(program.target, rows, cut.weights) for rule in (together, ways_of))
    for panel in code.range(0, panels, most):
        with code.cases(code.least(panels - panel, most), range(1, most + 1)) as cases:
            for number in cases:
                here = b + panel * f.panel_bytes
                code.call(
                    micro_kernel(program, cut, rows, number, ways, True), a.numbers, here,
                    scales + panel * f.panel_bytes, f.panel_bytes, c + panel * (rows * LINE), rows * LINE,
                    depth, here, 0,
                )  # fmt: skip


def panels_streaming(
    program: Program, code: Code, cut: Cut, f: Fields, rows: int, places: tuple[Pointer, Pointer, Pointer],
    panels: Index,
) -> None:  # fmt: skip
    """All images, in pairs: chunk by chunk, so many panels each, in the order in which they lie.

    places: X's first chunk, the panels, C. The last panels ask for X's next chunk, which is all read at once.
    """
    packed, scales, sums = places
    kernel, head = program.function(IN_PAIRS, paired.multiply, cut, rows, 1), cut.weights.head
    rows_bytes = rows * cut.row_bytes
    first_asking = panels - -(-rows_bytes // cut.asked_bytes)
    for chunk in code.range(f.chunks):
        a = paired.rows_of(code, cut, packed + chunk * rows_bytes, f.images)
        depth = depth_of(code, cut, f, chunk)
        first = scales + (chunk * cut.chunk_bytes + head) * panels
        for panel in code.range(panels):
            b = first + panel * (cut.weights.before(depth) - head)
            code.call(
                kernel, *a[1:], b, scales + panel * head, 0, sums + panel * (rows * LINE), 0, depth,
                packed + (chunk + 1) * rows_bytes + (panel - first_asking) * cut.asked_bytes,
                code.choose(panel >= first_asking, LINE, 0),
            )  # fmt: skip


def panels_in_turn(
    program: Program, code: Code, cut: Cut, f: Fields, matrices: Matrices, rows: Index, panels: Index, depth: Index
) -> None:
    """A block of images, one panel at a time or two; behind the last one comes the first one's next chunk.

    Where the last one has none beside it, its products are made twice, and the second C is left alone.
    """
    a, b, scales, c = matrices
    side = program.target.panels
    for panel in code.range(0, panels, side):
        ahead = b + code.choose(panel + side < panels, (panel + side) * f.panel_bytes, cut.chunk_bytes)
        here = (a, b + panel * f.panel_bytes, scales + panel * f.panel_bytes, c + panel * rows * LINE)
        beside = (code.least(panels - panel, side) - 1) * f.panel_bytes
        parts_of_rows(program, code, cut, here, beside, rows, depth, ahead)


def parts_of_rows(
    program: Program, code: Code, cut: Cut, matrices: Matrices, beside: Index, rows: Index, depth: Index,
    ahead: Pointer,
) -> None:  # fmt: skip
    """Panels side by side, the rows in parts that differ by one at most."""
    a, b, scales, c = matrices
    side = program.target.panels
    most, each = most_rows(program.target, side, cut.weights), cut.weights.each
    parts = (rows + (most - 1)) // most
    step = (parts + (each - 1)) // parts  # bytes to ask for in the time of each k: all parts ask for all there is
    for part, first, number in code.equal_parts(rows, most):
        here = a.since(first)
        rest = (b, scales, beside, c + first * LINE, rows * LINE, depth, ahead + part * step * depth, step)
        if isinstance(here, paired.Rows):
            code.call(program.function(IN_PAIRS, paired.multiply, cut, number, side), *here[1:], *rest)
        else:
            code.call(micro_kernel(program, cut, number, side, 1, False), here.numbers, *rest)


def store(code: Code, f: Fields, sums: Pointer, images: Index, first_image: Index, group: Index, panel: Index) -> None:
    """A panel's sums to their places; a group's last panel may have fewer filters."""
    left = f.filters - panel * BLOCK
    for n in code.range(images):
        into = f.pointer("y") + (first_image + n) * f.out_image_bytes + (group * f.filters + panel * BLOCK) * 4
        for j in range(BLOCK // code.lanes):
            value = (sums + (n * LINE + j * code.bytes)).load()
            with code.when(code.index(j * code.lanes) < left):
                (into + j * code.bytes).store(value, code.within(j * code.lanes, left))
