"""`python -m convbench.bench_cpu`: measure ours and PyTorch on the CPU, layer by layer and in sequence, and compare.

The layers are measured by `convbench run`, a file for each batch, all algorithms and PyTorch's modes in turns. From its
rows the fastest of ours within a bound on the error are taken for each layer. They meet PyTorch's fastest modes once
more: `head-to-head.csv`. And of those of each convolution the ones are looked for with which all of them, called in
sequence, are fastest: `stack.csv`. --net measures other layer sets instead, by `convbench run` only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convbench.report.series import LIBRARY, Series, gather
from convbench.report.versus import OURS, OURS_IN_FLOAT32, bound_for, convolutions, within_all
from convbench.results import ResultsError, read
from convbench.results.stack import HEADS, STACK, STACK_SAMPLES, StackRow, read_stack, write_stack, write_table

if TYPE_CHECKING:
    from convbench.algorithms.base import Algorithm
    from convbench.devices.base import Device

NET, BATCHES, NET_BATCH = "alexnet", (1, 16, 64), 16
TITLES = {STACK: "convolutions in sequence", HEADS: "head to head"}
SEED = 1


class BenchError(Exception):
    """What keeps the comparison from being made; the text says what to do."""


def path_of(folder: Path, net: str, batch: int) -> Path:
    """The results of a layer set."""
    return folder / (f"batch{batch}.csv" if net == NET else f"{net}-batch{batch}.csv")


def sweep(asked: argparse.Namespace, net: str, batch: int) -> int:
    """Measure a layer set by `convbench run`; its exit code."""
    path = path_of(asked.out, net, batch)
    words = ["--net", net, "--batch", str(batch), "--device", "cpu", "--threads", str(asked.threads)]
    words += ["--budget", str(asked.budget), "--algo", asked.algo, "--seed", str(SEED)]
    if asked.keep and path.is_file():
        words += ["--resume", str(path)]
    else:
        for old in (path, path.with_name(f"{path.stem}.samples.csv")):
            old.unlink(missing_ok=True)
        words += ["--out", str(path)]
    return subprocess.run([sys.executable, "-m", "convbench", "run", *words], check=False).returncode


def series_of(path: Path) -> Series:
    """The rows of a file, all measured alike. Raises BenchError, ResultsError."""
    series = gather({str(path): read(path)})
    if len(series) != 1:
        raise BenchError(f"{path}: holds {len(series)} sets of conditions instead of one")
    return series[0]


def measure_stack(asked: argparse.Namespace, device: Device, batch: int) -> tuple[list[StackRow], list[Any]]:
    """The convolutions of the batch's file in sequence: rows, and every sample. Raises BenchError, SequenceError."""
    from convbench.algorithms import built_in
    from convbench.bench_cpu.sequence import CANDIDATES, as_rows, choose, measure_sequences, samples_of, ways_of
    from convbench.layers import load
    from convbench.machine import describe

    one = series_of(path_of(asked.out, NET, batch))
    names = convolutions(one)
    known = {algorithm.name: algorithm for algorithm in built_in()}
    bound = bound_for(batch)
    layers = [layer for layer in load(NET).layers if layer.name in names]
    ranked = {
        OURS_IN_FLOAT32: {name: within_all(one, name, bound, short=False) for name in names},
        OURS: {name: within_all(one, name, bound) for name in names},
        LIBRARY: {name: one.ranked(name, LIBRARY) for name in names},
    }
    chosen: dict[str, dict[str, Algorithm]] = {}
    for way, found in ranked.items():
        for name, rows in found.items():
            if not rows:
                raise BenchError(f"batch {batch}, {name}: no valid row of {'a library' if way == LIBRARY else way}")
        candidates = {name: [known[row.algo] for row in rows[:CANDIDATES]] for name, rows in found.items()}
        start = chosen[OURS_IN_FLOAT32] if way == OURS else {}
        for name, algorithm in start.items():
            candidates[name] += [algorithm] * (algorithm not in candidates[name])
        chosen[way] = choose(layers, candidates, device, batch, SEED, start)
    fastest = chosen.pop(LIBRARY)
    everywhere = {name for name in known if all(one.ok(layer, name) for layer in names)}
    library = [a for a in known.values() if a.family == LIBRARY and a.name in everywhere]
    ways = ways_of(library, fastest, {way: chosen[way] for way in (OURS, OURS_IN_FLOAT32)}, bound)
    runs = measure_sequences(layers, ways, device, batch, asked.seconds, SEED)
    return as_rows(runs, batch, SEED, describe(device)), samples_of(runs, batch)


