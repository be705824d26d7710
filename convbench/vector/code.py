"""A small language for vector kernels: Python operators and loops that write LLVM code instead of computing.

A kernel is a Python function that takes a Code and the values of its arguments and *says* what is to be computed:

    def scale(code, x, count):                  # x *= 2, `count` vectors
        for i in code.range(count):
            place = x + i * code.bytes
            place.store(place.load() * 2.0)

The loop's body runs once, in Python, and writes the loop. A Vector fills one register: code.lanes float32, 16 with
AVX-512, 8 with AVX, 4 elsewhere. Multiply-adds are written as a * b + c and contracted where the CPU can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from convbench.vector.numbers import FLOAT, INT, INT32, POINTER, Index, Mask, Number, Pointer, Variable, Vector, Writer

__all__ = ["INT32", "Code", "Index", "Mask", "Number", "Pointer", "Variable", "Vector"]


def kinds_of(arguments: str) -> list[Any]:
    """LLVM's types of arguments, a letter each: `p` for an address, `i` for an integer."""
    return [POINTER if letter == "p" else INT for letter in arguments]


class Code(Writer):
    """One function of a module, being written."""

    def __init__(self, module: ir.Module, name: str, arguments: str, lanes: int, public: bool) -> None:
        """arguments: as of kinds_of."""
        super().__init__(module, name, kinds_of(arguments), lanes)
        if not public:
            self.function.linkage = "internal"
            self.function.attributes.add("noinline")
        self.arguments: list[Any] = [  # an Index or a Pointer each: which, only the kernel knows
            Pointer(self, value) if letter == "p" else Index(self, value)
            for letter, value in zip(arguments, self.function.args, strict=True)
        ]

    def index(self, number: Number) -> Index:
        """An integer as an Index."""
        return Index(self, self.integer(number))

    def vector(self, number: float) -> Vector:
        """The same number in all lanes."""
        return Vector(self, self.constant(number))

    def number(self, index: Index) -> Vector:
        """A whole number from 0 on in all lanes, rounded."""
        return Vector(self, self.in_all_lanes(self.builder.uitofp(index.value, FLOAT), self.kind))

    def variable(self, initial: float) -> Variable:
        """A vector that changes."""
        return Variable(self, self.vector(initial))

    def call(self, function: Any, *arguments: Pointer | Number) -> None:
        """Call another function of the module, or a C function, for its effect."""
        self.builder.call(function, [a.value if isinstance(a, Pointer) else self.integer(a) for a in arguments])

    def function_at(self, address: Index, arguments: str) -> Any:
        """A compiled kernel, to be called; arguments as of a Code."""
        kind = ir.FunctionType(ir.VoidType(), kinds_of(arguments))
        return self.builder.inttoptr(address.value, kind.as_pointer())

    def range(self, start: Number, stop: Number | None = None, step: Number = 1) -> Iterator[Index]:
        """A loop, as Python's range says it; to be used in a `for` without break."""
        if stop is None:
            start, stop = 0, start
        before = self.builder.block
        head, body, after = (self.function.append_basic_block(name) for name in ("head", "loop", "after"))
        self.builder.branch(head)
        self.builder.position_at_end(head)
        counter = self.builder.phi(INT)
        counter.add_incoming(self.integer(start), before)
        self.builder.cbranch(self.builder.icmp_signed("<", counter, self.integer(stop)), body, after)
        self.builder.position_at_end(body)
        i = Index(self, counter)
        yield i
        following = (i + step).value
        counter.add_incoming(following, self.builder.block)
        self.builder.branch(head)
        self.builder.position_at_end(after)

    def range_up_to(self, count: Index, most: int) -> Iterator[Index]:
        """A loop from 0 on, written twice: LLVM makes more of one whose length it knows, that of `most` turns."""
        all_of_them = count.is_equal(most)
        yield from self.range(self.choose(all_of_them, 0, count))
        with self.when(all_of_them):
            yield from self.range(most)

    @contextmanager
    def repeat_while(self, condition: Callable[[], Any]) -> Iterator[None]:
        """A loop that runs as long as a condition, written anew, holds before its body."""
        head, body, after = (self.function.append_basic_block(name) for name in ("while", "loop", "after"))
        self.builder.branch(head)
        self.builder.position_at_end(head)
        self.builder.cbranch(condition(), body, after)
        self.builder.position_at_end(body)
        yield
        self.builder.branch(head)
        self.builder.position_at_end(after)

    @contextmanager
    def when(self, condition: Any) -> Iterator[None]:
        """Code that runs where a condition holds."""
        with self.builder.if_then(condition):
            yield

    @contextmanager
    def cases(self, value: Index, numbers: Iterable[int]) -> Iterator[Iterator[int]]:
        """Code for each of some values: `with code.cases(i, range(3)) as cases: for number in cases: ...`."""
        builder = self.builder
        other, after = (self.function.append_basic_block(name) for name in ("other", "after"))
        switch = builder.switch(value.value, other)

        def each() -> Iterator[int]:
            for number in numbers:
                block = self.function.append_basic_block(f"case{number}")
                switch.add_case(ir.Constant(INT, number), block)
                builder.position_at_end(block)
                yield number
                builder.branch(after)

        yield each()
        builder.position_at_end(other)
        builder.unreachable()
        builder.position_at_end(after)

    def equal_parts(self, count: Index, most: int) -> Iterator[tuple[Index, Index, int]]:
        """At least one, in the fewest parts of at most `most`, whose lengths differ by one at most.

        Each part's number, its first, and its length: the body is written for each length, to be used in a `for`.
        """
        parts = (count + (most - 1)) // most
        least, longer = count // parts, count % parts  # `longer` parts have one more
        for part in self.range(parts):
            first = part * least + self.least(part, longer)
            with self.cases(least + self.choose(part < longer, 1, 0), range(1, most + 1)) as lengths:
                for length in lengths:
                    yield part, first, length

    def choose(self, condition: Any, a: Number, b: Number) -> Index:
        """a where the condition holds, else b."""
        return Index(self, self.builder.select(condition, self.integer(a), self.integer(b)))

    def least(self, a: Number, b: Number) -> Index:
        """The smaller of two."""
        return self.choose(self.index(a) < b, a, b)

    def most(self, a: Number, b: Number) -> Index:
        """The larger of two."""
        return self.choose(self.index(a) < b, b, a)

    def within(self, start: Number, size: Number) -> Mask:
        """The lanes i with 0 <= start + i < size."""
        builder, kind = self.builder, ir.VectorType(INT32, self.lanes)

        def all_lanes(number: Number) -> Any:
            return self.in_all_lanes(builder.trunc(self.integer(number), INT32), kind)

        places = builder.add(all_lanes(start), ir.Constant(kind, list(range(self.lanes))))
        return Mask(builder.icmp_unsigned("<", places, all_lanes(size)))  # what is below 0 is large without a sign

    def fence(self) -> None:
        """Whoever sees what is written from here on sees all that was written before."""
        self.builder.fence("seq_cst")

    def cycles(self) -> Index:
        """The CPU's clock."""
        function = self.external("llvm.readcyclecounter", ir.FunctionType(INT, []))
        return Index(self, self.builder.call(function, []))

    def transpose(self, rows: Sequence[Vector], run: int = 1) -> list[Vector]:
        """A square matrix of vectors, its elements runs of lanes, transposed: stages that swap blocks of 1, 2, 4 ..."""
        lanes, step = self.lanes, 1
        assert len(rows) * run == lanes
        while step < len(rows):
            width = step * run
            low = [lane if not lane & width else lanes + lane - width for lane in range(lanes)]
            high = [lane + width if not lane & width else lanes + lane for lane in range(lanes)]
            rows = [
                rows[i].pick(rows[i | step], low) if not i & step else rows[i ^ step].pick(rows[i], high)
                for i in range(len(rows))
            ]
            step *= 2
        return list(rows)
