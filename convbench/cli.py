"""The command line: read what was typed, call one function, show what it found."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from convbench.algorithms.base import Algorithm
    from convbench.layers import Layer

USAGE, NOT_MEASURED, INTERRUPTED = 2, 4, 130

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok; 1 internal error, or results could not be written; 2 usage; 3 regression; "
    "4 not measured, failed or unstable; 5 wrong results; 130 interrupted.",
)


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
PrecisionName = Annotated[str, typer.Option("--precision", help="[b]float32[/b] or [b]float64[/b].")]
Plugins = Annotated[list[str] | None, typer.Option("--plugin", help="A .py file with ALGORITHMS; may be repeated.")]
Seed = Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="Of the random operands; default: a fresh one.")]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Tells for every convolution how fast, how hungry and how exact each algorithm is on this machine."""
    if version:
        from convbench._version import __version__

        typer.echo(f"convbench {__version__}")
        raise typer.Exit


@app.command(
    epilog="Examples: [b]convbench run --layer conv1 --algo gemm[/b] · [b]convbench run --layer conv3,conv4 --algo "
    "'winograd,fft.*' --batch 16[/b] · [b]convbench run --shape n1c64h56w56k128r3s3u2p1[/b] · "
    "[b]convbench run --net mine.toml --threads 2 --budget 1 --out results/x.csv[/b]"
)
def run(
    layer: Layers = "all",
    algo: Algos = "all",
    net: NetName = "alexnet",
    shape: Annotated[
        str | None,
        typer.Option(help="Instead of --net: n c h w k r s, then u stride, p pad, d dilation, g groups (u2x1: h x w)."),
    ] = None,
    batch: Annotated[int, typer.Option(min=0, max=1_000_000, help="Images; 0: as the layer says (1).")] = 0,
    device: DeviceKind = "auto",
    threads: Threads = 0,
    precision: PrecisionName = "float32",
    cache: Annotated[str, typer.Option(help="[b]hot[/b] or [b]cold[/b]; default: hot on a CPU, cold on a GPU.")] = "",
    budget: Annotated[float, typer.Option(min=0.001, max=3600, help="Seconds of sampling a case may take.")] = 3.0,
    seed: Seed = None,
    plugin: Plugins = None,
    out: Annotated[Path | None, typer.Option(help="CSV to append to; default: results/runs/<run>.csv.")] = None,
) -> None:
    """Measure: every chosen layer under every chosen algorithm, checked against float64, into a CSV."""
    from convbench import console as show
    from convbench.machine import describe
    from convbench.measure.rules import Budget
    from convbench.results import Row, Writer
    from convbench.sweep import Request, ceilings, exit_code, run_name, sweep

    name, layers = chosen_layers(net, layer, shape)
    algorithms = chosen_algorithms(algo, plugin)
    check_precision(precision)
    opened, why = chosen_device(device, threads)
    if cache and cache not in opened.caches:
        raise UserError(f"--cache {cache} is not one of {', '.join(opened.caches)} on the {opened.kind}")
    seed = fresh_seed() if seed is None else seed
    request = Request(
        name, layers, algorithms, batch, precision, cache or opened.caches[0], Budget(budget), seed, run_name()
    )
    writer = Writer(out or Path("results/runs") / f"{request.run}.csv")

    console = show.make_console()
    console.print(
        f"{opened.kind}: {opened.hardware}, {opened.threads} thread{'s' * (opened.threads != 1)} ({why}); "
        f"{precision}, {request.cache} cache, seed {seed}", markup=False,
    )  # fmt: skip
    rows: list[Row] = []
    try:
        with show.Live(console, request.cases) as live:
            tops = ceilings(opened, precision)
            for row, raw in sweep(request, opened, tops, describe(opened), live):
                writer.add(row, raw)
                rows.append(row)
    except KeyboardInterrupt:
        raise UserError(f"interrupted; the {len(rows)} finished rows are in {writer.path}", INTERRUPTED) from None
    show.print_end(console, rows, [*show.advice(rows), *opened.warnings()], writer.path)
    raise typer.Exit(exit_code(rows))


