"""`python -m convbench.bench_gpu`: check everything on this GPU, measure it beside PyTorch and cuDNN, show who wins.

First every algorithm's answers, each algorithm in processes of its own and many at once; then `convbench run`, batch
by batch and precision by precision, ours and the vendor's in turns; the table comes last. Runs that the deadline leaves
out, or cuts off, are named. It needs no installation: any Python with CuPy does.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from convbench.bench_gpu.check import NET, check_all
from convbench.devices.base import NoDevice
from convbench.results import ResultsError, Row

PRECISIONS, BATCHES = ("float32", "tf32", "float16"), (128, 16, 1)  # the most telling first
SEED = 1
CHECKED = (16,)  # batches whose answers are checked beforehand; those that are measured are checked then too
MINUTES = 8.0
BUDGET = 0.06  # seconds a case: a GPU's samples agree after a few; what is not timed takes several times as long
LEAST_SECONDS = 20.0  # a run is not begun with less left
GRACE_SECONDS = 10.0  # to end after an interrupt
CHART_SECONDS = 60.0  # of the minutes, for the charts


@dataclass(frozen=True)
class Asked:
    """What was asked for."""

    out: Path | None
    minutes: float
    budget: float
    algo: str
    precisions: tuple[str, ...]
    batches: tuple[int, ...]
    energy: bool
    keep: bool
    show: bool
    checks: bool
    charts: bool


def parse(arguments: Sequence[str] | None) -> Asked:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m convbench.bench_gpu", description="Ours against cuDNN on a GPU.")
    parser.add_argument("--out", type=Path, help="folder of the CSVs; default: results/<gpu>")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="stop then, and name what was left out")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds of sampling a case may take")
    parser.add_argument("--algo", default="all", help="as for `convbench run`")
    parser.add_argument("--precisions", default=",".join(PRECISIONS), help="a comma list, in the order of measuring")
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)), help="a comma list, likewise")
    parser.add_argument("--energy", action="store_true", help="also joules a call, half a second more a case")
    parser.add_argument("--keep", action="store_true", help="measure only what the files lack")
    parser.add_argument("--show", action="store_true", help="measure nothing: show what is in the folder")
    parser.add_argument(
        "--no-checks", dest="checks", action="store_false", help="measure at once; cases are checked too"
    )
    parser.add_argument("--no-charts", dest="charts", action="store_false", help="leave the charts to convbench report")
    found = parser.parse_args(arguments)
    precisions = tuple(found.precisions.split(","))
    if unknown := [name for name in precisions if name not in PRECISIONS]:
        parser.error(f"--precisions {unknown[0]} is not one of {', '.join(PRECISIONS)}")
    try:
        batches = tuple(int(text) for text in found.batches.split(","))
    except ValueError:
        parser.error(f"--batches {found.batches} is not a comma list of whole numbers")
    if found.show and not found.out:
        parser.error("--show needs --out, the folder that is to be shown")
    return Asked(found.out, found.minutes, found.budget, found.algo, precisions, batches, found.energy, found.keep,
                 found.show, found.checks, found.charts)  # fmt: skip


def folder_of(hardware: str) -> Path:
    """results/nvidia-h200 for `NVIDIA H200`."""
    return Path("results") / re.sub(r"[^a-z0-9]+", "-", hardware.lower()).strip("-")


def chosen(algo: str, precision: str) -> list[str]:
    """The algorithms of --algo that compute in a precision on a GPU."""
    from convbench.algorithms import built_in, select

    known = built_in()
    wanted = select(algo, [algorithm.name for algorithm in known], "algorithm")
    return [a.name for a in known if a.name in wanted and "cuda" in a.on and precision in a.precisions_on("cuda")]


@dataclass(frozen=True)
class Sweep:
    """One `convbench run`: some layers and algorithms, in a precision, at a batch."""

    precision: str
    batch: int
    layers: tuple[str, ...]
    algorithms: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.precision} at batch {self.batch}"


def sweeps(asked: Asked, folder: Path) -> list[Sweep]:
    """What is to be measured, the largest batch first; with --keep what the files lack."""
    from convbench.layers import load

    names = [layer.name for layer in load(NET).layers]
    found = []
    for batch, precision in product(asked.batches, asked.precisions):
        path = folder / f"{precision}.csv"
        rows = mended(path) if asked.keep and path.is_file() else []
        have = {(row.layer, row.algo) for row in rows if row.batch == batch}
        lacking: dict[tuple[str, ...], list[str]] = {}
        for layer in names:
            algorithms = tuple(algo for algo in chosen(asked.algo, precision) if (layer, algo) not in have)
            lacking.setdefault(algorithms, []).append(layer)
        found += [
            Sweep(precision, batch, tuple(layers), algorithms) for algorithms, layers in lacking.items() if algorithms
        ]
    return found


def mended(path: Path) -> list[Row]:
    """The rows of a file, whose last line a process that was killed may have left half written: that is cut off."""
    from convbench.results import Writer, read

    Writer(path, mend=True).close()
    return read(path)


def run(asked: Asked, sweep: Sweep, path: Path, seconds: float) -> int | None:
    """Measure by `convbench run`, appended to the precision's file; its exit code.

    None where it was cut off after so many seconds: the rows it had finished are kept.
    """
    words = ["--net", NET, "--layer", ",".join(sweep.layers), "--device", "cuda", "--precision", sweep.precision]
    words += ["--batch", str(sweep.batch), "--seed", str(SEED), "--algo", ",".join(sweep.algorithms)]
    words += ["--budget", str(asked.budget), *([] if asked.energy else ["--no-energy"]), "--out", str(path)]
    with subprocess.Popen([sys.executable, "-m", "convbench", "run", *words]) as child:
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGINT)  # it then closes its file
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(GRACE_SECONDS)
            if path.is_file():
                mended(path)
        return None


def measure(asked: Asked, folder: Path, end: float) -> tuple[int, list[str]]:
    """All sweeps there is time for: the worst exit code, and what was left out."""
    code, left, begun = 0, [], set[Path]()
    for sweep in sweeps(asked, folder):
        path, seconds = folder / f"{sweep.precision}.csv", end - time.monotonic()
        if seconds < LEAST_SECONDS:
            left.append(str(sweep))
            continue
        if not asked.keep and path not in begun:
            for old in (path, path.with_name(f"{path.stem}.samples.csv")):
                old.unlink(missing_ok=True)
        begun.add(path)
        found = run(asked, sweep, path, seconds)
        if found is None:
            left.append(f"the rest of {sweep}")
            continue
        found = 4 if found < 0 else found  # ended by a signal
        code = max(code, found)
        if found == 2 or found >= 128:
            break
    return code, list(dict.fromkeys(left))


def draw(files: Sequence[Path], folder: Path) -> int:
    """The charts of each file into a folder of its own, all at once; the worst exit code of `convbench report`."""

    def one(path: Path) -> int:
        words = [sys.executable, "-m", "convbench", "report", str(path), "--out", str(folder / path.stem)]
        return subprocess.run(words, stdout=subprocess.DEVNULL, check=False).returncode

    with ThreadPoolExecutor() as pool:
        return max(pool.map(one, files), default=0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, measure, draw, show; the worst exit code, 2 for what cannot be done."""
    from convbench.algorithms import UnknownName
    from convbench.bench_gpu.table import show

    asked = parse(arguments)
    end = time.monotonic() + 60 * asked.minutes - CHART_SECONDS * asked.charts
    code, left = 0, list[str]()
    try:
        folder = asked.out
        if not asked.show:
            from convbench.devices.cuda import cuda_device

            device = cuda_device(1)
            folder = folder or folder_of(device.hardware)
            folder.mkdir(parents=True, exist_ok=True)
            jobs = [(name, precision) for precision in asked.precisions for name in chosen(asked.algo, precision)]
            if asked.checks:
                code = check_all(jobs, CHECKED, folder / "checks.txt", device.free_bytes(), end)
            worst, left = measure(asked, folder, end)
            code = max(code, worst)
        assert folder is not None
        files = [path for name in PRECISIONS if (path := folder / f"{name}.csv").is_file()]
        if asked.charts and not asked.show:
            code = max(code, draw(files, folder / "charts"))
        show(files, folder / "table.md")
        if left:
            print(f"no time was left for {', '.join(left)}: `make gpu GPU=--keep` measures what the files lack")
    except (NoDevice, UnknownName, ResultsError, OSError) as error:
        print(f"convbench: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
