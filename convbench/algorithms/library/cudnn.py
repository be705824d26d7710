"""library.cudnn: cuDNN's forward algorithms by name, through its legacy functions: the baseline on the GPU.

x, w and y are taken as they lie, NCHW, and what an algorithm does to them (other layouts, transformed filters) it does
within the call. Which algorithm takes which convolution cuDNN says itself, with the size of its workspace.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from convbench.algorithms.base import Algorithm, Plan
from convbench.algorithms.library.cudnn_api import (
    DEFAULT_MATH,
    DOUBLE,
    FLOAT,
    FMA_MATH,
    HALF,
    MATHS,
    TENSOR_OP_MATH,
    Convolution,
    chosen,
)
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.units import size as text_of


@dataclass(frozen=True)
class Arithmetic:
    """The arrays' type, that of the sums, and whether tensor cores may take part: FMA_MATH forbids them."""

    data: int
    compute: int
    math: int


ARITHMETIC = {
    "float32": Arithmetic(FLOAT, FLOAT, FMA_MATH),
    "float64": Arithmetic(DOUBLE, DOUBLE, DEFAULT_MATH),
    "tf32": Arithmetic(FLOAT, FLOAT, DEFAULT_MATH),  # for float32 arrays this allows TF32, and nothing narrower
    "float16": Arithmetic(HALF, FLOAT, TENSOR_OP_MATH),
}


def address(array: Any) -> int:
    """Where an array's numbers lie: on the GPU for CuPy's, in memory for NumPy's."""
    data = array.data
    return int(data.ptr) if hasattr(data, "ptr") else int(array.ctypes.data)


def on_cuda(problem: Problem, device: Device, number: int) -> Plan:
    """cuDNN's algorithm of this number on CuPy's current stream. Raises Missing, Unsupported."""
    cudnn, arithmetic = chosen(), ARITHMETIC[problem.precision]
    stream = device.xp.cuda.get_current_stream().ptr
    convolution = Convolution(cudnn, problem.shape, stream, arithmetic.data, arithmetic.compute, arithmetic.math)
    size = convolution.workspace_bytes(number)
    workspace = device.empty((max(size, 1),), "uint8")

    def run(x: Any, w: Any, y: Any) -> None:
        convolution.forward(number, address(x), address(w), address(y), address(workspace), size)

    math = MATHS[arithmetic.math]
    note = f"algorithm {number} of cuDNN {cudnn.version}, {math}, NCHW, {text_of(size)} of workspace"
    return Plan(run, workspace=size, note=note)


# cudnnConvolutionFwdAlgo_t; 3, DIRECT, was never made.
VARIANTS = {
    "implicit_gemm": (0, "cuDNN's matrix product that reads x where it lies"),
    "implicit_precomp_gemm": (1, "the same with indices made before; the one that tensor cores are for"),
    "gemm": (2, "cuDNN's im2col, whole, then a matrix product"),
    "fft": (4, "cuDNN's FFT of whole images; stride 1"),
    "fft_tiling": (5, "cuDNN's FFT in tiles of 32 x 32; stride 1"),
    "winograd": (6, "cuDNN's Winograd in one kernel; 3 x 3 at stride 1, and not on Hopper or newer"),
    "winograd_nonfused": (7, "cuDNN's Winograd in transforms and products; 3 x 3 and 5 x 5 at stride 1"),
}
ALGORITHMS = [
    Algorithm(
        f"library.cudnn.{variant}",
        on={"cuda": partial(on_cuda, number=number)},
        summary=summary,
        precisions={"cuda": tuple(ARITHMETIC)},
        needs={"cuda": "cuDNN 8 or 9"},
    )
    for variant, (number, summary) in VARIANTS.items()
]
