"""In the process that imports it what a machine can do is measured in no time, if badly."""

from __future__ import annotations

import importlib

for name, value in {"PEAK_SIZE": 64, "PEAK_SECONDS": 0.0, "last_level_cache": lambda: 1 << 20}.items():
    setattr(importlib.import_module("convbench.devices.cpu"), name, value)
