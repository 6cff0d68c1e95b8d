"""Measures the masks of one frame against its ground truth: a `FrameRecord` per object."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sam2s_ros.evaluation.classes import class_of
from sam2s_ros.evaluation.consistency import FlowConsistency
from sam2s_ros.evaluation.distances import point_error, surface_distances
from sam2s_ros.evaluation.interface import MaskResult
from sam2s_ros.evaluation.metrics import Mask, boundary_accuracy
from sam2s_ros.evaluation.records import NAN, FrameRecord
from sam2s_ros.evaluation.sequences import LabelledFrame
from sam2s_ros.tracking.geometry import MaskGeometry, measure
from sam2s_ros.tracking.runs import MaskRuns


@dataclass(frozen=True)
class FollowedObject:
    """An object of the ground truth and the tracker's id of it."""

    label: int
    object_id: int
    name: str


@dataclass(frozen=True)
class FrameRun:
    """How one frame was run."""

    index: int
    latency_ms: float
    tracked: bool = True
    prompted: Collection[int] = ()
    """Labels that were prompted on it."""


@dataclass(frozen=True)
class _Areas:
    """Pixels of a predicted and a true mask; the true one's are None without ground truth."""

    predicted: int
    true: int | None
    both: int | None

    @classmethod
    def of(cls, prediction: Mask, truth: Mask | None) -> _Areas:
        predicted = int(np.count_nonzero(prediction))
        if truth is None:
            return cls(predicted, None, None)
        return cls(predicted, int(np.count_nonzero(truth)), int(np.count_nonzero(prediction & truth)))

    @property
    def j(self) -> float:
        """IoU, 1 when both are empty, NaN without ground truth."""
        if self.true is None or self.both is None:
            return NAN
        union = self.predicted + self.true - self.both
        return self.both / union if union else 1.0

    @property
    def dice(self) -> float:
        """Sørensen-Dice coefficient, 1 when both are empty, NaN without ground truth."""
        if self.true is None or self.both is None:
            return NAN
        total = self.predicted + self.true
        return 2 * self.both / total if total else 1.0


