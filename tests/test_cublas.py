"""Products: what is asked of cuBLAS, by a stand-in that does on the CPU what cuBLAS documents, column by column."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convbench.devices.cublas import (
    COMPUTE_32F,
    COMPUTE_32F_FAST_TF32,
    COMPUTE_64F,
    DATA_TYPES,
    TRANSPOSED,
    Products,
    layout,
)

NAMES = {number: name for name, number in DATA_TYPES.items()}


class OnDevice:
    """A NumPy array with as much of CuPy's interface as Products may use."""

    def __init__(self, array: Any) -> None:
        self.array, self.data = array, SimpleNamespace(ptr=array.ctypes.data)
        self.shape, self.strides, self.dtype, self.itemsize = array.shape, array.strides, array.dtype, array.itemsize


class Blas:
    """gemmStridedBatchedEx as documented: C = alpha op(A) op(B) + beta C, every matrix column after column."""

    def __init__(self) -> None:
        self.compute = 0

    def __call__(
        self, handle: Any, op_a: int, op_b: int, m: int, n: int, k: int, alpha: int, a: int, a_type: int, lda: int,
        a_step: int, b: int, b_type: int, ldb: int, b_step: int, beta: int, c: int, c_type: int, ldc: int, c_step: int,
        count: int, compute: int, algo: int,
    ) -> None:  # fmt: skip
        assert handle == "handle"
        assert algo == -1
        self.compute = compute
        scalar = {COMPUTE_64F: "float64"}.get(compute, "float32")
        if NAMES[c_type].startswith("complex"):
            scalar = NAMES[c_type]
        size = np.dtype(scalar).itemsize
        one, zero = (np.frombuffer(ctypes.string_at(pointer, size), scalar)[0] for pointer in (alpha, beta))
        assert (one, zero) == (1, 0)

        def matrix(pointer: int, kind: int, lead: int, rows: int, columns: int) -> Any:
            assert lead >= rows, "a leading dimension is at least the column's length"
            dtype = np.dtype(NAMES[kind])
            length = (lead * (columns - 1) + rows) * dtype.itemsize
            flat = np.ctypeslib.as_array((ctypes.c_char * length).from_address(pointer)).view(dtype)
            steps = (dtype.itemsize, lead * dtype.itemsize)
            return np.lib.stride_tricks.as_strided(flat, (rows, columns), steps)

        for i in range(count):
            left, right = (
                matrix(pointer + i * step * np.dtype(NAMES[kind]).itemsize, kind, lead, *(sizes[::-1] if op else sizes))
                for pointer, kind, lead, step, op, sizes in (
                    (a, a_type, lda, a_step, op_a, (m, k)), (b, b_type, ldb, b_step, op_b, (k, n)),
                )
            )  # fmt: skip
            wide = np.result_type(NAMES[a_type], scalar)
            product = (left.T if op_a else left).astype(wide) @ (right.T if op_b else right).astype(wide)
            matrix(c + i * c_step * np.dtype(NAMES[c_type]).itemsize, c_type, ldc, m, n)[...] = product


def random(rng: Any, shape: tuple[int, ...], name: str) -> Any:
    values = rng.standard_normal(shape)
    return (values + 1j * rng.standard_normal(shape) if name.startswith("complex") else values).astype(name)


def laid_out(values: Any, transposed: bool, pitch: int) -> Any:
    """The same matrices with their columns contiguous, or with rows that are `pitch` elements longer than they are."""
    if transposed:
        values = values.swapaxes(-1, -2)
    wide = np.full((*values.shape[:-1], values.shape[-1] + pitch), np.nan, values.dtype)
    wide[..., : values.shape[-1]] = values
    wide = wide[..., : values.shape[-1]]
    return wide.swapaxes(-1, -2) if transposed else wide


@given(
    st.tuples(*[st.integers(1, 5)] * 4),
    st.sampled_from(["float16", "float32", "float64", "complex64", "complex128"]),
    st.tuples(st.booleans(), st.booleans()),
    st.tuples(*[st.integers(0, 2)] * 3),
    st.tuples(st.booleans(), st.booleans()),
)
def test_products_are_those_of_numpy(
    sizes: tuple[int, int, int, int], name: str, transposed: tuple[bool, bool], pitches: tuple[int, int, int],
    single: tuple[bool, bool],
) -> None:  # fmt: skip
    count, rows, depth, columns = sizes
    rng = np.random.default_rng(sum(sizes))
    a = random(rng, (1 if single[0] else count, rows, depth), name)
    b = random(rng, (1 if single[1] else count, depth, columns), name)
    out = laid_out(np.full((count, rows, columns), np.nan, name), False, pitches[2])
    routine = Blas()
    given_a, given_b = laid_out(a, transposed[0], pitches[0]), laid_out(b, transposed[1], pitches[1])
    Products(routine, "handle")(OnDevice(given_a), OnDevice(given_b), OnDevice(out))
    wide = np.result_type(name, np.float32)
    exact = a.astype(wide) @ b.astype(wide)
    assert np.allclose(out, exact, rtol=0, atol=2e-2 if name == "float16" else 1e-4)
    assert routine.compute == (COMPUTE_64F if name in ("float64", "complex128") else COMPUTE_32F)


def test_halves_are_summed_into_float32_where_out_is() -> None:
    a, b = np.full((2, 1, 3000), 1.0, np.float16), np.full((2, 3000, 1), 1.0, np.float16)
    out = np.zeros((2, 1, 1), np.float32)
    Products(Blas(), "handle")(OnDevice(a), OnDevice(b), OnDevice(out))
    assert (out == 3000).all()


def test_tf32_is_asked_for_by_name_only() -> None:
    a = OnDevice(np.ones((2, 2), np.float32))
    routine = Blas()
    products = Products(routine, "handle")
    products(a, a, OnDevice(np.zeros((2, 2), np.float32)))
    assert routine.compute == COMPUTE_32F
    products(a, a, OnDevice(np.zeros((2, 2), np.float32)), tf32=True)
    assert routine.compute == COMPUTE_32F_FAST_TF32


def test_what_would_have_to_be_copied_is_refused() -> None:
    products = Products(Blas(), "handle")
    square = OnDevice(np.ones((4, 4), np.float32))
    sparse = OnDevice(np.ones((4, 8), np.float32)[:, ::2])
    with pytest.raises(ValueError, match="neither the rows nor the columns"):
        products(square, sparse, square)
    with pytest.raises(ValueError, match="rows of out"):
        products(square, square, OnDevice(np.ones((4, 4), np.float32).T))
    with pytest.raises(ValueError, match="does not go into"):
        products(square, OnDevice(np.ones((3, 4), np.float32)), square)
    with pytest.raises(ValueError, match="does not go into"):
        products(square, OnDevice(np.ones((4, 4), np.float64)), square)
    stack = OnDevice(np.ones((3, 4, 4), np.float32))
    with pytest.raises(ValueError, match="does not go into 2 products"):
        products(stack, square, OnDevice(np.ones((2, 4, 4), np.float32)))
    assert layout(OnDevice(np.ones((4, 6)).T))[0] == TRANSPOSED
