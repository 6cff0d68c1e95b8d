"""launch/tracker.launch.py: what it starts, with which parameters, remappings and environment."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from launch_standin import Recorded, load_launch_file, started

pytest.importorskip("lifecycle_msgs.msg", reason="ROS is not installed: make setup")

from lifecycle_msgs.msg import Transition

LAUNCH_FILE = Path(__file__).resolve().parents[1] / "launch" / "tracker.launch.py"
CONFIG = LAUNCH_FILE.parents[1] / "config"


@pytest.fixture
def launch_file(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    return load_launch_file(LAUNCH_FILE, monkeypatch)


def only(actions: list[Recorded], kind: str) -> Recorded:
    (found,) = [one for one in actions if one.kind == kind]
    return found


def environment(actions: list[Recorded]) -> dict[str, str]:
    return dict(one.arguments for one in actions if one.kind == "SetEnvironmentVariable")


def overrides(node: Recorded) -> dict[str, Any]:
    """The parameters beside the params file, ParameterValue undone."""
    values = node.fields["parameters"][1]
    return {name: one.arguments[0] if isinstance(one, Recorded) else one for name, one in values.items()}


def test_every_argument_is_described(launch_file: ModuleType) -> None:
    """`ros2 launch --show-args` explains each of them."""
    declared, _ = started(launch_file)
    wanted = {"image", "params_file", "model", "engine", "prompts_file", "namespace", "use_sim_time", "bag"}
    assert wanted <= declared.keys()
    assert all(len(one.fields["description"]) > 20 for one in declared.values())


def test_the_node_is_ours_with_the_shipped_parameters(launch_file: ModuleType) -> None:
    """Package and executable are those of setup.py, and nothing overrides the file unless asked for."""
    node = only(started(launch_file)[1], "LifecycleNode")
    assert (node.fields["package"], node.fields["executable"]) == ("sam2s_ros", "tracker")
    assert (node.fields["name"], node.fields["namespace"]) == ("tracker", "")
    assert (
        Path(node.fields["parameters"][0]) == CONFIG / "tracker.yaml" and (CONFIG / "tracker.yaml").is_file()
    )
    assert overrides(node) == {"use_sim_time": False}
    assert "tracker = {NAME}.nodes.tracker_node:main" in (CONFIG.parent / "setup.py").read_text()


def test_arguments_reach_the_node(launch_file: ModuleType) -> None:
    """Model, engine, prompts and time source as parameters; image as a remapping of both transports."""
    topics = {"camera_info": "/left/camera_info", "right_image": "/right/image"}
    values = {
        "range_input": "stereo",
        "model": "/m.safetensors",
        "engine": "eager",
        "prompts_file": "/p.yaml",
        "params_file": "/q.yaml",
    }
    actions = started(
        launch_file, image="/left/image", namespace="left/scope", use_sim_time="true", **topics, **values
    )[1]
    node = only(actions, "LifecycleNode")
    assert node.fields["parameters"][0] == values.pop("params_file")
    assert overrides(node) == {"use_sim_time": True, **values}
    assert node.fields["remappings"] == [
        ("image", "/left/image"),
        ("image/compressed", "/left/image/compressed"),
        ("camera_info", "/left/camera_info"),
        ("depth", "depth"),
        ("right/image", "/right/image"),
        ("right/camera_info", "right/camera_info"),
    ]
    assert node.fields["namespace"] == "left/scope"
    assert node.fields["ros_arguments"] == ["--log-level", "left.scope.tracker:=info"]


def test_the_node_is_brought_to_active(launch_file: ModuleType) -> None:
    """Configure when the process has started, activate when it is configured."""
    actions = started(launch_file)[1]
    node = only(actions, "LifecycleNode")
    handlers = [one.arguments[0] for one in actions if one.kind == "RegisterEventHandler"]
    start = only(handlers, "OnProcessStart")
    configured = next(one for one in handlers if one.fields.get("goal_state") == "inactive")
    assert configured.fields["start_state"] == "configuring"
    refused = next(one for one in handlers if one.fields.get("goal_state") == "unconfigured")
    assert refused.fields["start_state"] == "configuring"
    assert start.fields["target_action"] is node and configured.fields["target_lifecycle_node"] is node
    asked = [start.fields["on_start"][0], configured.fields["entities"][0]]
    changes = [one.fields["event"].fields for one in asked]
    assert all(one["lifecycle_node_matcher"] is node for one in changes)
    assert [one["transition_id"] for one in changes] == [
        Transition.TRANSITION_CONFIGURE,
        Transition.TRANSITION_ACTIVATE,
    ]
    assert actions.index(node) > max(
        actions.index(one) for one in actions if one.kind == "RegisterEventHandler"
    )


def test_large_images_get_their_transport_and_memory_settings(
    launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shipped Fast DDS profile and the allocator's thresholds are set before the node starts."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 2**30}))
    actions = started(launch_file)[1]
    variables = environment(actions)
    profile = Path(variables.pop("FASTDDS_DEFAULT_PROFILES_FILE"))
    assert profile == CONFIG / "fastdds_profile.xml" and profile.is_file() and profile.is_absolute()
    assert variables == {
        "MALLOC_MMAP_THRESHOLD_": "268435456",
        "MALLOC_TRIM_THRESHOLD_": "1073741824",
        "MALLOC_TOP_PAD_": "67108864",
    }
    assert [one.kind for one in actions[:4]] == ["SetEnvironmentVariable"] * 4
    assert "FASTDDS_DEFAULT_PROFILES_FILE" not in environment(started(launch_file, dds_profile="")[1])


def test_where_shared_memory_is_scarce_the_profile_is_fitted_to_it(
    launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A container's 64 MiB do not hold the shipped segments, and images would be lost without a word."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 64 * 2**20}))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    profile = Path(environment(started(launch_file)[1])["FASTDDS_DEFAULT_PROFILES_FILE"])
    assert tmp_path in profile.parents
    assert f"<segment_size>{16 * 2**20}</segment_size>" in profile.read_text()


def test_a_profile_that_does_not_exist_is_refused_by_name(launch_file: ModuleType) -> None:
    with pytest.raises(FileNotFoundError, match="dds_profile:=/nowhere.xml: no such file"):
        started(launch_file, dds_profile="/nowhere.xml")


def test_humble_gets_the_profile_under_its_own_name(
    launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one of the two names: newer releases warn about both."""
    monkeypatch.setenv("ROS_DISTRO", "humble")
    names = environment(started(launch_file)[1])
    assert "FASTRTPS_DEFAULT_PROFILES_FILE" in names and "FASTDDS_DEFAULT_PROFILES_FILE" not in names


