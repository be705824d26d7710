"""Convolution by FFT, overlap-save: Y_f = conj(W_f) X_f at each frequency f, a product [K x C] by [C x tiles].

Written once for NumPy and CuPy. Windows of m + r - 1 inputs are transformed at size L >= m + r - 1; of the L outputs
of the circular correlation the first m are right and kept (Oppenheim & Schafer, overlap-save). Stride and dilation
become phases (unit.py). Filters are transformed by one matrix product with the L^2 exponentials, not by thousands of
small FFTs.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from convbench.algorithms.base import Plan
from convbench.algorithms.unit import UnitAxis, axes, filter_pieces, pad_input, put_phase, windows
from convbench.devices.base import Device
from convbench.problem import COMPLEX, Problem
from convbench.shapes import ConvShape


def plan(problem: Problem, device: Device, size: tuple[int, int], note: str = "") -> Plan:
    """FFTs of size[0] x size[1]. Images are taken in blocks whose spectra fit half of the last-level cache."""
    shape, xp = problem.shape, device.xp
    rows, columns = axes_for(shape, size)
    frequencies = size[0] * (size[1] // 2 + 1)
    g, k = shape.groups, shape.k // shape.groups
    c = shape.c // g * rows.channels * columns.channels
    tiles = rows.tiles * columns.tiles
    complex_type = COMPLEX[problem.precision]

    spectrum_bytes = 2 * problem.number.bytes * frequencies * tiles * g
    block = max(1, min(shape.n, device.cache_bytes // 2 // (spectrum_bytes * (c + k))))
    padded = device.empty((block, shape.c, rows.extent, columns.extent), problem.precision)
    padded[...] = 0
    counts = {block, (shape.n - 1) % block + 1}  # images at a time: of all blocks but the last, and of the last
    in_tiles, out_tiles = (tuple(n * tiles * g * channels for n in counts) for channels in (c, k))
    forward = device.rfft2(in_tiles, (rows.window, columns.window), size, problem.precision)
    inverse = device.irfft2(out_tiles, size, problem.precision)
    spectra_x = xp.empty(frequencies * g * c * block * tiles, complex_type)
    spectra_y = xp.empty(frequencies * g * k * block * tiles, complex_type)

    def prepare(w: Any) -> Any:
        pieces = filter_pieces(xp, w, shape, rows, columns)
        flat = pieces.reshape(g * k * c, rows.length * columns.length)  # pieces of one phase: c fastest but taps
        angle = _angles(xp, size, rows.length, columns.length)
        spectra = xp.empty((frequencies * g, k, c), complex_type)
        for part, wave in ((spectra.real, xp.cos(angle)), (spectra.imag, xp.sin(angle))):
            part[...] = ((inverse.factor * wave).astype(problem.precision) @ flat.T).reshape(spectra.shape)
        return spectra

    def run_block(x: Any, w_spectra: Any, y: Any) -> None:
        n = len(x)
        view = windows(xp, pad_input(xp, x, rows, columns, padded[:n]), shape, rows, columns)
        for psi in ((i, j) for i in range(rows.out_phases) for j in range(columns.out_phases)):
            # n g c (phase piece tile element) twice -> g (c phase piece)^2 n tile tile element element
            d = view[:, :, :, psi[0], :, :, :, :, psi[1]].transpose(1, 2, 3, 4, 7, 8, 0, 5, 9, 6, 10)
            x_tiles = forward.source(n * tiles * g * c)
            x_tiles.reshape(d.shape)[...] = d  # a view: the first dimension is split
            x_hat = spectra_x[: frequencies * g * c * n * tiles].reshape(frequencies, -1)
            x_hat[...] = forward.run(n * tiles * g * c).reshape(-1, frequencies).T
            y_hat = spectra_y[: frequencies * g * k * n * tiles].reshape(frequencies * g, k, n * tiles)
            device.matmul(w_spectra, x_hat.reshape(frequencies * g, c, n * tiles), y_hat)
            inverse.source(n * tiles * g * k).reshape(-1, frequencies)[...] = y_hat.reshape(frequencies, -1).T
            y_tiles = inverse.run(n * tiles * g * k)[:, : rows.tile, : columns.tile]
            # g k n tile tile row column -> n (g k) (tile row) (tile column)
            order = y_tiles.reshape(shape.k, n, rows.tiles, columns.tiles, rows.tile, columns.tile)
            values = order.transpose(1, 0, 2, 4, 3, 5).reshape(n, shape.k, rows.tiles * rows.tile, -1)
            put_phase(y, values, rows, columns, psi)

    def run(x: Any, w_spectra: Any, y: Any) -> None:
        for first in range(0, shape.n, block):
            run_block(x[first : first + block], w_spectra, y[first : first + block])

    workspace = padded.nbytes + forward.nbytes + inverse.nbytes + spectra_x.nbytes + spectra_y.nbytes
    if frequencies == 1 or shape.is_matrix_product:
        note = "; ".join(["degenerate: every tile has one output, a matrix product", *([note] if note else [])])
    return Plan(run, prepare, workspace, words(shape, size, tiles, note))


def words(shape: ConvShape, size: tuple[int, int], tiles: int, note: str) -> str:
    """What a plan with FFTs of this size says of itself."""
    said = [f"{size[0]}x{size[1]} points, {tiles} tile{'s' * (tiles > 1)} an image"]
    if shape.stride != (1, 1) or shape.dilation != (1, 1):
        said.append("polyphase")
    return "; ".join([*said, *([note] if note else [])])


def axes_for(shape: ConvShape, size: tuple[int, int]) -> tuple[UnitAxis, UnitAxis]:
    """The axes for FFTs of this size: m = L - r + 1 outputs a tile."""
    lengths = [axis.length for axis in axes(shape, None)]
    return axes(shape, (size[0] - lengths[0] + 1, size[1] - lengths[1] + 1))


def products(shape: ConvShape, size: tuple[int, int]) -> float:
    """Complex products an image and channel pair need with FFTs of this size: what choosing a size goes by."""
    rows, columns = axes_for(shape, size)
    phases = rows.out_phases * columns.out_phases * rows.channels * columns.channels
    return phases * rows.tiles * columns.tiles * size[0] * ceil((size[1] + 1) / 2)


def _angles(xp: Any, size: tuple[int, int], r: int, s: int) -> Any:
    """2 pi (f r / L_h + h s / L_w) [frequencies, taps]: exp(+i angle) is the conjugate of a tap's spectrum."""
    f, h = xp.arange(size[0])[:, None, None, None], xp.arange(size[1] // 2 + 1)[None, :, None, None]
    tap_r, tap_s = xp.arange(r)[None, None, :, None], xp.arange(s)[None, None, None, :]
    turns = (f * tap_r % size[0]) / size[0] + (h * tap_s % size[1]) / size[1]
    return (2 * xp.pi * turns).reshape(-1, r * s)
