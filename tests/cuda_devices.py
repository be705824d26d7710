"""Devices that CUDA plans can be made on without a GPU: arrays under CuPy's rules, kernels that are only recorded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from convbench.algorithms.gemm.channels_last import rounded_to_tf32
from convbench.devices import cufft
from convbench.devices.base import Grid, Knob
from convbench.devices.cuda_source import cuda_source
from convbench.problem import Problem

# For host-side code of every CUDA plan: stride, dilation, pads beyond the filter, groups, rectangles, one output.
ODD = (
    "n2c3h7w9k5r3s2",
    "n3c4h7w9k6r3s2u2x1p1x0d1x2g2",
    "n1c3h23w19k4r11s11u4",
    "n2c4h6w6k8r3s3p1g4",
    "n1c2h3w3k3r5s5p4",
    "n2c5h1w30k3r1s7p0x3",
    "n3c6h4w4k9r4s4g3",
)


class CupyRules:
    """NumPy, but matmul(out=...) as narrow as CuPy's: exactly that shape and type."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def matmul(self, a: Any, b: Any, out: Any) -> Any:
        product = np.matmul(a, b)
        assert out.shape == product.shape
        assert out.dtype == product.dtype
        out[...] = product
        return out


def as_tf32(values: Any) -> Any:
    """float32 as tensor cores read it; what is not a number stays none."""
    return np.where(np.isnan(values), values, rounded_to_tf32(np, values))


class FakeCufft:
    """cupy.cuda.cufft as far as devices/cufft.py knows it: types and directions by cuFFT's numbers."""

    CUFFT_R2C, CUFFT_C2R, CUFFT_C2C, CUFFT_D2Z, CUFFT_Z2D, CUFFT_Z2Z = 0x2A, 0x2C, 0x29, 0x6A, 0x6C, 0x69
    CUFFT_FORWARD, CUFFT_INVERSE = -1, 1
    made: ClassVar[list[Any]] = []

    class PlanNd:
        """Reads and writes as many numbers as a plan of these figures would, from where the arrays begin."""

        def __init__(
            self, points: Any, source: Any, istride: int, idist: int, target: Any, ostride: int, odist: int,
            kind: int, batch: int, order: str, last_axis: int, last_size: int,
        ) -> None:  # fmt: skip
            assert (istride, ostride, order) == (1, 1, "C")
            assert (idist, odist) == (np.prod(source), np.prod(target)), "one image after another"
            assert 1 <= len(points) <= 2
            self.points, self.source, self.target = tuple(points), tuple(source), tuple(target)
            self.kind, self.batch = kind, batch
            self.work_area = SimpleNamespace(mem=SimpleNamespace(size=512 * batch))
            FakeCufft.made.append(self)

        def fft(self, a: Any, out: Any, direction: int) -> None:
            assert a.flags.c_contiguous
            assert out.flags.c_contiguous
            x, y = (
                array.reshape(-1)[: self.batch * math.prod(shape)].reshape(self.batch, *shape)
                for array, shape in ((a, self.source), (out, self.target))
            )
            dims = tuple(range(1, len(self.points) + 1))
            wide = np.complex64 if self.kind < 0x60 else np.complex128
            if self.kind in (FakeCufft.CUFFT_R2C, FakeCufft.CUFFT_D2Z):
                assert (x.shape[1:], y.dtype, direction) == (self.points, wide, FakeCufft.CUFFT_FORWARD)
                y[...] = np.fft.rfftn(x, axes=dims)
            elif self.kind in (FakeCufft.CUFFT_C2R, FakeCufft.CUFFT_Z2D):
                assert (y.shape[1:], x.dtype, direction) == (self.points, wide, FakeCufft.CUFFT_INVERSE)
                y[...] = np.fft.irfftn(x, self.points, axes=dims, norm="forward")
                x[...] = np.nan  # cuFFT may overwrite it
            else:
                assert (x.shape, x.dtype, y.dtype) == (y.shape, wide, wide)
                y[...] = np.fft.fftn(x, axes=dims) if direction < 0 else np.fft.ifftn(x, axes=dims, norm="forward")


class ArrayDevice:
    """A GPU as far as arrays go; `empty` gives NaN."""

    kind, threads, core_cache_bytes = "cuda", 1, 0
    caches = ("cold",)

    def __init__(self, cache_bytes: int = 50 << 20, capability: int = 90) -> None:
        self.xp: Any = CupyRules()
        self.cache_bytes, self.capability = cache_bytes, capability

    def empty(self, shape: tuple[int, ...], precision: str) -> Any:
        return np.full(shape, np.nan, precision)

    def put(self, array: Any) -> Any:
        return np.array(array)

    def get(self, array: Any) -> Any:
        return np.array(array)

    def launch(
        self, kernel: Any, grid: Grid, block: Grid, arguments: Any, shared_mem: int = 0, *, follows: bool = False,
        evenly: bool = False,
    ) -> None:  # fmt: skip
        kernel(grid, block, arguments, shared_mem=shared_mem)

    def parallel(self, work: Callable[[int, int], None], items: int) -> None:
        for i in range(items):
            work(i, 0)

    def matmul(self, a: Any, b: Any, out: Any, tf32: bool = False) -> Any:
        """As Products: types alike, sums in float32 or wider, nothing copied on the way; tf32 keeps 10 bits."""
        from convbench.devices.cublas import layout, step

        assert not tf32 or a.dtype == out.dtype == np.float32
        assert a.dtype == b.dtype
        assert layout(out)[0] == 0
        count = out.shape[0] if out.ndim == 3 else 1
        for operand in (a, b):
            layout(operand)
            step(operand, count)
        wide = np.result_type(a.dtype, np.float32)
        a, b = (as_tf32(v) if tf32 else v.astype(wide) for v in (a, b))
        product = np.matmul(a, b)
        assert out.shape == product.shape
        out[...] = product
        return out

    def rfft2(self, counts: Any, window: tuple[int, int], size: tuple[int, int], precision: str) -> Any:
        """The plumbing of cuFFT, and NumPy's transforms."""
        return cufft.rfft2(np, FakeCufft, counts, window, size, precision)

    def irfft2(self, counts: Any, size: tuple[int, int], precision: str) -> Any:
        return cufft.irfft2(np, FakeCufft, counts, size, precision)


@dataclass
class RecordedKernel:
    """Takes what a plan sets on a kernel; a launch is an error."""

    name: str
    max_dynamic_shared_size_bytes: int = 0


@dataclass
class RecordedModule:
    """A source, and the kernels that were asked of it."""

    file: str
    source: str
    own_instructions: bool = False
    kernels: dict[str, RecordedKernel] = field(default_factory=dict)

    def get_function(self, name: str) -> RecordedKernel:
        return self.kernels.setdefault(name, RecordedKernel(name))


class Recorder(ArrayDevice):
    """Plans are made on it for the sake of what they load; its arrays take no memory until they are written."""

    def __init__(self, capability: int = 90, cache_bytes: int = 50 << 20) -> None:
        super().__init__(cache_bytes, capability)
        self.modules: list[RecordedModule] = []

    def empty(self, shape: tuple[int, ...], precision: str) -> Any:
        return np.empty(shape, precision)

    def load(self, source: Path, problem: Problem, **knobs: Knob) -> Any:
        self.modules.append(RecordedModule(source.name, cuda_source(source, problem, **knobs)))
        return self.modules[-1]

    def load_own(self, source: Path, problem: Problem, **knobs: Knob) -> Any:
        self.load(source, problem, **knobs).own_instructions = True
        return self.modules[-1]
