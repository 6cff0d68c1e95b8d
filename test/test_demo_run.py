"""`sam2s demo` and `sam2s bench` as a user runs them, with small inputs and random weights."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

pytest.importorskip("rclpy", reason="rclpy is not installed: make setup")
pytest.importorskip("sam2s_msgs.msg", reason="the messages are not built: make setup")

from node_harness import random_weights  # noqa: E402

from sam2s_ros.cli import main  # noqa: E402
from sam2s_ros.nodes.demo import judge, print_goals  # noqa: E402
from sam2s_ros.nodes.demo_recorder import recording_typestore  # noqa: E402

STORE = recording_typestore()
SIZE = (64, 96)
FRAMES = 15


def scene(number: int) -> np.ndarray:
    """Two blocks that move, as label values 1 and 5; the second appears in the fourth image."""
    labels = np.zeros(SIZE, np.uint8)
    labels[10:40, 5 + number : 35 + number] = 1
    if number >= 3:
        labels[42:60, 50:80] = 5
    return labels


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen JPEG images with ground truth at 10 Hz, as in the bundled bag."""
    path = tmp_path_factory.mktemp("bags") / "small"
    header_type, stamp_type = STORE.types["std_msgs/msg/Header"], STORE.types["builtin_interfaces/msg/Time"]
    compressed, image = STORE.types["sensor_msgs/msg/CompressedImage"], STORE.types["sensor_msgs/msg/Image"]
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        names = writer.add_connection("/ground_truth/label_names", "std_msgs/msg/String", typestore=STORE)
        images = writer.add_connection("/camera/compressed", compressed.__msgtype__, typestore=STORE)
        truth = writer.add_connection("/ground_truth/labels", image.__msgtype__, typestore=STORE)
        text = STORE.types["std_msgs/msg/String"](data=json.dumps({"1": "tissue", "5": "tool"}))
        writer.write(names, 0, bytes(STORE.serialize_cdr(text, text.__msgtype__)))
        for number in range(FRAMES):
            labels, stamp_ns = scene(number), number * 100_000_000
            header = header_type(stamp=stamp_type(*divmod(stamp_ns, 1_000_000_000)), frame_id="endoscope")
            _, jpeg = cv2.imencode(".jpg", cv2.merge([40 + labels * 30] * 3))
            for connection, message in (
                (images, compressed(header=header, format="jpeg", data=jpeg.ravel())),
                (
                    truth,
                    image(
                        header=header,
                        height=SIZE[0],
                        width=SIZE[1],
                        encoding="mono8",
                        is_bigendian=0,
                        step=SIZE[1],
                        data=labels.ravel(),
                    ),
                ),
            ):
                writer.write(connection, stamp_ns, bytes(STORE.serialize_cdr(message, connection.msgtype)))
    return path


