"""How the weights of a product are kept: a panel B [depth, 16] as float32, or in 24 bits a number.

Where weights are used for few images only, a call takes as long as their way from memory. 24 bits are a quarter less:

    b[k, j] = scale[j] q[k, j],   q a whole number of 24 bits,   scale[j] = max over k of |b[k, j]| / (2^23 - 1)

Each number is off by half a scale at most: for normally distributed weights by some 1e-7 of their standard deviation,
as much as float32's sums lose. One that is far larger than all others costs the others of its column that many digits.
Whole numbers below 2^24 are exact in float32, so products are made with them, and each sum is scaled once: inputs above
1e30 may overflow before that.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from convbench.vector.code import Code, Pointer, Vector

BLOCK = 16  # channels that lie side by side in every buffer, on every CPU
LINE = 4 * BLOCK  # their bytes as float32, a cache line
LARGEST = 2**23 - 1  # of the whole numbers


class Weights(NamedTuple):
    """The form: 32 or 24 bits a number."""

    bits: int = 32

    @property
    def is_scaled(self) -> bool:
        """Whether a panel begins with a line of scales."""
        return self.bits != 32

    @property
    def line(self) -> int:
        """Bytes of 16 numbers."""
        return BLOCK * self.bits // 8

    @property
    def head(self) -> int:
        """Bytes of the scales, before the numbers."""
        return LINE if self.is_scaled else 0

    @property
    def spare(self) -> int:
        """Registers that unpacking takes: what says which byte goes where."""
        return 2 if self.is_scaled else 0

    @property
    def tail(self) -> int:
        """Bytes behind the last panel of all that may be read."""
        return LINE if self.is_scaled else 0

    def before(self, k: Any) -> Any:
        """Bytes of a panel before its k-th line of numbers, so with k its depth all of them; an int or an Index."""
        return k * self.line + self.head

    def load(self, code: Code, line: Pointer, part: int) -> Vector:
        """The part-th register full of a line's 16 numbers, not yet scaled."""
        place = line + part * code.lanes * self.bits // 8
        return place.load_three_bytes() if self.is_scaled else place.load()

    def scaled(self, code: Code, total: Vector, scales: Pointer, part: int) -> Vector:
        """A sum of products with them, times the scales."""
        return total * (scales + part * code.bytes).load() if self.is_scaled else total

    def room(self, device: Any, shape: tuple[int, ...], depth: int) -> tuple[Any, Any]:
        """Bytes for that many panels: all of them, and by panel [*shape, panel_bytes]."""
        each = self.before(depth)
        whole = device.empty((prod(shape) * each + self.tail,), "uint8")
        end = len(whole) - self.tail
        whole[end:] = 0
        return whole if self.is_scaled else whole.view("float32"), whole[:end].reshape(*shape, each)

    def pack(self, xp: Any, panels: Any, into: Any) -> None:
        """panels [.., depth, 16], float32 or float64, into bytes [.., before(depth)].

        A column in which a number is not finite is NaN as a whole.
        """
        if not self.is_scaled:
            into.view(xp.float32).reshape(panels.shape)[...] = panels
            return
        scales = (abs(panels).max(axis=-2, keepdims=True) / LARGEST).astype(xp.float32)
        scales[~xp.isfinite(scales)] = xp.nan
        usable = xp.where(scales > 0, scales, xp.inf).astype(xp.float64)  # in float32 a quotient would be rounded too
        numbers = xp.clip(xp.rint(xp.where(xp.isfinite(panels), panels, 0) / usable), -LARGEST, LARGEST)
        into[..., : self.head] = scales.view(xp.uint8).reshape(*into.shape[:-1], self.head)
        as_bytes = numbers.astype("<i4").view(xp.uint8).reshape(*panels.shape, 4)
        into[..., self.head :].reshape(*panels.shape, 3)[...] = as_bytes[..., :3]


FLOAT32, FIXED24 = Weights(32), Weights(24)
