"""A few lines of CUDA C++ as a kernel, for the test bench's own tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import convbench.devices
from cuda_host.launch import HostKernel
from cuda_host.module import HostModule

_PTX = (Path(convbench.devices.__file__).parent / "ptx.cuh").read_text().replace("#pragma once", "")


def kernel(code: str, name: str = "f", racecheck: bool = False, shared_limit: int = 227 << 10) -> HostKernel:
    """The kernel `name` of a file kernel.cu that includes ptx.cuh."""
    source = f'#line 1 "ptx.cuh"\n{_PTX}\n#line 1 "kernel.cu"\n{code}\n'
    return HostModule(source, racecheck, shared_limit).get_function(name)


def run(code: str, *arguments: Any, block: int = 32, grid: int = 1, racecheck: bool = False, **launch: Any) -> None:
    """Launches `void f(...)`, whose parameters and body are `code`."""
    text = f'extern "C" __global__ void f{code}'
    kernel(text, racecheck=racecheck)((grid,), (block,), arguments, **launch)
