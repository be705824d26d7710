"""The CPU as a Device: its clock, its caches, its threads, and what disturbs it."""

from __future__ import annotations

import gc
import os
import resource
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convbench.devices.base import Call, Knob, NoDevice, Sample, Transform
from convbench.devices.cpu_caches import beyond_caches, core_cache, last_level_cache, share_of
from convbench.problem import COMPLEX, USUAL_PRECISIONS, Problem

if TYPE_CHECKING:
    import numpy as np

PEAK_SIZE = 2048  # rows and columns of the matrix product that stands for the peak
MANY = 128  # products, between the largest Winograd tile of one group (121) and the smallest useful FFT (144)
SHARES = 4  # parts a thread of a stack of products: fine enough to even out, coarse enough to cost nothing
PEAK_SECONDS = 0.5  # for each ceiling


class Cpu:
    """Times with perf_counter_ns, in float32 and float64, on `threads` threads of NumPy's BLAS and of Numba."""

    kind: str = "cpu"
    caches: tuple[str, ...] = ("hot", "cold")

    def __init__(self, threads: int) -> None:
        import numpy

        self.xp: Any = numpy
        self.threads = threads
        self.hardware = cpu_name()
        self.last_level_bytes = last_level_cache()
        self.cache_bytes = share_of(self.last_level_bytes, threads)
        self.core_cache_bytes = core_cache()
        self.capability = 0
        self._limit_threads()

    def _limit_threads(self) -> None:
        """The environment set the pools' sizes before NumPy came; this also holds where NumPy was there already."""
        import numba

        numba.set_num_threads(min(self.threads, numba.config.NUMBA_NUM_THREADS))
        for library in self._blas.lib_controllers:
            library.set_num_threads(self.threads)

    @cached_property
    def _blas(self) -> Any:
        from threadpoolctl import ThreadpoolController

        return ThreadpoolController().select(user_api="blas")

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, "convbench")

    def now(self) -> float:
        """Seconds of the monotonic clock."""
        return time.perf_counter()

    def time(self, calls: list[Call], loops: int) -> Sample:
        """Time `loops` calls together, garbage collector off; disturbed: kernel or hypervisor took time away."""
        count = len(calls)
        collecting = gc.isenabled()
        gc.disable()
        stolen, switched = _stolen_ticks(), _involuntary_switches()
        try:
            begin = time.perf_counter_ns()
            for i in range(loops):
                calls[i % count]()
            elapsed = time.perf_counter_ns() - begin
        finally:
            if collecting:
                gc.enable()
        disturbed = _stolen_ticks() > stolen or _involuntary_switches() > switched
        calls[:] = calls[loops % count :] + calls[: loops % count]  # copies of operands are taken in turn
        return Sample(elapsed / loops * 1e-9, disturbed)

    def time_hot(self, call: Call) -> float | None:
        """Nothing beside `time`: on a CPU the state of the cache is a choice for the whole run."""
        return None

    def joules(self, call: Call) -> float | None:
        """Nothing: there is no counter that every user may read."""
        return None

    def flops_peak(self, precision: str) -> float:
        """The best of several products of PEAK_SIZE x PEAK_SIZE matrices; float32's where BLAS has no such numbers."""
        a = self.xp.ones((PEAK_SIZE, PEAK_SIZE), precision if precision in USUAL_PRECISIONS else "float32")
        out = self.xp.empty_like(a)
        return 2 * PEAK_SIZE**3 / self._best(lambda: self.xp.matmul(a, a, out=out))

    def multiply_add_peak(self, precision: str) -> float | None:
        """The best of many calls of a kernel that touches nothing but registers; None in float64, which it has not."""
        from convbench.vector.peak import multiply_add_peak

        return multiply_add_peak(self.threads, PEAK_SECONDS) if precision != "float64" else None

    def bandwidth_peak(self) -> float:
        """The best of several searches for the largest of as many numbers as no cache holds, by all threads.

        Of NumPy's reductions this one (and a BLAS dot product) reads the fastest; a sum has to wait for its additions.
        """
        source = self.xp.ones((self.threads, beyond_caches(self.last_level_bytes) // 8 // self.threads))
        best = self._best(lambda: self.parallel(lambda i, thread: source[i].max(), self.threads))
        return source.nbytes / best

    def _best(self, call: Call) -> float:
        call()
        times: list[float] = []
        end = self.now() + PEAK_SECONDS
        while len(times) < 3 or self.now() < end:
            times.append(self.time([call], 1).seconds)
        return min(times)

    def empty(self, shape: tuple[int, ...], precision: str) -> np.ndarray[Any, Any]:
        """A NumPy array on a 64-byte boundary, as the widest vector loads like it."""
        dtype = self.xp.dtype(precision)
        size = dtype.itemsize
        for dim in shape:
            size *= dim
        raw = self.xp.empty(size + 64, self.xp.uint8)
        start = -raw.ctypes.data % 64
        return raw[start : start + size].view(dtype).reshape(shape)

    def put(self, array: Any) -> Any:
        """A copy on a 64-byte boundary."""
        out = self.empty(array.shape, array.dtype.name)
        out[...] = array
        return out

    def get(self, array: Any) -> Any:
        """The array itself."""
        return array

    def peak(self, call: Call) -> int:
        """By tracemalloc, to which NumPy reports its buffers; what Numba or BLAS take by themselves is not seen."""
        from convbench.vector.room import forget

        forget(self)
        gc.collect()
        tracemalloc.start()
        try:
            call()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def parallel(self, work: Callable[[int, int], None], items: int) -> None:
        """Each thread takes the next item as it comes free; BLAS inside `work` runs on one thread."""
        if self.threads == 1:
            for i in range(items):
                work(i, 0)
            return
        taken = iter(range(items))
        lock = threading.Lock()

        def serve(thread: int) -> None:
            while True:
                with lock:
                    i = next(taken, None)
                if i is None:
                    return
                work(i, thread)

        with self._single_threaded_blas():
            for done in [self._pool.submit(serve, t) for t in range(self.threads)]:
                done.result()

    def _single_threaded_blas(self) -> Any:
        return self._blas.limit(limits=1)

    def matmul(self, a: Any, b: Any, out: Any, tf32: bool = False) -> Any:
        """A stack of MANY products is shared out to threads, each with single-threaded BLAS.

        Threads inside each of many small products would be woken and put to sleep for every one of them; in a short
        stack the products are what there is to share out. No CPU has tf32: its products are float32.
        """
        count = len(out)
        if count < MANY or self.threads == 1:
            return self.xp.matmul(a, b, out=out)
        each = -(-count // (SHARES * self.threads))

        def share(i: int, thread: int) -> None:
            part = slice(i * each, (i + 1) * each)
            self.xp.matmul(a[part] if a.ndim == 3 else a, b[part], out=out[part])

        self.parallel(share, -(-count // each))
        return out

    def rfft2(
        self, counts: tuple[int, ...], window: tuple[int, int], size: tuple[int, int], precision: str
    ) -> Transform:
        """scipy.fft (pocketfft), on all threads; it makes the array of the result."""
        from scipy.fft import rfft2

        images = self.empty((max(counts), *window), precision)
        return Transform(
            lambda count: images[:count], lambda count: rfft2(images[:count], size, workers=self.threads), images.nbytes
        )

    def irfft2(self, counts: tuple[int, ...], size: tuple[int, int], precision: str) -> Transform:
        """scipy.fft (pocketfft), on all threads; it makes the array of the result."""
        from scipy.fft import irfft2

        spectra = self.empty((max(counts), size[0], size[1] // 2 + 1), COMPLEX[precision])

        def run(count: int) -> Any:
            return irfft2(spectra[:count], size, workers=self.threads, overwrite_x=True)

        return Transform(lambda count: spectra[:count], run, spectra.nbytes)

    def load(self, source: Path, problem: Problem, **knobs: Knob) -> Any:
        """A CPU runs no CUDA."""
        raise NoDevice(f"{source.name} is CUDA source and this device is the CPU; use --device cuda")

    load_own = load

    def launch(self, *_: Any, **__: Any) -> None:
        """A CPU runs no CUDA."""
        raise NoDevice("kernels of CUDA are launched on a GPU and this device is the CPU; use --device cuda")

    def warnings(self) -> Iterator[str]:
        """Frequency governor, threads that share cores, other processes."""
        governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        if governor.exists() and (name := governor.read_text().strip()) != "performance":
            remedy = "cpupower frequency-set -g performance"
            yield f"the CPU frequency governor is '{name}': times wander; try '{remedy}'"
        cores = physical_cores()
        if self.threads > cores:
            yield f"{self.threads} threads on {cores} physical cores get in each other's way; try --threads {cores}"
        if (load := os.getloadavg()[0]) > 0.5 + self.threads:
            yield f"the load average is {load:.1f}: other processes run; stop them for times that can be compared"


def cpu_name() -> str:
    """The model's name as the kernel gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    import platform

    return platform.processor() or platform.machine() or "unknown CPU"


def physical_cores() -> int:
    """Cores this process may run on, threads of one core counted once."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores = set()
    for cpu in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            cores.add(tuple((topology / name).read_text() for name in ("physical_package_id", "core_id")))
        except OSError:
            cores.add((str(cpu), ""))
    return len(cores)


def _stolen_ticks() -> int:
    """Clock ticks the hypervisor gave to others, since boot (0 where the kernel does not tell)."""
    try:
        with open("/proc/stat", "rb") as file:
            return int(file.readline().split()[8])
    except (OSError, IndexError, ValueError):
        return 0


def _involuntary_switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
