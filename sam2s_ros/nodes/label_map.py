"""Values of the label image: which object has which value, and the image itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import cv2
import numpy as np
import numpy.typing as npt

from sam2s_ros.tracking.runs import MaskRuns, Window

BACKGROUND = 0
LARGEST_LABEL = 254  # 255 is reserved, as "ignore" is in most label sets


class LabelMap:
    """Gives each object id a value 1 .. 254. A value that is freed rests before another object gets it.

    `earlier`: values that ids had before; they get them again. `resting`: of the map before this one, `resting()`.
    """

    def __init__(
        self,
        rest_s: float,
        earlier: Mapping[int, int] | None = None,
        resting: Mapping[int, float] | None = None,
    ) -> None:
        self._rest_s = rest_s
        self._earlier = dict(earlier or {})
        self._labels: dict[int, int] = {}
        self._free_from_s: dict[int, float] = dict(resting or {})

    def update(self, ids: Iterable[int], now_s: float) -> bool:
        """Free the values of objects that are gone, give new ones the lowest free; True if anything changed.

        `now_s` is any clock that never goes back. With no value free, an object gets none until one is.
        """
        wanted = list(ids)
        gone = self._labels.keys() - set(wanted)
        for object_id in gone:
            self._free_from_s[self._labels.pop(object_id)] = now_s + self._rest_s
        changed = bool(gone)
        for object_id in wanted:
            if object_id not in self._labels:
                changed |= self._assign(object_id, now_s)
        return changed

    def label(self, object_id: int) -> int:
        """The object's value; 0 if it has none."""
        return self._labels.get(object_id, BACKGROUND)

    def resting(self, now_s: float) -> Mapping[int, float]:
        """Value -> when it is free again, for all that have been given, as if every object were gone now."""
        return self._free_from_s | dict.fromkeys(self._labels.values(), now_s + self._rest_s)

    def labels(self) -> Mapping[int, int]:
        """Object id -> value of all objects that have one."""
        return dict(self._labels)

    def _assign(self, object_id: int, now_s: float) -> bool:
        used = {*self._labels.values(), *self._earlier.values()}
        if (own := self._earlier.pop(object_id, BACKGROUND)) != BACKGROUND:
            self._labels[object_id] = own
            return True
        for label in range(1, LARGEST_LABEL + 1):
            if label not in used and self._free_from_s.get(label, now_s) <= now_s:
                self._labels[object_id] = label
                self._free_from_s.pop(label, None)
                return True
        return False


def paint_labels(
    out: npt.NDArray[np.uint8],
    runs: MaskRuns,
    logits: npt.NDArray[np.float32],
    labels: npt.NDArray[np.uint8],
) -> None:
    """Write the label image into `out` uint8 [H, W].

    runs: of N masks; logits float32 [N, h, w] at the network's resolution; labels uint8 [N], 0 for an object
    that has no value and is not painted. Where masks overlap, the object with the higher logit wins.
    """
    out[:] = BACKGROUND
    crops = {row: runs.crop(row) for row in np.flatnonzero(labels).tolist()}
    overlapping: set[int] = set()
    painted: list[Window] = []
    for row, (window, mask) in crops.items():
        y0, y1, x0, x1 = window
        part = out[y0:y1, x0:x1]
        if any(_meet(window, other) for other in painted):
            below = np.bincount(part[mask], minlength=LARGEST_LABEL + 1)[labels] > 0
            below &= labels != BACKGROUND
            if below.any():
                overlapping |= {row, *np.flatnonzero(below).tolist()}
        painted.append(window)
        np.copyto(part, labels[row], where=mask)
    if overlapping:
        _paint_by_logit(out, {row: crops[row] for row in sorted(overlapping)}, logits, labels)


def _meet(one: Window, other: Window) -> bool:
    """Whether two windows share a pixel."""
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


def _paint_by_logit(
    out: npt.NDArray[np.uint8],
    crops: Mapping[int, tuple[Window, npt.NDArray[np.bool_]]],
    logits: npt.NDArray[np.float32],
    labels: npt.NDArray[np.uint8],
) -> None:
    best = np.full(out.shape, -np.inf, np.float32)
    for row, ((y0, y1, x0, x1), mask) in crops.items():
        score = cv2.resize(logits[row], (out.shape[1], out.shape[0]), interpolation=cv2.INTER_LINEAR)
        score, most = np.asarray(score)[y0:y1, x0:x1], best[y0:y1, x0:x1]
        better = mask & (score > most)
        np.copyto(most, score, where=better)
        np.copyto(out[y0:y1, x0:x1], labels[row], where=better)
