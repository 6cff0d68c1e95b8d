"""What data sets label their frames with, read as regions: index and colour images, masks, polygons, run lengths.

Each reader is a frozen value that names its file and what the values in it mean; `regions` opens the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2s_ros.data.arrays import BoolArray, ByteArray
from sam2s_ros.data.video_folder import index_values, load_image

MASK_THRESHOLD = 127
"""Above it a pixel of a mask image belongs to the mask: some data sets store masks as JPEG, whose edges ring."""


@dataclass(frozen=True)
class Label:
    """What a value of a data set means."""

    source_class: str
    class_name: str = ""
    """A class of the instrument bank, or "" where the bank has none for it."""
    kind: str = "instrument"
    separate: bool = True
    """Bodies of this class are told apart by connected components; else the class is one object of a frame."""


def instrument(source_class: str, class_name: str = "") -> Label:
    """An instrument: each connected component is one."""
    return Label(source_class, class_name)


def tissue(source_class: str, class_name: str = "", separate: bool = False) -> Label:
    """A tissue: all of it that a frame shows is one object, unless `separate`."""
    return Label(source_class, class_name, "tissue", separate)


@dataclass(frozen=True)
class Region:
    """Pixels of a frame with one label."""

    mask: BoolArray
    """[H, W]."""
    label: Label
    track: str = ""
    """The object that the data set says it is, the same over the video; "" where it does not."""
    whole: bool = False
    """The data set says that this is one object of the frame."""


class LabelFile(Protocol):
    """Where the labels of a frame are."""

    @property
    def path(self) -> Path: ...

    def regions(self, size: tuple[int, int]) -> list[Region]:
        """The labelled regions of a frame of `size` = (height, width).

        Raises:
            OSError: the file is missing, no image, or cut off.
            ValueError: the file has another size, or values that mean nothing.
        """
        ...


@dataclass(frozen=True)
class IndexLabels:
    """A label image whose values are classes, or objects where `tracks`; several values may be one class."""

    path: Path
    meanings: Mapping[int, Label]
    ignored: frozenset[int] = field(default_factory=lambda: frozenset({0}))
    tracks: bool = False
    palette: tuple[int, ...] = ()
    """RGB bytes that values have in the video's other label images; a palette that gives one another colour belongs to
    an image whose values were dealt anew. Empty: not looked at."""

    def regions(self, size: tuple[int, int]) -> list[Region]:
        image = load_image(self.path)
        values = index_values(image, self.path)
        _check_size(self.path, values.shape, size)
        found = np.flatnonzero(np.bincount(values.ravel())).tolist()
        if self.palette:
            _check_palette(self.path, image.getpalette(), found, self.palette)
        unknown = [value for value in found if value not in self.meanings and value not in self.ignored]
        if unknown:
            raise ValueError(f"{self.path}: no meaning is known for the values {unknown}")
        kept = [value for value in found if value not in self.ignored]
        if self.tracks:
            return [Region(values == v, self.meanings[v], f"value {v}", whole=True) for v in kept]
        by_label: dict[Label, list[int]] = {}
        for value in kept:
            by_label.setdefault(self.meanings[value], []).append(value)
        return [Region(np.isin(values, group), label) for label, group in by_label.items()]


@dataclass(frozen=True)
class ColourLabels:
    """An RGB label image whose colours are classes; several colours may be one class."""

    path: Path
    meanings: Mapping[tuple[int, int, int], Label]
    ignored: frozenset[tuple[int, int, int]] = field(default_factory=lambda: frozenset({(0, 0, 0)}))

    def regions(self, size: tuple[int, int]) -> list[Region]:
        colours = _read_rgb(self.path).astype(np.uint32)
        _check_size(self.path, colours.shape, size)
        codes = (colours[..., 0] << 16) | (colours[..., 1] << 8) | colours[..., 2]
        found = np.unique(codes).tolist()
        by_label: dict[Label, list[int]] = {}
        unknown = []
        for code in found:
            colour = (code >> 16, code >> 8 & 255, code & 255)
            if colour in self.meanings:
                by_label.setdefault(self.meanings[colour], []).append(code)
            elif colour not in self.ignored:
                unknown.append(colour)
        if unknown:
            raise ValueError(f"{self.path}: no meaning is known for the colours {unknown[:5]}")
        return [Region(np.isin(codes, values), label) for label, values in by_label.items()]


@dataclass(frozen=True)
class MaskLabels:
    """An image that is a mask of one class, or of the object `track`."""

    path: Path
    label: Label
    track: str = ""
    threshold: int = 0
    """Values above it belong to the mask."""

    def regions(self, size: tuple[int, int]) -> list[Region]:
        values = _read_rgb(self.path).max(axis=2)
        _check_size(self.path, values.shape, size)
        mask = values > self.threshold
        return [Region(mask, self.label, self.track, bool(self.track))] if mask.any() else []


@dataclass(frozen=True)
class ChannelLabels:
    """An image whose red and green channels are masks of two classes, with the rings of JPEG around them."""

    path: Path
    red: Label
    green: Label

    def regions(self, size: tuple[int, int]) -> list[Region]:
        values = _read_rgb(self.path)
        _check_size(self.path, values.shape, size)
        strongest = values.argmax(axis=2)
        masks = [(values[..., c] > MASK_THRESHOLD) & (strongest == c) for c in (0, 1)]
        return [
            Region(mask, label)
            for mask, label in zip(masks, (self.red, self.green), strict=True)
            if mask.any()
        ]


@dataclass(frozen=True)
class LabelmeLabels:
    """A JSON file of labelme: polygons with a class; polygons of one class and `group_id` are one object."""

    path: Path
    meanings: Mapping[str, Label]

    def regions(self, size: tuple[int, int]) -> list[Region]:
        try:
            shapes = json.loads(self.path.read_text(encoding="utf-8"))["shapes"]
            polygons = [
                (str(one["label"]), one.get("group_id"), np.asarray(one["points"], np.float64))
                for one in shapes
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.path} is not a file of labelme: {error!r}") from None
        masks: dict[tuple[str, Any], ByteArray] = {}
        for number, (name, group, points) in enumerate(polygons):
            if name not in self.meanings:
                raise ValueError(f"{self.path}: no meaning is known for the class {name!r}")
            key = (name, f"alone {number}" if group is None else group)
            mask = masks.setdefault(key, np.zeros(size, np.uint8))
            _fill_polygon(mask, points)
        return [
            Region(mask.astype(bool), self.meanings[name], whole=True)
            for (name, _), mask in masks.items()
            if mask.any()
        ]


@dataclass(frozen=True)
class CocoSegment:
    """One annotation of COCO: polygons [[x, y, ...], ...] or run lengths {size, counts}."""

    label: Label
    segmentation: Any
    track: str = ""


@dataclass(frozen=True)
class CocoLabels:
    """The annotations that a file of COCO has for one frame."""

    path: Path
    segments: tuple[CocoSegment, ...]

    def regions(self, size: tuple[int, int]) -> list[Region]:
        found = []
        for segment in self.segments:
            mask = _decode_coco(segment.segmentation, size, self.path)
            if mask.any():
                found.append(Region(mask, segment.label, segment.track, whole=True))
        return found


def _decode_coco(segmentation: Any, size: tuple[int, int], path: Path) -> BoolArray:
    from pycocotools import mask as coco

    try:
        if isinstance(segmentation, Mapping):
            runs = dict(segmentation)
            _check_size(path, tuple(runs["size"]), size)
            if isinstance(runs["counts"], list):
                runs = coco.frPyObjects(runs, *size)
            return coco.decode(runs).astype(bool)
        polygons = [part for part in segmentation if len(part) >= 6]
        if not polygons:
            return np.zeros(size, bool)
        return coco.decode(coco.merge(coco.frPyObjects(polygons, *size))).astype(bool)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: a segmentation is no polygons and no run lengths: {error!r}") from None


def _fill_polygon(mask: ByteArray, points: NDArray[Any]) -> None:
    """Set the pixels of a polygon [N, 2] (x, y) to 1, in place; fewer than three points are no polygon."""
    if len(points) >= 3:
        cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1)


def _read_rgb(path: Path) -> ByteArray:
    return np.asarray(load_image(path).convert("RGB"))


def _check_palette(
    path: Path, palette: Sequence[int] | None, values: list[int], wanted: Sequence[int]
) -> None:
    """A grey image (no palette) has no colours to contradict."""
    for value in values if palette is not None else ():
        here, there = (tuple(colours[3 * value : 3 * value + 3]) for colours in (palette or (), wanted))
        if here != there:
            raise ValueError(
                f"{path} has another palette than its video's other label images, so its values may mean other "
                f"objects: {value} has the colour {here}, there {there}; save it with their palette"
            )


def _check_size(path: Path, found: tuple[int, ...], wanted: tuple[int, int]) -> None:
    if tuple(found[:2]) != tuple(wanted):
        raise ValueError(
            f"{path} is {found[1]}x{found[0]} pixels and its frame {wanted[1]}x{wanted[0]}; both must agree"
        )
