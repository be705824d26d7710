"""Numba's threads, lent to a compiled kernel: kernel(arguments, thread, threads), once on each thread."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic


@intrinsic
def _call(typing: Any, address: Any, arguments: Any, thread: Any, threads: Any) -> Any:
    """Call the function at `address` with the address of its arguments, a thread's number, and that of threads."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 3)
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


@njit("void(int64, int64, int64)", parallel=True, nogil=True, cache=True)
def on_threads(address: int, arguments: int, threads: int) -> None:
    """kernel(arguments, thread, threads) for each thread below `threads`, at once where there are that many."""
    for thread in prange(threads):
        _call(address, arguments, thread, threads)


@njit("void(int64, int64, int64)", nogil=True, cache=True)
def on_one(address: int, arguments: int, threads: int) -> None:
    """The same, one after another on the calling thread."""
    for thread in range(threads):
        _call(address, arguments, thread, threads)
