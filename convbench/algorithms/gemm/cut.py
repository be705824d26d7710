"""How X [N, D] of a fully connected layer is cut into chunks of D, for weights of some form (stream.py, halves.py)."""

from __future__ import annotations

from typing import NamedTuple

from convbench.vector.product import most_rows
from convbench.vector.target import Target
from convbench.vector.weights import LINE, THREE, Weights

UNIT = 16  # the depth is filled up to a multiple of this, with zeros
DEPTH = 256  # of a chunk: 16 KB of a panel, which stay in the first cache; errors grow with the root of it
# In pairs. Where a chunk of a panel is used but once or twice, it is best in the first cache, else long (Zen 5):
FEW_ROWS, FEW_THREES, MANY_THREES = 16, 3, 8
STREAM_THREES = 4  # or so long that a stream of weights leaves it in the first cache, beside the sums of STREAM_PANELS
STREAM_PANELS = 8  # at most, whose chunks follow one another
STREAM_SHARES = 2  # parts of the work a thread gets at least: for each all of X comes into the first cache anew


class Cut(NamedTuple):
    """The form of the weights, and the cut."""

    weights: Weights
    depth: int  # of a chunk
    unit: int  # the depth is filled up to a multiple of this
    once: bool = False  # whether the weights pass the caches but once
    streams: bool = False  # whether weights lie in the order in which they are read, by all rows at a time

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of a chunk, an odd number of cache lines: a line at least is free behind its numbers."""
        lines = 4 * self.depth // LINE + 1
        return (lines + 1 - lines % 2) * LINE

    @property
    def pitch(self) -> int:
        """Bytes from row to row of a chunk; where weights stream, of the same three blocks of numbers (paired.py)."""
        return 3 * LINE if self.streams else self.row_bytes

    @property
    def asked_bytes(self) -> int:
        """Of X's next chunk, that a panel of a stream asks for: a line with each three numbers of the depth."""
        return self.depth // 3 * LINE

    @property
    def chunk_bytes(self) -> int:
        """Of a panel of weights, without its scales."""
        return int(self.weights.before(self.depth)) - self.weights.head


def cut_of(weights: Weights, rows: int, target: Target) -> Cut:
    """The cut for so many rows of X."""
    if not weights.in_pairs:
        return Cut(weights, DEPTH, UNIT)
    if target.drops_requests and rows <= most_rows(target, 1, weights):
        return Cut(weights._replace(threes=STREAM_THREES), STREAM_THREES * THREE, THREE, streams=True)
    return Cut(weights, (FEW_THREES if rows <= FEW_ROWS else MANY_THREES) * THREE, THREE)
