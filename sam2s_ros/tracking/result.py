"""What the tracker says of one frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.tracking.errors import UnknownObjectError
from sam2s_ros.tracking.geometry import MaskGeometry
from sam2s_ros.tracking.image_condition import ImageCondition
from sam2s_ros.tracking.runs import MaskRuns
from sam2s_ros.tracking.states import TrackState
from sam2s_ros.tracking.uncertainty import image_uncertainty

PER_OBJECT_TUPLES = ("names", "states", "class_names", "state_reasons")
"""Fields of `FrameResult` that have one entry for each object and are no arrays."""


@dataclass(frozen=True)
class FrameResult:
    """N objects by ascending id. The arrays belong to the receiver: the tracker does not touch them again.

    An object that is out of view has an empty mask and NaN geometry. On the frame of a mask prompt the mask
    is the given one, exactly. `needs_reset` is empty, or says why the tracker refuses to go on; all objects
    are LOST then. An object that is on its way to this frame (`frames_behind`) is UNCERTAIN, and nothing of it is
    known: an empty mask, NaN presence and IoU.
    """

    stamp_ns: int
    frame_index: int
    """Number of the frame since the tracker was made; -1 for an image that was not tracked."""
    image_size: tuple[int, int]
    """height, width in pixels."""
    ids: NDArray[np.uint32]
    names: tuple[str, ...]
    runs: MaskRuns
    """The masks as runs of their columns, which all measures and run lengths are made of."""
    logits: NDArray[np.float32]
    """[N, mask_size, mask_size]."""
    presence: NDArray[np.float32]
    """[N] probability that the object is in view."""
    iou: NDArray[np.float32]
    """[N] predicted IoU of the mask."""
    mask_uncertainty: NDArray[np.float32]
    """[N] mean of `uncertainty` over the mask; NaN for an empty mask."""
    boundary_width: NDArray[np.float32]
    """[N] width in pixels of the band in which the boundary may lie (probability 0.1 to 0.9); NaN without one."""
    states: tuple[TrackState, ...]
    geometry: MaskGeometry
    velocity: NDArray[np.float32]
    """[N, 2] px/s of the centroid; NaN until two good frames in a row, after a gap, and where there is no centroid."""
    velocity_covariance: NDArray[np.float32]
    """[N, 2, 2] px^2/s^2."""
    last_seen_ns: NDArray[np.int64]
    """[N] stamp of the last frame that showed the object; -1 when none did."""
    age_s: NDArray[np.float64]
    """[N] seconds since then; NaN when it never was seen."""
    long_term_insertions: NDArray[np.int64]
    """[N] frames taken into the object's long-term memory since it was added."""
    classes: tuple[str, ...]
    """[K] the class bank; empty where the network, or the tracker, has none."""
    class_names: tuple[str, ...]
    """[N] the most probable class of each object, "" while no frame has had a say in it (`ClassMemory`)."""
    class_scores: NDArray[np.float32]
    """[N] its probability; NaN where not known."""
    class_probabilities: NDArray[np.float32]
    """[N, K] of each class of the bank; NaN where not known."""
    frames_behind: NDArray[np.int64]
    """[N] kept frames that an object, prompted on an older one, had yet to come through to be here when this result was
    made; 0: it is here."""
    timings_ms: Mapping[str, float]
    """Stages of the step: encode, attend, decode, memorise, masks, geometry, total. `total` is the time that the
    step itself took, without an encoding that was done ahead."""
    needs_reset: str = ""
    condition: ImageCondition = ImageCondition.UNKNOWN
    """What the image is good for; no object is TRACKING on one that is not usable. `condition.reason` says why."""
    state_reasons: tuple[str, ...] = ()
    """[N] why each object is not TRACKING, for people; empty for one that is."""

    @cached_property
    def masks(self) -> NDArray[np.bool_]:
        """[N, H, W]; objects may overlap. Painted when it is first asked for."""
        return self.runs.masks()

    @property
    def uncertainty(self) -> NDArray[np.float32]:
        """[N, H, W] of every pixel and object, 0 sure .. 1 undecided; computed when it is asked for."""
        return image_uncertainty(self.logits, self.image_size)

    def index_of(self, object_id: int) -> int:
        """Position of an object in the arrays. UnknownObjectError when it is not there."""
        found = np.flatnonzero(self.ids == object_id)
        if len(found) == 0:
            raise UnknownObjectError(f"no object has id {object_id}; the result has ids {self.ids.tolist()}")
        return int(found[0])

    def without(self, object_id: int) -> FrameResult:
        """The same result less one object. UnknownObjectError when it is not there."""
        return self._rows(np.delete(np.arange(len(self.ids)), self.index_of(object_id)))

    def only(self, object_id: int) -> FrameResult:
        """The same result with one object alone. UnknownObjectError when it is not there."""
        return self._rows(np.array([self.index_of(object_id)]))

    def renamed(self, object_id: int, name: str) -> FrameResult:
        """The same result with another name for one object. UnknownObjectError when it is not there."""
        row = self.index_of(object_id)
        return replace(self, names=(*self.names[:row], name, *self.names[row + 1 :]))

    def _rows(self, rows: NDArray[np.int64]) -> FrameResult:
        """The same result with these objects alone; copies of their arrays."""
        own: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        chosen: dict[str, Any] = {
            name: value[rows] for name, value in own.items() if isinstance(value, np.ndarray)
        }
        chosen |= {name: tuple(own[name][row] for row in rows) for name in PER_OBJECT_TUPLES}
        measures = {field.name: getattr(self.geometry, field.name)[rows] for field in fields(MaskGeometry)}
        return replace(self, runs=self.runs.chosen(rows), geometry=MaskGeometry(**measures), **chosen)


@dataclass(frozen=True)
class TrackedObjectInfo:
    """One line of the list of objects."""

    id: int
    name: str
    state: TrackState
    added_stamp_ns: int
    """Stamp of the frame on which it was first prompted."""
    last_seen_ns: int
    """-1 when it never was."""
    frames_behind: int
    """Kept frames that it has yet to come through to the newest, after a prompt on an older one; 0: it is there."""
    conditioning_frames: int
    """How many prompted frames its memory holds."""
    long_term_frames: tuple[int, ...]
    """Numbers of the frames in its long-term memory, oldest first."""
    long_term_insertions: int
    """How many frames have entered its long-term memory since it was added, those since replaced included."""
    class_name: str
    """Its most probable class; "" when not known."""
    class_score: float
    """Probability of it; NaN when not known."""
