"""A bag of any length as a recorder would write it: JPEG images of a rendered scene, with a label image for each.

python test/benchmarks/jpeg_bag.py OUT.mcap --minutes 20
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from sam2s_ros.evaluation.bag_writer import IMAGE_TOPIC, BagWriter, to_jpeg
from sam2s_ros.evaluation.rendered import find_rendered_sequences

SIZE = (1280, 720)  # width, height
SCENE_FRAMES = 60
QUALITY = 90


def write_jpeg_bag(out: Path, frames: int, rate_hz: float, seed: int = 3) -> Path:
    """Write `frames` images at `rate_hz`: a rendered scene of 60 frames, played forwards and backwards."""
    (scene,) = find_rendered_sequences(f"rendered:{seed}", None)
    encoded = [
        (to_jpeg(cv2.resize(one.image, SIZE, interpolation=cv2.INTER_CUBIC), QUALITY), _resized(one.labels))
        for _, one in zip(range(SCENE_FRAMES), scene.frames(), strict=False)
    ]
    with BagWriter(out) as writer:
        for number, place in zip(range(frames), to_and_fro(len(encoded)), strict=False):
            stamp_ns = 10**9 + round(number * 1e9 / rate_hz)
            if number == 0:
                writer.add_names(stamp_ns, scene.label_names)
            jpeg, labels = encoded[place]
            writer.add_jpeg(stamp_ns, IMAGE_TOPIC, jpeg)
            writer.add_labels(stamp_ns, labels)
    return out


def to_and_fro(count: int) -> Iterator[int]:
    """0 .. count - 1, back to 0, and so on without end."""
    while True:
        yield from range(count - 1)
        yield from range(count - 1, 0, -1)


def _resized(labels: np.ndarray | None) -> np.ndarray:
    assert labels is not None
    return np.asarray(cv2.resize(labels, SIZE, interpolation=cv2.INTER_NEAREST), np.uint8)


def main() -> None:
    """Write one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=30.0)
    args = parser.parse_args()
    write_jpeg_bag(args.out, round(60 * args.minutes * args.rate), args.rate)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
