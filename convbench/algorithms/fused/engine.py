"""Convolution by tiles with nothing large in between: for a block of images, all inputs are transformed; then, panel by
panel of 16 filters, or two side by side, each point's matrix product goes straight into the inverse transform.

    V [point] [channel / 16] [tile, 16]  x  U [panel] [point] [channel, 16]  ->  M [tile, 16]  ->  y

The products of one panel's points along y wait in M, those of all points along x, inverted along y, in T; both stay in
the second-level cache. U is read once a block, in the order it lies in memory.

Blocks are shared out in one of two ways. Where V of a block and group fits the second-level cache beside the rest, each
thread works on blocks of its own; else all threads transform a block's input together, and then share out the panels.
"""

from __future__ import annotations

from convbench.algorithms.fused.block import FIELDS, LANE_BYTES, Block
from convbench.algorithms.fused.lines import gather
from convbench.algorithms.fused.panels import finish_panels
from convbench.algorithms.fused.sizes import bring_to_size
from convbench.algorithms.fused.stages import Tile, forward_columns, forward_rows
from convbench.vector.build import Program
from convbench.vector.clock import CLOCK_BYTES, Clock
from convbench.vector.code import Code, Index, Pointer
from convbench.vector.team import Fields, Team, shared_out
from convbench.vector.weights import BLOCK, LINE, Weights


