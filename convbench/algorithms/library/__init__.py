"""What others have built, measured like ours: the baseline that ours is held against."""

from __future__ import annotations

from contextlib import suppress


def preload() -> None:
    """Load the libraries that are installed. Must come before Numba's threads start, as `torch.load` says."""
    from convbench.algorithms.base import Missing
    from convbench.algorithms.library.torch import load

    with suppress(Missing):
        load()
