"""Units that multiply tiles of bytes: Intel's AMX, and the same in memory for CPUs that have none.

A tile is 16 lines of 64 bytes; there are eight. A holds 64 signed bytes a line, B fours of them for 16 columns, C sums
of 32 bits:

    C [16, 16] += A [16, 64] B [16 fours, 16, 4]      (TDPBSSD in Intel's Software Developer's Manual)

Where the depth has fewer fours, so have lines of A and B: what would fill them up is not read. Where A has fewer rows,
so has C, and a product takes less time.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import lru_cache
from typing import Any, Protocol

from llvmlite import ir

from convbench.vector.code import INT32, Code, Number, Pointer
from convbench.vector.numbers import BYTE, INT
from convbench.vector.target import Target, host
from convbench.vector.weights import LINE

ROWS = 16  # lines of a tile
TILE = ROWS * LINE  # its bytes
TILES = 8
FOUR = 4  # bytes of a line of A that meet one number of 32 bits of B
OF_A, OF_B = 6, 7  # the tiles that are multiplied; the others hold sums
CONFIGURATION, PALETTE, WIDTHS, HEIGHTS = 64, 1, 16, 48  # of AMX: bytes, and where the tiles' sizes stand
ARCH_PRCTL, ASK_PERMISSION, TILE_DATA = 158, 0x1023, 18  # of Linux on x86-64


class Tiles(Protocol):
    """Eight tiles, by number."""

    def begin(self) -> None:
        """To be called by each thread before it uses them."""

    def zero(self, tile: int) -> None:
        """C = 0."""

    def load(self, tile: int, place: Pointer, apart: Number = LINE, once: bool = False) -> None:
        """Lines, and bytes from one to the next. once: what the first-level cache holds is to stay there."""

    def multiply(self, total: int, a: int, b: int) -> None:
        """C += A B."""

    def store(self, tile: int, place: Pointer) -> None:
        """C to lines that follow one another."""

    def stay_awake(self) -> None:
        """To be called every microsecond or more often, or else the next store has to wait."""

    def end(self) -> None:
        """The thread no longer needs them."""


class Amx:
    """The CPU's own."""

    def __init__(self, code: Code, fours: Number, rows: Number) -> None:
        self.code, self.fours, self.rows = code, fours, rows

    def _do(self, name: str, *values: Any) -> None:
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        self.code.builder.call(self.code.external(f"llvm.x86.{name}", kind), values)

    def begin(self) -> None:
        """Load a configuration: each tile's bytes a line, and lines."""
        code = self.code
        sizes = bytearray(CONFIGURATION)
        sizes[0] = PALETTE
        sizes[WIDTHS : WIDTHS + 2 * TILES : 2] = [LINE] * TILES
        sizes[HEIGHTS : HEIGHTS + TILES] = [ROWS] * TILES
        fours, rows = (code.index(ROWS) - number for number in (self.fours, self.rows))  # so many fewer
        fewer = {HEIGHTS + tile: rows for tile in range(TILES) if tile != OF_B}
        fewer |= {WIDTHS + 2 * OF_A: fours * FOUR, HEIGHTS + OF_B: fours}
        room = code.room(CONFIGURATION // code.bytes)
        for part in range(0, CONFIGURATION, 8):
            word = code.index(int.from_bytes(sizes[part : part + 8], "little", signed=True))
            for place, number in fewer.items():
                if place // 8 * 8 == part:
                    word = word - number * 2 ** (8 * (place - part))
            (room.integer_as_pointer(room.address) + part).set_integer(word)
        self._do("ldtilecfg", room.integer_as_pointer(room.address).value)

    def zero(self, tile: int) -> None:
        """tilezero"""
        self._do("tilezero", ir.Constant(BYTE, tile))

    def load(self, tile: int, place: Pointer, apart: Number = LINE, once: bool = False) -> None:
        """tileloadd, or tileloaddt1: faster where lines lie in the second-level cache (found on Granite Rapids)."""
        name = "tileloaddt164" if once else "tileloadd64"
        self._do(name, ir.Constant(BYTE, tile), place.value, self.code.integer(apart))

    def multiply(self, total: int, a: int, b: int) -> None:
        """tdpbssd"""
        self._do("tdpbssd", *(ir.Constant(BYTE, tile) for tile in (total, a, b)))

    def store(self, tile: int, place: Pointer) -> None:
        """tilestored"""
        self._do("tilestored64", ir.Constant(BYTE, tile), place.value, ir.Constant(INT, LINE))

    def stay_awake(self) -> None:
        """An addition that nobody needs, of floating-point numbers.

        After a microsecond in which no wide vector of them was added or multiplied, the next store has to wait (found
        on Granite Rapids: what is not used seems to be switched off).
        """
        kind = ir.FunctionType(ir.VoidType(), [])
        self.code.builder.asm(kind, "vaddps %zmm31, %zmm31, %zmm31", "~{zmm31}", [], side_effect=True)

    def end(self) -> None:
        """tilerelease"""
        self._do("tilerelease")


class Portable:
    """The same in memory: slow, for tests and for reading."""

    def __init__(self, code: Code, fours: Number, rows: Number) -> None:
        self.code, self.fours, self.rows, self.whole = code, fours, rows, ir.VectorType(INT32, code.lanes)
        self.rooms: dict[int, Pointer] = {}
        self.places: dict[int, tuple[Pointer, Number]] = {}

    def begin(self) -> None:
        """Nothing to set up."""

    def zero(self, tile: int) -> None:
        """In memory that is taken when a tile is first used."""
        code = self.code
        if tile not in self.rooms:
            self.rooms[tile] = code.room(TILE // code.bytes)
        sums = self._sums(tile)
        for part in code.range(0, TILE, code.bytes):
            (sums + part).store(code.vector(0.0))

    def _sums(self, tile: int) -> Pointer:
        """Where they are, said anew wherever it is used: what is said in one loop is not known in another."""
        room = self.rooms[tile]
        return room.integer_as_pointer(room.address)

    def load(self, tile: int, place: Pointer, apart: Number = LINE, once: bool = False) -> None:
        """Remember the place."""
        self.places[tile] = place, apart

    def _bytes(self, numbers: Any, byte: int) -> Any:
        """One signed byte of each number."""
        builder = self.code.builder
        up = builder.shl(numbers, ir.Constant(self.whole, [8 * (FOUR - 1 - byte)] * self.code.lanes))
        return builder.ashr(up, ir.Constant(self.whole, [8 * (FOUR - 1)] * self.code.lanes))

    def multiply(self, total: int, a: int, b: int) -> None:
        """As the manual says."""
        code, builder = self.code, self.code.builder
        (first_a, a_apart), (first_b, b_apart), first = self.places[a], self.places[b], self._sums(total)
        for row in code.range(self.rows):
            for part in range(0, LINE, code.bytes):
                place = (first + (row * LINE + part)).value
                for k in code.range(self.fours):
                    one = builder.load((first_a + (row * a_apart + k * FOUR)).value, align=4, typ=INT32)
                    of_a = code.in_all_lanes(one, self.whole)
                    of_b = builder.load((first_b + (k * b_apart + part)).value, align=4, typ=self.whole)
                    sums = builder.load(place, align=4, typ=self.whole)
                    for byte in range(FOUR):
                        sums = builder.add(sums, builder.mul(self._bytes(of_a, byte), self._bytes(of_b, byte)))
                    builder.store(sums, place, align=4)

    def store(self, tile: int, place: Pointer) -> None:
        """A copy."""
        sums = self._sums(tile)
        for part in self.code.range(0, self.code.index(LINE) * self.rows, self.code.bytes):
            (place + part).store((sums + part).load())

    def stay_awake(self) -> None:
        """Nothing sleeps."""

    def end(self) -> None:
        """Nothing is held."""


class Held:
    """Loads a tile unless it holds what is wanted: each load takes power, by which products are slowed down."""

    def __init__(self, tiles: Tiles) -> None:
        self.tiles = tiles
        self.what: dict[int, tuple[int, ...]] = {}

    def load(
        self, tile: int, what: tuple[int, ...], place: Pointer, apart: Number = LINE, once: bool = False
    ) -> None:  # fmt: skip
        """what: by which name its lines are known here."""
        if self.what.get(tile) != what:
            self.tiles.load(tile, place, apart, once)
            self.what[tile] = what


def tiles_of(code: Code, target: Target, fours: Number = ROWS, rows: Number = ROWS) -> Tiles:
    """The target's own, or those in memory. fours: of a line of OF_A, and lines of OF_B; rows: of OF_A and of sums."""
    return Amx(code, fours, rows) if target.multiplies_tiles else Portable(code, fours, rows)


def even_rows(rows: int) -> int:
    """Of each of as few tiles of A as there may be: products take the less time the fewer they are."""
    return -(-rows // -(-rows // ROWS))


@lru_cache(maxsize=1)
def why_no_tiles() -> str:
    """Why AMX cannot be used, in words; empty where it can: the system has then been asked, once for the process."""
    if not host().multiplies_tiles:
        return "this CPU has no AMX for bytes"
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "AMX is used on Linux alone"
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    if syscall(ARCH_PRCTL, ASK_PERMISSION, ctypes.c_ulong(TILE_DATA)) != 0:
        return "the system does not permit AMX"
    return ""
