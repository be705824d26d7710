"""What people read of the gate: the table in the terminal and the forest plot."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from xml.etree import ElementTree

import pytest
from gate_outcomes import ALL, cell, outcome
from rich.console import Console

from convbench.gate.outcome import GateError, Outcome, Verdict
from convbench.gate.plot import save_plot
from convbench.gate.show import print_outcome


def test_the_table_cuts_nothing_off() -> None:
    long = cell(Verdict.FAIL, "n1c64h56w56k128r3s3u2p1/winograd.f4", reason="slower than extraordinary expectations")
    console = Console(width=80, record=True, file=io.StringIO(), highlight=False)
    print_outcome(console, outcome(long, cell(Verdict.INCONCLUSIVE)))
    text = console.export_text()
    assert all(word in text for word in ("slower than", "extraordinary", "expectations", "1/winograd.f4"))


@pytest.mark.parametrize("found", ALL, ids=["every verdict", "none", "one", "gone", "many"])
def test_the_table_fits_80_columns_and_is_short(found: Outcome) -> None:
    console = Console(width=80, record=True, file=io.StringIO(), highlight=False)
    print_outcome(console, found)
    lines = console.export_text().splitlines()
    assert all(len(line.rstrip()) <= 80 for line in lines[:-3])
    assert lines[-1].startswith(str(found.verdict))
    if len(found.cells) == 60:
        assert len(lines) < 20
        assert "not shown: 52 PASS; ratios 1.00 to 1.00" in lines


@pytest.mark.parametrize("found", ALL[:4], ids=["every verdict", "none", "one", "gone"])
def test_the_forest_plot_is_drawn(found: Outcome, tmp_path: Path) -> None:
    paths = save_plot(found, tmp_path / "charts" / "gate.svg")
    assert [path.name for path in paths] == ["gate.svg", "gate.png"]
    texts = " ".join("".join(e.itertext()) for e in ElementTree.parse(paths[0]).iter() if e.tag.endswith("text"))
    assert f"check: {found.verdict}, def against abc" in texts
    assert "10 % slower" in texts
    assert all(one.cell in texts for one in found.cells if len(one.cell) < 30)
    assert struct.unpack(">I", paths[1].read_bytes()[16:20])[0] == 1700
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(GateError, match="cannot write"):
        save_plot(found, tmp_path / "file" / "x.svg")