class FrameScorer:
    """Makes the records of one tracker on one sequence, frame by frame. Holds the frame before, for consistency.

    nsd_tolerance_px: of NSD; None for that of F, 0.8 % of the image diagonal rounded up.
    """

    def __init__(self, tracker: str, sequence: str, nsd_tolerance_px: float | None = None) -> None:
        self._tracker = tracker
        self._sequence = sequence
        self._nsd_tolerance_px = nsd_tolerance_px
        self._consistency = FlowConsistency()

    def score(
        self,
        frame: LabelledFrame,
        objects: Sequence[FollowedObject],
        predictions: Mapping[int, Mask],
        result: MaskResult | None,
        run: FrameRun,
    ) -> tuple[FrameRecord, ...]:
        """Records of all objects followed so far, given the predicted masks bool [H, W] by label.

        frame: its image may be empty, [0, 0, 3], where it is no longer kept; consistency is then not known.
        result: what the tracker said of this frame, for states, presence, predicted IoU and classes where it has them.
        """
        truths = {
            item.label: np.asarray(frame.labels == item.label) if frame.labels is not None else None
            for item in objects
        }
        areas = {label: _Areas.of(predictions[label], truth) for label, truth in truths.items()}
        classes = self._class_areas(objects, predictions, truths, areas)
        consistency = self._consistency.step(
            frame.image, {item.label: predictions[item.label] for item in objects}
        )
        return tuple(
            self._record(
                frame,
                item,
                (predictions[item.label], truths[item.label]),
                (areas[item.label], classes[class_of(item.name)]),
                consistency[item.label],
                said_of(result, item.object_id),
                run,
            )
            for item in objects
        )

    @staticmethod
    def _class_areas(
        objects: Sequence[FollowedObject],
        predictions: Mapping[int, Mask],
        truths: Mapping[int, Mask | None],
        areas: Mapping[int, _Areas],
    ) -> dict[str, _Areas]:
        """Areas by class: of the union of the masks of its objects."""
        members: dict[str, list[int]] = {}
        for item in objects:
            members.setdefault(class_of(item.name), []).append(item.label)
        found = {}
        for name, labels in members.items():
            if len(labels) == 1:
                found[name] = areas[labels[0]]
                continue
            known = [truth for label in labels if (truth := truths[label]) is not None]
            truth = np.logical_or.reduce(known) if known else None
            found[name] = _Areas.of(np.logical_or.reduce([predictions[label] for label in labels]), truth)
        return found

    def _record(
        self,
        frame: LabelledFrame,
        item: FollowedObject,
        masks: tuple[Mask, Mask | None],
        areas: tuple[_Areas, _Areas],
        consistency: float,
        said: Said,
        run: FrameRun,
    ) -> FrameRecord:
        prediction, truth = masks
        own, of_class = areas
        height, width = prediction.shape
        f = nsd = hd95 = asd = centroid_error = tip_error = NAN
        if truth is not None:
            f = boundary_accuracy(prediction, truth)
            surfaces = surface_distances(prediction, truth, self._nsd_tolerance_px)
            nsd, hd95, asd = surfaces.nsd, surfaces.hd95_px, surfaces.asd_px
        if truth is not None and own.predicted and own.true:
            found, wanted = geometry_of(prediction), geometry_of(truth)
            centroid_error = point_error(found.centroid[0], wanted.centroid[0])
            tip_error = point_error(found.tip[0], wanted.tip[0])
        return FrameRecord(
            tracker=self._tracker,
            sequence=self._sequence,
            frame=run.index,
            stamp_ns=frame.stamp_ns,
            label=item.label,
            object_id=item.object_id,
            name=item.name,
            true_class=class_of(item.name),
            height=height,
            width=width,
            prompted=item.label in run.prompted,
            tracked=run.tracked,
            state=said.state,
            presence=said.presence,
            predicted_iou=said.predicted_iou,
            said_class=said.said_class,
            long_term_insertions=said.long_term_insertions,
            present=None if own.true is None else own.true > 0,
            truth_crc32=None if truth is None else zlib.crc32(np.packbits(truth).tobytes()),
            predicted_px=own.predicted,
            true_px=own.true,
            intersection_px=own.both,
            class_predicted_px=of_class.predicted,
            class_true_px=of_class.true,
            class_intersection_px=of_class.both,
            j=own.j,
            f=f,
            dice=own.dice,
            nsd=nsd,
            hd95_px=hd95,
            asd_px=asd,
            centroid_error_px=centroid_error,
            tip_error_px=tip_error,
            consistency=consistency,
            latency_ms=run.latency_ms,
        )


@dataclass(frozen=True)
class Said:
    """What a tracker says of an object beside its mask; empty and NaN where it says nothing, as the baselines do."""

    state: str = ""
    presence: float = NAN
    predicted_iou: float = NAN
    said_class: str = ""
    long_term_insertions: int | None = None


def said_of(result: MaskResult | None, object_id: int) -> Said:
    """What a result says of an object."""
    if result is None:
        return Said()
    rows = np.flatnonzero(np.asarray(result.ids) == object_id)
    if not rows.size:
        return Said()
    row = int(rows[0])
    states, classes = getattr(result, "states", ()), getattr(result, "class_names", ())
    presence, iou = getattr(result, "presence", None), getattr(result, "iou", None)
    insertions = getattr(result, "long_term_insertions", None)
    return Said(
        state=str(states[row].name) if states else "",
        presence=NAN if presence is None else float(presence[row]),
        predicted_iou=NAN if iou is None else float(iou[row]),
        said_class=str(classes[row]) if classes else "",
        long_term_insertions=None if insertions is None else int(insertions[row]),
    )


def geometry_of(mask: Mask) -> MaskGeometry:
    """Centroid and tip of one mask bool [H, W], all NaN when it is empty."""
    return measure(MaskRuns.of_masks(mask[None]))
