"""Converters of the surgical data sets that SA-SV is made of, each from the layout in which it is distributed.

A converter plans videos and opens no image. What it follows is the public code or document in its last sentence;
facts of the format were taken from there, no code. Class names are those of `config/instruments.yaml` where it has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from sam2s_ros.data.coco_files import coco_frames
from sam2s_ros.data.labels import (
    MASK_THRESHOLD,
    IndexLabels,
    Label,
    LabelFile,
    LabelmeLabels,
    MaskLabels,
    instrument,
    tissue,
)
from sam2s_ros.data.sources import (
    DataSet,
    Planned,
    each,
    files,
    folders,
    folders_beside,
    natural,
    runs,
    with_numbers,
)
from sam2s_ros.data.video_plan import FramePlan, Unplanned

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


def plan_cholecseg8k(root: Path, data_set: DataSet) -> Iterator[Planned]:
    """CholecSeg8k: `video01/video01_00080/frame_80_endo.png` with `..._endo_watershed_mask.png`, values 5 to 33.

    Folders whose frames follow one another are one video. All are train: the paper keeps 45 videos and does not say
    which. The layout follows the data set's paper (arXiv 2012.12453), the values its description where it is
    distributed (kaggle.com/datasets/newslab/cholecseg8k), as in mhjd/cholecseg8k-deeplabv3 (src/masks.py; its README
    has the values 0 and 255, which mean nothing).
    """
    images: dict[str, dict[int, Path]] = {}
    for folder in folders(root, "video*_*", data_set.layout):
        numbers = {}
        for path in files(folder, (".png",)):
            if found := re.fullmatch(r"frame_(\d+)_endo(_watershed_mask)?", path.stem):
                numbers[int(found[1])] = path.with_name(f"frame_{found[1]}_endo.png")
        if not numbers:
            yield Unplanned(f"{folder} holds no frame_N_endo.png: unpack the data set as it comes")
        own = images.setdefault(folder.name.split("_")[0], {})
        for number, image in sorted(numbers.items()):  # one that is not there is reported when it is read
            other = own.setdefault(number, image)
            if other is not image:
                yield Unplanned(f"{image} is the same frame as {other}: remove one")
    for video, paths in sorted(images.items()):
        for run in runs(sorted(paths), step=1):
            frames = []
            for number in run:
                mask = paths[number].with_name(f"frame_{number}_endo_watershed_mask.png")
                labels = IndexLabels(mask, CHOLECSEG8K_VALUES, CHOLECSEG8K_IGNORED)
                frames.append(FramePlan(number, paths[number], (labels,)))
            yield data_set.video(f"{video}_{run[0]:05d}", "train", frames)


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


def plan_cis(root: Path, data_set: DataSet) -> Iterator[Planned]:
    """CholecInstanceSeg: `VID01_t50_full/img_dir/t50_VID01_000631.png` with a labelme file of that name in `ann_dir`.

    Instances are those of the source, their identities over time are linked. The completely labelled sequences
    (`t50_full`) are train and test as in the data set, 10 and 4, which are the paper's numbers; others are unused.
    Numbers are seconds, but for `seg8k` sequences, cut from 25 Hz. Follows labdeeman7/cholec_instance_seg (sample files
    and dataset_variables.py).
    """

    def video(images: Path) -> Iterator[Planned]:
        name, annotations = images.parent.name, images.parent / "ann_dir"
        patient, _, kind = name.partition("_")
        split = "unused"
        if kind == "t50_full":
            split = "train" if patient in CIS_TRAIN else "test" if patient in CIS_TEST else "val"
        left_out: list[str] = []
        frames = [
            FramePlan(number, image, (LabelmeLabels(annotations / f"{image.stem}.json", CIS_CLASSES),))
            for number, image in with_numbers(files(images), left_out)
        ]
        yield data_set.video(
            name,
            split,
            frames,
            frame_rate=25.0 if kind == "seg8k" else 1.0,
            label_files=files(annotations, (".json",)),
            left_out=left_out,
        )

    found, lost = folders_beside(
        root, "img_dir", "ann_dir", lambda labels: labels.with_name("img_dir"), data_set.layout
    )
    yield from lost
    yield from each(found, video)


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


def plan_rarp50(root: Path, data_set: DataSet) -> Iterator[Planned]:
    """SAR-RARP50: `test/video_1/rgb/000000060.png`, from the challenge's `unpack`, with `segmentation/000000060.png`.

    Only frames with a label image are taken, one a second; numbers are those of the 60 Hz video. The parts of robotic
    instruments are one instrument without a class. `test` is the test, `train1` and `train2` are unused. Follows
    surgical-vision/SAR_RARP50-evaluation (README, scripts/sample_video.py).
    """

    def video(labels: Path) -> Iterator[Planned]:
        folder, left_out = labels.parent, list[str]()
        frames = [
            FramePlan(number, folder / "rgb" / mask.name, _indexed(mask, RARP50_VALUES))
            for number, mask in with_numbers(files(labels, (".png",)), left_out)
        ]
        split = "test" if folder.parent.name == "test" else "unused"
        yield data_set.video(folder.name, split, frames, left_out=left_out)

    for images in folders(root, "video_*/rgb", data_set.layout):
        if not (images.parent / "segmentation").is_dir():
            yield Unplanned(f"{images.parent} has no folder segmentation: nothing in it is labelled")
    yield from each(folders(root, "video_*/segmentation", data_set.layout), video)


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


def plan_endoscapes(root: Path, data_set: DataSet) -> Iterator[Planned]:
    """Endoscapes-Seg50: `train_seg`, `val_seg` and `test_seg`, images beside `annotation_coco.json`.

    Stills, all of them train as in SA-SV; instances are those of the source. Follows the data set's README
    (CAMMA-public/Endoscapes).
    """
    images: list[tuple[Path, tuple[LabelFile, ...]]] = []
    left_out: list[str] = []
    for folder in folders(root, "*_seg", data_set.layout):
        try:
            frames = coco_frames(folder / "annotation_coco.json", ENDOSCAPES_CLASSES, left_out)
        except (OSError, ValueError) as error:
            yield Unplanned(str(error))
            continue
        images += [(folder / frame.name, (frame.labels,)) for frame in frames]
    yield from data_set.stills("train", images, left_out=left_out)


GRASP_CLASSES = {
    "bipolar forceps": instrument("bipolar forceps", "bipolar forceps"),
    "prograsp forceps": instrument("prograsp forceps", "prograsp forceps"),
    "large needle driver": instrument("large needle driver", "needle driver"),
    "monopolar curved scissors": instrument("monopolar curved scissors", "monopolar scissors"),
    "suction instrument": instrument("suction instrument", "suction"),
    "clip applier": instrument("clip applier", "clip applier"),
    "laparoscopic grasper": instrument("laparoscopic grasper", "grasper"),
}


GRASP_RATES = {9: (45.0, 30.0), 5: (1.0, 1.0)}
"""Digits of a frame's name -> numbers per second, in most operations and in those of `GRASP_AT_30`: the releases at 30
and at 1 frame per second."""
GRASP_AT_30 = ("CASE021", "CASE041", "CASE047", "CASE050", "CASE051", "CASE053")
"""Names of the dense release count frames at 30 per second in these, at 45 (of which every third is left out) in the
others; CASE014, whose numbers the public code looks up instead, is taken for one of them."""


def plan_grasp(root: Path, data_set: DataSet) -> Iterator[Planned]:
    """GraSP, the release at 30 or at 1 frame per second: `frames/CASE001/000000068.jpg` or `.../00001.jpg` with
    `annotations/grasp_short-term_train.json` and `_test`.

    The digits of a name say which release it is; a folder with both is refused. Only labelled frames are taken, some
    35 s apart; instances are those of the source, identities are linked. All 13 cases are train, as in SA-SV. Follows
    BCV-Uniandes/GraSP (README, register_GraSP.py; TAPIS/tapis/datasets/grasp.py for what numbers of frames count).
    """
    cases: dict[tuple[int, str], list[FramePlan]] = {}
    said: list[Unplanned] = []
    for folder in folders(root, "annotations", data_set.layout):
        for part in ("train", "test"):
            path, left_out = folder / f"grasp_short-term_{part}.json", list[str]()
            try:
                found = coco_frames(path, GRASP_CLASSES, left_out)
            except (OSError, ValueError) as error:
                said.append(Unplanned(str(error)))
                continue
            for frame in found:
                image = folder.parent / "frames" / frame.name
                digits = len(image.stem)
                if digits in GRASP_RATES and image.stem.isdigit():
                    plan = FramePlan(int(image.stem), image, (frame.labels,))
                    cases.setdefault((digits, image.parent.name), []).append(plan)
                else:
                    left_out.append(f"{path}: {frame.name} is named as in no release (9 digits or 5)")
            said += [Unplanned(text) for text in left_out]
    if len({digits for digits, _ in cases}) > 1:
        examples = [str(frames[0].image) for _, frames in sorted(cases.items(), key=lambda one: one[0][0])]
        raise ValueError(
            f"{root} holds both releases of GraSP, at 1 frame per second ({examples[0]}) and at 30 ({examples[-1]}), "
            "which are the same operations: give the folder of one"
        )
    if not cases and not said:
        raise FileNotFoundError(f"nothing to convert under {root}: expected {data_set.layout}")
    yield from said
    for (digits, case), frames in sorted(cases.items()):
        rate = GRASP_RATES[digits][case in GRASP_AT_30]
        yield data_set.video(case, "train", frames, frame_rate=rate)


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


def plan_dsad(root: Path, data_set: DataSet) -> Iterator[Planned]:
    """Dresden Surgical Anatomy Dataset: `liver/03/image00.png` with `mask00.png`, a mask of that organ.

    A folder of an organ and a surgery is one video. Which of them the paper takes as stills is not said: all are
    videos, and train. The multilabel part, the single annotators' masks and the weak labels are left out. Follows
    constantinpape/torch-em (torch_em/data/datasets/medical/dsad.py).
    """

    def video(folder: Path) -> Iterator[Planned]:
        organ = folder.parent.name
        label = tissue(organ.replace("_", " "), DSAD_ORGANS[organ])
        paths, left_out = files(folder, (".png",)), list[str]()
        frames = []
        for number, image in with_numbers((one for one in paths if one.stem.startswith("image")), left_out):
            mask = image.with_name(image.name.replace("image", "mask"))
            frames.append(FramePlan(number, image, (MaskLabels(mask, label, threshold=MASK_THRESHOLD),)))
        masks = [one for one in paths if one.stem.startswith("mask")]
        yield data_set.video(f"{organ}_{folder.name}", "train", frames, label_files=masks, left_out=left_out)

    for organ in DSAD_ORGANS:
        yield from each((one for one in sorted(root.glob(f"{organ}/*"), key=natural) if one.is_dir()), video)


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


def plan_autolaparo(root: Path, data_set: DataSet) -> Iterator[Planned]:
    """AutoLaparo, task 3: `imgs/001025.jpg` with `masks/001025.png`; the first three digits are the clip.

    The other three are the frame of a clip at 25 Hz, of which six are labelled. All clips are train, as in SA-SV. That
    "LigaSure" is the paper's "ligature" is our reading of its figure. Follows MoriLabNU/Bayesian_WSS
    (weak_label_simulation.py, target_list.txt).
    """

    def clips(folder: Path) -> Iterator[Planned]:
        masks, found = folder.parent / "masks", dict[str, list[FramePlan]]()
        # a mask without an image, and an image without a mask, are reported when they are read
        for name in sorted({path.stem for path in (*files(folder, (".jpg",)), *files(masks, (".png",)))}):
            image, labels = folder / f"{name}.jpg", _indexed(masks / f"{name}.png", AUTOLAPARO_VALUES)
            if re.fullmatch(r"\d{6}", name):
                found.setdefault(name[:3], []).append(FramePlan(int(name[3:]), image, labels))
            else:
                yield Unplanned(
                    f"{image}: the name of a frame is six digits, clip and frame: rename or remove it"
                )
        for clip, frames in sorted(found.items()):
            yield data_set.video(f"clip_{clip}", "train", frames)

    found, lost = folders_beside(
        root, "imgs", "masks", lambda masks: masks.with_name("imgs"), data_set.layout
    )
    yield from lost
    yield from each(found, clips)
