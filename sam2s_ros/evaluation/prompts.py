"""The simulated operator: prompts each object from its ground truth, as the SAM 2 and SAM2S papers do, or from a file.

`mask` gives the mask, `box` its tight box, `click` one click at its centre, `3-clicks` and `5-clicks` that click and
more, each at the centre of the larger error region of the mask predicted so far. A region's centre is the peak of its
distance transform, the image border counting as outside.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.evaluation.distances import distance_to_zero
from sam2s_ros.evaluation.interface import MaskTracker, mask_of
from sam2s_ros.evaluation.sequences import LabelledFrame

if TYPE_CHECKING:
    from sam2s_ros.tracking.prompts_file import StartPrompt

PROMPTS = ("mask", "box", "click", "3-clicks", "5-clicks")
CORRECTIONS = {"3-clicks": 2, "5-clicks": 4}


@dataclass(frozen=True, eq=False)
class ObjectPrompt:
    """How one object is shown to a tracker on one frame: `arguments` of `add_object`, then correcting clicks."""

    label: int
    name: str
    arguments: Mapping[str, Any]
    corrections: int = 0


class Prompter(Protocol):
    """Says which objects are to be prompted on a frame, none of which is among the labels already `known`."""

    @property
    def objects(self) -> Collection[int | str] | None:
        """Label values or names that are ever prompted; None for all."""
        ...

    def due(
        self, frame: LabelledFrame, known: Collection[int], names: Mapping[int, str]
    ) -> list[ObjectPrompt]: ...

    def require_all_given(self, sequence: str, known: Collection[int]) -> None:
        """ValueError, naming the sequence, where at its end too few labels are `known`."""
        ...


@dataclass(frozen=True)
class FirstSight:
    """Prompts each label value on the first frame that shows enough of it, from its ground truth.

    objects: label values or names to follow; all but 0 with None. area: share of the image that an object covers when
    it is prompted; 0 is one pixel. An object that comes into view shows its first few pixels first, on which nobody
    would prompt it.
    """

    prompt: str
    objects: Collection[int | str] | None = None
    area: float = 0.0

    def due(
        self, frame: LabelledFrame, known: Collection[int], names: Mapping[int, str]
    ) -> list[ObjectPrompt]:
        """In increasing order of the label values; ValueError for an unknown prompt."""
        if frame.labels is None:
            return []
        pixels = np.bincount(frame.labels.reshape(-1), minlength=256)
        seen = np.flatnonzero(pixels >= max(1.0, self.area * frame.labels.size)).tolist()
        return [
            ObjectPrompt(
                label,
                names.get(label, f"label {label}"),
                first_prompt(np.asarray(frame.labels == label), self.prompt),
                CORRECTIONS.get(self.prompt, 0),
            )
            for label in seen
            if label != 0
            and label not in known
            and (self.objects is None or label in self.objects or names.get(label) in self.objects)
        ]

    def require_all_given(self, sequence: str, known: Collection[int]) -> None:
        """ValueError where no object was seen."""
        if not known:
            wanted = "no object"
            if self.objects is not None:
                wanted = f"none of the objects {', '.join(map(str, self.objects))}"
            raise ValueError(f"{sequence}: {wanted} appears in the ground truth")


class FilePrompts:
    """The prompts of a file (config/prompts_example.yaml), each on the first frame with its stamp or a later one.

    An entry's name is that of its object in the ground truth, or its label value.
    """

    def __init__(self, path: Path) -> None:
        """Read the file; ValueError or OSError say what is wrong with it."""
        from sam2s_ros.tracking.prompts_file import load_prompts_file  # brings torch

        self._path = path
        self._entries: Sequence[StartPrompt] = load_prompts_file(path)
        if not self._entries:
            raise ValueError(f"prompts file {path} has no entry")
        self._labels: set[int] = set()
        self._shown: set[int] = set()
        for number, entry in enumerate(self._entries, start=1):
            if not entry.name:
                raise ValueError(
                    f"prompts file {path}: entry {number} has no name; give that of its object in the ground truth, "
                    "or the label value"
                )

    @property
    def objects(self) -> list[int | str]:
        """Their names, or label values."""
        return [int(one.name) if one.name.isdecimal() else one.name for one in self._entries]

    def due(
        self, frame: LabelledFrame, known: Collection[int], names: Mapping[int, str]
    ) -> list[ObjectPrompt]:
        """In the order of the file; ValueError for a name that the ground truth does not have."""
        due = []
        labels = [self._label(entry.name, names) for entry in self._entries]
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise ValueError(
                f"prompts file {self._path}: two entries are of the object with label {twice}; leave one"
            )
        if frame.labels is not None:
            self._shown |= {label for label in set(labels) - self._shown if (frame.labels == label).any()}
        for entry, label in zip(self._entries, labels, strict=True):
            self._labels.add(label)
            if label not in known and (entry.stamp_ns is None or frame.stamp_ns >= entry.stamp_ns):
                due.append(ObjectPrompt(label, names.get(label, entry.name), entry.prompt.arguments()))
        return due

    def require_all_given(self, sequence: str, known: Collection[int]) -> None:
        """ValueError where an entry's stamp was not reached."""
        if missing := sorted(self._labels - set(known)):
            raise ValueError(
                f"prompts file {self._path}: the video {sequence} ended before the stamp of label {missing[0]}"
            )
        if unseen := sorted(self._labels - self._shown):
            raise ValueError(
                f"prompts file {self._path}: no label image of {sequence} has the label {unseen[0]}, so nothing can be "
                "scored; leave the entry out"
            )

    def _label(self, name: str, names: Mapping[int, str]) -> int:
        if name.isdecimal() and 0 < int(name) < 256:
            return int(name)
        for label, known in names.items():
            if known == name:
                return label
        raise ValueError(
            f"prompts file {self._path}: no object is named '{name}' in the ground truth; "
            f"names there: {', '.join(names.values()) or 'none, give label values'}"
        )


