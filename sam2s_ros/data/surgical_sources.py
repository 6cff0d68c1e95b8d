"""Converters of the surgical data sets that SA-SV is made of, each from the layout in which it is distributed.

A converter plans videos and opens no image. What it follows is the public code or document in its last sentence;
facts of the format were taken from there, no code. Class names are those of `config/instruments.yaml` where it has one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sam2s_ros.data.convert import Crop, FramePlan, VideoPlan
from sam2s_ros.data.labels import (
    MASK_THRESHOLD,
    CocoLabels,
    CocoSegment,
    ColourLabels,
    IndexLabels,
    Label,
    LabelFile,
    LabelmeLabels,
    MaskLabels,
    instrument,
    tissue,
)
from sam2s_ros.data.sources import DataSet, files, folders, last_number, natural, require_unique, runs

ENDOVIS17_TYPES = {
    1: instrument("bipolar forceps", "bipolar forceps"),
    2: instrument("prograsp forceps", "prograsp forceps"),
    3: instrument("large needle driver", "needle driver"),
    4: instrument("vessel sealer", "vessel sealer"),
    5: instrument("grasping retractor", "grasper retractor"),
    6: instrument("monopolar curved scissors", "monopolar scissors"),
    7: instrument("other"),
}
ENDOVIS17_WORDS = ("bipolar", "prograsp", "needle_driver", "vessel_sealer", "retractor", "scissors", "other")
"""What the name of a label folder contains, in the order of the types."""
ENDOVIS17_TEST = (2, 5, 6)
ENDOVIS17_CROP = Crop((1920, 1080), (320, 28, 1600, 1052))


def plan_endovis17(root: Path, data_set: DataSet) -> Iterator[VideoPlan]:
    """EndoVis 2017: the archives of training, testing and test labels, unpacked anywhere below one folder.

    `instrument_dataset_N/left_frames/frame000.png` with `ground_truth/<instrument>_labels/frame000.png`, a folder per
    instrument whose pixels above 0 (shaft, wrist, clasper) are it: an object of the source. Test frames are labelled in
    `instrument_dataset_N/gt/TypeSegmentation`, values 1 to 7: linked to the objects of their type. The black border of
    1920x1080 frames is cropped to the 1280x1024 of the camera. Sequences 2, 5, 6 are the test, others unused.
    Follows ternaus/robot-surgery-segmentation (prepare_data.py), open-mmlab/mmsegmentation (EndoVis2017RIS) and, for
    the sequences, jinlab-imvr/ReSurgSAM2 (datasets/organize_ref-endovis17.py).
    """
    images: dict[int, dict[int, Path]] = {}
    labels: dict[int, dict[int, list[LabelFile]]] = {}
    for folder in folders(root, "instrument_dataset_*", data_set.layout):
        sequence = last_number(folder)
        for image in files(folder / "left_frames") if (folder / "left_frames").is_dir() else ():
            other = images.setdefault(sequence, {}).setdefault(last_number(image), image)
            if other is not image:
                raise ValueError(f"{other} and {image} are the same frame of sequence {sequence}")
        own = labels.setdefault(sequence, {})
        truth = folder / "ground_truth"
        for masks in sorted(truth.iterdir()) if truth.is_dir() else ():
            if masks.is_dir():
                label = _endovis17_type(masks)
                for mask in files(masks):
                    own.setdefault(last_number(mask), []).append(MaskLabels(mask, label, masks.name.lower()))
        types = folder / "gt/TypeSegmentation"
        for mask in files(types) if types.is_dir() else ():
            own.setdefault(last_number(mask), []).append(IndexLabels(mask, ENDOVIS17_TYPES))
    for sequence, own in sorted(labels.items()):
        frames = [
            FramePlan(number, image, tuple(own[number]) if number in own else None)
            for number, image in sorted(images.get(sequence, {}).items())
        ]
        split = "test" if sequence in ENDOVIS17_TEST else "unused"
        paths = [label.path for found in own.values() for label in found]
        yield data_set.video(f"seq_{sequence}", split, frames, crop=ENDOVIS17_CROP, label_files=paths)


def _endovis17_type(folder: Path) -> Label:
    for number, word in enumerate(ENDOVIS17_WORDS, start=1):
        if word in folder.name.lower():
            return ENDOVIS17_TYPES[number]
    raise ValueError(f"{folder}: the folder's name contains no instrument of {', '.join(ENDOVIS17_WORDS)}")


_ROBOTIC = instrument("instrument")
ENDOVIS18_COLOURS = {
    (0, 255, 0): _ROBOTIC,  # shaft
    (0, 255, 255): _ROBOTIC,  # clasper
    (125, 255, 12): _ROBOTIC,  # wrist
    (255, 55, 0): tissue("kidney-parenchyma", "kidney parenchyma"),
    (24, 55, 125): tissue("covered-kidney", "covered kidney"),
    (187, 155, 25): Label("thread", "thread", "instrument", separate=False),
    (0, 255, 125): instrument("clamps", "clamp"),
    (255, 255, 125): instrument("suturing-needle", "suturing needle"),
    (123, 15, 175): instrument("suction-instrument", "suction"),
    (124, 155, 5): tissue("small-intestine", "small intestine"),
    (12, 255, 141): instrument("ultrasound-probe", "ultrasound probe"),
}
ENDOVIS18_TEST = (2, 5, 9, 15)


def plan_endovis18(root: Path, data_set: DataSet) -> Iterator[VideoPlan]:
    """EndoVis 2018: the releases, unpacked anywhere below one folder.

    `seq_N/left_frames/frame000.png` with the colours of `seq_N/labels/frame000.png`. The challenge labels the parts of
    robotic instruments and not their types: they have no class, and are told apart by components. Sequences 2, 5, 9, 15
    are the test, others unused. Follows the challenge's labels.json (as in dkfz mml's endovis18_rob_instr) and, for the
    sequences, BCV-Uniandes/ISINet (data/organize2018.py).
    """
    for folder in folders(root, "seq_*", data_set.layout):
        if not (folder / "left_frames").is_dir():
            continue
        labels = {last_number(path): path for path in files(folder / "labels")}
        frames = [
            FramePlan(number, image, _one(ColourLabels, labels.get(number), ENDOVIS18_COLOURS))
            for number, image in sorted((last_number(path), path) for path in files(folder / "left_frames"))
        ]
        split = "test" if last_number(folder) in ENDOVIS18_TEST else "unused"
        yield data_set.video(folder.name, split, frames, label_files=files(folder / "labels"))


def _one(reader: Any, path: Path | None, meanings: Mapping[Any, Label]) -> tuple[LabelFile, ...] | None:
    """One label file, or None where a frame has none."""
    return None if path is None else (reader(path, meanings),)


CHOLECSEG8K_VALUES = {
    11: tissue("abdominal wall", "abdominal wall"),
    21: tissue("liver", "liver"),
    13: tissue("gastrointestinal tract", "GI tract"),
    12: tissue("fat", "fat"),
    31: instrument("grasper", "grasper"),
    23: tissue("connective tissue", "connective tissue"),
    24: tissue("blood"),
    25: tissue("cystic duct", "cystic duct"),
    32: instrument("L-hook electrocautery", "hook"),
    22: tissue("gallbladder", "gallbladder"),
    33: tissue("hepatic vein", "hepatic vein"),
    5: tissue("liver ligament", "liver ligament"),
}
CHOLECSEG8K_IGNORED = frozenset({0, 50, 255, 35, 36})
"""Black background, the lines between regions, and two stray values."""


def plan_cholecseg8k(root: Path, data_set: DataSet) -> Iterator[VideoPlan]:
    """CholecSeg8k: `video01/video01_00080/frame_80_endo.png` with `..._endo_watershed_mask.png`, values 5 to 33.

    Folders whose frames follow one another are one video. All are train: the paper keeps 45 videos and does not say
    which. Follows the data set's paper (arXiv 2012.12453) and public readers of its watershed masks.
    """
    images: dict[str, dict[int, Path]] = {}
    for folder in folders(root, "video*_*", data_set.layout):
        for path in files(folder, (".png",)):
            if found := re.fullmatch(r"frame_(\d+)_endo(_watershed_mask)?", path.stem):
                image = path.with_name(
                    f"frame_{found[1]}_endo.png"
                )  # a mask without it is reported when it is read
                images.setdefault(folder.name.split("_")[0], {})[int(found[1])] = image
    for video, paths in sorted(images.items()):
        for numbers in runs(sorted(paths), step=1):
            frames = []
            for number in numbers:
                mask = paths[number].with_name(f"frame_{number}_endo_watershed_mask.png")
                frames.append(
                    FramePlan(
                        number, paths[number], (IndexLabels(mask, CHOLECSEG8K_VALUES, CHOLECSEG8K_IGNORED),)
                    )
                )
            yield data_set.video(f"{video}_{numbers[0]:05d}", "train", frames)


CIS_CLASSES = {
    "grasper": instrument("grasper", "grasper"),
    "hook": instrument("hook", "hook"),
    "irrigator": instrument("irrigator", "suction"),
    "clipper": instrument("clipper", "clip applier"),
    "bipolar": instrument("bipolar", "bipolar"),
    "scissors": instrument("scissors", "scissors"),
    "snare": instrument("snare", "snare"),
}
CIS_TRAIN = ("VID01", "VID12", "VID18", "VID25", "VID26", "VID27", "VID35", "VID43", "VID48", "VID52")
CIS_TEST = ("VID14", "VID15", "VID22", "VID29")


def plan_cis(root: Path, data_set: DataSet) -> Iterator[VideoPlan]:
    """CholecInstanceSeg: `VID01_t50_full/img_dir/t50_VID01_000631.png` with a labelme file of that name in `ann_dir`.

    Instances are those of the source, their identities over time are linked. The completely labelled sequences
    (`t50_full`) are train and test as in the data set, 10 and 4, which are the paper's numbers; others are unused.
    Numbers are seconds, but for `seg8k` sequences, cut from 25 Hz. Follows labdeeman7/cholec_instance_seg (sample files
    and dataset_variables.py).
    """
    for images in folders(root, "img_dir", data_set.layout):
        name = images.parent.name
        video, _, kind = name.partition("_")
        split = "unused"
        if kind == "t50_full":
            split = "train" if video in CIS_TRAIN else "test" if video in CIS_TEST else "val"
        frames = [
            FramePlan(
                last_number(image),
                image,
                (LabelmeLabels(images.parent / "ann_dir" / f"{image.stem}.json", CIS_CLASSES),),
            )
            for image in files(images)
        ]
        labels = files(images.parent / "ann_dir", (".json",))
        rate = 25.0 if kind == "seg8k" else 1.0
        yield data_set.video(name, split, frames, frame_rate=rate, label_files=labels)


_PARTS = instrument("tool")
RARP50_VALUES = {
    1: _PARTS,  # clasper
    2: _PARTS,  # wrist
    3: _PARTS,  # shaft
    4: instrument("suturing needle", "suturing needle"),
    5: Label("thread", "thread", "instrument", separate=False),
    6: instrument("suction tool", "suction"),
    7: instrument("needle holder", "needle holder"),
    8: instrument("clamps", "clamp"),
    9: instrument("catheter", "catheter"),
}


def plan_rarp50(root: Path, data_set: DataSet) -> Iterator[VideoPlan]:
    """SAR-RARP50: `test/video_1/rgb/000000060.png`, from the challenge's `unpack`, with `segmentation/000000060.png`.

    Only frames with a label image are taken, one a second; numbers are those of the 60 Hz video. The parts of robotic
    instruments are one instrument without a class. `test` is the test, `train1` and `train2` are unused. Follows
    surgical-vision/SAR_RARP50-evaluation (README, scripts/sample_video.py).
    """
    for labels in folders(root, "video_*/segmentation", data_set.layout):
        folder = labels.parent
        frames = [
            FramePlan(last_number(mask), folder / "rgb" / mask.name, _indexed(mask, RARP50_VALUES))
            for mask in files(labels, (".png",))
        ]
        split = "test" if folder.parent.name == "test" else "unused"
        yield data_set.video(folder.name, split, frames)


def _indexed(path: Path, meanings: Mapping[int, Label]) -> tuple[LabelFile, ...]:
    return (IndexLabels(path, meanings),)


ENDOSCAPES_CLASSES = {
    "cystic_plate": tissue("cystic plate"),
    "calot_triangle": tissue("calot triangle"),
    "cystic_artery": tissue("cystic artery"),
    "cystic_duct": tissue("cystic duct", "cystic duct"),
    "gallbladder": tissue("gallbladder", "gallbladder"),
    "tool": instrument("tool"),
}


def plan_endoscapes(root: Path, data_set: DataSet) -> Iterator[VideoPlan]:
    """Endoscapes-Seg50: `train_seg`, `val_seg` and `test_seg`, images beside `annotation_coco.json`.

    Stills, all of them train as in SA-SV; instances are those of the source. Follows the data set's README
    (CAMMA-public/Endoscapes).
    """
    images: list[tuple[Path, tuple[LabelFile, ...]]] = []
    for folder in folders(root, "*_seg", data_set.layout):
        path = folder / "annotation_coco.json"
        for name, labels in _coco_images(path, ENDOSCAPES_CLASSES):
            images.append((folder / name, (labels,)))
    yield from data_set.stills("train", images)


GRASP_CLASSES = {
    "bipolar forceps": instrument("bipolar forceps", "bipolar forceps"),
    "prograsp forceps": instrument("prograsp forceps", "prograsp forceps"),
    "large needle driver": instrument("large needle driver", "needle driver"),
    "monopolar curved scissors": instrument("monopolar curved scissors", "monopolar scissors"),
    "suction instrument": instrument("suction instrument", "suction"),
    "clip applier": instrument("clip applier", "clip applier"),
    "laparoscopic grasper": instrument("laparoscopic grasper", "grasper"),
}


def plan_grasp(root: Path, data_set: DataSet) -> Iterator[VideoPlan]:
    """GraSP at 30 fps: `frames/CASE001/000000068.jpg` with `annotations/grasp_short-term_train.json` and `_test`.

    Only labelled frames are taken, some 35 s apart; instances are those of the source, identities are linked. All 13
    cases are train, as in SA-SV. Follows BCV-Uniandes/GraSP (README, register_GraSP.py).
    """
    cases: dict[str, list[FramePlan]] = {}
    for folder in folders(root, "annotations", data_set.layout):
        for part in ("train", "test"):
            path = folder / f"grasp_short-term_{part}.json"
            for name, labels in _coco_images(path, GRASP_CLASSES) if path.is_file() else ():
                image = folder.parent / "frames" / name
                cases.setdefault(image.parent.name, []).append(
                    FramePlan(last_number(image), image, (labels,))
                )
    if not cases:
        raise FileNotFoundError(f"nothing to convert under {root}: expected {data_set.layout}")
    for case, frames in sorted(cases.items()):
        yield data_set.video(case, "train", sorted(frames, key=lambda frame: frame.number))


def _coco_images(path: Path, meanings: Mapping[str, Label]) -> Iterator[tuple[str, CocoLabels]]:
    """(file name, labels) of each image of a COCO file, in natural order; boxes without a segmentation are left out."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        for entries in ("categories", "annotations", "images"):
            require_unique([one["id"] for one in raw[entries]], f"{path}: {entries}")
        classes = {int(one["id"]): str(one["name"]).lower() for one in raw["categories"]}
        unknown = sorted(set(classes.values()) - set(meanings))
        if unknown:
            raise ValueError(f"{path}: no meaning is known for the classes {', '.join(unknown)}")
        segments: dict[int, list[CocoSegment]] = {}
        for one in raw["annotations"]:
            if one.get("segmentation"):
                label = meanings[classes[int(one["category_id"])]]
                segments.setdefault(int(one["image_id"]), []).append(CocoSegment(label, one["segmentation"]))
        for number in sorted(set(segments) - {int(image["id"]) for image in raw["images"]}):
            raise ValueError(f"{path}: annotations name the image {number}, which is not among its images")
        for image in sorted(raw["images"], key=lambda one: natural(Path(one["file_name"]))):
            yield str(image["file_name"]), CocoLabels(path, tuple(segments.get(int(image["id"]), ())))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON, or cut off: {error}") from None
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is no file of COCO: {error!r}") from None


