"""What `Sam2sClient` returns: the node's responses as plain values, and its refusals as exceptions.

Stamps are nanoseconds of image headers, None where there is none. Coordinates are pixels of the source image, NaN where
not known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sam2s_msgs.msg import ErrorCode, Suggestion
from sam2s_ros.nodes.messages import ERROR_NAMES, stamp_to_ns
from sam2s_ros.tracking import TrackState

SUGGESTION_NAMES = {Suggestion.LOST: "LOST", Suggestion.AMBIGUOUS: "AMBIGUOUS", Suggestion.NEW: "NEW"}


class TrackerError(RuntimeError):
    """A call to the tracker node that did not do what was asked. `code`: a constant of sam2s_msgs/ErrorCode, NONE where
    the node gave none."""

    def __init__(self, text: str, code: int = ErrorCode.NONE) -> None:
        super().__init__(text)
        self.code = code

    @property
    def code_name(self) -> str:
        """Name of the constant, for example "UNKNOWN_OBJECT"."""
        return ERROR_NAMES.get(self.code, str(self.code))


class TrackerUnavailable(TrackerError):
    """The node, or a service of it, was not there in time: nothing was asked."""


class TrackerTimeout(TrackerError):
    """No answer came in time: what was asked may have been done, or may be done yet."""


class CallRefused(TrackerError):
    """The node refused a call, and nothing was changed. `reason`: in the node's words. `oldest_kept_ns` and
    `newest_kept_ns`: the images that a prompt may name, None where the response does not say.
    """

    def __init__(self, service: str, response: Any) -> None:
        self.reason = str(response.message)
        self.oldest_kept_ns = _stamp(getattr(response, "oldest_kept", None))
        self.newest_kept_ns = _stamp(getattr(response, "newest_kept", None))
        error = getattr(response, "error", None)  # std_srvs/Trigger has none
        super().__init__(f"{service} refused: {self.reason}", ErrorCode.NONE if error is None else error.code)


@dataclass(frozen=True)
class MaskReport:
    """What a mask is like: probability of presence and predicted IoU 0 .. 1, area in pixels, centroid x, y and
    box x_min, y_min, x_max, y_max."""

    state: TrackState
    presence: float
    predicted_iou: float
    area: float
    centroid: tuple[float, float]
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class PromptResult:
    """An object that was added or refined: its mask on the prompted image, and how many images it is behind."""

    id: int
    stamp_ns: int | None
    mask: MaskReport
    frames_behind: int
    oldest_kept_ns: int | None
    newest_kept_ns: int | None
    message: str


@dataclass(frozen=True)
class ObjectResult:
    """An object that was removed: its mask on the last image that has it."""

    id: int
    stamp_ns: int | None
    mask: MaskReport
    message: str


@dataclass(frozen=True)
class RenameResult:
    """An object with the name and class that it has now; class "" is the tracker's own to say."""

    id: int
    name: str
    class_name: str
    stamp_ns: int | None
    mask: MaskReport
    message: str


@dataclass(frozen=True)
class ResetResult:
    """How many objects were taken back to their first prompts, and, of a single one, its mask on the newest image."""

    id: int
    objects: int
    stamp_ns: int | None
    mask: MaskReport
    message: str


@dataclass(frozen=True)
class PauseResult:
    """A pause: who paused ("" = not said), since when by the node's clock, and the last image that was tracked."""

    paused_by: str
    since_ns: int | None
    stamp_ns: int | None
    objects: int
    message: str


@dataclass(frozen=True)
class ResumeResult:
    """The end of a pause of `paused_s` seconds, NaN if there was none."""

    paused_by: str
    paused_s: float
    stamp_ns: int | None
    objects: int
    message: str


@dataclass(frozen=True)
class ListedObject:
    """One object of a list. `label`: its value in the label image, 0 = none; `class_score` NaN where not known."""

    id: int
    name: str
    class_name: str
    class_score: float
    label: int
    prompts: int
    added_ns: int | None
    last_seen_ns: int | None
    mask: MaskReport


