"""Results that come before the engine has written what it remembers of their frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tracking_cases import disc, moving_images, small_network

from sam2s_ros.engines import create_engine
from sam2s_ros.tracking import StreamingTracker, TrackerConfig

pytestmark = pytest.mark.usefixtures("graph_cache")
ENGINES = [("eager", 1), ("openvino", 1), ("openvino", 2), ("onnxruntime", 1)]
FRAMES = moving_images(14)
OBJECTS = 3


def tracker_of(name: str, threads: int, min_iou: float = 0.0) -> StreamingTracker:
    """Three objects, so two groups of OpenVINO's, with long-term memory that takes in every other frame of a predicted
    IoU above `min_iou`."""
    config = TrackerConfig(
        max_objects=4,
        num_long_term=2,
        long_term_interval_s=0.0,
        long_term_candidates=2,
        long_term_min_iou=min_iou,
    )
    engine = create_engine(name, small_network(), config.engine_capacity(), threads=threads)
    tracker = StreamingTracker(engine, config)
    for index in range(OBJECTS):
        tracker.add_object(FRAMES[0] if index == 0 else None, mask=disc(40 + 20 * index, 40, 12))
    return tracker


@pytest.mark.parametrize(("name", "threads"), ENGINES)
@pytest.mark.parametrize("calls_settle", [True, False])
def test_when_memory_is_written_changes_no_mask_and_no_memory(
    name: str, threads: int, calls_settle: bool
) -> None:
    """Also where nobody asks for it to be written, and where a prompt comes between."""
    at_once, later = tracker_of(name, threads), tracker_of(name, threads)
    for number, frame in enumerate(FRAMES[1:]):
        expected, result = at_once.step(frame), later.step(frame, settle=False)
        assert np.array_equal(result.logits, expected.logits) and np.array_equal(result.iou, expected.iou)
        assert np.ptp(result.logits) > 0.1, "the case shows something"
        if number == 5:
            for tracker in (at_once, later):
                tracker.refine_object(2, mask=disc(70, 45, 10))
        if calls_settle:
            later.settle()
    assert repr(at_once.objects()) == repr(later.objects())
    rows = np.arange(OBJECTS)
    memory, other = (tracker.engine.export_state(rows) for tracker in (at_once, later))
    assert all(np.array_equal(memory[key], other[key]) for key in memory)


@pytest.mark.parametrize(("name", "threads"), [("openvino", 1), ("openvino", 2), ("onnxruntime", 1)])
@pytest.mark.parametrize("settle", [True, False], ids=["in step", "afterwards"])
def test_a_frame_that_could_not_be_remembered_is_forgotten(
    name: str, threads: int, settle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error comes once, and what follows is as if the engine had failed before it saw anything on that frame."""
    min_iou = 0.0 if settle else 1.0  # a candidate for the long-term memory has the memory written at once
    tracker, undisturbed = tracker_of(name, threads, min_iou), tracker_of(name, threads, min_iou)
    for one in (tracker, undisturbed):
        one.step(FRAMES[1])
    fails = {"memorise": tracker, "attend": undisturbed}
    for graph, one in fails.items():
        with monkeypatch.context() as patch:
            break_graph(patch, one, graph)
            with pytest.raises(RuntimeError, match=graph):
                one.step(FRAMES[2], settle=settle)
                one.settle()
    assert tracker.kept_stamps_ns() == undisturbed.kept_stamps_ns()
    tracker.settle()
    for frame in FRAMES[3:6]:
        assert np.array_equal(tracker.step(frame).logits, undisturbed.step(frame).logits)


def break_graph(patch: pytest.MonkeyPatch, tracker: StreamingTracker, graph: str) -> None:
    """Have every run of a graph end in an error, begun beside the caller or not."""
    runner = tracker.engine._runner  # type: ignore[attr-defined]
    run, start = runner.run, runner.start

    def broken(name: str, *arguments: Any) -> Any:
        if name == graph:
            raise RuntimeError(f"{name}: out of memory")
        return run(name, *arguments)

    def broken_start(name: str, *arguments: Any) -> Any:
        if name != graph:
            return start(name, *arguments)

        def finish() -> Any:
            raise RuntimeError(f"{name}: out of memory")

        return finish

    patch.setattr(runner, "run", broken)
    patch.setattr(runner, "start", broken_start)
