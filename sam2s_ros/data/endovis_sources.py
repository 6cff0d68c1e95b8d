"""Converters of the EndoVis challenges of 2017 and 2018, from the releases as they are unpacked.

As in `surgical_sources`, the last sentences of a converter say what it follows.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from pathlib import Path

from sam2s_ros.data.labels import ColourLabels, IndexLabels, Label, LabelFile, MaskLabels, instrument, tissue
from sam2s_ros.data.sources import DataSet, Planned, each, files, folders, last_number, with_numbers
from sam2s_ros.data.video_plan import Crop, FramePlan, Unplanned

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
ENDOVIS17_LABELS = ("gt/TypeSegmentation", "TypeSegmentation")
"""Where releases have the types of the test frames, below `instrument_dataset_N`."""
ENDOVIS17_UNUSED = (
    "left_frames", "right_frames", "ground_truth", "gt",
    "BinarySegmentation", "BinarySegmentationRescaled", "PartsSegmentation", "PartsSegmentationRescaled",
    "TypeSegmentation", "TypeSegmentationRescaled",
)  # fmt: skip
"""Folders that a release is known to have: the frames, the labels, and other versions of those labels."""


def plan_endovis17(root: Path, data_set: DataSet) -> Iterator[Planned]:
    """EndoVis 2017: the archives of training, testing and test labels, unpacked anywhere below one folder.

    `instrument_dataset_N/left_frames/frame000.png` with `ground_truth/<instrument>_labels/frame000.png`, a folder per
    instrument whose pixels above 0 (shaft, wrist, clasper) are it: an object of the source. Test frames are labelled in
    `instrument_dataset_N/gt/TypeSegmentation`, in some releases without `gt`, values 1 to 7: linked to the objects of
    their type. Folders of labels that are read by nobody are said, as are frames without labels, which are kept. The
    black border of 1920x1080 frames is cropped to the 1280x1024 of the camera. Sequences 2, 5, 6 are the test, others
    unused.
    Follows the challenge's paper (arXiv 1902.06426) and, for the values 1 to 7, which the challenge gives in its
    `type_mapping.json`, the label folders and the crop, ternaus/robot-surgery-segmentation (prepare_data.py); for where
    test labels are, open-mmlab/mmsegmentation (projects/medical/2d_image/endoscopy/EndoVis2017RIS); for the sequences,
    jinlab-imvr/ReSurgSAM2 (datasets/organize_ref-endovis17.py).
    """
    sequences: dict[int, list[Path]] = {}
    for folder in folders(root, "instrument_dataset_*", data_set.layout):
        sequences.setdefault(last_number(folder), []).append(folder)
    for path in _labels_elsewhere(root):
        yield Unplanned(
            f"{path} holds labels that are not used: they belong in instrument_dataset_N/gt/{path.name}"
        )
    yield from each(sorted(sequences), lambda number: [_endovis17_video(number, sequences[number], data_set)])


def _endovis17_video(sequence: int, parts: list[Path], data_set: DataSet) -> Planned:
    """One sequence, out of all folders that have its number."""
    left_out: list[str] = []
    images: dict[int, Path] = {}
    labels: dict[int, list[LabelFile]] = {}
    for folder in parts:
        for number, image in with_numbers(_files_of(folder / "left_frames"), left_out):
            other = images.setdefault(number, image)
            if other is not image:
                left_out.append(f"{image} and {other} are the same frame of sequence {sequence}: remove one")
        _instruments(folder / "ground_truth", labels, left_out)
        types = [folder / name for name in ENDOVIS17_LABELS if (folder / name).is_dir()]
        for masks in types[:1]:
            for number, mask in with_numbers(_files_of(masks), left_out):
                labels.setdefault(number, []).append(IndexLabels(mask, ENDOVIS17_TYPES))
        for unread in _unread(folder, bool(types)):
            left_out.append(
                f"{unread} holds labels that are not used: only ground_truth/<instrument>_labels and "
                f"{ENDOVIS17_LABELS[0]} are read"
            )
    left_out += _unlabelled(images, labels)
    frames = [
        FramePlan(number, image, tuple(labels[number]) if number in labels else None)
        for number, image in sorted(images.items())
    ]
    split = "test" if sequence in ENDOVIS17_TEST else "unused"
    paths = [label.path for found in labels.values() for label in found]
    return data_set.video(
        f"seq_{sequence}", split, frames, crop=ENDOVIS17_CROP, label_files=paths, left_out=left_out
    )


def _unlabelled(images: Mapping[int, Path], labels: Container[int]) -> Iterator[str]:
    """What to say of frames without a label: each of them, or the folder where all of it are."""
    missing = {number: image for number, image in images.items() if number not in labels}
    for folder in dict.fromkeys(image.parent for image in missing.values()):
        found = [image for image in missing.values() if image.parent == folder]
        what = [f"{image} is not labelled" for image in found]
        if len(found) == sum(image.parent == folder for image in images.values()):
            what = [f"{folder} has no frame that is labelled"]
        for text in what:
            yield f"{text}: unpack ground_truth, or of test frames {ENDOVIS17_LABELS[0]}, for {folder.parent.name}"


def _instruments(truth: Path, labels: dict[int, list[LabelFile]], left_out: list[str]) -> None:
    """Add the masks of each instrument's folder; one that lacks a frame that another has is read, and so reported."""
    found: dict[Path, dict[int, Path]] = {}
    for masks in sorted(truth.iterdir()) if truth.is_dir() else ():
        if masks.is_dir():
            try:
                _endovis17_type(masks)
            except ValueError as error:
                left_out.append(str(error))
                continue
            found[masks] = dict(with_numbers(_files_of(masks), left_out))
            if not found[masks]:
                left_out.append(f"{masks} holds no label image")
    for number in sorted({number for paths in found.values() for number in paths}):
        for masks, paths in found.items():
            path = paths.get(number, masks / f"frame{number:03d}.png")
            labels.setdefault(number, []).append(MaskLabels(path, _endovis17_type(masks), masks.name.lower()))


