"""Messages carry the class that the tracker sees, unless an operator said which one it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tracking_cases import CLASSES, SEMANTIC, disc, moving_images, small_network, small_tracker

pytest.importorskip("rclpy", reason="rclpy is not installed: make setup")
pytest.importorskip("sam2s_msgs.msg", reason="sam2s_msgs is not built: make setup")

from node_harness import Client, NodeProcess, block_mask, isolated_ros, mask  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from sam2s_msgs.msg import Prompt  # noqa: E402
from sam2s_ros.engines import create_engine  # noqa: E402
from sam2s_ros.nodes.messages import class_scores, objects_array  # noqa: E402
from sam2s_ros.nodes.settings import NodeSettings  # noqa: E402
from sam2s_ros.tracking import FrameResult, StreamingTracker, TrackerConfig  # noqa: E402
from sam2s_ros.tracking.loader import known_classes  # noqa: E402


def tracked(semantic: bool) -> FrameResult:
    if semantic:
        network, config = small_network(config=SEMANTIC), TrackerConfig(max_objects=4, class_min_iou=0.0)
        engine = create_engine("eager", network, config.engine_capacity())
        tracker = StreamingTracker(engine, config, known_classes(network))
    else:
        tracker = small_tracker()
    tracker.add_object(moving_images(1)[0], mask=disc(60, 40, 20))
    assert tracker.last_result is not None
    return tracker.last_result


def test_a_message_has_the_most_probable_class_and_its_probability() -> None:
    result = tracked(semantic=True)
    (one,) = objects_array(result, Header(), {}, {}, most_classes=2).objects
    best = int(result.class_probabilities[0].argmax())
    assert one.class_name == CLASSES[best]
    assert one.class_score == pytest.approx(float(result.class_probabilities[0, best]))
    assert len(one.class_probabilities) == 2
    assert (one.class_probabilities[0].name, one.class_probabilities[0].probability) == (
        one.class_name,
        one.class_score,
    )


def test_a_class_given_by_the_operator_stays_and_has_no_score() -> None:
    result = tracked(semantic=True)
    (one,) = objects_array(result, Header(), {}, {1: "stapler"}, most_classes=3).objects
    assert one.class_name == "stapler" and math.isnan(one.class_score)
    assert len(one.class_probabilities) == 3, "what the tracker sees is still told"


def test_no_class_of_the_trackers_is_published_unless_it_is_asked_for() -> None:
    """The bundled weights' classes mean nothing on real video."""
    assert NodeSettings().published_classes == 0
    (one,) = objects_array(tracked(semantic=True), Header(), {}, {}).objects
    assert one.class_name == "" and math.isnan(one.class_score) and one.class_probabilities == []
    (one,) = objects_array(tracked(semantic=True), Header(), {}, {1: "stapler"}).objects
    assert one.class_name == "stapler"


def test_without_a_class_token_no_class_is_known() -> None:
    (one,) = objects_array(tracked(semantic=False), Header(), {}, {}, most_classes=3).objects
    assert one.class_name == "" and math.isnan(one.class_score) and one.class_probabilities == []


def test_class_probabilities_are_ordered_and_cut_and_unknown_ones_left_out() -> None:
    probabilities = np.array([0.2, 0.7, 0.1], np.float32)
    scores = class_scores(CLASSES, probabilities, 2)
    assert [score.name for score in scores] == ["grasper", "hook"]
    assert class_scores(CLASSES, np.full(3, np.nan, np.float32), 2) == []


def test_the_list_tells_of_a_class_what_the_objects_topic_tells() -> None:
    """The tracker reads classes to tell twins apart, whether they are published or not."""
    with isolated_ros():
        process, client = NodeProcess({"model": "nano", "autostart": True, "threads": 1}), Client()
        client.connect()
        client.track()
        client.call("add_object", prompt=Prompt(**mask(block_mask())))

        def told() -> list[tuple[str, bool]]:
            (shown,) = client.track().objects
            (listed,) = client.call("list_objects").objects
            return [(one.class_name, math.isnan(one.class_score)) for one in (shown, listed)]

        assert told() == [("", True)] * 2
        assert client.set_parameter("published_classes", 2).successful
        shown, listed = told()
        assert shown == listed and shown[0] and not shown[1]
        client.close()
        process.end()
