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
from contextlib import suppress
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
GRACE_SECONDS = 10.0  # to end after a signal
CHECKS_SHARE = 0.5  # of the time, at most, for the answers beforehand
BEFORE = "before"  # the folder of what is being replaced
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
    from convbench.report.series import newest

    names = [layer.name for layer in load(NET).layers]
    found = []
    for batch, precision in product(asked.batches, asked.precisions):
        path = folder / f"{precision}.csv"
        rows = newest([row for row in mended(path) if row.batch == batch]) if asked.keep and path.is_file() else []
        have = {(row.layer, row.algo) for row in rows if row.status not in ("failed", "timeout", "unstable")}
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


def set_aside(precisions: Sequence[str], folder: Path) -> None:
    """Bring what was measured before into a folder beside: nothing of it passes for new, and nothing is lost."""
    for name in precisions:
        for path in (folder / f"{name}.csv", folder / f"{name}.samples.csv"):
            if path.is_file():
                (folder / BEFORE).mkdir(exist_ok=True)
                path.replace(folder / BEFORE / path.name)


def settle(precisions: Sequence[str], folder: Path) -> None:
    """Drop what was set aside where there are new rows; say where there are none, and leave no empty file there."""
    for name in precisions:
        new, old = ([of / f"{name}{kind}.csv" for kind in ("", ".samples")] for of in (folder, folder / BEFORE))
        measured = new[0].is_file() and mended(new[0])
        if not measured and old[0].is_file():
            print(f"nothing new in {name}: what was measured before is in {old[0]}")
        for path in old if measured else new:
            path.unlink(missing_ok=True)
    if (folder / BEFORE).is_dir() and not any((folder / BEFORE).iterdir()):
        (folder / BEFORE).rmdir()


def run(asked: Asked, sweep: Sweep, path: Path, seconds: float) -> int | None:
    """Measure by `convbench run`, appended to the precision's file; its exit code.

    None where it was cut off after so many seconds, negative where a signal ended it: finished rows are kept.
    """
    words = ["--net", NET, "--layer", ",".join(sweep.layers), "--device", "cuda", "--precision", sweep.precision]
    words += ["--batch", str(sweep.batch), "--seed", str(SEED), "--algo", ",".join(sweep.algorithms)]
    words += ["--budget", str(asked.budget), *([] if asked.energy else ["--no-energy"]), "--out", str(path)]
    child = subprocess.Popen([sys.executable, "-m", "convbench", "run", *words])
    try:
        code = child.wait(seconds)
    except subprocess.TimeoutExpired:
        code = None
        stop(child)
    except KeyboardInterrupt:  # which a terminal gives to the child too
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_SECONDS)
        raise
    if (code is None or code < 0) and path.is_file():
        mended(path)
    return code


def stop(child: subprocess.Popen[bytes]) -> None:
    """Interrupt a run, which then closes its file, or kill it where it does not."""
    for number in (signal.SIGINT, signal.SIGKILL):
        child.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_SECONDS)
            return


def measure(asked: Asked, planned: Sequence[Sweep], folder: Path, end: float) -> tuple[int, list[str]]:
    """All sweeps there is time for: the worst exit code, and what was left out."""
    code, left, ended = 0, [], False
    for sweep in planned:
        seconds = end - time.monotonic()
        if ended or seconds < LEAST_SECONDS:
            left.append(str(sweep))
            continue
        found = run(asked, sweep, folder / f"{sweep.precision}.csv", seconds)
        if found is None or found < 0:
            left.append(f"the rest of {sweep}")
        code = max(code, 0 if found is None else 4 if found < 0 else found)
        ended = found is not None and (found == 2 or found >= 128)
    return code, list(dict.fromkeys(left))


def worst(asked: Asked, folder: Path) -> int:
    """The exit code that the files' newest rows call for: a run that was cut off has not said it."""
    from convbench.report.series import newest
    from convbench.results import read
    from convbench.sweep import exit_code

    codes = [0]
    for precision, batch in product(asked.precisions, asked.batches):
        path = folder / f"{precision}.csv"
        rows = [row for row in read(path) if row.batch == batch] if path.is_file() else []
        codes += [exit_code(newest(rows))] if rows else []
    return max(codes)


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
            planned = sweeps(asked, folder)
            jobs = list(dict.fromkeys((name, sweep.precision) for sweep in planned for name in sweep.algorithms))
            if asked.checks and jobs:
                until = end - (1 - CHECKS_SHARE) * (end - time.monotonic())
                code = check_all(jobs, CHECKED, folder / "checks.txt", device.free_bytes(), until)
            if not asked.keep:
                set_aside(asked.precisions, folder)
            try:
                found, left = measure(asked, planned, folder, end)
            finally:
                settle(asked.precisions, folder)
            code = max(code, found, worst(asked, folder))
        assert folder is not None
        files = [path for name in PRECISIONS if (path := folder / f"{name}.csv").is_file()]
        if asked.show and not files:
            raise FileNotFoundError(f"--show: there are no results of `make gpu` in {folder}")
        if asked.charts and not asked.show:
            code = max(code, draw(files, folder / "charts"))
        show(files, folder / "table.md")
        if left:
            print(f"not measured: {', '.join(left)}; `make gpu GPU=--keep` measures what the files lack")
    except KeyboardInterrupt:
        print("convbench: interrupted; `make gpu GPU=--keep` measures what the files lack")
        return 130
    except (NoDevice, UnknownName, ResultsError, OSError) as error:
        print(f"convbench: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
