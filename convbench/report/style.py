"""How charts look: colours, marks, fonts, frames. Made for 850 pixels of width, colour-blind eyes and grey printers."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WIDTH, DPI = 8.5, 200  # inches; shown at 850 pixels an inch is 100 of them, and 9 points are 12
HEAD = 0.34  # inches above the first panel: the title; and for each line of facts
LINE = 0.165
GREY, DARK, BAND = "#767676", "#222222", "#f3f3f3"
FACTS_WIDTH = 122  # characters of the facts' font that fit on a line

# Okabe & Ito, Color Universal Design (2008). Marks and hatches say the same once more.
LOOKS = {
    "gemm": ("#0072B2", "s", "//"),
    "fft": ("#D55E00", "o", ".."),
    "winograd": ("#009E73", "^", "\\\\"),
    "direct": ("#CC79A7", "D", "xx"),
    "library": ("#4D4D4D", "P", "--"),
}
OTHERS = (("#56B4E9", "X", "++"), ("#E69F00", "v", "||"), ("#8C6D00", "*", "oo"), ("#7A5195", "p", "OO"))
# Variants of one family: full, open, pale, left half, right half, lower half; then again with the family's next mark,
# and when there is none left, paler.
NEXT_MARKS = {"gemm": ("p",), "winograd": ("<", ">"), "library": ("h",), "direct": ("d",)}
FILLS = (("full", 0.0), ("none", 0.0), ("full", 0.6), ("left", 0.0), ("top", 0.0), ("right", 0.3))

RC = {
    "font.family": ["sans-serif"],  # DejaVu comes with matplotlib; where an SVG is shown without it, Verdana is as wide
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 9.5,
    "axes.labelsize": 9.5,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.7,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.handletextpad": 0.3,
    "legend.columnspacing": 1.2,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
    "svg.hashsalt": "convbench",  # the same numbers give the same file
    "hatch.linewidth": 0.6,
}


@dataclass(frozen=True)
class Look:
    """An algorithm's colour (of line and edge), the two halves of its mark, its marker and fill style."""

    colour: str
    face: str
    marker: str
    fill: str

    def marks(self, size: float) -> dict[str, Any]:
        """The keywords of `Axes.plot` for marks without a line."""
        return {
            "marker": self.marker, "fillstyle": "full" if self.fill == "none" else self.fill, "markersize": size,
            "color": self.face, "markeredgecolor": self.colour, "markeredgewidth": 1.1, "markerfacecoloralt": "white",
            "linestyle": "none",
        }  # fmt: skip


def family_look(family: str, known: Sequence[str]) -> tuple[str, str, str]:
    """Colour, marker and hatch of a family; families of plug-ins take the next free one."""
    if family in LOOKS:
        return LOOKS[family]
    strangers = [name for name in known if name not in LOOKS]
    return OTHERS[strangers.index(family) % len(OTHERS)]


def looks(names: Sequence[str]) -> dict[str, Look]:
    """A look for each algorithm: the family's colour and mark, the variant's shade and filling."""
    by_family: dict[str, list[str]] = {}
    for name in names:
        by_family.setdefault(name.partition(".")[0], []).append(name)
    found = {}
    for family, variants in by_family.items():
        colour, marker, _ = family_look(family, list(by_family))
        marks = (marker, *NEXT_MARKS.get(family, ()))
        for place, name in enumerate(variants):
            fill, shade = FILLS[place % len(FILLS)]
            again, turn = divmod(place // len(FILLS), len(marks))
            face = "white" if fill == "none" else mix(colour, min(0.75, shade + 0.25 * again))
            found[name] = Look(colour, face, marks[turn], fill)
    return found


def mix(colour: str, white: float) -> str:
    """A colour thinned with white."""
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(part + (255 - part) * white):02x}" for part in parts)


def figure(title: str, facts: str, heights: Sequence[float], columns: int = 1, **grid: Any) -> tuple[Any, Any]:
    """A figure with its title and facts above, and its panels, an array [len(heights), columns]."""
    from matplotlib.figure import Figure

    lines = [line for part in facts.split("\n") for line in textwrap.wrap(part, FACTS_WIDTH)]
    head = HEAD + LINE * len(lines) + 0.08
    height = sum(heights) + head
    fig = Figure(figsize=(WIDTH, height), layout="constrained")
    engine: Any = fig.get_layout_engine()
    engine.set(rect=(0, 0, 0.995, 1 - head / height), h_pad=0.06, w_pad=0.06, hspace=0.03)
    fig.text(0.012, 1 - 0.09 / height, title, fontsize=12, fontweight="bold", va="top")
    fig.text(0.012, 1 - HEAD / height, "\n".join(lines), fontsize=8.5, color="#444444", va="top", linespacing=1.25)
    axes = fig.subplots(len(heights), columns, squeeze=False, height_ratios=heights, **grid)
    return fig, axes