def _files_of(folder: Path) -> list[Path]:
    return files(folder) if folder.is_dir() else []


def _unread(folder: Path, types: bool) -> Iterator[Path]:
    """Folders with images in a sequence's folder, or in its `gt`, that no release is known to have; the versions of the
    test labels too, where the one with the types is missing."""
    for place in (folder, folder / "gt"):
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            versions = not types and path.name.endswith(("Segmentation", "SegmentationRescaled"))
            if path.is_dir() and (versions or path.name not in ENDOVIS17_UNUSED) and _holds_images(path):
                yield path


def _labels_elsewhere(root: Path) -> Iterator[Path]:
    """Folders with test labels that lie in no sequence's folder."""
    for path in sorted(root.rglob("*Segmentation")):
        inside = any(part.startswith("instrument_dataset_") for part in path.relative_to(root).parts)
        if path.is_dir() and not inside and _holds_images(path):
            yield path


def _holds_images(folder: Path) -> bool:
    return any(files(path) for path in (folder, *(below for below in folder.rglob("*") if below.is_dir())))


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


def plan_endovis18(root: Path, data_set: DataSet) -> Iterator[Planned]:
    """EndoVis 2018: the releases, unpacked anywhere below one folder.

    `seq_N/left_frames/frame000.png` with the colours of `seq_N/labels/frame000.png`. The challenge labels the parts of
    robotic instruments and not their types: they have no class, and are told apart by components. Sequences 2, 5, 9, 15
    are the test, others unused. A frame without its label image is kept, and said. Follows the challenge's labels.json
    (as in dkfz mml's endovis18_rob_instr) and, for the sequences, BCV-Uniandes/ISINet (data/organize2018.py).
    """

    def video(folder: Path) -> Iterator[Planned]:
        left_out: list[str] = []
        labels = dict(with_numbers(files(folder / "labels"), left_out))
        frames = []
        for number, image in with_numbers(files(folder / "left_frames"), left_out):
            found = labels.get(number)
            if found is None:
                left_out.append(f"{image} is not labelled: {folder / 'labels'} has no image of its number")
            frames.append(
                FramePlan(number, image, None if found is None else (ColourLabels(found, ENDOVIS18_COLOURS),))
            )
        split = "test" if last_number(folder) in ENDOVIS18_TEST else "unused"
        yield data_set.video(folder.name, split, frames, label_files=labels.values(), left_out=left_out)

    found = folders(root, "seq_*", data_set.layout)
    yield from each(
        (one for one in found if any((one / part).is_dir() for part in ("left_frames", "labels"))), video
    )
