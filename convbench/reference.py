"""The float64 truth, and how far an answer is from it.

The reference adds one filter tap at a time, y += W[:, :, r, s] X[:, shifted by (r, s)], in float64: no stretching, no
transforms and no code in common with the algorithms it judges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convbench.shapes import ConvShape

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

# Above this many FLOPs the reference computes the first and the last image whole, and spot checks the others.
WHOLE_FLOPS = 8e9
SPOTS = 2048
FEW_OUTPUTS = 64  # a sum of so few may cancel by chance, and honest rounding would look large beside it


@dataclass(frozen=True)
class Truth:
    """The reference on some images whole (`images`: values [images, K, P, Q]) and on single elements (`spots`)."""

    images: tuple[int, ...]
    whole: Array
    spots: tuple[Array, Array, Array, Array]
    spot_values: Array
    terms: float = 0.0  # the norm that random signs would give the outputs; 0 where there are more than FEW_OUTPUTS


@dataclass(frozen=True)
class Judgement:
    """error = ||y - ref|| / ||ref||, error_max = max |y - ref| / max |ref|, and elements that are not finite."""

    error: float
    error_max: float
    unwritten: int


def convolve(x: Array, w: Array, shape: ConvShape) -> Array:
    """y [N, K, P, Q] in float64 of x [N, C, H, W] and w [K, C / groups, R, S]."""
    import numpy as np

    n, g, p, q = x.shape[0], shape.groups, shape.p, shape.q
    (uh, uw), (ph, pw), (dh, dw) = shape.stride, shape.pad, shape.dilation
    x64 = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    w64 = w.astype(np.float64).reshape(g, shape.k // g, shape.c // g, shape.r, shape.s)
    y = np.zeros((n, g, shape.k // g, p * q))
    for r in range(shape.r):
        for s in range(shape.s):
            shifted = x64[:, :, r * dh : r * dh + (p - 1) * uh + 1 : uh, s * dw : s * dw + (q - 1) * uw + 1 : uw]
            y += w64[:, :, :, r, s] @ shifted.reshape(n, g, shape.c // g, p * q)
    return y.reshape(n, shape.k, p, q)


def truth(x: Array, w: Array, shape: ConvShape, seed: int = 0) -> Truth:
    """The reference for a problem: whole where that is affordable, else first and last image and SPOTS elements."""
    import numpy as np

    if shape.flops <= WHOLE_FLOPS or shape.n <= 2:
        images: tuple[int, ...] = tuple(range(shape.n))
        count = 0
    else:
        images, count = (0, shape.n - 1), SPOTS
    rng = np.random.default_rng(seed)
    spots = tuple(rng.integers(0, size, count) for size in shape.y_shape)
    values = np.array([_one_output(x, w, shape, *(int(axis[i]) for axis in spots)) for i in range(count)])
    terms = float(np.sqrt(convolve(x**2, w**2, shape).sum())) if math.prod(shape.y_shape) <= FEW_OUTPUTS else 0.0
    return Truth(images, convolve(x[list(images)], w, shape), spots, values, terms)  # type: ignore[arg-type]


def _one_output(x: Array, w: Array, shape: ConvShape, n: int, k: int, p: int, q: int) -> float:
    """One element of y, by its definition."""
    import numpy as np

    channels = shape.c // shape.groups
    first = k // (shape.k // shape.groups) * channels
    rows = p * shape.stride[0] - shape.pad[0] + shape.dilation[0] * np.arange(shape.r)
    columns = q * shape.stride[1] - shape.pad[1] + shape.dilation[1] * np.arange(shape.s)
    r, s = np.flatnonzero((rows >= 0) & (rows < shape.h)), np.flatnonzero((columns >= 0) & (columns < shape.w))
    window = x[n, first : first + channels][:, rows[r]][:, :, columns[s]].astype(np.float64)
    return float((window * w[k][:, r][:, :, s]).sum())


def judge(y: Array, reference: Truth) -> Judgement:
    """Compare y [N, K, P, Q] with the reference; an element that is not finite counts as unwritten or overflowed."""
    import numpy as np

    unwritten = int(y.size - np.count_nonzero(np.isfinite(y)))
    got = np.concatenate([y[list(reference.images)].ravel(), y[reference.spots]]).astype(np.float64)
    want = np.concatenate([reference.whole.ravel(), reference.spot_values])
    if unwritten:
        return Judgement(float("nan"), float("nan"), unwritten)
    difference = np.abs(got - want)
    scale, norm = float(np.abs(want).max()), float(np.linalg.norm(want))
    scale, norm = max(scale, reference.terms / math.sqrt(want.size)), max(norm, reference.terms)
    if norm == 0:  # every window fell on padding: the only right answer is zero
        wrong = float(difference.max())
        return Judgement(0.0 if wrong == 0 else float("inf"), 0.0 if wrong == 0 else float("inf"), 0)
    return Judgement(float(np.linalg.norm(difference) / norm), float(difference.max() / scale), 0)
