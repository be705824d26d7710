"""Fully connected layers on tensor cores for some images: gemm.gemv in tf32 and float16, and gemm.gemv.split3.

skinny.cu says how: the weights are streamed in the order that products want them. gemm.gemv.split3 is for float32: each
number as two tf32 numbers, by which 2^-22 of it is lost. For one image gemm.gemv on ordinary cores is faster.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from convbench.algorithms.base import Algorithm, Plan, Unsupported
from convbench.algorithms.gemm.shares import ceil, in_shares, sizes
from convbench.algorithms.gpu import MULTIPROCESSORS
from convbench.devices.base import Device
from convbench.problem import Problem

CAPABILITY = 80  # the least that has what skinny.cu needs
MOST_IMAGES = 32  # sums of all images lie in registers
PIECE_BYTES = 16  # that a lane copies at a time
SIXTEEN, EIGHT = 16, 8  # filters and images of a product
ROOM = 98 << 10  # bytes for what is under way: two blocks find it on an H200, one on any GPU since sm_80
# Others, and one block with twice the room, were level or slower on an H100, but for fc8's 1000 filters at 8 and 16
# images, where one sixteen a block, in one share, took up to 12 % less.
WARPS, SIXTEENS, RESIDENT = 8, 2, 2  # of Cut
MOST_SHARES, LEAST_STEPS = 16, 4


@dataclass(frozen=True)
class Cut:
    """What a block of skinny.cu computes: sixteens of filters, whose depth its warps share out; and shares of it."""

    problem: Problem
    warps: int
    sixteens: int
    shares: int
    stages: int
    resident: int  # blocks a multiprocessor is to hold

    @property
    def terms(self) -> int:
        """Products for one of float32."""
        return 3 if self.problem.precision == "float32" else 1

    @property
    def tiles(self) -> int:
        """Blocks along the filters of all groups."""
        return self.problem.shape.groups * ceil(sizes(self.problem)[1], SIXTEEN * self.sixteens)

    @property
    def a_step(self) -> int:
        """Numbers along the depth that a block's lanes take at a time."""
        return piece(self.problem) * 4 * self.warps

    @property
    def stage_bytes(self) -> int:
        """Of shared memory: a piece of each of a lane's rows, filters and images."""
        return (2 * self.sixteens + ceil(self.problem.shape.n, EIGHT)) * 32 * self.warps * PIECE_BYTES

    @property
    def shared_bytes(self) -> int:
        """Of a block: what is under way, and the sums that come in its place."""
        images = EIGHT * ceil(self.problem.shape.n, EIGHT)
        return max(self.stages * self.stage_bytes, 4 * self.warps * images * SIXTEEN * self.sixteens)

    @property
    def flops(self) -> int:
        """Executed."""
        images = EIGHT * ceil(self.problem.shape.n, EIGHT)
        depth = ceil(sizes(self.problem)[0], self.shares * self.a_step) * self.shares * self.a_step
        return 2 * self.terms * self.tiles * SIXTEEN * self.sixteens * images * depth

    @property
    def knobs(self) -> dict[str, int]:
        """The constants of skinny.cu beside the shape."""
        return {
            "TERMS": self.terms, "WARPS": self.warps, "PARTS_K": self.sixteens, "STAGES": self.stages,
            "SPLIT": self.shares, "RESIDENT": self.resident,
        }  # fmt: skip


def piece(problem: Problem) -> int:
    """Numbers in PIECE_BYTES."""
    return PIECE_BYTES // problem.number.bytes


def refuses(problem: Problem) -> str | None:
    """Layers that are no product of two matrices, too many images, rows that are not whole pieces."""
    if not problem.shape.is_matrix_product:
        return "not a fully connected layer"
    if problem.shape.n > MOST_IMAGES:
        return f"for up to {MOST_IMAGES} images"
    if (depth := sizes(problem)[0]) % piece(problem):
        return f"a filter's {depth} weights are not whole pieces of {piece(problem)}"
    return None


def cut_of(problem: Problem) -> Cut:
    """As many shares as multiprocessors ask for, and as many stages as ROOM holds."""
    one = Cut(problem, WARPS, SIXTEENS, 1, 1, RESIDENT)
    steps = ceil(sizes(problem)[0], one.a_step)
    shares = max(1, min(MOST_SHARES, MULTIPROCESSORS // one.tiles, steps // LEAST_STEPS))
    return replace(one, shares=shares, stages=ROOM // one.stage_bytes)


def plan_of(problem: Problem, device: Device, cut: Cut) -> Plan:
    """The plan around skinny.cu. Raises Unsupported before sm_80."""
    if device.capability < CAPABILITY:
        raise Unsupported("tensor cores of sm_80 or newer are needed")
    launch = (cut.tiles * cut.shares, 32 * cut.warps)
    words = f"weights streamed to tensor cores, {SIXTEEN * cut.sixteens} filters a block"
    if cut.terms > 1:
        words += ", numbers in two tf32 each"
    file = Path(__file__).with_suffix(".cu")
    return in_shares(problem, device, file, "skinny", cut.knobs, launch, words, cut.flops, cut.shared_bytes)


def on_cuda(problem: Problem, device: Device) -> Plan:
    """The plan for any number of images that is not refused."""
    return plan_of(problem, device, cut_of(problem))


ALGORITHMS = [
    Algorithm(
        "gemm.gemv.split3",
        on={"cuda": on_cuda},
        refuses=refuses,
        precisions={"cuda": ("float32",)},
        summary="gemm.gemv on tensor cores, for some images: three products of two tf32 numbers each",
        needs={"cuda": "tensor cores of sm_80 or newer"},
    )
]
