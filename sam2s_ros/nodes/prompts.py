"""Prompts as arrays: from service requests and from a prompts file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from sam2s_msgs.msg import Prompt, RleMask
from sam2s_ros.tracking import rle

MAX_POINTS = 256
_FILE_KEYS = {"name", "stamp", "points", "labels", "box", "mask"}


class PromptInputError(ValueError):
    """A prompt whose fields contradict each other; the text names the field and the fix."""


@dataclass(frozen=True)
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


def prompt_from_message(prompt: Prompt, image_size: tuple[int, int]) -> PromptArrays:
    """A request's prompt for an image of `image_size` (H, W) as arrays; PromptInputError if it makes no
    sense.
    """
    if len(prompt.points) != len(prompt.point_labels):
        raise PromptInputError(
            f"prompt has {len(prompt.points)} points and {len(prompt.point_labels)} labels: give one for each"
        )
    if len(prompt.points) > MAX_POINTS:
        raise PromptInputError(f"prompt has {len(prompt.points)} points: at most {MAX_POINTS} are taken")
    points = np.array([[point.x, point.y] for point in prompt.points], np.float32)
    box = prompt.box
    corners = np.array([box.x_min, box.y_min, box.x_max, box.y_max], np.float32) if prompt.has_box else None
    return PromptArrays(
        points=points if len(points) else None,
        labels=np.array(prompt.point_labels, np.int32) if len(points) else None,
        box=corners,
        mask=_mask_from_message(prompt.mask, image_size),
    )


def _mask_from_message(mask: RleMask, image_size: tuple[int, int]) -> npt.NDArray[np.bool_] | None:
    if mask.height == 0 and mask.width == 0 and not mask.counts:
        return None
    height, width = image_size
    if (
        mask.height,
        mask.width,
    ) != image_size:  # before decoding, which would allocate whatever size is claimed
        raise PromptInputError(
            f"mask is {mask.width}x{mask.height} and the image {width}x{height}: send it in image size"
        )
    try:
        return rle.decode(np.asarray(mask.counts), (height, width))
    except ValueError as error:
        raise PromptInputError(f"mask: {error}; send column-major run lengths, background first") from error


@dataclass(frozen=True)
class StartPrompt:
    """An object to add without an operator, on the first image whose stamp is `stamp_ns` or later."""

    name: str
    prompt: PromptArrays
    stamp_ns: int | None = None


def load_prompts_file(path: str | Path) -> list[StartPrompt]:
    """Read a prompts file (config/prompts_example.yaml); PromptInputError or OSError name file and entry."""
    file = Path(path)
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise PromptInputError(f"prompts file {file}: not valid YAML: {error}") from error
    entries = content.get("prompts") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise PromptInputError(f"prompts file {file}: needs a list under the key 'prompts'")
    return [_start_prompt(file, number, entry) for number, entry in enumerate(entries, start=1)]


def _start_prompt(file: Path, number: int, entry: Any) -> StartPrompt:
    where = f"prompts file {file}, entry {number}"
    if not isinstance(entry, dict) or not entry.keys() <= _FILE_KEYS:
        raise PromptInputError(f"{where}: use only the keys {', '.join(sorted(_FILE_KEYS))}")
    try:
        points = _numbers(entry.get("points"), np.float32, (-1, 2))
        labels = _numbers(entry.get("labels"), np.int32, (-1,))
        box = _numbers(entry.get("box"), np.float32, (4,))
        stamp_ns = None if entry.get("stamp") is None else round(float(entry["stamp"]) * 1e9)
    except (TypeError, ValueError) as error:
        raise PromptInputError(f"{where}: {error}") from error
    if points is not None and labels is None:
        labels = np.ones(len(points), np.int32)
    mask = None if entry.get("mask") is None else _read_mask(where, file.parent / str(entry["mask"]))
    if points is None and box is None and mask is None:
        raise PromptInputError(f"{where}: give points, box or mask")
    return StartPrompt(str(entry.get("name", "")), PromptArrays(points, labels, box, mask), stamp_ns)


def _numbers(value: Any, dtype: Any, shape: tuple[int, ...]) -> npt.NDArray[Any] | None:
    return None if value is None else np.asarray(value, dtype).reshape(shape)


def _read_mask(where: str, path: Path) -> npt.NDArray[np.bool_]:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise PromptInputError(f"{where}: cannot read the mask image {path}")
    return image > 0