def demo(out: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sam2s_ros.cli", "demo", "--out", str(out), *arguments]
    return subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.fixture(scope="module")
def finished(bag: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the output of a run of part 1 on the small bag."""
    out = tmp_path_factory.mktemp("demo")
    process = demo(out, "--part", "bag", "--bag", str(bag), "--model", str(random_weights()))
    output, _ = process.communicate(timeout=270)
    assert process.returncode == 0, output
    return out, output


def test_the_demo_prompts_every_object_and_reports_it(finished: tuple[Path, str]):
    summary = json.loads((finished[0] / "summary.json").read_text())
    assert [item["name"] for item in summary["objects"]] == ["tissue", "tool"]
    assert summary["frames_in"] == FRAMES
    assert 1 <= summary["frames_tracked"] <= FRAMES
    assert summary["frames_tracked"] + summary["frames_skipped"] == FRAMES
    assert summary["latency_ms"]["p50"] > 0
    assert summary["model"] and summary["engine"] and summary["version"]
    assert summary["jf_mean"] is not None
    assert summary["tracker_exit_status"] == 0


def test_the_demo_prints_a_table_of_the_objects(finished: tuple[Path, str]):
    assert re.search(r"tissue +J&F", finished[1]) and re.search(r"tool +J&F", finished[1])


def test_the_demo_records_the_images_as_published_and_what_the_node_answered(
    finished: tuple[Path, str], bag: Path
):
    with AnyReader([bag]) as recorded, AnyReader([finished[0] / "bag"]) as again:
        originals = [
            data for connection, _, data in recorded.messages() if connection.topic == "/camera/compressed"
        ]
        copies = [
            data for connection, _, data in again.messages() if connection.topic == "/camera/compressed"
        ]
        topics = {connection.topic for connection in again.connections if connection.msgcount}
    assert len(copies) == len(originals)
    for copy, original in zip(copies, originals, strict=True):
        assert copy[12 : len(original)] == original[12:]  # all but the stamp
        assert len(copy) - len(original) < 4  # DDS pads to four bytes
    assert topics == {
        "/camera/compressed", "/ground_truth/labels", "/ground_truth/label_names",
        "/tracker/objects", "/tracker/labels", "/tracker/label_table",
    }  # fmt: skip


def test_the_demo_draws_every_image_into_a_video_and_some_as_pictures(finished: tuple[Path, str]):
    video = cv2.VideoCapture(str(finished[0] / "overlay.mp4"))
    frames = 0
    while video.read()[0]:
        frames += 1
    assert frames == FRAMES
    assert len(list((finished[0] / "frames").glob("*.png"))) == 6


def test_weights_that_are_missing_end_the_demo_with_a_message_and_an_error_status(bag: Path, tmp_path: Path):
    process = demo(
        tmp_path, "--part", "bag", "--bag", str(bag), "--model", str(tmp_path / "none.safetensors")
    )
    output, _ = process.communicate(timeout=270)
    assert process.returncode == 1
    assert "could not configure" in output and "none.safetensors" in output


def test_a_demo_that_is_told_to_stop_leaves_no_process(bag: Path, tmp_path: Path):
    process = demo(tmp_path, "--part", "bag", "--bag", str(bag), "--model", str(random_weights()))
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    node_pid = next(int(found[1]) for line in lines if (found := re.search(r"is up \(pid (\d+)\)", line)))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    deadline = time.monotonic() + 10.0
    while Path(f"/proc/{node_pid}").exists():
        assert time.monotonic() < deadline, "the tracker node outlived the demo"
        time.sleep(0.05)


def test_a_bag_without_ground_truth_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    compressed, stamp = (
        STORE.types["sensor_msgs/msg/CompressedImage"],
        STORE.types["builtin_interfaces/msg/Time"],
    )
    header = STORE.types["std_msgs/msg/Header"](stamp=stamp(0, 0), frame_id="endoscope")
    image = compressed(header=header, format="jpeg", data=np.zeros(1, np.uint8))
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection("/camera/compressed", image.__msgtype__, typestore=STORE)
        writer.write(topic, 0, bytes(STORE.serialize_cdr(image, image.__msgtype__)))
    assert main(["demo", "--out", str(tmp_path / "out"), "--bag", str(tmp_path / "bag")]) == 2
    assert "no ground truth under /ground_truth/labels" in capfd.readouterr().err


def stream_report(**values: object) -> dict[str, object]:
    return {
        "jf_mean": 85.0,
        "tracked_percent": 100.0,
        "latency_ms": {"p99": 90.0},
        "frames_in": 1000,
        "frames_skipped": 0,
        "objects": [{"frames_before_answer": 0}],
    } | values


def test_goals_are_judged_only_where_there_is_a_value():
    judged = judge({"jf_mean": 40.0, "stream": stream_report(jf_mean=None, latency_ms={"p99": 151.0})})
    assert {path: goal["met"] for path, goal in judged.items()} == {
        "jf_mean": True,
        "stream.tracked_percent": True,
        "stream.latency_ms.p99": False,
    }


def test_a_goal_that_is_not_met_says_why(capsys: pytest.CaptureFixture[str]):
    slow = stream_report(tracked_percent=62.4, frames_skipped=376, jf_mean=60.0)
    summary = {"goals": judge({"stream": slow})}
    print_goals(summary)
    said = capsys.readouterr().out.splitlines()
    assert "376 of 1000 images were skipped and count as empty masks: the machine is too slow" in said[3]
    assert (
        "NOT MET" in said[4] and "376 of 1000 images were skipped: the machine is too slow or busy" in said[5]
    )
    assert "docs/performance.md" in said[5] and len(said) == 7, "nothing is said of a goal that is met"
    wrong = judge({"stream": stream_report(jf_mean=60.0)})["stream.jf_mean"]["why"]
    assert "no image was skipped" in wrong and "docs/results.md" in wrong
    late = stream_report(jf_mean=60.0, objects=[{"frames_before_answer": 3}, {"frames_before_answer": 2}])
    assert "5 images" in judge({"stream": late})["stream.jf_mean"]["why"]


def test_an_unknown_benchmark_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "colour"]) == 2
    said = capsys.readouterr().err
    assert "there are tracker_steps, " in said and "image_transport" in said


@pytest.mark.slow
def test_all_benchmarks_run_and_leave_their_numbers(tmp_path: Path):
    command = ["bench", "--quick", "--out", str(tmp_path), "--model", str(random_weights())]
    assert main(command) == 0
    results = json.loads((tmp_path / "bench.json").read_text())["benchmarks"]
    assert set(results["tracker_steps"]["objects"]) == {"1", "4", "8"}
    assert set(results["engines"]["objects"]) == {"1", "3", "4", "8"}
    assert (
        results["image_transport"]["profile"]["received_hz"]
        > results["image_transport"]["defaults"]["received_hz"]
    )
    assert results["flatness"]["frames"] == 1000
