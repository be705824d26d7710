"""How large numbers are, and the powers of two that bring them to a size: what vector code needs of their bits."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from convbench.vector.code import Vector
from convbench.vector.numbers import INT32

EXPONENT = 23  # the bit of float32 at which the exponent begins
BIAS = 127  # the exponent of 1
SIZE = 0x7FFFFFFF  # all bits but the sign
INFINITE = 0x7F800000  # the bits of infinity


def size(numbers: Vector) -> Vector:
    """Without their signs."""
    builder, kind = numbers.code.builder, ir.VectorType(INT32, numbers.code.lanes)
    bits = builder.and_(builder.bitcast(numbers.value, kind), ir.Constant(kind, [SIZE] * numbers.code.lanes))
    return Vector(numbers.code, builder.bitcast(bits, numbers.code.kind))


def finite_size(numbers: Vector) -> Vector:
    """The same, 0 where it is not finite."""
    builder, kind = numbers.code.builder, ir.VectorType(INT32, numbers.code.lanes)
    sizes = size(numbers)
    is_finite = builder.icmp_signed(
        "<", builder.bitcast(sizes.value, kind), ir.Constant(kind, [INFINITE] * numbers.code.lanes)
    )
    return Vector(numbers.code, builder.select(is_finite, sizes.value, numbers.code.constant(0)))


def most(a: Vector, b: Vector) -> Vector:
    """The larger of two, lane by lane; b where one is NaN."""
    builder = a.code.builder
    return Vector(a.code, builder.select(builder.fcmp_ordered(">", a.value, b.value), a.value, b.value))


def most_or_broken(a: Vector, b: Vector) -> Vector:
    """The larger of two sizes, lane by lane; infinity is larger than all numbers, and NaN than that."""
    builder, kind = a.code.builder, ir.VectorType(INT32, a.code.lanes)
    bits = [builder.bitcast(value.value, kind) for value in (a, b)]  # in the order of their numbers
    return Vector(a.code, builder.select(builder.icmp_signed(">", *bits), a.value, b.value))


def most_of_all(numbers: Vector, larger: Callable[[Vector, Vector], Vector] = most) -> Vector:
    """The largest of the lanes, in all lanes."""
    step = numbers.code.lanes // 2
    while step:
        numbers = larger(numbers, numbers.pick(numbers, [lane ^ step for lane in range(numbers.code.lanes)]))
        step //= 2
    return numbers


def powers(numbers: Vector, least: int = -125) -> tuple[Vector, Vector]:
    """Powers of two that bring numbers above 0 to between 2 and 4, and their inverses; 0 is the inverse of 0's.

    Numbers below 2^least, which is 2^-125 or more, are brought to below 2.
    """
    code, builder, kind = numbers.code, numbers.code.builder, ir.VectorType(INT32, numbers.code.lanes)

    def same(number: int) -> ir.Constant:
        return ir.Constant(kind, [number] * code.lanes)

    exponent = builder.lshr(builder.bitcast(numbers.value, kind), same(EXPONENT))
    for comparison, limit in (("<", BIAS + least), (">", 254)):
        exponent = builder.select(builder.icmp_signed(comparison, exponent, same(limit)), same(limit), exponent)
    up, down = builder.sub(same(255), exponent), builder.sub(exponent, same(1))
    power, inverse = (builder.bitcast(builder.shl(bits, same(EXPONENT)), code.kind) for bits in (up, down))
    zero = code.constant(0)
    inverse = builder.select(builder.fcmp_ordered("==", numbers.value, zero), zero, inverse)
    return Vector(code, power), Vector(code, inverse)
