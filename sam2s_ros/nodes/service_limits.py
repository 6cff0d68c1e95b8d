"""What every field of a service request may hold. A refusal names field, value and limit.

Checked before a call waits for the tracker, so that an absurd request costs nothing but its own transport. What depends
on the image (coordinates inside it, a mask of its size) is checked on the image that is meant: `prompts`, `tracking`.
"""

from __future__ import annotations

import math
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.qos import QoSProfile, ReliabilityPolicy

from sam2s_msgs.msg import Prompt
from sam2s_msgs.srv import ResetObject
from sam2s_ros.tracking.config import MAX_PROMPT_POINTS

SERVICE_QOS = QoSProfile(depth=256, reliability=ReliabilityPolicy.RELIABLE)
"""For servers and clients: ROS's default keeps 10 requests of all clients, and 10 responses to one, and drops without a
word what comes while these wait."""
MAX_TEXT = 128
"""Characters of a client's, an object's or a class's name."""
MAX_REASON = 256
"""Characters of the reason of a pause."""
MAX_COORDINATE = 2**20
"""Pixels; far beyond any image, and exact in float32."""
MAX_MASK_PIXELS = 2**26
SHOWN = 40
"""Characters that a refusal shows of a text."""

TEXT_LIMITS = {"client": MAX_TEXT, "name": MAX_TEXT, "class_name": MAX_TEXT, "reason": MAX_REASON}
"""Field of any request -> the most characters that it may have."""


class RequestError(ValueError):
    """A field of a request beyond its limit, or one that contradicts another; the text names it, its value and the
    limit."""


def check_request(request: Any) -> None:
    """RequestError for the first field of a request of any of the node's services that is beyond its limit."""
    fields = request.get_fields_and_field_types()
    for field, limit in TEXT_LIMITS.items():
        if field in fields:
            _check_text(field, getattr(request, field), limit)
    if "id" in fields and request.id == 0 and not isinstance(request, ResetObject.Request):
        raise RequestError("id is 0: give that of an object, 1 .. 4294967295")
    if "clear_class" in fields and request.clear_class and request.class_name:
        raise RequestError(
            f"class_name is {shown(request.class_name)} beside clear_class: give one of the two"
        )
    if "clear_class" in fields and not (request.name or request.class_name or request.clear_class):
        raise RequestError(
            "name and class_name are empty: give one of the two, or set clear_class (sam2s prompt: --clear-class)"
        )
    if "prompt" in fields:
        _check_prompt(request.prompt)


def shown(text: str) -> str:
    """A text in quotes as messages and the audit log show it, cut off where it is long."""
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


def _check_text(field: str, text: str, limit: int) -> None:
    if len(text) > limit:
        raise RequestError(f"{field} has {len(text)} characters ({shown(text)}): at most {limit} are taken")
    check_prints(field, text)


def check_prints(field: str, text: str) -> None:
    """RequestError for a text with a character that does not print."""
    if not text.isprintable():
        raise RequestError(f"{field} is {shown(text)}: only characters that print are taken, on one line")


def _check_prompt(prompt: Prompt) -> None:
    _check_stamp("prompt.stamp", prompt.stamp)
    points, labels = len(prompt.points), len(prompt.point_labels)
    if points > MAX_PROMPT_POINTS:
        raise RequestError(f"prompt.points has {points} entries: at most {MAX_PROMPT_POINTS} are taken")
    if points != labels:
        raise RequestError(
            f"prompt.points has {points} entries and prompt.point_labels has {labels} labels: give one for each"
        )
    for index, point in enumerate(prompt.points):
        _check_coordinate(f"prompt.points[{index}].x", point.x)
        _check_coordinate(f"prompt.points[{index}].y", point.y)
    for index, label in enumerate(prompt.point_labels):
        if label not in (Prompt.NEGATIVE, Prompt.POSITIVE):
            raise RequestError(
                f"prompt.point_labels[{index}] is {label}: neither 1 (on the object) nor 0 (off it)"
            )
    if prompt.has_box:
        for side in ("x_min", "y_min", "x_max", "y_max"):
            _check_coordinate(f"prompt.box.{side}", getattr(prompt.box, side))
    _check_mask(prompt.mask)


def _check_mask(mask: Any) -> None:
    pixels = mask.height * mask.width
    if pixels > MAX_MASK_PIXELS:
        raise RequestError(
            f"prompt.mask is {mask.width}x{mask.height}: at most {MAX_MASK_PIXELS} pixels are taken"
        )
    if len(mask.counts) > pixels + 1:
        raise RequestError(
            f"prompt.mask.counts has {len(mask.counts)} entries: a mask of {mask.width}x{mask.height} has at most "
            f"{pixels + 1}"
        )


def _check_stamp(field: str, stamp: Time) -> None:
    if stamp.sec < 0:
        raise RequestError(f"{field}.sec is {stamp.sec}: at least 0; give the stamp of an image's header")
    if stamp.nanosec >= 1_000_000_000:
        raise RequestError(
            f"{field}.nanosec is {stamp.nanosec}: at most 999999999; give the stamp of an image's header"
        )


def _check_coordinate(field: str, value: float) -> None:
    if not math.isfinite(value):
        raise RequestError(f"{field} is {value}: coordinates must be finite numbers")
    if abs(value) > MAX_COORDINATE:
        raise RequestError(f"{field} is {value:g}: outside the image, and beyond ±{MAX_COORDINATE}")
