"""The command line: read what was typed, call one function, show what it found."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convbench import cli_duel, cli_gate
from convbench.gate.outcome import GateError
from convbench.options import (
    Algos,
    DeviceKind,
    Layers,
    NetName,
    Plugins,
    PrecisionName,
    Seed,
    Threads,
    UserError,
    check_device,
    check_precision,
    check_some_compute_in,
    chosen_algorithms,
    chosen_device,
    chosen_layers,
    fresh_seed,
    with_code,
)

if TYPE_CHECKING:
    from convbench.bench import Bench
    from convbench.results import Row
    from convbench.sweep import Request

NOT_MEASURED, INTERRUPTED = 4, 130

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok; 1 internal error, or results could not be written; 2 usage; 3 regression; "
    "4 not measured, failed or unstable; 5 wrong results; 6 inconclusive (with --strict); 130 interrupted.",
)


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
    resume: Annotated[Path | None, typer.Option(help="CSV of a run that was cut off: measure what it lacks.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that opening a case, or one turn, may take.")] = 60.0,
    isolate: Annotated[bool, typer.Option(help="Measure in a worker process, which may crash or hang.")] = True,
    phases: Annotated[bool, typer.Option("--phases", help="Also time the phases of those that tell them.")] = False,
    energy: Annotated[bool, typer.Option(help="On a GPU also measure joules a call, half a second a case.")] = True,
) -> None:
    """Measure: every chosen layer under every chosen algorithm, checked against float64, into a CSV."""
    from convbench.bench import Setup, open_bench
    from convbench.devices.base import NoDevice
    from convbench.devices.cpu import physical_cores
    from convbench.measure.rules import Budget
    from convbench.process import ChildError
    from convbench.sweep import Request, run_name

    name, layers = chosen_layers(net, layer, shape)
    algorithms = chosen_algorithms(algo, plugin)
    check_precision(precision)
    check_device(device)
    if cache not in ("", "hot", "cold"):
        raise UserError(f"--cache {cache} is not one of hot, cold")
    if resume and out:
        raise UserError("--resume and --out exclude each other: a run is resumed in its own file")
    old, seed = rows_to_resume(resume, seed)
    setup = Setup(device, threads or physical_cores(), precision, tuple(plugin or ()))
    try:
        bench = open_bench(setup, timeout if isolate else None)
    except NoDevice as reason:
        raise UserError(str(reason)) from None
    except ChildError as error:
        raise UserError(f"no worker could be started: {error}; --no-isolate does without", NOT_MEASURED) from None
    with contextlib.closing(bench):
        if cache and cache not in bench.caches:
            raise UserError(
                f"--cache {cache} is not one of {', '.join(bench.caches)} on the {bench.site.facts['device']}"
            )
        check_some_compute_in(precision, algorithms, bench.site.facts["device"])
        kept = cache or bench.caches[0]
        algorithms = with_code(algorithms, algo, bench.site.facts["device"])
        request = Request(
            name, layers, algorithms, batch, precision, kept, Budget(budget, energy), seed, run_name(), phases
        )
        path = resume or out or Path("results/runs") / f"{request.run}.csv"
        raise typer.Exit(measure_all(bench, request, path, old))


def rows_to_resume(resume: Path | None, seed: int | None) -> tuple[list[Row] | None, int]:
    """The rows a resumed file has already (None: not resumed), and the seed: given, the file's, or fresh."""
    from convbench.results import Writer, read

    if resume is None:
        return None, fresh_seed() if seed is None else seed
    if not resume.is_file():
        raise UserError(f"--resume {resume}: there is no such file; --out starts one")
    Writer(resume, mend=True).close()
    rows = read(resume)
    if seed is None:
        seed = rows[-1].seed if rows else fresh_seed()
    return rows, seed


def measure_all(bench: Bench, request: Request, path: Path, old: Sequence[Row] | None) -> int:
    """Measure what a request asks for and `old` lacks, write it, show it; the exit code."""
    from convbench import console as show
    from convbench.results import Writer
    from convbench.sweep import ResumeError, exit_code, left_over

    try:
        todo = left_over(request, bench.site, old or ())
    except ResumeError as error:
        raise UserError(f"--resume {path}: {error}; give the options of the run it continues") from None
    facts, console = bench.site.facts, show.make_console()
    threads = f"{facts['threads']} thread{'s' * (facts['threads'] != 1)}"
    console.print(
        f"{facts['device']}: {facts['hardware']}, {threads} ({bench.why}); {request.precision}, {request.cache} cache, "
        f"seed {request.seed}", markup=False,
    )  # fmt: skip
    rows: list[Row] = []
    with contextlib.closing(Writer(path, mend=old is not None)) as writer:
        try:
            with show.Live(console, sum(map(len, todo.values()))) as live:
                for layer in request.layers:
                    if todo[layer.name]:
                        live.layer(layer, request.problem(layer))
                        for row, raw in bench.layer(request, layer, todo[layer.name], live):
                            writer.add(row, raw)
                            rows.append(row)
        except KeyboardInterrupt:
            kept = f"the {writer.finished()} finished rows are in {path}; --resume {path} measures the others"
            raise UserError(f"interrupted; {kept}", INTERRUPTED) from None
    untold = request.phases and not any(row.phases for row in rows)
    rows = [*(old or ()), *rows]
    told = [*show.advice(rows), *bench.warnings(), *["no algorithm measured here tells its phases"] * untold]
    show.print_end(console, rows, told, path)
    return exit_code(rows)


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
    algorithms = with_code(algorithms, algo, opened.kind)
    seed = fresh_seed() if seed is None else seed
    raise typer.Exit(print_verification(layers, algorithms, opened, precision, batch, shapes, seed))


cli_duel.register(app)
cli_gate.register(app)


def main() -> None:
    """Run the command line; every failure is one line on standard error and a documented exit code."""
    from convbench.results import ResultsError

    try:
        app()
    except (UserError, ResultsError, GateError) as error:
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
