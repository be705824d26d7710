"""Rows of our algorithms and of the libraries', for tests: two layers on a CPU, and layers in sequence."""

from __future__ import annotations

from typing import Any

from fakes import row

from convbench.report.series import Series, gather
from convbench.results import Row
from convbench.results.stack import StackRow

CONV, FC = "n1c4h8w8k4r3s3p1", "n1c64h1w1k8r1s1"


def case(algo: str, ms: float, layer: str = "conv1", **changes: Any) -> Row:
    """A row of a layer's own shape."""
    values = {"time_ms": ms, "time_lo_ms": 0.99 * ms, "time_hi_ms": 1.01 * ms, "algo": algo, "layer": layer}
    values |= {"shape": FC if layer.startswith("fc") else CONV, "note": "", "commit": "abc1234"}
    return row(**(values | {"when": "2026-01-01T00:00:00Z"} | changes))


ROWS = [
    case("gemm.im2col", 4.0, error=3e-7), case("winograd.f4", 1.0, error=2e-6), case("fft.tiled", 2.0, error=4e-7),
    case("library.torch.nchw", 3.0), case("library.torch.mkldnn", 2.0),
    case("library.torch.prepacked", 0.1, status="wrong"),
    case("gemm.im2col", 2.0, "fc6"), case("library.torch.nchw", 1.0, "fc6"),
]  # fmt: skip


def series(rows: list[Row] = ROWS) -> Series:
    (one,) = gather({"x.csv": rows})
    return one


def stack_row(**changes: Any) -> StackRow:
    """Ours at batch 1."""
    values: dict[str, Any] = {
        "when": "w", "batch": 1, "plan": "ours", "algorithms": "conv1=winograd.f4;conv2=fft.tiled", "bound": 1e-5,
        "error": 2e-6, "samples": 31, "disturbed": 0, "time_ms": 5.0, "time_lo_ms": 4.9, "time_hi_ms": 5.1,
        "rival": "library.torch.nchw", "versus": 1.5, "versus_lo": 1.46, "versus_hi": 1.54, "seed": 1, "threads": 2,
        "hardware": "a CPU", "convbench": "0", "commit": "abc",
    }  # fmt: skip
    return StackRow(**(values | changes))
