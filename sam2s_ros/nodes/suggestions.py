"""What the tracker asks the operator to look at: objects that are lost, and masks that may cover something else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from std_msgs.msg import Header

from sam2s_msgs.msg import Suggestion, SuggestionArray
from sam2s_ros.nodes.messages import box_message, point_message
from sam2s_ros.tracking import FrameResult, TrackState
from sam2s_ros.tracking.uncertainty import pixel_uncertainty

PERIOD_S = 0.5
"""Time between two arrays, but for one that takes something back, which is published at once."""
WINDOW_SHARE = 1 / 16
"""Side of the window over which uncertainty is averaged, in sides of the mask."""
REGION_SHARE = 0.5
"""The region is where the averaged uncertainty is above this share of its highest value, around that."""
UNKNOWN_PLACE = (np.full(2, math.nan), np.full(4, math.nan))


@dataclass(frozen=True, eq=False)
class LastPlace:
    """Where an object was last seen: centroid x, y and box x0 y0 x1 y1, float32 in pixels, on an image of this size."""

    centroid: npt.NDArray[np.float32]
    box: npt.NDArray[np.float32]
    image_size: tuple[int, int]


class SuggestionPublisher:
    """Keeps ~/suggestions, which is latched, true to the newest result. To be called by the worker alone.

    Args:
        publisher: of SuggestionArray, latched.
    """

    def __init__(self, publisher: Any) -> None:
        self._publisher = publisher
        self._places: dict[int, LastPlace] = {}
        self._published: set[tuple[int, int]] = set()
        self._published_s = -math.inf

    def start(self) -> None:
        """A new stream: nothing is asked, and a subscriber that comes late hears that."""
        self._places.clear()
        self._publish(SuggestionArray(), -math.inf)

    def forget(self) -> None:
        """After a reset and before deactivation: take back what was asked."""
        self._places.clear()
        if self._published:
            self._publish(SuggestionArray(), -math.inf)

    def update(self, result: FrameResult, header: Header, now_s: float) -> None:
        """Take the newest result, of the image with this header, at this time of a monotonic clock."""
        self._note_places(result)
        wanted = asked(result)
        taken_back = not self._published <= wanted
        due = now_s - self._published_s >= PERIOD_S and bool(wanted)
        if taken_back or due:
            message = SuggestionArray(header=header, suggestions=suggestions(result, wanted, self._places))
            self._publish(message, now_s)

    def _note_places(self, result: FrameResult) -> None:
        geometry, ids = result.geometry, result.ids.tolist()
        for row, object_id in enumerate(ids):
            if result.states[row] <= TrackState.UNCERTAIN and math.isfinite(geometry.area[row]):
                self._places[object_id] = LastPlace(
                    geometry.centroid[row], geometry.box[row], result.image_size
                )
        self._places = {key: place for key, place in self._places.items() if key in ids}

    def _publish(self, message: SuggestionArray, now_s: float) -> None:
        self._published = {(one.kind, one.id) for one in message.suggestions}
        self._published_s = now_s
        self._publisher.publish(message)


def asked(result: FrameResult) -> set[tuple[int, int]]:
    """(kind, object id) of everything that the result gives reason to ask for.

    On an image that shows nothing every object is UNCERTAIN and no click would help: only lost ones are asked for. Nor
    would one help an object that is on its way to the image from the one on which it was prompted.
    """
    kinds = {TrackState.LOST: Suggestion.LOST}
    if result.condition.usable:
        kinds[TrackState.UNCERTAIN] = Suggestion.AMBIGUOUS
    return {
        (kinds[state], int(object_id))
        for state, object_id, behind in zip(result.states, result.ids, result.frames_behind, strict=True)
        if state in kinds and not behind
    }


def suggestions(
    result: FrameResult, wanted: set[tuple[int, int]], places: dict[int, LastPlace]
) -> list[Suggestion]:
    """Those that are wanted (`asked`), most urgent first. `places`: where each object was last seen, by id."""
    made = [_suggestion(result, kind, object_id, places.get(object_id)) for kind, object_id in wanted]
    return sorted(made, key=lambda one: (-one.urgency, one.id))


def _suggestion(result: FrameResult, kind: int, object_id: int, place: LastPlace | None) -> Suggestion:
    row = result.index_of(object_id)
    who = f"object {object_id} '{result.names[row]}'"
    reason = result.state_reasons[row]
    if kind == Suggestion.LOST:
        (position, region), urgency = _last_place(result, place), 1.0
        text = f"{who} is lost ({reason}): mark it where it is now, or remove it"
    else:
        position, region = most_uncertain(result.logits[row], result.image_size)
        urgency = _doubt(result, row)
        text = f"{who} is uncertain ({reason}): click on it, or on what is wrong in its mask"
    return Suggestion(
        kind=kind,
        id=object_id,
        name=result.names[row],
        position=point_message(position),
        region=box_message(region),
        urgency=urgency,
        message=text,
    )


def _last_place(
    result: FrameResult, place: LastPlace | None
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]]]:
    if place is None or place.image_size != result.image_size:
        return UNKNOWN_PLACE
    return place.centroid, place.box


def _doubt(result: FrameResult, row: int) -> float:
    """How urgent an uncertain object is, 0 .. 0.9, under any that is lost: by predicted IoU and pixel uncertainty."""
    doubts = [1 - float(result.iou[row]), float(result.mask_uncertainty[row])]
    finite = [min(max(doubt, 0.0), 1.0) for doubt in doubts if math.isfinite(doubt)]
    return 0.9 * max(finite, default=1.0)


def most_uncertain(
    logits: npt.NDArray[np.float32], image_size: tuple[int, int]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Where one object's logits [h, w] are least certain: centre x, y and box x0 y0 x1 y1, pixels of the image (H, W).

    The highest place of the uncertainty averaged over a small window, and the connected area around it.
    """
    side = max(3, round(WINDOW_SHARE * logits.shape[0]) | 1)
    doubt = cv2.blur(pixel_uncertainty(logits), (side, side), borderType=cv2.BORDER_REPLICATE)
    peak_y, peak_x = np.unravel_index(int(doubt.argmax()), doubt.shape)
    if not doubt[peak_y, peak_x] > 0:
        return UNKNOWN_PLACE
    around = (doubt >= REGION_SHARE * doubt[peak_y, peak_x]).astype(np.uint8)
    _, parts, boxes, _ = cv2.connectedComponentsWithStats(around)
    left, top, width, height = boxes[parts[peak_y, peak_x]][:4]
    scale = np.array([image_size[1] / logits.shape[1], image_size[0] / logits.shape[0]])
    centre = (np.array([peak_x, peak_y]) + 0.5) * scale - 0.5
    first, last = np.array([left, top]) * scale - 0.5, np.array([left + width, top + height]) * scale - 0.5
    return centre, np.concatenate((first, last))
