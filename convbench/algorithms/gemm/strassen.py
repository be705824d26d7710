"""gemm.strassen: fully connected layers for many images, by Strassen's seven products of halves (CPU, float32).

Its products take seven eighths of the multiply-adds and read seven quarters of the weights: so they win where
images are many, and lose where few wait for the weights (gemm.gemv). The kernel is halves.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convbench.algorithms.base import Algorithm, Plan
from convbench.algorithms.gemm import gemv
from convbench.devices.base import Device
from convbench.problem import Problem

if TYPE_CHECKING:
    from convbench.vector.weights import Weights


def refuses(problem: Problem) -> str | None:
    """What gemm.gemv refuses, and a single image."""
    return gemv.refuses(problem) or ("one image cannot be halved" if problem.shape.n == 1 else None)


def half(count: int, unit: int = 1) -> int:
    """The larger half of a count, filled up to a multiple of a unit."""
    return -(-count // (2 * unit)) * unit


def on_cpu(problem: Problem, device: Device) -> Plan:
    """Right-hand sums in float32."""
    return in_halves(problem, device, 32)


def in_24_bits(problem: Problem, device: Device) -> Plan:
    """The same with 24 bits a number: a quarter less to read."""
    return in_halves(problem, device, 24)


def in_halves(problem: Problem, device: Device, bits: int) -> Plan:
    """The plan around halves.py's kernel."""
    from convbench.algorithms.fused.passing import passes_once
    from convbench.algorithms.gemm import halves
    from convbench.algorithms.gemm.cut import cut_of
    from convbench.vector.build import address_of
    from convbench.vector.distance import are_far_apart
    from convbench.vector.target import host
    from convbench.vector.team import KERNEL, Arguments, later, runner, tickets
    from convbench.vector.weights import BLOCK, LINE, Weights

    s, xp, weights = problem.shape, device.xp, Weights(bits)
    cut = cut_of(weights, half(s.n), host())
    depth, filters = s.c // s.groups * s.r * s.s, s.k // s.groups
    half_images, half_depth, half_filters = half(s.n), half(depth, cut.unit), half(filters, BLOCK)
    panels, chunks = half_filters // BLOCK, -(-half_depth // cut.depth)
    side = host().panels
    shared = gemv.shared_panels(gemv.SHARED_PANELS, panels, s.groups, device.threads, side)
    image_bytes = cut.row_bytes + halves.PRODUCTS * shared * LINE
    blocks = -(-half_images // max(1, int(gemv.CACHE_PART * device.core_cache_bytes) // image_bytes))
    images = -(-half_images // blocks)
    chunks_bytes = s.groups * halves.PRODUCTS * chunks * half_images * cut.row_bytes
    packed = device.empty((device.threads, chunks_bytes // 4), "float32")
    sums = device.empty((device.threads, halves.PRODUCTS * -(-shared // side) * side * images * BLOCK), "float32")
    counters = xp.zeros(2 * tickets(device.threads) // 8, xp.int64)
    product_bytes = weights.before(half_depth)
    cut = cut._replace(once=passes_once(s, device, s.groups * panels * halves.PRODUCTS * product_bytes))
    values = {
        "packed": packed, "packed_bytes": chunks_bytes, "sums": sums, "counters": counters,
        "images": s.n, "groups": s.groups, "depth": depth, "filters": filters,
        "half_images": half_images, "half_depth": half_depth, "half_filters": half_filters,
        "image_bytes": 4 * s.groups * depth, "out_image_bytes": 4 * s.k,
        "chunks": chunks, "panels": panels, "panel_bytes": halves.PRODUCTS * product_bytes,
        "product_bytes": product_bytes,
        "shared_panels": shared, "shares": -(-panels // shared),
        "block_images": images, "blocks": -(-half_images // images),
        "sums_bytes": sums.strides[0], "tickets": tickets(device.threads),
    }  # fmt: skip
    arguments = Arguments(xp, halves.FIELDS, values)
    workspace = arguments.bytes
    call = later(lambda: runner(address_of(KERNEL, halves.in_halves, cut), device.threads))

    def prepare(w: Any) -> Any:
        return right_hand_sums(device, w.reshape(s.groups, filters, depth), half_depth, half_filters, weights)

    def run(x: Any, u: Any, y: Any) -> None:
        for name, array in (("x", x), ("u", u), ("y", y)):
            arguments.point(name, array)
        counters[...] = 0
        arguments.set("own", are_far_apart(device.threads))
        call(arguments.address)

    additions = half_images * half_depth * 5 + half_images * half_filters * 8  # of LEFT, of RESULT
    flops = s.groups * (2 * halves.PRODUCTS * half_images * half_depth * half_filters + additions)
    note = f"seven products of halves; their weights of {bits} bits packed in panels of 16 filters"
    return Plan(run, prepare, workspace, note, flops)


def right_hand_sums(device: Device, w: Any, half_depth: int, half_filters: int, weights: Weights) -> Any:
    """U of w [groups, filters, depth]: the sums of quarters of W^T, in float64, rounded once."""
    from convbench.algorithms.gemm.halves import PRODUCTS, RIGHT
    from convbench.vector.weights import BLOCK

    xp, signs, panels = device.xp, device.xp.array(RIGHT, "float64"), half_filters // BLOCK
    groups, filters, _ = w.shape
    u, parts = weights.room(device, (groups, panels, PRODUCTS), half_depth)

    def one(item: int, thread: int) -> None:
        group, panel = divmod(item, panels)
        quarters = xp.zeros((2, 2, half_depth, BLOCK))  # by depth, by filter
        for column in range(2):
            first = column * half_filters + panel * BLOCK
            part = w[group, first : min(first + BLOCK, filters)].T
            for row in range(2):
                rows = part[row * half_depth : (row + 1) * half_depth]
                quarters[row, column, : rows.shape[0], : rows.shape[1]] = rows
        sums = (signs @ quarters.reshape(4, -1)).reshape(PRODUCTS, half_depth, BLOCK)
        weights.pack(xp, sums, parts[group, panel])

    device.parallel(one, groups * panels)
    return u


ALGORITHMS = [
    Algorithm(
        "gemm.strassen",
        on={"cpu": on_cpu},
        refuses=refuses,
        precisions={"cpu": ("float32",)},
        summary="fully connected layers alone, many images: seven products of halves instead of eight",
    ),
    Algorithm(
        "gemm.strassen.w24",
        on={"cpu": in_24_bits},
        refuses=refuses,
        precisions={"cpu": ("float32",)},
        summary="gemm.strassen with the sums of weights kept in 24 bits a number",
    ),
]
