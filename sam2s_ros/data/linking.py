"""Masklets out of semantic labels: connected components, linked over time.

A component of a frame takes the identity of
1. the object that the data set says it is, where it does;
2. else the object of its class whose last mask it overlaps most (IoU of at least `MIN_OVERLAP`);
3. else the object of its class, seen in the labelled frame before, whose centroid is nearest, up to `MAX_STEP`;
4. else the object of its class that is out of view and was seen last: who returns is who had left;
5. else a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sam2s_ros.data.arrays import BoolArray, FloatArray
from sam2s_ros.data.labels import Label, Region
from sam2s_ros.data.video_folder import Masklet

MIN_OVERLAP = 0.1
MAX_STEP = 0.3
"""Share of the image diagonal between two labelled frames."""
MIN_SHARE = 0.0005
"""Of the image: a smaller component is a piece of the nearest larger one of its class, if there is one."""


@dataclass
class _Track:
    id: int
    label: Label
    key: str
    mask: BoolArray
    centroid: FloatArray
    frame: int


class Linker:
    """Gives the regions of a video's frames ids, frame after frame, from 1 on in the order of appearance.

    With `stills` nothing is linked: ids count the objects of a class within each image.
    """

    def __init__(self, stills: bool = False) -> None:
        self._tracks: list[_Track] = []
        self._stills = stills
        self._frame = 0

    @property
    def masklets(self) -> tuple[Masklet, ...]:
        """The objects so far."""
        return tuple(
            Masklet(track.id, track.label.class_name, track.label.source_class, track.label.kind)
            for track in self._tracks
        )

    def ids(self, regions: Sequence[Region], size: tuple[int, int]) -> np.ndarray:
        """Label image [H, W] (uint16) of the next frame; where regions overlap, the smaller is on top."""
        self._frame += 1
        taken: set[int] = set()
        given: list[tuple[int, BoolArray]] = []
        by_label: dict[Label, list[BoolArray]] = {}
        for region in regions:
            if region.track and not self._stills:
                track = next((one for one in self._tracks if one.key == region.track), None)
                given.append((self._seen(track, region.label, region.track, region.mask), region.mask))
                taken.add(given[-1][0])
            else:
                by_label.setdefault(region.label, []).extend(
                    components(region.mask) if region.label.separate and not region.whole else [region.mask]
                )
        for label, masks in by_label.items():
            given += self._link(label, masks, taken)
        image = np.zeros(size, np.uint16)
        for number, mask in sorted(given, key=lambda one: -int(one[1].sum())):
            image[mask] = number
        return image

    def _link(self, label: Label, masks: list[BoolArray], taken: set[int]) -> list[tuple[int, BoolArray]]:
        """(id, mask) of each mask of one class."""
        tracks = [one for one in self._tracks if one.label == label and one.id not in taken]
        chosen: dict[int, _Track] = dict(enumerate(tracks)) if self._stills else {}
        if not self._stills:
            _match(chosen, masks, tracks, lambda mask, track: -iou(mask, track.mask), -MIN_OVERLAP)
            before = [one for one in tracks if one.frame == self._frame - 1]
            _match(chosen, masks, before, _step, MAX_STEP)
            absent = sorted(
                (one for one in tracks if one not in chosen.values()), key=lambda one: (-one.frame, one.id)
            )
            for index in range(len(masks)):
                if index not in chosen and absent:
                    chosen[index] = absent.pop(0)
        found = []
        for index, mask in enumerate(masks):
            found.append((self._seen(chosen.get(index), label, "", mask), mask))
        return found

    def _seen(self, track: _Track | None, label: Label, key: str, mask: BoolArray) -> int:
        """Note a sighting of a track, or of a new one; its id."""
        if track is None:
            track = _Track(len(self._tracks) + 1, label, key, mask, centroid(mask), self._frame)
            self._tracks.append(track)
        track.mask, track.centroid, track.frame = mask, centroid(mask), self._frame
        return track.id


def _match(
    chosen: dict[int, _Track],
    masks: list[BoolArray],
    tracks: list[_Track],
    cost: Callable[[BoolArray, _Track], float],
    limit: float,
) -> None:
    """Pair masks with tracks that are still free, cheapest first, up to a cost of `limit`."""
    free = [one for one in tracks if all(one is not other for other in chosen.values())]
    pairs = sorted(
        (cost(masks[i], one), i, one.id, one) for i in range(len(masks)) if i not in chosen for one in free
    )
    used: set[int] = set()
    for price, index, number, track in pairs:
        if price <= limit and index not in chosen and number not in used:
            chosen[index] = track
            used.add(number)


def _step(mask: BoolArray, track: _Track) -> float:
    """Distance of the centroids as a share of the image diagonal."""
    return float(np.linalg.norm(centroid(mask) - track.centroid) / np.hypot(*mask.shape))


def components(mask: BoolArray) -> list[BoolArray]:
    """The 8-connected components of a mask [H, W], largest first; small pieces join the nearest large component."""
    count, labels, stats, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    order = [int(i) + 1 for i in np.argsort(-areas, kind="stable")]
    large = [i for i in order if areas[i - 1] >= MIN_SHARE * mask.size] or order[:1]
    small = [i for i in order if i not in large]
    if not large:
        return []
    found = {i: labels == i for i in large}
    if small:
        distances = {i: cv2.distanceTransform((labels != i).astype(np.uint8), cv2.DIST_L2, 3) for i in large}
        for piece in small:
            pixels = labels == piece
            nearest = min(large, key=lambda i: float(distances[i][pixels].min()))
            found[nearest] |= pixels
    return list(found.values())


def centroid(mask: BoolArray) -> FloatArray:
    """(x, y) of a mask [H, W] that is not empty, pixels."""
    moments = cv2.moments(mask.astype(np.uint8), binaryImage=True)
    return np.array([moments["m10"], moments["m01"]]) / moments["m00"]


def iou(a: BoolArray, b: BoolArray) -> float:
    """Intersection over union of two masks, 0 where both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0
