"""cuDNN's legacy convolution functions through ctypes: where the library lies, its signatures, its errors.

Signatures and numbers are those of cudnn_graph.h, cudnn_ops.h and cudnn_cnn.h; cuDNN 8 and 9 have the same.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from weakref import finalize

from convbench.algorithms.base import Missing, Unsupported
from convbench.shapes import ConvShape

ENVIRONMENT = "CONVBENCH_CUDNN"  # names a libcudnn.so to be taken instead of those that are found
INSTALL = (
    "cuDNN is not installed: pip install nvidia-cudnn-cu13 (for CUDA 12 nvidia-cudnn-cu12), "
    f"or name a libcudnn.so in {ENVIRONMENT}"
)
NAMES = ("libcudnn.so.9", "libcudnn.so.8")

FLOAT, DOUBLE, HALF = 0, 1, 2  # cudnnDataType_t
DEFAULT_MATH, TENSOR_OP_MATH, FMA_MATH = 0, 1, 3  # cudnnMathType_t
MATHS = {DEFAULT_MATH: "CUDNN_DEFAULT_MATH", TENSOR_OP_MATH: "CUDNN_TENSOR_OP_MATH", FMA_MATH: "CUDNN_FMA_MATH"}
NCHW, CROSS_CORRELATION = 0, 1  # of cudnnTensorFormat_t, cudnnConvolutionMode_t

_INT, _BYTES, _POINTER = ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p
# What each function takes; all return a cudnnStatus_t, 0 for success.
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cudnnCreate": (_POINTER,),
    "cudnnDestroy": (_POINTER,),
    "cudnnSetStream": (_POINTER, _POINTER),
    "cudnnCreateTensorDescriptor": (_POINTER,),
    "cudnnSetTensor4dDescriptor": (_POINTER, *[_INT] * 6),  # descriptor, format, type, n, c, h, w
    "cudnnDestroyTensorDescriptor": (_POINTER,),
    "cudnnCreateFilterDescriptor": (_POINTER,),
    "cudnnSetFilter4dDescriptor": (_POINTER, *[_INT] * 6),  # descriptor, type, format, k, c / groups, r, s
    "cudnnDestroyFilterDescriptor": (_POINTER,),
    "cudnnCreateConvolutionDescriptor": (_POINTER,),
    "cudnnSetConvolution2dDescriptor": (_POINTER, *[_INT] * 8),  # pad, stride, dilation (h, w each), mode, type
    "cudnnSetConvolutionGroupCount": (_POINTER, _INT),
    "cudnnSetConvolutionMathType": (_POINTER, _INT),
    "cudnnDestroyConvolutionDescriptor": (_POINTER,),
    "cudnnGetConvolutionForwardWorkspaceSize": (*[_POINTER] * 5, _INT, _POINTER),  # handle, x, w, convolution, y
    # handle, alpha, x and its data, w and its data, convolution, algorithm, workspace, its bytes, beta, y and its data
    "cudnnConvolutionForward": (*[_POINTER] * 7, _INT, _POINTER, _BYTES, *[_POINTER] * 3),
}
TEXT_BYTES = 1024  # of the last error's text that are asked for


class CudnnError(RuntimeError):
    """A call that cuDNN did not end with success; the text has its name, its status and what cuDNN says of it."""


class Cudnn:
    """An opened library. Raises AttributeError where it lacks a function."""

    def __init__(self, library: Any) -> None:
        self._library = library
        for name, takes in SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = takes, _INT
        library.cudnnGetVersion.restype = _BYTES
        library.cudnnGetErrorString.argtypes, library.cudnnGetErrorString.restype = (_INT,), ctypes.c_char_p

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function by its name. Raises Unsupported where cuDNN does not support that, else CudnnError."""
        if status := getattr(self._library, name)(*arguments):
            text = f"cuDNN: {self._name(status)} in {name}{self._reason()}"
            raise Unsupported(text) if is_not_supported(status) else CudnnError(text)

    def _name(self, status: int) -> str:
        """`CUDNN_STATUS_NOT_SUPPORTED (3000)`."""
        return f"{self._library.cudnnGetErrorString(status).decode(errors='replace')} ({status})"

    def _reason(self) -> str:
        """What cuDNN 9 has noted about the last failure, after a colon; often nothing."""
        try:
            noted = self._library.cudnnGetLastErrorString
        except AttributeError:  # cuDNN 8
            return ""
        noted.argtypes, noted.restype = (ctypes.c_char_p, _BYTES), None
        text = ctypes.create_string_buffer(TEXT_BYTES)
        noted(text, TEXT_BYTES)
        words = " ".join(text.value.decode(errors="replace").split())
        return f": {words}" if words else ""

    @property
    def version(self) -> str:
        """`9.28.1`."""
        return version_of(self._library.cudnnGetVersion())


