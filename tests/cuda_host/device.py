"""HostDevice: whole CUDA plans on the CPU; array code by NumPy, kernels by HostModule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cuda_devices import ArrayDevice

from convbench.devices.base import Grid, Knob
from convbench.devices.cuda_source import cuda_source
from convbench.problem import Problem
from cuda_host.launch import CPU_SECONDS, HostKernel
from cuda_host.module import HostModule

# Bytes of shared memory a block may have (CUDA C++ Programming Guide, technical specifications).
SHARED_MEMORY = {75: 64 << 10, 80: 163 << 10, 89: 99 << 10, 90: 227 << 10, 100: 227 << 10}
_modules: dict[tuple[str, bool, int], HostModule] = {}
launches = 0  # of this process


class HostDevice(ArrayDevice):
    """A GPU whose kernels run here: in the order of `seed`, arrays against a guard page at their `guard`."""

    def __init__(
        self,
        capability: int = 90,
        cache_bytes: int = 50 << 20,
        seed: int = 0,
        guard: str = "end",
        racecheck: bool = False,
        edit: Callable[[str], str] | None = None,
        cpu_seconds: float = CPU_SECONDS,
    ) -> None:
        super().__init__(cache_bytes, capability)
        self.seed, self.guard, self.racecheck = seed, guard, racecheck
        self.edit = edit or (lambda source: source)  # of every source before it is compiled
        self.cpu_seconds = cpu_seconds  # that a launch may take
        self.launches = 0
        self.written: list[Any] = []  # by what was queued last

    def empty(self, shape: tuple[int, ...], precision: str) -> Any:
        """All bits set: NaN, or -1."""
        array = np.empty(shape, precision)
        array.reshape(-1).view(np.uint8)[...] = 0xFF
        return array

    def load(self, source: Path, problem: Problem, **knobs: Knob) -> Any:
        key = self.edit(cuda_source(source, problem, **knobs)), self.racecheck, SHARED_MEMORY[self.capability]
        if key not in _modules:
            _modules[key] = HostModule(*key)
        return LoadedModule(self, _modules[key])

    def load_own(self, source: Path, problem: Problem, **knobs: Knob) -> Any:
        return self.load(source, problem, **knobs)

    def matmul(self, a: Any, b: Any, out: Any, tf32: bool = False) -> Any:
        self.written = [out]
        return super().matmul(a, b, out, tf32)

    def launch(
        self, kernel: Any, grid: Grid, block: Grid, arguments: Any, shared_mem: int = 0, *, follows: bool = False,
        evenly: bool = False,
    ) -> None:  # fmt: skip
        kernel(grid, block, arguments, shared_mem, follows=self.written if follows else None)


class LoadedModule:
    """A module whose kernels are launched as their device says."""

    def __init__(self, device: HostDevice, module: HostModule) -> None:
        self.device, self.module = device, module

    def get_function(self, name: str) -> DeviceKernel:
        return DeviceKernel(self.device, self.module, name)


class DeviceKernel(HostKernel):
    def __init__(self, device: HostDevice, module: HostModule, name: str) -> None:
        super().__init__(module, name)
        self.device = device

    def __call__(
        self, grid: Any, block: Any, arguments: Any, shared_mem: int = 0, *, follows: Any = None, **ignored: Any
    ) -> None:
        global launches
        launches += 1
        device = self.device
        device.launches += 1
        super().__call__(
            grid, block, arguments, shared_mem, seed=device.seed, guard=device.guard, cpu_seconds=device.cpu_seconds,
            follows=follows,
        )  # fmt: skip
        device.written = [
            argument
            for parameter, argument in zip(self.parameters, arguments, strict=True)
            if parameter.pointer and not parameter.constant
        ]
