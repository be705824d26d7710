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
from convbench.algorithms.fused.stages import Tile, forward_columns, forward_rows
from convbench.vector.build import Program
from convbench.vector.clock import CLOCK_BYTES, Clock
from convbench.vector.code import Code, Index
from convbench.vector.product import BLOCK, LINE
from convbench.vector.team import TICKETS, Fields, shared_out


def convolve(
    program: Program, code: Code, tile: Tile, side: int, lanes: tuple[int, int, bool], private: bool, streams: bool,
    clocked: bool,
) -> None:  # fmt: skip
    """The kernel.

    side: panels whose products go side by side; lanes: step, run, alike of gather; private: blocks of their own for
    threads; streams: V goes past the caches; clocked: counts cycles by phase.
    """
    place, thread = code.arguments
    f = Fields(code, place, FIELDS)
    scratch = f.pointer("scratch") + thread * f.scratch_bytes
    clock = Clock(code, f.pointer("clocks") + thread * CLOCK_BYTES, clocked)
    inputs, panels = f.groups * f.blocks_of_channels, f.groups * f.items
    if private:
        with shared_out(code, f.pointer("counters"), f.blocks * f.groups, wait=False) as part:
            group = part % f.groups
            v = f.pointer("v") + thread * f.v_bytes - group * f.group_bytes  # its room is for one group
            block = Block(code, f, part // f.groups, v, scratch)
            for n in code.range(block.images):
                for number in code.range(f.blocks_of_channels):
                    with clock.phase(0):
                        item = n * inputs + group * f.blocks_of_channels + number
                        transform_input(program, code, tile, lanes, streams, f, block, item)
            for number in code.range(f.items):
                finish_panels(program, code, tile, side, f, block, group * f.items + number, clock)
        code.fence()
        return
    for number in code.range(f.blocks):
        block = Block(code, f, number, f.pointer("v"), scratch)
        counters = f.pointer("counters") + number * (2 * TICKETS)
        with shared_out(code, counters, block.images * inputs) as item, clock.phase(0):
            transform_input(program, code, tile, lanes, streams, f, block, item)
        with shared_out(code, counters + TICKETS, panels) as item:
            finish_panels(program, code, tile, side, f, block, item, clock)
    code.fence()


def transform_input(
    program: Program, code: Code, tile: Tile, lanes: tuple[int, int, bool], streams: bool, f: Fields, block: Block,
    item: Index,
) -> None:  # fmt: skip
    """One image's 16 channels, from x to V."""
    inputs = f.groups * f.blocks_of_channels
    n, channels = item // inputs, item % inputs
    group, number = channels // f.blocks_of_channels, channels % f.blocks_of_channels
    y = tile.y
    room = block.scratch + f.room_at
    code.call(
        program.function("ppiiiiiipi", gather, *lanes),
        f.pointer("x") + (block.first_image + n) * f.image_bytes,
        f.pointer("table") + channels * (BLOCK * LANE_BYTES),
        f.height, f.width, f.row_step,
        block.first_row * y.outputs, block.rows * y.outputs + (y.window - y.outputs), f.columns,
        block.scratch, f.pitch,
    )  # fmt: skip
    code.call(
        program.function("pipii", forward_rows, tile),
        block.scratch, f.pitch, room, block.rows * y.outputs + (y.window - y.outputs), f.tiles,
    )  # fmt: skip
    v = block.v + group * f.group_bytes + number * f.slab_bytes
    for first, row, column, rows, columns in block.kinds:
        code.call(
            program.function("pipiii", forward_columns, tile, streams),
            room + (row * y.outputs * f.tiles + column) * (tile.columns * LINE), f.tiles * (tile.columns * LINE),
            v + (first + n * rows * columns) * LINE, f.plane_bytes, rows, columns,
        )  # fmt: skip
    if streams:
        code.fence()
