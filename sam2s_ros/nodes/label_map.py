"""Values of the label image: which object has which value, and the image itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

BACKGROUND = 0
LARGEST_LABEL = 254  # 255 is reserved, as "ignore" is in most label sets


class LabelMap:
    """Gives each object id a value 1 .. 254. A value that is freed rests before another object gets it."""

    def __init__(self, rest_s: float) -> None:
        self._rest_s = rest_s
        self._labels: dict[int, int] = {}
        self._free_from_s: dict[int, float] = {}

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

    def labels(self) -> Mapping[int, int]:
        """Object id -> value of all objects that have one."""
        return dict(self._labels)

    def _assign(self, object_id: int, now_s: float) -> bool:
        used = set(self._labels.values())
        for label in range(1, LARGEST_LABEL + 1):
            if label not in used and self._free_from_s.get(label, now_s) <= now_s:
                self._labels[object_id] = label
                self._free_from_s.pop(label, None)
                return True
        return False


def paint_labels(
    out: npt.NDArray[np.uint8],
    masks: npt.NDArray[np.bool_],
    logits: npt.NDArray[np.float32],
    labels: npt.NDArray[np.uint8],
) -> None:
    """Write the label image into `out` uint8 [H, W].

    masks bool [N, H, W]; logits float32 [N, h, w] at the network's resolution; labels uint8 [N]. Where masks
    overlap, the object with the higher logit wins.
    """
    out[:] = BACKGROUND
    for mask, label in zip(masks, labels, strict=True):
        np.copyto(out, label, where=mask)
    if len(masks) < 2:
        return
    overlap = masks.sum(axis=0, dtype=np.uint8) > 1
    rows, columns = np.nonzero(overlap)
    if rows.size:
        scores = _logits_at(logits, rows, columns, out.shape)
        scores[~masks[:, rows, columns]] = -np.inf
        out[rows, columns] = labels[scores.argmax(axis=0)]


def _logits_at(
    logits: npt.NDArray[np.float32],
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
    shape: tuple[int, ...],
) -> npt.NDArray[np.float32]:
    """Bilinear samples [N, P] of the logits at pixels of an image of `shape` (H, W)."""
    height, width = logits.shape[1:]
    x = ((columns + 0.5) * width / shape[1] - 0.5).astype(np.float32)
    y = ((rows + 0.5) * height / shape[0] - 0.5).astype(np.float32)
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    x0, y0 = np.minimum(x.astype(np.intp), width - 2), np.minimum(y.astype(np.intp), height - 2)
    fx, fy = x - x0, y - y0
    top = logits[:, y0, x0] * (1 - fx) + logits[:, y0, x0 + 1] * fx
    bottom = logits[:, y0 + 1, x0] * (1 - fx) + logits[:, y0 + 1, x0 + 1] * fx
    return top * (1 - fy) + bottom * fy
