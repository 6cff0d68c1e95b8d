"""Prompts as arrays, and the file that lists the objects to start with (config/prompts_example.yaml)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from sam2s_ros.tracking.config import MAX_PROMPT_POINTS

_LATEST_STAMP_S = 2**31  # beyond what a ROS stamp holds
_NANOSECONDS_ABOVE = 2**32  # a whole number above this is no count of seconds
_FILE_KEYS = {"name", "stamp", "points", "labels", "box", "mask"}


class PromptInputError(ValueError):
    """A prompt whose fields contradict each other; the text names the field and the fix."""


@dataclass(frozen=True, eq=False)
class PromptArrays:
    """What the tracker takes: points float32 [K, 2] x, y and labels int32 [K] (1 on the object, 0 not), box
    float32 [4] x0 y0 x1 y1, mask bool [H, W]; pixels of the source image, whole numbers being pixel centres.
    None = not given.
    """

    points: npt.NDArray[np.float32] | None = None
    labels: npt.NDArray[np.int32] | None = None
    box: npt.NDArray[np.float32] | None = None
    mask: npt.NDArray[np.bool_] | None = None

    def arguments(self) -> dict[str, Any]:
        """As keyword arguments of `StreamingTracker.add_object` and `refine_object`."""
        return {"points": self.points, "labels": self.labels, "box": self.box, "mask": self.mask}


@dataclass(frozen=True, eq=False)
class StartPrompt:
    """An object to add without an operator, on the first image whose stamp is `stamp_ns` or later."""

    name: str
    prompt: PromptArrays
    stamp_ns: int | None = None


def load_prompts_file(path: str | Path) -> list[StartPrompt]:
    """Read a prompts file (config/prompts_example.yaml); PromptInputError or OSError name file and entry."""
    file = Path(path)
    if not file.is_file():
        raise PromptInputError(f"prompts file {file}: no such file; give its whole path")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise PromptInputError(f"prompts file {file}: not valid YAML: {reason}") from error
    entries = content.get("prompts") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise PromptInputError(f"prompts file {file}: needs a list under the key 'prompts'")
    return [_start_prompt(file, number, entry) for number, entry in enumerate(entries, start=1)]


def _start_prompt(file: Path, number: int, entry: Any) -> StartPrompt:
    where = f"prompts file {file}, entry {number}"
    if not isinstance(entry, dict) or not entry.keys() <= _FILE_KEYS:
        raise PromptInputError(f"{where}: use only the keys {', '.join(sorted(_FILE_KEYS))}")
    try:
        points = _points(entry.get("points"))
        labels = _labels(entry.get("labels"), points)
        box = _box(entry.get("box"))
        mask = None if entry.get("mask") is None else _mask_beside(file, str(entry["mask"]))
        _check_together(points, labels, box, mask)
        stamp_ns = None if entry.get("stamp") is None else read_stamp_ns(entry["stamp"], "the first image")
        return StartPrompt(_name(entry.get("name", "")), PromptArrays(points, labels, box, mask), stamp_ns)
    except PromptInputError as error:
        raise PromptInputError(f"{where}: {error}") from error


def _points(value: Any) -> npt.NDArray[np.float32] | None:
    if value is None:
        return None
    points = _numbers(value)
    if points is None or points.ndim != 2 or points.shape[1] != 2:
        raise PromptInputError(f"points are {value!r}: give a list of finite pairs, such as [[420, 310]]")
    return points.astype(np.float32)


def _labels(value: Any, points: npt.NDArray[np.float32] | None) -> npt.NDArray[np.int32] | None:
    """As given; all 1 where only the points are."""
    if value is None:
        return None if points is None else np.ones(len(points), np.int32)
    if points is None:
        raise PromptInputError("labels without points: give one point for each label")
    if not isinstance(value, list) or not all(type(one) is int and one in (0, 1) for one in value):
        raise PromptInputError(f"labels are {value!r}: give a list of 1 (on the object) and 0 (not)")
    if len(value) != len(points):
        raise PromptInputError(f"{len(points)} points and {len(value)} labels: give one label for each point")
    return np.array(value, np.int32)


def _box(value: Any) -> npt.NDArray[np.float32] | None:
    if value is None:
        return None
    box = _numbers(value)
    if box is None or box.shape != (4,) or not (box[0] < box[2] and box[1] < box[3]):
        raise PromptInputError(f"box is {value!r}: give [x_min, y_min, x_max, y_max] with min < max")
    return box.astype(np.float32)


def _numbers(value: Any) -> npt.NDArray[np.float64] | None:
    """None for anything but finite numbers that float32 holds."""
    try:
        numbers = np.asarray(value)
    except ValueError:  # rows of different lengths
        return None
    if numbers.dtype.kind not in "iuf" or not (np.abs(numbers) <= np.finfo(np.float32).max).all():
        return None
    return numbers.astype(np.float64)


def _check_together(
    points: npt.NDArray[np.float32] | None,
    labels: npt.NDArray[np.int32] | None,
    box: npt.NDArray[np.float32] | None,
    mask: npt.NDArray[np.bool_] | None,
) -> None:
    if points is None and box is None and mask is None:
        raise PromptInputError("give points, box or mask")
    if mask is not None and (points is not None or box is not None):
        raise PromptInputError("a mask beside points or a box: give the mask alone or leave it out")
    if box is None and labels is not None and not labels.any():
        raise PromptInputError("all labels are 0 (not on the object): give a point with label 1, or a box")
    count = (0 if points is None else len(points)) + (0 if box is None else 2)
    if count > MAX_PROMPT_POINTS:
        raise PromptInputError(f"{count} points: give at most {MAX_PROMPT_POINTS}, a box counting as two")


def read_stamp_ns(value: Any, left_out: str) -> int:
    """Nanoseconds of a stamp in seconds, a number or its text; PromptInputError if no image can have it.

    A whole number above 2^32, written without a point, is nanoseconds. Exact for what is written: a float's digits are
    taken as they are, not as they are stored. `left_out`: the image that is meant without a stamp, for the message.
    """
    text = str(value)
    try:
        stamp = Decimal(text)
    except InvalidOperation:
        stamp = Decimal("nan")
    if text.isdecimal() and stamp > _NANOSECONDS_ABOVE:
        stamp = Decimal(int(text)).scaleb(-9)
    if not stamp.is_finite() or not 0 <= stamp < _LATEST_STAMP_S:
        raise PromptInputError(
            f"stamp is {value!r}: give seconds from 0 to {_LATEST_STAMP_S} or whole nanoseconds, or leave it out for "
            f"{left_out}"
        )
    return round(stamp * 10**9)


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise PromptInputError(f"name is {value!r}: give text (a number in quotes), or leave it out")
    return value


def _mask_beside(file: Path, name: str) -> npt.NDArray[np.bool_]:
    path = file.parent / name
    if not path.is_file():
        raise PromptInputError(f"there is no mask image {path}: give its name relative to the prompts file")
    return read_mask_image(path)


def read_mask_image(path: Path) -> npt.NDArray[np.bool_]:
    """The mask bool [H, W] of an image file: not 0 is the object. PromptInputError when it is none, or 0 everywhere."""
    if not path.is_file():  # OpenCV would say so on standard error
        raise PromptInputError(f"there is no mask image {path}: give an image file")
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise PromptInputError(f"the mask image {path} cannot be read: give a PNG or another image file")
    if not image.any():
        raise PromptInputError(
            f"the mask image {path} is 0 everywhere: mark at least one pixel of the object"
        )
    return image > 0
