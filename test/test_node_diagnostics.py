"""/diagnostics: what is reported, when it is a warning, and that it arrives."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from node_harness import Client, block_mask, mask, node_in_this_process

from sam2s_msgs.msg import Prompt, TrackedObject, TrackedObjectArray
from sam2s_ros.engines.base import EngineDescription
from sam2s_ros.nodes.diagnostics import (
    NodeHealth,
    engine_status,
    latency_status,
    memory_status,
    objects_status,
    positions_status,
    stream_status,
)
from sam2s_ros.nodes.range_input import RangeCounts
from sam2s_ros.nodes.stage_percentiles import StagePercentiles
from sam2s_ros.nodes.stream_counter import StreamCounts

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
ENGINE = EngineDescription("eager", "nano", "fp32", "cpu", "2.0", 1, 256, "abc", "asked for")
BEFORE = StreamCounts(received=100, tracked=90, skipped=10)


def values(status: DiagnosticStatus) -> dict[str, str]:
    return {one.key: one.value for one in status.values}


def test_percentiles_are_those_of_the_newest_images() -> None:
    """Older ones have left the window, and NaN does not count."""
    stages = StagePercentiles(window=100)
    for number in range(150):
        stages.add({"attend": number * 1e-3, "never": math.nan})
    images, found = stages.read()["attend"]
    assert images == 100 and "never" not in stages.read()
    assert np.allclose(found, np.percentile(np.arange(50, 150), (50, 90, 99, 100)) * 1e-3)
    stages.add({"decode": 1.0})
    assert stages.read()["attend"][0] == 99 and stages.read()["decode"][0] == 1
    stages.clear()
    assert stages.read() == {}


def test_rates_are_those_since_the_last_report() -> None:
    """Counts divided by the time between two reports."""
    counts = StreamCounts(received=150, tracked=130, skipped=20)
    status = stream_status(NodeHealth("/image", counts, TrackedObjectArray()), BEFORE, 2.0)
    assert status.level == OK
    assert values(status)["received [Hz]"] == "25.0" and values(status)["tracked [Hz]"] == "20.0"
    assert values(status)["skipped since activation"] == "20"


@pytest.mark.parametrize(
    ("status", "counts", "level", "text"),
    [
        (TrackedObjectArray.STALE, BEFORE, ERROR, "STALE: images stopped"),
        (TrackedObjectArray.ENGINE_FAILED, BEFORE, ERROR, "ENGINE_FAILED"),
        (TrackedObjectArray.NO_INPUT, BEFORE, WARN, "NO_INPUT"),
        (
            TrackedObjectArray.OK,
            StreamCounts(received=110, tracked=100, skipped=10, lost=3),
            WARN,
            "3 images lost",
        ),
        (TrackedObjectArray.OK, StreamCounts(received=110, tracked=94, skipped=16), WARN, "only 4 of 10"),
        (TrackedObjectArray.OK, StreamCounts(received=110, tracked=100, skipped=10), OK, "OK"),
    ],
)
def test_trouble_of_the_stream(status: int, counts: StreamCounts, level: bytes, text: str) -> None:
    newest = TrackedObjectArray(status=status, status_message="images stopped")
    found = stream_status(NodeHealth("/image", counts, newest), BEFORE, 1.0)
    assert found.level == level and text in found.message


def test_late_images_are_a_warning() -> None:
    """Where the 99th percentile is beyond what counts as stale."""
    stages = StagePercentiles()
    for _ in range(10):
        stages.add({"attend": 0.02, "total": 0.3})
    assert latency_status(NodeHealth(stages=stages, stale_after_s=0.5)).level == OK
    late = latency_status(NodeHealth(stages=stages, stale_after_s=0.2))
    assert late.level == WARN and "stale_after_s (200 ms)" in late.message
    assert values(late)["attend p50 p90 p99 max [ms]"] == "20.0 20.0 20.0 20.0"


def test_engine_and_memory() -> None:
    """What runs and why; what is full."""
    assert engine_status(NodeHealth()).level == WARN
    status = engine_status(NodeHealth(engine=ENGINE, newest=TrackedObjectArray()))
    assert status.level == OK and values(status)["chosen because"] == "asked for"
    failed = TrackedObjectArray(status=TrackedObjectArray.ENGINE_FAILED, status_message="out of memory")
    assert engine_status(NodeHealth(engine=ENGINE, newest=failed)).level == ERROR
    full = TrackedObjectArray(objects=[TrackedObject(), TrackedObject()])
    assert memory_status(NodeHealth(newest=full, max_objects=3)).level == OK
    assert "raise max_objects" in memory_status(NodeHealth(newest=full, max_objects=2)).message


def test_objects_that_are_not_tracking_are_a_warning() -> None:
    """Each with its state and why."""
    good = TrackedObject(id=1, name="grasper", state=TrackedObject.TRACKING, presence=0.9, predicted_iou=0.8)
    lost = TrackedObject(id=2, name="needle", state=TrackedObject.LOST, state_reason="out of view")
    assert objects_status(NodeHealth(newest=TrackedObjectArray(objects=[good]))).level == OK
    status = objects_status(NodeHealth(newest=TrackedObjectArray(objects=[good, lost])))
    assert status.level == WARN and status.message == "2 needle LOST"
    assert "TRACKING, presence 0.90" in values(status)["1 grasper"]
    assert "out of view" in values(status)["2 needle"]


def test_images_without_positions_are_a_warning_that_says_why() -> None:
    """Until one has them again."""
    assert positions_status(RangeCounts()).level == OK
    status = positions_status(RangeCounts(3, 2, "depth has encoding '8UC1'"))
    assert status.level == WARN and "depth has encoding '8UC1'" in status.message
    assert values(status) == {"images with": "3", "images without": "2"}
    assert positions_status(RangeCounts(4, 2)).level == OK


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A client of an active node that reports ten times a second."""
    settings = {"engine": "eager", "threads": 1, "diagnostics_period_s": 0.1, "stale_after_s": 1.0}
    with node_in_this_process(settings) as (_, client):
        yield client


