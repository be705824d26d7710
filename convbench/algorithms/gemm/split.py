"""Fully connected layers on a GPU, Y [N, K] = X [N, C R S] W^T: which kernel for how many images, in how many shares.

Up to STREAMED images gemv.cu streams the weights past registers. Up to MULTIPLIED images split.cu is a matrix product
in float32 whose depth is shared out to blocks, as there are too few outputs to fill a GPU; up to ON_TENSOR_CORES images
skinny.cu streams the weights to tensor cores in tf32 and float16. All read each weight once.
Beyond that the layer takes what its products take, and cuBLAS multiplies: its choice of tiles is wider than ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convbench.algorithms.base import Plan
from convbench.algorithms.gemm import skinny
from convbench.algorithms.gemm.shares import ceil, in_shares, sizes
from convbench.devices.base import Device
from convbench.problem import Problem

# Images at most, by what an H200 took for AlexNet at batches 1, 16 and 64. In float32 gemv.cu and split.cu are level at
# 16, where gemv.cu has 64 sums in a thread's registers. For tf32 it multiplies floats as they are, ahead of cuBLAS at 1
# and behind at 16. In float16 it is ahead at 1, and has not been measured beyond.
STREAMED = {"float32": 16, "tf32": 8, "float16": 8}
MULTIPLIED = {"float32": 32}  # likewise: split.cu is faster than cuBLAS at 16, and slower at 64
# By an H100: at 16 images as fast as cuBLAS on fc6 and fc7, and faster on fc8; at 32 slower on the former.
ON_TENSOR_CORES = {"tf32": 16, "float16": 16}
FOLDER = Path(__file__).parent
WARPS = 8  # of a block of gemv.cu
NEAR = 128 << 10  # bytes of x that stay in the first-level cache of a multiprocessor, while all its blocks read them
MANY_BLOCKS = 200  # more than there are multiprocessors; a block then has four rows a warp, not one or two
# Blocks that a GPU of 132 multiprocessors holds at a time; a small GPU has them one after another.
WANTED_BLOCKS = {"stream": 528, "product": 396}
LEAST_STEPS = {"stream": 4, "product": 8}  # of a share, else its start and end weigh too much
MOST_SHARES = 16  # each writes all outputs once more
SLICE, TILE_FILTERS, TILE_IMAGES, PRODUCT_THREADS = 16, 128, 32, 128  # of split.cu


def shares(blocks: int, steps: int, kernel: str) -> int:
    """How many blocks share the depth of a row, where `blocks` have `steps` each."""
    return max(1, min(MOST_SHARES, WANTED_BLOCKS[kernel] // blocks, steps // LEAST_STEPS[kernel]))


def held(problem: Problem) -> int:
    """Weights that a thread of gemv.cu holds at a time: in 64 bytes where rows are aligned to 16 bytes, else 16."""
    return 16 if sizes(problem)[0] * problem.number.bytes % 16 else 64 // problem.number.bytes


def stream_knobs(problem: Problem) -> dict[str, int]:
    """The constants of gemv.cu beside the shape.

    Where all of x fits the first-level cache, a block's warps share out the depth of few rows, and nothing is to be
    added up afterwards. Where it does not, the warps have rows of their own and read the same part of x together.
    """
    n, groups = problem.shape.n, problem.shape.groups
    depth, filters = sizes(problem)
    rows = next((rows for rows in (4, 2) if groups * ceil(filters, rows) >= MANY_BLOCKS), 1)
    steps = ceil(depth, held(problem) // rows * 32)  # of one warp
    depth_warps = 1
    while n * depth * problem.number.bytes <= NEAR and 2 * depth_warps <= min(WARPS, steps):
        depth_warps *= 2
    row_warps = min(WARPS // depth_warps, ceil(filters, rows))
    blocks = groups * ceil(filters, rows * row_warps)
    split = shares(blocks, steps // depth_warps, "stream")
    return {"ROWS": rows, "ROW_WARPS": row_warps, "DEPTH_WARPS": depth_warps, "SPLIT": split}


def streaming(problem: Problem, device: Device) -> Plan:
    """The plan around gemv.cu."""
    knobs = stream_knobs(problem)
    groups, filters = problem.shape.groups, problem.shape.k // problem.shape.groups
    blocks = knobs["SPLIT"] * groups * ceil(filters, knobs["ROWS"] * knobs["ROW_WARPS"])
    threads = 32 * knobs["ROW_WARPS"] * knobs["DEPTH_WARPS"]
    words = f"weights streamed, {knobs['ROWS']} rows a warp, {knobs['DEPTH_WARPS']} warps along the depth"
    return in_shares(
        problem, device, FOLDER / "gemv.cu", "stream", knobs, (blocks, threads), words, problem.shape.flops
    )


def product_knobs(problem: Problem) -> dict[str, int]:
    """The constants of split.cu beside the shape."""
    depth, filters = sizes(problem)
    blocks = problem.shape.groups * ceil(filters, TILE_FILTERS)
    return {"SPLIT": shares(blocks, ceil(depth, SLICE), "product")}


def multiplying(problem: Problem, device: Device) -> Plan:
    """The plan around split.cu."""
    s, knobs = problem.shape, product_knobs(problem)
    depth, filters = sizes(problem)
    tiles = s.groups * ceil(filters, TILE_FILTERS)
    steps = ceil(ceil(depth, SLICE), knobs["SPLIT"]) * knobs["SPLIT"]
    flops = 2 * tiles * TILE_FILTERS * TILE_IMAGES * steps * SLICE
    words = f"product in tiles of {TILE_FILTERS} filters x {TILE_IMAGES} images"
    return in_shares(
        problem, device, FOLDER / "split.cu", "product", knobs, (tiles * knobs["SPLIT"], PRODUCT_THREADS), words, flops
    )


def by_cublas(problem: Problem, device: Device) -> Plan:
    """One product for each group, in one call, in any precision."""
    s = problem.shape
    depth, filters = sizes(problem)

    def run(x: Any, w: Any, y: Any) -> None:
        images = x.reshape(s.n, s.groups, depth).transpose(1, 0, 2)
        weights = w.reshape(s.groups, filters, depth).transpose(0, 2, 1)
        out = y.reshape(s.n, s.groups, filters).transpose(1, 0, 2)
        device.matmul(images, weights, out, problem.precision == "tf32")

    return Plan(run, note="product by cuBLAS", flops=s.flops)


def fitting(problem: Problem, device: Device) -> Plan:
    """The plan for this many images."""
    for plan, most in ((streaming, STREAMED), (multiplying, MULTIPLIED)):
        if problem.shape.n <= most.get(problem.precision, 0):
            return plan(problem, device)
    few = problem.shape.n <= ON_TENSOR_CORES.get(problem.precision, 0)
    if few and device.capability >= skinny.CAPABILITY and not skinny.refuses(problem):
        return skinny.on_cuda(problem, device)
    return by_cublas(problem, device)
