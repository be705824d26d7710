"""A convolution as whole numbers: its sizes, its FLOPs, its bytes, and the one word that names it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

Pair = tuple[int, int]


class ShapeError(ValueError):
    """A shape that no convolution can have; the message says which number is wrong and why."""


@dataclass(frozen=True)
class ConvShape:
    """A 2-D cross-correlation, y[n,k,p,q] = sum over c,r,s of x[n, c, u p - pad + d r, u q - pad + d s] w[k,c,r,s].

    x is [n, c, h, w], w is [k, c / groups, r, s], y is [n, k, p, q]; stride u, pad and dilation d are
    (height, width) pairs. Raises ShapeError where a size is impossible.
    """

    n: int
    c: int
    h: int
    w: int
    k: int
    r: int
    s: int
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        sizes = {"n": self.n, "c": self.c, "h": self.h, "w": self.w, "k": self.k, "r": self.r, "s": self.s}
        sizes |= {"stride": min(self.stride), "dilation": min(self.dilation), "groups": self.groups}
        for name, value in sizes.items():
            if value < 1:
                raise ShapeError(f"{name} is {value}, but must be at least 1")
        if min(self.pad) < 0:
            raise ShapeError(f"pad is {min(self.pad)}, but must not be negative")
        for name, channels in (("c", self.c), ("k", self.k)):
            if channels % self.groups:
                raise ShapeError(f"{name} = {channels} channels cannot be split into {self.groups} groups")
        for name, size, axis in (("height", self.p, 0), ("width", self.q, 1)):
            if size < 1:
                length, taps = ((self.h, self.r), (self.w, self.s))[axis]
                reach = self.dilation[axis] * (taps - 1) + 1
                raise ShapeError(
                    f"the filter's {name} {reach} (dilation included) is larger than the input with its padding, "
                    f"{length + 2 * self.pad[axis]}: no output is left"
                )

    def _out(self, length: int, taps: int, axis: int) -> int:
        reach = self.dilation[axis] * (taps - 1) + 1
        return (length + 2 * self.pad[axis] - reach) // self.stride[axis] + 1

    @cached_property
    def p(self) -> int:
        """Output height."""
        return self._out(self.h, self.r, 0)

    @cached_property
    def q(self) -> int:
        """Output width."""
        return self._out(self.w, self.s, 1)

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        """Input, [N, C, H, W]."""
        return self.n, self.c, self.h, self.w

    @property
    def w_shape(self) -> tuple[int, int, int, int]:
        """Filters, [K, C / groups, R, S]."""
        return self.k, self.c // self.groups, self.r, self.s

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        """Output, [N, K, P, Q]."""
        return self.n, self.k, self.p, self.q

    @property
    def elements(self) -> int:
        """Numbers in x, w and y together."""
        return sum(a * b * c * d for a, b, c, d in (self.x_shape, self.w_shape, self.y_shape))

    @property
    def is_matrix_product(self) -> bool:
        """True where every output sees the whole input (a fully connected layer): nothing to stretch or tile."""
        return (self.p, self.q, self.pad) == (1, 1, (0, 0)) and (self.h, self.w) == (self.r, self.s)

    @property
    def flops(self) -> int:
        """Nominal FLOPs: 2 N K P Q (C / groups) R S, multiplications with padding counted."""
        return 2 * self.n * self.k * self.p * self.q * (self.c // self.groups) * self.r * self.s

    @property
    def flops_true(self) -> int:
        """FLOPs without the taps that fall on padding."""
        taps = self._taps_inside(self.h, self.r, self.p, 0) * self._taps_inside(self.w, self.s, self.q, 1)
        return 2 * self.n * self.k * (self.c // self.groups) * taps

    def _taps_inside(self, length: int, taps: int, out: int, axis: int) -> int:
        """Pairs (output, tap) along one axis whose input element is not padding."""
        u, pad, d = self.stride[axis], self.pad[axis], self.dilation[axis]
        if out < taps:  # walk along the shorter of the two: the condition treats them alike
            taps, out, u, d = out, taps, d, u
        count = 0
        for tap in range(taps):  # 0 <= u p + d tap - pad < length
            first = max(0, -(-(pad - d * tap) // u))
            last = min(out - 1, (length - 1 + pad - d * tap) // u)
            count += max(0, last - first + 1)
        return count

    def with_batch(self, n: int) -> ConvShape:
        """The same convolution on n images."""
        return ConvShape(
            n, self.c, self.h, self.w, self.k, self.r, self.s, self.stride, self.pad, self.dilation, self.groups
        )

    def __str__(self) -> str:
        word = f"n{self.n}c{self.c}h{self.h}w{self.w}k{self.k}r{self.r}s{self.s}"
        for letter, pair, default in (("u", self.stride, 1), ("p", self.pad, 0), ("d", self.dilation, 1)):
            if pair != (default, default):
                word += f"{letter}{pair[0]}" if pair[0] == pair[1] else f"{letter}{pair[0]}x{pair[1]}"
        return word + (f"g{self.groups}" if self.groups != 1 else "")


_TOKEN = re.compile(r"([a-z])([0-9]{1,18})(?:x([0-9]{1,18}))?")
_REQUIRED = "nchwkrs"
_PAIRS = {"u": (1, 1), "p": (0, 0), "d": (1, 1)}


def parse_shape(word: str) -> ConvShape:
    """Read a shape word: n c h w k r s, then optional u stride, p pad, d dilation (each `2` or `2x1`), g groups.

    Raises ShapeError that quotes the part of the word that is wrong.
    """
    example = "for example n1c64h56w56k128r3s3u2p1"
    values: dict[str, tuple[int, int | None]] = {}
    position = 0
    while match := _TOKEN.match(word, position):
        letter, first, second = match.groups()
        if letter not in _REQUIRED + "updg":
            raise ShapeError(f"shape '{word}': unknown letter '{letter}'; known are n c h w k r s u p d g, {example}")
        if letter in values:
            raise ShapeError(f"shape '{word}': '{letter}' is given twice")
        if second is not None and letter not in _PAIRS:
            raise ShapeError(f"shape '{word}': only u, p and d take a pair like {letter}{first}x{second}")
        values[letter] = int(first), int(second) if second is not None else None
        position = match.end()
    if position != len(word) or not word:
        raise ShapeError(f"shape '{word}': cannot read '{word[position:]}'; {example}")
    missing = [letter for letter in _REQUIRED if letter not in values]
    if missing:
        raise ShapeError(f"shape '{word}': {', '.join(missing)} missing; {example}")

    def pair(letter: str) -> Pair:
        if letter not in values:
            return _PAIRS[letter]
        first, second = values[letter]
        return first, first if second is None else second

    n, c, h, w, k, r, s = (values[letter][0] for letter in _REQUIRED)
    try:
        return ConvShape(n, c, h, w, k, r, s, pair("u"), pair("p"), pair("d"), values.get("g", (1, None))[0])
    except ShapeError as error:
        raise ShapeError(f"shape '{word}': {error}") from None
