"""Products of stacks of matrices by cuBLAS, one call whatever the type, with the arithmetic asked for and no other.

out[i] = a[i] b[i] row by row is, column by column as cuBLAS counts, out[i]^T = b[i]^T a[i]^T. Nothing is copied or
converted on the way: an operand that cuBLAS cannot read where it lies is an error.
"""

from __future__ import annotations

from typing import Any

# Of cuBLAS's library_types.h and cublas_api.h.
DATA_TYPES = {"float16": 2, "float32": 0, "float64": 1, "complex64": 4, "complex128": 5}
COMPUTE_32F, COMPUTE_64F, COMPUTE_32F_FAST_TF32 = 68, 70, 77
PLAIN, TRANSPOSED = 0, 1
DEFAULT_ALGORITHM = -1


def layout(matrices: Any) -> tuple[int, int]:
    """How a stack's matrices lie: rows one after another (PLAIN) or columns (TRANSPOSED), and elements between two.

    Raises ValueError where neither rows nor columns are contiguous.
    """
    (rows, columns), size = matrices.shape[-2:], matrices.itemsize
    row, column = matrices.strides[-2:]
    if (column == size or columns == 1) and (row >= columns * size or rows == 1):
        return PLAIN, max(row // size if rows > 1 else columns, 1)
    if (row == size or rows == 1) and (column >= rows * size or columns == 1):
        return TRANSPOSED, max(column // size if columns > 1 else rows, 1)
    raise ValueError(
        f"neither the rows nor the columns of {matrices.shape} with strides {matrices.strides} are contiguous"
    )


def step(matrices: Any, count: int) -> int:
    """Elements from one matrix of a stack to the next; 0 for one matrix that serves all `count`."""
    if len(matrices.shape) == 2 or matrices.shape[0] == 1:
        return 0
    if matrices.shape[0] != count or len(matrices.shape) != 3:
        raise ValueError(f"a stack of {matrices.shape} does not go into {count} products")
    return int(matrices.strides[0] // matrices.itemsize)


class Products:
    """The routine (cupy_backends.cuda.libs.cublas.gemmStridedBatchedEx) with the handle it is to use."""

    def __init__(self, routine: Any, handle: Any) -> None:
        import numpy as np

        self._routine, self._handle = routine, handle
        # alpha and beta, read by cuBLAS when it is called; in the type it computes in
        self._factors = {
            name: (np.ones((), name), np.zeros((), name)) for name in ("float32", "float64", "complex64", "complex128")
        }

    def __call__(self, a: Any, b: Any, out: Any, tf32: bool = False) -> Any:
        """out[i] = a[i] b[i]; out [i, rows, columns] has contiguous rows. Sums are float32 or wider.

        a and b [i, ...] may be one matrix for all i, and may be transposed views. tf32 allows float32 operands to be
        rounded to 10 bits. Raises ValueError for shapes, types or strides that do not fit.
        """
        count, rows, columns = out.shape if len(out.shape) == 3 else (1, *out.shape)
        depth = a.shape[-1]
        if a.shape[-2:] != (rows, depth) or b.shape[-2:] != (depth, columns) or a.dtype != b.dtype:
            raise ValueError(f"{a.dtype} {a.shape} times {b.dtype} {b.shape} does not go into {out.shape}")
        (op_a, lead_a), (op_b, lead_b), (op_out, lead_out) = layout(a), layout(b), layout(out)
        if op_out != PLAIN:
            raise ValueError(f"the rows of out, {out.shape} with strides {out.strides}, are not contiguous")
        computed = out.dtype.name if out.dtype.name != "float16" else "float32"
        compute = COMPUTE_64F if computed in ("float64", "complex128") else COMPUTE_32F
        alpha, beta = self._factors[computed]
        self._routine(
            self._handle, op_b, op_a, columns, rows, depth, alpha.ctypes.data,
            b.data.ptr, DATA_TYPES[b.dtype.name], lead_b, step(b, count),
            a.data.ptr, DATA_TYPES[a.dtype.name], lead_a, step(a, count), beta.ctypes.data,
            out.data.ptr, DATA_TYPES[out.dtype.name], lead_out, rows * lead_out if count == 1 else step(out, count),
            count, COMPUTE_32F_FAST_TF32 if tf32 else compute, DEFAULT_ALGORITHM,
        )  # fmt: skip
        return out
