"""A device with a scripted clock, algorithms that advance it, and the helpers that several test files share."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from convbench.algorithms.base import Algorithm, Plan
from convbench.devices.base import Call, Knob, NoDevice, Sample, Transform
from convbench.layers import Layer
from convbench.measure.case import Case, Operands, open_case, operands
from convbench.measure.rules import Budget
from convbench.problem import COMPLEX, Problem
from convbench.results import COLUMNS, Row
from convbench.shapes import ConvShape, ShapeError, parse_shape
from convbench.sweep import Ceilings, Request, Site, measure_layer

settings.register_profile("repeatable", deadline=None, derandomize=True)  # a red run is red again
settings.load_profile("repeatable")

TICK = 1 / 64  # seconds; sums of it are exact in binary
ONE = "n1c1h1w1k1r1s1"  # one multiplication
TINY = "n1c2h5w6k2r3s3p1"  # quick to run


@dataclass
class FakeDevice:
    """A CPU whose clock moves only when a scripted algorithm says so."""

    kind: str = "cpu"
    hardware: str = "scripted clock"
    threads: int = 1
    xp: Any = np
    caches: tuple[str, ...] = ("hot", "cold")
    last_level_bytes: int = 1 << 20
    cache_bytes: int = 1 << 20
    core_cache_bytes: int = 1 << 18
    capability: int = 0
    clock: float = 0.0
    log: list[tuple[str, float]] = field(default_factory=list)  # (algorithm, seconds it took) of each call

    def now(self) -> float:
        return self.clock

    def time(self, calls: list[Call], loops: int) -> Sample:
        begin = self.clock
        for i in range(loops):
            calls[i % len(calls)]()
        return Sample((self.clock - begin) / loops)

    def time_hot(self, call: Call) -> float | None:
        return None

    def joules(self, call: Call) -> float | None:
        return None

    def flops_peak(self, precision: str) -> float:
        return 1e9

    def multiply_add_peak(self, precision: str) -> float | None:
        return None

    def bandwidth_peak(self) -> float:
        return 1e9

    def empty(self, shape: tuple[int, ...], precision: str) -> Any:
        return np.empty(shape, precision)

    def put(self, array: Any) -> Any:
        return np.array(array)

    def get(self, array: Any) -> Any:
        return array

    def peak(self, call: Call) -> int:
        call()
        return 0

    def parallel(self, work: Callable[[int, int], None], items: int) -> None:
        for i in range(items):
            work(i, 0)

    def matmul(self, a: Any, b: Any, out: Any, tf32: bool = False) -> Any:
        return np.matmul(a, b, out=out)

    def rfft2(self, counts: Any, window: tuple[int, int], size: tuple[int, int], precision: str) -> Any:
        images = np.empty((max(counts), *window), precision)
        return Transform(lambda count: images[:count], lambda count: np.fft.rfft2(images[:count], size), images.nbytes)

    def irfft2(self, counts: Any, size: tuple[int, int], precision: str) -> Any:
        spectra = np.empty((max(counts), size[0], size[1] // 2 + 1), COMPLEX[precision])
        return Transform(
            lambda count: spectra[:count], lambda count: np.fft.irfft2(spectra[:count], size), spectra.nbytes
        )

    def load(self, source: Path, problem: Problem, **knobs: Knob) -> Any:
        raise NoDevice("a scripted clock compiles nothing")

    load_own = load

    def launch(self, *_: Any, **__: Any) -> None:
        raise NoDevice("a scripted clock launches nothing")

    def warnings(self) -> Iterable[str]:
        return ()


Script = Callable[[int], float]  # seconds of the i-th call


def scripted(device: FakeDevice, name: str, seconds: float | Script, fails_at: int | None = None) -> Algorithm:
    """A right answer to the problem ONE that takes `seconds` of the scripted clock; one of its calls may raise."""
    script: Script = seconds if callable(seconds) else lambda i: seconds
    calls = 0

    def plan(problem: Problem, _: Any) -> Plan:
        def run(x: Any, w: Any, y: Any) -> None:
            nonlocal calls
            if calls == fails_at:
                raise ArithmeticError(f"call {calls} was scripted to fail")
            taken = script(calls)
            device.clock += taken
            calls += 1
            device.log.append((name, taken))
            np.multiply(x, w, out=y)

        return Plan(run)

    return Algorithm(name, on={"cpu": plan})


def opened(device: FakeDevice, *algorithms: Algorithm) -> tuple[list[Case], Operands]:
    """The algorithms as cases of the problem ONE, opened and alive, and the log empty."""
    data = operands(Problem(parse_shape(ONE)), device, 0)
    cases = [open_case(algorithm, data, device, "hot", weigh=False) for algorithm in algorithms]
    assert all(case.alive for case in cases), [case.note for case in cases]
    device.log.clear()
    return cases, data


def pairs(low: int, high: int, usual: int) -> st.SearchStrategy[tuple[int, int]]:
    one = st.one_of(st.just(usual), st.integers(low, high))
    return st.tuples(one, one)


@st.composite
def shapes(draw: st.DrawFn, most: int = 14, channels: int = 5) -> ConvShape:
    """Odd convolutions: strides, pads larger than the filter, dilation, groups, rectangles, one-pixel outputs."""
    groups = draw(st.integers(1, 3))
    r, s = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    stride, pad, dilation = draw(pairs(1, 4, 1)), draw(pairs(0, 8, 0)), draw(pairs(1, 3, 1))
    if draw(st.integers(0, 4)) == 0:
        h, w, pad = dilation[0] * (r - 1) + 1, dilation[1] * (s - 1) + 1, (0, 0)
    else:
        least_h, least_w = dilation[0] * (r - 1) + 1 - 2 * pad[0], dilation[1] * (s - 1) + 1 - 2 * pad[1]
        h = draw(st.integers(max(1, least_h), max(1, least_h) + most))
        w = draw(st.integers(max(1, least_w), max(1, least_w) + most))
    return ConvShape(
        draw(st.integers(1, 3)), groups * draw(st.integers(1, channels)), h, w,
        groups * draw(st.integers(1, channels)), r, s, stride, pad, dilation, groups,
    )  # fmt: skip


def second_judge(x: Any, w: Any, shape: ConvShape) -> Any:
    """y in float64 through scipy.signal: correlate at full rate, take every u-th; no code of convbench's."""
    from scipy.signal import correlate2d

    n_count, k_count = shape.n, shape.k
    (uh, uw), (ph, pw), (dh, dw) = shape.stride, shape.pad, shape.dilation
    padded = np.zeros((shape.n, shape.c, shape.h + 2 * ph, shape.w + 2 * pw))
    padded[:, :, ph : ph + shape.h, pw : pw + shape.w] = x
    spread = np.zeros((*w.shape[:2], dh * (shape.r - 1) + 1, dw * (shape.s - 1) + 1))
    spread[:, :, ::dh, ::dw] = w
    y = np.zeros(shape.y_shape)
    per_group, inputs = shape.k // shape.groups, shape.c // shape.groups
    for n in range(n_count):
        for k in range(k_count):
            for c in range(inputs):
                image = padded[n, k // per_group * inputs + c]
                y[n, k] += correlate2d(image, spread[k, c], "valid")[::uh, ::uw]
    return y


def is_a_shape(*sizes: Any) -> bool:
    """Whether ConvShape takes these."""
    try:
        ConvShape(*sizes)
    except ShapeError:
        return False
    return True


def row(**changes: Any) -> Row:
    """A results row that is ok, with some columns changed."""
    values: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    optional = [name for name in COLUMNS if "None" in str(Row.__annotations__[name])]
    values |= dict.fromkeys(optional)
    values |= {
        "batch": 1,
        "threads": 1,
        "seed": 0,
        "layer": "conv1",
        "shape": ONE,
        "algo": "gemm.im2col",
        "net": "alexnet",
    }
    values |= {"device": "cpu", "precision": "float32", "cache": "hot", "direction": "forward", "status": "ok"}
    values |= {"time_ms": 1.5, "time_lo_ms": 1.4, "time_hi_ms": 1.6, "samples": 15, "converged": True, "gflops": 2.0}
    values |= {"error": 1e-7, "error_max": 1e-6, "run": "r1", "hardware": "a CPU", "workspace_bytes": 64}
    return Row(**(values | changes))


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


SMALL_CEILINGS = str(Path(__file__).parent / "small_ceilings")  # for PYTHONPATH, of processes that measure


def convbench(*words: str) -> Outcome:
    """The command line in this process, through main(), with ceilings, warm-up and caches made small."""
    from convbench import cli
    from convbench.devices import cpu
    from convbench.measure import rules

    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.ExitStack() as stack:
        for owner, name, value in (
            (cpu, "PEAK_SIZE", 64), (cpu, "PEAK_SECONDS", 0.0), (cpu, "last_level_cache", lambda: 1 << 20),
            (rules, "WARM_SECONDS", 0.0), (rules, "SAMPLE_SECONDS", 1e-4), (sys, "argv", ["convbench", *words]),
        ):  # fmt: skip
            stack.enter_context(mock.patch.object(owner, name, value))
        stack.enter_context(mock.patch.dict(os.environ, {"PYTHONPATH": SMALL_CEILINGS}))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Outcome(code, out.getvalue(), err.getvalue())


QUICKLY = (
    f"import os, sys; os.environ['PYTHONPATH'] = {SMALL_CEILINGS!r}; sys.path.insert(0, {SMALL_CEILINGS!r})\n"
    "import small_ceilings; from convbench.cli import main; main()"
)
QUICK_COMMAND = (sys.executable, "-c", QUICKLY)  # the command line in a process of its own, with small ceilings


class Silent:
    """A listener that shows nothing."""

    def opening(self, layer: Layer, algorithm: Algorithm) -> None: ...

    def timing(self, layer: Layer, algorithm: Algorithm) -> None: ...

    def row(self, row: Row) -> None: ...


FACTS = dict.fromkeys(("os", "python", "numpy", "blas", "cupy", "cuda", "driver", "convbench", "commit"), "")


def swept(device: FakeDevice, *algorithms: Algorithm, shape: str = ONE, precision: str = "float32", budget: float = 1.0,
          cache: str = "hot", phases: bool = False) -> list[Row]:  # fmt: skip
    """The rows that a sweep of one shape makes."""
    problem = parse_shape(shape)
    layer = Layer(shape, problem)
    request = Request("shape", [layer], algorithms, 0, precision, cache, Budget(budget), 1, "test", phases)
    facts: dict[str, Any] = {**FACTS, "device": device.kind, "hardware": device.hardware, "threads": device.threads}
    site = Site(facts, Ceilings(1e9, 2e9, 3e9))
    return [made for made, _ in measure_layer(request, layer, algorithms, device, site, Silent())]
