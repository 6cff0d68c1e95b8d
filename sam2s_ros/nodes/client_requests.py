"""What `Sam2sClient` sends, checked before it is sent.

The messages' own setters check nothing, and the C code behind them takes a number modulo the size of its field, cuts a
text off at a NUL, and ends the process over a value of another type. So each function here gives a value that its field
holds as it is, or raises `ValueError` with the argument's name and value.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2s_msgs.msg import BoundingBox2D, Point2D, Prompt
from sam2s_ros.nodes.messages import ns_to_stamp, rle_message
from sam2s_ros.nodes.service_limits import check_prints

LARGEST_ID = 2**32 - 1
LARGEST_STAMP_NS = 2**31 * 10**9 - 1
"""Of a ROS stamp, whose seconds are an int32."""


def checked_id(value: Any, zero: str = "") -> int:
    """The id of an object, 1 .. 4294967295; 0 too where that means something, which `zero` says in words."""
    lowest = 0 if zero else 1
    number = _whole(value)
    if number is None or not lowest <= number <= LARGEST_ID:
        also = f", or 0 for {zero}" if zero else ""
        raise ValueError(f"object id is {value!r}: give a whole number, 1 .. {LARGEST_ID}{also}")
    return number


def checked_texts(**texts: Any) -> dict[str, str]:
    """The fields of a request that are texts, by name: each a str, of characters that print."""
    for field, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(f"{field} is {text!r}: give a text")
        check_prints(field, text)
    return texts


def checked_flag(field: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{field} is {value!r}: give True or False")
    return bool(value)


def checked_prompt(value: Any) -> Prompt:
    """A message of `prompt_message`."""
    if not isinstance(value, Prompt):
        raise ValueError(f"prompt is {value!r}: give what prompt_message makes")
    return value


def prompt_message(
    points: Sequence[tuple[float, float]] = (),
    labels: Sequence[int] | None = None,
    box: Sequence[float] | None = None,
    mask: npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]] | None = None,
    stamp_ns: int = 0,
) -> Prompt:
    """A prompt of clicks x, y with labels 1 or 0 (None: all 1), a box x_min, y_min, x_max, y_max, or a mask [H, W] of
    bool or integers (not 0: the object), for the image of this stamp (0: the newest)."""
    pairs = [
        _floats(f"points[{index}]", one, "x, y")
        for index, one in enumerate(_list("points", points, "pairs x, y, in pixels"))
    ]
    prompt = Prompt(
        stamp=ns_to_stamp(_stamp_ns(stamp_ns)),
        points=[Point2D(x=x, y=y) for x, y in pairs],
        point_labels=[Prompt.POSITIVE] * len(pairs) if labels is None else _labels(labels),
    )
    if box is not None:
        x_min, y_min, x_max, y_max = _floats("box", box, "x_min, y_min, x_max, y_max")
        prompt.has_box = True
        prompt.box = BoundingBox2D(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max)
    if mask is not None:
        prompt.mask = rle_message(_mask(mask))
    return prompt


def _labels(labels: Any) -> list[int]:
    wanted = "1 (on the object) or 0 (not) for each point"
    marks = [_whole(one, and_bool=True) for one in _list("labels", labels, wanted)]
    good = [one for one in marks if one in (Prompt.NEGATIVE, Prompt.POSITIVE)]
    if len(good) != len(marks):
        raise ValueError(f"labels is {labels!r}: give {wanted}")
    return [int(one) for one in good if one is not None]


def _mask(mask: Any) -> npt.NDArray[np.bool_]:
    """Bool [H, W]. Floats are refused: whether 0.2 is the object depends on what they are."""
    wanted = "[height, width] of the image's size, of bool or of integers that are not 0 on the object"
    try:
        pixels = np.asarray(mask)
    except ValueError:  # rows of different lengths
        raise ValueError(f"mask is no array: give {wanted}") from None
    if pixels.ndim != 2:
        raise ValueError(f"mask has shape {pixels.shape}: give {wanted}")
    if pixels.dtype.kind not in "biu":
        raise ValueError(
            f"mask has {pixels.dtype} values: give {wanted}; of probabilities, for example p > 0.5"
        )
    return pixels != 0


def _stamp_ns(value: Any) -> int:
    number = _whole(value)
    if number is None or not 0 <= number <= LARGEST_STAMP_NS:
        raise ValueError(
            f"stamp_ns is {value!r}: give whole nanoseconds of an image's header, 0 .. {LARGEST_STAMP_NS}, 0 for the "
            "newest image"
        )
    return number


def _floats(argument: str, value: Any, wanted: str) -> list[float]:
    """As many numbers as `wanted` has names."""
    try:
        numbers = [float(one) for one in value]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if isinstance(value, str) or len(numbers) != len(wanted.split(",")):
        raise ValueError(f"{argument} is {value!r}: give the numbers {wanted}, in pixels")
    return numbers


def _list(argument: str, value: Any, wanted: str) -> list[Any]:
    try:
        return list(value)
    except TypeError:
        raise ValueError(f"{argument} is {value!r}: give a list of {wanted}") from None


def _whole(value: Any, and_bool: bool = False) -> int | None:
    """An integer of Python or NumPy as an int; None for anything else, as for a bool unless `and_bool`."""
    if isinstance(value, (bool, np.bool_)):
        return int(value) if and_bool else None
    try:
        return operator.index(value)
    except TypeError:
        return None