DSAD_ORGANS = {
    "abdominal_wall": "abdominal wall",
    "colon": "colon",
    "inferior_mesenteric_artery": "",
    "intestinal_veins": "",
    "liver": "liver",
    "pancreas": "",
    "small_intestine": "small intestine",
    "spleen": "spleen",
    "stomach": "",
    "ureter": "",
    "vesicular_glands": "",
}


def plan_dsad(root: Path, data_set: DataSet) -> Iterator[VideoPlan]:
    """Dresden Surgical Anatomy Dataset: `liver/03/image00.png` with `mask00.png`, a mask of that organ.

    A folder of an organ and a surgery is one video. Which of them the paper takes as stills is not said: all are
    videos, and train. The multilabel part, the single annotators' masks and the weak labels are left out. Follows
    constantinpape/torch-em (torch_em/data/datasets/medical/dsad.py).
    """
    for organ, name in DSAD_ORGANS.items():
        label = tissue(organ.replace("_", " "), name)
        for folder in sorted(root.glob(f"{organ}/*"), key=natural):
            paths = files(folder, (".png",))
            images = [path for path in paths if path.stem.startswith("image")]
            masks = [path for path in paths if path.stem.startswith("mask")]
            frames = [
                FramePlan(
                    last_number(image),
                    image,
                    (
                        MaskLabels(
                            image.with_name(image.name.replace("image", "mask")),
                            label,
                            threshold=MASK_THRESHOLD,
                        ),
                    ),
                )
                for image in images
            ]
            if frames or masks:
                yield data_set.video(f"{organ}_{folder.name}", "train", frames, label_files=masks)


