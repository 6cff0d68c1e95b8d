"""Converters of layouts that many data sets share: DAVIS and YouTube-VOS, YouTube-VIS, pairs of images and masks;
and of the Vocal Folds recordings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
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
from sam2s_ros.data.sources import DataSet, files, folders, last_number, require_unique
from sam2s_ros.data.video_folder import index_values, load_image
from sam2s_ros.data.write_videos import OBJECTS_FILE

RESOLUTIONS = ("480p", "1080p", "Full-Resolution")
"""Folders of DAVIS between the tree and the videos."""
VOID = 255
"""Of label images of DAVIS with several objects: pixels that are not to be scored."""
PICTURES = (".jpg", ".jpeg", ".png")
PALETTE_SAMPLES = 5
"""Label images of a video whose palettes are compared to find the one that it has."""
SPLIT_WORDS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
}  # fmt: skip


def plan_davis(root: Path, data_set: DataSet) -> Iterator[VideoPlan]:
    """Videos of DAVIS, of YouTube-VOS, or any other with these trees.

    `JPEGImages` beside `Annotations`, in each a folder per video at any depth, images and label images of one name.
    Ids are those of the label images; an image whose only value is 255 is the mask of one object (DAVIS 2016).
    `meta.json` beside the trees gives categories as YouTube-VOS does; without it an object has no class. Frames
    without a label image are kept. The split is that of the list `ImageSets/*/<split>.txt` with the video's name, else
    that of the folder of the trees (train, valid, test), else unknown.
    Follows the DAVIS packages' README and YouTube-VOS's meta.json (loader: visionml/pytracking, youtubevos).
    """
    for tree in folders(root, "JPEGImages", data_set.layout):
        annotations = tree.parent / "Annotations"
        meta = _read_json(tree.parent / "meta.json").get("videos", {})
        listed = _davis_lists(tree.parent / "ImageSets")
        for below in sorted({*_with_images(tree), *_with_images(annotations)}):
            folder, labels = tree / below, annotations / below
            full_size = bool(below.parts) and below.parts[0] in RESOLUTIONS
            if full_size and not labels.is_dir():
                continue  # DAVIS labels one of the resolutions that it comes in
            entries = meta.get(below.name, {}).get("objects", {})
            named = {int(key): str(entry.get("category", "")) for key, entry in entries.items()}
            paths = files(labels, (".png",)) if labels.is_dir() else []
            by_name = {path.stem: path for path in paths}
            read = _davis_reader(paths, named)
            frames = [
                FramePlan(
                    last_number(image), image, (read(by_name[image.stem]),) if image.stem in by_name else None
                )
                for image in (files(folder, PICTURES) if folder.is_dir() else ())
            ]
            name = "_".join(below.parts[1:] if full_size else below.parts) or tree.parent.name
            split = listed.get(below.name) or _split_named(tree.parent.name)
            yield data_set.video(name, split, frames, identities="source", label_files=paths)


def _with_images(tree: Path) -> list[Path]:
    """The folders at or below `tree` that hold images, relative to it."""
    inside = [tree, *(path for path in tree.rglob("*") if path.is_dir())] if tree.is_dir() else []
    return [path.relative_to(tree) for path in inside if files(path, PICTURES)]


def _davis_lists(folder: Path) -> dict[str, str]:
    """Video -> split, of lists such as `2017/train.txt`: a name, or paths of an image and its labels, in a line."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*/*.txt")):
        if split := _split_named(path.stem):
            for line in path.read_text(encoding="utf-8").split("\n"):
                first = Path(line.split()[0]) if line.split() else Path()
                found[first.parent.name if first.suffix else first.name] = split
    return found


def _davis_reader(paths: Sequence[Path], named: Mapping[int, str]) -> Callable[[Path], LabelFile]:
    """Makes the reader of a video's label images: every value is an object, 255 one only where it is alone."""
    meanings = {value: _named(named.get(value, "")) for value in range(1, VOID)}
    ignored = frozenset({0, VOID})
    palettes: Counter[tuple[int, ...]] = Counter()
    for number, path in enumerate(paths[:PALETTE_SAMPLES]):
        try:
            image = load_image(path)
            values = set(index_values(image, path).ravel().tolist()) - {0}
        except (OSError, ValueError):
            continue  # the frame is reported when it is written
        palettes[tuple(image.getpalette() or ())] += 1
        if number == 0 and values == {VOID}:
            meanings, ignored = {VOID: _named("object")}, frozenset({0})
    palette = palettes.most_common(1)[0][0] if palettes else ()
    return lambda path: IndexLabels(path, meanings, ignored, tracks=True, palette=palette)


