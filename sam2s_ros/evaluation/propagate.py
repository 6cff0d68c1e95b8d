"""Sparse labels of a video, carried to all of its frames by the tracker: forwards, and backwards from later labels.

Each direction is a run of its own from the labels it meets: a mask starts an object or corrects it. A frame between two
labels then has two opinions on a masklet; that of the nearer label is kept, and how far both agree says how sure it is:

    confidence = (presence x predicted IoU, or 1 - presence where no mask is predicted) x IoU of the two masks

The last factor is 1 where there is one opinion only, or where both are empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.data.linking import iou
from sam2s_ros.data.provenance import MODEL, Origin, Provenance, new_version, write_provenance
from sam2s_ros.data.readers import read_rgb
from sam2s_ros.data.video_folder import Masklet, VideoFolder, read_index, write_index, write_video_facts

if TYPE_CHECKING:
    from sam2s_ros.tracking import StreamingTracker

Ids = NDArray[np.integer[Any]]
"""A label image [H, W] of masklet ids."""


@dataclass(frozen=True)
class Opinion:
    """What one run says of a frame."""

    ids: Ids
    sure: Mapping[int, float]
    """Masklet -> how sure the tracker is of its mask, or of its absence, 0 to 1; those it follows by then."""


@dataclass(frozen=True)
class Labels:
    """The labels that propagation begins with."""

    video: VideoFolder
    provenance: Provenance
    """Only of frames that are used."""

    def __post_init__(self) -> None:
        if not any(self.given(number) for number in self.provenance.origins):
            raise ValueError(
                f"{self.video.path} has no mask by hand on the frames used; there is nothing to propagate"
            )

    @cached_property
    def paths(self) -> dict[int, Path]:
        """Frame number -> label image."""
        return self.video.masks()

    @cached_property
    def unseen(self) -> list[Masklet]:
        """Masklets that no label shows, of which nothing will be known elsewhere."""
        shown = {one for number in self.provenance.origins for one in self.given(number)}
        return [one for one in self.video.facts.masklets if one.id not in shown]

    def given(self, number: int) -> dict[int, NDArray[np.bool_]]:
        """The masks by hand on a frame that show something."""
        hand = self.provenance.by_hand(number)
        if not hand:
            return {}
        ids = read_index(self.paths[number])
        return {one: ids == one for one in sorted(hand & set(np.unique(ids).tolist()))}


def propagate(
    labels: Labels,
    out: Path,
    tracker: StreamingTracker,
    source: str,
    on_frame: Callable[[], object] = lambda: None,
) -> Path:
    """Write the video with masks on every frame to its place below `out`; `source` is noted for the model's masks.

    Frames are read one at a time and the runs meet on disk: of a long video only the confidences are in memory. Masks
    by hand are kept as they are.

    Raises:
        ValueError: there is such a video already.
    """
    video = labels.video
    numbers = list(video.frames())
    seen = {number: set(labels.given(number)) for number in labels.provenance.origins}
    with new_version(video, out) as partial:
        forward: dict[int, Mapping[int, float]] = {}
        for number, opinion in follow(labels, numbers, tracker):
            write_index(partial / "masks" / f"{number:06d}.png", opinion.ids)
            forward[number] = opinion.sure
            on_frame()
        origins: dict[int, dict[int, Origin]] = {}
        for number, backward in follow(labels, numbers[::-1], tracker):
            path = partial / "masks" / f"{number:06d}.png"
            opinions = (Opinion(read_index(path), forward[number]), backward)
            ids, sure = _settle(
                opinions, [_nearest(seen, number, one.id) for one in video.facts.masklets], video
            )
            hand = labels.provenance.origins.get(number, {})
            by_hand = labels.provenance.by_hand(number)
            if by_hand:
                truth = read_index(labels.paths[number])
                ids = np.where(np.isin(ids, sorted(by_hand)), 0, ids)
                ids = np.where(np.isin(truth, sorted(by_hand)), truth, ids)
            write_index(path, ids)
            origins[number] = {
                one.id: hand[one.id] if one.id in by_hand else Origin(MODEL, sure[one.id], source)
                for one in video.facts.masklets
            }
            on_frame()
        write_video_facts(partial, video.facts)
        write_provenance(partial, Provenance(origins))
    return out


def follow(
    labels: Labels, numbers: Sequence[int], tracker: StreamingTracker
) -> Iterator[tuple[int, Opinion]]:
    """A run over the frames in this order: (number, what it says). Time goes on in both directions."""
    tracker.reset()
    width, height = labels.video.facts.size
    frames, rate = labels.video.frames(), labels.video.facts.frame_rate
    followed: dict[int, int] = {}
    for number in numbers:
        given = labels.given(number)
        if not followed and not given:
            yield number, Opinion(np.zeros((height, width), np.uint16), {})
            continue
        tracker.step(read_rgb(frames[number]), round(1e9 * abs(number - numbers[0]) / rate))
        for masklet, mask in given.items():
            if masklet in followed:
                tracker.refine_object(followed[masklet], mask=mask)
            else:
                followed[masklet] = tracker.add_object(None, mask=mask, name=str(masklet))
        yield number, _opinion(tracker, followed, (height, width))


def _opinion(tracker: StreamingTracker, followed: Mapping[int, int], size: tuple[int, int]) -> Opinion:
    ids = np.zeros(size, np.uint16)
    sure: dict[int, float] = {}
    result = tracker.last_result
    assert result is not None  # a frame was stepped through
    for masklet, number in followed.items():
        row = result.index_of(number)
        mask, presence = result.masks[row], float(result.presence[row])
        sure[masklet] = presence * float(result.iou[row]) if mask.any() else 1 - presence
    for masklet in sorted(sure, key=lambda one: sure[one]):  # where masks overlap, the surer one is on top
        ids[result.masks[result.index_of(followed[masklet])]] = masklet
    return Opinion(ids, {masklet: float(np.clip(value, 0, 1)) for masklet, value in sure.items()})


def _nearest(seen: Mapping[int, set[int]], number: int, masklet: int) -> int:
    """0 where the nearest label that shows a masklet is on this frame or before, 1 where it is after."""
    where = [label for label, ids in seen.items() if masklet in ids]
    return int(min(where, key=lambda label: (abs(label - number), label > number), default=number) > number)


def _settle(
    opinions: tuple[Opinion, Opinion], chosen: Sequence[int], video: VideoFolder
) -> tuple[Ids, dict[int, float]]:
    """Of each masklet the mask of the chosen opinion, or the only one; the surer is on top."""
    masks: dict[int, NDArray[np.bool_]] = {}
    sure: dict[int, float] = {}
    for masklet, choice in zip(video.facts.masklets, chosen, strict=True):
        having = [index for index in (0, 1) if masklet.id in opinions[index].sure]
        index = choice if choice in having else next(iter(having), None)
        if index is None:  # no label shows it
            sure[masklet.id] = 0.0
            continue
        both = [opinions[one].ids == masklet.id for one in having]
        agree = iou(both[0], both[-1]) if any(one.any() for one in both) else 1.0
        masks[masklet.id] = opinions[index].ids == masklet.id
        sure[masklet.id] = opinions[index].sure[masklet.id] * agree
    ids: Ids = np.zeros_like(opinions[0].ids)
    for number in sorted(masks, key=lambda one: sure[one]):
        ids[masks[number]] = number
    return ids, sure
