"""A plan's work as a generator that yields each phase's name when it is queued: to run it, and to time its phases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from convbench.devices.base import Device

Body = Callable[[Any, Any, Any], Iterator[str]]


def runs(body: Body) -> Callable[[Any, Any, Any], None]:
    """Plan.run of a body: all of it, and nothing waited for."""

    def run(x: Any, w: Any, y: Any) -> None:
        for _ in body(x, w, y):
            pass

    return run


def phases_of(body: Body, device: Device) -> Callable[[Any, Any, Any], Mapping[str, float]]:
    """Plan.phases of a body: the seconds between its yields by name, the device waited for at each."""

    def phases(x: Any, w: Any, y: Any) -> dict[str, float]:
        spent: dict[str, float] = {}
        last = device.now()
        for name in body(x, w, y):
            now = device.now()
            spent[name] = spent.get(name, 0.0) + now - last
            last = now
        return spent

    return phases