def version_of(number: int) -> str:
    """90100 is 9.1.0; up to cuDNN 8, 8907 was 8.9.7."""
    thousand = 10000 if number >= 10000 else 1000
    return f"{number // thousand}.{number % thousand // 100}.{number % 100}"


def is_not_supported(status: int) -> bool:
    """Whether a status is CUDNN_STATUS_NOT_SUPPORTED or one of its kind, of cuDNN 9 or of cuDNN 8."""
    return 3000 <= status < 4000 or status in (6, 9)  # 6 was CUDNN_STATUS_ARCH_MISMATCH


@cache
def load(path: str = "") -> Cudnn:
    """cuDNN from a path, or the first that is found. Raises Missing."""
    failures = []
    for place in [path] if path else candidates():
        try:
            return Cudnn(ctypes.CDLL(place))
        except (AttributeError, OSError) as error:
            if place not in NAMES:  # a file that is there
                failures.append(f"{place} cannot be used as cuDNN 8 or 9: {error}")
    if path and failures:
        raise Missing(f"{ENVIRONMENT}: {failures[0]}")
    raise Missing("; ".join(failures) or INSTALL)


def chosen() -> Cudnn:
    """The cuDNN that the environment variable names, or the first that is found. Raises Missing."""
    return load(os.environ.get(ENVIRONMENT, ""))


def candidates() -> Iterator[str]:
    """What to try: NVIDIA's wheel (which PyTorch's wheels bring), PyTorch's folder, Python's; then the linker's way."""
    folders = [Path(place) / "lib" for package in ("nvidia.cudnn", "torch") for place in _folders_of(package)]
    for folder in (*folders, Path(sys.prefix) / "lib"):
        yield from (str(folder / name) for name in NAMES if (folder / name).is_file())
    yield from NAMES


def _folders_of(package: str) -> list[str]:
    """Where an installed package lies; it is not imported."""
    try:
        spec = find_spec(package)
    except ModuleNotFoundError:
        return []
    return list(spec.submodule_search_locations or ()) if spec else []


class Convolution:
    """A problem as cuDNN wants it described: a handle and four descriptors, destroyed when this is."""

    def __init__(self, cudnn: Cudnn, s: ConvShape, stream: int, data: int, compute: int, math: int) -> None:
        self._cudnn = cudnn
        self._made: list[tuple[str, Any]] = []
        finalize(self, _destroy, cudnn, self._made)
        self._handle = self._create("")
        cudnn.call("cudnnSetStream", self._handle, stream)
        self._x, self._y = (self._create("TensorDescriptor") for _ in range(2))
        for tensor, shape in ((self._x, s.x_shape), (self._y, s.y_shape)):
            cudnn.call("cudnnSetTensor4dDescriptor", tensor, NCHW, data, *shape)
        self._w = self._create("FilterDescriptor")
        cudnn.call("cudnnSetFilter4dDescriptor", self._w, data, NCHW, *s.w_shape)
        self._how = self._create("ConvolutionDescriptor")
        where = (*s.pad, *s.stride, *s.dilation)
        cudnn.call("cudnnSetConvolution2dDescriptor", self._how, *where, CROSS_CORRELATION, compute)
        cudnn.call("cudnnSetConvolutionGroupCount", self._how, s.groups)
        cudnn.call("cudnnSetConvolutionMathType", self._how, math)
        scalar = ctypes.c_double if compute == DOUBLE else ctypes.c_float
        self._one, self._zero = scalar(1), scalar(0)

    def _create(self, kind: str) -> Any:
        made = _POINTER()
        self._cudnn.call(f"cudnnCreate{kind}", ctypes.byref(made))
        self._made.append((f"cudnnDestroy{kind}", made))
        return made

    def workspace_bytes(self, algorithm: int) -> int:
        """What an algorithm wants. Raises Unsupported, with cuDNN's words, where it does not take this problem."""
        size = _BYTES()
        described = (self._handle, self._x, self._w, self._how, self._y)
        try:
            self._cudnn.call("cudnnGetConvolutionForwardWorkspaceSize", *described, algorithm, ctypes.byref(size))
        except CudnnError as error:  # whatever the status: it is the answer to whether this can be done
            raise Unsupported(str(error)) from None
        return size.value

    def forward(self, algorithm: int, x: int, w: int, y: int, workspace: int, size: int) -> None:
        """Queue y = conv(x, w); arrays and a workspace of `size` bytes are given by their addresses."""
        self._cudnn.call(
            "cudnnConvolutionForward", self._handle, ctypes.byref(self._one), self._x, x, self._w, w,
            self._how, algorithm, workspace, size, ctypes.byref(self._zero), self._y, y,
        )  # fmt: skip


def _destroy(cudnn: Cudnn, made: list[tuple[str, Any]]) -> None:
    """The last made first; a failure leaves nothing that could be done."""
    while made:
        name, pointer = made.pop()
        try:
            cudnn.call(name, pointer)
        except (CudnnError, Unsupported):
            continue