@app.command(
    epilog="Examples: [b]convbench report results/x.csv --out charts/[/b] · [b]convbench report cpu.csv gpu.csv[/b]"
)
def report(
    files: Annotated[list[Path], typer.Argument(help="One or more CSVs; several are put side by side.")],
    out: Annotated[Path, typer.Option(help="Folder for charts (SVG, PNG) and tables (Markdown).")] = Path("charts"),
) -> None:
    """Draw: charts and tables from CSVs alone."""
    from convbench.report import write_report
    from convbench.results import read

    rows = [row for path in files for row in read(path)]
    if not any(row.status == "ok" for row in rows):
        raise UserError(
            f"{', '.join(map(str, files))}: no row has the status ok, so there is nothing to draw", NOT_MEASURED
        )
    for path in write_report({str(path): read(path) for path in files}, out):
        typer.echo(path)


@app.command(
    name="list", epilog="Examples: [b]convbench list[/b] · [b]convbench list --device cuda --plugin mine.py[/b]"
)
def list_all(
    device: Annotated[str, typer.Option("--device", help="[b]cpu[/b] or [b]cuda[/b]; default: both.")] = "auto",
    net: NetName = "alexnet",
    plugin: Plugins = None,
) -> None:
    """Show layers, algorithms and devices: what is available and, where not, why and what to install."""
    from convbench.listing import print_listing

    check_device(device)
    name, layers = chosen_layers(net, "all", None)
    print_listing(name, layers, chosen_algorithms("all", plugin), ("cpu", "cuda") if device == "auto" else (device,))


@app.command(epilog="Examples: [b]convbench info conv1[/b] · [b]convbench info n1c64h56w56k128r3s3u2p1[/b]")
def info(
    layer: Annotated[str, typer.Argument(help="A layer's name, or a shape word.")],
    net: NetName = "alexnet",
    batch: Annotated[int, typer.Option(min=0, max=1_000_000, help="Images; 0: as the layer says (1).")] = 0,
    precision: PrecisionName = "float32",
    plugin: Plugins = None,
) -> None:
    """Explain a layer: sizes, matrices, FLOPs, bytes, and what each algorithm does with it."""
    import re

    from convbench.listing import print_info

    check_precision(precision)
    is_shape = re.match(r"n\d+c\d", layer) is not None
    _, layers = chosen_layers(net, "all" if is_shape else layer, layer if is_shape else None)
    algorithms = chosen_algorithms("all", plugin)
    opened, _ = chosen_device("cpu", 0)
    for each in layers:
        print_info(each, batch or each.shape.n, precision, algorithms, opened)


@app.command(epilog="Examples: [b]convbench verify[/b] · [b]convbench verify --algo winograd --shapes 500 --seed 7[/b]")
def verify(
    layer: Layers = "all",
    algo: Algos = "all",
    net: NetName = "alexnet",
    shapes: Annotated[int, typer.Option(min=0, max=100_000, help="Random odd shapes beside the layers.")] = 100,
    batch: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Images of the layers; 0: as the layer says (1).")
    ] = 0,
    device: DeviceKind = "auto",
    threads: Threads = 0,
    precision: PrecisionName = "float32",
    seed: Seed = None,
    plugin: Plugins = None,
) -> None:
    """Check only: every algorithm on every layer and on random odd shapes; a table of errors."""
    from convbench.verify import print_verification

    _, layers = chosen_layers(net, layer, None)
    algorithms = chosen_algorithms(algo, plugin)
    check_precision(precision)
    opened, _ = chosen_device(device, threads)
    seed = fresh_seed() if seed is None else seed
    raise typer.Exit(print_verification(layers, algorithms, opened, precision, batch, shapes, seed))


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


def check_device(kind: str) -> None:
    """Refuse device kinds that do not exist."""
    if kind not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {kind} is not one of auto, cpu, cuda")


def check_precision(precision: str) -> None:
    """Refuse precisions that do not exist."""
    from convbench.problem import PRECISIONS

    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision} is not one of {', '.join(PRECISIONS)}")


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


def main() -> None:
    """Run the command line; every failure is one line on standard error and a documented exit code."""
    from convbench.results import ResultsError

    try:
        app()
    except UserError as error:
        complain(error, error.code)
    except ResultsError as error:
        complain(error, error.code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        complain("interrupted", INTERRUPTED)
    except Exception as error:
        if os.environ.get("CONVBENCH_TRACEBACK"):
            raise
        text = " ".join(str(error).split())
        complain(f"internal error: {type(error).__name__}: {text} (CONVBENCH_TRACEBACK=1 shows where)", 1)


def complain(error: object, code: int) -> None:
    """One line on standard error, and the exit code."""
    print("convbench:", " ".join(str(error).split()), file=sys.stderr)
    sys.exit(code)
