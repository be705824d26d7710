"""gemm.im2col: stretch each image into a matrix M [C R S x P Q] as a whole and multiply, Y = W [K x C R S] M, by BLAS.

Chellapilla, Puri & Simard, "High performance convolutional neural networks for document processing", 2006. A fully
connected layer has nothing to stretch: the batch is the matrix, [N x C R S] W^T, a matrix-vector product for one image.

On CUDA im2col.cu stretches all images at once, as far as memory goes (chunks.py), and cuBLAS multiplies, in tf32 and
float16 on tensor cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convbench.algorithms.base import Algorithm, Plan, Unsupported
from convbench.algorithms.gemm.chunks import Product, chunk_seconds, images_at_once, seconds
from convbench.algorithms.gemm.split import by_cublas
from convbench.algorithms.phased import phases_of, runs
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.shapes import ConvShape


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


THREADS = 256  # a block of im2col.cu
ROW_BYTES = 32  # a sector of the L2 cache: rows of the matrix begin on one, so that every store fills whole ones
TAPS_EACH = 8  # values a thread of im2col.cu has on the way at least, where there are so many channels
FILTERS_EACH = 4  # likewise for `part`
# Multiply-adds/s of a large product on an H200. float32 is measured; the others are two thirds of their units' peak.
RATES = {"float32": 26e12, "float64": 22e12, "tf32": 160e12, "float16": 330e12}
ALIGNED_BYTES = {"tf32": 16, "float16": 16}  # where rows are to begin for cuBLAS's fastest kernels on tensor cores
MOST_COLUMNS = 1 << 30  # of a matrix: a thread counts them in 32 bits


def pitch_of(columns: int, number_bytes: int) -> int:
    """Numbers from one row of the matrix to the next."""
    unit = ROW_BYTES // number_bytes
    return -(-columns // unit) * unit


def aligned(problem: Problem, numbers: int) -> int:
    """So many numbers of a row, and as many more as it takes to begin the next where tensor cores want it."""
    unit = ALIGNED_BYTES.get(problem.precision, 1)
    return -(-numbers * problem.number.bytes // unit) * unit // problem.number.bytes


def chunk_of(problem: Problem) -> tuple[bool, int]:
    """Whether the images of a chunk are to be joined in one matrix, and how many they are.

    By chunks.py's model, but for tensor cores where rows of y are not aligned: joined, the product has rows of its own.
    """
    s, number, rate = problem.shape, problem.number.bytes, RATES[problem.precision]
    depth, k, pixels = aligned(problem, s.c // s.groups * s.r * s.s), s.k // s.groups, s.p * s.q
    apart_bytes = number * s.groups * depth * pitch_of(pixels, number)  # of an image
    joined_bytes = number * (s.groups * depth + s.k) * pixels  # with the product, which is then moved into y
    moved_bytes = joined_bytes + number * s.k * pixels

    def apart(images: int) -> float:
        calls = min(s.groups, images)  # as `multiply` makes them
        products = [Product(images * s.groups // calls, k, pixels, depth)] * calls
        return chunk_seconds(products, rate, images * apart_bytes, 1)

    def joined(images: int) -> float:
        return chunk_seconds([Product(s.groups, k, images * pixels, depth)], rate, images * moved_bytes, 2)

    few, many = images_at_once(s.n, apart_bytes), images_at_once(s.n, joined_bytes)
    if aligned(problem, pixels) != pixels or seconds(s.n, many, joined) < seconds(s.n, few, apart):
        return True, many
    return False, few


def multiply(device: Device, filters: Any, matrices: Any, out: Any, tf32: bool) -> None:
    """out[n, g] = filters[g] matrices[n, g], in as many calls as there are groups or images, whichever are fewer."""
    images, groups = out.shape[:2]
    if groups <= images:
        for group in range(groups):
            device.matmul(filters[group], matrices[:, group], out[:, group], tf32)
    else:
        for image in range(images):
            device.matmul(filters, matrices[image], out[image], tf32)


def loaded(problem: Problem, device: Device, columns: int, images: int, joined: bool) -> tuple[Any, int, int]:
    """im2col.cu for matrices of so many columns, their pitch, and the blocks a launch has for each matrix.

    Raises Unsupported for 2^30 columns.
    """
    s = problem.shape
    if columns >= MOST_COLUMNS:
        raise Unsupported(f"a matrix of {columns} columns: they are counted in 32 bits")
    pitch, each = pitch_of(columns, problem.number.bytes), max(1, TAPS_EACH // (s.r * s.s))
    module = device.load(
        Path(__file__).with_suffix(".cu"), problem, COLUMNS=columns, IMAGES=images, JOINED=int(joined), PITCH=pitch,
        DEPTH=aligned(problem, s.c // s.groups * s.r * s.s), EACH=each, EACH_FILTERS=FILTERS_EACH,
    )  # fmt: skip
    return module, pitch, -(-(-(-s.c // each) * pitch) // THREADS)


def on_cuda(problem: Problem, device: Device) -> Plan:
    """Chunks of images, stretched by im2col.cu; a 1 x 1 filter at stride 1 finds its matrix in x.

    A matrix for each image has its product written straight into y. Joined in one, the images share the last tile of
    the product's columns (13 x 13 pixels are 169 columns, two tiles of 128 or 1.3), and groups share a call; what the
    product writes is then moved into y. chunk_of weighs the one against the other. For tensor cores the depth is filled
    up with zeros where rows of filters would not be aligned.
    """
    s = problem.shape
    if s.is_matrix_product:
        return by_cublas(problem, device)
    if is_unstretched(s):
        return unstretched(problem, device)
    taps, k, pixels = s.c // s.groups * s.r * s.s, s.k // s.groups, s.p * s.q
    depth, tf32 = aligned(problem, taps), problem.precision == "tf32"
    joined, chunk = chunk_of(problem)
    columns = chunk * pixels if joined else pixels
    module, pitch, blocks = loaded(problem, device, columns, chunk, joined)
    stretch, part = module.get_function("im2col"), module.get_function("part")
    matrix = device.empty((1 if joined else chunk, s.groups, depth, pitch), problem.storage)
    matrix[:, :, taps:] = 0  # and stays so
    product = device.empty((s.groups, k, pitch) if joined else (0,), problem.storage)
    part_blocks = -(-(-(-s.k // FILTERS_EACH) * columns) // THREADS)

    def prepare(w: Any) -> Any:
        if depth == taps:
            return w.reshape(s.groups, k, taps)
        filters = device.xp.zeros((s.groups, k, depth), problem.storage)
        filters[..., :taps] = w.reshape(s.groups, k, taps)
        return filters

    def body(x: Any, filters: Any, y: Any) -> Iterator[str]:
        for first in range(0, s.n, chunk):
            inputs, outputs = x[first : first + chunk], y[first : first + chunk]
            images = len(inputs)
            count, from_first = device.xp.int32(images), device.xp.int32(0)
            stretch((blocks, 1 if joined else images), (THREADS,), (inputs, matrix, count, from_first))
            yield "stretch"
            if joined:
                device.matmul(filters, matrix[0], product, tf32)
            else:
                out = outputs.reshape(images, s.groups, k, pixels)
                multiply(device, filters, matrix[:images, ..., :pixels], out, tf32)
            yield "product"
            if joined:
                device.launch(part, (part_blocks,), (THREADS,), (product, outputs, count), follows=True)
                yield "part"

    note = f"{chunk} images at a time, " + ("joined in one matrix" if joined else "a matrix each")
    workspace = matrix.nbytes + product.nbytes
    flops = 2 * s.n * s.k * pixels * depth
    return Plan(runs(body), prepare, workspace, note, flops, phases_of(body, device))


def is_unstretched(s: ConvShape) -> bool:
    """True where each output pixel sees the input pixel at its own place."""
    return (s.r, s.s, s.stride, s.pad) == (1, 1, (1, 1), (0, 0))


def unstretched(problem: Problem, device: Device) -> Plan:
    """A 1 x 1 filter at stride 1: each image is its own matrix, [C, H W]."""
    s = problem.shape

    def run(x: Any, w: Any, y: Any) -> None:
        filters = w.reshape(s.groups, s.k // s.groups, -1)
        matrices = x.reshape(s.n, s.groups, s.c // s.groups, -1)
        out = y.reshape(s.n, s.groups, s.k // s.groups, -1)
        multiply(device, filters, matrices, out, problem.precision == "tf32")

    return Plan(run, note="nothing to stretch: each image is its own matrix", flops=s.flops)


ALGORITHMS = [
    Algorithm(
        "gemm.im2col",
        on={"cpu": on_cpu, "cuda": on_cuda},
        precisions={"cuda": ("float32", "float64", "tf32", "float16")},
        summary="each image stretched into a matrix, then BLAS",
    )
]