def legend(fig: Any, handles: Sequence[Any], names: Sequence[str], row: float = 0.2) -> None:
    """The legend below all panels, as many columns as fit; the figure grows by its height."""
    columns = next(n for n in range(min(len(names), 8), 0, -1) if n == 1 or _legend_width(names, n) < 8.1)
    extra = row * math.ceil(len(names) / columns) + 0.1
    width, height = fig.get_size_inches()
    grow(fig, extra / height)
    fig.set_size_inches(width, height + extra)
    fig.legend(handles, names, loc="outside lower center", ncols=columns)


def _legend_width(names: Sequence[str], columns: int) -> float:
    """Inches of a legend whose columns are filled one after the other, the first ones by one name more."""
    each, longer = divmod(len(names), columns)
    ends = [(i + 1) * each + min(i + 1, longer) for i in range(columns)]
    starts = [0, *ends[:-1]]
    return sum(0.082 * max(map(len, names[a:b])) + 0.45 for a, b in zip(starts, ends, strict=True))


def grow(fig: Any, share: float) -> None:
    """Keep what stands above the panels at its distance from the upper edge when the figure gets higher by a share."""
    for text in fig.texts:
        text.set_y(1 - (1 - text.get_position()[1]) / (1 + share))
    x, y, w, h = fig.get_layout_engine().get()["rect"]
    fig.get_layout_engine().set(rect=(x, y, w, 1 - (1 - h) / (1 + share)))


def save(fig: Any, folder: Path, name: str) -> list[Path]:
    """Write `<name>.svg` and `<name>.png`. Raises OSError."""
    paths = [folder / f"{name}.svg", folder / f"{name}.png"]
    fig.savefig(paths[0], metadata={"Date": None})
    fig.savefig(paths[1], dpi=DPI)
    return paths


def wrapped(name: str, limit: int = 13) -> str:
    """A name on lines of at most `limit` characters; shape words break between their letters, at best before k."""
    if len(name) <= limit:
        return name
    pieces = re.findall(r"[a-z]\d+(?:x\d+)?", name) if re.fullmatch(r"(?:[a-z]\d+(?:x\d+)?)+", name) else []
    before, k, after = name.partition("k")
    if pieces and k and max(len(before), 1 + len(after)) <= limit:
        return f"{before}\nk{after}"
    pieces = pieces or re.findall(r"[^-_./ ]*[-_./ ]?", name)
    lines = [""]
    for piece in pieces:
        for start in range(0, len(piece), limit):
            part = piece[start : start + limit]
            if len(lines[-1]) + len(part) > limit and lines[-1]:
                lines.append("")
            lines[-1] += part
    return "\n".join(lines[:4]) + ("…" if len(lines) > 4 else "")


def elided(name: str, limit: int) -> str:
    """A name of at most `limit` characters."""
    return name if len(name) <= limit else name[: limit - 1] + "…"


def algorithm(name: str, limit: int) -> str:
    """An algorithm's name, where it is too long without the family's name for what others have built."""
    return elided(name if len(name) <= limit else name.removeprefix("library."), limit)


def log_scale(axis: Any, low: float, high: float, text: Any = None) -> None:
    """A logarithmic axis over low..high with some air, at least a decade long, with plain numbers on it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = low / 1.4, high * 1.4
    if high / low < 10:
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(10), middle * math.sqrt(10)
    decades = math.log10(high / low)
    axis.axes.set(**{f"{axis.axis_name}scale": "log", f"{axis.axis_name}lim": (low, high)})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3.3 else (1,), numticks=12))
    axis.set_minor_locator(LogLocator(subs=range(2, 10) if decades < 6 else (1,), numticks=200))
    axis.set_major_formatter(FuncFormatter(lambda value, _: (text or plain)(value)))
    axis.set_minor_formatter(NullFormatter())


def plain(value: float) -> str:
    """A tick's number without an exponent, as far as that is readable."""
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def power(value: float) -> str:
    """A tick's number as 1e-7."""
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def is_dark(colour: Any) -> bool:
    """True where white text on an RGB colour stands out more than black (relative luminance, WCAG 2, with a bias)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] < 0.22


def bytes_tick(value: float) -> str:
    """A tick's number of bytes, powers of 1000 as everywhere."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if value >= scale:
            return f"{value / scale:,.0f} {unit}"
    return f"{value:g} B"
