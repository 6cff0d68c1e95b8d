"""The synthetic camera: rendered ahead, published with the number of the rendered frame beside each image."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: make setup")

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from sam2s_ros.data.sequences import render_sequence  # noqa: E402
from sam2s_ros.nodes.image_messages import image_to_rgb  # noqa: E402
from sam2s_ros.nodes.replay import STREAM, wait_for_subscribers  # noqa: E402
from sam2s_ros.nodes.synthetic_camera import (  # noqa: E402
    CAMERA,
    Scene,
    SyntheticCamera,
    render_scene,
    there_and_back,
)

SIZE = (60, 90)  # a width that is no multiple of 8: masks are kept as bits
FRAMES, OBJECTS, SEED, FPS = 3, 2, 4, 10.0


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return render_scene(tmp_path_factory.mktemp("scene"), SEED, FRAMES, OBJECTS, *SIZE, FPS)


def test_a_rendered_scene_holds_the_frames_and_masks_of_its_sequence(scene: Scene):
    for index, (frame, masks) in enumerate(render_sequence(SEED, FRAMES, SIZE, FPS, OBJECTS)):
        assert np.array_equal(scene.frames[index], frame)
        assert all(np.array_equal(scene.mask(index, key), masks[key]) for key in range(OBJECTS))
    assert index + 1 == len(scene.frames) == FRAMES


def test_frames_are_played_forwards_and_backwards_without_a_jump():
    assert [there_and_back(step, 4) for step in range(8)] == [0, 1, 2, 3, 2, 1, 0, 1]
    assert [there_and_back(step, 1) for step in range(3)] == [0, 0, 0]


def test_a_folder_without_a_scene_is_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        Scene(tmp_path)


def test_each_image_is_the_rendered_frame_that_its_marker_names_by_the_same_stamp(ros, scene: Scene):
    camera, listener = SyntheticCamera(scene), Node("listener")
    images: list[Image] = []
    markers: list[Header] = []
    listener.create_subscription(Image, "image", images.append, CAMERA)
    listener.create_subscription(Header, "image/scene_frame", markers.append, STREAM)
    executor = SingleThreadedExecutor()
    executor.add_node(listener)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    try:
        wait_for_subscribers(camera.publishers_by_topic, {"/image": 1, "image/scene_frame": 1}, 20.0)
        assert camera.film(frames=5, rate_hz=25.0) == 5
        deadline = time.monotonic() + 20.0
        while (len(markers) < 5 or not images) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        executor.shutdown()
        thread.join(10.0)
        listener.destroy_node()
        camera.destroy_node()
    assert [int(marker.frame_id) for marker in markers] == [0, 1, 2, 1, 0]
    shown = {(marker.stamp.sec, marker.stamp.nanosec): int(marker.frame_id) for marker in markers}
    assert images
    for image in images:
        stamp = (image.header.stamp.sec, image.header.stamp.nanosec)
        assert np.array_equal(image_to_rgb(image), scene.frames[shown[stamp]])
