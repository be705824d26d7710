"""The command line: help, typing errors in one line, and the commands that measure nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import TINY, convbench
from typer.testing import CliRunner

from convbench import __version__
from convbench.cli import app
from convbench.vector.tiles import why_no_tiles

COMMANDS = ("run", "report", "list", "info", "verify")
HEAVY = ("numpy", "numba", "scipy", "pandas", "matplotlib", "cupy", "torch", "threadpoolctl")


# Help


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_has_an_example(command: str, flag: str) -> None:
    done = CliRunner().invoke(app, [command, flag])
    assert done.exit_code == 0
    assert f"convbench {command} " in done.output or f"convbench {command}" in " ".join(done.output.split())
    assert "Example" in done.output


def test_help_names_the_commands_and_the_exit_codes() -> None:
    text = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    assert all(re.search(rf"\b{command}\b", text) for command in COMMANDS)
    for code in ("0 ok", "1 internal", "2 usage", "4 not measured", "5 wrong"):
        assert code in text


def test_without_a_command_help_is_shown() -> None:
    done = convbench()
    assert done.code in (0, 2)
    assert "Usage" in done.out + done.err


def test_version() -> None:
    assert convbench("--version").out == f"convbench {__version__}\n"


@pytest.mark.parametrize("words", ["'--help'", "'run', '--help'", "'--version'"])
def test_help_loads_nothing_heavy(words: str) -> None:
    script = (
        f"import sys; sys.argv = ['convbench', {words}]\nfrom convbench.cli import main\n"
        f"try: main()\nfinally: print('loaded', [m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "loaded []"


def test_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "convbench", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"convbench {__version__}\n"


# Typing errors: exit code 2, one line


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (("run", "--layer", "conv11"), ("no layer is called 'conv11'", "did you mean", "conv1")),
        (("run", "--layer", "conv1,vonc2"), ("no layer is called 'vonc2'", "conv2")),
        (("run", "--layer", "zzz"), ("no layer is called 'zzz'", "known: conv1, conv2")),
        (("run", "--layer", ""), ("no layer is called ''",)),
        (("run", "--layer", "a\nb"), ("no layer is called 'a",)),
        (("run", "--algo", "winogard"), ("no algorithm is called 'winogard'", "did you mean winograd")),
        (("run", "--algo", "fft.til"), ("no algorithm is called 'fft.til'", "fft.tiled")),
        (("run", "--algo", "gemm.*x"), ("no algorithm is called 'gemm.*x'",)),
        (("run", "--device", "gpu"), ("--device gpu is not one of auto, cpu, cuda",)),
        (
            ("run", "--device", "cpu", "--precision", "fp32"),
            ("--precision fp32 is not one of float32, float64", "float32"),
        ),
        (("run", "--device", "cpu", "--cache", "warm"), ("--cache warm is not one of hot, cold",)),
        (("run", "--net", "alexnett"), ("no layer set 'alexnett': neither built in (alexnet",)),
        (("run", "--net", ""), ("no layer set ''",)),
        (("run", "--shape", "n1c3h8w8k4r3"), ("shape 'n1c3h8w8k4r3': s missing", "for example")),
        (("run", "--shape", "n1c3h2w8k4r3s3"), ("the filter's height 3", "no output is left")),
        (("run", "--shape", "n" + "9" * 5000 + "c1h1w1k1r1s1"), ("shape 'n999",)),
        (("run", "--shape", TINY, "--layer", "conv1"), ("--shape and --layer exclude each other",)),
        (("run", "--plugin", "absent.py"), ("plug-in absent.py: there is no such file",)),
        (("verify", "--layer", "conf1"), ("no layer is called 'conf1'", "conv1")),
        (("verify", "--algo", "dirct"), ("no algorithm is called 'dirct'", "direct")),
        (("verify", "--precision", "half"), ("--precision half is not one of",)),
        (("info", "conf5"), ("no layer is called 'conf5'", "conv5")),
        (("info", "n1c3"), ("shape 'n1c3': h, w, k, r, s missing",)),
        (("info", "conv1", "--precision", "int8"), ("--precision int8 is not one of",)),
        (("list", "--device", "tpu"), ("--device tpu is not one of auto, cpu, cuda",)),
        (("list", "--net", "resnet"), ("no layer set 'resnet'",)),
        (("report", "absent.csv"), ("cannot read absent.csv: No such file or directory",)),
    ],
)
def test_typing_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], texts: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = convbench(*words)
    assert done.code == 2, done.err
    assert done.err.startswith("convbench: ")
    assert done.err.count("\n") == 1, "one line"
    assert done.out == ""
    assert all(text in done.err for text in texts), done.err
    assert "Traceback" not in done.err
    assert not list(tmp_path.iterdir()), "nothing is left behind"


@pytest.mark.parametrize(
    "words",
    [
        ("rum",), ("run", "--leyer", "conv1"), ("run", "--batch", "-1"), ("run", "--batch", "many"), ("run", "extra"),
        ("run", "--budget", "0"), ("run", "--budget", "inf"), ("run", "--budget", "nan"), ("run", "--threads", "-2"),
        ("run", "--seed", "-1"), ("verify", "--shapes", "-1"), ("report",), ("info",),
    ],
)  # fmt: skip
def test_what_typer_finds_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    monkeypatch.chdir(tmp_path)
    command = [*words, "--device", "cpu", "--shape", TINY, "--algo", "gemm.im2col"] if words[0] == "run" else [*words]
    done = convbench(*command)
    assert done.code == 2
    assert done.out == ""
    assert "Traceback" not in done.err
    assert not list(tmp_path.iterdir())


def test_an_empty_or_damaged_file_for_report(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("")
    done = convbench("report", str(path))
    assert (done.code, done.err) == (2, f"convbench: {path}: the file is empty\n")


def test_an_internal_error_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from convbench import listing

    def fails(*_: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(listing, "print_listing", fails)
    done = convbench("list", "--device", "cpu")
    assert done.code == 1
    assert done.err == "convbench: internal error: RuntimeError: two lines (CONVBENCH_TRACEBACK=1 shows where)\n"
    monkeypatch.setenv("CONVBENCH_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        convbench("list", "--device", "cpu")


# The other commands


def test_list() -> None:
    done = convbench("list", "--device", "cpu")
    assert (done.code, done.err) == (0, "")
    for text in (
        "conv1",
        "fc8",
        "gemm.im2col",
        "winograd.f2",
        "float32, float64",
        "alexnet",
        "n1c3h227w227k96r11s11u4",
    ):
        assert text in done.out


def test_list_says_why_there_is_no_gpu_or_what_it_is() -> None:
    done = convbench("list")
    assert (done.code, done.err) == (0, "")
    assert re.search(r"^cuda: (not available: )?\w", done.out, re.MULTILINE)


def test_info_explains_the_numbers() -> None:
    out = convbench("info", "conv1").out
    for text in ("227", "210,830,400", "[363 x 3025]", "1,098,075", "7.1x", "4.39 MB", "gemm.im2col", "224"):
        assert text in out
    assert "[1200 x 729] for each group" in convbench("info", "conv2").out
    assert "matrix-vector" in convbench("info", "fc6").out
    assert "matrix-vector" not in convbench("info", "fc8", "--batch", "8").out


def test_verify() -> None:
    done = convbench("verify", "--device", "cpu", "--shapes", "3", "--layer", "fc8", "--seed", "1")
    assert (done.code, done.err) == (0, "")
    assert "3 random shapes of seed 1" in " ".join(done.out.split())
    assert "fc8" in done.out
    assert "3/3" in done.out
    more = 4 + 3 + 1 + 3  # .int8x3 of gemm, winograd, fft and direct, where the CPU has no AMX
    unsupported = 38 + more * bool(why_no_tiles())
    last = done.out.strip().splitlines()[-1]
    assert re.search(rf"^\d+ ok(, \d+ skipped)?, {unsupported} unsupported(, \d+ skipped)?$", last)


def test_verify_keeps_to_the_terminal_and_marks_what_is_not_to_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = convbench(
        "verify", "--device", "cpu", "--shapes", "0", "--net", "vgg16", "--batch", "1", "--algo", "gemm.gemv.w24"
    )
    heads = [line for line in done.out.splitlines() if line.startswith("error")]
    assert " ".join(heads).split().count("random") == len(heads) > 1
    assert " ".join(heads).split().count("conv5_1") == 1
    assert all(len(line) <= 80 for line in done.out.splitlines())
    rows = [line.split() for line in done.out.splitlines() if line.startswith("gemm.gemv.w24")]
    assert [row[1:] for row in rows] == [["-"] * (len(head.split()) - 3) + ["0/0"] for head in heads]


def test_verify_without_random_shapes() -> None:
    done = convbench("verify", "--device", "cpu", "--shapes", "0", "--layer", "fc8", "--algo", "gemm.im2col")
    assert (done.code, done.out.strip().splitlines()[-1]) == (0, "1 ok")


def test_interrupted_verification_shows_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from convbench.measure.case import open_case

    count = 0

    def stops(*words: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return open_case(*words, **named)

    monkeypatch.setattr("convbench.verify.open_case", stops)
    done = convbench(
        "verify", "--device", "cpu", "--shapes", "4", "--layer", "fc8", "--algo", "gemm.im2col", "--seed", "1"
    )
    assert done.code == 130
    assert "1/1" in done.out
    assert "interrupted: of 5 cases 2 were checked" in done.out


def test_writing_into_a_closed_pipe_is_quiet() -> None:
    script = f"{sys.executable} -m convbench info all | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {script}"], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), "Rich ends a command whose reader has gone with 1"
    assert done.stderr == ""
