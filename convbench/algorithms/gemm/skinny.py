"""gemm.gemv.split3: fully connected layers on tensor cores for a few images, each number as two tf32 numbers.

skinny.cu says how: the weights are streamed in the order that products want them, and 2^-22 of a number is lost. It is
for float32: on an H200 cuBLAS was as fast in tf32 and float16, and for one image gemm.gemv on ordinary cores is faster.
"""

from __future__ import annotations

from pathlib import Path

from convbench.algorithms.base import Algorithm, Plan, Unsupported
from convbench.algorithms.gemm.shares import ceil, in_shares, sizes
from convbench.algorithms.gpu import MULTIPROCESSORS
from convbench.devices.base import Device
from convbench.problem import Problem

MOST_IMAGES = 32  # sums of all images lie in registers
PIECE, PIECE_BYTES = 4, 16  # floats that a lane copies at a time
WARPS, PARTS_K = 8, 2  # of a block: warps, and sixteens of filters
LANES = 4 * WARPS  # of a block along the depth
# Bytes of shared memory for what is under way: two blocks find room on an H200, one on any GPU since sm_80.
ROOM, RESIDENT = 98 << 10, 2
MOST_SHARES, LEAST_STEPS = 16, 4


def refuses(problem: Problem) -> str | None:
    """Layers that are no product of two matrices, too many images, rows that are not whole pieces."""
    if not problem.shape.is_matrix_product:
        return "not a fully connected layer"
    if problem.shape.n > MOST_IMAGES:
        return f"for up to {MOST_IMAGES} images"
    if (depth := sizes(problem)[0]) % PIECE:
        return f"a filter's {depth} weights are not whole pieces of {PIECE}"
    return None


def knobs_of(problem: Problem) -> dict[str, int]:
    """The constants of skinny.cu beside the shape."""
    depth, filters = sizes(problem)
    blocks = problem.shape.groups * ceil(filters, 16 * PARTS_K)
    steps = ceil(depth, PIECE * LANES)
    split = max(1, min(MOST_SHARES, MULTIPROCESSORS // blocks, steps // LEAST_STEPS))
    stages = ROOM // stage_bytes(problem)
    return {"WARPS": WARPS, "PARTS_K": PARTS_K, "STAGES": stages, "SPLIT": split, "RESIDENT": RESIDENT}


def stage_bytes(problem: Problem) -> int:
    """Of shared memory: a piece of each of a lane's rows."""
    return (2 * PARTS_K + ceil(problem.shape.n, 8)) * 32 * WARPS * PIECE_BYTES


def on_cuda(problem: Problem, device: Device) -> Plan:
    """The plan around skinny.cu. Raises Unsupported before sm_80."""
    if device.capability < 80:
        raise Unsupported("tensor cores of sm_80 or newer are needed")
    knobs, (depth, filters) = knobs_of(problem), sizes(problem)
    tile, images = 16 * PARTS_K, 8 * ceil(problem.shape.n, 8)
    tiles = problem.shape.groups * ceil(filters, tile)
    shared_bytes = max(knobs["STAGES"] * stage_bytes(problem), WARPS * images * tile * 4)  # the sums come in its place
    launch = (tiles * knobs["SPLIT"], 32 * WARPS)
    words = f"weights streamed, {tile} filters a block, numbers in two tf32 each"
    steps = ceil(depth, knobs["SPLIT"] * PIECE * LANES) * knobs["SPLIT"]
    flops = 3 * 2 * tiles * tile * images * steps * PIECE * LANES
    file = Path(__file__).with_suffix(".cu")
    return in_shares(problem, device, file, "skinny", knobs, launch, words, flops, shared_bytes)


ALGORITHMS = [
    Algorithm(
        "gemm.gemv.split3",
        on={"cuda": on_cuda},
        refuses=refuses,
        precisions={"cuda": ("float32",)},
        summary="gemm.gemv on tensor cores, for a few images: three products of two tf32 numbers each",
        needs={"cuda": "tensor cores of sm_80 or newer"},
    )
]
