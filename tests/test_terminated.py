"""SIGTERM ends a verification as Ctrl-C does: what there is is shown, and the signal is then again what it was."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from fakes import convbench


def test_terminated_verification_shows_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from convbench.measure.case import open_case

    count = 0

    def stops(*words: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return open_case(*words, **named)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("convbench.verify.open_case", stops)
    done = convbench(
        "verify", "--device", "cpu", "--shapes", "4", "--layer", "fc8", "--algo", "gemm.im2col", "--seed", "1"
    )
    assert done.code == 130
    assert "interrupted: of 5 cases 2 were checked" in done.out
    assert signal.getsignal(signal.SIGTERM) is before
