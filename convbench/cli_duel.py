"""The command `duel`: read what was typed, hold the duel, show what it found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convbench.cli_gate import Formats, Plot
from convbench.gate.outcome import GateError

if TYPE_CHECKING:
    from convbench.gate.formats import Wanted
    from convbench.gate.outcome import Outcome
    from convbench.layers import Layer

DUEL_EPILOG = (
    "Examples: [b]convbench duel --base main[/b] · [b]convbench duel --base v1.2 --head HEAD --plugin kernels/mine.py "
    "--net mine.toml[/b] · [b]convbench duel --self-test --inject-slowdown conv3/gemm.im2col=20%[/b] · "
    "[b]convbench duel --algo gemm.im2col --against winograd.f4[/b]"
)
MOST = 10.0  # a share above this is a mistake


def duel(
    base: Annotated[str | None, typer.Option(metavar="REV", help="The revision to be measured against.")] = None,
    head: Annotated[str | None, typer.Option(metavar="REV", help="The one judged; default: the working tree.")] = None,
    repo: Annotated[Path, typer.Option(metavar="PATH", help="The git repository of both.")] = Path(),
    layer: Annotated[
        str, typer.Option("--layer", help="As for run; default: conv2 to conv5, or all of another --net.")
    ] = "",
    algo: Annotated[
        str, typer.Option("--algo", help="As for run; default: gemm.im2col,winograd.f4, or all of --plugin.")
    ] = "",
    net: Annotated[str, typer.Option("--net", help="A built-in layer set, or the path of a .toml file.")] = "alexnet",
    batch: Annotated[int, typer.Option(min=0, max=1_000_000, help="Images; 0: as the layer says (1).")] = 0,
    threads: Annotated[int, typer.Option(min=1, max=4096, help="CPU threads of each side.")] = 1,
    plugin: Annotated[
        str | None, typer.Option(metavar="PATH", help="A .py file with ALGORITHMS in the repository, taken from both.")
    ] = None,
    self_test: Annotated[bool, typer.Option("--self-test", help="Head against head: it must come out green.")] = False,
    inject_slowdown: Annotated[
        list[str] | None, typer.Option(metavar="CELL=SHARE", help="Slow this cell of head down; may be repeated.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="ALGO", help="Two algorithms of one tree: this one against --algo.")
    ] = None,
    delta: Annotated[str | None, typer.Option(metavar="SHARE", help="Slowdown that counts; default: 10%.")] = None,
    aa_floor: Annotated[
        str | None, typer.Option(metavar="SHARE", help="This machine's A/A floor: --delta is at least twice that.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="Of the operands and the order.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="What stays open exits 6.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, max=86400, help="Seconds a side may take for one answer.")] = 60.0,
    format_: Formats = None,
    plot: Plot = None,
    samples: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Every raw sample.")] = None,
) -> None:
    """Measure two revisions of a repository's algorithms against each other: exit 3 where head is slower."""
    from convbench.gate.arrange import Request, hold
    from convbench.gate.formats import wanted
    from convbench.gate.judging import write_samples
    from convbench.options import fresh_seed

    forms = wanted(format_ or ())
    request = Request(
        layers=layers_of(net, layer), algo=algo, repo=repo, base=base, head=head, self_test=self_test, against=against,
        plugin=plugin, batch=batch, threads=threads, slowdowns=slowdowns(inject_slowdown or ()),
        delta=None if delta is None else share("--delta", delta),
        aa_floor=None if aa_floor is None else share("--aa-floor", aa_floor),
        seed=fresh_seed() if seed is None else seed, timeout=timeout,
    )  # fmt: skip
    with progress() as say:
        outcome, fought = hold(request, say)
    if samples is not None:
        write_samples(samples, fought.taken)
    show(outcome, forms, plot)
    raise typer.Exit(outcome.exit_code(strict))


def show(outcome: Outcome, forms: Sequence[Wanted], plot: Path | None) -> None:
    """Forms to their files, then the table, unless a form has standard output for itself."""
    from convbench import console as printing
    from convbench.gate.formats import table_too, write
    from convbench.gate.show import print_outcome

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


def layers_of(net: str, layer: str) -> Sequence[Layer]:
    """The layers of --net and --layer, few where nothing was said."""
    from convbench.gate.arrange import DEFAULT_LAYERS
    from convbench.options import chosen_layers

    return chosen_layers(net, layer or (DEFAULT_LAYERS if net == "alexnet" else "all"), None)[1]


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A line on standard error that says what is going on, where that is a terminal."""
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("starting") as status:
        yield lambda text: status.update(escape(text))


def share(option: str, text: str) -> float:
    """`15%` or `0.15` as 0.15. Raises GateError."""
    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if rest or not 0 < value <= MOST or (not percent and value >= 1):
        raise GateError(f"{option} {text} is not a share such as 15% or 0.15")
    return value


def slowdowns(texts: Sequence[str]) -> dict[str, float]:
    """CELL=SHARE, each. Raises GateError."""
    found = {}
    for text in texts:
        cell, equals, size = text.rpartition("=")
        if not equals or not cell:
            raise GateError(f"--inject-slowdown {text} is not CELL=SHARE, such as conv3/gemm.im2col=15%")
        found[cell] = share("--inject-slowdown", size)
    return found


def register(app: typer.Typer) -> None:
    """Add `duel` to the command line."""
    app.command(epilog=DUEL_EPILOG)(duel)
