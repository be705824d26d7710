"""direct.blocked on a GPU where filters slide: the plan around strips.cu, and whether and how it suits a layer.

Strips of seven outputs, as the rows of most networks are 7, 14, 28, 56, .. pixels long: 13, 27 and 55 waste one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from convbench.algorithms.base import Plan
from convbench.algorithms.gpu import adding
from convbench.devices.base import Device
from convbench.problem import Problem

STRIP, FILTERS = 7, 8  # outputs of a thread: pixels x filters
STATIC_SHARED = 48 << 10  # bytes that a kernel may declare
STEP_TAPS = 9  # of a step, at least, where it is made of whole channels
REACH = 2, 8  # taps of a window: one shares nothing, and beyond eight registers run out
LEAST_USED = 0.95  # of a row of strips: wasting more costs what fewer loads win
FEW_FILTERS = 16  # of a group: blocked.cu has a tile of so few
WANTED_THREADS = 1 << 16  # about 512 for each multiprocessor of a large GPU
MOST_SHARES = 16  # by which the depth is split: each share writes all outputs once more
LEAST_TAPS = 64  # of a share, else its start and end weigh too much
# (lanes along filters, along strips): 8 filters and 7 pixels a lane
LANES = ((16, 16), (12, 16), (8, 32), (8, 16), (4, 32), (4, 16))
SMALL = 0.9  # the rate of a block of fewer than 192 threads, whose filters are copied for fewer pixels


@dataclass(frozen=True)
class Cut:
    """How strips.cu cuts a layer: lanes of a block, lines a step, shares of the lines, and blocks.

    cost is that of the threads with their speed, of a full GPU at least; among equals, the number of threads.
    """

    lanes_k: int
    lanes_p: int
    lines: int
    split: int
    blocks: int
    cost: tuple[float, int]


def shares(threads: int, steps: int, step_taps: int) -> int:
    """In how many shares to split `steps` of so many taps, where `threads` do one share."""
    return max(1, min(MOST_SHARES, WANTED_THREADS // threads, steps // -(-LEAST_TAPS // step_taps)))


def best_cut(problem: Problem) -> Cut | None:
    """The cheapest cut; None where blocked.cu suits the layer better.

    Of the instructions in blocked.cu's loop 82 % multiply, here 79 to 83 % by the layer (sm_90's machine code for
    AlexNet), but its gathers cross the stride, and its tiles are of 128 filters or slow: strips win where they waste
    little.
    """
    s = problem.shape
    reach = -(-s.s // s.stride[1])
    if problem.precision != "float32" or s.dilation[1] > 1 or not REACH[0] <= reach <= REACH[1]:
        return None
    if s.q < LEAST_USED * STRIP * -(-s.q // STRIP) or s.k // s.groups <= FEW_FILTERS:
        return None
    cuts = [cut for lanes in LANES if (cut := _cut(problem, *lanes))]
    return min(cuts, key=lambda cut: cut.cost, default=None)


def _cut(problem: Problem, lanes_k: int, lanes_p: int) -> Cut | None:
    """A cut in steps of whole channels, else of one line; None where both need more shared memory than there is."""
    s = problem.shape
    strips = -(-s.q // STRIP)
    row_segments = -(-strips // lanes_p)
    segment = -(-strips // row_segments)
    segments = lanes_p // segment
    columns = (segment * STRIP + -(-s.s // s.stride[1]) - 1) * s.stride[1]
    threads = lanes_k * lanes_p
    line = s.s * lanes_k * FILTERS + segments * (columns + 31)  # numbers a line takes, the largest pitch allowed for
    channels = s.r * -(-STEP_TAPS // (s.r * s.s))
    fits = [lines for lines in (channels, 1) if 4 * (2 * lines * line + threads * STRIP) <= STATIC_SHARED]
    if not fits:
        return None
    lines = fits[0]
    tiles = s.groups * -(-s.k // s.groups // (lanes_k * FILTERS)) * -(-s.n * s.p * row_segments // segments)
    split = shares(tiles * threads, -(-(s.c // s.groups * s.r) // lines), lines * s.s)
    cost = max(tiles * threads / (SMALL if threads < 192 else 1.0), WANTED_THREADS / split), tiles * threads
    return Cut(lanes_k, lanes_p, lines, split, tiles * split, cost)


def in_strips(problem: Problem, device: Device, cut: Cut) -> Plan:
    """The plan around strips.cu, and add_parts where the lines are shared out."""
    s, xp = problem.shape, device.xp
    knobs = {"LANES_K": cut.lanes_k, "LANES_P": cut.lanes_p, "LINES": cut.lines, "SPLIT": cut.split}
    module = device.load(Path(__file__).with_suffix(".cu"), problem, **knobs)
    kernel, add_parts = module.get_function("strips"), module.get_function("add_parts")
    filters, all_lines, tile = s.k // s.groups, s.c // s.groups * s.r, cut.lanes_k * FILTERS
    filter_tiles, outputs = -(-filters // tile), prod(s.y_shape)
    lines = -(-all_lines // (cut.lines * cut.split)) * cut.lines * cut.split
    parts = device.empty((cut.split, outputs) if cut.split > 1 else (0,), problem.storage)

    def prepare(w: Any) -> Any:
        padded = xp.zeros((s.groups, filter_tiles * tile, lines, s.s), problem.storage)
        padded[:, :filters, :all_lines] = w.reshape(s.groups, filters, all_lines, s.s)
        tiles = padded.reshape(s.groups, filter_tiles, tile, lines, s.s)
        return xp.ascontiguousarray(tiles.transpose(0, 1, 3, 4, 2))

    def run(x: Any, packed: Any, y: Any) -> None:
        kernel((cut.blocks,), (cut.lanes_k * cut.lanes_p,), (x, packed, parts if cut.split > 1 else y))
        if cut.split > 1:
            device.launch(add_parts, *adding(outputs), (parts, y), follows=True)

    words = f"strips of {STRIP} outputs, blocks of {tile} filters x {cut.lanes_p} strips"
    words += f", lines in {cut.split} shares" if cut.split > 1 else ""
    flops = 2 * cut.blocks // cut.split * cut.lanes_k * cut.lanes_p * STRIP * FILTERS * lines * s.s
    return Plan(run, prepare, parts.nbytes, words, flops)
