"""A camera that films synthetic surgery: rendered ahead to memory-mapped files, published at a steady rate.

Rendering costs far more than publishing, so a few hundred frames are rendered before the stream starts and
played forwards and backwards without a jump; the publisher then takes about a millisecond of processor time a
frame. Beside each image goes a std_msgs/Header with the same stamp on `<image topic>/scene_frame`; its
frame_id is the number of the rendered frame, with which the ground truth of that image is found. Ends with
one line of JSON on standard output.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sam2s_ros.nodes.image_messages import ImageWriter
from sam2s_ros.nodes.playback import NANOSECONDS, sleep_until
from sam2s_ros.nodes.replay import add_waiting_arguments, parse_wanted, wait_for_subscribers

UInt8Array = npt.NDArray[np.uint8]
CAMERA = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
MARKER = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE)


@dataclass(frozen=True)
class SceneSize:
    """What a folder holds: `frames.npy` uint8 [frames, height, width, 3] RGB, `masks.npy` one bit a pixel."""

    frames: int
    objects: int
    height: int  # pixels
    width: int  # pixels
    seed: int


class Scene:
    """Rendered frames and their masks, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        """Open a folder that `render_scene` has written; raises FileNotFoundError for another one."""
        self.size = SceneSize(**json.loads((folder / "scene.json").read_text()))
        self.frames: UInt8Array = np.load(folder / "frames.npy", mmap_mode="r")
        self._masks: UInt8Array = np.load(folder / "masks.npy", mmap_mode="r")

    def mask(self, frame: int, object_index: int) -> npt.NDArray[np.bool_]:
        """Mask bool [H, W] of one object in one rendered frame."""
        bits = np.unpackbits(self._masks[frame, object_index], axis=-1, count=self.size.width)
        return bits.view(bool)


def render_scene(
    folder: Path, seed: int, frames: int, objects: int, height: int, width: int, fps: float
) -> Scene:
    """Render a synthetic sequence into `folder` (made if missing) and open it.

    Raises:
        ValueError: this seed has no scene that shows so many objects.
    """
    from sam2s_ros.data.sequences import render_sequence

    size = SceneSize(frames, objects, height, width, seed)
    folder.mkdir(parents=True, exist_ok=True)
    images, masks = _create_files(folder, size)
    for index, (image, shown) in enumerate(render_sequence(seed, frames, (height, width), fps, objects)):
        images[index] = image
        masks[index] = np.packbits(shown, axis=-1)
    (folder / "scene.json").write_text(json.dumps(asdict(size)))
    return Scene(folder)


def _create_files(folder: Path, size: SceneSize) -> tuple[Any, Any]:
    shape = (size.frames, size.height, size.width, 3)
    images = np.lib.format.open_memmap(folder / "frames.npy", "w+", np.uint8, shape)
    mask_shape = (size.frames, size.objects, size.height, -(-size.width // 8))
    return images, np.lib.format.open_memmap(folder / "masks.npy", "w+", np.uint8, mask_shape)


def there_and_back(step: int, frames: int) -> int:
    """The frame shown at `step` when `frames` frames are played forwards, backwards, forwards and so on."""
    if frames == 1:
        return 0
    phase = step % (2 * frames - 2)
    return phase if phase < frames else 2 * frames - 2 - phase


class SyntheticCamera(Node):
    """Publishes a scene's frames as rgb8 images with the sensor data QoS of a camera."""

    def __init__(self, scene: Scene) -> None:
        """Create the publishers of `image` and `image/scene_frame`."""
        super().__init__("synthetic_camera")
        self._scene = scene
        self._writer = ImageWriter("rgb8", 3)
        self._images = self.create_publisher(Image, "image", CAMERA)
        self._markers = self.create_publisher(Header, "image/scene_frame", MARKER)
        self.intervals_s: list[float] = []

    @property
    def publishers_by_topic(self) -> dict[str, Publisher]:
        """The publishers under the names that `--wait-for` knows."""
        return {"image": self._images, "image/scene_frame": self._markers}

    def film(self, frames: int, rate_hz: float) -> int:
        """Publish `frames` images at `rate_hz`; returns how many were published before it was told to stop."""
        start_ns = time.monotonic_ns()
        before_ns = start_ns
        for step in range(frames):
            if not sleep_until(start_ns + round(step * NANOSECONDS / rate_hz), rclpy.ok):
                return step
            now_ns = time.monotonic_ns()
            if step:
                self.intervals_s.append((now_ns - before_ns) / NANOSECONDS)
            before_ns = now_ns
            self._publish(there_and_back(step, self._scene.size.frames))
        return frames

    def _publish(self, index: int) -> None:
        size = self._scene.size
        np.copyto(self._writer.pixels(size.height, size.width), self._scene.frames[index])
        message = self._writer.message
        message.header.frame_id = "synthetic_camera_optical_frame"
        message.header.stamp = self.get_clock().now().to_msg()
        self._images.publish(message)
        self._markers.publish(Header(stamp=message.header.stamp, frame_id=str(index)))


def publishing_summary(published: int, intervals_s: Sequence[float]) -> dict[str, float | None]:
    """How steady a stream was: rate in Hz, 99th percentile of the intervals in ms (None without any)."""
    if not intervals_s:
        return {"published": published, "rate_hz": None, "interval_p99_ms": None}
    return {
        "published": published,
        "rate_hz": round(1.0 / float(np.mean(intervals_s)), 3),
        "interval_p99_ms": round(1000.0 * float(np.percentile(intervals_s, 99)), 2),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the executable `synthetic_camera`; 0 when all frames were published."""
    arguments = list(sys.argv if argv is None else ["synthetic_camera", *argv])
    args = _parser().parse_args(remove_ros_args(arguments)[1:])
    try:
        if args.render:
            height, width = args.size
            render_scene(args.scene, args.seed, args.render, args.objects, height, width, args.rate)
            return 0
        rclpy.init(args=arguments)
        node = SyntheticCamera(Scene(args.scene))
        wait_for_subscribers(node.publishers_by_topic, parse_wanted(args.wait_for), args.timeout)
        published = node.film(args.frames, args.rate)
        time.sleep(
            0.5 if rclpy.ok() else 0.0
        )  # let the last samples reach their readers before the writers vanish
        print(json.dumps(publishing_summary(published, node.intervals_s)), flush=True)
    except (OSError, ValueError) as error:
        print(f"synthetic_camera: error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException, RCLError):
        if rclpy.ok():  # else a signal shut the context down between two images
            raise
    finally:
        if rclpy.ok():
            rclpy.shutdown()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="synthetic_camera", description=__doc__)
    parser.add_argument("scene", type=Path, help="folder of the rendered scene")
    parser.add_argument("--render", type=int, default=0, metavar="FRAMES", help="render a new scene and stop")
    parser.add_argument("--seed", type=int, default=2025, help="seed of a new scene (default: %(default)s)")
    parser.add_argument(
        "--objects", type=int, default=3, help="objects of a new scene (default: %(default)s)"
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(720, 1280),
        metavar=("HEIGHT", "WIDTH"),
        help="pixels of a new scene (default: 720 1280)",
    )
    parser.add_argument("--rate", type=float, default=25.0, help="images a second (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=1000, help="images to publish (default: %(default)s)")
    add_waiting_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
