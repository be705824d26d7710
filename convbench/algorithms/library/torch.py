"""library.torch: PyTorch's own convolution, y = F.conv2d(x, w), in each layout it has: on the GPU that is cuDNN's.

x is given to it in its best layout, as a network in that layout would have it, and its result is left in its own: the
conversions are not timed. What depends on the filters alone (packing them as oneDNN wants them) is `prepare`. A fully
connected layer is F.linear. Each call allocates its result, as PyTorch has no other way.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from math import prod
from typing import Any

from convbench.algorithms.base import Algorithm, Foreign, Missing, Plan, Unsupported
from convbench.algorithms.library.cudnn_api import version_of
from convbench.devices.base import Device
from convbench.problem import PRECISIONS, Problem
from convbench.shapes import ConvShape

INSTALL = "PyTorch is not installed: pip install 'torch>=2.4'"
WITH_CUDA = "pip install --force-reinstall 'torch>=2.4' has it on Linux"


@dataclass(frozen=True)
class Weights:
    """Filters as PyTorch wants them, and the bytes they hold beyond w."""

    tensor: Any
    nbytes: int


@dataclass(frozen=True)
class Mode:
    """stage(x) and pack(w) bring arrays into a layout; run(x, w) is timed; name says what it is."""

    name: str
    stage: Callable[[Any], Any]
    pack: Callable[[Any], Any]
    run: Callable[[Any, Any], Any]
    copies_x: bool = True
    copies_w: bool = True

    def prepare(self, w: Any) -> Weights:
        """Plan.prepare."""
        return Weights(self.pack(w), w.nbytes if self.copies_w else 0)

    def timed(self, x: Any, w: Weights, y: Any) -> Any:
        """Plan.run of a foreign plan: the result, in the library's layout; y is left alone."""
        return self.run(x, w.tensor)

    def staged_bytes(self, problem: Problem) -> int:
        """Of the copy of x."""
        return prod(problem.shape.x_shape) * problem.number.bytes if self.copies_x else 0


@cache
def load() -> Any:
    """PyTorch, with no gradients. Raises Missing."""
    os.environ.pop("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", None)  # else it would outvote `set_tf32`
    try:
        import torch
    except ModuleNotFoundError as error:
        raise Missing(INSTALL) from error
    torch.set_grad_enabled(False)
    return torch


def versions(torch: Any, cuda: bool = False) -> str:
    """`PyTorch 2.13.0, oneDNN 3.12.0`; on a GPU `PyTorch 2.13.0, cuDNN 9.19.0`."""
    if cuda:
        number = torch.backends.cudnn.version()
        return f"PyTorch {torch.__version__}, {f'cuDNN {version_of(number)}' if number else 'without cuDNN'}"
    found = re.search(r"(?:MKL-DNN|oneDNN) v([\d.]+)", torch.__config__.show())
    return f"PyTorch {torch.__version__}" + (f", oneDNN {found[1]}" if found else "")


def convolution(torch: Any, s: ConvShape, mode: str, linked: Callable[[Any], Any]) -> Mode:
    """The layouts of a convolution; linked(array) is a tensor of an array's own memory."""
    function = torch.nn.functional.conv2d
    where = (s.stride, s.pad, s.dilation, s.groups)
    last = {"memory_format": torch.channels_last}

    def plain(x: Any, w: Any) -> Any:
        return function(x, w, None, *where)

    def channels_last(array: Any) -> Any:
        return linked(array).contiguous(**last)

    if mode == "nchw":
        return Mode("F.conv2d, NCHW", linked, linked, plain, copies_x=False, copies_w=False)
    if mode == "channels_last":
        return Mode("F.conv2d, channels last", channels_last, channels_last, plain)
    if mode == "mkldnn":

        def packed(w: Any) -> Any:  # as torch.utils.mkldnn.to_mkldnn packs a Conv2d's
            ahead = (s.pad, s.stride, s.dilation, s.groups)
            return torch._C._nn.mkldnn_reorder_conv2d_weight(linked(w).to_mkldnn(), *ahead)

        def opaque(x: Any, w: Any) -> Any:
            return torch.mkldnn_convolution(x, w, None, s.pad, s.stride, s.dilation, s.groups)

        return Mode("oneDNN tensors, filters packed", lambda x: linked(x).to_mkldnn(), packed, opaque)
    ops = torch.ops.mkldnn
    if not hasattr(ops, "_reorder_convolution_weight") or not hasattr(ops, "_convolution_pointwise"):
        raise Unsupported("this PyTorch cannot pack filters for tensors that are channels last")
    ahead = (list(s.pad), list(s.stride), list(s.dilation), s.groups)

    def reordered(w: Any) -> Any:
        return ops._reorder_convolution_weight(channels_last(w), *ahead, list(s.x_shape))

    def pointwise(x: Any, w: Any) -> Any:
        return ops._convolution_pointwise(x, w, None, *ahead, "none", [], "")

    return Mode("channels last, filters packed as by torch.compile", channels_last, reordered, pointwise)


