"""The Fast DDS profile is fitted to the machine's shared memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2s_ros.nodes.image_transport import fitting_segment, image_transport_environment


def test_the_shipped_profile_is_used_as_it_is_where_there_is_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 2**30})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    environment = image_transport_environment(tmp_path, shared_memory=tmp_path)
    profile = Path(environment["FASTDDS_DEFAULT_PROFILES_FILE"])
    assert profile.is_absolute() and profile.parent.name == "config"


def test_segments_shrink_where_shared_memory_is_scarce(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 64 * 2**20})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert fitting_segment(64 * 2**20, tmp_path) == 16 * 2**20
    environment = image_transport_environment(tmp_path / "logs", shared_memory=tmp_path)
    profile = Path(environment["FASTDDS_DEFAULT_PROFILES_FILE"])
    assert profile.parent == tmp_path / "logs"
    assert f"<segment_size>{16 * 2**20}</segment_size>" in profile.read_text()