@pytest.fixture(scope="module")
def reports(client: Client) -> list[DiagnosticArray]:
    arrived: list[DiagnosticArray] = []
    client.node.create_subscription(DiagnosticArray, "/diagnostics", arrived.append, 50)
    return arrived


def newest(reports: list[DiagnosticArray], part: str) -> DiagnosticStatus:
    return next(one for one in reports[-1].status if one.name == f"tracker: {part}")


def test_reports_arrive_with_what_is_tracked(client: Client, reports: list[DiagnosticArray]) -> None:
    """Rates, stages, engine and the object, while images flow; an error once they have stopped."""
    client.track()
    assert client.call("add_object", name="probe", prompt=Prompt(**mask(block_mask()))).success
    client.track()
    tracked = "tracked since activation"
    client.wait(
        lambda: reports and values(newest(reports, "stream"))[tracked] == "2", "the report of both images"
    )
    assert "1 probe" in values(newest(reports, "objects"))
    assert values(newest(reports, "engine"))["engine"].startswith("eager")
    assert any(key.startswith("total p50") for key in values(newest(reports, "latency")))
    assert int(values(newest(reports, "memory"))["process resident [MiB]"]) > 50
    assert newest(reports, "memory").message == "1 of 8 objects"
    client.wait(lambda: newest(reports, "stream").level == ERROR, "the report of the silence")
    assert "STALE" in newest(reports, "stream").message


def test_live_parameters_act_on_the_next_image(client: Client) -> None:
    """No image of random weights reaches a predicted IoU of 1; others are refused with the reason."""
    client.track()
    (before,) = client.newest_array(lambda one: one.objects, "the object").objects
    assert client.set_parameter("uncertain_iou", 1.0).successful
    (after,) = client.track().objects
    assert after.state == TrackedObject.UNCERTAIN and "below 1" in after.state_reason
    assert "below 1" not in before.state_reason
    out_of_range = client.set_parameter("uncertain_iou", 1.5)
    assert not out_of_range.successful
    fixed = client.set_parameter("num_long_term", 4)
    assert not fixed.successful and "cleanup" in fixed.reason
    assert "below 1" in client.track().objects[0].state_reason
