"""Fully connected layers on a GPU, whose outputs are too few to fill it: their depth in shares, added up afterwards."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from convbench.algorithms.base import Plan
from convbench.algorithms.gpu import adding
from convbench.algorithms.phased import Body, phases_of, runs
from convbench.devices.base import Device
from convbench.problem import Problem


def ceil(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def sizes(problem: Problem) -> tuple[int, int]:
    """Depth and filters of a group."""
    s = problem.shape
    return s.c // s.groups * s.r * s.s, s.k // s.groups


def in_shares(
    problem: Problem,
    device: Device,
    file: Path,
    name: str,
    knobs: dict[str, int],
    launch: tuple[int, int],
    words: str,
    flops: int,
    shared_bytes: int = 0,
) -> Plan:
    """A kernel of `launch` blocks and threads each, and add_parts where the depth is in shares."""
    module = device.load(file, problem, **knobs)
    kernel, add_parts = module.get_function(name), module.get_function("add_parts")
    split, outputs = knobs["SPLIT"], prod(problem.shape.y_shape)
    grid, block = ((size,) for size in launch)
    if shared_bytes:
        kernel.max_dynamic_shared_size_bytes = shared_bytes
    if split == 1:
        return Plan(lambda x, w, y: kernel(grid, block, (x, w, y), shared_mem=shared_bytes), note=words, flops=flops)
    parts = device.empty((split, outputs), "float32")

    def body(x: Any, w: Any, y: Any) -> Any:
        kernel(grid, block, (x, w, parts), shared_mem=shared_bytes)
        yield name
        device.launch(add_parts, *adding(outputs), (parts, y), follows=True)
        yield "sum of shares"

    work: Body = body
    words += f", depth in {split} shares"
    return Plan(runs(work), workspace=parts.nbytes, note=words, flops=flops, phases=phases_of(work, device))
