"""A plan around a compiled kernel: packed filters, its table of arguments, its calls, and its time by phase."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

from convbench.algorithms.base import Plan
from convbench.devices.base import Device
from convbench.shapes import ConvShape
from convbench.vector.clock import CLOCK_BYTES, shares
from convbench.vector.product import BLOCK
from convbench.vector.target import Target
from convbench.vector.team import runner, tickets


def blocks_together(target: Target, filters: int) -> int:
    """Blocks of 16 filters whose sums share a pixel's load: two where one is a single vector, if there are so many."""
    return 2 if target.lanes == BLOCK and filters > BLOCK else 1


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
    device: Device, fields: Sequence[str], values: Mapping[str, int], names: Sequence[str],
    address: Callable[[bool], int], held: Sequence[Any], prepare: Callable[[Any], Any], note: str, flops: int,
) -> Plan:  # fmt: skip
    """A plan that calls a kernel with one round of sharing out.

    fields are the kernel's arguments in order and values those that stay (0 where not named); x, w, y, counters and
    clocks are set here. address(clocked) is the compiled kernel, names its phases, held the arrays it has addresses of.
    """
    xp = device.xp
    assert set(values) <= set(fields), set(values) - set(fields)
    counters = xp.zeros(tickets(device.threads) // 8, xp.int64)
    clocks = xp.zeros((device.threads, CLOCK_BYTES // 8), xp.int64)
    arguments = xp.array([values.get(name, 0) for name in fields], xp.int64)
    where = {name: i for i, name in enumerate(fields)}
    arguments[where["counters"]], arguments[where["clocks"]] = counters.ctypes.data, clocks.ctypes.data
    call = runner(address(False), device.threads)
    kept = (*held, counters, clocks, arguments)  # the kernel has but their addresses: the plan must keep them

    def phases(x: Any, w: Any, y: Any) -> Mapping[str, float]:
        clocked = runner(address(True), device.threads)
        clocks[...] = 0
        begin = device.now()
        _run(kept, clocked, where, x, w, y)
        return shares(clocks, names, device.now() - begin)

    workspace = sum(array.nbytes for array in kept)
    return Plan(partial(_run, kept, call, where), prepare, workspace, note, flops, phases)


def _run(kept: Sequence[Any], call: Callable[[int], None], where: Mapping[str, int], x: Any, w: Any, y: Any) -> None:
    counters, arguments = kept[-3], kept[-1]
    counters[...] = 0
    for name, array in (("x", x), ("w", w), ("y", y)):
        arguments[where[name]] = array.ctypes.data
    call(arguments.ctypes.data)