def player_of(actions: list[Recorded]) -> Recorded | None:
    """The bag player, which is started by the node's becoming active and by nothing else."""
    handlers = [one.arguments[0] for one in actions if one.kind == "RegisterEventHandler"]
    becomes_active = [one for one in handlers if one.fields.get("goal_state") == "active"]
    assert not [one for one in actions if one.kind == "ExecuteProcess"]
    if not becomes_active:
        return None
    (handler,) = becomes_active
    assert handler.fields["start_state"] == "activating"
    assert handler.fields["target_lifecycle_node"] is only(actions, "LifecycleNode")
    return only(handler.fields["entities"], "ExecuteProcess")


def test_a_bag_is_played_only_when_one_is_given(launch_file: ModuleType) -> None:
    """With its images on the node's topic and, where wanted, as the source of time; not before the node is active."""
    assert player_of(started(launch_file)[1]) is None
    values = {"bag": "/b.mcap", "bag_topic": "/endoscope", "namespace": "left", "use_sim_time": "true"}
    player = player_of(started(launch_file, **values)[1])
    assert player is not None
    play = ["ros2", "bag", "play", "/b.mcap", "--clock", "--remap", "/endoscope:=/left/image"]
    assert player.fields["cmd"] == play


def test_a_compressed_bag_topic_is_played_where_the_node_expects_compressed_images(
    launch_file: ModuleType,
) -> None:
    """The raw topic holds another type, on which the node would wait in vain."""
    values = {"bag": "/b.mcap", "bag_topic": "/endoscope/compressed", "image": "/left/image"}
    player = player_of(started(launch_file, **values)[1])
    assert player is not None
    assert player.fields["cmd"][-1] == "/endoscope/compressed:=/left/image/compressed"


def test_with_the_real_launch_packages_the_file_loads() -> None:
    """On a ROS distribution: launch itself takes the description and knows its arguments."""
    pytest.importorskip("launch_ros.actions", reason="launch_ros comes with a ROS distribution only")
    sources = pytest.importorskip("launch.launch_description_sources")
    description = sources.get_launch_description_from_python_launch_file(str(LAUNCH_FILE))
    assert {"image", "bag"} <= {one.name for one in description.get_launch_arguments()}


def test_several_cameras_have_a_node_each(launch_file: ModuleType) -> None:
    """In processes of their own, each brought to active; the image topic is one of its namespace."""
    actions = started(launch_file, cameras="left, right", namespace="/theatre", image="image_raw")[1]
    nodes = [one for one in actions if one.kind == "LifecycleNode"]
    assert [one.fields["namespace"] for one in nodes] == ["/theatre/left", "/theatre/right"]
    assert all(one.fields["remappings"][0] == ("image", "image_raw") for one in nodes)
    handlers = [one.arguments[0] for one in actions if one.kind == "RegisterEventHandler"]
    starts = [one.fields["target_action"] for one in handlers if one.kind == "OnProcessStart"]
    assert starts == nodes


def test_several_cameras_in_one_process(launch_file: ModuleType) -> None:
    """One process that starts its nodes by itself."""
    actions = started(launch_file, cameras="left,right", one_process="true", engine="eager")[1]
    node = only(actions, "Node")
    assert node.fields["arguments"] == ["--cameras", "/left,/right"]
    assert node.fields["parameters"][2] == {"autostart": True} and overrides(node)["engine"] == "eager"
    assert node.fields["ros_arguments"] == [
        *("--log-level", "left.tracker:=info"),
        *("--log-level", "right.tracker:=info"),
    ]
    assert not [one for one in actions if one.kind == "LifecycleNode"]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"cameras": "left,left"}, "cameras"),
        ({"cameras": "left,,right"}, "cameras"),
        ({"cameras": "left,right", "image": "/camera/image"}, "image:=/camera/image"),
        ({"cameras": "left,right", "bag": "b"}, "bag"),
    ],
)
def test_wrong_cameras_are_named(launch_file: ModuleType, values: dict[str, str], named: str) -> None:
    """What would have two nodes on one topic, or under one name."""
    with pytest.raises(ValueError, match=named):
        started(launch_file, **values)
