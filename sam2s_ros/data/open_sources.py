"""Converters of layouts that many data sets share: DAVIS and YouTube-VOS, YouTube-VIS, pairs of images and masks;
and of the Vocal Folds recordings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sam2s_ros.data.convert import FramePlan, VideoPlan
from sam2s_ros.data.instrument_bank import bank_kinds
from sam2s_ros.data.labels import (
    MASK_THRESHOLD,
    CocoLabels,
    CocoSegment,
    IndexLabels,
    Label,
    LabelFile,
    MaskLabels,
    tissue,
)
from sam2s_ros.data.sources import DataSet, files, folders, last_number
from sam2s_ros.data.video_folder import read_index
from sam2s_ros.data.write_videos import OBJECTS_FILE

RESOLUTIONS = ("480p", "1080p", "Full-Resolution")
"""Folders of DAVIS between the tree and the videos."""
VOID = 255
"""Of label images of DAVIS with several objects: pixels that are not to be scored."""


def plan_davis(root: Path, data_set: DataSet) -> Iterator[VideoPlan]:
    """Videos of DAVIS, of YouTube-VOS, of `sam2s data synth`, or any other with these trees.

    `JPEGImages` beside `Annotations`, in each a folder per video at any depth, images and label images of one name.
    Ids are those of the label images; an image whose only value is 255 is the mask of one object (DAVIS 2016).
    `meta.json` beside the trees gives categories as YouTube-VOS does, `objects.json` beside the label images as
    `sam2s data synth` does; without either an object has no class. Frames without a label image are kept.
    Follows the DAVIS packages' README and YouTube-VOS's meta.json (loader: visionml/pytracking, youtubevos).
    """
    trees = folders(root, "JPEGImages", data_set.layout)
    for tree in trees:
        annotations = tree.parent / "Annotations"
        meta = _read_json(tree.parent / "meta.json").get("videos", {})
        for folder in [tree, *sorted(path for path in tree.rglob("*") if path.is_dir())]:
            images = files(folder, (".jpg", ".jpeg", ".png"))
            labels = annotations / folder.relative_to(tree)
            if not images or not labels.is_dir():
                continue
            parts = folder.relative_to(tree).parts
            name = "_".join(parts[1:] if parts and parts[0] in RESOLUTIONS else parts) or tree.parent.name
            facts = _read_json(labels / OBJECTS_FILE)
            named = {int(one["id"]): str(one["class"]) for one in facts.get("objects", ())}
            for key, entry in meta.get(folder.name, {}).get("objects", {}).items():
                named[int(key)] = str(entry.get("category", ""))
            paths = {path.stem: path for path in files(labels, (".png",))}
            meanings = _davis_meanings(paths.values(), named)
            rate = float(facts["fps"]) if "fps" in facts else None
            frames = [
                FramePlan(last_number(image), image, _davis_labels(paths.get(image.stem), meanings))
                for image in images
            ]
            split = str(facts.get("split", tree.parent.name))
            yield data_set.video(
                name,
                _split_named(split),
                frames,
                identities="source",
                frame_rate=rate,
            )


def _davis_labels(path: Path | None, meanings: Mapping[int, Label]) -> tuple[LabelFile, ...] | None:
    if path is None:
        return None
    ignored = frozenset({0}) if VOID in meanings else frozenset({0, VOID})
    return (IndexLabels(path, meanings, ignored, tracks=True),)


def _davis_meanings(paths: Any, named: Mapping[int, str]) -> dict[int, Label]:
    """Label value -> meaning: those with a class, and any other id; 255 is an object where it is alone."""
    meanings = {value: _named(named.get(value, "")) for value in range(1, VOID)}
    first = next(iter(paths), None)
    if first is not None:
        try:
            values = set(read_index(first).ravel().tolist()) - {0}
        except (OSError, ValueError):
            values = set()  # the frame is reported when it is written
        if values == {VOID}:
            meanings = {VOID: _named("object")}
    return meanings


def _named(name: str) -> Label:
    """A class by its name: of the bank if it is a class of instruments there."""
    kinds = bank_kinds()
    return Label(name, name if name in kinds else "", kinds.get(name, "other"))


def _split_named(name: str) -> str:
    """`train`, `val`, `test` after a folder's name, `train` for any other."""
    return {"valid": "val", "val": "val", "validation": "val", "test": "test"}.get(name.lower(), "train")


