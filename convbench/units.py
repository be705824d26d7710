"""Numbers for people: times and sizes with three digits and a unit."""

from __future__ import annotations


def three_digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def duration(ms: float | None, unit: bool = True) -> str:
    """Milliseconds as us, ms or s; without its unit always in ms."""
    if ms is None:
        return ""
    if not unit:
        return three_digits(ms) if ms >= 0.1 else f"{ms:.4f}"
    if ms < 0.9995:
        return f"{three_digits(1e3 * ms)} us"
    return f"{three_digits(ms)} ms" if ms < 999.5 else f"{three_digits(ms / 1e3)} s"


def like(ms: float | None, other: float | None) -> str:
    """Milliseconds in the unit that `duration` gives another time, without it."""
    if ms is None or other is None:
        return ""
    scale = {"us": 1e3, "ms": 1.0, "s": 1e-3}[duration(other).split()[1]]
    return three_digits(scale * ms)


def error(value: float | None, digits: int = 1) -> str:
    """2.1e-7: a relative error, with `digits` after the point."""
    if value is None:
        return ""
    mantissa, _, exponent = f"{value:.{digits}e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def size(count: float | None) -> str:
    """Bytes as B, KB, MB or GB (powers of 1000)."""
    if count is None:
        return ""
    for unit, limit in (("B", 1e3), ("KB", 1e6), ("MB", 1e9)):
        if count < 0.9995 * limit:
            return f"{three_digits(count / limit * 1e3) if unit != 'B' else int(count)} {unit}"
    return f"{three_digits(count / 1e9)} GB"


def counted(number: int, noun: str) -> str:
    """A number and its noun: `1 layer`, `8 layers`."""
    return f"{number} {noun}{'s' * (number != 1)}"
