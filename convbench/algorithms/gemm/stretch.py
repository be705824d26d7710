"""im2col in Numba: stretch receptive fields into the columns of a matrix; imported only when it is used."""

from __future__ import annotations

from typing import Any

from numba import njit


@njit(nogil=True, cache=True)
def stretch_row(x: Any, row: Any, t: int, first: int, geometry: Any) -> None:
    """Row t = (c R + r) S + s of the matrix, for the output pixels first .. first + len(row) - 1 (row by row).

    x is one image and group [C, H, W]; geometry is the integers R, S, Q, then stride, pad, dilation (height, width
    each).
    """
    r_count, s_count, q_count, uh, uw, ph, pw, dh, dw = (
        geometry[0], geometry[1], geometry[2], geometry[3], geometry[4], geometry[5], geometry[6], geometry[7],
        geometry[8]
    )  # fmt: skip
    c, rest = divmod(t, r_count * s_count)
    r, s = divmod(rest, s_count)
    height, width = x.shape[1], x.shape[2]
    pixel, end = 0, len(row)
    while pixel < end:
        p, q = divmod(first + pixel, q_count)
        run = min(q_count - q, end - pixel)  # pixels left in this output row
        i, j = p * uh - ph + r * dh, q * uw - pw + s * dw
        if i < 0 or i >= height:
            row[pixel : pixel + run] = 0
        elif j >= 0 and j + (run - 1) * uw < width:
            for step in range(run):
                row[pixel + step] = x[c, i, j + step * uw]
        else:
            for step in range(run):
                column = j + step * uw
                row[pixel + step] = x[c, i, column] if 0 <= column < width else 0
        pixel += run


@njit(nogil=True, cache=True)
def stretch_panel(x: Any, matrix: Any, first: int, geometry: Any) -> None:
    """All rows, on the calling thread."""
    for t in range(matrix.shape[0]):
        stretch_row(x, matrix[t], t, first, geometry)


@njit(nogil=True, cache=True)
def stretch_rows(x: Any, matrix: Any, first: int, last: int, geometry: Any) -> None:
    """Rows first .. last - 1, of all pixels, on the calling thread."""
    for t in range(first, last):
        stretch_row(x, matrix[t], t, 0, geometry)
