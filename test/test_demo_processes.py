"""The demo's child processes end with it, whatever happens."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sam2s_ros.nodes.demo_processes import ChildFailed, ChildProcess

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"]).pid, flush=True)
time.sleep(300)
"""


def child(folder: Path, name: str, code: str, grace_s: float = 5.0) -> ChildProcess:
    """A child that runs `code` as a module."""
    (folder / f"{name}_module.py").write_text(code)
    environment = {"PYTHONPATH": str(folder)}
    return ChildProcess(name, f"{name}_module", ["argument"], environment, folder / "logs", grace_s)


def wait_for(condition, what: str):
    deadline = time.monotonic() + 30.0
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited 30 s for {what}"
        time.sleep(0.02)
    return value


def is_alive(pid: int) -> bool:
    """Whether a process lives; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_an_error_in_the_parent_ends_a_child_that_ignores_signals_and_its_own_children(tmp_path: Path):
    with (
        pytest.raises(RuntimeError, match="something else"),
        child(tmp_path, "stubborn", STUBBORN, 0.2) as process,
    ):
        grandchild = int(wait_for(process.last_line, "the child"))
        raise RuntimeError("something else went wrong")
    assert not process.is_running()
    wait_for(lambda: not is_alive(grandchild), "the end of the grandchild")


def test_a_child_that_ends_well_is_waited_for_and_its_last_line_is_its_result(tmp_path: Path):
    with child(tmp_path, "good", "import sys; print('first'); print(sys.argv[1])") as process:
        process.wait(30.0)
    assert process.last_line() == "argument" and process.stop() == 0


def test_a_child_that_fails_is_reported_with_the_end_of_its_log(tmp_path: Path):
    with (
        pytest.raises(ChildFailed, match=r"(?s)bad ended with status 1.*no such instrument"),
        child(tmp_path, "bad", "raise SystemExit('no such instrument')") as process,
    ):
        process.wait(30.0)


def test_a_child_that_takes_too_long_is_reported_and_ended(tmp_path: Path):
    with (
        pytest.raises(ChildFailed, match="slow did not end within 0.2 s"),
        child(tmp_path, "slow", "import time; time.sleep(300)") as process,
    ):
        process.wait(0.2)
    assert not is_alive(process.pid)


def test_each_child_leads_a_process_group_of_its_own(tmp_path: Path):
    with child(tmp_path, "group", "import time; time.sleep(300)") as process:
        assert os.getpgid(process.pid) == process.pid != os.getpgid(0)