def plan_synth(root: Path, data_set: DataSet) -> Iterator[VideoPlan]:
    """Surgeries that `sam2s data synth` rendered: DAVIS's trees, with `objects.json` beside the label images.

    Classes, frame rate, split and the size from which on an object is prompted are those of that file.
    Follows sam2s_ros/data/write_videos.py.
    """
    for tree in folders(root, "JPEGImages", data_set.layout):
        for folder in sorted(path for path in tree.iterdir() if path.is_dir()):
            labels = tree.parent / "Annotations" / folder.name
            facts = _read_json(labels / OBJECTS_FILE)
            try:
                require_unique([one["id"] for one in facts["objects"]], f"{labels / OBJECTS_FILE}: objects")
                meanings = {int(one["id"]): _named(str(one["class"])) for one in facts["objects"]}
                rate, area = float(facts["fps"]), float(facts["prompt_area"])
                split, pictures = _split_named(str(facts["split"])), facts["backgrounds"]
            except (KeyError, TypeError) as error:
                raise ValueError(
                    f"{labels / OBJECTS_FILE} is not one of `sam2s data synth` ({error!r} is missing): convert videos "
                    "of other origin as `davis`"
                ) from None
            frames = [
                FramePlan(
                    last_number(image),
                    image,
                    (IndexLabels(labels / f"{image.stem}.png", meanings, tracks=True),),
                )
                for image in files(folder)
            ]
            plan = data_set.video(
                folder.name,
                split,
                frames,
                identities="source",
                frame_rate=rate,
                label_files=files(labels, (".png",)),
            )
            licence = f"that of the pictures in {pictures}" if pictures else data_set.licence
            yield replace(plan, prompt_area=area, licence=licence)


def _named(name: str) -> Label:
    """A class by its name: of the bank if it is a class of instruments there."""
    kinds = bank_kinds()
    return Label(name, name if name in kinds else "", kinds.get(name, "other"))


def _split_named(name: str) -> str:
    """The split that a folder, a list or a file is named after; "" where it is none."""
    return SPLIT_WORDS.get(name.lower(), "")


def plan_ytvis(root: Path, data_set: DataSet) -> Iterator[VideoPlan]:
    """Videos of YouTube-VIS, or of any COCO file with videos.

    `*.json` with `videos` (id, file_names), `categories` and `annotations` (video_id, category_id, `segmentations`, one
    per frame or null); images at their file names below `JPEGImages` beside the file, or beside the file itself. An
    annotation is one object. The split is the file's name (train, valid, test), else unknown. Follows detectron2's and
    labelformat's readers of YTVIS files.
    """
    found = [path for path in sorted(root.rglob("*.json")) if "videos" in _read_json(path)]
    if not found:
        raise FileNotFoundError(f"nothing to convert under {root}: expected {data_set.layout}")
    for path in found:
        raw = _read_json(path)
        try:
            for entries in ("videos", "categories", "annotations"):
                require_unique([one["id"] for one in raw[entries]], f"{path}: {entries}")
            classes = {int(one["id"]): _named(str(one["name"])) for one in raw["categories"]}
            annotations: dict[int, list[Mapping[str, Any]]] = {}
            for annotation in raw["annotations"]:
                annotations.setdefault(int(annotation["video_id"]), []).append(annotation)
            unknown = sorted(set(annotations) - {int(video["id"]) for video in raw["videos"]})
            if unknown:
                raise ValueError(
                    f"{path}: annotations name the video {unknown[0]}, which is not among its videos"
                )
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
        frames = []
        for number, image in sorted((_first_number(path), path) for path in files(folder)):
            label = numbers.get(
                number, labels / f"{number:04d}.png"
            )  # one that is missing is reported when it is read
            frames.append(FramePlan(number, image, (IndexLabels(label, VOCALFOLDS),)))
        split = VOCALFOLDS_SPLITS.get(patient, "train")
        if split == "train" and folder.name == VOCALFOLDS_VALIDATION:
            split = "val"
        yield data_set.video(f"{patient}_{folder.name}", split, frames, label_files=files(labels, (".png",)))


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
    masks = root / "masks"
    yield from data_set.stills("train", pair_masks(root / "images", masks, label), files(masks))


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
