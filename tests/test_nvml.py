"""What the GPU's management library tells, and that its absence is borne."""

from __future__ import annotations

from convbench.devices.nvml import Nvml


class FakeNvml:
    """nvidia-ml-py on a GPU that is hot, shared, and does not count energy."""

    class NVMLError(Exception):
        pass

    NVML_CLOCK_SM = 1

    def nvmlInit(self) -> None: ...  # noqa: N802

    def nvmlDeviceGetHandleByPciBusId(self, bus: str) -> str:  # noqa: N802
        return bus

    def nvmlDeviceGetClockInfo(self, gpu: str, clock: int) -> int:  # noqa: N802
        return 1980

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: str) -> int:  # noqa: N802
        raise self.NVMLError

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "580.65"

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu: str) -> int:  # noqa: N802
        return 0x24

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: str) -> list[int]:  # noqa: N802
        return [1, 2]


def test_nvml_tells_clock_slowdowns_and_other_processes() -> None:
    nvml = Nvml(FakeNvml(), "0000:01:00.0")
    assert nvml.sm_mhz() == 1980
    assert nvml.energy_j() is None
    assert nvml.driver() == "580.65"
    words = " ".join(nvml.warnings())
    assert "power limit" in words
    assert "temperature" in words
    assert "2 processes" in words


def test_without_nvml_nothing_is_told() -> None:
    nvml = Nvml(None, "")
    assert (nvml.sm_mhz(), nvml.energy_j(), nvml.driver(), list(nvml.warnings())) == (None, None, "", [])
