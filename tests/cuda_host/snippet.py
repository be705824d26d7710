"""A few lines of CUDA C++ as a kernel, for the test bench's own tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import convbench.devices
from cuda_host.launch import HostKernel
from cuda_host.module import HostModule

_FOLDER = Path(convbench.devices.__file__).parent
_HEADERS = "".join(
    f'#line 1 "{name}"\n' + re.sub(r"(?m)^#(pragma once|include .*)$", "", (_FOLDER / name).read_text())
    for name in ("ptx.cuh", "warpgroup.cuh")
)


def kernel(code: str, name: str = "f", racecheck: bool = False, shared_limit: int = 227 << 10) -> HostKernel:
    """The kernel `name` of a file kernel.cu that includes the wrappers of assembly."""
    source = f'{_HEADERS}\n#line 1 "kernel.cu"\n{code}\n'
    return HostModule(source, racecheck, shared_limit).get_function(name)


def run(code: str, *arguments: Any, block: int = 32, grid: int = 1, racecheck: bool = False, **launch: Any) -> None:
    """Launches `void f(...)`, whose parameters and body are `code`."""
    text = f'extern "C" __global__ void f{code}'
    kernel(text, racecheck=racecheck)((grid,), (block,), arguments, **launch)