def measure_stacks(asked: argparse.Namespace, batches: Sequence[int]) -> None:
    """All batches in this process, head to head and in sequence; writes their files."""
    from convbench.bench_cpu.heads import measure_heads
    from convbench.devices.cpu import Cpu, physical_cores
    from convbench.machine import give_back_memory, keep_freed_memory, set_threads

    threads = asked.threads or physical_cores()
    set_threads(threads)
    keep_freed_memory()
    device = Cpu(threads)
    found: dict[str, tuple[list[StackRow], list[Any]]] = {HEADS: ([], []), STACK: ([], [])}
    for batch in batches:
        for name, (rows, samples) in found.items():
            print(f"{TITLES[name]}, batch {batch}", flush=True)
            if name == HEADS:
                one = series_of(path_of(asked.out, NET, batch))
                made, raw = measure_heads(one, NET, device, asked.seconds, SEED)
            else:
                made, raw = measure_stack(asked, device, batch)
            rows += made
            samples += raw
            write_stack(asked.out / f"{name}.csv", rows)
            write_table(asked.out / f"{name}.samples.csv", STACK_SAMPLES, samples)
            give_back_memory()


def show(asked: argparse.Namespace, nets: Sequence[tuple[str, int]]) -> None:
    """Print the tables of what is in the folder."""
    from convbench.bench_cpu import tables
    from convbench.console import make_console

    console = make_console()
    both = {name: read_stack(path) for name in TITLES if (path := asked.out / f"{name}.csv").is_file()}
    for net, batch in nets:
        path = path_of(asked.out, net, batch)
        if not path.is_file():
            continue
        one = series_of(path)
        console.print(f"\n[b]{net}, batch {batch}[/b]: the time of the fastest library over ours (vs)")
        console.print(tables.layer_table(one))
        if net == NET and (heads := [row for row in both.get(HEADS, []) if row.batch == batch]):
            console.print("\nthe fastest of them head to head")
            console.print(tables.head_table(heads))
        console.print("\neach family alone, over the convolutions")
        console.print(tables.family_table(one))
        if net != NET:
            console.print("\nby kind of layer")
            console.print(tables.kind_table(one))
        if behind := tables.slower(one):
            console.print(f"the library is faster in: {', '.join(line.layer for line in behind)}")
    if STACK in both and any(net == NET for net, _ in nets):
        console.print()
        console.print(tables.stack_table(both[STACK]))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m convbench.bench_cpu", description="Ours against PyTorch on a CPU.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the CSVs")
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)), help=f"of {NET}")
    parser.add_argument("--net", default="", help=f"layer sets to measure instead of {NET}, a comma list")
    parser.add_argument("--net-batch", type=int, default=NET_BATCH, help="images of those")
    parser.add_argument("--algo", default="all", help="as for `convbench run`")
    parser.add_argument("--threads", type=int, default=0, help="0: one a physical core")
    parser.add_argument("--budget", type=float, default=2.0, help="seconds of sampling a case may take")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="that each layer head to head, and the sequences of a batch, take"
    )
    parser.add_argument("--keep", action="store_true", help="measure only what the files lack")
    parser.add_argument("--show", action="store_true", help="measure nothing: show what is in the folder")
    asked = parser.parse_args(arguments)
    asked.out = Path(asked.out)
    try:
        asked.batches = [int(text) for text in asked.batches.split(",")]
    except ValueError:
        parser.error(f"--batches {asked.batches} is not a comma list of whole numbers")
    return asked


def check_library() -> None:
    """Raises BenchError where PyTorch is missing: a comparison without it is none."""
    from importlib.util import find_spec

    from convbench.algorithms.library.torch import INSTALL

    if find_spec("torch") is None:
        raise BenchError(INSTALL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and show; the worst exit code of the runs, 2 for what cannot be done, 5 for a wrong sequence."""
    from convbench.bench_cpu.sequence import SequenceError

    asked = parse(arguments)
    nets = [(net, asked.net_batch) for net in asked.net.split(",") if net] or [(NET, batch) for batch in asked.batches]
    code = 0
    try:
        if not asked.show:
            check_library()
            for net, batch in nets:
                code = max(code, sweep(asked, net, batch))
                if code == 2 or code >= 128:
                    return code
            if not asked.net:
                measure_stacks(asked, asked.batches)
        show(asked, nets)
    except (BenchError, ResultsError, SequenceError) as error:
        print(f"convbench: {' '.join(str(error).split())}", file=sys.stderr)
        return 5 if isinstance(error, SequenceError) else 2
    return code


if __name__ == "__main__":
    sys.exit(main())
