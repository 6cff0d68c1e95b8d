"""Start the tracker node, or one for each of several cameras, and bring it to active; optionally play a bag into it.

ros2 launch sam2s_ros tracker.launch.py image:=/camera/image_raw
ros2 launch sam2s_ros tracker.launch.py cameras:=left,right image:=image_raw
ros2 launch sam2s_ros tracker.launch.py --show-args
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition

from sam2s_ros.nodes.image_transport import MALLOC_ENVIRONMENT, image_transport_environment

CONFIG = Path(__file__).parent.parent / "config"  # in the source tree and in the share directory alike

ARGUMENTS = {
    "image": (
        "image",
        "Topic of the raw images to track; compressed ones are taken from the same name with /compressed.",
    ),
    "image_transport": ("", "raw or compressed; empty: as in params_file."),
    "model": ("", "Preset with bundled weights (nano), or path of a weights file; empty: as in params_file."),
    "engine": ("", "Engine that runs the model, or auto; empty: as in params_file."),
    "prompts_file": ("", "YAML file of objects to track from the start; empty: as in params_file."),
    "range_input": ("", "Source of 3-D positions: off, depth or stereo; empty: as in params_file."),
    "camera_info": ("camera_info", "Topic of the tracked image's CameraInfo, for 3-D."),
    "depth": ("depth", "Topic of the depth image registered with the tracked one, for range_input:=depth."),
    "right_image": ("right/image", "Topic of the rectified right image, for range_input:=stereo."),
    "right_camera_info": (
        "right/camera_info",
        "Topic of the right image's CameraInfo, for range_input:=stereo.",
    ),
    "params_file": (str(CONFIG / "tracker.yaml"), "YAML file of the node's parameters."),
    "namespace": ("", "Namespace of the node, or of all cameras."),
    "cameras": (
        "",
        "Namespaces of several cameras, with commas, each with a node of its own; empty: one node. `image` is then a "
        "relative name, the same in each of them.",
    ),
    "one_process": (
        "false",
        "Run the nodes of all `cameras` in one process: less memory, but they share an interpreter.",
    ),
    "use_sim_time": ("false", "Take the time from /clock; true where a bag or a simulator publishes it."),
    "bag": ("", "Bag to play into the node (needs ros2 bag); empty: none."),
    "bag_topic": (
        "",
        "Topic of the images in the bag, with its /compressed, played as `image`; empty: the bag has that one.",
    ),
    "dds_profile": (
        str(CONFIG / "fastdds_profile.xml"),
        "Fast DDS profile without which large images are lost; empty: leave the middleware as it is.",
    ),
    "log_level": ("info", "Log level of the node: debug, info, warn, error."),
}
"""Name -> (default, description)."""

RANGE_TOPICS = {
    "camera_info": "camera_info",
    "depth": "depth",
    "right/image": "right_image",
    "right/camera_info": "right_camera_info",
}
"""Topic of the node -> argument that names what it is remapped to."""

OVERRIDES = ("image_transport", "model", "engine", "prompts_file", "range_input")
"""Arguments that, unless empty, take precedence over the parameter of the same name in params_file."""


def generate_launch_description() -> LaunchDescription:
    """All arguments with their descriptions, then what is started with them."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[Action]:
    """Environment, nodes, their way to active, and the bag if one is given."""
    values = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    cameras = camera_namespaces(values)
    if cameras and is_true(values["one_process"]):
        return [*environment(values), tracker_process(values, cameras)]
    actions = environment(values)
    for namespace in cameras or [values["namespace"]]:
        node = tracker_node(values, namespace)
        actions += [*bring_to_active(node, bag_player(values)), node]
    return actions


def camera_namespaces(values: dict[str, str]) -> list[str]:
    """Namespaces of the nodes of several cameras; empty without `cameras`."""
    names = [name.strip().strip("/") for name in values["cameras"].split(",")] if values["cameras"] else []
    if not names:
        return []
    if not all(names) or len(set(names)) < len(names):
        raise ValueError(
            f"cameras:={values['cameras']}: give every camera a name of its own, as in left,right"
        )
    if values["image"].startswith("/"):
        raise ValueError(
            f"image:={values['image']}: with cameras it is the same name in each namespace, so without a / in front"
        )
    if values["bag"]:
        raise ValueError("bag: with cameras, play it yourself (ros2 bag play) once the nodes are active")
    return [absolute(name, values["namespace"]) for name in names]


