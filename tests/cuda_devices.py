"""Devices that CUDA plans can be made on without a GPU: arrays under CuPy's rules, kernels that are only recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from convbench.devices.base import Knob
from convbench.devices.cuda_source import cuda_source
from convbench.problem import Problem


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

    def parallel(self, work: Callable[[int, int], None], items: int) -> None:
        for i in range(items):
            work(i, 0)

    def matmul(self, a: Any, b: Any, out: Any) -> Any:
        """As Products: types alike, sums in float32 or wider, nothing copied on the way."""
        from convbench.devices.cublas import layout, step

        assert a.dtype == b.dtype
        assert layout(out)[0] == 0
        count = out.shape[0] if out.ndim == 3 else 1
        for operand in (a, b):
            layout(operand)
            step(operand, count)
        wide = np.result_type(a.dtype, np.float32)
        product = np.matmul(a.astype(wide), b.astype(wide))
        assert out.shape == product.shape
        out[...] = product
        return out

    def rfft2(self, array: Any, size: tuple[int, int]) -> Any:
        from scipy import fft

        return fft.rfft2(array, size)

    def irfft2(self, array: Any, size: tuple[int, int]) -> Any:
        from scipy import fft

        return fft.irfft2(array, size)


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