_AUTOLAPARO_TOOLS = (
    instrument("grasping forceps", "grasper"),
    instrument("LigaSure", "ligature"),
    instrument("dissecting and grasping forceps", "dissect & grasp"),
    instrument("electric hook", "hook"),
)
AUTOLAPARO_VALUES = {
    **{20 * (2 * i + part): tool for i, tool in enumerate(_AUTOLAPARO_TOOLS) for part in (1, 2)},
    180: tissue("uterus", "uterus"),
}
"""Manipulator and shaft of each tool, and the uterus."""


def plan_autolaparo(root: Path, data_set: DataSet) -> Iterator[VideoPlan]:
    """AutoLaparo, task 3: `imgs/001025.jpg` with `masks/001025.png`; the first three digits are the clip.

    The other three are the frame of a clip at 25 Hz, of which six are labelled. All clips are train, as in SA-SV. That
    "LigaSure" is the paper's "ligature" is our reading of its figure. Follows MoriLabNU/Bayesian_WSS
    (weak_label_simulation.py, target_list.txt).
    """
    clips: dict[str, list[FramePlan]] = {}
    for folder in folders(root, "imgs", data_set.layout):
        masks = folder.parent / "masks"
        # a mask without an image, and an image without a mask, are reported when they are read
        for name in sorted({path.stem for path in (*files(folder, (".jpg",)), *files(masks, (".png",)))}):
            if not re.fullmatch(r"\d{6}", name):
                raise ValueError(f"{folder / name}.jpg: the name of a frame is six digits, clip and frame")
            labels = _indexed(masks / f"{name}.png", AUTOLAPARO_VALUES)
            clips.setdefault(name[:3], []).append(FramePlan(int(name[3:]), folder / f"{name}.jpg", labels))
    for clip, frames in sorted(clips.items()):
        yield data_set.video(f"clip_{clip}", "train", frames)
