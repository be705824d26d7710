"""The README's table of a GPU, from the files that `make gpu` writes; and marks for as many algorithms as there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rival_rows import case

from convbench.algorithms import built_in
from convbench.report.readme import main as rewrite_readme
from convbench.report.style import looks
from convbench.report.versus import gpu_comparison
from convbench.results import Row, Writer


def on_gpu(algo: str, ms: float, layer: str = "conv1", **changes: Any) -> Row:
    """A row measured on a GPU."""
    return case(algo, ms, layer, **({"device": "cuda", "batch": 16, "error": 2e-7, "cache": "cold"} | changes))


ROWS = [
    on_gpu("fft.split3", 1.0),
    on_gpu("library.torch.nchw", 3.0),
    on_gpu("library.cudnn.fft", 2.0),
    on_gpu("gemm.gemv", 4.0, "fc6"),
    on_gpu("library.torch.nchw", 2.0, "fc6"),
    on_gpu("winograd.f6", 0.5, error=2e-5),  # above what float32 is allowed
    on_gpu("gemm.implicit", 1.0, precision="float16", batch=128, error=3e-4),
    on_gpu("library.torch.nchw", 0.5, precision="float16", batch=128, error=3e-4),
]


def test_a_table_for_each_precision_and_a_column_for_each_batch() -> None:
    more = [on_gpu("fft.split3", 1.0, batch=128), on_gpu("library.torch.nchw", 4.0, batch=128)]
    first, second, origin = gpu_comparison(ROWS + more).split("\n\n")
    assert first.splitlines()[0] == "| float32 | batch 128 | batch 16 |"
    assert "| conv1 | 4.0x `fft.split3` | 2.0x `fft.split3` |" in first.splitlines()
    assert "| fc6 |  | 0.50x `gemm.gemv` |" in first.splitlines()
    assert "| geometric mean | **4.0x (1 of 2 layers)** | **1.0x** |" in first.splitlines()
    assert second.splitlines()[0] == "| float16 | batch 128 |"
    assert "| conv1 | 0.50x `gemm.implicit` |" in second.splitlines()
    assert "| geometric mean | **0.50x (1 of 2 layers)** |" in second.splitlines()
    assert "abc1234" in origin


def test_it_is_put_into_the_readme(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme, folder = tmp_path / "README.md", tmp_path / "nvidia"
    readme.write_text("a\n<!-- gpu:begin -->\n<!-- gpu:end -->\nb\n")
    folder.mkdir()
    for precision in ("float32", "float16"):
        writer = Writer(folder / f"{precision}.csv")
        for row in ROWS:
            if row.precision == precision:
                writer.add(row)
        writer.close()
    assert rewrite_readme([str(readme), str(folder)]) == 0
    text = readme.read_text()
    assert "| conv1 | 2.0x `fft.split3` |" in text
    assert "| conv1 | 0.50x `gemm.implicit` |" in text
    assert text.endswith("From [`nvidia`](nvidia).\n\n<!-- gpu:end -->\nb\n")
    (folder / "float16.csv").unlink()
    lines = (folder / "float32.csv").read_text().splitlines()
    (folder / "float32.csv").write_text(lines[0] + "\n")
    assert rewrite_readme([str(readme), str(folder)]) == 2
    assert "nothing to compare" in capsys.readouterr().err
    assert readme.read_text() == text


def test_all_algorithms_there_are_look_different() -> None:
    names = [algorithm.name for algorithm in built_in()]
    found = looks(names)
    assert len({(look.colour, look.face, look.marker, look.fill) for look in found.values()}) == len(names)
    assert {look.marker for name, look in found.items() if name.startswith("winograd")} == {"^", "<", ">"}
