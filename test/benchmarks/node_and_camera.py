"""A tracker node and a synthetic camera in processes of their own, for benchmarks that watch them as consoles do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

UP_TIMEOUT_S = 120.0


@contextmanager
def console_node(logs: Path) -> Iterator[Any]:
    """A ROS domain that child processes inherit, and a node in it that a thread of this process spins."""
    import rclpy

    from sam2s_ros.nodes.demo_stage import Spinner, isolated_domain

    with isolated_domain(logs):
        spinner = Spinner("consoles")
        with spinner.spinning():
            yield spinner.node
        spinner.node.destroy_node()
        rclpy.shutdown()


@contextmanager
def tracker_process(folder: Path, parameters: Mapping[str, Any]) -> Iterator[Any]:
    """The node as a `ChildProcess`, which goes to active by itself. Its log is in `folder`."""
    values = {"autostart": "true", **parameters}
    arguments = [part for name, value in values.items() for part in ("-p", f"{name}:={value}")]
    with _child(folder, "tracker_node", ["--ros-args", *arguments]) as process:
        yield process


@contextmanager
def camera_process(
    folder: Path, scene: Path, rate_hz: float, frames: int, markers: bool = False
) -> Iterator[Any]:
    """The camera as a `ChildProcess`, which films once somebody has subscribed its images and, if need be, markers."""
    arguments = [str(scene), "--rate", str(rate_hz), "--frames", str(frames), "--wait-for", "image=1"]
    arguments += ["--wait-for", "image/scene_frame=1"] if markers else []
    with _child(folder, "synthetic_camera", arguments) as process:
        yield process


@contextlib.contextmanager
def _child(folder: Path, program: str, arguments: list[str]) -> Iterator[Any]:
    from sam2s_ros.nodes.demo_processes import ChildProcess
    from sam2s_ros.nodes.image_transport import image_transport_environment

    environment = image_transport_environment(folder)
    module = f"sam2s_ros.nodes.{program}"
    with ChildProcess(program, module, arguments, environment, folder) as process:
        yield process
