"""`list` and `info`: what there is, and what a layer is."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING

from convbench.algorithms.base import Algorithm
from convbench.console import make_console
from convbench.devices.base import Device
from convbench.layers import Layer
from convbench.problem import PRECISIONS, USUAL_PRECISIONS, Problem
from convbench.shapes import ConvShape
from convbench.units import size

if TYPE_CHECKING:
    from rich.table import Table


def _table(*columns: str, wrap: str = "") -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name != wrap)
    return table


def print_listing(net: str, layers: Sequence[Layer], algorithms: Sequence[Algorithm], kinds: Sequence[str]) -> None:
    """Layers, algorithms and devices, with the reason and the remedy for what is not available."""
    from rich.text import Text

    from convbench.layers import built_in

    console = make_console()
    console.print(f"[b]layers[/b] of {net} (built-in sets: {', '.join(built_in())}; --net takes a .toml file)")
    table = _table("name", "shape", "GFLOP")
    for layer in layers:
        table.add_row(layer.name, str(layer.shape), f"{layer.shape.flops / 1e9:.3f}")
    console.print(table)

    reasons = {kind: unavailable(kind) for kind in kinds}
    console.print("\n[b]algorithms[/b]")
    table = _table("name", *kinds, "what it does", wrap="what it does")
    absent = [algorithm.name for algorithm in algorithms if not set(kinds) & set(algorithm.on)]
    for algorithm in algorithms:
        if algorithm.name in absent:
            continue
        marks = ["-" if kind not in algorithm.on else ("no GPU" if reasons[kind] else "yes") for kind in kinds]
        wants = "; ".join(f"{kind}: {text}" for kind in kinds if (text := wants_of(algorithm, kind)))
        table.add_row(algorithm.name, *marks, Text(str(algorithm.summary) + (f" ({wants})" if wants else "")))
    console.print(table)
    if absent:
        console.print(f"without code for the {', '.join(kinds)}: {', '.join(absent)}", markup=False)

    console.print("\n[b]devices[/b]")
    for kind in kinds:
        text = reasons[kind] or device_line(kind)
        console.print(f"{kind}: {'not available: ' if reasons[kind] else ''}{text}", markup=False)
    console.print(f"precisions: {', '.join(PRECISIONS)}")


def wants_of(algorithm: Algorithm, kind: str) -> str:
    """What an algorithm's code for a kind of device needs, and the precisions it has where those are not the usual."""
    if kind not in algorithm.on:
        return ""
    has = algorithm.precisions_on(kind)
    words = [algorithm.needs[kind]] if kind in algorithm.needs else []
    if has != USUAL_PRECISIONS:
        words.append("every precision" if set(has) == set(PRECISIONS) else ", ".join(has))
    return "; ".join(words)


def unavailable(kind: str) -> str:
    """Why a kind of device cannot be used, with the remedy; "" where it can."""
    from convbench.devices.base import NoDevice

    if kind == "cpu":
        return ""
    from convbench.devices.cuda import cuda_device

    try:
        cuda_device(1)
    except NoDevice as reason:
        return str(reason)
    return ""


def device_line(kind: str) -> str:
    """What a usable device is."""
    from convbench.devices.cpu import cpu_name, physical_cores
    from convbench.devices.cpu_caches import last_level_cache

    if kind == "cpu":
        return f"{cpu_name()}, {physical_cores()} cores, {size(last_level_cache())} last-level cache"
    from convbench.devices.cuda import cuda_device

    return cuda_device(1).hardware


def print_info(layer: Layer, batch: int, precision: str, algorithms: Sequence[Algorithm], device: Device) -> None:
    """A layer explained: sizes, matrices, FLOPs, bytes, and what each algorithm does with it."""
    from rich.text import Text

    console = make_console()
    shape = layer.shape.with_batch(batch)
    problem = Problem(shape, precision)
    console.print(f"[b]{layer.name}[/b]  {shape}  {precision}")
    if layer.about:
        console.print(fill(layer.about, 78), markup=False)
    table = _table("what", "size", wrap="size")
    table.show_header = False
    for name, text in facts(shape, problem.number.bytes):
        table.add_row(name, Text(text))  # brackets are no markup
    console.print(table)
    console.print(f"\n[b]what each algorithm does with it[/b] (on this CPU, {device.threads} threads)")
    table = _table("algorithm", "workspace", "how", wrap="how")
    for algorithm in algorithms:
        table.add_row(algorithm.name, *map(Text, explain(algorithm, problem, device)))
    console.print(table)


def facts(shape: ConvShape, width: int) -> list[tuple[str, str]]:
    """The numbers of a shape, for elements of `width` bytes."""
    depth, pixels = shape.c // shape.groups * shape.r * shape.s, shape.p * shape.q
    each = " for each group" if shape.groups > 1 else ""
    inputs = shape.c * shape.h * shape.w
    matrix = shape.groups * depth * pixels
    lines = [
        ("input x", f"{dims(shape.x_shape)}, {size(shape.n * inputs * width)}"),
        ("filters w", f"{dims(shape.w_shape)}, {shape.k * depth:,} weights, {size(shape.k * depth * width)}"),
        ("output y", f"{dims(shape.y_shape)}, {size(shape.n * shape.k * pixels * width)}"),
        ("stride, pad, dilation", f"{dims(shape.stride)}, {dims(shape.pad)}, {dims(shape.dilation)}"),
        ("groups", str(shape.groups)),
        ("im2col matrix", f"[{depth} x {pixels}]{each}, {size(matrix * width)} an image"),
        ("filter matrix W", f"[{shape.k // shape.groups} x {depth}]{each}"),
        ("duplication", f"{matrix / inputs:.1f}x: {inputs:,} inputs become {matrix:,}"),
        ("FLOPs, nominal", f"{shape.flops:,} (padding counted)"),
        ("FLOPs, true", f"{shape.flops_true:,} (taps on padding left out)"),
        ("bytes, at least", f"{size(shape.elements * width)}: x, w and y moved once"),
        ("arithmetic intensity", f"{shape.flops / (shape.elements * width):.1f} FLOP/byte"),
    ]
    if shape.is_matrix_product:
        lines.append(
            (
                "fully connected",
                "nothing to stretch: " + ("a matrix-vector" if shape.n == 1 else "one matrix") + " product",
            )
        )
    return lines


def dims(values: Sequence[int]) -> str:
    """1 x 3 x 227 x 227."""
    return " x ".join(map(str, values))


def explain(algorithm: Algorithm, problem: Problem, device: Device) -> tuple[str, str]:
    """Workspace and note of an algorithm's plan, or why there is none."""
    from convbench.measure.case import Case, guarded

    case = Case(algorithm, problem)
    if device.kind not in algorithm.on:
        return "", f"not on the {device.kind}"
    if reason := algorithm.refusal(problem, device.kind):
        return "", f"unsupported: {reason}"

    def plan() -> None:
        made = algorithm.on[device.kind](problem, device)
        case.workspace_bytes, case.note = made.workspace, made.note

    guarded(case, plan)
    if case.status != "ok":
        return "", f"{case.status}: {case.note}"
    return size(case.workspace_bytes), case.note or algorithm.summary
