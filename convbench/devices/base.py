"""The Device protocol: the clock, the arrays and the memory of a machine, so that a test can script all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from convbench.problem import Problem

Call = Callable[[], Any]
Matrix = tuple[tuple[float, ...], ...]
Knob = int | Matrix  # what a kernel is compiled with beside the shape
Grid = tuple[int, ...]  # up to three sizes, of a launch or of a block


class NoDevice(Exception):
    """The device that was asked for cannot be used; the text says why and what to do."""


@dataclass(frozen=True)
class Sample:
    """One timed sample: seconds a call, whether something else took time from it, and (GPU) launch time."""

    seconds: float
    disturbed: bool = False
    enqueue_s: float | None = None
    sm_mhz: float | None = None


@dataclass(frozen=True)
class Transform:
    """FFTs planned for each of some counts, with their memory.

    source(count) is the array to be filled, run(count) transforms it and gives the result; both arrays are only good
    until the next run. Results are to be multiplied by `factor` for the inverse to be one; nbytes is what it all holds.
    """

    source: Callable[[int], Any]
    run: Callable[[int], Any]
    nbytes: int
    factor: float = 1.0


class Device(Protocol):
    """A place where convolutions run."""

    kind: str  # "cpu" or "cuda"
    hardware: str  # the model's name, as results are filed under it
    threads: int  # CPU threads an algorithm may use
    xp: Any  # numpy, or cupy
    caches: tuple[str, ...]  # cache states it can time in; the first is the default
    last_level_bytes: int  # the last-level cache
    cache_bytes: int  # what plans may count on of it
    core_cache_bytes: int  # the cache one core has to itself (0 on a GPU)
    capability: int  # a GPU's compute capability, 90 for 9.0; 0 on a CPU

    def now(self) -> float:
        """Seconds on the clock that budgets are kept by."""
        ...

    def time(self, calls: list[Call], loops: int) -> Sample:
        """Run `loops` calls, taking them from `calls` in turn, and time them together; `calls` is left rotated."""
        ...

    def time_hot(self, call: Call) -> float | None:
        """Seconds a call, back to back with warm caches, where that differs from `time`; else None."""
        ...

    def joules(self, call: Call) -> float | None:
        """Joules a call takes when it is repeated, where the device reports them; else None."""
        ...

    def flops_peak(self, precision: str) -> float:
        """FLOP/s of a large matrix product, measured now."""
        ...

    def multiply_add_peak(self, precision: str) -> float | None:
        """FLOP/s of multiply-adds on registers alone, measured now; None where only `flops_peak` is known."""
        ...

    def bandwidth_peak(self) -> float:
        """Bytes/s from memory, measured now on arrays several times as large as the last-level cache."""
        ...

    def empty(self, shape: tuple[int, ...], precision: str) -> Any:
        """An array, not initialised."""
        ...

    def put(self, array: Any) -> Any:
        """A NumPy array onto the device."""
        ...

    def get(self, array: Any) -> Any:
        """A device array as a NumPy array."""
        ...

    def peak(self, call: Call) -> int:
        """Bytes that `call` had allocated at its worst moment, beyond what was there before."""
        ...

    def parallel(self, work: Callable[[int, int], None], items: int) -> None:
        """work(i, thread) for each i below items, on `threads` threads, in an order that is nobody's business."""
        ...

    def matmul(self, a: Any, b: Any, out: Any, tf32: bool = False) -> Any:
        """out[i] = a[i] b[i] for stacks of matrices [i, rows, columns]; a may be one matrix for all i.

        float16 operands may have a float32 `out`, and are then summed in float32 (on a GPU by its tensor cores). tf32
        allows a GPU to round float32 operands to 10 bits.
        """
        ...

    def rfft2(
        self, counts: tuple[int, ...], window: tuple[int, int], size: tuple[int, int], precision: str
    ) -> Transform:
        """Real 2-D FFTs of images [count, *window], zero-padded to `size`: [count, size[0], size[1] // 2 + 1]."""
        ...

    def irfft2(self, counts: tuple[int, ...], size: tuple[int, int], precision: str) -> Transform:
        """Their inverses, from spectra of that shape to images [count, *size]."""
        ...

    def load(self, source: Path, problem: Problem, **knobs: Knob) -> Any:
        """The compiled CUDA module of a `.cu` file for this problem (raises NoDevice on a CPU)."""
        ...

    def load_own(self, source: Path, problem: Problem, **knobs: Knob) -> Any:
        """The same with instructions that only this GPU's generation has: compiled for sm_90a on sm_90."""
        ...

    def launch(
        self, kernel: Any, grid: Grid, block: Grid, arguments: Any, shared_mem: int = 0, *, follows: bool = False,
        evenly: bool = False,
    ) -> None:  # fmt: skip
        """Queues a kernel of a module (raises NoDevice on a CPU).

        follows: it may begin before what the same call queued last has ended. It waits itself, by wait_for_previous of
        ptx.cuh, and is the sooner there. evenly: not with several blocks on the multiprocessors that are free first,
        while others get none.
        """
        ...

    def warnings(self) -> Iterable[str]:
        """What about this machine, now, makes times doubtful, each with advice."""
        ...
