"""Annotation files of COCO and of YouTube-VIS, which adds videos to it, as labels of frames.

What is wrong with the file as a whole raises; what is wrong with one image, annotation or video leaves out the frames
that it concerns, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2s_ros.data.json_files import entry, read_object, require_unique
from sam2s_ros.data.labels import BrokenLabels, CocoLabels, CocoSegment, Label, LabelFile
from sam2s_ros.data.sources import natural


@dataclass(frozen=True)
class CocoFrame:
    """An image of a COCO file and its labels."""

    name: str
    """File name, as the file has it."""
    labels: LabelFile


def coco_frames(path: Path, meanings: Mapping[str, Label], left_out: list[str]) -> list[CocoFrame]:
    """The images of a COCO file in natural order; boxes without a segmentation are left out.

    What belongs to no image goes to `left_out`; an image with an annotation that cannot be understood has labels that
    say so when they are read.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no COCO file, has a class that `meanings` (lower-case names) lacks, or an id twice.
    """
    raw = read_object(path)
    images, annotations = _rows(raw, "images", path), _rows(raw, "annotations", path)
    classes = {key: name.lower() for key, name in _categories(raw, path).items()}
    unknown = sorted(set(classes.values()) - set(meanings))
    if unknown:
        raise ValueError(f"{path}: no meaning is known for the classes {', '.join(unknown)}")
    names: dict[int, str] = {}
    sizes: dict[int, tuple[int, int] | None] = {}
    dropped: set[str] = set()
    for number, image in enumerate(images, start=1):
        where = f"{path}: image {number} of its list"
        try:
            key, name = entry(image, "id", int, where), entry(image, "file_name", str, where)
            size = _size(image, where)
        except ValueError as error:
            left_out.append(f"{error}; the image is left out")
            dropped.add(repr(image.get("id")))
            continue
        names[key], sizes[key] = name, size
    require_unique(names.values(), f"{path}: images")
    segments: dict[int, list[CocoSegment]] = {}
    broken: dict[int, str] = {}
    for number, one in enumerate(annotations, start=1):
        where = f"{path}: annotation {one.get('id', number)}"
        key = one.get("image_id")
        if repr(key) in dropped:
            continue
        if type(key) is not int or key not in names:
            left_out.append(f"{where} is of the image {key!r}, which is not among its images")
            continue
        try:
            kind = entry(one, "category_id", int, where)
            if kind not in classes:
                raise ValueError(f"{where} has the category {kind}, which is not among its categories")
        except ValueError as error:
            broken.setdefault(key, f"{error}; {names[key]} is left out")
            continue
        if one.get("segmentation"):
            label = meanings[classes[kind]]
            name = f"annotation {one.get('id', number)}"
            segments.setdefault(key, []).append(CocoSegment(label, one["segmentation"], name=name))
    return [
        CocoFrame(
            name,
            BrokenLabels(path, broken[key])
            if key in broken
            else CocoLabels(path, tuple(segments.get(key, ())), name, sizes[key]),
        )
        for key, name in sorted(names.items(), key=lambda one: natural(Path(one[1])))
    ]


@dataclass(frozen=True)
class CocoVideo:
    """A video of a YouTube-VIS file: its name, and its frames in order."""

    name: str
    frames: tuple[CocoFrame, ...]


def coco_videos(path: Path, named: Callable[[str], Label], left_out: list[str]) -> list[CocoVideo]:
    """The videos of a YouTube-VIS file, whose classes `named` makes labels of.

    A video that cannot be understood, or that has an annotation that cannot, goes to `left_out`, as does an annotation
    without a video.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no file of YouTube-VIS, or has an id twice.
    """
    raw = read_object(path)
    videos, annotations = _rows(raw, "videos", path), _rows(raw, "annotations", path)
    classes = {key: named(name) for key, name in _categories(raw, path).items()}
    known = {video.get("id") for video in videos if type(video.get("id")) is int}
    own: dict[int, list[tuple[int, dict[str, Any]]]] = {}
    for number, one in enumerate(annotations, start=1):
        key = one.get("video_id")
        if type(key) is not int or key not in known:
            left_out.append(
                f"{path}: annotation {one.get('id', number)} is of the video {key!r}, which is not among its videos"
            )
        else:
            own.setdefault(key, []).append((number, one))
    found = []
    for number, video in enumerate(videos, start=1):
        try:
            found.append(_video(video, f"{path}: video {video.get('id', number)}", path, own, classes))
        except ValueError as error:
            left_out.append(f"{error}; the video is left out")
    return found


def _video(
    video: dict[str, Any],
    where: str,
    path: Path,
    own: Mapping[int, list[tuple[int, dict[str, Any]]]],
    classes: Mapping[int, Label],
) -> CocoVideo:
    key, names = entry(video, "id", int, where), entry(video, "file_names", list, where)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"{where}: 'file_names' are no names of files")
    size = _size(video, where)
    segments: list[list[CocoSegment]] = [[] for _ in names]
    ids: dict[str, object] = {}
    for number, one in own.get(key, ()):
        own_id = entry(one, "id", (int, str), f"{where}: annotation {number} of its list")
        name = f"annotation {own_id}"
        if name in ids:
            raise ValueError(
                f"{where}: the annotations {ids[name]!r} and {own_id!r} have one id; give each object its own"
            )
        ids[name] = own_id
        kind, parts = entry(one, "category_id", int, f"{where}: {name}"), one.get("segmentations")
        if kind not in classes:
            raise ValueError(f"{where}: {name} has the category {kind}, which is not among its categories")
        if not isinstance(parts, list) or len(parts) != len(names):
            count = len(parts) if isinstance(parts, list) else "no"
            raise ValueError(f"{where}: {name} has {count} segmentations for {len(names)} frames")
        for frame, part in enumerate(parts):
            if part:
                segments[frame].append(CocoSegment(classes[kind], part, name, name))
    folder = Path(names[0]).parent.as_posix()
    frames = [
        CocoFrame(name, CocoLabels(path, tuple(found), name, size))
        for name, found in zip(names, segments, strict=True)
    ]
    return CocoVideo(folder if folder != "." else str(key), tuple(frames))


def _size(one: dict[str, Any], where: str) -> tuple[int, int] | None:
    """(height, width) of an image or a video, where the file gives both."""
    if "width" not in one or "height" not in one:
        return None
    return entry(one, "height", int, where), entry(one, "width", int, where)


def _categories(raw: dict[str, Any], path: Path) -> dict[int, str]:
    rows = _rows(raw, "categories", path)
    where = f"{path}: a category"
    return {entry(one, "id", int, where): entry(one, "name", str, where) for one in rows}


def _rows(raw: dict[str, Any], name: str, path: Path) -> list[dict[str, Any]]:
    """A list of objects whose ids differ."""
    rows = entry(raw, name, list, f"{path}")
    wrong = [number for number, one in enumerate(rows, start=1) if not isinstance(one, dict)]
    if wrong:
        raise ValueError(f"{path}: {name}: number {wrong[0]} is no object ({{...}})")
    require_unique([repr(one["id"]) for one in rows if "id" in one], f"{path}: {name}")
    return rows
