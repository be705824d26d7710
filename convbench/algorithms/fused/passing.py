"""How filters and V pass the caches, through which and past which; and what is asked for before it is needed."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from convbench.algorithms.fused.blocks import Blocks, Work
from convbench.algorithms.fused.lines import is_read_first
from convbench.algorithms.fused.stages import Tile
from convbench.algorithms.unit import UnitAxis, ceil_div
from convbench.devices.base import Device
from convbench.shapes import ConvShape
from convbench.vector.distance import are_far_apart
from convbench.vector.product import Asks
from convbench.vector.target import host
from convbench.vector.team import runner
from convbench.vector.weights import BLOCK, EVEN_PAIRS, FLOAT32, LINE, Weights

# Where V goes, and whether that is past the caches: where both can be, the distance of threads decides in each call.
KEPT, PAST, PAST_IF_FAR = "", "V past the caches", "V past the caches while threads share none"
PASSING = {KEPT: (False,), PAST: (True,), PAST_IF_FAR: (False, True)}


def later_lines(
    s: ConvShape, tile: Tile, rows: UnitAxis, columns: UnitAxis, work: Work, blocks: Blocks, room: int
) -> dict[str, int]:
    """The lines that a block's panels write, and those of x that a thread's next block reads, as runs (panel.Later).

    Strips of channels, or of images all channels. x is not asked for where it takes more than `room` bytes, or where
    a plane would ask for more lines than there are channels: it has no time for that.
    """
    unit_columns, is_strip = columns.unit_outputs, blocks.tile_rows < rows.tiles
    y_plane, y_channels, filters = 4 * rows.unit_outputs * unit_columns, work.panels * BLOCK, work.filters
    x_plane, x_channels = 4 * s.h * s.w, s.c // s.groups
    y_strip = 4 * blocks.tile_rows * tile.y.outputs * unit_columns
    x_strip = 4 * (blocks.tile_rows * tile.y.outputs + tile.y.taps - 1) * rows.step * s.w

    def lines(planes: int, channels: int, strip: int, plane: int, image: int, name: str) -> dict[str, int]:
        runs, run_bytes = (channels, strip) if is_strip else (blocks.images, channels * plane)
        run = ceil_div(run_bytes, LINE) + 1
        step = plane if is_strip else image
        return {f"{name}_lines": ceil_div(runs * run, planes), f"{name}_run": run, f"{name}_step": step}

    of_y = lines(tile.planes, y_channels, y_strip, y_plane, y_plane * filters, "y")
    planes = tile.planes * max(1, work.items // blocks.shares)
    of_x = lines(planes, x_channels, x_strip, x_plane, x_plane * s.c, "x")
    if of_x["x_lines"] * planes * LINE > room or of_x["x_lines"] > x_channels * rows.channels * columns.channels:
        of_x["x_lines"] = 0
    return of_y | of_x


def passes_once(s: ConvShape, device: Device, nbytes: int) -> bool:
    """Whether filters are kept out of the shared cache: it cannot hold x, y and so many bytes, filters among them."""
    return host().bars_passers and nbytes + 4 * (prod(s.x_shape) + prod(s.y_shape)) > device.cache_bytes


def passage(
    s: ConvShape, device: Device, private: bool, asks_for_x: bool, u_bytes: int, v_bytes: int,
    weights: Weights = FLOAT32,
) -> tuple[Asks, str]:  # fmt: skip
    """How U comes through the caches, and where V goes.

    Filters that fill the caches while they pass would drive V out: they are kept out where the CPU can do that. Else
    V goes past the caches (where a vector is a whole line), and so it does where threads do not share one: for a line
    that another core has read must be taken back from it before it is written. Lines of y that must come from
    memory first are asked for while the products are made (panel.Later), and so is x if asks_for_x.
    Products in pairs read two numbers of each row at once, too soon for a core to find V's lines in its second cache in
    time; and where rows have no powers of their own V is read before that too (row_powers.sum_pairs), so it stays in
    the caches. Filters are asked for twice unless the cores' own caches hold them: layers before may have driven them
    out of the shared one.
    """
    once, bars = passes_once(s, device, u_bytes + v_bytes), host().bars_passers
    may_stream = host().lanes == BLOCK and not private and u_bytes > device.cache_bytes // 2
    asks = Asks(
        not (private and host().keeps_own), once, for_result=is_read_first(s, device), for_input=asks_for_x,
        twice=host().drops_requests and u_bytes > device.threads * device.core_cache_bytes,
    )  # fmt: skip
    if weights == EVEN_PAIRS:
        return asks._replace(for_a=True, near=private), KEPT
    if not may_stream or (bars and device.threads == 1):
        return asks, KEPT
    return asks, PAST_IF_FAR if bars else PAST


class Kernels:
    """A kernel with V where it goes. All that may be called is compiled now: threads may move while a call is timed."""

    def __init__(self, passing: str, threads: int, address: Callable[[bool], int]) -> None:
        """address(streams): of the kernel, with V past the caches or in them."""
        self._threads = threads
        self._calls = {streams: runner(address(streams), threads) for streams in PASSING[passing]}

    def __call__(self, arguments: int) -> None:
        """Run it with the address of its arguments."""
        streams = next(iter(self._calls)) if len(self._calls) == 1 else are_far_apart(self._threads)
        self._calls[streams](arguments)
