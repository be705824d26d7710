"""From a CUDA algorithm to its row: whole sweeps on a GPU that is a scripted clock and kernels run on the CPU."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from cuda_host.device import HostDevice
from fakes import swept

from convbench.algorithms import built_in
from convbench.algorithms.base import Algorithm
from convbench.devices.base import Call, Sample
from convbench.results import LIBRARY

pytestmark = pytest.mark.usefixtures("host_compiler")
LAUNCH_S = 1 / 1024
OURS = [algorithm for algorithm in built_in() if "cuda" in algorithm.on and algorithm.family != LIBRARY]
CASES = [(algorithm, precision) for algorithm in OURS for precision in algorithm.precisions_on("cuda")]
CONVOLUTION, CONNECTED = "n2c4h7w6k6r3s3p1g2", "n3c4h3w2k8r3s2"


class ScriptedGpu(HostDevice):
    """A GPU whose launches take LAUNCH_S each on a clock of its own, and whose products take as long."""

    hardware = "a GPU that is not there"

    def __init__(self) -> None:
        super().__init__()
        self.products = 0

    def matmul(self, a: Any, b: Any, out: Any, tf32: bool = False) -> Any:
        self.products += 1
        return super().matmul(a, b, out, tf32)

    def now(self) -> float:
        return (self.launches + self.products) * LAUNCH_S

    def time(self, calls: list[Call], loops: int) -> Sample:
        begin = self.now()
        calls[0]()
        return Sample(max(self.now() - begin, LAUNCH_S), False, 1e-5, 1980.0)

    def time_hot(self, call: Call) -> float | None:
        return LAUNCH_S / 2

    def joules(self, call: Call) -> float | None:
        return 0.25

    def peak(self, call: Call) -> int:
        call()
        return 4096

    def warnings(self) -> Iterable[str]:
        return ()


@pytest.mark.parametrize(("algorithm", "precision"), CASES, ids=[f"{a.name}-{p}" for a, p in CASES])
def test_each_algorithm_ends_in_a_row(algorithm: Algorithm, precision: str) -> None:
    shape = CONNECTED if algorithm.name.startswith("gemm.gemv") else CONVOLUTION
    device: Any = ScriptedGpu()
    (row,) = swept(device, algorithm, shape=shape, precision=precision, budget=LAUNCH_S, cache="cold", phases=True)
    assert (row.status, row.device, row.precision) == ("ok", "cuda", precision), row.note
    assert row.error is not None
    assert row.error <= algorithm.tolerance.get(precision, {"float32": 1e-5, "float64": 1e-12}.get(precision, 1e-3))
    assert row.time_ms
    assert (row.time_hot_ms, row.joule, row.sm_mhz) == (LAUNCH_S / 2 * 1e3, 0.25, 1980.0)
    assert row.peak_bytes == 4096
    assert "phases not measured" not in row.note


def test_steps_have_phases_that_add_up_to_the_call() -> None:
    found = {a.name: a for a in OURS}
    for name, phases in (
        ("winograd.f4", {"input transform", "product", "output transform"}),
        ("winograd.f4.split3", {"largest", "input transform", "product", "output transform"}),
        ("fft.tiled", {"forward transform", "product", "inverse transform"}),
        ("fft.split3", {"largest", "forward transform", "product", "inverse transform"}),
    ):
        device: Any = ScriptedGpu()
        (row,) = swept(device, found[name], shape=CONVOLUTION, budget=LAUNCH_S, cache="cold", phases=True)
        spent = dict(part.split("=") for part in row.phases.split(";"))
        assert set(spent) == phases, row.phases
        assert sum(map(float, spent.values())) == pytest.approx(row.time_ms, rel=1e-3)
