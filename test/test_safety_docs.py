"""docs/safety.md names, for each rule, a test that exists."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def named_tests(repository_root: Path) -> list[tuple[str, str]]:
    return NAMED.findall((repository_root / "docs" / "safety.md").read_text())


def test_every_test_named_in_the_safety_page_exists(repository_root: Path) -> None:
    missing = []
    for file, name in named_tests(repository_root):
        path = repository_root / "test" / file
        tree = ast.parse(path.read_text()) if path.is_file() else ast.Module([], [])
        if name not in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}:
            missing.append(f"{file}::{name}")
    assert missing == []


def test_every_rule_of_the_safety_page_names_a_test(repository_root: Path) -> None:
    """Each row of its tables, but for their heads."""
    text = (repository_root / "docs" / "safety.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|-")]
    heads = [row for row in rows if row.rstrip(" |").endswith("held by")]
    assert len(heads) == 4 and len(rows) > 20
    assert [row for row in rows if row not in heads and not NAMED.search(row)] == []


def test_the_consumer_of_the_page_ends_without_a_traceback(repository_root: Path, tmp_path: Path) -> None:
    """By Ctrl+C, the class and the lines that run it as they stand there."""
    pytest.importorskip("rclpy", reason="rclpy is not installed: make setup")
    pytest.importorskip("sam2s_msgs.msg", reason="the messages are not built: make setup")
    blocks = (repository_root / "docs" / "safety.md").read_text().split("```python\n")[1:]
    program = "\n".join(block.split("```")[0] for block in blocks)
    ready = tmp_path / "ready"
    program = program.replace(
        "with contextlib.suppress", f"open({str(ready)!r}, 'w').close()\nwith contextlib.suppress"
    )
    environment = {**os.environ, "ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 60.0
        while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert ready.exists(), errors
    assert (process.returncode, errors) == (0, "")
