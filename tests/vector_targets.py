"""CPUs to write vector kernels for, and calls of kernels on every kind of register that this one has."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from convbench.vector.build import address_of
from convbench.vector.target import Target, host

IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
AVX2 = "+avx,+avx2,+fma,+f16c,+bmi,+bmi2"
AVX512 = AVX2 + ",+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"
TARGETS = {
    "nehalem": Target("nehalem", ""),
    "haswell": Target("haswell", AVX2),
    "znver3": Target("znver3", AVX2),
    "skylake-avx512": Target("skylake-avx512", AVX512),
    "znver4": Target("znver4", AVX512),
    "znver5": Target("znver5", AVX512),
}


def here() -> dict[str, Target]:
    """The targets whose code this CPU can run, itself among them; one of each width."""
    features = set(host().features.split(","))
    others = {"nehalem": Target("nehalem", ""), "haswell": TARGETS["haswell"], "avx512": TARGETS["skylake-avx512"]}
    able = {name: t for name, t in others.items() if IS_X86 and set(filter(None, t.features.split(","))) <= features}
    return {"host": host(), **able}


RUNNABLE = here()
EVERYWHERE = pytest.mark.parametrize("target", RUNNABLE.values(), ids=list(RUNNABLE))


def run(target: Target, arguments: str, write: Callable[..., None], values: list[Any], *parameters: Any) -> None:
    """Compile a kernel and call it; arrays are passed by address."""
    address = address_of(arguments, write, *parameters, target=target)
    numbers = [value.ctypes.data if isinstance(value, np.ndarray) else value for value in values]
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(arguments))(address)(*numbers)


def floats(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)
