"""Launching a kernel that may begin before the one queued last has ended: programmatic dependent launch, not in CuPy.

"CUDA C++ Programming Guide", Programmatic Dependent Launch and Synchronization; sm_90 or newer. The driver's
cuLaunchKernelEx by ctypes, with the one attribute that allows it; what such a kernel must do stands in ptx.cuh.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from convbench.devices.base import Grid

FOLLOWING = 90  # least compute capability
SERIALIZATION = 6  # CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION


class Attribute(ctypes.Structure):
    """CUlaunchAttribute, of whose values this one is an int."""

    _fields_ = (("name", ctypes.c_int), ("pad", ctypes.c_int), ("value", ctypes.c_int), ("rest", ctypes.c_int * 15))


class Configuration(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(Attribute)),
        ("count", ctypes.c_uint),
    )


def driver_launch() -> Callable[..., int]:
    """cuLaunchKernelEx(configuration, function, arguments, extra) of this machine's driver."""
    launch: Callable[..., int] = ctypes.CDLL("libcuda.so.1").cuLaunchKernelEx
    return launch


def slot(argument: Any) -> Any:
    """What the driver copies for a kernel's parameter: a CuPy array's address, or a NumPy number's bytes."""
    import numpy as np

    if isinstance(argument, np.generic):
        return (ctypes.c_char * argument.nbytes).from_buffer_copy(argument.tobytes())
    return ctypes.c_void_p(argument.data.ptr)


def least_shared(blocks: int, facts: Mapping[str, int]) -> int:
    """Bytes a block must take so that no multiprocessor holds more of them than an even deal gives it."""
    each = -(-blocks // facts["MultiProcessorCount"])
    reserved = facts["ReservedSharedMemoryPerBlock"]
    return max(0, facts["MaxSharedMemoryPerMultiprocessor"] // (each + 1) - reserved + 1)


def launch_following(
    launch: Callable[..., int],
    kernel: Any,
    grid: Grid,
    block: Grid,
    arguments: Sequence[Any],
    shared_bytes: int,
    stream: int,
) -> None:
    """Queues a CuPy RawKernel. Raises RuntimeError with the driver's number where it is refused."""
    allowed = Attribute(SERIALIZATION, 0, 1)
    sizes = [(ctypes.c_uint * 3)(*size, *[1] * (3 - len(size))) for size in (grid, block)]
    configuration = Configuration(*sizes, shared_bytes, stream, ctypes.pointer(allowed), 1)
    slots = [slot(argument) for argument in arguments]
    places = (ctypes.c_void_p * len(slots))(*map(ctypes.addressof, slots))
    function = ctypes.c_void_p(kernel.kernel.ptr)
    if error := launch(ctypes.byref(configuration), function, places, None):
        raise RuntimeError(f"cuLaunchKernelEx of {kernel.name}: the driver's error {error}")
