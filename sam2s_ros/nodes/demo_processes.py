"""Child processes that never outlive their parent, each in its own process group, with a log file."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LOG_TAIL_LINES = 15


class ChildFailed(RuntimeError):
    """A child process ended with an error, too early or not at all; the text has the end of its log."""


class ChildProcess:
    """A module run by `python -m`; use it as a context manager, which stops it whatever happens.

    Stopping means SIGINT to its whole process group, SIGTERM after `grace_s`, SIGKILL after twice that.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log_folder: Path,
        grace_s: float = 5.0,
    ) -> None:
        """`environment` is added to this process's own; the log is `log_folder/name.log`."""
        self.name = name
        self.log_path = log_folder / f"{name}.log"
        self._command = [sys.executable, "-m", module, *arguments]
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        self._grace_s = grace_s
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ChildProcess:
        """Start the process."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the process and everything that it started."""
        self.stop()

    @property
    def pid(self) -> int:
        """Process id, which is also the id of its process group."""
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._process.pid

    def check(self) -> None:
        """Raise ChildFailed if the process has ended with an error."""
        status = self._process.poll() if self._process else None
        if status:
            raise ChildFailed(
                f"{self.name} ended with status {status}; the end of {self.log_path}:\n{self.log_tail()}"
            )

    def is_running(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def wait(self, timeout_s: float) -> None:
        """Block until the process ends by itself; raises ChildFailed if it fails or takes longer."""
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ChildFailed(
                f"{self.name} did not end within {timeout_s:g} s; "
                f"the end of {self.log_path}:\n{self.log_tail()}"
            ) from None
        self.check()

    def stop(self) -> int | None:
        """End the process group; returns the exit status of its first process, None if it never started."""
        if self._process is None:
            return None
        for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is not None:
                break
            self._signal(kind)
            self._wait_quietly(self._grace_s)
        self._signal(signal.SIGKILL)  # what the first process has left behind
        return self._process.wait()

    def log_tail(self) -> str:
        """The last lines of the log."""
        lines = self.log_path.read_text(errors="replace").splitlines()
        return "\n".join(lines[-_LOG_TAIL_LINES:]) or "(empty)"

    def last_line(self) -> str:
        """The last line of the log, where these processes write their result."""
        lines = self.log_path.read_text(errors="replace").splitlines()
        return lines[-1] if lines else ""

    def _signal(self, kind: signal.Signals) -> None:
        try:
            os.killpg(self.pid, kind)
        except ProcessLookupError:  # the group is gone, which is what was wanted
            return

    def _wait_quietly(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self.is_running() and time.monotonic() < deadline:
            time.sleep(0.02)


_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    """Ask Linux to end this process when the parent dies without a chance to clean up (SIGKILL)."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
