"""Every algorithm's answers on the GPU, before anything is timed.

`python -m convbench.bench_gpu.check ALGO PRECISION BATCHES` is one job. Each algorithm and precision has a process
of its own, so that one that ruins its GPU context ruins no other; many at once, as most of the time goes into compiling
and into the float64 reference, on the host.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NET = "alexnet"
SHAPES = 10  # random odd ones beside the layers
SEED = 1
SPARE_CORES = 2
MOST_TOGETHER = 14
BYTES_EACH = 6 << 30  # of the GPU's memory: a context, x, w and y of the largest layer, and an algorithm's buffers
NOT_BEGUN = "not checked, as no time was left"
LONGEST_SECONDS = 240.0


def check_one(algo: str, precision: str, batches: Sequence[int]) -> int:
    """The layers at each batch, and random shapes at the first; the worst exit code of `convbench verify`."""
    from convbench.options import chosen_algorithms, chosen_device, chosen_layers
    from convbench.verify import print_verification

    device, _ = chosen_device("cuda", 1)
    (algorithm,) = chosen_algorithms(algo, ())
    _, layers = chosen_layers(NET, "all", None)
    codes = []
    for i, batch in enumerate(batches):
        shapes = 0 if i else SHAPES
        codes.append(print_verification(layers, [algorithm], device, precision, batch, shapes, SEED))
    # A vendor's algorithm that takes none of them has done nothing wrong.
    return max(0 if code == 4 and algorithm.family == "library" else code for code in codes)


def together(free_bytes: int, cores: int) -> int:
    """Processes at once: as many as the GPU's free memory and the host's cores allow."""
    return max(1, min(MOST_TOGETHER, cores - SPARE_CORES, free_bytes // BYTES_EACH))


def check_all(jobs: Sequence[tuple[str, str]], batches: Sequence[int], log: Path, free_bytes: int, end: float) -> int:
    """All jobs (algorithm, precision); prints those that fail, writes what each says to `log`; the worst exit code.

    What is not done at `end`, seconds of the monotonic clock, has failed.
    """
    print(
        f"checking {len(jobs)} algorithms and precisions on the GPU, each on {NET} and {SHAPES} odd shapes", flush=True
    )
    with ThreadPoolExecutor(together(free_bytes, os.cpu_count() or 1)) as pool:
        ends = list(pool.map(lambda job: _run(job[0], job[1], batches, end), jobs))
    log.write_text("".join(f"== {algo} {precision}: exit {code}\n{text}\n" for (algo, precision), (code, text) in
                           zip(jobs, ends, strict=True)))  # fmt: skip
    late = []
    for (algo, precision), (code, text) in zip(jobs, ends, strict=True):
        if text == NOT_BEGUN:
            late.append(f"{algo} in {precision}")
        elif code:
            print(f"{algo} in {precision} failed with exit code {code}:\n{text.rstrip()}")
    if late:
        print(f"{NOT_BEGUN}: {', '.join(late)}")
    bad = sum(bool(code) for code, _ in ends)
    print(f"{len(jobs) - bad} of {len(jobs)} right; all answers: {log}", flush=True)
    return max((code for code, _ in ends), default=0)


def _run(algo: str, precision: str, batches: Sequence[int], end: float) -> tuple[int, str]:
    words = [sys.executable, "-m", __name__, algo, precision, ",".join(map(str, batches))]
    seconds = min(LONGEST_SECONDS, end - time.monotonic())
    if seconds <= 0:
        return 4, NOT_BEGUN
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return 4, f"not finished after {seconds:.0f} s"
    return (4 if done.returncode < 0 else done.returncode), done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(check_one(sys.argv[1], sys.argv[2], [int(text) for text in sys.argv[3].split(",")]))
