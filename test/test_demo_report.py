"""The report of a recorded run, computed from its bag."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

pytest.importorskip("sam2s_msgs.msg", reason="the messages are not built: make setup")

from sam2s_ros.nodes import demo_overlay  # noqa: E402
from sam2s_ros.nodes.demo_overlay import OverlayPainter, pale, write_pictures  # noqa: E402
from sam2s_ros.nodes.demo_recorder import recording_typestore  # noqa: E402
from sam2s_ros.nodes.demo_report import (  # noqa: E402
    NEVER_ADDED,
    PromptedTrack,
    build_report,
    format_table,
    read_recording,
    score_tracks,
)
from sam2s_ros.nodes.machine import describe_run  # noqa: E402
from sam2s_ros.tracking import rle  # noqa: E402

STORE = recording_typestore()
OK, STALE, ENGINE_FAILED = 0, 2, 3
PERIOD_NS = 100_000_000
START_NS = 3_000_000_000
SIZE = (24, 32)
TRACK = PromptedTrack("tool", 5, 1, START_NS)


def square(left: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[6:18, left : left + 12] = True
    return mask


def default(msgtype: str, **values):
    """A message with zeros and empty fields, except for `values`."""
    kind = STORE.types[msgtype]
    _, fields = STORE.fielddefs[msgtype]
    filled = {}
    for name, (node, argument) in fields:
        if name in values:
            filled[name] = values[name]
        elif node.name == "BASE":
            filled[name] = {"string": "", "bool": False}.get(argument[0], 0)
        elif node.name == "NAME":
            filled[name] = default(argument)
        elif node.name == "ARRAY":
            filled[name] = np.zeros(argument[1], argument[0][1][0])
        else:
            filled[name] = np.zeros(0, argument[0][1][0]) if argument[0][0].name == "BASE" else []
    return kind(**filled)


def stamp(stamp_ns: int):
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    return default("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)


def header(stamp_ns: int):
    return default("std_msgs/msg/Header", stamp=stamp(stamp_ns))


def objects(stamp_ns: int, published_ns: int, mask: np.ndarray | None, status: int = OK):
    items = []
    if mask is not None:
        counts = rle.encode(mask)
        run_lengths = default("sam2s_msgs/msg/RleMask", height=SIZE[0], width=SIZE[1], counts=counts)
        items = [default("sam2s_msgs/msg/TrackedObject", id=1, label=1, name="tool", mask=run_lengths)]
    stages = [
        default("sam2s_msgs/msg/StageLatency", stage="encode", duration=0.02),
        default("sam2s_msgs/msg/StageLatency", stage="publish", duration=float("nan")),
    ]
    return default(
        "sam2s_msgs/msg/TrackedObjectArray",
        header=header(stamp_ns),
        status=status,
        published=stamp(published_ns),
        model="nano",
        engine="eager fp32 cpu",
        frames_tracked=4,
        stage_latencies=stages,
        objects=items,
    )


@pytest.fixture
def recording(tmp_path: Path):
    """Six images, the object moving by 2 px. Image 2 is skipped and image 4 missed (an empty mask); 20, 30, .. ms
    of latency; then two heartbeats, one of an engine that failed.
    """
    answers = {0: square(2), 1: square(4), 3: square(8), 4: np.zeros(SIZE, bool), 5: square(12)}
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        images = writer.add_connection("/image", "std_msgs/msg/Header", typestore=STORE)
        out = writer.add_connection("/objects", "sam2s_msgs/msg/TrackedObjectArray", typestore=STORE)

        def write(connection, receipt_ns, message):
            writer.write(connection, receipt_ns, bytes(STORE.serialize_cdr(message, connection.msgtype)))

        for frame in range(6):
            stamp_ns = START_NS + frame * PERIOD_NS
            write(images, stamp_ns + 1, header(stamp_ns))
            if frame in answers:
                latency_ns = (20 + 10 * frame) * 1_000_000
                write(
                    out, stamp_ns + latency_ns, objects(stamp_ns, stamp_ns + latency_ns // 2, answers[frame])
                )
        last_ns = START_NS + 5 * PERIOD_NS
        write(out, last_ns + 9 * PERIOD_NS, objects(last_ns, last_ns + 9 * PERIOD_NS, square(12), STALE))
        failed_ns = START_NS + 2 * PERIOD_NS
        write(out, last_ns + 10 * PERIOD_NS, objects(failed_ns, last_ns, square(6), ENGINE_FAILED))
    return read_recording(tmp_path / "bag", "/image", "/objects")


def truth(stamp_ns: int, key: int) -> np.ndarray:
    assert key == TRACK.key
    return square(2 + 2 * ((stamp_ns - START_NS) // PERIOD_NS))


def report_of(recording) -> dict:
    return build_report(recording, score_tracks(recording, [TRACK], truth), [TRACK])


def test_images_without_an_answer_are_skipped_and_heartbeats_and_failures_are_no_answers(recording):
    report = report_of(recording)
    assert (report["frames_in"], report["frames_tracked"], report["frames_skipped"]) == (6, 5, 1)
    assert report["rate_hz"] == 10.0


def test_latency_is_from_the_stamp_to_the_first_receipt(recording):
    report = report_of(recording)
    assert report["latency_ms"] == {"p50": 50.0, "p99": pytest.approx(69.6, abs=0.5)}
    assert report["publish_latency_ms"]["p50"] == 25.0


def test_a_skipped_image_and_an_empty_mask_score_nothing_and_the_rest_is_exact(recording):
    (item,) = report_of(recording)["objects"]
    assert item["frames_scored"] == 4  # without the prompted and the last image
    assert item["j"] == item["f"] == item["jf"] == 50.0  # images 1 and 3 of 1, 2, 3, 4


def test_images_published_before_the_prompt_was_answered_are_counted(recording):
    other = PromptedTrack("other", 5, 99, START_NS)
    items = build_report(recording, score_tracks(recording, [TRACK, other], truth), [TRACK, other])["objects"]
    assert [item["frames_before_answer"] for item in items] == [0, 5], "the other one was never answered"
    table = format_table("title", build_report(recording, score_tracks(recording, [other], truth), [other]))
    assert "no mask yet on 5 images before the answer" in table


def test_the_mean_is_over_objects(recording):
    other = PromptedTrack("other", 5, 99, START_NS)
    report = build_report(recording, score_tracks(recording, [TRACK, other], truth), [TRACK, other])
    assert [item["jf"] for item in report["objects"]] == [50.0, 0.0]
    assert report["jf_mean"] == 25.0


def test_an_object_that_the_node_was_never_given_scores_nothing(recording):
    never = PromptedTrack("late tool", 5, NEVER_ADDED, START_NS)
    report = build_report(recording, score_tracks(recording, [never], truth), [never])
    assert (report["objects"][0]["id"], report["objects"][0]["jf"]) == (None, 0.0)
    assert "never prompted" in format_table("Part 1", report)


def test_an_object_is_scored_from_its_prompted_image_on(recording):
    late = PromptedTrack("tool", 5, 1, START_NS + 3 * PERIOD_NS)
    (score,) = score_tracks(recording, [late], truth)
    assert score.first_frame == 3 and len(score.j) == 3


def test_durations_that_are_not_known_are_left_out(recording):
    assert report_of(recording)["stages_ms"] == {"encode": 20.0}


def test_the_table_names_object_model_and_engine(recording):
    table = format_table("Part 1", report_of(recording))
    assert all(word in table for word in ("tool", "50.0", "nano", "eager fp32 cpu", "skipped 1"))


def test_a_run_without_any_answer_is_no_report(recording):
    silent = type(recording)(recording.image_stamps_ns, {}, None)
    with pytest.raises(ValueError, match="published nothing"):
        build_report(silent, [], [])


def test_pictures_are_of_images_that_were_tracked_and_have_masks(recording, tmp_path: Path):
    """Of six images one was skipped and one has an empty mask."""
    painter = OverlayPainter(recording, [TRACK], lambda _: np.full((*SIZE, 3), 90, np.uint8), truth)
    paths = write_pictures(tmp_path, "bag", painter, recording.image_stamps_ns, 9)
    assert [path.name for path in paths] == [f"bag_{number:04d}.png" for number in (0, 1, 3, 5)]


def test_an_object_is_called_just_prompted_on_the_first_image_that_has_it(recording, monkeypatch):
    """And what an image was prompted for is said on it, before its masks are there."""
    said: list[str] = []
    monkeypatch.setattr(demo_overlay, "put_text", lambda _, text, *__: said.append(text))
    monkeypatch.setattr(
        demo_overlay, "draw_overlay", lambda *arguments: said.extend(text for _, text in arguments[2])
    )
    painter = OverlayPainter(recording, [TRACK], lambda _: np.zeros((*SIZE, 3), np.uint8), truth)
    for stamp_ns in recording.image_stamps_ns[:3]:
        painter.draw(stamp_ns)
    assert said[0] == "tool just prompted" and said[1].endswith("prompted for tool")
    assert said[2] == "tool" and "prompted" not in said[3] and said[4] == "frame 2: skipped"


def test_a_true_outline_has_its_objects_colour_paler(recording):
    painter = OverlayPainter(recording, [TRACK], lambda _: np.zeros((*SIZE, 3), np.uint8), truth)
    picture = painter.draw(recording.image_stamps_ns[1])
    assert tuple(picture[6, 10]) == pale(1) and pale(0) == (255, 255, 255)


def test_a_run_says_version_and_machine():
    described = describe_run()
    assert described["version"] and described["machine"]["cpus"] >= 1
