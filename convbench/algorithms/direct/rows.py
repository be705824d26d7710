"""How one row of output pixels is cut into tiles, and which pixels of a tile each tap reaches beside the padding."""

from __future__ import annotations

from dataclasses import dataclass

MOST_KINDS = (
    10  # of tiles in a row, each compiled by itself; where there would be more, those with padding go one by one
)


@dataclass(frozen=True)
class Axis:
    """One axis of a convolution: output o and tap t meet at input  o stride + t dilation - pad."""

    length: int
    outputs: int
    taps: int
    stride: int
    pad: int
    dilation: int

    def taps_of(self, output: int) -> tuple[int, int]:
        """The taps that meet the input, not padding: first, and behind the last."""
        start = output * self.stride - self.pad
        first = min(self.taps, max(0, -(start // self.dilation)))
        last = max(first, min(self.taps, -(-(self.length - start) // self.dilation)))
        return first, last

    def spans(self, first: int, count: int) -> tuple[tuple[int, int], ...]:
        """For each tap, which of the outputs first .. first + count - 1 it reaches, counted from `first`."""
        reached = [self.taps_of(first + i) for i in range(count)]
        out = []
        for tap in range(self.taps):
            inside = [i for i, (low, high) in enumerate(reached) if low <= tap < high]
            out.append((inside[0], inside[-1] + 1) if inside else (0, 0))
        return tuple(out)


@dataclass(frozen=True)
class Run:
    """Tiles of a row that are alike and next to each other; without spans, single pixels that look up their taps."""

    first: int
    count: int
    pixels: int
    spans: tuple[tuple[int, int], ...] | None


def cut(axis: Axis, most: int) -> tuple[Run, ...]:
    """A row in tiles of equal length, as far as that goes, of at most `most` pixels."""
    parts = -(-axis.outputs // most)
    least, longer = divmod(axis.outputs, parts)
    runs: list[Run] = []
    first = 0
    for part in range(parts):
        pixels = least + (part < longer)
        spans = axis.spans(first, pixels)
        last = runs[-1] if runs else None
        if last and (last.pixels, last.spans) == (pixels, spans):
            runs[-1] = Run(last.first, last.count + 1, pixels, spans)
        else:
            runs.append(Run(first, 1, pixels, spans))
        first += pixels
    if len({(run.pixels, run.spans) for run in runs}) <= MOST_KINDS:
        return tuple(runs)
    return tuple(
        run if set(run.spans or ()) == {(0, run.pixels)} else Run(run.first, run.count * run.pixels, 1, None)
        for run in runs
    )
