"""The command line in a process of its own, with the convbench of this folder and nothing made small but ceilings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fakes import SMALL_CEILINGS

SHAPE = "n1c2h5w5k3r3s3p1"


def convbench(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "convbench", *words],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
    )


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(Path(__file__).parent.parent), SMALL_CEILINGS))}
