"""How the weights of a product are kept: a panel B [depth, 16] as float32, or in 24 bits a number.

Where weights are used for few images only, a call takes as long as their way from memory. 24 bits are a quarter less:

    b[k, j] = scale[j] q[k, j],   q a whole number of 24 bits,   scale[j] = max over k of |b[k, j]| / (2^23 - 1)

Each number is off by half a scale at most: for normally distributed weights by some 1e-7 of their standard deviation,
as much as float32's sums lose. One that is far larger than all others costs the others of its column that many digits.
Whole numbers below 2^24 are exact in float32, so products are made with them, and each sum is scaled once: inputs above
1e30 may overflow before that.

For products in pairs (algorithms/gemm/paired.py) each column of float32 numbers is brought to a root mean square of
about 1, or to what A's is known to be. Of each three blocks of 16 numbers those with the same place follow one another,
and before them, or before some threes, there is a line for what their pairs come to (a block or two may be left over):

    pairs[j] = - sum over k < 16, and over these threes, of b[k, j] b[16 + k, j]
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from convbench.vector.code import Code, Pointer, Vector

BLOCK = 16  # channels that lie side by side in every buffer, on every CPU
LINE = 4 * BLOCK  # their bytes as float32, a cache line
THREE = 3 * BLOCK  # numbers of the depth of which two thirds are multiplied in pairs, and a third as usual
LARGEST = 2**23 - 1  # of the whole numbers
LARGEST_POWER = 100  # of two, that a column is multiplied by for products in pairs


class Weights(NamedTuple):
    """The form: 32 or 24 bits a number; or 32 bits for products in pairs.

    own_powers: each row that such products are made with has been multiplied by a power of two of its own, which they
    undo; else they leave A's size as it is. threes: that have one line for what their pairs come to.
    """

    bits: int = 32
    in_pairs: bool = False
    own_powers: bool = False
    threes: int = 1

    @property
    def is_scaled(self) -> bool:
        """Whether a panel begins with a line of scales."""
        return self.bits != 32 or self.in_pairs

    @property
    def words(self) -> str:
        """What a row's note says of a form that is not float32 alone."""
        return "products in pairs" if self.in_pairs else f"filters in {self.bits} bits"

    @property
    def line(self) -> int:
        """Bytes of 16 numbers."""
        return BLOCK * self.bits // 8

    @property
    def each(self) -> int:
        """Bytes for each k, rounded up, of all but the scales."""
        return int(-(-(self.before(THREE) - self.head) // THREE))

    @property
    def head(self) -> int:
        """Bytes of the scales, before the numbers."""
        return LINE if self.is_scaled else 0

    @property
    def spare(self) -> int:
        """Registers that unpacking takes: what says which byte goes where."""
        return 2 if self.bits != 32 else 0

    @property
    def pairs_pitch(self) -> int:
        """Bytes from row to row of what the pairs of A's rows come to: of a line, with the power; else of a number."""
        return LINE if self.own_powers else 4

    @property
    def tail(self) -> int:
        """Bytes behind the last panel of all that may be read."""
        return LINE if self.bits != 32 else 0

    def before(self, k: Any) -> Any:
        """Bytes of a panel before its k-th line of numbers, so with k its depth all of them; an int or an Index.

        For products in pairs k is a multiple of all threes that have a line, or the depth, one of BLOCK; what the pairs
        of the k-th number come to is not among them.
        """
        lines = (k // THREE + (self.threes - 1)) // self.threes if self.in_pairs else 0
        return k * self.line + self.head + lines * LINE

    @property
    def holds_sums(self) -> bool:
        """Whether two panels' sum is kept beside them: where rows have no powers of their own U is small anyhow."""
        return self.in_pairs and not self.own_powers

    def point_bytes(self, depth: Any) -> Any:
        """Bytes of two panels and their sum, or what its pairs come to if it is not kept; an int or an Index."""
        of_sum = depth // THREE * (LINE * self.in_pairs)
        return self.before(depth) * 2 + (self.before(depth) if self.holds_sums else of_sum)

    def load(self, code: Code, line: Pointer, part: int) -> Vector:
        """The part-th register full of a line's 16 numbers, not yet scaled."""
        place = line + part * code.lanes * self.bits // 8
        return place.load_three_bytes() if self.bits != 32 else place.load()

    def scaled(self, code: Code, total: Vector, scales: Pointer, part: int) -> Vector:
        """A sum of products with them, times the scales."""
        return total * (scales + part * code.bytes).load() if self.is_scaled else total

    def room(self, device: Any, shape: tuple[int, ...], depth: int, each: int = 0) -> tuple[Any, Any]:
        """Bytes for that many panels, or of so many each: all of them, and by panel [*shape, each]."""
        each = each or self.before(depth)
        whole = device.empty((prod(shape) * each + self.tail,), "uint8")
        end = len(whole) - self.tail
        whole[end:] = 0
        return whole if self.bits != 32 else whole.view("float32"), whole[:end].reshape(*shape, each)

    def pack(self, xp: Any, panels: Any, into: Any, sizes: Any = 1, axes: tuple[int, ...] = (-2,)) -> None:
        """panels [.., depth, 16], float32 or float64, into bytes [.., before(depth)].

        sizes [..]: the root mean square that columns are brought to for products in pairs; axes: along which a column
        has one scale. In 24 bits one in which a number is not finite is NaN as a whole.
        """
        if self.in_pairs:
            _pack_pairs(xp, panels, into.view(xp.float32), sizes, self.threes, axes)
            return
        if not self.is_scaled:
            into.view(xp.float32).reshape(panels.shape)[...] = panels
            return
        scales = (abs(panels).max(axis=axes, keepdims=True) / LARGEST).astype(xp.float32)
        scales[~xp.isfinite(scales)] = xp.nan
        usable = xp.where(scales > 0, scales, xp.inf).astype(xp.float64)  # in float32 a quotient would be rounded too
        numbers = xp.clip(xp.rint(xp.where(xp.isfinite(panels), panels, 0) / usable), -LARGEST, LARGEST)
        into[..., : self.head] = scales[..., 0, :].view(xp.uint8)
        as_bytes = numbers.astype("<i4").view(xp.uint8).reshape(*panels.shape, 4)
        into[..., self.head :].reshape(*panels.shape, 3)[...] = as_bytes[..., :3]

    def pack_points(self, xp: Any, points: Any, into: Any, sizes: Any) -> None:
        """points [.., 2, depth, 16], whose sum is multiplied by too, into bytes [.., point_bytes(depth)].

        Where it is not kept the two have the same scales: in 24 bits the sum is exact then; in pairs it is rounded as
        by who reads it. sizes [.., 3]: as of pack, of the third where that is kept, else their geometric mean counts.
        """
        threes, lead = points.shape[-2] // THREE, into.shape[:-1]
        end = 2 * self.before(points.shape[-2])
        if self.holds_sums:
            with xp.errstate(invalid="ignore"):  # of an infinity and another
                three = xp.concatenate([points, points.sum(axis=-3, keepdims=True)], axis=-3)
            self.pack(xp, three, into.reshape(*lead, 3, end // 2), sizes)
            return
        two = into[..., :end].reshape(*lead, 2, end // 2)
        self.pack(xp, points, two, xp.exp2(xp.log2(sizes).mean(axis=-1, keepdims=True)), (-3, -2))
        if self.in_pairs:
            lines = two.view(xp.float32)[..., BLOCK : BLOCK + threes * (1 + THREE) * BLOCK]
            with xp.errstate(invalid="ignore"):  # of an infinity and another
                numbers = (lines[..., 0, :] + lines[..., 1, :]).reshape(*lead, threes, 1 + THREE, BLOCK)[..., 1:, :]
            sums = into[..., end:].view(xp.float32).reshape(*lead, threes, BLOCK)
            sums[...] = _pairs(xp, numbers.reshape(*lead, threes, BLOCK, 3, BLOCK).swapaxes(-3, -2))


def as_large_as(xp: Any, wanted: Any, panels: Any, axes: tuple[int, ...] = (-2,)) -> tuple[Any, Any]:
    """panels [.., depth, n], each column over a scale, so that its root mean square is what is wanted, as float32; and
    the scales [.., 1, n], 0 for a column of zeros, of which so nothing comes. axes: as of Weights.pack.

    float32 numbers lose no digit: their scales are the nearest powers of two. float64's are rounded anyhow, once.
    """
    size = xp.sqrt((panels.astype(xp.float64) ** 2).mean(axis=axes, keepdims=True))
    usable = (size > 0) & xp.isfinite(size)
    scale = xp.clip(xp.where(usable, size / wanted, 1), 2.0**-LARGEST_POWER, 2.0**LARGEST_POWER).astype(xp.float32)
    if panels.dtype == xp.float32:
        scale = xp.exp2(xp.rint(xp.log2(scale)))
    numbers = panels.astype(xp.float64) / scale.astype(xp.float64)
    return numbers.astype(xp.float32), xp.where(size == 0, 0, scale).astype(xp.float32)


def _pairs(xp: Any, numbers: Any) -> Any:
    """What the pairs of threes [.., 3, 16, n] come to, to be taken away: [.., n], float64."""
    first, second = (numbers[..., part, :, :].astype(xp.float64) for part in (0, 1))
    with xp.errstate(invalid="ignore"):  # where there is an infinity: NaN is what its column comes to
        return -(first * second).sum(axis=-2)


def _pack_pairs(xp: Any, panels: Any, into: Any, sizes: Any, each: int, axes: tuple[int, ...]) -> None:
    """The same for products in pairs; into as float32, the depth a multiple of BLOCK, so many threes to a line."""
    sizes = xp.asarray(sizes, xp.float64)[..., None, None]
    lead, threes = panels.shape[:-2], panels.shape[-2] // THREE
    scaled, scales = as_large_as(xp, sizes, panels, axes)
    into[..., :BLOCK] = scales[..., 0, :]
    numbers = scaled[..., : threes * THREE, :].reshape(*lead, threes, 3, BLOCK, BLOCK)
    left, at = threes % each, BLOCK
    whole, rest = numbers[..., : threes - left, :, :, :], numbers[..., threes - left :, :, :, :]
    for some, together in ((whole, each), (rest, max(1, left))):
        count = some.shape[-4] // together
        end = at + count * (1 + together * THREE) * BLOCK
        lines = into[..., at:end].reshape(*lead, count, 1 + together * THREE, BLOCK)
        lines[..., 0, :] = _pairs(xp, some).reshape(*lead, count, together, BLOCK).sum(axis=-2)
        lines[..., 1:, :] = some.swapaxes(-3, -2).reshape(*lead, count, together * THREE, BLOCK)
        at = end
    left_over = scaled[..., threes * THREE :, :]
    into[..., at:] = left_over.reshape(*lead, left_over.shape[-2] * BLOCK)


FLOAT32, FIXED24 = Weights(32), Weights(24)
PAIRS, EVEN_PAIRS = Weights(32, in_pairs=True, own_powers=True), Weights(32, in_pairs=True)
