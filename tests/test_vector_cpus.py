"""Vector code compiled for CPUs that are not here: sums stay in registers, multiply-adds are one instruction."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from vector_targets import IS_X86, TARGETS

from convbench.algorithms.compiled import blocks_together
from convbench.algorithms.fused.dft import Dft
from convbench.algorithms.fused.engine import convolve
from convbench.algorithms.fused.stages import Tile
from convbench.algorithms.fused.toom import Toom
from convbench.algorithms.gemm import paired
from convbench.algorithms.gemm.cut import cut_of
from convbench.algorithms.gemm.halves import in_halves
from convbench.algorithms.gemm.stream import IN_PAIRS, PLAIN, multiply, stream
from convbench.vector.build import compiled, optimised
from convbench.vector.distance import exchange
from convbench.vector.panel import PANEL, panel
from convbench.vector.peak import multiply_adds
from convbench.vector.product import Asks, most_rows, product, rows_together
from convbench.vector.target import Target, host
from convbench.vector.team import KERNEL
from convbench.vector.weights import BLOCK, EVEN_PAIRS, FIXED24, FLOAT32, PAIRS, Weights

EACH_TARGET = pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
ON_X86 = pytest.mark.skipif(not IS_X86, reason="names CPUs of another kind")


def kernels() -> Iterator[Any]:
    toom, dft = Toom(4, 3, (0, 1.5, -1.5), (1j,)), Dft(6, 3, 8)
    for side in (1, 2):
        yield (
            KERNEL,
            convolve,
            (Tile(dft, toom), side, FIXED24 if side == 1 else FLOAT32, (4, 4, False), False, True, True),
        )
        yield PANEL, panel, (side, Asks(side == 1, side == 2, side == 2, side == 1), FLOAT32 if side == 1 else FIXED24)
    for weights, rows, name in (
        (FLOAT32, 0, "znver5"),
        (FIXED24, 1, "znver5"),
        (PAIRS, 0, "znver5"),
        (PAIRS, 1, "znver4"),
    ):
        yield KERNEL, stream, (cut_of(weights, 8, TARGETS[name]), rows)
    yield KERNEL, in_halves, (cut_of(FLOAT32, 8, host()),)
    yield KERNEL, multiply_adds, ()
    yield KERNEL, exchange, ()


@ON_X86
@EACH_TARGET
def test_kernels_compile_for_cpus_that_are_not_here(target: Target) -> None:
    starts = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\x64\x86\x00\x00")  # Linux, macOS, Windows
    for arguments, write, parameters in kernels():
        assert compiled(arguments, write, parameters, target)[:4] in starts


def loops(target: Target, arguments: str, write: Callable[..., None], *parameters: Any) -> list[str]:
    """The assembly of the innermost loops that multiply."""
    machine, module = optimised(arguments, write, parameters, target)
    blocks = re.split(r"\n(?=\.L\w+:)", machine.emit_assembly(module))
    found = []
    for block in blocks:
        label = block.partition(":")[0].strip()
        end = re.search(rf"\n\tj\w+\t{re.escape(label)}\b", block)
        if end and re.search(r"\tv?f?m(add|ul)\w*ps", block[: end.end()]):
            found.append(block[: end.end()])
    return found


@ON_X86
@pytest.mark.parametrize("weights", [FLOAT32, FIXED24])
@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.lanes > 4])
def test_sums_stay_in_registers(name: str, weights: Weights) -> None:
    """Nothing of an inner loop goes to the stack, and a multiply-add is one instruction."""
    target = TARGETS[name]
    for panels in {1, target.panels}:
        rows, each = most_rows(target, panels, weights), BLOCK // target.lanes
        asks = Asks(True, target.bars_passers, True, True)
        (loop,) = loops(target, asks.arguments(weights), product, rows, panels, asks, weights)
        assert not re.search(r"mm\d+, .*\(%r[sb]p", loop)
        assert len(re.findall(r"vfmadd\w+ps", loop)) == rows * each * panels
        assert ("zmm" in loop) == (target.lanes == 16)
    for count, panels, near in ((1, 4, True), (most_rows(target, target.panels, weights), target.panels, False)):
        (loop,) = loops(target, PLAIN, multiply, cut_of(weights, count, target), count, panels, 1, near)
        assert not re.search(r"mm\d+, .*\(%r[sb]p", loop)


@ON_X86
@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.lanes > 4])
def test_pairs_stay_in_registers(name: str) -> None:
    """Two sums and two multiply-adds for three numbers of the depth, and nothing on the stack."""
    target = TARGETS[name]
    for panels in {1, target.panels}:
        rows = most_rows(target, panels, PAIRS)
        (loop,) = loops(target, IN_PAIRS, paired.multiply, cut_of(PAIRS, rows, target), rows, panels)
        assert not re.search(r"mm\d+, .*\(%r[sb]p", loop)
        for operation in ("vfmadd", "vadd"):
            assert len(re.findall(operation + r"\w*ps", loop)) == 2 * rows * panels * BLOCK // target.lanes


@ON_X86
@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.lanes > 4])
@pytest.mark.parametrize("weights", [PAIRS, EVEN_PAIRS])
def test_pairs_of_tiles_stay_in_registers(name: str, weights: Weights) -> None:
    """The loop of threes, and that of what is left behind them."""
    target = TARGETS[name]
    for panels in {1, target.panels}:
        rows, each = rows_together(target, panels, weights), panels * BLOCK // target.lanes
        asks = Asks(True, target.bars_passers, True, True)
        threes, rest = loops(target, asks.arguments(weights), product, rows, panels, asks, weights)
        assert not re.search(r"mm\d+, .*\(%r[sb]p", threes + rest)
        for operation in ("vfmadd", "vadd"):
            assert len(re.findall(operation + r"\w*ps", threes)) == 2 * rows * each
        assert len(re.findall(r"vfmadd\w*ps", rest)) == rows * each


def test_what_registers_hold() -> None:
    assert {name: (t.lanes, most_rows(t, 1, FLOAT32), t.panels) for name, t in TARGETS.items()} == {
        "nehalem": (4, 3, 1), "haswell": (8, 6, 1), "znver3": (8, 6, 1), "skylake-avx512": (16, 28, 2),
        "znver4": (16, 28, 1), "znver5": (16, 28, 2),
    }  # fmt: skip
    assert most_rows(TARGETS["skylake-avx512"], 2, FLOAT32) == 14
    assert Target("x", "+neon").sums == 28
    assert {name: most_rows(t, t.panels, PAIRS) for name, t in TARGETS.items()} == {
        "nehalem": 1, "haswell": 4, "znver3": 4, "skylake-avx512": 12, "znver4": 26, "znver5": 12,
    }  # fmt: skip
    assert {name: rows_together(t, t.panels, PAIRS) for name, t in TARGETS.items()} == {
        "nehalem": 1, "haswell": 4, "znver3": 4, "skylake-avx512": 12, "znver4": 16, "znver5": 12,
    }  # fmt: skip
    assert {name for name, t in TARGETS.items() if t.bars_passers} == {"znver3", "znver4", "znver5"}
    assert {name for name, t in TARGETS.items() if t.keeps_own} == {"znver3", "znver4", "znver5"}
    assert {name for name, t in TARGETS.items() if t.foresees} == {"znver5"}
    assert {name for name, t in TARGETS.items() if t.drops_requests} == {"znver4"}
    assert {name for name, t in TARGETS.items() if blocks_together(t, 17) == 2} == {
        "skylake-avx512",
        "znver4",
        "znver5",
    }
    assert {name for name, t in TARGETS.items() if blocks_together(t, 17, True) == 2} == {"skylake-avx512", "znver5"}
    assert {blocks_together(t, 16) for t in TARGETS.values()} == {1}
    assert isinstance(host().lanes, int)
