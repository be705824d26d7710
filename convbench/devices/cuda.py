"""An NVIDIA GPU as a Device, through CuPy 14: events as the clock, launches hidden, the L2 cache cold."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterable
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from convbench.devices.base import Call, Grid, Knob, NoDevice, Sample, Transform
from convbench.devices.cublas import Products
from convbench.devices.cuda_source import cuda_source
from convbench.devices.cufft import irfft2, rfft2
from convbench.devices.cupy_parts import CupyLaunches, compiled, counting_hook
from convbench.devices.following import FOLLOWING, driver_launch, launch_following, least_shared
from convbench.devices.launches import ENQUEUE_GUESS_S, LiveBytes, timed, timed_hot
from convbench.devices.nvml import open_nvml
from convbench.problem import PRECISIONS, Problem

PEAK_SIZE = 4096  # rows and columns of the matrix product that stands for the peak
PEAK_SECONDS = 0.5  # for each ceiling
JOULE_SECONDS = 0.5  # NVML counts energy about every 100 ms
OPTIONS = ("--std=c++17",)  # of NVRTC
COPY_BYTES = 1 << 30  # of the copy that stands for the bandwidth, where the memory has room


def cuda_device(threads: int) -> Cuda:
    """The current GPU. Raises NoDevice, with the remedy, where CuPy is not installed or finds no GPU it can use."""
    # Products of float32 are to be float32: TF32 keeps 10 bits. CuPy and cuBLAS read these when they first multiply.
    os.environ["CUPY_TF32"] = "0"
    os.environ.pop("NVIDIA_TF32_OVERRIDE", None)
    try:
        import cupy
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise NoDevice(f"CuPy cannot be imported: {_one_line(error)}; {INSTALL}") from None
        raise NoDevice(f"CuPy is not installed; {INSTALL}") from None
    except Exception as error:  # a broken installation raises whatever its libraries raise
        raise NoDevice(f"CuPy cannot be imported: {_one_line(error)}; {INSTALL}") from None
    try:
        if not cupy.cuda.runtime.getDeviceCount():
            raise NoDevice(f"CuPy finds no GPU; {NO_GPU}")
        return Cuda(threads)
    except (cupy.cuda.runtime.CUDARuntimeError, ImportError) as error:
        raise NoDevice(f"CuPy finds no GPU it can use: {_one_line(error)}; {NO_GPU}") from None


INSTALL = "pip install 'convbench[cuda12]' or 'convbench[cuda13]', after the driver's CUDA version in nvidia-smi"
NO_GPU = "check that nvidia-smi lists one and that its driver is new enough, or use --device cpu"


def _one_line(error: Exception) -> str:
    """The first line of an error that says something."""
    lines = (line.strip(" =\t") for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__).rstrip(".")


class Cuda:
    """The current GPU, timed by events. Cold (L2 overwritten) is the headline, `time_hot` the other number."""

    kind: str = "cuda"
    caches: tuple[str, ...] = ("cold",)

    def __init__(self, threads: int) -> None:
        import cupy

        self.xp: Any = cupy
        self.threads = threads
        gpu = cupy.cuda.Device()
        self.hardware = cupy.cuda.runtime.getDeviceProperties(gpu.id)["name"].decode()
        self.last_level_bytes = self.cache_bytes = int(gpu.attributes["L2CacheSize"])
        self.core_cache_bytes = 0
        self.capability = int(gpu.compute_capability)
        self._nvml = open_nvml(gpu.pci_bus_id)
        self._enqueue_s: WeakKeyDictionary[Call, float] = WeakKeyDictionary()

    @cached_property
    def _products(self) -> Products:
        from cupy_backends.cuda.libs.cublas import gemmStridedBatchedEx

        return Products(gemmStridedBatchedEx, self.xp.cuda.device.get_cublas_handle())

    @cached_property
    def _launches(self) -> CupyLaunches:
        return CupyLaunches(self.xp, 2 * self.cache_bytes)

    def now(self) -> float:
        """Seconds of the monotonic clock, read when the GPU has finished all it was given."""
        self.xp.cuda.Device().synchronize()
        return time.perf_counter()

    def time(self, calls: list[Call], loops: int) -> Sample:
        """One cold sample of `loops` calls (1, for a cache that stays cold), launch cost hidden; see launches.py."""
        first = calls[0]

        def work() -> None:
            for i in range(loops):
                calls[i % len(calls)]()

        sample = self._undisturbed(lambda: timed(self._launches, work, self._last_enqueue(first), cold=True))
        if sample.enqueue_s is not None and not sample.disturbed:
            self._enqueue_s[first] = sample.enqueue_s
        calls[:] = calls[loops % len(calls) :] + calls[: loops % len(calls)]
        disturbed = sample.disturbed or self._nvml.slowed()
        return Sample(sample.seconds / loops, disturbed, (sample.enqueue_s or 0) / loops, self._nvml.sm_mhz())

    def _last_enqueue(self, call: Call) -> float:
        return self._enqueue_s.get(call, ENQUEUE_GUESS_S)

    def time_hot(self, call: Call) -> float | None:
        """Seconds a call, back to back: what fits the L2 cache is found there."""
        return float(self._undisturbed(lambda: timed_hot(self._launches, call)))

    def _undisturbed(self, work: Callable[[], Any]) -> Any:
        """work() with the garbage collector off."""
        collecting = gc.isenabled()
        gc.disable()
        try:
            return work()
        finally:
            if collecting:
                gc.enable()

    def flops_peak(self, precision: str) -> float:
        """The best of several products of two PEAK_SIZE x PEAK_SIZE matrices by cuBLAS, in this arithmetic."""
        import numpy as np

        values = np.random.default_rng(0).standard_normal((PEAK_SIZE, PEAK_SIZE), np.float32)
        a = self.put(values.astype(PRECISIONS[precision].storage))  # random: zeros take less power and so clock higher
        out = self.xp.empty_like(a)
        return 2 * PEAK_SIZE**3 / self._best(lambda: self._products(a, a, out, tf32=precision == "tf32"))

    def multiply_add_peak(self, precision: str) -> None:
        """Not known apart from `flops_peak`."""

    def free_bytes(self) -> int:
        """Of the GPU's memory."""
        return int(self.xp.cuda.runtime.memGetInfo()[0])

    def bandwidth_peak(self) -> float:
        """The best of several copies of COPY_BYTES (or a quarter of the free memory), bytes read and written."""
        source = self.xp.ones(min(COPY_BYTES, self.free_bytes() // 4) // 8)
        target = self.xp.empty_like(source)
        return 2 * int(source.nbytes) / self._best(lambda: self.xp.copyto(target, source))

    def _best(self, call: Call) -> float:
        call()
        times: list[float] = []
        end = self.now() + PEAK_SECONDS
        while len(times) < 3 or self.now() < end:
            times.append(self.time([call], 1).seconds)
        return min(times)

    def empty(self, shape: tuple[int, ...], precision: str) -> Any:
        """A CuPy array of CuPy's memory pool, aligned to 512 bytes."""
        return self.xp.empty(shape, precision)

    def put(self, array: Any) -> Any:
        """A copy on the GPU."""
        return self.xp.array(array)

    def get(self, array: Any) -> Any:
        """A copy in NumPy, made when the GPU has finished what was queued before."""
        return self.xp.asnumpy(array)

    def peak(self, call: Call) -> int:
        """By a hook of CuPy's memory pool: sizes as asked for, with cuFFT's work areas, without cuBLAS's workspace."""
        gc.collect()
        self.xp.fft.config.get_plan_cache().clear()  # else a plan's work area would seem to cost nothing
        self.xp.get_default_memory_pool().free_all_blocks()
        live = LiveBytes()
        with counting_hook(self.xp.cuda.MemoryHook, live):
            call()
        self.now()
        return live.peak

    def parallel(self, work: Callable[[int, int], None], items: int) -> None:
        """A plain loop: one host thread feeds the GPU."""
        for i in range(items):
            work(i, 0)

    def matmul(self, a: Any, b: Any, out: Any, tf32: bool = False) -> Any:
        """cuBLAS, one batched call."""
        return self._products(a, b, out, tf32)

    def rfft2(
        self, counts: tuple[int, ...], window: tuple[int, int], size: tuple[int, int], precision: str
    ) -> Transform:
        """cuFFT, planned for these counts."""
        from cupy.cuda import cufft

        return rfft2(self.xp, cufft, counts, window, size, precision)

    def irfft2(self, counts: tuple[int, ...], size: tuple[int, int], precision: str) -> Transform:
        """cuFFT, planned for these counts; not scaled."""
        from cupy.cuda import cufft

        return irfft2(self.xp, cufft, counts, size, precision)

    def load(self, source: Path, problem: Problem, **knobs: Knob) -> Any:
        """The module of a `.cu` file with this problem's shape; CuPy compiles it for this GPU and caches the result."""
        return self.xp.RawModule(code=cuda_source(source, problem, **knobs), options=OPTIONS, backend="nvrtc")

    def load_own(self, source: Path, problem: Problem, **knobs: Knob) -> Any:
        """The same for sm_90a, say, which CuPy does not compile for."""
        path = compiled(cuda_source(source, problem, **knobs), f"sm_{self.capability}a", OPTIONS)
        return self.xp.RawModule(path=str(path))

    @cached_property
    def _driver_launch(self) -> Callable[..., int]:
        return driver_launch()

    def launch(
        self, kernel: Any, grid: Grid, block: Grid, arguments: Any, shared_mem: int = 0, *, follows: bool = False,
        evenly: bool = False,
    ) -> None:  # fmt: skip
        """By CuPy, or, where it follows and this GPU can do that, by the driver."""
        if not (follows and self.capability >= FOLLOWING):
            kernel(grid, block, arguments, shared_mem=shared_mem)
            return
        if evenly:
            shared_mem = max(shared_mem, least_shared(prod(grid), self.xp.cuda.Device().attributes))
            kernel.max_dynamic_shared_size_bytes = shared_mem
        stream = self.xp.cuda.get_current_stream().ptr
        launch_following(self._driver_launch, kernel, grid, block, arguments, shared_mem, stream)

    def joules(self, call: Call) -> float | None:
        """The growth of NVML's counter over JOULE_SECONDS of calls, where there is one."""
        begin, before = self.now(), self._nvml.energy_j()
        if before is None:
            return None
        count = 0
        while self.now() - begin < JOULE_SECONDS:
            for _ in range(10):
                call()
            count += 10
        after = self._nvml.energy_j()
        return None if after is None else (after - before) / count

    def warnings(self) -> Iterable[str]:
        """Slowed clocks and other processes, where NVML tells."""
        return self._nvml.warnings()


def versions() -> dict[str, str]:
    """CuPy's, the CUDA runtime's and the driver's version, for a result's row; needs a GPU."""
    import cupy

    runtime = cupy.cuda.runtime
    driver = open_nvml(cupy.cuda.Device().pci_bus_id).driver()
    return {
        "cupy": cupy.__version__,
        "cuda": _cuda_version(runtime.runtimeGetVersion()),
        "driver": driver or f"for CUDA {_cuda_version(runtime.driverGetVersion())}",
    }


def _cuda_version(number: int) -> str:
    """12090 is CUDA 12.9."""
    return f"{number // 1000}.{number % 1000 // 10}"
