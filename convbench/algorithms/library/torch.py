"""library.torch: PyTorch's own convolution, y = F.conv2d(x, w), in each layout it has: the baseline on the CPU.

x is given to it in its best layout, as a network in that layout would have it, and its result is left in its own: the
conversions are not timed. What depends on the filters alone (packing them as oneDNN wants them) is `prepare`. A fully
connected layer is F.linear. Each call allocates its result, as PyTorch has no other way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from convbench.algorithms.base import Algorithm, Foreign, Missing, Plan, Unsupported
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.shapes import ConvShape

INSTALL = "PyTorch is not installed: pip install 'torch>=2.4'"


@dataclass(frozen=True)
class Weights:
    """Filters as PyTorch wants them, and the bytes they hold beyond w."""

    tensor: Any
    nbytes: int


@dataclass(frozen=True)
class Mode:
    """stage(x) and pack(w) bring NumPy arrays into a layout; run(x, w) is timed; name says what it is."""

    name: str
    stage: Callable[[Any], Any]
    pack: Callable[[Any], Any]
    run: Callable[[Any, Any], Any]
    copies_x: bool = True
    copies_w: bool = True


@cache
def load() -> Any:
    """PyTorch, with no gradients. Raises Missing."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise Missing(INSTALL) from error
    torch.set_grad_enabled(False)
    return torch


def versions(torch: Any) -> str:
    """`PyTorch 2.13.0, oneDNN 3.12.0`."""
    found = re.search(r"(?:MKL-DNN|oneDNN) v([\d.]+)", torch.__config__.show())
    return f"PyTorch {torch.__version__}" + (f", oneDNN {found[1]}" if found else "")


def convolution(torch: Any, s: ConvShape, mode: str) -> Mode:
    """The layouts of a convolution."""
    function, linked = torch.nn.functional.conv2d, torch.from_numpy
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


def fully_connected(torch: Any, s: ConvShape, mode: str) -> Mode:
    """The same of a matrix product, x [N x C R S] and w [K x C R S]; its layouts are those of w."""
    depth = s.c * s.r * s.s

    def matrix(array: Any) -> Any:
        return torch.from_numpy(array.reshape(-1, depth))

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


def on_cpu(problem: Problem, device: Device, mode: str) -> Plan:
    """PyTorch with the device's number of threads. Raises Missing, Unsupported."""
    torch, s = load(), problem.shape
    if mode in ("mkldnn", "prepacked"):
        if problem.precision != "float32":
            raise Unsupported(f"oneDNN convolves no {problem.precision} on a CPU")
        if not torch.backends.mkldnn.is_available():
            raise Unsupported("this PyTorch is built without oneDNN")
    torch.set_num_threads(device.threads)
    made = (fully_connected if s.is_matrix_product and s.groups == 1 else convolution)(torch, s, mode)

    def prepare(w: Any) -> Weights:
        tensor = made.pack(w)
        return Weights(tensor, w.nbytes if made.copies_w else 0)

    def run(x: Any, w: Weights, y: Any) -> Any:
        return made.run(x, w.tensor)

    def collect(result: Any, y: Any) -> None:
        y[...] = (result.to_dense() if result.is_mkldnn else result).numpy().reshape(s.y_shape)

    staged = s.n * s.c * s.h * s.w * problem.number.bytes if made.copies_x else 0
    note = f"{versions(torch)}: {made.name}"
    return Plan(run, prepare, workspace=staged, note=note, foreign=Foreign(made.stage, collect))


MODES = {
    "nchw": "PyTorch's conv2d on tensors as they are, NCHW",
    "channels_last": "PyTorch's conv2d, x and w channels last",
    "mkldnn": "PyTorch's oneDNN tensors, the filters packed before",
    "prepacked": "PyTorch's channels last, the filters packed before as by torch.compile",
}
ALGORITHMS = [
    Algorithm(f"library.torch.{mode}", on={"cpu": partial(on_cpu, mode=mode)}, summary=summary)
    for mode, summary in MODES.items()
]
