"""The values of vector code: integers, addresses, registers of float32, and the function they are written into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

FLOAT = ir.FloatType()
INT = ir.IntType(64)
INT32 = ir.IntType(32)
POINTER = ir.PointerType()
BYTE = ir.IntType(8)
FAST = ("contract", "nsz")  # sums keep their order: the same bits on every run


class Writer:
    """A function of a module, being written: what its values need to know of it."""

    def __init__(self, module: ir.Module, name: str, kinds: Sequence[Any], lanes: int) -> None:
        self.lanes, self.bytes = lanes, 4 * lanes
        self.kind = ir.VectorType(FLOAT, lanes)
        self.module = module
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
        self._entry = self.function.append_basic_block("entry")
        self._first = self.function.append_basic_block("body")
        self.builder = ir.IRBuilder(self._first)

    def integer(self, number: Number) -> Any:
        """An integer as LLVM sees it."""
        return number.value if isinstance(number, Index) else ir.Constant(INT, int(number))

    def constant(self, number: float) -> ir.Constant:
        """The same, as LLVM sees it."""
        return ir.Constant(self.kind, [ir.Constant(FLOAT, float(number))] * self.lanes)

    def in_all_lanes(self, one: Any, kind: ir.VectorType) -> Any:
        """A number as LLVM sees it, in all lanes of a vector."""
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), one, ir.Constant(INT32, 0))
        zeros = ir.Constant(ir.VectorType(INT32, kind.count), [0] * kind.count)
        return self.builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)

    def external(self, name: str, kind: ir.FunctionType) -> Any:
        """A function from outside, such as one of LLVM's own."""
        found = self.module.globals.get(name)
        return found if found is not None else ir.Function(self.module, kind, name)

    def room(self, vectors: int) -> Pointer:
        """Memory for that many vectors on the stack."""
        place = ir.IRBuilder(self._entry).alloca(self.kind, size=ir.Constant(INT32, vectors))
        place.align = self.bytes
        return Pointer(self, place)

    def finish(self) -> None:
        """The function's end."""
        self.builder.ret_void()
        ir.IRBuilder(self._entry).branch(self._first)


class Index:
    """A 64-bit integer known when the kernel runs. Mixes with Python's integers; division is for what is not < 0."""

    def __init__(self, code: Writer, value: Any) -> None:
        self.code, self.value = code, value

    def _binary(self, operation: str, other: int | Index, swapped: bool = False) -> Index:
        a, b = self.value, self.code.integer(other)
        if swapped:
            a, b = b, a
        return Index(self.code, getattr(self.code.builder, operation)(a, b))

    def __add__(self, other: int | Index) -> Index:
        return self if isinstance(other, int) and other == 0 else self._binary("add", other)

    __radd__ = __add__

    def __sub__(self, other: int | Index) -> Index:
        return self if isinstance(other, int) and other == 0 else self._binary("sub", other)

    def __rsub__(self, other: int | Index) -> Index:
        return self._binary("sub", other, swapped=True)

    def __mul__(self, other: int | Index) -> Index:
        return self if isinstance(other, int) and other == 1 else self._binary("mul", other)

    __rmul__ = __mul__

    def __floordiv__(self, other: int | Index) -> Index:
        return self._binary("udiv", other)

    def __mod__(self, other: int | Index) -> Index:
        return self._binary("urem", other)

    def _compare(self, operation: str, other: int | Index) -> Any:
        return self.code.builder.icmp_signed(operation, self.value, self.code.integer(other))

    def __lt__(self, other: int | Index) -> Any:
        return self._compare("<", other)

    def __ge__(self, other: int | Index) -> Any:
        return self._compare(">=", other)

    def is_equal(self, other: int | Index) -> Any:
        """The condition self == other."""
        return self._compare("==", other)


Number = int | Index


class Vector:
    """A register of float32. Operators work lane by lane; a Python number stands for the same number in all lanes."""

    def __init__(self, code: Writer, value: Any) -> None:
        self.code, self.value = code, value

    def _binary(self, operation: str, other: float | Vector, swapped: bool = False) -> Vector:
        a, b = self.value, other.value if isinstance(other, Vector) else self.code.constant(other)
        if swapped:
            a, b = b, a
        return Vector(self.code, getattr(self.code.builder, operation)(a, b, flags=FAST))

    def __add__(self, other: float | Vector) -> Vector:
        return self._binary("fadd", other)

    def __sub__(self, other: float | Vector) -> Vector:
        return self._binary("fsub", other)

    def __mul__(self, other: float | Vector) -> Vector:
        return self._binary("fmul", other)

    __rmul__ = __mul__

    def __truediv__(self, other: float | Vector) -> Vector:
        return self._binary("fdiv", other)

    def __neg__(self) -> Vector:
        return self._binary("fmul", -1.0)

    def pick(self, other: Vector, lanes: Sequence[int]) -> Vector:
        """The vector of the named lanes; 0 .. code.lanes - 1 are those of self, the next ones those of other."""
        mask = ir.Constant(ir.VectorType(INT32, len(lanes)), list(lanes))
        return Vector(self.code, self.code.builder.shuffle_vector(self.value, other.value, mask))

    def sum(self) -> Vector:
        """The sum of the lanes, in all lanes."""
        total, step = self, self.code.lanes // 2
        while step:
            total = total + total.pick(total, [(lane + step) % self.code.lanes for lane in range(self.code.lanes)])
            step //= 2
        return total


