"""The direct convolutions of the CPU in Numba; imported only when they are used."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange


@njit(parallel=True, cache=True)
def seven_loops(x: Any, w: Any, y: Any, geometry: Any, zero: Any) -> None:
    """y[n,k,p,q] = sum over c, r, s: the seven loops as they are written in textbooks; zero has the type of a sum."""
    (uh, uw), (ph, pw), (dh, dw) = geometry
    n_count, k_count, p_count, q_count = y.shape
    _, c_count, r_count, s_count = w.shape
    height, width = x.shape[2], x.shape[3]
    k_per_group = k_count // (x.shape[1] // c_count)
    for nk in prange(n_count * k_count):
        n, k = divmod(np.int64(nk), k_count)  # prange counts unsigned, and unsigned with signed would make floats
        first = k // k_per_group * c_count
        for p in range(p_count):
            for q in range(q_count):
                total = zero
                for c in range(c_count):
                    for r in range(r_count):
                        i = p * uh - ph + r * dh
                        if 0 <= i < height:
                            for s in range(s_count):
                                j = q * uw - pw + s * dw
                                if 0 <= j < width:
                                    total += x[n, first + c, i, j] * w[k, c, r, s]
                y[n, k, p, q] = total


@njit(parallel=True, cache=True)
def split_planes(x: Any, planes: Any, stride: Any, pad: Any) -> None:
    """Copy x [C, H, W] into its stride phases, planes [C, u_h, u_w, rows, columns], with a border of zeros."""
    (uh, uw), (ph, pw) = stride, pad
    rows, columns = planes.shape[3], planes.shape[4]
    height, width = x.shape[1], x.shape[2]
    for c in prange(planes.shape[0]):
        for a in range(uh):
            for i in range(rows):
                source = i * uh + a - ph
                for b in range(uw):
                    target = planes[c, a, b, i]
                    if source < 0 or source >= height:
                        target[:] = 0
                        continue
                    for j in range(columns):
                        column = j * uw + b - pw
                        target[j] = x[c, source, column] if 0 <= column < width else 0


@njit(parallel=True, cache=True, fastmath={"contract"})
def blocked(planes: Any, w: Any, offsets: Any, y: Any, sums: Any, pitch: int, first: int) -> None:
    """y [K, P, Q] of one image and group from flattened planes, for outputs laid out with `pitch` columns a row.

    Four filters by four taps at a time: sixteen multiply-adds for each four loads of x and four of the sums.
    w is packed [K / 4, taps / 4, 4 taps, 4 filters], offsets [taps / 4 * 4] says where each tap reads;
    sums [K / 4, 4, length] is scratch that fits the first-level cache; `first` is where this group's planes begin.
    """
    k_count, p_count, q_count = y.shape
    length = sums.shape[2]
    outputs = (p_count - 1) * pitch + q_count
    for block in prange(w.shape[0]):
        total = sums[block]
        for start in range(0, outputs, length):
            count = min(length, outputs - start)
            total[:, :count] = 0
            for t in range(w.shape[1]):
                v = w[block, t]
                x0 = planes[first + offsets[4 * t] + start :]
                x1 = planes[first + offsets[4 * t + 1] + start :]
                x2 = planes[first + offsets[4 * t + 2] + start :]
                x3 = planes[first + offsets[4 * t + 3] + start :]
                for i in range(count):
                    a, b, c, d = x0[i], x1[i], x2[i], x3[i]
                    total[0, i] += a * v[0, 0] + b * v[1, 0] + c * v[2, 0] + d * v[3, 0]
                    total[1, i] += a * v[0, 1] + b * v[1, 1] + c * v[2, 1] + d * v[3, 1]
                    total[2, i] += a * v[0, 2] + b * v[1, 2] + c * v[2, 2] + d * v[3, 2]
                    total[3, i] += a * v[0, 3] + b * v[1, 3] + c * v[2, 3] + d * v[3, 3]
            for lane in range(min(4, k_count - 4 * np.int64(block))):
                for o in range(start, start + count):
                    p, q = divmod(o, pitch)
                    if q < q_count:
                        y[4 * np.int64(block) + lane, p, q] = total[lane, o - start]
