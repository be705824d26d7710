"""Which CPU vector code is compiled for, and what its registers hold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

HALF_UNITS = ("znver4",)  # CPUs with AVX-512 whose multiply-add units are 256 bits wide
SPARE = 4  # registers a product keeps for what it multiplies; the rest hold sums


@dataclass(frozen=True)
class Target:
    """A CPU as LLVM names it, and its features as LLVM lists them (`+avx2,-avx512f,...`)."""

    cpu: str
    features: str

    def _has(self, feature: str) -> bool:
        return f"+{feature}" in self.features.split(",")

    @property
    def _is_zen(self) -> bool:
        return self.cpu.startswith("znver")

    @property
    def lanes(self) -> int:
        """float32 a register holds: 16 with AVX-512, 8 with AVX, 4 with SSE or NEON."""
        return 16 if self._has("avx512f") else 8 if self._has("avx") else 4

    @property
    def sums(self) -> int:
        """Registers that can hold sums while SPARE others hold what is multiplied."""
        return (32 if self._has("avx512f") or self._has("neon") else 16) - SPARE

    @property
    def panels(self) -> int:
        """Panels of 16 columns that a product takes side by side, each of its loads then paying for as many vectors.

        Two where a core multiplies two vectors of 16 at a time, more than it can load numbers for; one elsewhere: with
        narrower vectors a panel is two or four of them anyway, and the units of Zen 4 take half a vector each.
        """
        return 2 if self.lanes == 16 and self.cpu not in HALF_UNITS else 1

    @property
    def foresees(self) -> bool:
        """Whether it finds out what is read in order, from several places too, better than it can be told.

        Zen 5 does: asking takes the few places a core has for what misses its first cache, its own foresight does not.
        """
        return self.cpu == "znver5"

    @property
    def bars_passers(self) -> bool:
        """Whether what is fetched for one use only comes to the second-level cache and stays out of the shared one.

        So it is where the shared cache takes what the second level gives up (AMD's since Zen). Elsewhere such a line is
        kept in the first level alone, which is too small for what is asked for ahead.
        """
        return self._is_zen

    @property
    def drops_requests(self) -> bool:
        """Whether what is asked for should be asked for twice: far ahead into the second-level cache, and nearby.

        Zen 4 has few places for lines on their way into its first level, so that a stream asked for there comes with
        half of what memory gives. On their way into the second there may be many; those that are too many get lost.
        """
        return self.cpu == "znver4"

    @property
    def multiplies_tiles(self) -> bool:
        """Whether it multiplies tiles of bytes (tiles.py)."""
        return self._has("amx-tile") and self._has("amx-int8") and self.lanes == 16

    @property
    def keeps_own(self) -> bool:
        """Whether the second-level cache keeps what a thread works on while other data stream through it.

        A Zen's does. Intel's server cores lose enough of it to wait, well before it is full: there all that is read
        again is asked for ahead, wherever it should be, and a request for what is there costs next to nothing. Other
        CPUs are taken to be like them.
        """
        return self._is_zen


@lru_cache(maxsize=1)
def host() -> Target:
    """This CPU, or the one that NUMBA_CPU_NAME and NUMBA_CPU_FEATURES name."""
    import llvmlite.binding as llvm
    from numba import config

    cpu, features = config.CPU_NAME, config.CPU_FEATURES
    if cpu is None:
        cpu = llvm.get_host_cpu_name()
        features = features if features is not None else llvm.get_host_cpu_features().flatten()
    return Target(cpu, features if features is not None else "")
