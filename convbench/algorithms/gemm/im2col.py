"""gemm.im2col: stretch each image into a matrix M [C R S x P Q] and multiply, Y = W [K x C R S] M, by BLAS.

Chellapilla, Puri & Simard, "High performance convolutional neural networks for document processing", 2006. A fully
connected layer has nothing to stretch: the batch is the matrix, [N x C R S] W^T, a matrix-vector product for one image.
"""

from __future__ import annotations

from typing import Any

from convbench.algorithms.base import Algorithm, Plan
from convbench.devices.base import Device
from convbench.problem import Problem


def fully_connected(problem: Problem, device: Device) -> Plan:
    """Y [N, K] = X [N, C R S] W^T, by groups: no workspace at all."""
    s, xp = problem.shape, device.xp
    depth = s.c // s.groups * s.r * s.s

    def run(x: Any, w: Any, y: Any) -> None:
        for group in range(s.groups):
            k = slice(group * s.k // s.groups, (group + 1) * s.k // s.groups)
            vectors = x.reshape(s.n, s.groups, depth)[:, group]
            xp.matmul(vectors, w.reshape(s.k, depth)[k].T, out=y.reshape(s.n, s.k)[:, k])

    return Plan(run, note="nothing to stretch: " + ("matrix-vector product" if s.n == 1 else "matrix product"))


def geometry(problem: Problem, device: Device) -> Any:
    """R, S, Q, stride, pad, dilation as the Numba kernels take them."""
    s = problem.shape
    return device.xp.array([s.r, s.s, s.q, *s.stride, *s.pad, *s.dilation])


def on_cpu(problem: Problem, device: Device) -> Plan:
    """One image at a time, so that the workspace is one image's matrices whatever the batch."""
    from convbench.algorithms.gemm.stretch import stretch_image

    s, xp = problem.shape, device.xp
    if s.is_matrix_product:
        return fully_connected(problem, device)
    channels, depth = s.c // s.groups, s.c // s.groups * s.r * s.s
    matrix = device.empty((s.groups, depth, s.p * s.q), problem.precision)
    where = geometry(problem, device)

    def run(x: Any, w: Any, y: Any) -> None:
        filters = w.reshape(s.groups, s.k // s.groups, depth)
        for n in range(s.n):
            for group in range(s.groups):
                stretch_image(x[n, group * channels : (group + 1) * channels], matrix[group], 0, where)
            xp.matmul(filters, matrix, out=y[n].reshape(s.groups, s.k // s.groups, s.p * s.q))

    return Plan(run, workspace=matrix.nbytes)


def on_cuda(problem: Problem, device: Device) -> Plan:
    """Blocks of images whose matrices fit half of the L2 cache; stretching is one copy out of a strided view."""
    s, xp = problem.shape, device.xp
    if s.is_matrix_product:
        return fully_connected(problem, device)
    channels, depth = s.c // s.groups, s.c // s.groups * s.r * s.s
    block = max(1, min(s.n, device.cache_bytes // 2 // (s.groups * depth * s.p * s.q * problem.number.bytes)))
    matrix = device.empty((block, s.groups, depth, s.p * s.q), problem.precision)
    (ph, pw), (uh, uw), (dh, dw) = s.pad, s.stride, s.dilation
    padded = device.empty((block, s.c, s.h + 2 * ph, s.w + 2 * pw), problem.precision)
    padded[...] = 0
    image, channel, row, column = padded.strides
    view = xp.lib.stride_tricks.as_strided(
        padded,
        (block, s.groups, channels, s.r, s.s, s.p, s.q),
        (image, channel * channels, channel, row * dh, column * dw, row * uh, column * uw),
    )

    def run(x: Any, w: Any, y: Any) -> None:
        filters = w.reshape(s.groups, s.k // s.groups, depth)
        for first in range(0, s.n, block):
            n = min(block, s.n - first)
            padded[:n, :, ph : ph + s.h, pw : pw + s.w] = x[first : first + n]
            matrix[:n].reshape(n, *view.shape[1:])[...] = view[:n]
            target = y[first : first + n].reshape(n, s.groups, s.k // s.groups, s.p * s.q)
            xp.matmul(filters, matrix[:n], out=target)

    return Plan(run, workspace=matrix.nbytes + padded.nbytes)


ALGORITHMS = [
    Algorithm(
        "gemm.im2col", on={"cpu": on_cpu, "cuda": on_cuda}, summary="each image stretched into a matrix, then BLAS"
    )
]
