"""How far apart threads are: what a cache line takes from one core to another and back.

Cores that share a cache pass a line on within it; between two such groups it takes several times as long. What the
system says of caches need not be so in a virtual machine, whose processors move from core to core, for minutes or for
seconds: so what depends on it looks again while it runs.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from convbench.vector.build import Program, address_of
from convbench.vector.code import Code, Index, Pointer
from convbench.vector.team import APART, KERNEL, runner

ROUNDS = 200  # of a call: some tens of microseconds, beside which waking threads is little
CALLS = 8  # the fastest counts: in others a thread came late
LOOK_AGAIN_S = 1.0  # of which all calls take less than a thousandth
PATIENCE = 4096  # looks at the line until a thread takes it that the other is not there: some 10 microseconds
FAR_S = 200e-9  # measured on Zen 5: 75 to 130 ns there and back within a shared cache, 350 to 400 between two


def exchange(program: Program, code: Code) -> None:
    """The first and the last thread count up in turns, ROUNDS times each; others have nothing to do.

    The argument: the count, zero at first; APART bytes on, for each of the two its looks at the count, and whether it
    ever gave up waiting.
    """
    place, thread, threads = code.arguments
    for who, number in enumerate((code.index(0), threads - 1)):
        with code.when(thread.is_equal(number)):
            looks = place + (1 + who) * APART
            for turn in code.range(ROUNDS):
                looks.set_integer(0)
                with code.repeat_while(partial(_waits, code, place, turn * 2 + who, looks)):
                    looks.set_integer(looks.integer() + 1)
                with code.when(looks.integer() >= PATIENCE):
                    (looks + 8).set_integer(1)
                place.fetch_add(1)


def _waits(code: Code, count: Pointer, wanted: Index, looks: Pointer) -> Any:
    return code.builder.and_(count.integer_acquired() < wanted, looks.integer() < PATIENCE)


def round_trip(threads: int) -> float | None:
    """Seconds a cache line takes from the first thread to the last and back; None where they never met."""
    import numpy as np

    if threads < 2:
        return None
    run = runner(address_of(KERNEL, exchange), threads)
    numbers = np.zeros((4, APART // 8), np.int64)
    room = numbers.ravel()[-numbers.ctypes.data % APART // 8 :]
    times: list[float] = []
    for _ in range(CALLS):
        numbers[...] = 0
        begin = time.perf_counter()
        run(room.ctypes.data)
        took = time.perf_counter() - begin
        if not (room[APART // 8 + 1] or room[2 * APART // 8 + 1]):
            times.append(took / ROUNDS)
    return min(times, default=None)


_looks: dict[int, tuple[float, bool]] = {}  # by threads: when, and what was seen


def are_far_apart(threads: int) -> bool:
    """Whether threads run on cores that share no cache, now or LOOK_AGAIN_S ago; False where that cannot be told."""
    now = time.monotonic()
    when, far = _looks.get(threads, (-LOOK_AGAIN_S, False))
    if now - when >= LOOK_AGAIN_S:
        found = round_trip(threads)
        far = found is not None and found > FAR_S
        _looks[threads] = (now, far)
    return far
