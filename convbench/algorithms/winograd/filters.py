"""U = G g G^T of all filters in float64, the matrices as arrays, and what a row of results says of the tile.

Shared by the array code (tiles.py) and the kernels' plan (cuda.py).
"""

from __future__ import annotations

from typing import Any

from convbench.algorithms.winograd.transforms import Transform
from convbench.shapes import ConvShape

FILTERS_AT_ONCE = 1 << 15  # bounds the float64 copies while filters are prepared
MOST_TAPS = 5  # a piece of the filter; longer ones lose accuracy faster than they save multiplications


def transform_filters(xp: Any, pieces: Any, gh: Any, gw: Any, precision: str) -> Any:
    """G g G^T of all filters, [t^2, filters], one product (G x G) [t^2, r s] by [r s, filters] in float64."""
    flat = pieces.reshape(-1, gh.shape[1] * gw.shape[1])
    both = xp.kron(gh, gw)
    u = xp.empty((len(both), len(flat)), precision)
    for first in range(0, len(flat), FILTERS_AT_ONCE):
        u[:, first : first + FILTERS_AT_ONCE] = both @ flat[first : first + FILTERS_AT_ONCE].astype(xp.float64).T
    return u


def matrices(xp: Any, f: Transform, precision: str) -> tuple[Any, Any, Any]:
    """A^T and B^T in the problem's precision, G in float64."""
    at, g, bt = (xp.array([[float(v) for v in row] for row in matrix]) for matrix in (f.at, f.g, f.bt))
    return at.astype(precision), g, bt.astype(precision)


def note(m: int, shape: ConvShape, rows: Transform, columns: Transform) -> str:
    """What really ran, for the row: the tile, the polyphase, and whether anything is left of Winograd."""
    words = [f"F({rows.m}x{columns.m}, {rows.r}x{columns.r}), {rows.products * columns.products} products a tile"]
    if shape.stride != (1, 1) or shape.dilation != (1, 1):
        words.append("polyphase")
    if rows.products * columns.products >= rows.m * columns.m * rows.r * columns.r:
        words.append(
            "degenerate: saves no multiplication, a matrix product" if shape.is_matrix_product else "degenerate"
        )
    return "; ".join(words)
