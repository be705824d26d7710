"""What gemm.panel asks for ahead: in plain whole numbers the same arithmetic as in vector code."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from convbench.vector.coming import Coming, lines_of
from convbench.vector.weights import LINE


def asked(coming: Any, panels: int, tiles: int) -> list[int]:
    """Where the lines are that all panels and tiles ask of a channel."""
    shares = [coming.share(panel, panels) for panel in range(panels)]
    return [share.of_tile(tile, tiles).place for share in shares for tile in range(tiles)]


@given(
    rows=st.integers(1, 9), columns=st.integers(1, 99), step=st.integers(1, 4), panels=st.integers(1, 9),
    begin=st.integers(0, 15),
)  # fmt: skip
def test_all_lines_are_asked_for(rows: int, columns: int, step: int, panels: int, begin: int) -> None:
    """Whatever part of a line the first number of a row has; each once where there are as many tiles as lines."""
    numbers: Any = columns
    row_lines: Any = lines_of(numbers, step)
    row, source = 4096 * step, 4 * begin
    coming: Any = Coming(*(source, 1 << 20, row, row_lines, 0, rows * row_lines))  # type: ignore[arg-type]
    places = asked(coming, panels, -(-rows * row_lines // panels))
    lines = {place // LINE for place in places}
    for i in range(rows):
        for j in range(columns):
            assert (source + i * row + 4 * j * step) // LINE in lines
    assert len(set(places)) == rows * row_lines


def test_fewer_tiles_than_lines_ask_evenly() -> None:
    coming: Any = Coming(*(0, 1 << 20, 4096, 8, 0, 16))  # type: ignore[arg-type]
    assert [place // LINE for place in asked(coming, 2, 4)] == [0, 2, 4, 6, 64, 66, 68, 70]


def test_more_tiles_than_lines_ask_twice() -> None:
    """A line that is already on its way costs little."""
    coming: Any = Coming(*(0, 1 << 20, 4096, 4, 0, 4))  # type: ignore[arg-type]
    assert [place // LINE for place in asked(coming, 1, 8)] == [0, 0, 1, 1, 2, 2, 3, 3]
