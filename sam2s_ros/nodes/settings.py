"""The tracker node's parameters: one dataclass from which they are declared and into which they are read."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from sam2s_ros.engines import PRECISIONS
from sam2s_ros.tracking.camera import RECTIFICATIONS
from sam2s_ros.tracking.config import (
    LIVE_SETTINGS,
    MAX_CLASS_INTERVAL,
    MAX_KEPT_FRAMES,
    MAX_KEPT_MS,
    MAX_LONG_TERM,
    MAX_LONG_TERM_INTERVAL_S,
    PREVIOUS_MASK_PROMPTS,
    TrackerConfig,
)

_TRACKER = TrackerConfig()
LIVE_PARAMETERS = LIVE_SETTINGS | {"labels_always", "published_classes", "overlay_alpha", "service_timeout_s"}
"""Parameters that a configured node takes at once; the others are read on configure."""
DECLARED_LATER = "qos_overrides."
"""Begin of the names that rclpy declares with a publisher or a subscription."""


class SettingsError(ValueError):
    """A parameter with a value that the node cannot use; the text names the parameter and what it may be."""


def _parameter(
    default: Any,
    description: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    read_only: bool = False,
) -> Any:
    metadata = {
        "description": description,
        "low": low,
        "high": high,
        "choices": choices,
        "read_only": read_only,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class NodeSettings:
    """What `on_configure` reads; `LIVE_PARAMETERS` may be replaced later.

    Defaults, ranges and descriptions are those of the ROS parameters.
    """

    autostart: bool = _parameter(
        False, "Go to active at start-up, for use without a launch file or lifecycle manager.", read_only=True
    )
    model: str = _parameter("nano", "Preset with bundled weights (nano), or path of a .safetensors file.")
    checkpoint: str = _parameter(
        "", "Weights for the preset 'model' instead of the bundled ones; empty: the bundled ones."
    )
    class_bank: str = _parameter(
        "",
        "Classes to know (sam2s embed-classes) instead of those that the weights come with; empty: these.",
    )
    threads: int = _parameter(
        0, "CPU threads of each of the two stages, encoding and tracking; 0: half of the CPUs.", 0, 256
    )
    engine: str = _parameter("auto", "Engine that runs the model; auto takes the best one that works here.")
    precision: str = _parameter(
        "auto",
        "Arithmetic of the engine; auto: fp16 on a GPU; bf16 if the engine is auto and the CPU has it, else fp32.",
        choices=PRECISIONS,
    )
    image_size: int = _parameter(
        0, "Side of the network's square input in pixels, a multiple of 32; 0: the model's own.", 0, 2048
    )
    max_objects: int = _parameter(
        _TRACKER.max_objects, "Most objects tracked at once; more are refused.", 1, 254
    )
    max_conditioning: int = _parameter(
        _TRACKER.max_conditioning,
        "Prompted frames kept in an object's memory; the first stays for ever.",
        2,
        16,
    )
    num_long_term: int = _parameter(
        _TRACKER.num_long_term,
        "Long-term memory entries per object (DiveMem; the paper has 4); 0: SAM 2's memory.",
        0,
        MAX_LONG_TERM,
    )
    long_term_interval_s: float = _parameter(
        _TRACKER.long_term_interval_s,
        "Time of image stamps between two candidates for the long-term memory, s; 0: every image, as the paper.",
        0.0,
        MAX_LONG_TERM_INTERVAL_S,
    )
    long_term_candidates: int = _parameter(
        _TRACKER.long_term_candidates,
        "Candidates in a row of which the one that looks newest enters the long-term memory.",
        1,
        1000,
    )
    long_term_min_iou: float = _parameter(
        _TRACKER.long_term_min_iou,
        "Predicted IoU above which an image may be a candidate for the long-term memory, 0 .. 1.",
        0.0,
        1.0,
    )
    kept_ms: int = _parameter(
        _TRACKER.kept_ms,
        "How far back from the newest image a prompt may still be placed, ms of image stamps.",
        0,
        MAX_KEPT_MS,
    )
    kept_frames: int = _parameter(
        _TRACKER.kept_frames,
        "The most images kept for that; a stream of R Hz needs R * kept_ms / 1000 + 1.",
        1,
        MAX_KEPT_FRAMES,
    )
    previous_mask_prompt: str = _parameter(
        _TRACKER.previous_mask_prompt,
        "Prompt each frame by the object's mask of the frame before: off (as SAM 2), or one of the others.",
        choices=PREVIOUS_MASK_PROMPTS,
    )
    drop_stray_components: bool = _parameter(
        _TRACKER.drop_stray_components,
        "Drop parts of a mask far from the previous mask (without one near: all but the largest).",
    )
    exclusive_masks: bool = _parameter(
        _TRACKER.exclusive_masks,
        "Give a pixel that several objects claim to the most certain one; false: masks may overlap.",
    )
    class_min_iou: float = _parameter(
        _TRACKER.class_min_iou,
        "Predicted IoU above which an image has a say in an object's class, 0 .. 1.",
        0.0,
        1.0,
    )
    class_memory_frames: float = _parameter(
        _TRACKER.class_memory_frames,
        "Images after an object's latest prompt at which an image has half of its say in the class.",
        0.1,
        100000.0,
    )
    class_interval: int = _parameter(
        _TRACKER.class_interval,
        "Images from one look at an object's class to the next, later than class_memory_frames after its prompt.",
        1,
        MAX_CLASS_INTERVAL,
    )
    uncertain_iou: float = _parameter(
        _TRACKER.uncertain_iou, "Predicted IoU below which a visible object is UNCERTAIN, 0 .. 1.", 0.0, 1.0
    )
    uncertain_pixels: float = _parameter(
        _TRACKER.uncertain_pixels,
        "Mean pixel uncertainty above which a visible object is UNCERTAIN, 0 .. 1.",
        0.0,
        1.0,
    )
    uncertain_boundary: float = _parameter(
        _TRACKER.uncertain_boundary,
        "Boundary band above which a visible object is UNCERTAIN, in roots of the mask's area.",
        0.0,
        1000.0,
    )
    twin_iou: float = _parameter(
        _TRACKER.twin_iou, "IoU of two objects' masks above which both are UNCERTAIN; 1: never.", 0.0, 1.0
    )
    drop_twins: bool = _parameter(
        _TRACKER.drop_twins, "Take the one that, by its class, the mask is not of for out of view."
    )
    lost_after_s: float = _parameter(
        _TRACKER.lost_after_s, "Time out of view after which an object is LOST, s.", 0.0, 3600.0
    )
    recover_frames: int = _parameter(
        _TRACKER.recover_frames,
        "Good images in a row for a better state; a worse one is entered at once.",
        1,
        1000,
    )
    restore_confirm_frames: int = _parameter(
        _TRACKER.restore_confirm_frames,
        "Good images in a row before an object from a snapshot may be TRACKING; 0: as any other.",
        0,
        1000,
    )
    jump_distance: float = _parameter(
        _TRACKER.jump_distance,
        "Centroid movement between two images at which an object is UNCERTAIN, in image diagonals; plus jump_speed.",
        0.0,
        10.0,
    )
    jump_speed: float = _parameter(
        _TRACKER.jump_speed,
        "What the centroid may move besides, in image diagonals per second of image stamps.",
        0.0,
        1000.0,
    )
    jump_area: float = _parameter(
        _TRACKER.jump_area,
        "Factor of a change of area between two images at which an object is UNCERTAIN; plus jump_area_rate.",
        1.0,
        1000.0,
    )
    jump_area_rate: float = _parameter(
        _TRACKER.jump_area_rate,
        "Natural logarithm of the factor by which the area may change besides, per second of image stamps.",
        0.0,
        1000.0,
    )
    judge_images: bool = _parameter(
        _TRACKER.judge_images,
        "Learn nothing from images that show nothing (image_condition), and trust no object on them.",
    )
    black_level: int = _parameter(
        _TRACKER.black_level, "Grey level up to which a pixel is black, 0 .. 255.", 0, 255
    )
    black_share: float = _parameter(
        _TRACKER.black_share, "Share of brighter pixels under which an image is BLACK, 0 .. 1.", 0.0, 1.0
    )
    saturated_share: float = _parameter(
        _TRACKER.saturated_share,
        "Share of overexposed pixels above which an image is SATURATED, 0 .. 1.",
        0.0,
        1.0,
    )
    obscured_detail: float = _parameter(
        _TRACKER.obscured_detail,
        "Detail in grey levels under which an image is OBSCURED; 0: none is.",
        0.0,
        255.0,
    )
    torn_jump: float = _parameter(
        _TRACKER.torn_jump,
        "Grey levels by which most of a row changes at once in a TORN image; 255: no step is a tear.",
        0.0,
        255.0,
    )
    frozen_images: int = _parameter(
        _TRACKER.frozen_images, "Identical images in a row, after the first, that are FROZEN.", 1, 1000
    )
    out_of_body_share: float = _parameter(
        _TRACKER.out_of_body_share,
        "Share of reddish pixels under which an image is OUT_OF_BODY, if tissue was seen before; 0: none is.",
        0.0,
        1.0,
    )
    smooth_geometry: bool = _parameter(
        _TRACKER.smooth_geometry,
        "Publish centroids and tips filtered over time; false: those of the image's own mask.",
    )
    velocity_gap_s: float = _parameter(
        _TRACKER.velocity_gap_s,
        "Time between two sights of an object after which its velocity is not known, s.",
        0.0,
        60.0,
    )
    range_input: str = _parameter(
        "off",
        "Source of 3-D positions: off; depth: 'depth' and 'camera_info'; stereo: 'right/image' and both camera_info.",
        choices=("off", "depth", "stereo"),
    )
    image_rectification: str = _parameter(
        "auto",
        "Whether the tracked image is rectified (P applies) or raw (K and D apply); auto: only where it is the same.",
        choices=RECTIFICATIONS,
    )
    sync_slop_s: float = _parameter(
        0.0, "Time by which stamps of one set of 3-D input may differ, s; 0: equal stamps.", 0.0, 1.0
    )
    range_wait_s: float = _parameter(
        0.0, "Longest time for which a tracked image waits for its 3-D input, s; 0: never.", 0.0, 1.0
    )
    depth_min_m: float = _parameter(0.03, "Nearest depth that is believed and searched for, m.", 0.001, 100.0)
    depth_max_m: float = _parameter(0.4, "Farthest depth that is believed and searched for, m.", 0.001, 100.0)
    object_topics: bool = _parameter(
        False,
        "Publish geometry_msgs on topics of their own for each object, ~/objects/id_7/centroid and so on.",
    )
    image_transport: str = _parameter(
        "raw",
        "raw: sensor_msgs/Image on 'image'; compressed: sensor_msgs/CompressedImage on 'image/compressed'.",
        choices=("raw", "compressed"),
    )
    prompts_file: str = _parameter(
        "",
        "YAML file of objects to add at the start of the stream; empty: none (config/prompts_example.yaml).",
    )
    labels_always: bool = _parameter(False, "Compute ~/labels even while nobody subscribes.")
    label_rest_s: float = _parameter(
        10.0,
        "Time for which the label value of a removed object is not given to another one, s.",
        0.0,
        3600.0,
    )
    published_classes: int = _parameter(
        0,
        "Most class probabilities published per object, the most probable first; 0: no class but what clients give. "
        "The bundled weights know rendered instruments only.",
        0,
        1000,
    )
    overlay_alpha: float = _parameter(0.4, "Share of the object's colour in ~/overlay, 0 .. 1.", 0.0, 1.0)
    heartbeat_period_s: float = _parameter(
        0.2, "Period at which ~/objects is repeated while no image is tracked, s.", 0.02, 10.0
    )
    stale_after_s: float = _parameter(
        0.5, "Time without a tracked, usable image after which the status becomes STALE, s.", 0.02, 60.0
    )
    objects_deadline_s: float = _parameter(
        0.0, "Deadline offered on ~/objects, longest time between two arrays, s; 0: none.", 0.0, 60.0
    )
    liveliness_lease_s: float = _parameter(
        2.0,
        "Lease of ~/objects' liveliness, which a hung worker lets run out, s; at least 2 heartbeats; 0: none.",
        0.0,
        60.0,
    )
    diagnostics_period_s: float = _parameter(
        1.0, "Period of the reports on /diagnostics, s; 0: none.", 0.0, 60.0, read_only=True
    )
    audit_log: str = _parameter(
        "",
        "File to which calls that change something are written, JSON lines, 50 MiB at most; its folder is made; empty: "
        "none.",
    )
    service_timeout_s: float = _parameter(
        5.0, "Longest time for which a service call waits for the tracker before it is refused, s.", 0.1, 60.0
    )

    snapshot_dir: str = _parameter(
        "",
        "Folder for snapshots of the tracker's memory, one inside it for each node; ~ is the home; empty: none.",
    )
    snapshot_period_s: float = _parameter(
        1.0, "Period at which a snapshot is written while objects are tracked, s.", 0.05, 3600.0
    )
    snapshot_max_age_s: float = _parameter(
        10.0,
        "Age up to which a snapshot is restored on configure, s; an older one only by ~/restore_snapshot.",
        0.0,
        86400.0,
    )

    def tracker_config(self) -> TrackerConfig:
        """The part that the tracker takes."""
        shared = {item.name for item in dataclasses.fields(TrackerConfig)} & set(self.__dict__)
        return TrackerConfig(**{name: getattr(self, name) for name in sorted(shared)})

    @property
    def reads_classes(self) -> bool:
        """Whether anything here needs objects' classes."""
        return self.published_classes > 0 or self.drop_twins

    def memory_of_an_object(self) -> dict[str, str]:
        """What one object's memory and the images' have room for, in words."""
        return {
            "memory of an object": f"{self.max_conditioning} prompted and {self.num_long_term} long-term images",
            "images kept for late prompts": str(self.kept_frames),
        }


