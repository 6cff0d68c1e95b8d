"""`sam2s evaluate --mode live`: the real node over DDS is measured by what it had published by then, frame by frame."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: make setup")
pytest.importorskip("sam2s_msgs.msg", reason="the messages are not built: make setup")

from evaluation_cases import block_labels, write_bag  # noqa: E402
from node_harness import random_weights  # noqa: E402
from rosbags.rosbag2 import StoragePlugin, Writer  # noqa: E402

from sam2s_msgs.msg import TrackedObject, TrackedObjectArray  # noqa: E402
from sam2s_ros.cli import main  # noqa: E402
from sam2s_ros.evaluation.bags import BagSequence  # noqa: E402
from sam2s_ros.evaluation.frame_scorer import FrameScorer  # noqa: E402
from sam2s_ros.evaluation.prompts import FirstSight  # noqa: E402
from sam2s_ros.evaluation.records import RecordReader  # noqa: E402
from sam2s_ros.nodes.demo_recorder import recording_typestore  # noqa: E402
from sam2s_ros.nodes.demo_stage import OBJECTS_TOPIC  # noqa: E402
from sam2s_ros.nodes.live_evaluation import LiveRun, measure  # noqa: E402
from sam2s_ros.nodes.messages import ns_to_stamp, rle_message  # noqa: E402
from sam2s_ros.nodes.slowed_tracker import at_least  # noqa: E402

OFFSET_NS = 5_000_000_000
PERIOD_NS = 100_000_000


def objects_bag(folder: Path, published: list[tuple[int, int, int, int]]) -> Path:
    """What a node might have published: frame, ms of publication, status, and the frame whose mask it shows."""
    from rclpy.serialization import serialize_message

    kind = "sam2s_msgs/msg/TrackedObjectArray"
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(OBJECTS_TOPIC, kind, typestore=recording_typestore())
        for frame, at_ms, status, shown in published:
            mask = block_labels(shown, 2, 96) == 1
            item = TrackedObject(id=7, state=TrackedObject.UNCERTAIN, presence=0.5, mask=rle_message(mask))
            message = TrackedObjectArray(status=status, image_height=64, image_width=96, objects=[item])
            message.header.stamp = ns_to_stamp(OFFSET_NS + 10**9 + frame * PERIOD_NS)
            message.published = ns_to_stamp(OFFSET_NS + 10**9 + at_ms * 1_000_000)
            writer.write(connection, at_ms, bytes(serialize_message(message)))
    return folder


def test_each_frame_is_compared_with_the_newest_masks_of_its_time(tmp_path: Path) -> None:
    """Six frames 100 ms apart; frame 1 is published when frame 2 comes, frame 3 after frame 4, and repeated."""
    sequence = BagSequence(write_bag(tmp_path / "block.mcap", 6, 10.0))
    ok, failed = TrackedObjectArray.OK, TrackedObjectArray.ENGINE_FAILED
    published = [(1, 200, ok, 1), (1, 290, ok, 5), (3, 450, ok, 3), (4, 460, failed, 0)]
    run = LiveRun(objects_bag(tmp_path / "objects", published), {1: 7}, 10**9, OFFSET_NS + 10**9)
    scorer = FrameScorer("live", sequence.name)
    rows = [one for found in measure(sequence, FirstSight("mask"), run, scorer) for one in found]
    assert [one.frame for one in rows] == list(range(6)) and rows[0].prompted
    assert [one.predicted_px > 0 for one in rows] == [False, False, True, True, True, True]
    assert [one.tracked for one in rows] == [False, True, False, True, False, False]
    assert [rows[1].latency_ms, rows[3].latency_ms] == [100.0, 150.0]

    def overlap(shown: int, truth: int) -> float:
        masks = [block_labels(number, 2, 96) == 1 for number in (shown, truth)]
        return float((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum())

    assert [one.j for one in rows[2:]] == [overlap(1, 2), overlap(1, 3), overlap(1, 4), overlap(3, 5)]
    assert {one.state for one in rows[2:]} == {"UNCERTAIN"} and rows[2].object_id == 7


def test_a_slowed_function_takes_its_time_and_gives_its_answer() -> None:
    import time

    begun = time.monotonic()
    assert at_least(0.05, lambda one: one + 1)(1) == 2
    assert time.monotonic() - begun >= 0.05


def test_the_node_is_prompted_recorded_and_measured_over_dds(tmp_path: Path) -> None:
    """Two seconds at 10 Hz into a node that takes at least 0.2 s for a step: most images are dropped."""
    bag, out = write_bag(tmp_path / "block.mcap", 20, 10.0), tmp_path / "out"
    options = [
        "--model",
        str(random_weights()),
        "--engine",
        "eager",
        "--prompts",
        "box",
        "--set",
        "kept_frames=8",
    ]
    arguments = ["evaluate", str(bag), "--mode", "live", "--step-time", "0.2", "--no-baselines", *options]
    assert main([*arguments, "--out", str(out)]) == 0
    document = json.loads((out / "summary.json").read_text())
    (scores,) = document["scores"].values()
    assert document["mode"] == "live" and scores["frames"]["frames"] == 20
    assert 5 <= scores["frames"]["dropped"] < 20
    reader = RecordReader(out)
    columns = reader.columns(reader.objects[0], "tracked", "latency_ms", "state")
    latency = columns["latency_ms"][columns["tracked"]]
    assert (latency >= 200).all() and np.isnan(columns["latency_ms"][~columns["tracked"]]).all()
    assert (
        columns["state"][0] == "" and columns["state"][-1] != ""
    )  # not known yet; then in what was published


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--prompts", "3-clicks"], "prompts by mask, box, click, not by 3-clicks"),
        (["--set", "no_such=1"], "--set no_such: no parameter of the node"),
        (["--prepare-time", "1"], "only with --mode real-time"),
        (["--rounds", "1"], "only with --mode every-frame"),
    ],
)
def test_what_live_cannot_do_is_refused_before_anything_is_started(
    options: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / "block.mcap", 2)
    assert main(["evaluate", str(bag), "--mode", "live", *options]) == 2
    assert problem in capsys.readouterr().err