def make_prompter(
    prompts: str, objects: Collection[int | str] | None = None, area: float = 0.0
) -> FirstSight | FilePrompts:
    """One of PROMPTS, or the path of a prompts file; ValueError for anything else."""
    if prompts in PROMPTS:
        return FirstSight(prompts, objects, area)
    if not Path(prompts).is_file():
        raise ValueError(
            f"unknown prompt {prompts!r}; choose from {', '.join(PROMPTS)}, or give a prompts file"
        )
    return FilePrompts(Path(prompts))


def first_prompt(truth: NDArray[np.bool_], prompt: str) -> dict[str, Any]:
    """The first prompt from a mask bool [H, W], as arguments of `add_object`; ValueError if it is none of PROMPTS."""
    if prompt == "mask":
        return {"mask": truth}
    if prompt == "box":
        return {"box": box_of(truth)}
    if prompt not in PROMPTS:
        raise ValueError(f"unknown prompt {prompt!r}; choose from {', '.join(PROMPTS)}")
    points, labels = correction_click(truth, np.zeros_like(truth))
    return {"points": points, "labels": labels}


def prompt_object(tracker: MaskTracker, frame: LabelledFrame, prompt: ObjectPrompt) -> int:
    """Prompt a new object on the frame just stepped, and correct it as often as the prompt says; returns its id."""
    try:
        object_id = tracker.add_object(frame.image, **prompt.arguments, name=prompt.name)
    except ValueError as error:
        raise ValueError(f"the prompt of '{prompt.name}' (image of {frame.stamp_ns} ns): {error}") from error
    truth = np.asarray(frame.labels == prompt.label)
    for _ in range(prompt.corrections):
        prediction = mask_of(tracker.last_result, object_id, truth.shape)
        if (prediction == truth).all():
            break
        points, labels = correction_click(truth, prediction)
        tracker.refine_object(object_id, frame.image, points=points, labels=labels)
    return object_id


def box_of(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The pixel centres [4] (x0, y0, x1, y1) of a mask's first and last column and row.

    A side of a single pixel reaches from edge to edge of that pixel, since a box must have an area.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    (x0, x1), (y0, y1) = _extent(columns), _extent(rows)
    return np.array([x0, y0, x1, y1], np.float32)


def _extent(indices: NDArray[np.intp]) -> tuple[float, float]:
    first, last = float(indices[0]), float(indices[-1])
    return (first - 0.5, last + 0.5) if first == last else (first, last)


def correction_click(
    truth: NDArray[np.bool_], prediction: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The next click, points [1, 2] (x, y) and labels [1]: on what is missed (1) or is too much (0)."""
    missed, missed_depth = _centre(truth & ~prediction)
    extra, extra_depth = _centre(prediction & ~truth)
    on_object = missed_depth > extra_depth
    return np.array([missed if on_object else extra], np.float32), np.array([int(on_object)], np.int32)


def _centre(region: NDArray[np.bool_]) -> tuple[tuple[int, int], float]:
    """(x, y) of the pixel of a region that is farthest from its edge, and how far (px)."""
    padded = np.pad(region.astype(np.uint8), 1)
    depth = distance_to_zero(padded)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return (int(column), int(row)), float(depth[row, column])
