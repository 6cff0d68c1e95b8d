"""Converters of layouts that many data sets share: DAVIS and YouTube-VOS, YouTube-VIS, pairs of images and masks;
and of the Vocal Folds recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sam2s_ros.data.coco_files import coco_videos
from sam2s_ros.data.instrument_bank import bank_kinds
from sam2s_ros.data.json_files import entry, read_object, require_unique
from sam2s_ros.data.labels import (
    MASK_THRESHOLD,
    IndexLabels,
    Label,
    LabelFile,
    MaskLabels,
    tissue,
)
from sam2s_ros.data.sources import DataSet, Planned, each, files, folders, folders_beside, with_numbers
from sam2s_ros.data.video_folder import index_values, load_image
from sam2s_ros.data.video_plan import FramePlan, Unplanned, VideoPlan
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


def plan_davis(root: Path, data_set: DataSet) -> Iterator[Planned]:
    """Videos of DAVIS, of YouTube-VOS, or any other with these trees.

    `JPEGImages` beside `Annotations`, in each a folder per video at any depth, images and label images of one name.
    Ids are those of the label images; an image whose only value is 255 is the mask of one object (DAVIS 2016).
    `meta.json` beside the trees gives categories as YouTube-VOS does; without it an object has no class. Frames
    without a label image are kept. The split is that of the list `ImageSets/*/<split>.txt` with the video's name, else
    that of the folder of the trees (train, valid, test), else unknown.
    Follows the DAVIS packages' README and YouTube-VOS's meta.json (loader: visionml/pytracking, youtubevos).
    """
    for tree in folders(root, "JPEGImages", data_set.layout):
        annotations, said = tree.parent / "Annotations", list[str]()
        categories = _categories(tree.parent / "meta.json", said)
        listed = _davis_lists(tree.parent / "ImageSets", said)
        yield from (Unplanned(text) for text in said)

        def video(
            below: Path,
            tree: Path = tree,
            annotations: Path = annotations,
            categories: Mapping[str, dict[int, str]] = categories,
            listed: Mapping[str, str] = listed,
        ) -> Iterator[Planned]:
            folder, labels = tree / below, annotations / below
            full_size = bool(below.parts) and below.parts[0] in RESOLUTIONS
            if full_size and not labels.is_dir():
                return  # DAVIS labels one of the resolutions that it comes in
            left_out: list[str] = []
            paths = files(labels, (".png",)) if labels.is_dir() else []
            if not paths:
                left_out.append(f"{labels} has no label image: nothing in {folder} is labelled")
            by_name = {path.stem: path for path in paths}
            read = _davis_reader(paths, categories.get(below.name, {}))
            images = files(folder, PICTURES) if folder.is_dir() else []
            frames = [
                FramePlan(number, image, (read(by_name[image.stem]),) if image.stem in by_name else None)
                for number, image in with_numbers(images, left_out)
            ]
            name = "_".join(below.parts[1:] if full_size else below.parts) or tree.parent.name
            split = listed.get(below.name) or _split_named(tree.parent.name)
            yield data_set.video(
                name, split, frames, identities="source", label_files=paths, left_out=left_out
            )

        yield from each(sorted({*_with_images(tree), *_with_images(annotations)}), video)


def _categories(path: Path, left_out: list[str]) -> dict[str, dict[int, str]]:
    """Video -> object -> category, of the `meta.json` of YouTube-VOS; what is wrong in it goes to `left_out`."""
    found: dict[str, dict[int, str]] = {}
    try:
        videos = entry(read_object(path), "videos", dict, f"{path}") if path.exists() else {}
    except (OSError, ValueError) as error:
        left_out.append(f"{error}; objects have no classes")
        return found
    for name, video in videos.items():
        where = f"{path}: video {name}"
        try:
            objects = entry(video, "objects", dict, where)
            wrong = [key for key in objects if not key.isdecimal()]
            if wrong:
                raise ValueError(f"{where} has the object {wrong[0]!r}, which is no number")
            found[name] = {
                int(key): entry(one, "category", str, f"{where}: object {key}")
                for key, one in objects.items()
            }
        except ValueError as error:
            left_out.append(f"{error}; the objects of {name} have no classes")
    return found


def _with_images(tree: Path) -> list[Path]:
    """The folders at or below `tree` that hold images, relative to it."""
    inside = [tree, *(path for path in tree.rglob("*") if path.is_dir())] if tree.is_dir() else []
    return [path.relative_to(tree) for path in inside if files(path, PICTURES)]


def _davis_lists(folder: Path, left_out: list[str]) -> dict[str, str]:
    """Video -> split, of lists such as `2017/train.txt`: a name, or paths of an image and its labels, in a line."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*/*.txt")):
        if split := _split_named(path.stem):
            try:
                lines = path.read_text(encoding="utf-8-sig").split("\n")
            except (OSError, ValueError) as error:
                left_out.append(f"{path} is no list of videos: {error}")
                continue
            for line in filter(str.strip, lines):
                first = Path(line.split()[0])
                name = first.parent.name if first.suffix else first.name
                if found.setdefault(name, split) != split:
                    left_out.append(
                        f"{path} has {name} in {split}, another list in {found[name]}: remove one"
                    )
    return found


