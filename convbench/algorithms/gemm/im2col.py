"""gemm.im2col: stretch each image into a matrix M [C R S x P Q] as a whole and multiply, Y = W [K x C R S] M, by BLAS.

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


def stretcher_of(problem: Problem, device: Device) -> Any:
    """A function that writes rows of an image's matrix on the calling thread: vector code in float32, else Numba."""
    if problem.precision == "float32":
        from convbench.algorithms.gemm.unfold import stretcher

        return stretcher(problem.shape, device)
    from convbench.algorithms.gemm.stretch import stretch_rows

    where = geometry(problem, device)
    return lambda x, matrix, first, last, thread: stretch_rows(x, matrix, first, last, where)


def equal_parts(count: int, most: int) -> list[slice]:
    """A range cut into at most so many parts."""
    parts = min(count, most)
    return [slice(count * i // parts, count * (i + 1) // parts) for i in range(parts)]


def on_cpu(problem: Problem, device: Device) -> Plan:
    """Each thread stretches an image (one group of it) as a whole and multiplies it, by single-threaded BLAS into y.

    Where there are fewer of them than threads, all threads stretch one together, and then share out its filters.
    """
    s, xp = problem.shape, device.xp
    if s.is_matrix_product:
        return fully_connected(problem, device)
    k, depth, count = s.k // s.groups, s.c // s.groups * s.r * s.s, s.n * s.groups
    apart = count >= device.threads
    matrix = device.empty((device.threads if apart else 1, depth, s.p * s.q), problem.precision)
    stretch = stretcher_of(problem, device)
    rows, filters = equal_parts(depth, device.threads), equal_parts(k, device.threads)
    spent = xp.zeros((device.threads, 2))  # seconds by thread and phase

    def run(x: Any, w: Any, y: Any) -> None:
        images, outputs = x.reshape(count, s.c // s.groups, s.h, s.w), y.reshape(count, k, s.p * s.q)
        weights = w.reshape(s.groups, k, depth)

        def stretch_part(i: int, part: slice, into: Any, thread: int) -> None:
            begin = device.now()
            stretch(images[i], into, part.start, part.stop, thread)
            spent[thread, 0] += device.now() - begin

        def multiply(i: int, part: slice, by: Any, thread: int) -> None:
            begin = device.now()
            xp.matmul(weights[i % s.groups, part], by, out=outputs[i, part])
            spent[thread, 1] += device.now() - begin

        def one_image(i: int, thread: int) -> None:
            stretch_part(i, slice(0, depth), matrix[thread], thread)
            multiply(i, slice(0, k), matrix[thread], thread)

        if apart:
            device.parallel(one_image, count)
            return
        for i in range(count):

            def some_rows(part: int, thread: int, i: int = i) -> None:
                stretch_part(i, rows[part], matrix[0], thread)

            def some_filters(part: int, thread: int, i: int = i) -> None:
                multiply(i, filters[part], matrix[0], thread)

            device.parallel(some_rows, len(rows))
            device.parallel(some_filters, len(filters))

    def phases(x: Any, w: Any, y: Any) -> dict[str, float]:
        spent[...] = 0
        begin = device.now()
        run(x, w, y)
        seconds, shares = device.now() - begin, spent.sum(axis=0) / spent.sum()
        return {"stretch": seconds * float(shares[0]), "product": seconds * float(shares[1])}

    return Plan(run, workspace=matrix.nbytes, flops=s.flops, phases=phases)


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
