"""The shipped Fast DDS profile is one that Fast DDS accepts and uses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: make setup")

PROFILE = Path(__file__).resolve().parents[1] / "config" / "fastdds_profile.xml"
START_A_NODE = "import rclpy; rclpy.init(); rclpy.create_node('profile'); rclpy.shutdown(); print('started')"


def start_a_node(profile: Path) -> str:
    """What a process that creates one node with this profile prints, errors of Fast DDS included."""
    environment = os.environ | {
        "FASTDDS_DEFAULT_PROFILES_FILE": str(profile),
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF",
    }
    result = subprocess.run(
        [sys.executable, "-c", START_A_NODE], env=environment, capture_output=True, text=True, timeout=60
    )
    return result.stdout + result.stderr


def test_fast_dds_accepts_the_profile() -> None:
    """A mistake in it would be one line on a console and images lost as before."""
    assert start_a_node(PROFILE).strip() == "started"


def test_the_profile_decides_the_transports(tmp_path: Path) -> None:
    """It is read at all, and its transports are used: an unknown one in it is an error of Fast DDS."""
    broken = tmp_path / "profile.xml"
    text = PROFILE.read_text()
    broken.write_text(
        text.replace("<transport_id>sam2s_udp</transport_id>", "<transport_id>none</transport_id>", 1)
    )
    assert "sam2s_udp" in start_a_node(broken)
