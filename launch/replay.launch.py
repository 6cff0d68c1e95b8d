"""Play a bag with ground truth into the tracker node on sim time, record what the node publishes and score it.

ros2 launch sam2s_ros replay.launch.py bag:=/data/operation.mcap out:=/data/operation_scored
ros2 launch sam2s_ros replay.launch.py --show-args
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit, OnProcessIO
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

TRACKER_LAUNCH = Path(__file__).with_name("tracker.launch.py")
COMPRESSED = "/compressed"

ARGUMENTS = {
    "bag": ("", "Bag to play: .mcap or .db3 file, or folder, with ground truth in a topic."),
    "out": ("", "Folder for the recording, report.html, summary.json and frames.parquet."),
    "image_topic": ("/endoscope/image/compressed", "Topic of the images in the bag, raw or compressed."),
    "label_topic": ("/ground_truth/labels", "Topic of the label images in the bag."),
    "prompts": ("mask", "How each object is prompted where it first appears: mask, box or click."),
    "player": ("auto", "rosbag2 (ros2 bag play), replay (ours), or auto: rosbag2 where it is installed."),
    "rate": ("1.0", "2.0 plays twice as fast."),
    "model": ("", "Preset or weights file of the tracker; empty: as in its params_file."),
    "engine": ("", "Engine of the tracker; empty: as in its params_file."),
}
"""Name -> (default, description)."""


def generate_launch_description() -> LaunchDescription:
    """All arguments with their descriptions, then what is started with them."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[Action]:
    """The tracker and the scorer; the player once the scorer says that it is ready; the end with the scorer's."""
    values = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    for name in ("bag", "out"):
        if not values[name]:
            raise ValueError(f"give {name}:=..., {ARGUMENTS[name][1]}")
    scorer = Node(
        package="sam2s_ros",
        executable="score_replay",
        arguments=[
            values["bag"],
            values["out"],
            *("--prompts", values["prompts"]),
            *("--image-topic", values["image_topic"]),
            *("--label-topic", values["label_topic"]),
        ],
        output="screen",
    )
    player = bag_player(values)

    def on_line(event: Any) -> list[Action] | None:
        return [player] if b"ready" in event.text.splitlines() else None

    end = OnProcessExit(target_action=scorer, on_exit=[EmitEvent(event=Shutdown(reason="scored"))])
    return [
        tracker(values),
        RegisterEventHandler(OnProcessIO(target_action=scorer, on_stdout=on_line)),
        RegisterEventHandler(end),
        scorer,
    ]


def tracker(values: dict[str, str]) -> IncludeLaunchDescription:
    """tracker.launch.py on sim time, listening to the bag's images."""
    topic = values["image_topic"]
    compressed = topic.endswith(COMPRESSED)
    arguments = {
        "image": topic.removesuffix(COMPRESSED),
        "image_transport": "compressed" if compressed else "raw",
        "use_sim_time": "true",
        "model": values["model"],
        "engine": values["engine"],
    }
    source = PythonLaunchDescriptionSource(str(TRACKER_LAUNCH))
    return IncludeLaunchDescription(source, launch_arguments=arguments.items())


def bag_player(values: dict[str, str]) -> Action:
    """rosbag2's player, or ours where there is none; both publish /clock and leave the stamps as they are."""
    known = ("auto", "rosbag2", "replay")
    if values["player"] not in known:
        raise ValueError(f"player:={values['player']}: give one of {', '.join(known)}")
    options = [values["bag"], "--rate", values["rate"], "--clock", "100"]
    if values["player"] == "rosbag2" or values["player"] == "auto" and has_rosbag2():
        return ExecuteProcess(cmd=["ros2", "bag", "play", *options], output="screen")
    wait = ["--wait-for", f"{values['image_topic']}=1", "--wait-for", f"{values['label_topic']}=1"]
    return Node(package="sam2s_ros", executable="replay", arguments=[*options, *wait], output="screen")


def has_rosbag2() -> bool:
    """Whether `ros2 bag play` can be run here."""
    return shutil.which("ros2") is not None and importlib.util.find_spec("ros2bag") is not None
