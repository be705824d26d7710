"""What the GPU's management library tells beside the times: clock, energy, why it runs slower, who else runs on it.

Only where nvidia-ml-py is installed and the GPU supports the question; else the answers are None or empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

# Bits of nvmlDeviceGetCurrentClocksEventReasons, as nvml.h numbers them.
SLOWDOWNS = {
    0x04: "its power limit",
    0x08: "a hardware slowdown",
    0x20: "its temperature (software limit)",
    0x40: "its temperature (hardware limit)",
    0x80: "the power supply",
}


class Nvml:
    """The management library's view of one GPU, found by its PCI bus id."""

    def __init__(self, library: Any, pci_bus_id: str) -> None:
        self._library = library
        self._gpu: Any = None
        if library is not None:
            self._gpu = self._ask(lambda: library.nvmlInit() or library.nvmlDeviceGetHandleByPciBusId(pci_bus_id))

    def _ask(self, question: Callable[[], Any]) -> Any:
        """The answer, or None where the library or the GPU has none."""
        try:
            return question()
        except self._library.NVMLError:
            return None

    def sm_mhz(self) -> float | None:
        """The multiprocessors' clock now."""
        if self._gpu is None:
            return None
        mhz = self._ask(lambda: self._library.nvmlDeviceGetClockInfo(self._gpu, self._library.NVML_CLOCK_SM))
        return None if mhz is None else float(mhz)

    def slowed(self) -> bool:
        """Whether the clocks are held down now, so that a time just taken is too long."""
        return bool(self._reasons() & sum(SLOWDOWNS))

    def _reasons(self) -> int:
        if self._gpu is None:
            return 0
        return self._ask(lambda: self._library.nvmlDeviceGetCurrentClocksThrottleReasons(self._gpu)) or 0

    def energy_j(self) -> float | None:
        """Joules the GPU has used since its driver was loaded; only differences mean something."""
        if self._gpu is None:
            return None
        millijoules = self._ask(lambda: self._library.nvmlDeviceGetTotalEnergyConsumption(self._gpu))
        return None if millijoules is None else millijoules / 1000

    def driver(self) -> str:
        """The driver's version, or ""."""
        return "" if self._gpu is None else self._ask(self._library.nvmlSystemGetDriverVersion) or ""

    def warnings(self) -> Iterator[str]:
        """What makes times on this GPU doubtful now."""
        if self._gpu is None:
            return
        reasons = self._reasons()
        for bit, what in SLOWDOWNS.items():
            if reasons & bit:
                yield f"the GPU is slowed down by {what}: times are too long; let it cool, or lock its clocks lower"
        # In a container process ids differ from ours, so only their number can be judged; one of them is this process.
        running = self._ask(lambda: self._library.nvmlDeviceGetComputeRunningProcesses(self._gpu)) or []
        if len(running) > 1:
            yield f"{len(running)} processes compute on the GPU: stop the others for times that can be compared"


def open_nvml(pci_bus_id: str) -> Nvml:
    """The GPU with this PCI bus id."""
    try:
        return Nvml(import_module("pynvml"), pci_bus_id)
    except ImportError:
        return Nvml(None, pci_bus_id)