def _davis_reader(paths: Sequence[Path], named: Mapping[int, str]) -> Callable[[Path], LabelFile]:
    """Makes the reader of a video's label images: every value is an object, 255 one only where it is alone.

    The first label image that shows anything decides whether it is. One without a palette, where the others have one or
    `named` has the objects, may show only objects that are known from those: else its values are the grey of colours.
    """
    meanings = {value: _named(named.get(value, "")) for value in range(1, VOID)}
    ignored = frozenset({0, VOID})
    palettes: Counter[tuple[int, ...]] = Counter()
    shown: set[int] = set()
    coloured = set(named)
    for path in paths:
        if shown and palettes.total() >= PALETTE_SAMPLES:
            break
        try:
            image = load_image(path)
            values = set(index_values(image, path).ravel().tolist()) - {0}
        except (OSError, ValueError):
            continue  # the frame is reported when it is written
        palettes[tuple(image.getpalette() or ())] += 1
        shown = shown or values
        coloured |= values if image.getpalette() is not None else set()
    if shown == {VOID}:
        meanings, ignored = {VOID: _named("object")}, frozenset({0})
    palette = palettes.most_common(1)[0][0] if palettes else ()
    known = frozenset(coloured) if shown != {VOID} and (palette or named) else None
    return lambda path: IndexLabels(path, meanings, ignored, tracks=True, palette=palette, grey_values=known)


def plan_synth(root: Path, data_set: DataSet) -> Iterator[Planned]:
    """Surgeries that `sam2s data synth` rendered: DAVIS's trees, with `objects.json` beside the label images.

    Classes, frame rate, split and the size from which on an object is prompted are those of that file.
    Follows sam2s_ros/data/write_videos.py.
    """
    trees = folders(root, "JPEGImages", data_set.layout)
    found = [folder for tree in trees for folder in sorted(tree.iterdir()) if folder.is_dir()]
    yield from each(found, lambda folder: [_synth_video(folder, data_set)])


def _synth_video(folder: Path, data_set: DataSet) -> VideoPlan:
    labels = folder.parents[1] / "Annotations" / folder.name
    path = labels / OBJECTS_FILE
    try:
        facts = read_object(path)
        meanings: dict[int, Label] = {}
        objects = entry(facts, "objects", list, f"{path}")
        for number, one in enumerate(objects, start=1):
            where = f"{path}: object {number}"
            meanings[entry(one, "id", int, where)] = _named(entry(one, "class", str, where))
        require_unique([one["id"] for one in objects], f"{path}: objects")
        rate, area = (entry(facts, name, float, f"{path}") for name in ("fps", "prompt_area"))
        split = _split_named(entry(facts, "split", str, f"{path}"))
        pictures = entry(facts, "backgrounds", (str, type(None)), f"{path}")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{error}; so it is none of `sam2s data synth`: convert videos of other origin as `davis`"
        ) from None
    left_out: list[str] = []
    frames = [
        FramePlan(number, image, (IndexLabels(labels / f"{image.stem}.png", meanings, tracks=True),))
        for number, image in with_numbers(files(folder), left_out)
    ]
    plan = data_set.video(
        folder.name,
        split,
        frames,
        identities="source",
        frame_rate=rate,
        label_files=files(labels, (".png",)),
        left_out=left_out,
    )
    licence = f"that of the pictures in {pictures}" if pictures else data_set.licence
    return replace(plan, prompt_area=area, licence=licence)


def _named(name: str) -> Label:
    """A class by its name: of the bank if it is a class of instruments there."""
    kinds = bank_kinds()
    return Label(name, name if name in kinds else "", kinds.get(name, "other"))


def _split_named(name: str) -> str:
    """The split that a folder, a list or a file is named after; "" where it is none."""
    return SPLIT_WORDS.get(name.lower(), "")