def declare_parameters(node: Node) -> None:
    """Declare every field of NodeSettings as a parameter of the node, and warn of values given for other names."""
    node.declare_parameters(
        "", [(item.name, item.default, _descriptor(item)) for item in dataclasses.fields(NodeSettings)]
    )
    names = [item.name for item in dataclasses.fields(NodeSettings)]
    given: Iterable[str] = getattr(node, "_parameter_overrides", ())  # rclpy tells it in no other way
    for name in given:
        if not node.has_parameter(name) and not name.startswith(DECLARED_LATER):
            close = difflib.get_close_matches(name, names, n=1)
            node.get_logger().warning(
                f"there is no parameter {name}: its value is ignored"
                + (f"; is {close[0]} meant?" if close else "; `tracker --help` lists them")
            )


def read_settings(node: Node) -> NodeSettings:
    """Read the parameters; raises SettingsError for a value that is not among a parameter's choices or contradicts
    another."""
    values = {item.name: node.get_parameter(item.name).value for item in dataclasses.fields(NodeSettings)}
    for item in dataclasses.fields(NodeSettings):
        check_choice(item.name, values[item.name])
    lease_s, least_s = values["liveliness_lease_s"], 2 * values["heartbeat_period_s"]
    if 0 < lease_s < least_s:
        raise SettingsError(
            f"parameter liveliness_lease_s is {lease_s:g} s: use at least twice heartbeat_period_s, {least_s:g} s, "
            "or 0 for none"
        )
    if values["depth_min_m"] >= values["depth_max_m"]:
        raise SettingsError(
            f"parameter depth_min_m is {values['depth_min_m']:g} m: it must be below depth_max_m, "
            f"{values['depth_max_m']:g} m"
        )
    return NodeSettings(**values)


