"""The commands `check` and `baseline`: read what was typed, call the gate, show what it found."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from convbench.gate import BASELINES
from convbench.gate.outcome import GateError

Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        metavar="NAME[=FILE]",
        help="[b]github[/b], [b]junit[/b], [b]benchmark-action[/b], [b]bencher[/b], [b]markdown[/b] or [b]json[/b], "
        "to a file or to standard output; may be repeated.",
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help="A slowdown blocks (3); what stays open exits 6.")]
Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Forest plot of the ratios, as .svg and .png.")]
Folder = Annotated[Path, typer.Option(help="Where baselines are kept.")]

baseline_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Keep results to compare with: one file for each hardware and conditions.",
    epilog="Examples: [b]convbench baseline save results/x.csv[/b] · [b]convbench baseline show[/b]",
)


def check(
    new: Annotated[Path, typer.Argument(help="The CSV of the run to be judged.")],
    baseline: Annotated[
        Path | None, typer.Option(metavar="OLD", help="The CSV to judge it by; default: the stored one that fits.")
    ] = None,
    strict: Strict = False,
    threshold: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="Slowdown that counts, as 12% or 0.12; default: 10% CPU, 5% CUDA."),
    ] = None,
    format_: Formats = None,
    plot: Plot = None,
    folder: Folder = BASELINES,
) -> None:
    """Compare two results files: exit 3 for more memory or error (with --strict: time), 4 for what is missing."""
    from convbench import console as printing
    from convbench.gate.baseline import find
    from convbench.gate.check import check as compare
    from convbench.gate.formats import table_too, wanted, write
    from convbench.gate.samples import read_samples
    from convbench.gate.show import print_outcome
    from convbench.results import read

    forms = wanted(format_ or ())
    share = None if threshold is None else share_of(threshold)
    rows = read(new)
    old = baseline or find(rows, folder)
    if new.exists() and old.exists() and new.samefile(old):
        raise GateError(f"{new} would be compared with itself: measure anew, or give another --baseline")
    outcome = compare(rows, read(old), strict, share, read_samples(new), read_samples(old))
    printed = write(outcome, forms)
    drawn: list[Path] = []
    if plot is not None:
        from convbench.gate.plot import save_plot

        drawn = save_plot(outcome, plot)
    if table_too(forms):
        console = printing.make_console()
        for path in drawn:
            console.print(f"drawn: {path}", markup=False, soft_wrap=True)
        print_outcome(console, outcome)
    typer.echo(printed, nl=False)
    raise typer.Exit(outcome.exit_code(strict))


@baseline_app.command(epilog="Examples: [b]convbench baseline save results/x.csv[/b]")
def save(
    csv: Annotated[Path, typer.Argument(help="A results CSV all of whose cases are in order.")],
    folder: Folder = BASELINES,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also where the stored one covers cases that the new one lacks.")
    ] = False,
) -> None:
    """Keep a results file as the baseline of its hardware and conditions, in place of the one before."""
    from convbench.gate.baseline import save as keep

    typer.echo(keep(csv, folder, replace))


@baseline_app.command(epilog="Examples: [b]convbench baseline show[/b]")
def show(folder: Folder = BASELINES) -> None:
    """List the stored baselines."""
    from convbench import console as printing
    from convbench.gate.baseline import show as stored
    from convbench.gate.show import stored_table

    found = stored(folder)
    if not found:
        typer.echo(f"no baselines in {folder}; keep one with convbench baseline save FILE.csv")
        return
    printing.make_console().print(stored_table(found))


def share_of(text: str) -> float:
    """`12%` or `0.12` as 0.12. Raises GateError."""
    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if rest or not 0 < value < 10 or (not percent and value >= 1):
        raise GateError(f"--threshold {text} is not a share such as 12% or 0.12")
    return value


CHECK_EPILOG = (
    "Examples: [b]convbench check results/new.csv --baseline results/old.csv[/b] · [b]convbench check new.csv --strict "
    "--threshold 15% --format github --format junit=junit.xml --plot gate.svg[/b]"
)


def register(app: typer.Typer) -> None:
    """Add `check` and `baseline` to the command line."""
    app.command(epilog=CHECK_EPILOG)(check)
    app.add_typer(baseline_app, name="baseline")
