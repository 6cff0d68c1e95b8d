"""Frames with ground truth from image folders: the project's own layout (`docs/data.md`), DAVIS, the vocal folds data
set, or any folder with its label images.

A label image is single-channel or paletted and holds one object per value; 0 is no object. An `objects.json` beside
the label images, as `sam2s data synth` writes it, gives the objects' names, the frame rate and the size from which on
an object is prompted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.data.provenance import read_provenance
from sam2s_ros.data.readers import VOCALFOLDS_CLASSES, read_rgb
from sam2s_ros.data.video_folder import VideoFolder, find_videos, read_index, read_video
from sam2s_ros.data.write_videos import OBJECTS_FILE

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"})
DEFAULT_RATE_HZ = 10.0


@dataclass(frozen=True)
class LabelledFrame:
    """One frame: RGB uint8 [H, W, 3], and labels uint8 [H, W] where it has ground truth."""

    stamp_ns: int
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None


class Sequence(Protocol):
    """Frames in temporal order, read anew at each call of `frames`; label values name objects."""

    @property
    def name(self) -> str: ...

    @property
    def label_names(self) -> Mapping[int, str]: ...

    def frames(self) -> Iterator[LabelledFrame]: ...


@dataclass(frozen=True)
class ImageFolderSequence:
    """Images of one folder in the order of the number in their names, with label images of the same number.

    A frame's stamp is its number / `rate_hz`. Frames without a label image are tracked and not scored.
    """

    name: str
    images: Path
    labels: Path | None
    label_names: Mapping[int, str] = field(default_factory=dict)
    rate_hz: float = DEFAULT_RATE_HZ
    prompt_area: float = 0.0
    """Share of the image that an object covers when it is prompted; 0 is one pixel."""
    true_labels: Container[int] | None = None
    """Numbers of the frames whose label images are the truth; None: all are."""

    def paths(self) -> list[tuple[int, Path, Path | None]]:
        """(frame number, image, label image or None) of each frame, in order.

        Raises:
            FileNotFoundError: a folder is missing or holds no image.
            ValueError: a file name has no number, or two have the same.
        """
        images = numbered_files(self.images, IMAGE_SUFFIXES)
        labels = numbered_files(self.labels, frozenset({".png"})) if self.labels else {}
        truth = images if self.true_labels is None else self.true_labels
        return [
            (number, path, labels.get(number) if number in truth else None) for number, path in images.items()
        ]

    def frames(self) -> Iterator[LabelledFrame]:
        """Each frame in order; raises ValueError for unreadable images and for labels of another size."""
        for number, image_path, label_path in self.paths():
            image = read_rgb(image_path)
            labels = read_labels(label_path) if label_path else None
            if labels is not None and labels.shape != image.shape[:2]:
                raise ValueError(
                    f"{label_path} is {labels.shape} and {image_path} is {image.shape[:2]} pixels"
                )
            yield LabelledFrame(round(number * 1_000_000_000 / self.rate_hz), image, labels)


def find_folder_sequences(
    path: Path, labels: Path | None = None, rate_hz: float = DEFAULT_RATE_HZ
) -> list[ImageFolderSequence]:
    """The sequences under a folder, in the order of their names.

    Known layouts: a video of the project's own layout, or a folder with some at any depth; a data set root or any
    folder below its image tree, for `img` beside `annot` (vocal folds) and `JPEGImages` beside `Annotations` (DAVIS);
    or one folder of images, with its label folder given.

    Raises:
        FileNotFoundError: no folder with images is there, or none whose label folder exists.
    """
    if labels is not None:
        return [ImageFolderSequence(path.name, path, labels, rate_hz=rate_hz)]
    videos = [read_video(folder) for folder in find_videos(path)]
    if videos:
        return _converted_sequences(path, videos)
    for image_tree, label_tree, names in (
        ("img", "annot", VOCALFOLDS_CLASSES),
        ("JPEGImages", "Annotations", None),
    ):
        found = _sequences_in_layout(path, image_tree, label_tree, names, rate_hz)
        if found:
            return found
    raise FileNotFoundError(
        f"no sequence with ground truth under {path}: expected img/ beside annot/, "
        "JPEGImages/ beside Annotations/, folders with video.json, or a folder of images with --ground-truth for its "
        "label images"
    )


def _converted_sequences(root: Path, videos: list[VideoFolder]) -> list[ImageFolderSequence]:
    """Videos of the project's own layout. Stills are left out: there is nothing to follow.

    What a model has made (`data/provenance.py`) is no ground truth: of propagated videos only the label images that are
    all by hand are scored against.

    Raises:
        ValueError: there are stills only.
    """
    found = [
        ImageFolderSequence(
            video.path.relative_to(root).as_posix() if video.path != root else video.name,
            video.path / "frames",
            video.path / "masks",
            video.facts.names,
            video.facts.frame_rate,
            video.facts.prompt_area,
            _true_labels(video),
        )
        for video in videos
        if not video.facts.stills
    ]
    if not found:
        raise ValueError(f"{root} holds stills only, on which nothing can be followed")
    return found


def _true_labels(video: VideoFolder) -> Container[int]:
    provenance = read_provenance(video)
    return frozenset(number for number in provenance.origins if provenance.complete_by_hand(number))


def read_labels(path: Path) -> NDArray[np.uint8]:
    """A label image as uint8 [H, W]; a paletted PNG gives its indices.

    Raises:
        ValueError: the image has colours instead of one value per pixel, or a value above 255, or cannot be read.
    """
    try:
        labels = read_index(path)
    except OSError as error:
        raise ValueError(f"{path} is no label image: {error}") from None
    if labels.size and int(labels.max()) > 255:
        raise ValueError(f"{path} has the id {int(labels.max())}; objects with ids up to 255 are followed")
    return labels.astype(np.uint8)


def _sequences_in_layout(
    path: Path, image_tree: str, label_tree: str, names: Mapping[int, str] | None, rate_hz: float
) -> list[ImageFolderSequence]:
    """Leaf folders with images at or below `path`, where the parallel folder in the label tree exists."""
    parts = path.resolve().parts
    if image_tree in parts:
        depth = len(parts) - 1 - parts[::-1].index(image_tree)
        root, start = Path(*parts[:depth]), path.resolve()
    else:
        root, start = path.resolve(), path.resolve() / image_tree
    found = []
    for folder in [start, *sorted(start.rglob("*"))] if start.is_dir() else []:
        below = folder.relative_to(root / image_tree)
        labels = root / label_tree / below
        if (
            folder.is_dir()
            and labels.is_dir()
            and any(file.suffix.lower() in IMAGE_SUFFIXES for file in folder.iterdir())
        ):
            name = below.as_posix() if below.parts else root.name
            plain = ImageFolderSequence(name, folder, labels, names or {255: folder.name}, rate_hz)
            found.append(_with_objects(plain, labels / OBJECTS_FILE))
    return found


def _with_objects(sequence: ImageFolderSequence, path: Path) -> ImageFolderSequence:
    """The sequence with what its objects.json says, unchanged where it has none.

    Raises:
        ValueError: the file is not one that `sam2s data synth` writes.
    """
    if not path.is_file():
        return sequence
    try:
        facts = json.loads(path.read_text())
        return replace(
            sequence,
            label_names={int(item["id"]): str(item["name"]) for item in facts["objects"]},
            rate_hz=float(facts["fps"]),
            prompt_area=float(facts["prompt_area"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not describe objects as `sam2s data synth` does: {error!r}") from None


def numbered_files(folder: Path, suffixes: frozenset[str]) -> dict[int, Path]:
    """Files of the folder by the last number in their names, in increasing order.

    Raises:
        FileNotFoundError: it is no folder, or holds no such file.
        ValueError: a name has no number, or two have the same.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    files: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes:
            continue
        numbers = re.findall(r"\d+", path.stem)
        if not numbers:
            raise ValueError(f"{path} has no frame number in its name")
        other = files.setdefault(int(numbers[-1]), path)
        if other is not path:
            raise ValueError(f"{other} and {path} have the same frame number")
    if not files:
        raise FileNotFoundError(f"{folder} holds no image")
    return dict(sorted(files.items()))
