"""A GPU on the CPU whose products of float16 are summed as tensor cores sum them, and layers deep enough to see it."""

from __future__ import annotations

from typing import Any

import numpy as np
from cuda_host.device import HostDevice

from convbench.algorithms.gemm.split3 import ADDED_AT_ONCE

# As deep as AlexNet's layers, and otherwise small.
DEEP = {
    "conv1": "n1c3h15w15k5r11s11u4",
    "conv2": "n1c48h4w5k5r5s5p2",
    "conv3": "n1c256h3w4k5r3s3p1",
    "conv4": "n1c192h3w4k5r3s3p1",
    "fc6": "n6c256h6w6k11r6s6",
    "fc7": "n6c4096h1w1k11r1s1",
}
CONVOLUTIONS = {name: word for name, word in DEEP.items() if name.startswith("conv")}


def cut_off(values: Any) -> Any:
    """float64 cut to the 24 bits of a float32, towards zero."""
    return (values.view(np.int64) & ~((1 << 29) - 1)).view(np.float64)


class TensorCores(HostDevice):
    """Products of float16 as tensor cores sum them: some at once exactly, and each addition to the sum cut off."""

    def __init__(self, capability: int) -> None:
        super().__init__(capability)
        self.at_once = next(products for least, products in ADDED_AT_ONCE if capability >= least)

    def matmul(self, a: Any, b: Any, out: Any, tf32: bool = False) -> Any:
        assert not tf32
        assert a.dtype == b.dtype == np.float16
        wide_a, wide_b, total = a.astype(np.float64), b.astype(np.float64), np.zeros(out.shape)
        for first in range(0, a.shape[-1], self.at_once):
            some = slice(first, first + self.at_once)
            total = cut_off(total + wide_a[..., some] @ wide_b[..., some, :])
        out[...] = total
        return out
