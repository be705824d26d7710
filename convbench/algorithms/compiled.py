"""A plan around a compiled kernel: packed filters, its table of arguments, its calls, and its time by phase."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from convbench.algorithms.base import Plan
from convbench.devices.base import Device
from convbench.shapes import ConvShape
from convbench.vector.clock import CLOCK_BYTES, shares
from convbench.vector.room import Rooms
from convbench.vector.target import Target
from convbench.vector.team import Arguments, later, runner, tickets
from convbench.vector.weights import BLOCK

ITEMS_EACH = 4  # that a thread gets at least, where there are so many, so that all end at about the same time


def blocks_together(target: Target, filters: int, in_pairs: bool = False) -> int:
    """Blocks of 16 filters whose sums share a pixel's load: two where one is a single vector, if there are so many.

    In pairs only where two whole vectors are multiplied at a time: elsewhere one block of more pixels takes less time.
    """
    return 2 if target.lanes == BLOCK and filters > BLOCK and (target.panels > 1 or not in_pairs) else 1


def pack(xp: Any, device: Device, s: ConvShape, blocks: int, w: Any) -> Any:
    """Filters [groups, panels, C R S, 16 x blocks], zeros behind the last."""
    filters, depth, width = s.k // s.groups, prod(s.w_shape[1:]), blocks * BLOCK
    panels = -(-filters // width)
    out = device.empty((s.groups, panels, depth, width), "float32")
    flat = w.reshape(s.groups, filters, depth)
    for panel in range(panels):
        part = flat[:, panel * width : (panel + 1) * width].transpose(0, 2, 1)
        out[:, panel, :, : part.shape[2]] = part
        out[:, panel, :, part.shape[2] :] = 0
    return out


def plan_of(
    device: Device, fields: Sequence[str], values: Mapping[str, Any], names: Sequence[str],
    address: Callable[[bool], int], prepare: Callable[[Any], Any], note: str, flops: int, rooms: Rooms,
    sharings: int = 1,
) -> Plan:  # fmt: skip
    """A plan that calls a kernel with one round of sharing out, or several.

    fields are the kernel's arguments in order, values those that stay, numbers or arrays (0 where not named); x, w, y,
    counters, clocks and rooms' addresses are set here. address(clocked) compiles the kernel, names are its phases.
    """
    xp = device.xp
    counters = xp.zeros(sharings * tickets(device.threads) // 8, xp.int64)
    clocks = xp.zeros((device.threads, CLOCK_BYTES // 8), xp.int64)
    held = {"counters": counters, "clocks": clocks, "rooms": rooms.addresses}
    arguments = Arguments(xp, fields, {**values, **held})
    workspace = arguments.bytes + rooms.nbytes
    call = later(lambda: runner(address(False), device.threads))

    def run(x: Any, w: Any, y: Any, call: Callable[[int], None] = call) -> None:
        counters[...] = 0
        rooms.settle()
        for name, array in (("x", x), ("w", w), ("y", y)):
            arguments.point(name, array)
        call(arguments.address)

    def phases(x: Any, w: Any, y: Any) -> Mapping[str, float]:
        clocked = runner(address(True), device.threads)
        clocks[...] = 0
        begin = device.now()
        run(x, w, y, clocked)
        return shares(clocks, names, device.now() - begin)

    return Plan(run, prepare, workspace, note, flops, phases)
