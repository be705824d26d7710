"""What can be typed after a command, and what it means: layers, algorithms, devices, seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from convbench.algorithms.base import Algorithm
    from convbench.layers import Layer

USAGE = 2


class UserError(Exception):
    """Something the user can mend; the text is one line that says what and how."""

    def __init__(self, text: str, code: int = USAGE) -> None:
        super().__init__(text)
        self.code = code


Layers = Annotated[str, typer.Option("--layer", help="Names, comma lists, globs or [b]all[/b].")]
Algos = Annotated[str, typer.Option("--algo", help="Names, families, comma lists, globs ([b]fft.*[/b]) or [b]all[/b].")]
NetName = Annotated[str, typer.Option("--net", help="A built-in layer set, or the path of a .toml file.")]
DeviceKind = Annotated[str, typer.Option("--device", help="[b]cpu[/b], [b]cuda[/b], or auto: CUDA where it works.")]
Threads = Annotated[int, typer.Option(min=0, max=4096, help="CPU threads; 0: one a physical core.")]
PrecisionName = Annotated[
    str, typer.Option("--precision", help="[b]float32[/b], [b]float64[/b]; on a GPU also [b]tf32[/b], [b]float16[/b].")
]
Plugins = Annotated[list[str] | None, typer.Option("--plugin", help="A .py file with ALGORITHMS; may be repeated.")]
Seed = Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="Of the random operands; default: a fresh one.")]


def chosen_layers(net: str, wanted: str, shape: str | None) -> tuple[str, Sequence[Layer]]:
    """The set's name and the layers that --net, --layer and --shape mean."""
    from convbench.algorithms import UnknownName, select
    from convbench.layers import Layer, LayerError, load
    from convbench.shapes import ShapeError, parse_shape

    if shape is not None:
        if wanted != "all":
            raise UserError("--shape and --layer exclude each other: a shape is a layer of its own")
        try:
            parsed = parse_shape(shape)
        except ShapeError as error:
            raise UserError(str(error)) from None
        return "shape", [Layer(str(parsed), parsed)]
    try:
        found = load(net)
        names = select(wanted, [layer.name for layer in found.layers], "layer")
    except (LayerError, UnknownName) as error:
        raise UserError(str(error)) from None
    return found.name, [layer for layer in found.layers if layer.name in names]


def chosen_algorithms(wanted: str, plugins: Sequence[str] | None) -> list[Algorithm]:
    """The algorithms that --algo and --plugin mean."""
    from convbench.algorithms import PluginError, UnknownName, collect, select

    try:
        known = collect(plugins or ())
        names = select(wanted, [algorithm.name for algorithm in known], "algorithm")
    except (PluginError, UnknownName) as error:
        raise UserError(str(error)) from None
    return [algorithm for algorithm in known if algorithm.name in names]


def with_code(algorithms: Sequence[Algorithm], wanted: str, kind: str) -> list[Algorithm]:
    """Without those that have no code for a kind of device, unless --algo names them in full or means nothing else."""
    named = {part.strip() for part in wanted.split(",")}
    return [a for a in algorithms if kind in a.on or a.name in named] or list(algorithms)


def check_device(kind: str) -> None:
    """Refuse device kinds that do not exist."""
    if kind not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {kind} is not one of auto, cpu, cuda")


def check_precision(precision: str) -> None:
    """Refuse precisions that do not exist."""
    from convbench.problem import PRECISIONS

    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision} is not one of {', '.join(PRECISIONS)}")


def check_some_compute_in(precision: str, algorithms: Sequence[Algorithm], kind: str) -> None:
    """Refuse a precision in which none of the chosen algorithms computes on a device of this kind."""
    from convbench.problem import USUAL_PRECISIONS

    if precision in USUAL_PRECISIONS:
        return  # who does not compute in them gets a row that says why
    if not any(kind in a.on and precision in a.precisions_on(kind) for a in algorithms):
        raise UserError(
            f"--precision {precision}: none of the chosen algorithms computes in it on the {kind}; "
            f"`convbench list --device {kind}` shows what there is"
        )


def chosen_device(kind: str, threads: int) -> tuple[Any, str]:
    """The device of --device and --threads, and why it is this one."""
    from convbench.devices.base import NoDevice
    from convbench.devices.cpu import physical_cores
    from convbench.machine import open_device, set_threads

    check_device(kind)
    count = threads or physical_cores()
    set_threads(count)
    try:
        return open_device(kind, count)
    except NoDevice as reason:
        raise UserError(str(reason)) from None


def fresh_seed() -> int:
    """A seed nobody has used."""
    import secrets

    return secrets.randbits(32)