def plan_ytvis(root: Path, data_set: DataSet) -> Iterator[Planned]:
    """Videos of YouTube-VIS, or of any COCO file with videos.

    `*.json` with `videos` (id, file_names), `categories` and `annotations` (video_id, category_id, `segmentations`, one
    per frame or null); images at their file names below `JPEGImages` beside the file, or beside the file itself. An
    annotation is one object. The split is the file's name (train, valid, test), else unknown. Follows detectron2's and
    labelformat's readers of YTVIS files.
    """
    found = [path for path in sorted(root.rglob("*.json")) if path.is_file()]

    def videos(path: Path) -> Iterator[Planned]:
        if "videos" not in read_object(path):
            return  # another file of the data set
        images, left_out = path.parent / "JPEGImages", list[str]()
        base = images if images.is_dir() else path.parent
        for video in coco_videos(path, _named, left_out):
            frames = [
                FramePlan(number, base / frame.name, (frame.labels,))
                for number, frame in enumerate(video.frames)
            ]
            yield data_set.video(video.name, _split_named(path.stem), frames, identities="source")
        yield from (Unplanned(text) for text in left_out)

    planned = list(each(found, videos))
    if not planned:
        raise FileNotFoundError(f"nothing to convert under {root}: expected {data_set.layout}")
    yield from planned


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


def plan_vocalfolds(root: Path, data_set: DataSet) -> Iterator[Planned]:
    """Vocal Folds: `img/patientP/seqS` beside `annot/patientP/seqS`, label images with values 0 (void) to 6.

    A class is one object of a sequence. Patient 1 is test, patient 2 train but for sequence 5, which is validation, as
    in this project. The recordings' rate is not stated. Follows the README of imesluh/vocalfolds.
    """

    def video(folder: Path) -> Iterator[Planned]:
        patient, left_out = folder.parent.name, list[str]()
        labels = folder.parents[2] / "annot" / patient / folder.name
        paths = files(labels, (".png",))
        numbers = dict(with_numbers(paths, left_out))
        frames = []
        for number, image in with_numbers(files(folder), left_out, _first_number):
            # a label image that is missing is reported when it is read
            label = numbers.get(number, labels / f"{number:04d}.png")
            frames.append(FramePlan(number, image, (IndexLabels(label, VOCALFOLDS),)))
        split = VOCALFOLDS_SPLITS.get(patient, "train")
        if split == "train" and folder.name == VOCALFOLDS_VALIDATION:
            split = "val"
        yield data_set.video(f"{patient}_{folder.name}", split, frames, label_files=paths, left_out=left_out)

    def images_of(labels: Path) -> Path:
        return labels.parents[2] / "img" / labels.parent.name / labels.name

    found, lost = folders_beside(root, "img/patient*/seq*", "annot/patient*/seq*", images_of, data_set.layout)
    yield from lost
    yield from each(found, video)


def _first_number(path: Path) -> int:
    """The number that a file's name begins with (0003_l.jpg)."""
    digits = path.stem.split("_")[0]
    if not digits.isdigit():
        raise ValueError(f"{path}: the name of a frame begins with its number")
    return int(digits)


def plan_pairs(root: Path, data_set: DataSet) -> Iterator[Planned]:
    """Any set of stills: `images` beside `masks`, a mask of the same name or with `_mask` behind it, above 127 inside.

    For data sets whose own layout no converter knows; the class is unknown. Follows this description and no data set.
    """
    label, left_out = Label("object", kind="other"), list[str]()
    masks = root / "masks"
    pairs = pair_masks(root / "images", masks, label, left_out)
    yield from data_set.stills("train", pairs, files(masks), left_out)


def pair_masks(
    images: Path, masks: Path, label: Label, left_out: list[str]
) -> list[tuple[Path, tuple[LabelFile, ...]]]:
    """Images with the masks of the same name, or of that name with `_mask` behind it.

    An image without a mask is paired with the file that is missing, which is reported when it is written; the second
    of two images of one name goes to `left_out`.
    """
    named = {path.stem: path for path in reversed(files(masks))}
    pairs: dict[str, tuple[Path, tuple[LabelFile, ...]]] = {}
    for image in files(images):
        if image.stem in pairs:
            left_out.append(f"{image} has the name of {pairs[image.stem][0]}: remove or rename one")
            continue
        mask = named.get(f"{image.stem}_mask") or named.get(image.stem) or masks / f"{image.stem}.png"
        pairs[image.stem] = (image, (MaskLabels(mask, label, threshold=MASK_THRESHOLD),))
    return list(pairs.values())
