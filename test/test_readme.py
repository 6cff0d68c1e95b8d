"""The README's Python example, run as it stands there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_example_without_ros_runs_as_pasted(repository_root: Path) -> None:
    """In the root of the repository, on the bundled recording and weights: a line for each image after the first."""
    section = (repository_root / "README.md").read_text().split("## In Python, without ROS")[1]
    program = section.split("```python\n")[1].split("```")[0]
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=repository_root, capture_output=True, text=True, timeout=240
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert len(lines) == 65 and all(" px predicted IoU " in line for line in lines), ran.stdout
