"""Arrays copied to where the page after (or before) them is not mapped, so that a kernel that leaves one is stopped."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np

PAGE = mmap.PAGESIZE
GUARD_BYTES = 64 << 20  # not mapped, on each side of an array: address space costs nothing
ALIGNMENT = 16  # of which an array's place in its allocation is kept: the widest access
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_NONE, _READ, _READ_WRITE, _PRIVATE_ANONYMOUS = 0, 1, 3, 0x22


class Region(ctypes.Structure):
    """struct Region of machine.hpp."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("begin", "end", "mapped_begin", "mapped_end")),
        *((name, ctypes.c_bool) for name in ("read_only", "hidden")),
    ]


def address_of(array: Any) -> int:
    """Where its first number lies."""
    return int(array.__array_interface__["data"][0])


def _offset_in_allocation(array: Any) -> int:
    """Bytes from the start of the memory that an array is a view of: a GPU's allocations are aligned, views are not."""
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    return address_of(array) - address_of(owner)


class Guarded:
    """A copy of an array that ends (or starts) at an unmapped page; the bytes around it are 0xFF, which is NaN."""

    def __init__(self, array: Any, at_end: bool, read_only: bool) -> None:
        self.array, self.read_only = array, read_only
        misaligned = _offset_in_allocation(array) % ALIGNMENT
        room = misaligned + array.nbytes
        self.mapped_bytes = max(-(-room // PAGE), 1) * PAGE
        self.reserved = _libc.mmap(None, self.mapped_bytes + 2 * GUARD_BYTES, _NONE, _PRIVATE_ANONYMOUS, -1, 0)
        self.mapped = self.reserved + GUARD_BYTES
        _libc.mprotect(self.mapped, self.mapped_bytes, _READ_WRITE)
        ctypes.memset(self.mapped, 0xFF, self.mapped_bytes)
        aligned_end = self.mapped_bytes - -(-room // ALIGNMENT) * ALIGNMENT
        self.address = self.mapped + (aligned_end if at_end else 0) + misaligned
        ctypes.memmove(self.address, address_of(array), array.nbytes)
        if read_only:
            _libc.mprotect(self.mapped, self.mapped_bytes, _READ)

    def region(self, hidden: bool) -> Region:
        end = self.address + self.array.nbytes
        return Region(self.address, end, self.mapped, self.mapped + self.mapped_bytes, self.read_only, hidden)

    def finish(self) -> bool:
        """Copies back what the kernel wrote and frees the pages; False if it wrote around the array."""
        clean = True
        if not self.read_only:
            ctypes.memmove(address_of(self.array), self.address, self.array.nbytes)
            around = np.frombuffer(ctypes.string_at(self.mapped, self.mapped_bytes), np.uint8)
            first = self.address - self.mapped
            clean = bool((around[:first] == 0xFF).all() and (around[first + self.array.nbytes :] == 0xFF).all())
        _libc.munmap(self.reserved, self.mapped_bytes + 2 * GUARD_BYTES)
        return clean
