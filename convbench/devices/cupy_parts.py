"""Around CuPy: events and a kernel that spins, a hook into its memory pool, and code that it does not compile."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convbench.devices.launches import LiveBytes

SPIN_HZ = 2e9  # about the clock of any GPU; the spin is lengthened where it proves too short

SPIN_SOURCE = """
extern "C" __global__ void spin(long long cycles) {
  const long long begin = clock64();
  while (clock64() - begin < cycles) {}
}
"""


class CupyLaunches:
    """The primitives of launches.py on CuPy's current stream."""

    def __init__(self, cupy: Any, flush_bytes: int) -> None:
        import numpy

        self._scratch = cupy.empty(flush_bytes, cupy.uint8)
        self._begin, self._end = cupy.cuda.Event(), cupy.cuda.Event()
        self._elapsed_ms = cupy.cuda.get_elapsed_time
        self._spin = cupy.RawModule(code=SPIN_SOURCE, backend="nvrtc").get_function("spin")
        self._int64 = numpy.int64  # CuPy passes a kernel's number in its NumPy type
        self.clock = time.perf_counter
        self.spin(0)  # compiled now, not inside a sample

    def flush(self) -> None:
        """Write all of a buffer of twice the L2 cache."""
        self._scratch.data.memset_async(0, self._scratch.nbytes)

    def spin(self, seconds: float) -> None:
        """One thread that counts clock cycles, which go on whatever else happens: it always ends."""
        self._spin((1,), (1,), (self._int64(seconds * SPIN_HZ),))

    def start(self) -> None:
        """Record the first event."""
        self._begin.record()

    def stop(self) -> None:
        """Record the second event."""
        self._end.record()

    def started(self) -> bool:
        """Ask the first event, without waiting."""
        return bool(self._begin.done)

    def elapsed(self) -> float:
        """Wait for the second event; the GPU's own clock between the two, about 0.5 us fine."""
        self._end.synchronize()
        return float(self._elapsed_ms(self._begin, self._end)) * 1e-3


def counting_hook(base: Any, live: LiveBytes) -> Any:
    """A hook for CuPy's memory pool (`base` is cupy.cuda.MemoryHook) that keeps account in `live`."""

    class CountingHook(base):
        name = "convbench"

        def malloc_postprocess(self, **facts: int) -> None:
            live.took(facts["mem_ptr"], facts["size"])

        def free_postprocess(self, **facts: int) -> None:
            live.gave(facts["mem_ptr"])

    return CountingHook()


def compiled(source: str, architecture: str, options: Sequence[str]) -> Path:
    """The file of `source`'s machine code for an architecture that CuPy would not choose, by NVRTC; made once.

    It lies among CuPy's own, and is renamed into place, so that others see all of it or nothing. Raises RuntimeError
    with what the compiler says.
    """
    from cupy_backends.cuda.libs import nvrtc

    folder = Path(os.environ.get("CUPY_CACHE_DIR") or Path.home() / ".cupy" / "kernel_cache")
    words = (f"--gpu-architecture={architecture}", "-ftz=true", *options)
    key = hashlib.sha256("\0".join((source, *words, str(nvrtc.getVersion()))).encode()).hexdigest()
    path = folder / f"convbench-{key[:40]}.cubin"
    if not path.is_file():
        program = nvrtc.createProgram(source, "kernel.cu", (), ())
        try:
            nvrtc.compileProgram(program, words)
            code = nvrtc.getCUBIN(program)
        except nvrtc.NVRTCError:
            raise RuntimeError(f"NVRTC for {architecture}: {nvrtc.getProgramLog(program)}") from None
        finally:
            nvrtc.destroyProgram(program)
        folder.mkdir(parents=True, exist_ok=True)
        mine = path.with_suffix(f".{os.getpid()}")
        mine.write_bytes(code)
        mine.replace(path)
    return path
