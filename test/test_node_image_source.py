"""When the node says that no image arrives, and what it says to do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: make setup")
pytest.importorskip("sam2s_msgs.msg", reason="the messages are not built: make setup")

from sam2s_ros.nodes import image_source  # noqa: E402
from sam2s_ros.nodes.image_source import SILENT_AFTER_S, ImageSource  # noqa: E402
from sam2s_ros.nodes.stream_counter import StreamCounter  # noqa: E402

PROFILE_VARIABLES = {"kilted": "FASTDDS_DEFAULT_PROFILES_FILE", "humble": "FASTRTPS_DEFAULT_PROFILES_FILE"}


class SilentCamera:
    """A node that sees as many publishers as it is told, on a clock that stands; keeps its warnings."""

    def __init__(self) -> None:
        self.publishers, self.now_s, self.warnings = 0, 1000.0, list[str]()

    def create_subscription(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(topic_name="/image")

    def count_publishers(self, _: str) -> int:
        return self.publishers

    def get_logger(self) -> Any:
        return SimpleNamespace(warning=lambda text, **_: self.warnings.append(text))


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> SilentCamera:
    one = SilentCamera()
    monkeypatch.setattr(image_source, "time", SimpleNamespace(monotonic=lambda: one.now_s))
    for name in ("ROS_DISTRO", *PROFILE_VARIABLES.values()):
        monkeypatch.delenv(name, raising=False)
    return one


def make_source(camera: SilentCamera) -> ImageSource:
    return ImageSource(camera, "raw", StreamCounter(), lambda _: None)  # type: ignore[arg-type]


def test_a_publisher_has_time_for_its_first_image(camera: SilentCamera) -> None:
    """From when it is seen, however long the node has waited for it; one that went away and comes back has it anew."""
    source = make_source(camera)
    camera.now_s += 60.0
    source.warn_if_silent()
    for _ in range(2):
        camera.publishers = 1
        source.warn_if_silent()
        camera.now_s += 0.9 * SILENT_AFTER_S
        source.warn_if_silent()
        assert camera.warnings == []
        camera.publishers = 0
        source.warn_if_silent()
    camera.publishers = 1
    camera.now_s += 1.1 * SILENT_AFTER_S
    source.warn_if_silent()
    assert len(camera.warnings) == 1 and "1 publisher(s) on /image" in camera.warnings[0]


@pytest.mark.parametrize("distribution", PROFILE_VARIABLES)
def test_the_profile_is_blamed_only_where_it_is_not_set(
    camera: SilentCamera, monkeypatch: pytest.MonkeyPatch, distribution: str
) -> None:
    """Where it is, what else there may be is said. The variable has another name on Humble."""
    monkeypatch.setenv("ROS_DISTRO", distribution)
    variable = PROFILE_VARIABLES[distribution]
    source = make_source(camera)
    camera.publishers = 1
    camera.now_s += 2 * SILENT_AFTER_S
    source.warn_if_silent()
    monkeypatch.setenv(variable, "profile.xml")
    source.warn_if_silent()
    missing, present = camera.warnings
    assert "large images need the Fast DDS profile" in missing and f"with {variable}=" in missing
    assert "large images need" not in present and "image_transport" in present and "shm-size" in present
