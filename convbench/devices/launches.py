"""Timing on a GPU with the launches hidden: the decisions, on primitives that a test can script.

A sample is: overwrite the L2 cache (cold) -> a kernel that only spins -> event -> the whole algorithm -> event. While
the kernel spins the host queues everything, so the GPU never waits for a launch between the events. That it did not is
checked: if the GPU is past the first event before the second is queued, the launches were exposed; then the sample is
dropped and the spin doubled.
"""

from __future__ import annotations

from math import ceil
from statistics import median
from typing import Protocol

from convbench.devices.base import Call, Sample

SPIN_FACTOR = 3  # spins this many times the last enqueue time
SPIN_LEAST_S = 20e-6
SPIN_MOST_S = 0.2
TRIES = 5  # a call that waits for the GPU inside is exposed however long the spin
ENQUEUE_GUESS_S = 100e-6  # for a call never seen before
HOT_LEAST_S = 1e-3  # of one hot batch; event ticks are about 0.5 us
HOT_MOST_LOOPS = 1000  # the driver's queue holds about a thousand launches, then the host waits
HOT_ROUNDS = 5


class Launches(Protocol):
    """What timing needs of a GPU; all but `elapsed` return before the GPU has done it."""

    def flush(self) -> None:
        """Overwrite the L2 cache."""
        ...

    def spin(self, seconds: float) -> None:
        """Keep the GPU busy for about so long, and never for ever."""
        ...

    def start(self) -> None:
        """Queue the first event."""
        ...

    def stop(self) -> None:
        """Queue the second event."""
        ...

    def started(self) -> bool:
        """Has the GPU passed the first event?"""
        ...

    def elapsed(self) -> float:
        """Wait for the second event; seconds between the two."""
        ...

    def clock(self) -> float:
        """Seconds of the host's clock."""
        ...


def timed(gpu: Launches, work: Call, enqueue_s: float, cold: bool) -> Sample:
    """One sample of `work`, whose launches took `enqueue_s` last time; disturbed if they were exposed in all TRIES."""
    spin_s = SPIN_FACTOR * enqueue_s
    for attempt in range(TRIES):
        if cold:
            gpu.flush()
        gpu.spin(min(max(spin_s, SPIN_LEAST_S), SPIN_MOST_S))
        gpu.start()
        begin = gpu.clock()
        work()
        enqueue_s = gpu.clock() - begin
        gpu.stop()
        exposed = gpu.started()
        sample = Sample(gpu.elapsed(), exposed, enqueue_s)
        if not exposed:
            break
        # Only the first try's enqueue time is believed: that of a call that waits for the GPU has the spin in it.
        spin_s = 2 * spin_s if attempt else max(2 * spin_s, SPIN_FACTOR * enqueue_s)
    return sample


def timed_hot(gpu: Launches, call: Call) -> float:
    """Seconds a call, the median of HOT_ROUNDS batches of calls back to back; a batch lasts at least HOT_LEAST_S."""
    single = timed(gpu, call, ENQUEUE_GUESS_S, cold=False)
    enqueue_s = single.enqueue_s or 0.0
    loops, batch_s, times = 1, single.seconds, list[float]()
    while len(times) < HOT_ROUNDS:
        if batch_s < HOT_LEAST_S and loops < HOT_MOST_LOOPS:  # warm calls are quicker than the first one was
            loops = min(HOT_MOST_LOOPS, max(loops + 1, ceil(1.2 * loops * HOT_LEAST_S / max(batch_s, 1e-9))))
            times.clear()

        def batch(count: int = loops) -> None:
            for _ in range(count):
                call()

        batch_s = timed(gpu, batch, loops * enqueue_s, cold=False).seconds
        times.append(batch_s / loops)
    return median(times)


class LiveBytes:
    """Bytes allocated since it was made and still held, and the most there were at once (`peak`)."""

    def __init__(self) -> None:
        self.peak = 0
        self._live = 0
        self._sizes: dict[int, int] = {}

    def took(self, pointer: int, size: int) -> None:
        """An allocation; pointer 0 is one that failed, or of no bytes."""
        if pointer:
            self._sizes[pointer] = size
            self._live += size
            self.peak = max(self.peak, self._live)

    def gave(self, pointer: int) -> None:
        """A release; of what was allocated before, it is not counted."""
        self._live -= self._sizes.pop(pointer, 0)
