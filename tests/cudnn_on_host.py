"""A cuDNN that convolves on the host (fake_cudnn.c), its account, and what is right of the algorithms that run on it.

CUDNN_INCLUDE, folders with NVIDIA's cudnn.h and what it includes, compiles the fake against that header: then the
header judges every signature and number that convbench uses.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda_devices import ArrayDevice, CupyRules
from fakes import TICK, FakeDevice

from convbench.algorithms import built_in
from convbench.algorithms.base import Unsupported
from convbench.algorithms.library import cudnn
from convbench.devices.base import Call, Sample
from convbench.problem import Problem
from convbench.reference import judge, truth
from convbench.shapes import ConvShape

STREAM = 0x77
CUDNN = {a.name.rpartition(".")[2]: a for a in built_in() if a.name.startswith("library.cudnn.")}
PLAIN, FIVE, ODD = "n2c4h9w8k6r3s3p1g2", "n1c3h9w9k4r5s5p2", "n3c4h7w9k6r3s2u2x1p1x0d1x2g2"
OLD, WITHOUT_FORWARD = "OLD", "WITHOUT_FORWARD"


class OnAStream(CupyRules):
    """NumPy with the one thing of CuPy's that has no like in it: the current stream."""

    cuda = SimpleNamespace(get_current_stream=lambda: SimpleNamespace(ptr=STREAM))


class StreamDevice(ArrayDevice):
    """Keeps what it gave out, as a workspace is known by it."""

    def __init__(self) -> None:
        super().__init__()
        self.xp = OnAStream()
        self.given: list[Any] = []

    def empty(self, shape: tuple[int, ...], precision: str) -> Any:
        self.given.append(np.zeros(shape, precision))
        return self.given[-1]


@dataclass
class GpuOnHost(FakeDevice):
    """A whole device for sweeps."""

    kind: str = "cuda"
    caches: tuple[str, ...] = ("cold",)
    xp: Any = field(default_factory=OnAStream)

    def time(self, calls: list[Call], loops: int) -> Sample:
        self.clock += TICK * loops
        return Sample(super().time(calls, loops).seconds + TICK)


@cache
def compiled(folder: Path, *options: str) -> Path:
    """The fake as a library of its own."""
    headers = [f"-I{path}" for path in os.environ.get("CUDNN_INCLUDE", "").split(os.pathsep) if path]
    defined = [f"-D{name}" for name in (*options, *(["WITH_HEADER"] if headers else []))]
    path = folder / f"libcudnn{''.join(options)}.so"
    source = Path(__file__).with_name("fake_cudnn.c")
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-deprecated-declarations"]
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", *warnings, *headers, *defined, str(source), "-o", str(path)], check=True
    )
    return path


class Fake:
    """The account that the library keeps; leaving it checks that nothing was misused, lost or destroyed twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.library = ctypes.CDLL(str(path))

    def number(self, name: str) -> int:
        return ctypes.c_int.in_dll(self.library, f"fake_{name}").value

    def pointer(self, name: str) -> int:
        return ctypes.c_void_p.in_dll(self.library, f"fake_{name}").value or 0

    def fail(self, function: str, status: int) -> None:
        (ctypes.c_char * 64).in_dll(self.library, "fake_failing").value = function.encode()
        ctypes.c_int.in_dll(self.library, "fake_status").value = status

    def reset(self) -> None:
        for name in ("made", "destroyed", "misused", "forwards", "status"):
            ctypes.c_int.in_dll(self.library, f"fake_{name}").value = 0

    @property
    def live(self) -> int:
        return self.number("made") - self.number("destroyed")


def expected(variant: str, s: ConvShape, precision: str) -> bool:
    """Whether an algorithm takes a convolution, as cuDNN's documentation has it."""
    if variant in ("implicit_gemm", "implicit_precomp_gemm", "gemm"):
        return True
    if (s.stride, s.dilation) != ((1, 1), (1, 1)):
        return False
    if variant.startswith("fft"):
        return s.r > s.pad[0] and s.s > s.pad[1]
    filters = [(3, 3)] if variant == "winograd" else [(3, 3), (5, 5)]
    return (s.r, s.s) in filters and precision != "float64"


def check(variant: str, s: ConvShape, precision: str, fake: Fake) -> None:
    """The right answer by the algorithm of this name on CuPy's stream, or a refusal in cuDNN's words."""
    problem, device = Problem(s, precision), StreamDevice()
    plan_of = CUDNN[variant].on["cuda"]
    if not expected(variant, s, precision):
        with pytest.raises(Unsupported, match=r"^cuDNN: CUDNN_STATUS_NOT_SUPPORTED \(3000\) in .*does not take this$"):
            plan_of(problem, device)  # type: ignore[arg-type]
        return
    plan = plan_of(problem, device)  # type: ignore[arg-type]
    x, w = problem.operands(3)
    y = np.full(s.y_shape, np.nan, problem.storage)
    plan.run(x, plan.prepare(w), y)
    assert judge(y, truth(x, w, s)).error < problem.number.tolerance
    number = cudnn.VARIANTS[variant][0]
    assert (fake.number("algorithm"), fake.pointer("stream")) == (number, STREAM)
    (workspace,) = device.given
    assert plan.workspace == 1000 * number == fake.pointer("workspace_bytes")
    assert (fake.pointer("workspace"), workspace.dtype) == (workspace.ctypes.data, np.uint8)
    assert workspace.size == max(plan.workspace, 1)
    assert (workspace == 0x5A).all() or not plan.workspace
