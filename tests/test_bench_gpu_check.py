"""What `make gpu` checks before it measures: which fail, which are not begun, how many at once."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from convbench.bench_gpu import check


def test_a_wrong_answer_is_shown_and_the_others_are_kept_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(words: list[str], **_: Any) -> Any:
        if words[3] == "m.slow":
            raise subprocess.TimeoutExpired(words, 1)
        code = {"m.wrong": 5, "m.dead": -11}.get(words[3], 0)
        return SimpleNamespace(returncode=code, stdout=f"said by {words[3]}\n", stderr="")

    monkeypatch.setattr(subprocess, "run", answers)
    jobs = [("m.right", "float32"), ("m.wrong", "float32"), ("m.dead", "tf32"), ("m.slow", "tf32")]
    assert check.check_all(jobs, (1, 2), tmp_path / "checks.txt", 8 << 30, time.monotonic() + 1000) == 5
    text = capsys.readouterr().out
    assert "m.wrong in float32 failed with exit code 5:\nsaid by m.wrong" in text
    assert "m.dead in tf32 failed with exit code 4" in text
    assert "not finished after 240 s" in text
    assert "said by m.right" not in text
    assert "1 of 4 right" in text
    assert "== m.right float32: exit 0\nsaid by m.right\n" in (tmp_path / "checks.txt").read_text()
    assert check.check_all(jobs[:1], (1, 2), tmp_path / "checks.txt", 8 << 30, time.monotonic()) == 4
    assert "not checked, as no time was left: m.right in float32\n0 of 1 right" in capsys.readouterr().out


def test_no_more_processes_than_memory_and_cores_allow() -> None:
    assert check.together(140 << 30, 16) == 14
    assert check.together(140 << 30, 64) == check.MOST_TOGETHER
    assert check.together(24 << 30, 16) == 4
    assert check.together(1 << 30, 1) == 1


def test_one_job_checks_the_layers_at_each_batch_and_odd_shapes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def verification(
        layers: Any, algorithms: Any, device: Any, precision: str, batch: int, shapes: int, seed: int
    ) -> int:
        asked.append((len(layers), algorithms[0].name, precision, batch, shapes))
        return 4 if batch == 1 else 0

    monkeypatch.setattr("convbench.verify.print_verification", verification)
    monkeypatch.setattr("convbench.options.chosen_device", lambda kind, threads: (None, ""))
    assert check.check_one("direct.naive", "float32", (16, 1)) == 4
    assert asked == [(8, "direct.naive", "float32", 16, check.SHAPES), (8, "direct.naive", "float32", 1, 0)]
    assert check.check_one("library.torch.nchw", "float32", (16, 1)) == 0, "a vendor may take none of them"
