"""The report: charts as SVG and PNG and a page of tables, from results files alone (no GPU, no CuPy)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from convbench.report.accuracy import accuracy_chart
from convbench.report.charts import comparison_chart, memory_chart, throughput_chart, time_chart
from convbench.report.heatmap import heat_chart
from convbench.report.network import network_chart
from convbench.report.roofline import roofline_chart
from convbench.report.series import Series, gather
from convbench.report.tables import page
from convbench.results import ResultsError, Row

# File name, what it shows, and the function that draws it, or returns None where it has nothing to say.
CHARTS: list[tuple[str, str, Callable[[Sequence[Series]], Any | None]]] = [
    ("time", "Time by layer and algorithm", time_chart),
    ("slowdown", "Times slower than the layer's best", heat_chart),
    ("network", "Whole network, each family and the best of each layer", network_chart),
    ("gflops", "Effective GFLOP/s and the measured peak", throughput_chart),
    ("roofline", "Executed GFLOP/s under the machine's ceilings", roofline_chart),
    ("memory", "Workspace and peak memory", memory_chart),
    ("accuracy", "Accuracy, against speed and by layer", accuracy_chart),
    ("comparison", "The best of each layer, side by side", comparison_chart),
]


def write_report(files: dict[str, list[Row]], out: Path) -> list[Path]:
    """Write all charts and `report.md` into the folder `out`, which is made; return the paths.

    Several files, and several conditions within one, become panels of their own. Raises ResultsError where no row
    is `ok` or the folder cannot be written.
    """
    import matplotlib

    from convbench.report.style import RC, save

    series = [one for one in gather(files) if any(row.status == "ok" for row in one.rows)]
    if not series:
        raise ResultsError(f"{', '.join(files)}: no row has the status ok, so there is nothing to draw")
    written: list[Path] = []
    shown = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, title, draw in CHARTS:
            with matplotlib.rc_context(RC):
                figure = draw(series)
                if figure is not None:
                    written += save(figure, out, name)
                    shown.append((f"{name}.svg", title))
        written.append(out / "report.md")
        written[-1].write_text(page(gather(files), shown), encoding="utf-8")
    except OSError as error:
        raise ResultsError(f"cannot write {out}: {error.strerror or error}; choose another --out") from None
    return written