class Mask:
    """Which lanes to load or store."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Pointer:
    """An address; p + bytes is another one."""

    def __init__(self, code: Writer, value: Any) -> None:
        self.code, self.value = code, value

    def __add__(self, offset: Number) -> Pointer:
        if isinstance(offset, int) and offset == 0:
            return self
        builder = self.code.builder
        return Pointer(self.code, builder.gep(self.value, [self.code.integer(offset)], source_etype=BYTE))

    @property
    def address(self) -> Index:
        """The address as an integer."""
        return Index(self.code, self.code.builder.ptrtoint(self.value, INT))

    def __sub__(self, offset: Number) -> Pointer:
        return self + (-offset if isinstance(offset, int) else 0 - offset)

    def load(self, mask: Mask | None = None) -> Vector:
        """The numbers from here on, a register full; with a mask, zeros where it says no, and nothing touched there."""
        builder = self.code.builder
        if mask is None:
            return Vector(self.code, builder.load(self.value, align=4, typ=self.code.kind))
        kind = ir.FunctionType(self.code.kind, [POINTER, INT32, mask.value.type, self.code.kind])
        function = self.code.external(f"llvm.masked.load.v{self.code.lanes}f32.p0", kind)
        words = [self.value, ir.Constant(INT32, 4), mask.value, self.code.constant(0)]
        return Vector(self.code, builder.call(function, words))

    def load_three_bytes(self) -> Vector:
        """Whole numbers of three bytes each from here on; a register full of bytes is read."""
        builder, lanes = self.code.builder, self.code.lanes
        there = builder.load(self.value, align=1, typ=ir.VectorType(BYTE, 4 * lanes))
        # To the upper bytes of each lane; what is in the lowest is shifted out, and the sign in from above.
        places = [3 * lane + max(0, byte - 1) for lane in range(lanes) for byte in range(4)]
        mask = ir.Constant(ir.VectorType(INT32, len(places)), places)
        whole = ir.VectorType(INT32, lanes)
        apart = builder.bitcast(builder.shuffle_vector(there, there, mask), whole)
        return Vector(self.code, builder.sitofp(builder.ashr(apart, ir.Constant(whole, [8] * lanes)), self.code.kind))

    def stream(self, value: Vector) -> None:
        """Write a register full past the caches, to a multiple of its bytes. Others see it after a fence."""
        done = self.code.builder.store(value.value, self.value, align=self.code.bytes)
        done.set_metadata("nontemporal", self.code.module.add_metadata([ir.Constant(INT32, 1)]))

    def store(self, value: Vector, mask: Mask | None = None) -> None:
        """Write a register full, or what a mask says."""
        builder = self.code.builder
        if mask is None:
            builder.store(value.value, self.value, align=4)
            return
        kind = ir.FunctionType(ir.VoidType(), [self.code.kind, POINTER, INT32, mask.value.type])
        function = self.code.external(f"llvm.masked.store.v{self.code.lanes}f32.p0", kind)
        builder.call(function, [value.value, self.value, ir.Constant(INT32, 4), mask.value])

    def broadcast(self) -> Vector:
        """The number here, in all lanes."""
        builder = self.code.builder
        one = builder.load(self.value, align=4, typ=FLOAT)
        return Vector(self.code, self.code.in_all_lanes(one, self.code.kind))

    def integer(self) -> Index:
        """The 64-bit integer here."""
        return Index(self.code, self.code.builder.load(self.value, align=8, typ=INT))

    def pointer(self) -> Pointer:
        """The address that stands here."""
        return self.integer_as_pointer(self.integer())

    def integer_as_pointer(self, number: Index) -> Pointer:
        """A 64-bit integer as an address."""
        return Pointer(self.code, self.code.builder.inttoptr(number.value, POINTER))

    def set_integer(self, number: Number) -> None:
        """Write a 64-bit integer."""
        self.code.builder.store(self.code.integer(number), self.value, align=8)

    def prefetch(self, once: bool = False, write: bool = False, near: bool = False) -> None:
        """Ask for the cache line here, into the second-level cache.

        once: it need not be kept after its first use; write: it will be written; near: into the first level too.
        """
        kind = ir.FunctionType(ir.VoidType(), [POINTER, INT32, INT32, INT32])
        keep = 3 if write or near else 0 if once else 2
        words = [ir.Constant(INT32, n) for n in (int(write), keep, 1)]  # 1: data
        self.code.builder.call(self.code.external("llvm.prefetch.p0", kind), [self.value, *words])

    def fetch_add(self, number: int) -> Index:
        """Add to the integer here, atomically; what it was before."""
        return Index(
            self.code,
            self.code.builder.atomic_rmw("add", self.value, ir.Constant(INT, number), "acq_rel"),
        )

    def integer_acquired(self) -> Index:
        """The integer here; what others wrote before they wrote it is seen too."""
        return Index(self.code, self.code.builder.load_atomic(self.value, "acquire", 8, typ=INT))


class Variable:
    """A vector that changes, such as a sum; it lives in a register where there is one."""

    def __init__(self, code: Writer, initial: Vector) -> None:
        self.code, self.place = code, code.room(1)
        self.set(initial)

    def get(self) -> Vector:
        """Its value now."""
        return Vector(
            self.code, self.code.builder.load(self.place.value, align=4 * self.code.lanes, typ=self.code.kind)
        )

    def set(self, value: Vector) -> None:
        """Give it a new value."""
        self.code.builder.store(value.value, self.place.value, align=4 * self.code.lanes)

    def add(self, value: Vector) -> None:
        """Add to it."""
        self.set(value + self.get())