def check_choice(name: str, value: Any) -> None:
    """Raise SettingsError if the parameter has choices and the value is none of them."""
    for item in dataclasses.fields(NodeSettings):
        choices = item.metadata["choices"]
        if item.name == name and choices and value not in choices:
            raise SettingsError(f"parameter {name} is '{value}': use one of {', '.join(choices)}")


def changed_settings(settings: NodeSettings, parameters: Sequence[Parameter[Any]]) -> NodeSettings:
    """The settings of a configured node with these parameters changed; others than settings are left out.

    Raises:
        SettingsError: a parameter that is read on configure only, a value that is none of its choices, or one that the
            tracker refuses. Ranges are rclpy's to check.
    """
    names = {item.name for item in dataclasses.fields(NodeSettings)}
    values = {one.name: one.value for one in parameters if one.name in names}
    if fixed := sorted(values.keys() - LIVE_PARAMETERS):
        raise SettingsError(
            f"{', '.join(fixed)}: read on configure, so clean the node up first (lifecycle cleanup)"
        )
    for name, value in values.items():
        check_choice(name, value)
    changed = dataclasses.replace(settings, **values)
    try:
        changed.tracker_config()
    except ValueError as error:
        raise SettingsError(str(error)) from None
    return changed


def parameters_help() -> str:
    """What `tracker --help` says of the parameters: each with its default and description."""
    lines = ["parameters (config/tracker.yaml):"]
    for item in dataclasses.fields(NodeSettings):
        lines.append(f"  {item.name} [{item.default!r}]")
        lines.append(f"      {item.metadata['description']}")
    return "\n".join(lines)


def _descriptor(item: dataclasses.Field[Any]) -> ParameterDescriptor:
    metadata = item.metadata
    live = " May be changed while the node runs." if item.name in LIVE_PARAMETERS else ""
    descriptor = ParameterDescriptor(
        description=metadata["description"] + live, read_only=metadata["read_only"]
    )
    if metadata["choices"]:
        descriptor.additional_constraints = "one of: " + ", ".join(metadata["choices"])
    if metadata["low"] is None:
        return descriptor
    if isinstance(item.default, int):
        descriptor.integer_range = [
            IntegerRange(from_value=metadata["low"], to_value=metadata["high"], step=0)
        ]
    else:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=metadata["low"], to_value=metadata["high"], step=0.0)
        ]
    return descriptor
