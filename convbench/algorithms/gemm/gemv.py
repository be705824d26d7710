"""gemm.gemv: fully connected layers, Y [N, K] = X [N, C R S] W^T, as fast as the weights can be read.

A layer whose filter covers the whole input has nothing to stretch. At one image each weight is used once: the layer
takes what reading W takes. The CPU's kernel is stream.py's, on weights packed ahead; on CUDA the number of images
decides between gemv.cu, split.cu and cuBLAS (split.py).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from convbench.algorithms.base import Algorithm, Plan
from convbench.algorithms.gemm.im2col import fully_connected
from convbench.algorithms.gemm.split import fitting
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.vector.target import host

if TYPE_CHECKING:
    from convbench.algorithms.gemm.cut import Cut

SHARED_PANELS = 16  # at most, that use a chunk of X after one another, where X is too large for the first cache
SHARES_EACH = 4  # parts of the work a thread gets at least, so that all end at about the same time
CACHE_PART = 0.5  # of the second-level cache, for a chunk of X and the sums of the panels that share it


def refuses(problem: Problem) -> str | None:
    """A layer whose filter does not cover the whole input, or that has padding, is not this algorithm's."""
    return None if problem.shape.is_matrix_product else "not a fully connected layer"


def on_cpu(problem: Problem, device: Device) -> Plan:
    """Own vector code in float32; BLAS in float64."""
    if problem.precision != "float32":
        return fully_connected(problem, device)
    return streaming(problem, device)


def in_24_bits(problem: Problem, device: Device) -> Plan:
    """The same with weights of 24 bits: a quarter less to read."""
    return streaming(problem, device, 24)


def shared_panels(most: int, panels: int, groups: int, threads: int, side: int, each: int = SHARES_EACH) -> int:
    """How many of a group's panels share a chunk of X: as many as keep the busiest thread's work least.

    At least those that go side by side: alone, a panel takes as long as with another. each: parts for each thread.
    """
    most = max(side, min(most, panels * groups // (each * threads)))

    def busiest(shared: int) -> int:
        parts = -(-panels // shared) * groups
        return -(-parts // threads) * -(-shared // side) * side

    return min(range(1, most + 1), key=lambda shared: (busiest(shared), -shared))


def packed_weights(device: Device, w: Any, filled: int, cut: Cut, shared: int) -> Any:
    """W [groups, filters, D] in panels of 16 filters, D filled up with zeros to `filled`.

    shared: panels that use a chunk of X after one another, and lie so where weights stream (stream.py).
    """
    from convbench.vector.weights import BLOCK

    groups, filters, depth = w.shape
    panels, weights, xp = -(-filters // BLOCK), cut.weights, device.xp
    u, parts = weights.room(device, (groups, panels), filled)
    ends = [weights.before(min(k, filled)) for k in range(0, filled + cut.depth, cut.depth)]

    def some(item: int, thread: int) -> None:
        group, share = divmod(item, -(-panels // shared))
        packed = parts[group, share * shared : (share + 1) * shared]
        for panel, into in enumerate(packed, share * shared):
            part = w[group, panel * BLOCK : (panel + 1) * BLOCK]
            block = xp.zeros((filled, BLOCK), part.dtype)
            block[:depth, : len(part)] = part.T
            weights.pack(xp, block, into)
        if cut.streams:
            pieces = (packed[:, begin:end].ravel() for begin, end in pairwise([0, *ends]))
            packed[...] = xp.concatenate(list(pieces)).reshape(packed.shape)

    device.parallel(some, groups * -(-panels // shared))
    return u


def streaming(problem: Problem, device: Device, bits: int = 32, in_pairs: bool = False) -> Plan:
    """The plan around stream.py's kernel, with so many bits a weight, in pairs or not."""
    from convbench.algorithms.fused.passing import passes_once
    from convbench.algorithms.gemm import stream
    from convbench.algorithms.gemm.cut import STREAM_PANELS, STREAM_SHARES, cut_of
    from convbench.vector.build import address_of
    from convbench.vector.distance import are_far_apart
    from convbench.vector.team import KERNEL, Arguments, later, runner, tickets
    from convbench.vector.weights import BLOCK, LINE, Weights

    s, xp, weights = problem.shape, device.xp, Weights(bits, in_pairs)
    depth, filters = s.c // s.groups * s.r * s.s, s.k // s.groups
    cut = cut_of(weights, s.n, host())
    weights = cut.weights
    panels, chunks = -(-filters // BLOCK), -(-depth // cut.depth)
    filled = -(-depth // cut.unit) * cut.unit
    panel_bytes = weights.before(filled)
    cut = cut._replace(once=passes_once(s, device, s.groups * panels * panel_bytes))
    together = stream.together(host(), s.n, weights)
    all_rows = s.n if together > 1 or cut.streams else 0
    beside = 1 if all_rows else host().panels
    most_shared = STREAM_PANELS if cut.streams else together if together > 1 else SHARED_PANELS
    each = STREAM_SHARES if cut.streams else SHARES_EACH
    shared = shared_panels(most_shared, panels, s.groups, device.threads, beside, each)
    most = all_rows or max(1, int(CACHE_PART * device.core_cache_bytes) // (cut.row_bytes + shared * LINE))
    blocks = -(-s.n // most)
    images = -(-s.n // blocks)
    packed = device.empty((device.threads, s.groups * chunks * s.n * cut.row_bytes // 4), "float32")
    sums = device.empty((device.threads, -(-shared // beside) * beside * images * BLOCK), "float32")
    counters = xp.zeros(2 * tickets(device.threads) // 8, xp.int64)
    values = {
        "packed": packed, "packed_bytes": packed.strides[0], "sums": sums, "counters": counters,
        "images": s.n, "groups": s.groups, "depth": depth, "filters": filters,
        "image_bytes": 4 * s.groups * depth, "out_image_bytes": 4 * s.k,
        "chunks": chunks, "panels": panels, "panel_bytes": panel_bytes,
        "shared_panels": shared, "shares": -(-panels // shared),
        "block_images": images, "blocks": -(-s.n // images),
        "sums_bytes": sums.strides[0], "tickets": tickets(device.threads),
    }  # fmt: skip
    arguments = Arguments(xp, stream.FIELDS, values)
    workspace = arguments.bytes
    call = later(lambda: runner(address_of(KERNEL, stream.stream, cut, all_rows), device.threads))

    def prepare(w: Any) -> Any:
        return packed_weights(device, w.reshape(s.groups, filters, depth), filled, cut, shared)

    def run(x: Any, u: Any, y: Any) -> None:
        for name, array in (("x", x), ("u", u), ("y", y)):
            arguments.point(name, array)
        counters[...] = 0
        arguments.set("own", cut.streams or are_far_apart(device.threads))
        call(arguments.address)

    note = f"weights of {bits} bits packed in panels of 16 filters" + "; products in pairs" * in_pairs
    return Plan(run, prepare, workspace, note, 2 * s.n * s.groups * panels * BLOCK * filled)


ALGORITHMS = [
    Algorithm(
        "gemm.gemv",
        on={"cpu": on_cpu, "cuda": fitting},
        refuses=refuses,
        precisions={"cuda": ("float32", "float64", "tf32", "float16")},
        summary="fully connected layers alone: the weights read once, in order",
    ),
    Algorithm(
        "gemm.gemv.w24",
        on={"cpu": in_24_bits},
        refuses=refuses,
        precisions={"cpu": ("float32",)},
        summary="gemm.gemv with the weights kept in 24 bits a number",
    ),
]