def plan_ytvis(root: Path, data_set: DataSet) -> Iterator[VideoPlan]:
    """Videos of YouTube-VIS, or of any COCO file with videos.

    `*.json` with `videos` (id, file_names), `categories` and `annotations` (video_id, category_id, `segmentations`, one
    per frame or null); images at their file names below `JPEGImages` beside the file, or beside the file itself. An
    annotation is one object. Follows detectron2's and labelformat's readers of YTVIS files.
    """
    found = [path for path in sorted(root.rglob("*.json")) if "videos" in _read_json(path)]
    if not found:
        raise FileNotFoundError(f"nothing to convert under {root}: expected {data_set.layout}")
    for path in found:
        raw = _read_json(path)
        try:
            classes = {int(one["id"]): _named(str(one["name"])) for one in raw["categories"]}
            annotations: dict[int, list[Mapping[str, Any]]] = {}
            for annotation in raw["annotations"]:
                annotations.setdefault(int(annotation["video_id"]), []).append(annotation)
            images = path.parent / "JPEGImages"
            base = images if images.is_dir() else path.parent
            for video in raw["videos"]:
                names = [str(name) for name in video["file_names"]]
                own = annotations.get(int(video["id"]), [])
                frames = [
                    FramePlan(number, base / name, (CocoLabels(path, _segments(own, number, classes)),))
                    for number, name in enumerate(names)
                ]
                name = Path(names[0]).parent.as_posix() if names else str(video["id"])
                yield data_set.video(name, _split_named(path.stem), frames, identities="source")
        except (IndexError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no file of YouTube-VIS: {error!r}") from None


def _segments(
    annotations: list[Mapping[str, Any]], frame: int, classes: Mapping[int, Label]
) -> tuple[CocoSegment, ...]:
    return tuple(
        CocoSegment(classes[int(one["category_id"])], one["segmentations"][frame], f"annotation {one['id']}")
        for one in annotations
        if one["segmentations"][frame]
    )


VOCALFOLDS = {
    1: tissue("vocal folds"),
    2: tissue("other tissue"),
    3: Label("glottal space", kind="other", separate=False),
    4: tissue("pathology"),
    5: Label("surgical tool", separate=False),
    6: Label("intubation tube", separate=False),
}
VOCALFOLDS_SPLITS = {"patient1": "test", "patient2": "train"}
VOCALFOLDS_VALIDATION = "seq5"


def plan_vocalfolds(root: Path, data_set: DataSet) -> Iterator[VideoPlan]:
    """Vocal Folds: `img/patientP/seqS` beside `annot/patientP/seqS`, label images with values 0 (void) to 6.

    A class is one object of a sequence. Patient 1 is test, patient 2 train but for sequence 5, which is validation, as
    in this project. The recordings' rate is not stated. Follows the README of imesluh/vocalfolds.
    """
    for folder in folders(root, "img/patient*/seq*", data_set.layout):
        patient = folder.parent.name
        labels = folder.parents[2] / "annot" / patient / folder.name
        numbers = {last_number(path): path for path in files(labels, (".png",))}
        frames = [
            FramePlan(number, image, (IndexLabels(numbers[number], VOCALFOLDS),))
            for number, image in sorted((_first_number(path), path) for path in files(folder))
            if number in numbers
        ]
        split = VOCALFOLDS_SPLITS.get(patient, "train")
        if split == "train" and folder.name == VOCALFOLDS_VALIDATION:
            split = "val"
        yield data_set.video(f"{patient}_{folder.name}", split, frames)


def _first_number(path: Path) -> int:
    """The number that a file's name begins with (0003_l.jpg)."""
    digits = path.stem.split("_")[0]
    if not digits.isdigit():
        raise ValueError(f"{path}: the name of a frame begins with its number")
    return int(digits)


def plan_pairs(root: Path, data_set: DataSet) -> Iterator[VideoPlan]:
    """Any set of stills: `images` beside `masks`, a mask of the same name or with `_mask` behind it, above 127 inside.

    For data sets whose own layout no converter knows; the class is unknown.
    """
    label = Label("object", kind="other")
    yield from data_set.stills("train", pair_masks(root / "images", root / "masks", label))


def pair_masks(
    images: Path, masks: Path, label: Label, threshold: int = MASK_THRESHOLD
) -> list[tuple[Path, tuple[LabelFile, ...]]]:
    """Images with the masks of the same name, or of that name with `_mask` behind it.

    An image without a mask is paired with the file that is missing, which is reported when it is written.
    """
    named = {path.stem: path for path in files(masks)}
    pairs: list[tuple[Path, tuple[LabelFile, ...]]] = []
    for image in files(images):
        mask = named.get(f"{image.stem}_mask") or named.get(image.stem) or masks / f"{image.stem}.png"
        pairs.append((image, (MaskLabels(mask, label, threshold=threshold),)))
    return pairs


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object; {} where there is no file or it holds no object. ValueError names a file that is no JSON."""
    if not path.is_file():
        return {}
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    return raw if isinstance(raw, dict) else {}
