"""What is known of an object on a frame, as one word, and how that word may change from frame to frame.

A worse state is entered at once, a better one after `recover_frames` good frames in a row. Pure rules on plain numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import IntEnum

from sam2s_ros.tracking.config import TrackerConfig

SMALL_AREA = 0.01
"""Share of the image that is added to areas before they are compared, so that an object that enters may grow."""


RESTORED = "restored from a snapshot"


class TrackState(IntEnum):
    """States of an object from best to worst; the numbers are those of `sam2s_msgs/TrackedObject`."""

    TRACKING = 0
    """In view, and the mask is believed."""
    UNCERTAIN = 1
    """In view, but the mask may be wrong; or the image shows nothing."""
    OCCLUDED = 2
    """Out of view for a short time."""
    LOST = 3
    """Out of view for longer than `lost_after_s`, or the stream changed under the object."""


@dataclass(frozen=True)
class Place:
    """Where a believed mask was: centroid x, y in image diagonals, area as a share of the image."""

    stamp_ns: int
    x: float
    y: float
    area: float


@dataclass(frozen=True)
class Sight:
    """What one frame showed of one object."""

    present: bool
    """The network says that the object is in view."""
    iou: float
    """Predicted IoU."""
    uncertainty: float
    """Mean uncertainty of the mask's pixels, 0 .. 1; NaN where not known."""
    boundary: float
    """Width of the band in which the boundary may lie, in sides of a square of the mask's area; NaN where not known."""
    place: Place | None
    """None for an empty mask."""
    age_s: float
    """Seconds since the object was last seen; NaN when it never was."""
    twin_iou: float = 0.0
    """The largest IoU of its mask with that of another object."""
    twin_id: int = 0
    """Which object that is; of one that is not present, the one that is taken for the owner of the mask."""


@dataclass(frozen=True)
class ObjectStatus:
    """An object's state, and all that its next state depends on. Nothing in it grows with time.

    unconfirmed counts the good frames in a row that an object from a snapshot still needs; 0 for any other.

    clear and in_view count the latest frames in a row that showed the object believably, and that showed it at all, up
    to `recover_frames`. place is that of the last mask that had not jumped.
    """

    state: TrackState
    reason: str
    clear: int
    in_view: int
    place: Place | None
    unconfirmed: int = 0


@dataclass(frozen=True)
class Judgement:
    """An object's status on a frame, and the one from which it followed: a frame that is judged again replaces it."""

    frame_index: int
    before: ObjectStatus | None
    now: ObjectStatus


def next_status(
    before: ObjectStatus | None, sight: Sight, config: TrackerConfig, image_trouble: str = ""
) -> ObjectStatus:
    """Status after one more frame.

    Args:
        before: status on the frame before; None right after a prompt, when the first sight is believed.
        sight: what this frame showed.
        config: thresholds.
        image_trouble: why the image shows nothing to learn from; the sight then says nothing either.
    """
    status = _next_status(before, sight, config, image_trouble)
    return status if before is None or not before.unconfirmed else _doubted(before, status, config)


def restored_status(saved: ObjectStatus | None, config: TrackerConfig) -> ObjectStatus:
    """Status of an object from a snapshot before its first frame: nobody knows what has become of it meanwhile."""
    state = TrackState.UNCERTAIN if saved is None else max(saved.state, TrackState.UNCERTAIN)
    place = None if saved is None else saved.place
    return ObjectStatus(state, RESTORED, 0, 0, place, config.restore_confirm_frames)


def _doubted(before: ObjectStatus, now: ObjectStatus, config: TrackerConfig) -> ObjectStatus:
    """The status of an object from a snapshot: not TRACKING before enough good frames in a row."""
    wanted = config.restore_confirm_frames
    unconfirmed = before.unconfirmed - 1 if now.clear else wanted
    if unconfirmed == 0 or now.state > TrackState.UNCERTAIN:
        return replace(now, unconfirmed=unconfirmed)
    reason = f"{RESTORED}, good for {wanted - unconfirmed} of {wanted} frames"
    reason = reason if now.clear else f"{now.reason}; {reason}"
    return replace(now, state=TrackState.UNCERTAIN, reason=reason, unconfirmed=unconfirmed)


def _next_status(
    before: ObjectStatus | None, sight: Sight, config: TrackerConfig, image_trouble: str
) -> ObjectStatus:
    if image_trouble:
        return _after_nothing(before, sight, config, image_trouble)
    place = before.place if before is not None else None
    level, reason = _judge(sight, place, config)
    if sight.place is not None and not _jump(sight.place, place, config):
        place = sight.place
    clear = _count(before.clear if before else 0, level == TrackState.TRACKING, config)
    in_view = _count(before.in_view if before else 0, level <= TrackState.UNCERTAIN, config)
    status = ObjectStatus(level, reason, clear, in_view, place)
    if before is None or level >= before.state:
        return status
    if clear >= config.recover_frames:
        return replace(status, state=TrackState.TRACKING, reason="")
    if before.state > TrackState.UNCERTAIN and in_view >= config.recover_frames:
        return replace(status, state=TrackState.UNCERTAIN, reason=reason or _recovering(clear, config))
    return replace(status, state=before.state, reason=reason or _recovering(clear, config))


