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


@njit(parallel=True, cache=True, fastmath={"contract", "reassoc", "nsz"})
def dot_products(x: Any, w: Any, y: Any, zero: Any) -> None:
    """y [N, K] = x [N, D] w [K, D]^T, where a filter covers the whole image and nothing slides.

    Four filters by four images at a time: sixteen multiply-adds for eight loads; images left over go one by one.
    Every filter is read once, which is what bounds the time for few images.
    """
    n_count, k_count, depth = x.shape[0], w.shape[0], x.shape[1]
    for block in prange((k_count + 3) // 4):
        k = 4 * np.int64(block)
        k1, k2, k3 = min(k + 1, k_count - 1), min(k + 2, k_count - 1), min(k + 3, k_count - 1)
        w0, w1, w2, w3 = w[k], w[k1], w[k2], w[k3]
        together = n_count // 4 * 4
        for n in range(0, together, 4):
            x0, x1, x2, x3 = x[n], x[n + 1], x[n + 2], x[n + 3]
            s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = zero
            s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = zero
            for t in range(depth):
                a, b, c, d = w0[t], w1[t], w2[t], w3[t]
                v0, v1, v2, v3 = x0[t], x1[t], x2[t], x3[t]
                s00 += v0 * a
                s01 += v0 * b
                s02 += v0 * c
                s03 += v0 * d
                s10 += v1 * a
                s11 += v1 * b
                s12 += v1 * c
                s13 += v1 * d
                s20 += v2 * a
                s21 += v2 * b
                s22 += v2 * c
                s23 += v2 * d
                s30 += v3 * a
                s31 += v3 * b
                s32 += v3 * c
                s33 += v3 * d
            y[n, k], y[n, k1], y[n, k2], y[n, k3] = s00, s01, s02, s03
            y[n + 1, k], y[n + 1, k1], y[n + 1, k2], y[n + 1, k3] = s10, s11, s12, s13
            y[n + 2, k], y[n + 2, k1], y[n + 2, k2], y[n + 2, k3] = s20, s21, s22, s23
            y[n + 3, k], y[n + 3, k1], y[n + 3, k2], y[n + 3, k3] = s30, s31, s32, s33
        for n in range(together, n_count):
            x0 = x[n]
            s0 = s1 = s2 = s3 = zero
            for t in range(depth):
                v = x0[t]
                s0 += v * w0[t]
                s1 += v * w1[t]
                s2 += v * w2[t]
                s3 += v * w3[t]
            y[n, k], y[n, k1], y[n, k2], y[n, k3] = s0, s1, s2, s3