@dataclass(frozen=True)
class ObjectList:
    """The objects on the newest tracked image, by ascending id, and the images that a prompt may name.

    `age_s`: of that image by the client's clock when the answer came, NaN where there is none. `message`: how many
    objects, and how far those are behind that were prompted on an older image.
    """

    stamp_ns: int | None
    age_s: float
    objects: tuple[ListedObject, ...]
    max_objects: int
    oldest_kept_ns: int | None
    newest_kept_ns: int | None
    message: str


@dataclass(frozen=True)
class Suggested:
    """Something that the operator is asked to look at: `kind` LOST, AMBIGUOUS or NEW; where, and a region around it;
    urgency 0 .. 1."""

    kind: str
    id: int
    name: str
    position: tuple[float, float]
    region: tuple[float, float, float, float]
    urgency: float
    message: str


@dataclass(frozen=True)
class SuggestionList:
    """What is asked on the image of this stamp, most urgent first; empty: nothing."""

    stamp_ns: int | None
    suggestions: tuple[Suggested, ...]


def prompt_result(response: Any) -> PromptResult:
    """Of AddObject and RefineObject."""
    return PromptResult(
        response.id,
        _stamp(response.stamp),
        _mask(response.mask),
        response.frames_behind,
        _stamp(response.oldest_kept),
        _stamp(response.newest_kept),
        response.message,
    )


def object_result(response: Any) -> ObjectResult:
    """Of RemoveObject."""
    return ObjectResult(response.id, _stamp(response.stamp), _mask(response.mask), response.message)


def rename_result(response: Any) -> RenameResult:
    """Of RenameObject."""
    stamp_ns, mask = _stamp(response.stamp), _mask(response.mask)
    return RenameResult(
        response.id, response.name, response.class_name, stamp_ns, mask, message=response.message
    )


def reset_result(response: Any) -> ResetResult:
    """Of ResetObject."""
    stamp_ns, mask = _stamp(response.stamp), _mask(response.mask)
    return ResetResult(response.id, response.objects, stamp_ns, mask, response.message)


def pause_result(response: Any) -> PauseResult:
    """Of PauseTracking."""
    since_ns, stamp_ns = _stamp(response.since), _stamp(response.stamp)
    return PauseResult(response.paused_by, since_ns, stamp_ns, response.objects, response.message)


def resume_result(response: Any) -> ResumeResult:
    """Of ResumeTracking."""
    stamp_ns = _stamp(response.stamp)
    return ResumeResult(response.paused_by, response.paused, stamp_ns, response.objects, response.message)


def object_list(response: Any, now_ns: int) -> ObjectList:
    """Of ListObjects; `now_ns`: the client's clock."""
    objects = tuple(
        ListedObject(
            one.id,
            one.name,
            one.class_name,
            one.class_score,
            one.label,
            one.prompts,
            _stamp(one.added),
            _stamp(one.last_seen),
            _mask(one.mask),
        )
        for one in response.objects
    )
    stamp_ns = _stamp(response.stamp)
    age_s = math.nan if stamp_ns is None else (now_ns - stamp_ns) * 1e-9
    kept = _stamp(response.oldest_kept), _stamp(response.newest_kept)
    return ObjectList(stamp_ns, age_s, objects, response.max_objects, *kept, message=response.message)


def message_of(response: Any) -> str:
    """Of std_srvs/Trigger."""
    return str(response.message)


def suggestion_list(message: Any) -> SuggestionList:
    """Of SuggestionArray."""
    suggested = tuple(
        Suggested(
            SUGGESTION_NAMES.get(one.kind, str(one.kind)),
            one.id,
            one.name,
            (one.position.x, one.position.y),
            _box(one.region),
            one.urgency,
            one.message,
        )
        for one in message.suggestions
    )
    return SuggestionList(_stamp(message.header.stamp), suggested)


def _mask(mask: Any) -> MaskReport:
    return MaskReport(
        TrackState(mask.state),
        mask.presence,
        mask.predicted_iou,
        mask.area,
        (mask.centroid.x, mask.centroid.y),
        _box(mask.bounding_box),
    )


def _box(box: Any) -> tuple[float, float, float, float]:
    return box.x_min, box.y_min, box.x_max, box.y_max


def _stamp(stamp: Any) -> int | None:
    return (stamp_to_ns(stamp) or None) if stamp is not None else None