def doubted(last: Judgement | None, frame_index: int, reason: str) -> Judgement:
    """An object that has to be confirmed anew: UNCERTAIN or worse on this frame, and after it until `recover_frames`
    good frames follow, however good the frame itself is judged."""
    before = None if last is None else last.now
    state = TrackState.UNCERTAIN if before is None else max(before.state, TrackState.UNCERTAIN)
    status = ObjectStatus(state, reason, 0, 0, None if before is None else before.place)
    return Judgement(frame_index, status, status)


def _judge(sight: Sight, place: Place | None, config: TrackerConfig) -> tuple[TrackState, str]:
    """The state that a sight alone speaks for, and why it is not TRACKING."""
    if not sight.present:
        return _out_of_view(sight, config)
    doubts = [
        ("the mask is empty", sight.place is None),
        (
            f"predicted IoU {sight.iou:.2f} below {config.uncertain_iou:g}",
            not sight.iou >= config.uncertain_iou,
        ),
        (
            f"pixel uncertainty {sight.uncertainty:.2f} above {config.uncertain_pixels:g}",
            sight.uncertainty > config.uncertain_pixels,
        ),
        (
            f"boundary band {sight.boundary:.2f} of the object's size, above {config.uncertain_boundary:g}",
            sight.boundary > config.uncertain_boundary,
        ),
        (
            f"same mask as object {sight.twin_id}: IoU {sight.twin_iou:.2f} above {config.twin_iou:g}",
            sight.twin_iou > config.twin_iou,
        ),
    ]
    reasons = [reason for reason, holds in doubts if holds]
    if sight.place is not None and (jump := _jump(sight.place, place, config)):
        reasons.append(jump)
    elif sight.place is not None and place is not None and sight.place.stamp_ns < place.stamp_ns:
        reasons.append("the stamps went back")
    return (TrackState.UNCERTAIN if reasons else TrackState.TRACKING), "; ".join(reasons)


def _out_of_view(sight: Sight, config: TrackerConfig) -> tuple[TrackState, str]:
    if math.isnan(sight.age_s):
        return TrackState.LOST, "never seen"
    lost = sight.age_s > config.lost_after_s
    reason = f"not in view for {sight.age_s:.2f} s"
    if sight.twin_iou > config.twin_iou:
        reason = f"its mask is that of object {sight.twin_id}, IoU {sight.twin_iou:.2f}; {reason}"
    return (TrackState.LOST if lost else TrackState.OCCLUDED), reason


def _jump(now: Place, place: Place | None, config: TrackerConfig) -> str:
    """Which change since the last believed place no instrument makes in the time between; empty if there is none.

    The place a mask has jumped from stays the one compared with, and what is allowed grows with the time since: so a
    mask that has jumped is believed again once an instrument could have got there. Where stamps went back there is no
    time to judge by.
    """
    if place is None or now.stamp_ns < place.stamp_ns:
        return ""
    passed_s = (now.stamp_ns - place.stamp_ns) * 1e-9
    distance = math.hypot(now.x - place.x, now.y - place.y)
    if distance > config.jump_distance + config.jump_speed * passed_s:
        return f"jumped by {distance:.2f} image diagonals in {passed_s:.3f} s"
    change = math.log((now.area + SMALL_AREA) / (place.area + SMALL_AREA))
    if abs(change) > math.log(config.jump_area) + config.jump_area_rate * passed_s:
        return f"area changed from {place.area:.4f} to {now.area:.4f} of the image in {passed_s:.3f} s"
    return ""


def _after_nothing(
    before: ObjectStatus | None, sight: Sight, config: TrackerConfig, image_trouble: str
) -> ObjectStatus:
    """An image that shows nothing makes nothing better, and ends every row of good frames."""
    if before is None:
        return ObjectStatus(TrackState.UNCERTAIN, image_trouble, 0, 0, sight.place)
    state = max(before.state, TrackState.UNCERTAIN)
    if state == TrackState.OCCLUDED and not sight.age_s <= config.lost_after_s:
        state = TrackState.LOST
    return ObjectStatus(state, image_trouble, 0, 0, before.place)


def _count(frames: int, holds: bool, config: TrackerConfig) -> int:
    return min(frames + 1, config.recover_frames) if holds else 0


def _recovering(clear: int, config: TrackerConfig) -> str:
    return f"good for {clear} of {config.recover_frames} frames"