def convolve(
    program: Program, code: Code, tile: Tile, side: int, weights: Weights, lanes: tuple[int, int, bool], private: bool,
    streams: bool, clocked: bool,
) -> None:  # fmt: skip
    """The kernel.

    side: panels whose products go side by side; weights: the form of U; lanes: step, run, alike of gather; private:
    blocks of their own for threads; streams: V goes past the caches; clocked: counts cycles by phase.
    """
    arguments, thread, threads = code.arguments
    team = Team(thread, threads)
    f = Fields(code, arguments, FIELDS)
    shared, scratch = f.shared_room, f.room(thread)
    clock = Clock(code, f.pointer("clocks") + thread * CLOCK_BYTES, clocked)
    inputs, each = f.groups * f.blocks_of_channels, f.block_groups * f.blocks_of_channels

    def place(i: Index, first: Index) -> Index:
        """Of all images' blocks of channels, the i-th of those groups that begin with the first."""
        return i // each * inputs + first * f.blocks_of_channels + i % each

    if private:
        parts = f.blocks * f.groups
        with shared_out(code, f.pointer("counters"), parts * f.block_shares, team, wait=False) as number:
            part, share = number // f.block_shares, number % f.block_shares
            group, after = part % f.groups, code.least(part + 1, parts - 1)
            v = scratch + f.scratch_bytes - group * f.group_bytes  # its room is for one group
            block = Block(code, f, tile, part // f.groups, v, scratch)
            following = Block(code, f, tile, after // f.groups, v, scratch)
            then = following.input_place(f, after % f.groups * f.blocks_of_channels)
            items = block.images * each
            for i in code.range(block.images if weights.in_pairs else items):
                with clock.phase(0):
                    if weights.in_pairs:
                        transform_image(program, code, tile, lanes, streams, f, block, i, group)
                        continue
                    ahead = code.choose(i + 1 < items, block.input_place(f, place(i + 1, group)), then)
                    transform_input(program, code, tile, lanes, streams, f, block, place(i, group), ahead)
            first, last = share * f.items // f.block_shares, (share + 1) * f.items // f.block_shares
            for item in code.range(first, last):
                next_x = (f.pointer("x") + then, (item - first) * tile.planes)
                finish_panels(program, code, tile, side, weights, f, block, group * f.items + item, next_x, clock)
        code.fence()
        return
    sets = f.groups // f.block_groups
    for number in code.range(f.blocks * sets):
        first = number % sets * f.block_groups
        block = Block(code, f, tile, number // sets, shared - first * f.group_bytes, scratch)
        counters = f.pointer("counters") + number * 2 * f.tickets
        items = block.images * (f.block_groups if weights.in_pairs else each)
        with shared_out(code, counters, items, team) as item, clock.phase(0):
            if weights.in_pairs:
                n, group = item // f.block_groups, first + item % f.block_groups
                transform_image(program, code, tile, lanes, streams, f, block, n, group)
            else:
                ahead = block.input_place(f, place(code.least(item + 1, items - 1), first))
                transform_input(program, code, tile, lanes, streams, f, block, place(item, first), ahead)
        with shared_out(code, counters + f.tickets, f.block_groups * f.items, team) as item:
            next_x = (f.pointer("x"), code.index(0))  # all threads read it: none asks
            finish_panels(program, code, tile, side, weights, f, block, first * f.items + item, next_x, clock)
    code.fence()


def transform_input(
    program: Program, code: Code, tile: Tile, lanes: tuple[int, int, bool], streams: bool, f: Fields, block: Block,
    item: Index, ahead: Index, own: Pointer | None = None,
) -> None:  # fmt: skip
    """One image's 16 channels, from x to V; ahead: the input_place of those that will be wanted next.

    own: where they go instead, for an image alone, planes as of f.own_plane_bytes.
    """
    inputs = f.groups * f.blocks_of_channels
    n, channels = item // inputs, item % inputs
    group, number = channels // f.blocks_of_channels, channels % f.blocks_of_channels
    room = block.scratch + f.room_at
    line_bytes = f.tiles * (tile.columns * LINE)
    for line in code.range(0, block.lines, f.buffer_rows):
        rows = code.least(block.lines - line, f.buffer_rows)
        code.call(
            program.function("ppiiiiiipii", gather, *lanes),
            f.pointer("x") + (block.first_image + n) * f.image_bytes,
            f.pointer("table") + channels * (BLOCK * LANE_BYTES),
            f.height, f.width, f.row_step, block.first_line + line, rows, f.columns,
            block.scratch, f.pitch, ahead - block.input_place(f, item),
        )  # fmt: skip
        code.call(
            program.function("pipiii", forward_rows, tile),
            block.scratch, f.pitch, room + line * line_bytes, rows, f.tiles, f.tiles - f.short_columns,
        )  # fmt: skip
    v = own or block.v + group * f.group_bytes + number * f.slab_bytes
    for kind in block.kinds:
        place = kind.first // block.images if own else kind.first + n * kind.rows * kind.columns
        code.call(
            program.function("piipiii", forward_columns, tile, streams),
            room + block.line(kind.row) * line_bytes + kind.column * (tile.columns * LINE), line_bytes,
            line_bytes * kind.step, v + place * LINE, f.own_plane_bytes if own else f.plane_bytes,
            kind.rows, kind.columns,
        )  # fmt: skip
    if streams:
        code.fence()


def transform_image(
    program: Program, code: Code, tile: Tile, lanes: tuple[int, int, bool], streams: bool, f: Fields, block: Block,
    n: Index, group: Index,
) -> None:  # fmt: skip
    """One image's channels of a group, from x to V as products in pairs need it: first to a place of the thread's own.

    So what is in V is written once, in rows of its size, and past the caches where threads share none.
    """
    own, first = block.scratch + f.own_at, (n * f.groups + group) * f.blocks_of_channels
    for i in code.range(f.blocks_of_channels):
        ahead = block.input_place(f, first + code.least(i + 1, f.blocks_of_channels - 1))
        transform_input(program, code, tile, lanes, False, f, block, first + i, ahead, own + i * f.own_slab_bytes)
    for kind in block.kinds:
        tiles = kind.rows * kind.columns
        code.call(
            program.function("piipiiiii", bring_to_size, streams),
            own + kind.first // block.images * LINE, f.own_slab_bytes, f.own_plane_bytes,
            block.v + group * f.group_bytes + (kind.first + n * tiles) * LINE, f.slab_bytes, f.plane_bytes,
            tile.planes, f.depth, tiles,
        )  # fmt: skip
    if streams:
        code.fence()
