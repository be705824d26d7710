"""What the CPU's multiply-add units reach with nothing to wait for: chains of multiply-adds on registers alone."""

from __future__ import annotations

import time

from convbench.vector.build import Program, address_of
from convbench.vector.code import Code
from convbench.vector.target import host
from convbench.vector.team import KERNEL, runner

CHAINS = (
    12  # sums under way: more than two units times the longest latency, and they fit 16 registers with the operands
)
STEPS = 1 << 21  # multiply-adds of each chain a call: milliseconds, beside which waking threads is nothing
SECONDS = 0.3


def multiply_adds(program: Program, code: Code) -> None:
    """STEPS times CHAINS independent multiply-adds. The argument: 4 vectors a thread, the result in the last one."""
    place, thread, _ = code.arguments
    own = place + thread * (4 * code.bytes)
    factor, other = own.load(), (own + code.bytes).load()
    sums = [code.variable(0.0) for _ in range(CHAINS)]
    for _ in code.range(STEPS):
        for total in sums:
            total.set(total.get() * factor + other)
    result = sums[0].get()
    for total in sums[1:]:
        result = result + total.get()
    (own + 3 * code.bytes).store(result)


def multiply_add_peak(threads: int, seconds: float = SECONDS) -> float:
    """FLOP/s of float32 multiply-adds on that many threads, the best of so many seconds and at least three calls."""
    import numpy as np

    lanes = host().lanes
    operands = np.zeros((threads, 4, lanes), np.float32)
    operands[:, 0] = 0.5  # sums stay near 2: neither infinities nor denormal numbers, which take longer
    operands[:, 1] = 1.0
    run = runner(address_of(KERNEL, multiply_adds), threads)
    run(operands.ctypes.data)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        run(operands.ctypes.data)
        times.append(time.perf_counter() - begin)
    return 2 * lanes * CHAINS * STEPS * threads / min(times)
