"""The objects as vision_msgs/Detection2DArray, where that package is installed."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from sam2s_msgs.msg import TrackedObject, TrackedObjectArray


def vision_messages() -> ModuleType | None:
    """`vision_msgs.msg`, or None where it is not installed (it comes with a ROS distribution only)."""
    try:
        import vision_msgs.msg
    except ImportError:
        return None
    return vision_msgs.msg


def detections_message(vision: ModuleType, objects: TrackedObjectArray) -> Any:
    """The objects in view: id as text, name and presence as the hypothesis, centre and size of the box.

    vision_msgs counts a box's size in pixels covered, so one pixel is added to our distance between pixel
    centres.
    """
    message = vision.Detection2DArray(header=objects.header)
    in_view = (TrackedObject.TRACKING, TrackedObject.UNCERTAIN)
    message.detections = [
        _detection(vision, objects, item)
        for item in objects.objects
        if item.state in in_view and item.area > 0
    ]
    return message


def _detection(vision: ModuleType, objects: TrackedObjectArray, item: TrackedObject) -> Any:
    detection = vision.Detection2D(header=objects.header, id=str(item.id))
    hypothesis = vision.ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = item.class_name or item.name
    hypothesis.hypothesis.score = float(item.presence)
    detection.results = [hypothesis]
    box = item.bounding_box
    detection.bbox.center.position.x = (box.x_min + box.x_max) / 2
    detection.bbox.center.position.y = (box.y_min + box.y_max) / 2
    detection.bbox.size_x = box.x_max - box.x_min + 1
    detection.bbox.size_y = box.y_max - box.y_min + 1
    return detection
