"""How many images of a 60 Hz 1280x720 publisher process reach a subscriber like the tracker node's, with the
shipped Fast DDS profile in both processes and with Fast DDS's defaults, in alternating runs.

    python test/benchmarks/image_transport.py [--json FILE] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RATE_HZ = 60.0
SIZE = (720, 1280)
VARIANTS = ("profile", "defaults")


def main() -> None:
    """Measure, print a table, write JSON."""
    args = parse_arguments()
    if args.subscribe:
        subscribe(args.subscribe)
        return
    from sam2s_ros.nodes.demo_stage import isolated_domain
    from sam2s_ros.nodes.image_transport import image_transport_environment

    rounds: dict[str, list[dict]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        write_scene(Path(folder) / "scene")
        profile = image_transport_environment(Path(folder))
        for name in profile:
            os.environ.pop(name, None)  # `defaults` means without, whatever the caller has set
        environments = {"profile": profile, "defaults": {}}
        frames = 120 if args.quick else 300
        with isolated_domain(Path(folder) / "logs"):
            for _ in range(1 if args.quick else 5):
                for variant in VARIANTS:
                    rounds[variant].append(run_once(Path(folder), environments[variant], frames))
    results = {variant: summarise(rounds[variant]) for variant in VARIANTS}
    print(f"{'':>9} {'published':>10} {'received':>9} {'latency p50':>12} {'p99':>9}")
    for variant, row in results.items():
        latency = [f"{row[key]:.1f} ms" if row[key] is not None else "n/a" for key in ("p50_ms", "p99_ms")]
        print(
            f"{variant:>9} {row['published_hz']:>7.1f} Hz {row['received_hz']:>6.1f} Hz "
            f"{latency[0]:>12} {latency[1]:>9}"
        )
    print(f"goal: >= 57 Hz with the profile; {RATE_HZ:g} Hz asked for, {SIZE[1]}x{SIZE[0]} rgb8, best effort")
    if args.json:
        args.json.write_text(json.dumps({"rate_hz": RATE_HZ, "image_size": SIZE, **results}, indent=2) + "\n")


def run_once(folder: Path, environment: dict[str, str], frames: int) -> dict:
    """One run of publisher and subscriber, each a process of its own."""
    from sam2s_ros.nodes.demo_processes import ChildProcess

    result = folder / "received.json"
    result.unlink(missing_ok=True)
    camera = [str(folder / "scene"), "--rate", str(RATE_HZ), "--frames", str(frames), "--wait-for", "image=1"]
    subscriber = ChildProcess(
        "subscriber",
        "image_transport",
        ["--subscribe", str(result)],
        {
            **environment,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        },
        folder,
    )
    publisher = ChildProcess("publisher", "sam2s_ros.nodes.synthetic_camera", camera, environment, folder)
    with subscriber, publisher:
        publisher.wait(60.0 + frames / RATE_HZ)
        sent = json.loads(publisher.last_line())
        subscriber.stop()
    received = json.loads(result.read_text())
    duration_s = frames / sent["rate_hz"]
    return {
        "published_hz": sent["rate_hz"],
        "received_hz": len(received) / duration_s,
        "latency_ms": received,
    }


def subscribe(result: Path) -> None:
    """Receive as the tracker node does until SIGINT; write latencies in ms, stamp to callback, as JSON."""
    import rclpy
    from rclpy.executors import ExternalShutdownException
    from rclpy.node import Node
    from sensor_msgs.msg import Image

    from sam2s_ros.nodes.image_messages import image_to_rgb
    from sam2s_ros.nodes.image_source import NEWEST_IMAGE
    from sam2s_ros.nodes.messages import stamp_to_ns

    latencies_ms = []

    def on_image(message: Image) -> None:
        latencies_ms.append((time.time_ns() - stamp_to_ns(message.header.stamp)) * 1e-6)
        if image_to_rgb(message).shape != (*SIZE, 3):
            raise ValueError("an image of another size than was published has arrived")

    rclpy.init()
    node = Node("transport_benchmark")
    node.create_subscription(Image, "image", on_image, NEWEST_IMAGE)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        result.write_text(json.dumps(latencies_ms))


def write_scene(folder: Path) -> None:
    """Eight noise images in the form that the synthetic camera publishes."""
    folder.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (8, *SIZE, 3), np.uint8)
    np.save(folder / "frames.npy", images)
    np.save(folder / "masks.npy", np.zeros((8, 1, SIZE[0], SIZE[1] // 8), np.uint8))
    size = {"frames": 8, "objects": 1, "height": SIZE[0], "width": SIZE[1], "seed": 0}
    (folder / "scene.json").write_text(json.dumps(size))


def summarise(rounds: list[dict]) -> dict:
    """Medians over the rounds; latencies over all images of all rounds."""
    latencies = [value for row in rounds for value in row["latency_ms"]]
    return {
        "published_hz": round(statistics.median(row["published_hz"] for row in rounds), 2),
        "received_hz": round(statistics.median(row["received_hz"] for row in rounds), 2),
        "rounds_hz": [round(row["received_hz"], 2) for row in rounds],
        "p50_ms": round(float(np.percentile(latencies, 50)), 2) if latencies else None,
        "p99_ms": round(float(np.percentile(latencies, 99)), 2) if latencies else None,
    }


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition(".")[0])
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--model", help="taken and not used: this benchmark has no model")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--subscribe", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