def is_true(text: str) -> bool:
    """Whether a launch argument says yes."""
    return text.lower() in ("true", "1")


def environment(values: dict[str, str]) -> list[Action]:
    """Memory and transport settings for large images; the profile is fitted to the shared memory that there is."""
    variables = MALLOC_ENVIRONMENT
    if values["dds_profile"]:
        if not Path(values["dds_profile"]).is_file():
            raise FileNotFoundError(f"dds_profile:={values['dds_profile']}: no such file; empty for none")
        folder = Path(tempfile.gettempdir()) / f"sam2s_ros_{os.getuid()}"
        variables = image_transport_environment(folder, Path(values["dds_profile"]))
    return [SetEnvironmentVariable(name, value) for name, value in variables.items()]


def tracker_node(values: dict[str, str], namespace: str) -> LifecycleNode:
    """The lifecycle node `tracker` with its parameters and remappings."""
    return LifecycleNode(
        package="sam2s_ros",
        executable="tracker",
        name="tracker",
        namespace=namespace,
        parameters=parameters(values),
        remappings=remappings(values),
        ros_arguments=log_level(values, [namespace]),
        output="screen",
    )


def tracker_process(values: dict[str, str], cameras: list[str]) -> Node:
    """One process with a node for each camera; they bring themselves to active."""
    return Node(
        package="sam2s_ros",
        executable="tracker",
        arguments=["--cameras", ",".join(cameras)],
        parameters=[*parameters(values), {"autostart": True}],
        remappings=remappings(values),
        ros_arguments=log_level(values, cameras),
        output="screen",
    )


def parameters(values: dict[str, str]) -> list[Any]:
    """The file, and what takes precedence over it."""
    overrides = {name: ParameterValue(values[name], value_type=str) for name in OVERRIDES if values[name]}
    return [values["params_file"], {"use_sim_time": is_true(values["use_sim_time"]), **overrides}]


def remappings(values: dict[str, str]) -> list[tuple[str, str]]:
    """Both transports of the images, and what 3-D needs."""
    return [
        ("image", values["image"]),
        ("image/compressed", f"{values['image']}/compressed"),
        *((name, values[argument]) for name, argument in RANGE_TOPICS.items()),
    ]


def log_level(values: dict[str, str], namespaces: list[str]) -> list[str]:
    """ROS arguments that set the level of the nodes' loggers."""
    level = values["log_level"]
    return [part for one in namespaces for part in ("--log-level", f"{logger_name(one)}:={level}")]


def bring_to_active(node: LifecycleNode, then: list[Action]) -> list[Action]:
    """Configure when the process has started, activate when it is configured, and say so if it cannot be.

    Once the node is active, `then` is started: a bag played earlier would lose its first images.
    """

    def change(transition: int) -> EmitEvent:
        event = ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition)
        return EmitEvent(event=event)

    configured = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="inactive",
        entities=[change(Transition.TRANSITION_ACTIVATE)],
    )
    active = OnStateTransition(
        target_lifecycle_node=node, start_state="activating", goal_state="active", entities=then
    )
    refused = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="unconfigured",
        entities=[LogInfo(msg="The tracker could not be configured; its log above says why.")],
    )
    started = OnProcessStart(target_action=node, on_start=[change(Transition.TRANSITION_CONFIGURE)])
    return [
        RegisterEventHandler(handler)
        for handler in (configured, *([active] if then else []), refused, started)
    ]


def bag_player(values: dict[str, str]) -> list[Action]:
    """`ros2 bag play`, publishing /clock where the node takes its time from it."""
    if not values["bag"]:
        return []
    command = ["ros2", "bag", "play", values["bag"]]
    if is_true(values["use_sim_time"]):
        command.append("--clock")
    if bag_topic := values["bag_topic"]:
        tail = "/compressed" if bag_topic.endswith("/compressed") else ""
        topic = absolute(values["image"], values["namespace"])
        command += ["--remap", f"{bag_topic}:={topic}{tail}"]
    return [ExecuteProcess(cmd=command, output="screen")]


def logger_name(namespace: str) -> str:
    """Name of the node's logger: /left/scope becomes left.scope.tracker."""
    return ".".join([*(part for part in namespace.split("/") if part), "tracker"])


def absolute(topic: str, namespace: str) -> str:
    """The topic as the node in its namespace sees it, for a process outside of it."""
    return topic if topic.startswith("/") else "/".join(["", *(p for p in namespace.split("/") if p), topic])
