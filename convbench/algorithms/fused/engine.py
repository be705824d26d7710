"""Convolution by tiles with nothing large in between: for a block of images, all inputs are transformed; then, panel by
panel of 16 filters, or two at a time, each point's matrix product goes straight into the inverse transform.

    V [point] [channel / 16] [tile, 16]  x  U [panel] [point] [channel, 16]  ->  M [tile, 16]  ->  y

The products of one panel's points along y wait in M, those of all points along x, inverted along y, in T; both stay in
the second-level cache. U is read once a block, in the order it lies in memory.

Blocks are shared out in one of two ways. Where V of a block and group fits the second-level cache beside the rest, each
thread works on blocks of its own; else all threads transform a block's input together, and then share out the panels.
"""

from __future__ import annotations

from convbench.algorithms.fused.block import FIELDS, Block
from convbench.algorithms.fused.inputs import Inputs
from convbench.algorithms.fused.panels import finish_panels
from convbench.algorithms.fused.stages import Tile
from convbench.vector.build import Program
from convbench.vector.clock import CLOCK_BYTES, Clock
from convbench.vector.code import Code
from convbench.vector.team import Fields, Team, shared_out
from convbench.vector.weights import EVEN_PAIRS, Weights

ROUNDS = 4  # of sharing out, at most, for a block that threads share


def convolve(
    program: Program, code: Code, tile: Tile, side: int, weights: Weights, lanes: tuple[int, int, bool], private: bool,
    streams: bool, clocked: bool,
) -> None:  # fmt: skip
    """The kernel.

    side: panels whose products go side by side, or in turn; weights: the form of U; lanes: step, run, alike of gather;
    private: blocks of their own for threads; streams: V goes past the caches; clocked: counts cycles by phase.
    """
    arguments, thread, threads = code.arguments
    f = Fields(code, arguments, FIELDS)
    clock = Clock(code, f.pointer("clocks") + thread * CLOCK_BYTES, clocked)
    inputs, form = Inputs(program, code, tile, weights, lanes, streams, f), (tile, side, weights)
    (_own_blocks if private else _shared_blocks)(program, code, form, f, inputs, Team(thread, threads), clock)
    code.fence()


def _own_blocks(
    program: Program, code: Code, form: tuple[Tile, int, Weights], f: Fields, inputs: Inputs, team: Team, clock: Clock
) -> None:
    """Each thread works on blocks of its own, of one group each, or on a share of one's filters."""
    (tile, _, weights), scratch = form, f.room(team.thread)
    parts, each = f.blocks * f.groups, f.block_groups * f.blocks_of_channels
    with shared_out(code, f.pointer("counters"), parts * f.block_shares, team, wait=False) as number:
        part, share = number // f.block_shares, number % f.block_shares
        group, after = part % f.groups, code.least(part + 1, parts - 1)
        v = scratch + f.scratch_bytes - group * f.group_bytes  # its room is for one group
        block = Block(code, f, tile, part // f.groups, v, scratch)
        following = Block(code, f, tile, after // f.groups, v, scratch)
        then = following.input_place(f, after % f.groups * f.blocks_of_channels)
        items = block.images * each
        if weights == EVEN_PAIRS:
            for row in code.range(block.images * block.rows):
                with clock.phase(0):
                    inputs.measure(block, group, row)
        for i in code.range(block.images if weights.own_powers else items):
            with clock.phase(0):
                if weights.own_powers:
                    inputs.image(block, i, group)
                    continue
                ahead = code.choose(i + 1 < items, block.input_place(f, inputs.place(i + 1, group)), then)
                inputs.channels(block, inputs.place(i, group), ahead)
        if weights == EVEN_PAIRS:
            with clock.phase(0):
                for plane in code.range(tile.planes):
                    inputs.sum_pairs(block, group, plane)
        first, last = share * f.items // f.block_shares, (share + 1) * f.items // f.block_shares
        for item in code.range(first, last):
            next_x = (f.pointer("x") + then, (item - first) * tile.planes)
            finish_panels(program, code, *form, f, block, group * f.items + item, next_x, clock)


def _shared_blocks(
    program: Program, code: Code, form: tuple[Tile, int, Weights], f: Fields, inputs: Inputs, team: Team, clock: Clock
) -> None:
    """All threads make V of a block together, and then share out its filters."""
    (tile, _, weights), sets = form, f.groups // f.block_groups
    for number in code.range(f.blocks * sets):
        first = number % sets * f.block_groups
        block = Block(code, f, tile, number // sets, f.shared_room - first * f.group_bytes, f.room(team.thread))
        counters = [f.pointer("counters") + (number * ROUNDS + turn) * f.tickets for turn in range(ROUNDS)]
        if weights == EVEN_PAIRS:
            rows = block.images * block.rows
            with shared_out(code, counters[2], f.block_groups * rows, team) as item, clock.phase(0):
                inputs.measure(block, first + item // rows, item % rows)
        items = block.images * f.block_groups
        if weights.own_powers:
            with shared_out(code, counters[0], items, team) as item, clock.phase(0):
                inputs.image(block, item // f.block_groups, first + item % f.block_groups)
        else:
            items = items * f.blocks_of_channels
            with shared_out(code, counters[0], items, team) as item, clock.phase(0):
                ahead = block.input_place(f, inputs.place(code.least(item + 1, items - 1), first))
                inputs.channels(block, inputs.place(item, first), ahead)
        if weights == EVEN_PAIRS:
            with shared_out(code, counters[3], f.block_groups * tile.planes, team) as item, clock.phase(0):
                inputs.sum_pairs(block, first + item // tile.planes, item % tile.planes)
        with shared_out(code, counters[1], f.block_groups * f.items, team) as item:
            next_x = (f.pointer("x"), code.index(0))  # all threads read it: none asks
            finish_panels(program, code, *form, f, block, first * f.items + item, next_x, clock)
