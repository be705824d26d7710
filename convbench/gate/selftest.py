"""How far this machine's duels can be believed: equal sides, and sides of which one is slowed down on purpose.

`python -m convbench.gate.selftest --out FILE.csv --aa 20 --injected 10 --slowdown 15%` holds that many duels of this
convbench against itself and writes a row for every cell of every duel. The injected slowdown goes round the cells. The
A/A floor is the 95th percentile of |median d| over all cells of the equal duels, as a share.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from convbench.gate.arrange import DEFAULT_ALGORITHMS, DEFAULT_LAYERS, Request, hold
from convbench.gate.decision import DELTA
from convbench.gate.outcome import GateError, Verdict, percent

RED = (Verdict.FAIL, Verdict.UNSTABLE)  # a control that fails makes the FAILs of its duel UNSTABLE
BELIEVED = 0.9  # share of the injected slowdowns that must be found


@dataclass(frozen=True)
class Line:
    """A row of the file: a cell of a duel."""

    duel: int
    kind: str  # aa or injected
    seed: int
    cell: str
    injected: float
    verdict: str
    ratio: float | None
    low: float | None
    high: float | None
    detectable: float | None
    median_d: float | None  # of the screening blocks
    base_ms: float | None
    head_ms: float | None
    reason: str


@dataclass(frozen=True)
class Summary:
    """What all duels together say."""

    aa: int
    injected: int
    floor: float
    false_fails: int
    found: int

    def __str__(self) -> str:
        return (
            f"A/A floor {percent(self.floor)}; {self.false_fails} false FAILs of equal cells in {self.aa} equal and "
            f"{self.injected} injected duels; {self.found} of {self.injected} injected slowdowns found"
        )

    @property
    def believed(self) -> bool:
        """Nothing red that should be green, and nearly nothing green that should be red."""
        return not self.false_fails and self.found >= BELIEVED * self.injected


def duels(request: Request, aa: int, injected: int, slowdown: float, delta: float) -> Iterator[list[Line]]:
    """Hold the duels; the lines of each as it ends."""
    cells: list[str] = []
    for number in range(aa + injected):
        chosen = {cells[number % len(cells)]: slowdown} if number >= aa and cells else {}
        asked = replace(request, seed=request.seed + number, slowdowns=chosen, delta=delta)
        if number >= aa and not cells:  # their names are only known when a duel has been held
            layer, algorithm = request.layers[0].name, (request.algo or DEFAULT_ALGORITHMS).partition(",")[0]
            chosen = {f"{layer}/{algorithm}": slowdown}
            asked = replace(asked, slowdowns=chosen)
        outcome, duel = hold(asked)
        cells = [cell.cell for cell in outcome.cells]
        yield [
            Line(
                number, "aa" if number < aa else "injected", asked.seed, cell.cell, chosen.get(cell.cell, 0.0),
                str(cell.verdict), cell.ratio, cell.low, cell.high, cell.detectable,
                _median(duel.values.get((cell.cell, "screen"), ())), cell.base_ms, cell.head_ms, cell.reason,
            )
            for cell in outcome.cells
        ]  # fmt: skip


def _median(values: Sequence[float]) -> float | None:
    from convbench.stats import median

    return median(values) if values else None


def summarise(lines: Sequence[Line]) -> Summary:
    """Counts, and the A/A floor."""
    from convbench.stats import quantile

    differences = [abs(line.median_d) for line in lines if line.kind == "aa" and line.median_d is not None]
    hurt = [line for line in lines if line.injected]
    return Summary(
        len({line.duel for line in lines if line.kind == "aa"}),
        len(hurt),
        math.expm1(quantile(differences, 0.95)) if differences else math.nan,
        sum(line.verdict in RED for line in lines if not line.injected),
        sum(line.verdict in RED for line in hurt),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Hold the duels, write the file, print the summary; 0 where the gate can be believed."""
    from convbench.cli_duel import layers_of, share

    parser = argparse.ArgumentParser(prog="python -m convbench.gate.selftest", description="A/A and injected duels.")
    parser.add_argument("--out", type=Path, required=True, help="CSV of every cell of every duel")
    parser.add_argument("--aa", type=int, default=20, help="duels of equal sides")
    parser.add_argument("--injected", type=int, default=10, help="duels with a slowdown in one cell")
    parser.add_argument("--slowdown", default="15%", help="how much")
    parser.add_argument("--delta", default=f"{DELTA['cpu']:.0%}", help="slowdown that counts")
    parser.add_argument("--layer", default=DEFAULT_LAYERS, help="layers of AlexNet")
    parser.add_argument("--algo", default=DEFAULT_ALGORITHMS, help="algorithms")
    parser.add_argument("--seed", type=int, default=1, help="of the first duel; one more for each")
    asked = parser.parse_args(arguments)
    try:
        slowdown, delta = share("--slowdown", asked.slowdown), share("--delta", asked.delta)
        request = Request(layers=layers_of("alexnet", asked.layer), algo=asked.algo, self_test=True, seed=asked.seed)
        lines: list[Line] = []
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        with asked.out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Line)], lineterminator="\n")
            writer.writeheader()
            for found in duels(request, asked.aa, asked.injected, slowdown, delta):
                writer.writerows({k: "" if v is None else v for k, v in asdict(line).items()} for line in found)
                file.flush()
                lines += found
                red = [f"{line.cell} {line.verdict}" for line in found if line.verdict in RED]
                print(
                    f"duel {found[0].duel + 1}: {', '.join(red) or 'green'}" if found else "nothing measured",
                    file=sys.stderr,
                )
    except GateError as error:
        print(f"convbench: {error}", file=sys.stderr)
        return GateError.code
    summary = summarise(lines)
    print(summary)
    return 0 if lines and summary.believed else 1


if __name__ == "__main__":
    sys.exit(main())