def fully_connected(torch: Any, s: ConvShape, mode: str, linked: Callable[[Any], Any]) -> Mode:
    """The same of a matrix product, x [N x C R S] and w [K x C R S]; its layouts are those of w."""
    depth = s.c * s.r * s.s

    def matrix(array: Any) -> Any:
        return linked(array.reshape(-1, depth))

    if mode == "nchw":
        return Mode("F.linear", matrix, matrix, torch.nn.functional.linear, copies_x=False, copies_w=False)
    if mode == "channels_last":
        return Mode("matmul, filters transposed", matrix, lambda w: matrix(w).t().contiguous(), torch.mm, False)
    if mode == "mkldnn":

        def tensor(array: Any) -> Any:
            return matrix(array).to_mkldnn()

        def opaque(x: Any, w: Any) -> Any:
            return torch._C._nn.mkldnn_linear(x, w, None)

        return Mode("linear of oneDNN tensors", tensor, tensor, opaque)
    ops = torch.ops.mkldnn
    if not hasattr(ops, "_reorder_linear_weight") or not hasattr(ops, "_linear_pointwise"):
        raise Unsupported("this PyTorch cannot pack the filters of a linear layer")

    def reordered(w: Any) -> Any:
        return ops._reorder_linear_weight(matrix(w), s.n)

    def pointwise(x: Any, w: Any) -> Any:
        return ops._linear_pointwise(x, w, None, "none", [], "")

    return Mode("linear, filters packed as by torch.compile", matrix, reordered, pointwise, copies_x=False)


def modes_of(s: ConvShape) -> Callable[[Any, ConvShape, str, Callable[[Any], Any]], Mode]:
    """`fully_connected` where x and w are the operands of one matrix product."""
    return fully_connected if s.is_matrix_product and s.groups == 1 else convolution


def on_cpu(problem: Problem, device: Device, mode: str) -> Plan:
    """PyTorch with the device's number of threads. Raises Missing, Unsupported."""
    torch, s = load(), problem.shape
    if mode in ("mkldnn", "prepacked"):
        if problem.precision != "float32":
            raise Unsupported(f"oneDNN convolves no {problem.precision} on a CPU")
        if not torch.backends.mkldnn.is_available():
            raise Unsupported("this PyTorch is built without oneDNN")
    torch.set_num_threads(device.threads)
    made = modes_of(s)(torch, s, mode, torch.from_numpy)

    def collect(result: Any, y: Any) -> None:
        y[...] = (result.to_dense() if result.is_mkldnn else result).numpy().reshape(s.y_shape)

    staged = made.staged_bytes(problem)
    note = f"{versions(torch)}: {made.name}"
    return Plan(made.timed, made.prepare, workspace=staged, note=note, foreign=Foreign(made.stage, collect))


def no_cuda(torch: Any) -> str:
    """Why PyTorch cannot use the GPU, with what to do; "" where it can."""
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is built without CUDA: {WITH_CUDA}"
    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} finds no GPU that its CUDA {torch.version.cuda} can use"
    return ""


def streams(torch: Any, cupy: Any) -> Callable[[], AbstractContextManager[Any]]:
    """Contexts in which PyTorch queues on CuPy's current stream, whose events are the clock.

    Each begins on stream 0, CUDA's legacy default stream; where it is the same there is nothing to switch.
    """
    stream, gpu = cupy.cuda.get_current_stream().ptr, cupy.cuda.Device().id
    if torch.cuda.current_stream(gpu).cuda_stream == stream:
        return nullcontext
    return partial(torch.cuda.stream, torch.cuda.ExternalStream(stream, device=gpu))


def set_tf32(torch: Any, allowed: bool) -> None:
    """Whether float32 operands may be rounded to 10 bits, by cuDNN and by cuBLAS."""
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def search_all(torch: Any) -> None:
    """The first call of each shape tries all of cuDNN's plans and keeps the fastest; float16 is summed in float32."""
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.benchmark_limit = 0
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False


def on_cuda(problem: Problem, device: Device, mode: str) -> Plan:
    """PyTorch on CuPy's arrays, which it shares by DLPack, and on CuPy's current stream. Raises Missing."""
    torch, s = load(), problem.shape
    if reason := no_cuda(torch):
        raise Missing(reason)
    search_all(torch)
    stream, tf32 = streams(torch, device.xp), problem.precision == "tf32"
    made = modes_of(s)(torch, s, mode, torch.from_dlpack)

    def queued(work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            set_tf32(torch, tf32)  # each time: plans of other precisions may live beside this one
            with stream():
                return work(*arguments)

        return call

    def collect(result: Any, y: Any) -> None:
        y[...] = device.xp.from_dlpack(result).reshape(s.y_shape)

    staged = made.staged_bytes(problem)
    note = f"{versions(torch, cuda=True)}: {made.name}; benchmark on"
    if problem.storage == "float32":
        note += f", TF32 {'on' if tf32 else 'off'}"
    foreign = Foreign(queued(made.stage), queued(collect))
    return Plan(queued(made.timed), queued(made.prepare), workspace=staged, note=note, foreign=foreign)


MODES = {
    "nchw": "PyTorch's conv2d on tensors as they are, NCHW",
    "channels_last": "PyTorch's conv2d, x and w channels last",
    "mkldnn": "PyTorch's oneDNN tensors, the filters packed before",
    "prepacked": "PyTorch's channels last, the filters packed before as by torch.compile",
}
ON_CUDA = ("nchw", "channels_last")
ALGORITHMS = [
    Algorithm(
        f"library.torch.{mode}",
        on={"cpu": partial(on_cpu, mode=mode)} | ({"cuda": partial(on_cuda, mode=mode)} if mode in ON_CUDA else {}),
        summary=summary,
        precisions={"cuda": tuple(PRECISIONS)},
        needs={"cuda": "PyTorch with CUDA"} if mode in ON_CUDA else {},
    )
    for mode, summary in MODES.items()
]
