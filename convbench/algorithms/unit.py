"""Every convolution as unit-stride ones: the polyphase split, exact, for any stride, dilation and filter size.

Along one axis, output p and tap r meet at input row  i = u p + d r - pad. With f = gcd(u, d) write r = (u/f) rho +
phi and p = (d/f) p' + psi; then  i = L (p' + rho) + u psi + d phi - pad,  L = u d / f.  So for each output phase psi
the outputs p' are a sum, over the input phases phi, of convolutions with stride 1 and dilation 1 on rows L apart.
Input phases act as more channels. Conv1 of AlexNet (11 x 11, stride 4) becomes 48 channels of 57 x 57 under 3 x 3
filters. A filter longer than `limit` taps is cut into pieces, which act as yet more channels (rho = piece * length +
tap).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import Any

from convbench.problem import Problem
from convbench.shapes import ConvShape


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def nothing_slides(problem: Problem) -> str | None:
    """Why a fully connected layer is refused by algorithms that save multiplications where a filter slides."""
    return "a fully connected layer, in which no filter slides" if problem.shape.is_matrix_product else None


@dataclass(frozen=True)
class UnitAxis:
    """One axis (height or width) of the split, for output tiles of m elements computed from windows of `window`.

    Outputs of phase psi are p' = 0 .. ceil(outputs / out_phases) - 1, in `tiles` tiles.
    """

    size: int  # input elements
    taps: int  # filter elements
    stride: int
    pad: int
    dilation: int
    outputs: int
    tile: int  # m, outputs a tile
    limit: int  # most taps a piece may have

    @cached_property
    def step(self) -> int:
        """L: input elements between neighbours of one phase."""
        return self.stride * self.dilation // gcd(self.stride, self.dilation)

    @cached_property
    def in_phases(self) -> int:
        """Phases of the filter: u / gcd(u, d), never more than there are taps."""
        return min(self.taps, self.stride // gcd(self.stride, self.dilation))

    @cached_property
    def out_phases(self) -> int:
        """Phases of the output: d / gcd(u, d)."""
        return self.dilation // gcd(self.stride, self.dilation)

    @cached_property
    def pieces(self) -> int:
        """Pieces that each phase of the filter is cut into."""
        return ceil_div(ceil_div(self.taps, self.in_phases), self.limit)

    @cached_property
    def length(self) -> int:
        """Taps a piece: r of F(m, r)."""
        return ceil_div(ceil_div(self.taps, self.in_phases), self.pieces)

    @cached_property
    def window(self) -> int:
        """Inputs a tile: m + r - 1."""
        return self.tile + self.length - 1

    @cached_property
    def ring(self) -> int:
        """Elements of the shortest ring on which one tile of all outputs can lie.

        What the first windows read before the image may be what the last ones read behind it, where both are zero in
        every phase and piece: 13 outputs of 3 taps, padded by one, take a ring of 14 and not 15 elements.
        """
        window = self.unit_outputs + self.length - 1
        first, last = -self.pad, self._last_start
        leading = max(0, ceil_div(-last, self.step))
        trailing = max(0, window - ceil_div(self.size - first, self.step))
        return max(self.unit_outputs, window - min(leading, trailing))

    @cached_property
    def unit_outputs(self) -> int:
        """Outputs of the largest output phase."""
        return ceil_div(self.outputs, self.out_phases)

    @cached_property
    def tiles(self) -> int:
        """Tiles along this axis."""
        return ceil_div(self.unit_outputs, self.tile)

    @cached_property
    def channels(self) -> int:
        """By how much this axis multiplies the channels."""
        return self.in_phases * self.pieces

    @cached_property
    def whole_channels(self) -> int:
        """How many of those, the first ones, have filters of all `length` taps; all if phases are cut into pieces."""
        return self.channels if self.pieces > 1 else self.taps - (self.length - 1) * self.in_phases

    @cached_property
    def extent(self) -> int:
        """Elements, padding included, that the windows of all tiles and phases reach over."""
        return self.pad + self._last_start + self.step * (self.tile * (self.tiles - 1) + self.window - 1) + 1

    @cached_property
    def _last_start(self) -> int:
        """Where the first window of the last phases and piece begins; that of the first begins at -pad."""
        of_phases = self.stride * (self.out_phases - 1) + self.dilation * (self.in_phases - 1)
        return of_phases + self.step * self.length * (self.pieces - 1) - self.pad

    def input_strides(self) -> tuple[int, int, int, int, int]:
        """Elements from one (output phase, input phase, piece, tile, window element) to the next."""
        return (
            self.stride,
            self.dilation,
            self.step * self.length,
            self.step * self.tile,
            self.step,
        )

    def input_dims(self) -> tuple[int, int, int, int, int]:
        """How many there are of each of those."""
        return self.out_phases, self.in_phases, self.pieces, self.tiles, self.window


def axes(shape: ConvShape, tile: tuple[int, int] | None, limit: int = 1 << 30) -> tuple[UnitAxis, UnitAxis]:
    """The two axes of a shape, for tiles of m_h x m_w outputs (None: one tile takes them all)."""
    rows = (shape.h, shape.r, shape.stride[0], shape.pad[0], shape.dilation[0], shape.p)
    columns = (shape.w, shape.s, shape.stride[1], shape.pad[1], shape.dilation[1], shape.q)
    built = []
    for facts, m in zip((rows, columns), tile or (1 << 30, 1 << 30), strict=True):
        whole = UnitAxis(*facts, 1, limit).unit_outputs
        built.append(UnitAxis(*facts, min(m, whole), limit))
    return built[0], built[1]


def windows(xp: Any, padded: Any, shape: ConvShape, rows: UnitAxis, columns: UnitAxis) -> Any:
    """All windows of a padded input [n, C, rows.extent, columns.extent] as one strided view, nothing copied.

    Dimensions: n, groups, C / groups, then (out phase, in phase, piece, tile, element) of the rows and of the columns.
    """
    n, c = padded.shape[:2]
    per_image, per_channel, per_row, per_column = padded.strides
    channels = c // shape.groups
    dims = (n, shape.groups, channels, *rows.input_dims(), *columns.input_dims())
    strides = (
        per_image,
        per_channel * channels,
        per_channel,
        *(per_row * step for step in rows.input_strides()),
        *(per_column * step for step in columns.input_strides()),
    )
    return xp.lib.stride_tricks.as_strided(padded, dims, strides)


def pad_input(xp: Any, x: Any, rows: UnitAxis, columns: UnitAxis, out: Any) -> Any:
    """Copy x [n, C, H, W] into `out` [n, C, rows.extent, columns.extent], whose border is zero and stays zero."""
    h = min(rows.size, rows.extent - rows.pad)
    w = min(columns.size, columns.extent - columns.pad)
    if h > 0 and w > 0:
        out[:, :, rows.pad : rows.pad + h, columns.pad : columns.pad + w] = x[:, :, :h, :w]
    return out


def filter_pieces(xp: Any, w: Any, shape: ConvShape, rows: UnitAxis, columns: UnitAxis) -> Any:
    """w [K, C / groups, R, S] split like the input, missing taps zero.

    Dimensions: groups, K / groups, C / groups, row phase, row piece, column phase, column piece, row tap, column tap.
    """
    k, c = w.shape[:2]
    full_r = rows.in_phases * rows.pieces * rows.length
    full_s = columns.in_phases * columns.pieces * columns.length
    full = xp.zeros((k, c, full_r, full_s), w.dtype)
    full[:, :, : shape.r, : shape.s] = w
    # r = (piece * length + tap) * in_phases + phase
    split = full.reshape(
        shape.groups, k // shape.groups, c,
        rows.pieces, rows.length, rows.in_phases,
        columns.pieces, columns.length, columns.in_phases,
    )  # fmt: skip
    return split.transpose(0, 1, 2, 5, 3, 8, 6, 4, 7)


def put_phase(y: Any, values: Any, rows: UnitAxis, columns: UnitAxis, psi: tuple[int, int]) -> None:
    """Write outputs of phase psi, values [..., rows, columns] (perhaps too many), to their places in y [..., P, Q]."""
    target = y[..., psi[0] :: rows.out_phases, psi[1] :: columns.out_phases]
    target[...] = values[..., : target.shape[-2], : target.shape[-1]]
