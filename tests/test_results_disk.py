"""Places that cannot be written, full disks and killed runs: one line says so, and the rows before are whole."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fakes import QUICK_COMMAND, convbench

from convbench.results import COLUMNS, ResultsError, Writer, read, writer


@pytest.mark.parametrize("where", ["", ".", "folder", "file/x.csv", "/"])
def test_places_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match=r"cannot write .*choose another --out"):
        Writer(Path(where))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ResultsError, match="Permission denied"):
        Writer(tmp_path / "x.csv")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EIO])
def test_what_the_system_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(writer, "open", refuse, raising=False)
    with pytest.raises(ResultsError) as caught:
        Writer(tmp_path / "x.csv")
    assert str(caught.value) == f"cannot write {tmp_path / 'x.csv'}: {os.strerror(code)}; choose another --out"


# The full disk


FILLING = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from fakes import row
from convbench.results import ResultsError, Writer
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = Writer(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
for i in range(10**6):
    try:
        writer.add(row(algo=f"a.a{{i}}"))
    except ResultsError as error:
        print(i, error)
        break
"""


@pytest.mark.parametrize("extra", [1, 100, 5000, 5001, 5333])
def test_a_full_disk_leaves_whole_rows(tmp_path: Path, extra: int) -> None:
    path = tmp_path / "x.csv"
    limit = len(",".join(COLUMNS)) + 1 + extra
    script = FILLING.format(tests=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), str(limit)], capture_output=True, text=True, check=True
    )
    count, _, message = done.stdout.partition(" ")
    assert message.startswith(f"cannot write {path}: ")
    assert message.strip().endswith("the rows written before are intact")
    assert [r.algo for r in read(path)] == [f"a.a{i}" for i in range(int(count))]
    assert Writer(path), "it can be appended to again"


def test_the_command_on_a_full_disk(tmp_path: Path) -> None:
    """Room for the header and a few rows: one line says so, rows are whole, and it is no usage error."""
    path = tmp_path / "x.csv"
    script = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(','.join(COLUMNS)) + 1200}, -1))\n" + QUICK_COMMAND[2]
    )
    words = ["run", "--device", "cpu", "--shape", "n1c2h5w5k2r3s3", "--algo", "gemm,winograd", "--budget", "0.001"]
    done = subprocess.run(
        [sys.executable, "-c", script, *words, "--out", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"convbench: cannot write {path}: ")
    assert 1 <= len(read(path)) < 6


# Death in the middle

KILLED = ["run", "--device", "cpu", "--shape", "n1c2h5w5k2r3s3", "--batch", "0", "--budget", "0.3"]


def start(path: Path) -> subprocess.Popen[str]:
    """A run of ten cases that is under way: at least two rows are there."""
    process = subprocess.Popen(
        [*QUICK_COMMAND, *KILLED, "--net", "alexnet", "--out", str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # not ignored, as in a shell's background
    )  # fmt: skip
    while process.poll() is None:
        if path.exists() and path.read_bytes().count(b"\n") >= 3:
            return process
        time.sleep(0.005)
    raise AssertionError(process.communicate()[1])


def test_kill_9_leaves_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    process = start(path)
    process.kill()
    process.communicate()
    rows = read(path)
    assert len(rows) >= 2
    assert {r.status for r in rows} <= {"ok", "unsupported", "skipped"}
    names = {r.algo for r in rows if r.status == "ok"}
    sampled = {line.split(",")[4] for line in (tmp_path / "x.samples.csv").read_text().splitlines()[1:]}
    assert names <= sampled
    done = convbench(*KILLED, "--algo", "gemm.im2col", "--out", str(path))
    assert done.code == 0, done.err
    assert len(read(path)) == len(rows) + 1, "and the next run appends to it"


def test_interrupted_says_what_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    process = start(path)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    if process.returncode == 0:  # it was finished before the signal came
        return
    rows = read(path)
    assert process.returncode == 130
    kept = f"the {len(rows)} finished rows are in {path}; --resume {path} measures the others"
    assert err == f"convbench: interrupted; {kept}\n"


def test_limits_are_ours_alone() -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
