"""What data sets label their frames with, read as regions: index and colour images, masks, polygons, run lengths.

Each reader is a frozen value that names its file and what the values in it mean; `regions` opens the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sam2s_ros.data.arrays import BoolArray, ByteArray
from sam2s_ros.data.json_files import entry, read_object
from sam2s_ros.data.outlines import coco_mask, polygon_mask
from sam2s_ros.data.video_folder import index_values, load_image

MASK_THRESHOLD = 127
"""Above it a pixel of a mask image belongs to the mask: some data sets store masks as JPEG, whose edges ring."""
RINGING = 16
"""Values up to this are nothing but the ringing of a JPEG whose mask is empty."""
MIDDLE = slice(30, 226)
"""Values that are neither black nor white, nor the ringing around them."""
FEW_VALUES = 16
OTHER_SHARE = 0.1
"""Of a mask's pixels: more that are neither near black or white nor of its `FEW_VALUES` commonest are a picture's."""
COLOURED_SHARE = 0.01
"""Of the pixels of a JPEG of a mask: more whose channels differ are no ringing."""
STRAY_SHARE = 0.05
"""Of the marked pixels of an image with a class per channel: more in no single channel are no ringing."""


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
    grey_values: frozenset[int] | None = field(default=None, repr=False)
    """Values that an image without a palette may have: others are the grey of colours. None: any."""

    def regions(self, size: tuple[int, int]) -> list[Region]:
        image = load_image(self.path)
        values = index_values(image, self.path)
        _check_size(self.path, values.shape, size)
        found = np.flatnonzero(np.bincount(values.ravel())).tolist()
        if self.palette:
            _check_palette(self.path, image.getpalette(), found, self.palette)
        if self.grey_values is not None and image.getpalette() is None:
            foreign = [value for value in found if value not in self.grey_values | self.ignored]
            if foreign:
                raise ValueError(
                    f"{self.path} has no palette, and its values {foreign} are none of its video's objects "
                    f"{sorted(self.grey_values)}: they may be the grey of colours; save it with the palette of DAVIS"
                )
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
        colours = _read_rgb(self.path)
        _check_size(self.path, colours.shape, size)
        values = colours.max(axis=2)
        brightest = int(values.max(initial=0))
        jpeg = self.path.suffix.lower() in (".jpg", ".jpeg")
        ringing = RINGING if jpeg else 0
        if ringing < brightest <= self.threshold:
            raise ValueError(
                f"{self.path} is no mask of black and white: its brightest value is {brightest}, and only values above "
                f"{self.threshold} count; save it with 255 inside"
            )
        coloured = float((values - colours.min(axis=2) > RINGING).mean())
        if coloured > (COLOURED_SHARE if jpeg else 0):
            raise ValueError(
                f"{self.path} is no mask: {coloured:.1%} of its pixels have a colour; put a grey mask in its place"
            )
        shares = np.bincount(values.ravel(), minlength=256) / values.size
        others = 1 - float(np.sort(shares)[-FEW_VALUES:].sum())
        if others > OTHER_SHARE and (not self.threshold or shares[MIDDLE].sum() > OTHER_SHARE):
            raise ValueError(
                f"{self.path} is no mask: it has the many values of a picture ({others:.0%} of its pixels are of none "
                f"of the {FEW_VALUES} commonest); put a mask in its place"
            )
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
        marked = values > MASK_THRESHOLD
        stray = int((marked[..., 2] | (marked[..., 0] & marked[..., 1])).sum())
        if stray > STRAY_SHARE * int(marked.any(axis=2).sum()):
            raise ValueError(
                f"{self.path}: {stray} pixels are neither red nor green nor black, and no meaning is known for them"
            )
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
        raw = read_object(self.path)
        for name, wanted in (("imageHeight", size[0]), ("imageWidth", size[1])):
            if raw.get(name) not in (None, wanted):
                raise ValueError(
                    f"{self.path}: {name} is {raw[name]!r}, its frame has {wanted}; both must agree"
                )
        masks: dict[tuple[str, str], BoolArray] = {}
        for number, shape in enumerate(entry(raw, "shapes", list, f"{self.path}"), start=1):
            where = f"{self.path}: shape {number}"
            name = entry(shape, "label", str, where)
            if name not in self.meanings:
                raise ValueError(f"{where}: no meaning is known for the class {name!r}")
            if shape.get("shape_type", "polygon") != "polygon":
                raise ValueError(f"{where} is a {shape['shape_type']!r}; only polygons are known here")
            try:
                mask = polygon_mask(entry(shape, "points", list, where), size)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
            group = shape.get("group_id")
            key = (name, f"alone {number}" if group is None else f"group {group}")
            masks[key] = masks[key] | mask if key in masks else mask
        return [
            Region(mask, self.meanings[name], whole=True) for (name, _), mask in masks.items() if mask.any()
        ]


@dataclass(frozen=True)
class CocoSegment:
    """One annotation of COCO: polygons [[x, y, ...], ...] or run lengths {size, counts}."""

    label: Label
    segmentation: Any
    track: str = ""
    name: str = ""
    """Of the annotation, for errors."""


@dataclass(frozen=True)
class CocoLabels:
    """The annotations that a file of COCO has for one frame."""

    path: Path
    segments: tuple[CocoSegment, ...]
    frame: str = ""
    """What the file calls the frame, for errors."""
    size: tuple[int, int] | None = None
    """(height, width) that the file gives for the frame."""

    def regions(self, size: tuple[int, int]) -> list[Region]:
        if self.size not in (None, size):
            raise ValueError(
                f"{self.path} gives {self.frame} {self.size[1]}x{self.size[0]} pixels, it has {size[1]}x{size[0]}; "
                "both must agree"
            )
        found = []
        for segment in self.segments:
            try:
                mask = coco_mask(segment.segmentation, size)
            except ValueError as error:
                where = f"{self.path}: {segment.name or 'an annotation'} of {self.frame or 'a frame'}"
                raise ValueError(f"{where}: {error}") from None
            if mask.any():
                found.append(Region(mask, segment.label, segment.track, whole=True))
        return found


@dataclass(frozen=True)
class BrokenLabels:
    """Labels of a frame that are known to be wrong before they are read: the frame is left out, and says why."""

    path: Path
    text: str = field(repr=False)

    def regions(self, size: tuple[int, int]) -> list[Region]:
        raise ValueError(self.text)


def _read_rgb(path: Path) -> ByteArray:
    image = load_image(path)
    try:
        return np.asarray(image.convert("RGB"))
    except ValueError as error:
        raise ValueError(
            f"{path} has pixels of the kind {image.mode}, which have no colours: {error}"
        ) from None


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
