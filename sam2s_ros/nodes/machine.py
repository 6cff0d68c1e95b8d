"""What a measurement was taken on: version, commit, processor and packages."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

FAST_INSTRUCTIONS = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
)
PACKAGES = (
    "torch",
    "openvino",
    "onnxruntime",
    "numpy",
    "opencv-python-headless",
    "ros-kilted-rclpy",
    "ros-kilted-rmw-fastrtps-cpp",
)


def describe_run() -> dict[str, Any]:
    """Version, commit and machine, so that numbers can be compared later."""
    from sam2s_ros import __version__

    return {"version": __version__, "commit": source_commit(), "machine": describe_machine()}


def describe_machine() -> dict[str, Any]:
    """Processor, its instructions that matter for speed, and the versions of what does the work."""
    return {
        "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "instructions": [name for name in FAST_INSTRUCTIONS if name in (_cpuinfo("flags") or "").split()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "ros_distro": os.environ.get("ROS_DISTRO", ""),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def source_commit() -> str | None:
    """Commit of the source tree, with + if files were changed since; None outside of a git work tree."""
    folder = str(Path(__file__).resolve().parent)
    command = ["git", "-C", folder, "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def _cpuinfo(key: str) -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), None)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
