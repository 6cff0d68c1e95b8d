"""Converters of the data sets of polyps in SA-SV, from the layouts in which they are distributed.

As in `surgical_sources`, the last sentence of a converter says what it follows.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from sam2s_ros.data.convert import FramePlan, VideoPlan
from sam2s_ros.data.labels import MASK_THRESHOLD, ChannelLabels, MaskLabels, tissue
from sam2s_ros.data.open_sources import pair_masks
from sam2s_ros.data.sources import DataSet, files, folders

POLYP = tissue("polyp", "polyp", separate=True)


def plan_polypgen(root: Path, data_set: DataSet) -> Iterator[VideoPlan]:
    """PolypGen: `sequenceData/positive/seq1/images_seq1/*.jpg` with `masks_seq1/*_mask.jpg`.

    Frames are numbered in the natural order of their names. All are test; stills and negative sequences are left out.
    Follows the layout of PolypGen2021_MultiCenterData_v3 as public loaders of it read it (masks above 127).
    """
    for folder in folders(root, "positive/seq*", data_set.layout):
        if folder.parent.name != "positive":
            continue
        masks = folder / f"masks_{folder.name}"
        pairs = pair_masks(folder / f"images_{folder.name}", masks, POLYP)
        frames = [FramePlan(number, image, labels) for number, (image, labels) in enumerate(pairs)]
        yield data_set.video(folder.name, "test", frames, label_files=files(masks))


def plan_kvasir(root: Path, data_set: DataSet) -> Iterator[VideoPlan]:
    """Kvasir-SEG: `images/*.jpg` with masks of the same name in `masks`, above 127 inside. Stills, all train.

    Follows public descriptions of the archive (datasets.simula.no/kvasir-seg).
    """
    for folder in folders(root, "images", data_set.layout):
        masks = folder.parent / "masks"
        yield from data_set.stills("train", pair_masks(folder, masks, POLYP), files(masks))


def plan_clinicdb(root: Path, data_set: DataSet) -> Iterator[VideoPlan]:
    """CVC-ClinicDB: `PNG/Original/1.png` with `PNG/Ground Truth/1.png`, and `metadata.csv` for the sequences.

    The table has `frame_id`, `sequence_id`, `png_image_path` and `png_mask_path`; frames of a sequence are one video,
    in the order of their ids. All are train. Follows the layout of the data set's mirror (balraj98/cvcclinicdb).
    """
    path = root / "metadata.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: expected {data_set.layout}")
    sequences: dict[int, list[FramePlan]] = {}
    with path.open(newline="", encoding="utf-8") as table:
        for row in csv.DictReader(table):
            try:
                number, sequence = int(row["frame_id"]), int(row["sequence_id"])
                image, mask = root / row["png_image_path"], root / row["png_mask_path"]
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}: row {row} is none of this data set: {error!r}") from None
            sequences.setdefault(sequence, []).append(
                FramePlan(number, image, (MaskLabels(mask, POLYP, threshold=MASK_THRESHOLD),))
            )
    for sequence, frames in sorted(sequences.items()):
        frames.sort(key=lambda frame: frame.number)
        yield data_set.video(f"sequence_{sequence:02d}", "train", frames)


NEOPLASTIC = tissue("neoplastic polyp", "polyp", separate=True)
NON_NEOPLASTIC = tissue("non-neoplastic polyp", "polyp", separate=True)


def plan_bkai(root: Path, data_set: DataSet) -> Iterator[VideoPlan]:
    """BKAI-IGH NeoPolyp-Small: `train/train/*.jpeg` with `train_gt/train_gt/*.jpeg`: red neoplastic, green not.

    Stills, all train. Follows namhainguyen2803/BKAI-IGH-NeoPolyp-Challenge (README) and public
    readers of the competition's folders.
    """
    for folder in folders(root, "train/train", data_set.layout):
        labels = folder.parents[1] / "train_gt/train_gt"
        images = [
            (image, (ChannelLabels(labels / image.name, NEOPLASTIC, NON_NEOPLASTIC),))
            for image in files(folder)
        ]
        yield from data_set.stills("train", images, files(labels))
