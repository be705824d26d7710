"""Memory that plans need during a call alone, the same for all plans: a room for each thread, and one for all.

What one plan has used lies in the caches when the next one is called: a network's layers do not drive each other's
scratch out, and no line has to come from memory only to be overwritten. PyTorch has this from its allocator, which
hands out again what the layer before gave back. So a device runs one call at a time.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from convbench.devices.base import Device

_rooms: WeakKeyDictionary[Device, dict[int, Any]] = WeakKeyDictionary()


class Rooms:
    """What a plan needs of them; what they hold is whatever the last call left."""

    def __init__(self, device: Device, shared_bytes: int, thread_bytes: int) -> None:
        """Room for all threads together, and for each."""
        self._device, self._needs = device, [shared_bytes, *[thread_bytes] * device.threads]
        self._held: list[Any] = [None] * len(self._needs)
        self.addresses = device.xp.zeros(len(self._needs), device.xp.int64)  # the shared room's first
        self.nbytes = sum(self._needs)
        self.settle()

    def settle(self) -> None:
        """Bring the addresses up to date: another plan may have asked for a larger room since."""
        rooms = _rooms.setdefault(self._device, {})
        for i, need in enumerate(self._needs):
            room = rooms.get(i)
            if room is None or room.nbytes < need:
                room = rooms[i] = self._device.empty((need // 4,), "float32")
            if room is not self._held[i]:
                self._held[i], self.addresses[i] = room, room.ctypes.data


def forget(device: Device) -> None:
    """Let the next plan have rooms of its own, so that their memory can be weighed."""
    _rooms.pop(device, None)
