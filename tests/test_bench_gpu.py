"""`make gpu` without a GPU: what is checked and measured, in which order, what a deadline leaves out, and its table."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import row

from convbench.bench_gpu import __main__ as command
from convbench.layers import load
from convbench.results import Row, Writer

LAYERS = [layer.name for layer in load("alexnet").layers]


def gpu_row(**changes: Any) -> Row:
    values: dict[str, Any] = {"device": "cuda", "hardware": "NVIDIA H200", "cache": "cold", "batch": 128}
    values |= {"gflop": 60.0, "bytes_min": 10**8, "ceiling_gflops": 5e4, "ceiling_gbs": 4000.0}
    return row(**(values | changes))


def written(path: Path, *rows: Row) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = Writer(path)
    for each in rows:
        writer.add(each, [])
    writer.close()
    return path


def test_a_gpus_folder_is_named_after_it() -> None:
    assert command.folder_of("NVIDIA H200") == Path("results/nvidia-h200")
    assert command.folder_of("NVIDIA GeForce RTX 4090 (laptop)") == Path("results/nvidia-geforce-rtx-4090-laptop")


def test_each_precision_takes_the_algorithms_that_have_it() -> None:
    singles = command.chosen("all", "float32")
    assert {"direct.naive", "direct.blocked", "gemm.im2col", "winograd.f4", "fft.full"} <= set(singles)
    assert not {"library.torch.mkldnn", "library.torch.prepacked"} & set(singles), "those are a CPU's"
    assert "direct.naive" not in command.chosen("all", "float16")
    assert command.chosen("direct", "float32") == ["direct.naive", "direct.blocked"]


class Commands:
    """Stands for subprocess.run and Popen: remembers what is asked for, and answers with a code.

    hangs: how many waits for a process are in vain.
    """

    def __init__(self, code: int = 0, out: str = "") -> None:
        self.asked: list[list[str]] = []
        self.code, self.out, self.hangs = code, out, 0
        self.waits: list[float] = []
        self.signals: list[int] = []

    def __call__(self, words: list[str], **_: Any) -> Any:
        self.asked.append([str(word) for word in words[1:]])
        return SimpleNamespace(returncode=self.code, stdout=self.out, stderr="")

    def popen(self, words: list[str]) -> Commands:
        self(words)
        self.left = self.hangs
        self.writes(Path(words[-1]))
        return self

    def wait(self, seconds: float) -> int:
        self.waits.append(seconds)
        self.left -= 1
        if self.left >= 0:
            raise subprocess.TimeoutExpired("convbench", seconds)
        return self.code

    def send_signal(self, number: int) -> None:
        self.signals.append(number)

    def writes(self, path: Path) -> None:
        """What a run leaves in its file: nothing."""


def runs(commands: Commands) -> list[tuple[str, str]]:
    """Precision and batch of each `convbench run`."""
    found = []
    for words in commands.asked:
        if "run" in words[:3]:
            found.append((words[words.index("--precision") + 1], words[words.index("--batch") + 1]))
    return found


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    stand_in = Commands()
    monkeypatch.setattr(subprocess, "run", stand_in)
    monkeypatch.setattr(subprocess, "Popen", stand_in.popen)
    gpu = SimpleNamespace(hardware="NVIDIA H200", free_bytes=lambda: 100 << 30)
    monkeypatch.setattr("convbench.devices.cuda.cuda_device", lambda threads: gpu)
    return stand_in


def test_everything_is_checked_then_measured_the_most_telling_first(commands: Commands, tmp_path: Path) -> None:
    assert command.main(["--out", str(tmp_path)]) == 0
    checks = [words for words in commands.asked if "convbench.bench_gpu.check" in words]
    first_run = next(i for i, words in enumerate(commands.asked) if "run" in words[:3])
    assert len(checks) == first_run, "nothing is timed before all answers are checked"
    assert {(words[2], words[3]) for words in checks} == {
        (name, precision) for precision in command.PRECISIONS for name in command.chosen("all", precision)
    }
    assert {words[4] for words in checks} == {"16"}
    assert runs(commands) == [(p, str(b)) for b in (128, 16, 1) for p in command.PRECISIONS if command.chosen("all", p)]
    assert all("--no-energy" in words for words in commands.asked if "run" in words[:3])
    commands.asked.clear()
    command.main(["--out", str(tmp_path), "--no-checks", "--energy"])
    assert runs(commands)
    assert not any("--no-energy" in words for words in commands.asked)
    assert (tmp_path / "checks.txt").read_text().startswith("== ")


def test_a_deadline_leaves_out_the_last_and_says_so(
    commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 100))  # each look at the clock finds 100 s gone
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    precisions = [name for name in command.PRECISIONS if command.chosen("all", name)]
    command.main(["--out", str(tmp_path), "--minutes", "5", "--no-checks", "--no-charts"])
    assert runs(commands) == [("float32", "128"), ("tf32", "128")]
    text = " ".join(capsys.readouterr().out.split())
    assert "not measured: float16 at batch 128" in text
    assert all(f"{name} at batch 16" in text for name in precisions)
    assert "GPU=--keep" in text


@pytest.mark.parametrize(("hangs", "signals"), [(1, [signal.SIGINT]), (2, [signal.SIGINT, signal.SIGKILL])])
def test_a_run_that_is_not_done_in_time_is_cut_off(
    commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str], hangs: int, signals: list[int]
) -> None:
    commands.hangs = hangs
    asked = ["--out", str(tmp_path), "--no-checks", "--no-charts", "--batches", "16", "--precisions", "float32,tf32"]
    assert command.main(asked) == 0
    assert commands.signals == 2 * signals
    assert all(seconds <= 480 for seconds in commands.waits)
    kept = written(tmp_path / "float32.csv", gpu_row(batch=16))
    with kept.open("a") as file:
        file.write("half a line")
    commands.hangs = 0
    command.main([*asked, "--keep"])
    assert "half a line" not in kept.read_text()
    text = " ".join(capsys.readouterr().out.split())
    assert "not measured: the rest of float32 at batch 16, the rest of tf32 at batch 16;" in text


def test_a_run_that_is_cut_off_still_says_what_was_wrong(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "writes", lambda path: written(path, gpu_row(batch=16, status="wrong")))
    commands.hangs = 1
    assert command.main([*QUICK, "--out", str(tmp_path), "--batches", "16", "--precisions", "float32"]) == 5


QUICK = ("--no-checks", "--no-charts")


def test_an_interrupt_keeps_what_there_is(
    commands: Commands, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = written(tmp_path / "tf32.csv", gpu_row(precision="tf32"))

    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "writes", interrupted)
    assert command.main([*QUICK, "--out", str(tmp_path), "--precisions", "tf32"]) == 130
    assert "interrupted; `make gpu GPU=--keep`" in capsys.readouterr().out
    assert (tmp_path / "before" / old.name).is_file()


@pytest.mark.parametrize("minutes", ["0.1", "8"])  # no run begins, or one begins and leaves no row
def test_what_there_was_is_kept_aside_until_there_is_something_new(
    commands: Commands,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    minutes: str,
) -> None:
    old = written(tmp_path / "tf32.csv", gpu_row(precision="tf32"))
    text = old.read_text()
    monkeypatch.setattr(commands, "writes", written)  # a file without a row
    commands.code = 4
    asked = [*QUICK, "--out", str(tmp_path), "--precisions", "tf32"]
    for _ in range(2):
        command.main([*asked, "--minutes", minutes])
    assert not old.exists(), "nothing of before passes for new"
    assert (tmp_path / "before/tf32.csv").read_text() == text
    assert "nothing new in tf32: what was measured before is in" in capsys.readouterr().out.replace("\n", " ")
    monkeypatch.setattr(commands, "writes", lambda path: written(path, gpu_row(precision="tf32")))
    commands.asked.clear()
    command.main([*asked, "--keep"])
    assert [pair for pair in runs(commands) if pair[1] == "128"], "what is aside is not had"
    assert not (tmp_path / "before").exists()


def test_keep_measures_what_the_files_lack(commands: Commands, tmp_path: Path) -> None:
    algorithms = command.chosen("all", "float32")
    whole = [gpu_row(batch=16, layer=layer, algo=algo) for layer in LAYERS for algo in algorithms]
    kept = written(tmp_path / "float32.csv", *whole)
    asked = ["--out", str(tmp_path), "--keep", "--no-checks", "--precisions", "float32"]
    command.main(asked)
    assert runs(commands) == [("float32", "128"), ("float32", "1")]
    kept.unlink()
    again = whole[: len(algorithms) + 2]  # cut off in the second layer
    again[len(algorithms)] = gpu_row(batch=16, layer="conv2", algo=algorithms[0], status="failed")
    written(kept, *again)
    commands.asked.clear()
    command.main([*asked, "--batches", "16"])
    found = [
        (words[words.index("--layer") + 1], words[words.index("--algo") + 1])
        for words in commands.asked
        if "run" in words[:3]
    ]
    left = [algorithms[0], *algorithms[2:]]  # what failed is tried again
    assert found == [("conv2", ",".join(left)), (",".join(LAYERS[2:]), ",".join(algorithms))]
    command.main(["--out", str(tmp_path), "--no-checks", "--precisions", "float32"])
    assert not kept.exists(), "without --keep old rows do not stay among the new"


def test_the_worst_exit_code_is_the_answer(
    commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.code = 5
    assert command.main(["--out", str(tmp_path), "--no-checks"]) == 5
    commands.code = -11
    assert command.main(["--out", str(tmp_path), "--no-checks"]) == 4, "ended by a signal"
    commands.code = 2
    commands.asked.clear()
    assert command.main(["--out", str(tmp_path), "--no-checks"]) == 2
    assert len(runs(commands)) == 1, "an option that is wrong once is wrong every time"
    text = " ".join(capsys.readouterr().out.split())
    assert "not measured: tf32 at batch 128, float16 at batch 128, float32 at batch 16" in text


def test_each_precision_has_charts_of_its_own_and_time_is_kept_for_them(commands: Commands, tmp_path: Path) -> None:
    for name in ("float32", "tf32"):
        written(tmp_path / f"{name}.csv", gpu_row(precision=name))
    asked = ["--out", str(tmp_path), "--keep", "--no-checks", "--batches", "128"]
    command.main([*asked, "--no-charts"])
    assert [words for words in commands.asked if "report" in words] == []
    command.main([*asked, "--minutes", "1.2"])
    drawn = sorted(words[-3:] for words in commands.asked if "report" in words)
    files = [(str(tmp_path / f"{name}.csv"), str(tmp_path / "charts" / name)) for name in ("float32", "tf32")]
    assert drawn == [[path, "--out", folder] for path, folder in files]
    commands.asked.clear()
    command.main(["--out", str(tmp_path), "--no-checks", "--minutes", "1.2"])
    assert runs(commands) == [], "72 seconds less those for charts leave too little for a run"


def test_without_a_gpu_one_line_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cupy", None)
    assert command.main([]) == 2
    error = capsys.readouterr().err
    assert error.startswith("convbench: CuPy")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--precisions", "float8"], "float8 is not one of float32, tf32, float16"),
        (["--batches", "many"], "many is not a comma list"),
        (["--show"], "--show needs --out"),
    ],
)
def test_wrong_options_are_refused(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.main(words)
    assert end.value.code == 2
    assert text in capsys.readouterr().err


def test_an_unknown_algorithm_is_refused(commands: Commands, tmp_path: Path, capsys: Any) -> None:
    assert command.main(["--out", str(tmp_path), "--algo", "gemm.implicitt"]) == 2
    assert "no algorithm is called 'gemm.implicitt'" in capsys.readouterr().err
    assert commands.asked == []
