"""Child processes that measure: spawned with their own environment, spoken to over a socket, and never left behind.

A child that crashes, hangs or eats the memory costs its parent an exception, not its life. A child whose parent is gone
is killed by the kernel (Linux) or ends at the end of its input.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

LAST_LINES = 5  # of a child's standard error, kept for the note
POLL_SECONDS = 0.2  # between looks at a busy child's memory
END_SECONDS = 2.0  # for a child to end by itself
MEMORY_SHARE = 0.8  # of the memory that is free when a child starts: it may take so much
PR_SET_PDEATHSIG = 1


class ChildError(Exception):
    """A child that can no longer be used; the text says why, with the last lines of its standard error."""


class ChildDiedError(ChildError):
    """It ended by itself, or by a signal."""


class ChildSilentError(ChildError):
    """It did not answer in time, and was killed."""


class ChildTooLargeError(ChildError):
    """It took too much memory, and was killed."""


class Child:
    """A process that runs `python -m module FD` and answers messages; see `serve` for its side."""

    def __init__(self, module: str, environment: Mapping[str, str], cpus: set[int] | None = None) -> None:
        from convbench.machine import memory_available

        self.connection, theirs = Pipe()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the child)
        root = str(Path(__file__).resolve().parent.parent)
        paths = [root, *filter(None, [environment.get("PYTHONPATH", os.environ.get("PYTHONPATH", ""))])]
        free = memory_available()
        self.most_bytes = None if free is None else int(MEMORY_SHARE * free)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno()), ",".join(map(str, sorted(cpus or ())))],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(paths)},
                pass_fds=[theirs.fileno()],
            )

    def send(self, message: Any) -> None:
        """Give the child something to do. Raises ChildDiedError."""
        try:
            self.connection.send(message)
        except OSError:
            raise self._died() from None

    def receive(self, timeout: float | None = None) -> Any:
        """The child's next message, waited for at most `timeout` seconds; kills the child where it raises.

        Raises ChildDiedError, ChildSilentError, ChildTooLargeError.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                if self.connection.poll(POLL_SECONDS):
                    return self.connection.recv()
            except (EOFError, OSError):
                raise self._died() from None
            if end is not None and time.monotonic() > end:
                self.kill()
                raise ChildSilentError(f"no answer for {timeout:g} s{self.last_words()}")
            if self.most_bytes is not None and (held := self.resident_bytes()) > self.most_bytes:
                self.kill()
                raise ChildTooLargeError(f"it held {held / 1e9:.1f} GB, most of the free memory{self.last_words()}")

    def resident_bytes(self) -> int:
        """Memory the child holds now (Linux; else 0)."""
        try:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def close(self) -> None:
        """End the child: it sees the end of its input; killed where that is not enough."""
        self.connection.close()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._errors.close()

    def kill(self) -> None:
        """End the child at once."""
        self.process.kill()
        self.process.wait()
        self.connection.close()

    def last_words(self) -> str:
        """`: ` and the last lines of its standard error on one line, or nothing."""
        with contextlib.suppress(OSError, ValueError):
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").split("\n")
            kept = [" ".join(line.split()) for line in lines if line.strip()][-LAST_LINES:]
            return f": {' / '.join(kept)}" if kept else ""
        return ""

    def _died(self) -> ChildDiedError:
        try:
            code = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.connection.close()
        return ChildDiedError(f"its process {how_it_ended(code)}{self.last_words()}")


def how_it_ended(code: int) -> str:
    """A return code in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}" + (" (out of memory, or by somebody)" if name == "SIGKILL" else "")


def serve(arguments: list[str], answer: Callable[[Any, Callable[[Any], None]], None]) -> None:
    """The child's side: `answer(message, reply)` for each message until the parent closes the connection.

    Waiting, it sleeps. Interrupts of the terminal are the parent's business. The first choice of the kernel when memory
    runs out, and gone with its parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was told
        sys.exit(1)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    if len(arguments) > 1 and arguments[1]:
        os.sched_setaffinity(0, {int(cpu) for cpu in arguments[1].split(",")})
    connection: Connection[Any, Any] = Connection(int(arguments[0]))
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            return
        answer(message, connection.send)
