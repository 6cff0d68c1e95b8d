"""Converters of the data sets of polyps in SA-SV, from the layouts in which they are distributed.

As in `surgical_sources`, the last sentence of a converter says what it follows.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from sam2s_ros.data.labels import MASK_THRESHOLD, ChannelLabels, MaskLabels, tissue
from sam2s_ros.data.open_sources import pair_masks
from sam2s_ros.data.sources import DataSet, Planned, each, files, folders, folders_beside
from sam2s_ros.data.video_plan import FramePlan, Unplanned

POLYP = tissue("polyp", "polyp", separate=True)


def plan_polypgen(root: Path, data_set: DataSet) -> Iterator[Planned]:
    """PolypGen: `sequenceData/positive/seq1/images_seq1/*.jpg` with `masks_seq1/*_mask.jpg`.

    Frames are numbered in the natural order of their names. All are test; stills and negative sequences are left out.
    Follows the data set's descriptor (Ali et al., Scientific Data 10, 75, 2023, doi 10.1038/s41597-023-01981-y) and the
    list of files in its archive (PolypGen2021_MultiCenterData_v3/fileStructure_all.txt); for names of masks,
    King-Navi/ss_helper_polypgen (gather_images_and_masks.py). That masks are above 127 inside is our reading of JPEGs
    that are black and white.
    """

    def video(folder: Path) -> Iterator[Planned]:
        masks, left_out = folder / f"masks_{folder.name}", list[str]()
        pairs = pair_masks(folder / f"images_{folder.name}", masks, POLYP, left_out)
        frames = [FramePlan(number, image, labels) for number, (image, labels) in enumerate(pairs)]
        yield data_set.video(folder.name, "test", frames, label_files=files(masks), left_out=left_out)

    found = folders(root, "positive/seq*", data_set.layout)
    yield from each((folder for folder in found if folder.parent.name == "positive"), video)


def plan_kvasir(root: Path, data_set: DataSet) -> Iterator[Planned]:
    """Kvasir-SEG: `images/*.jpg` with masks of the same name in `masks`, above 127 inside. Stills, all train.

    Follows the data set's own README (DebeshJha/Kvasir-SEG: two folders, the same names) and paper (arXiv 1911.07069:
    white inside), and its authors' reader for the suffix (DebeshJha/ColonSegNet, data.py).
    """

    def stills(images: Path) -> Iterator[Planned]:
        masks, left_out = images.parent / "masks", list[str]()
        pairs = pair_masks(images, masks, POLYP, left_out)
        yield from data_set.stills("train", pairs, files(masks), left_out)

    found, lost = folders_beside(
        root, "images", "masks", lambda masks: masks.with_name("images"), data_set.layout
    )
    yield from lost
    yield from each(found, stills)


CLINICDB_COLUMNS = ("frame_id", "sequence_id", "png_image_path", "png_mask_path")


def plan_clinicdb(root: Path, data_set: DataSet) -> Iterator[Planned]:
    """CVC-ClinicDB: `PNG/Original/1.png` with `PNG/Ground Truth/1.png`, and `metadata.csv` for the sequences.

    The table has `frame_id`, `sequence_id`, `png_image_path` and `png_mask_path`; frames of a sequence are one video,
    in the order of their ids. All are train. Follows the layout of the data set's mirror
    (kaggle.com/datasets/balraj98/cvcclinicdb), as dataset-ninja/cvc-612 (src/convert.py) reads its folders.
    """
    path = root / "metadata.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: expected {data_set.layout}")
    sequences: dict[int, list[FramePlan]] = {}
    ids: dict[int, str] = {}
    yield from each(_rows(path), lambda row: _clinicdb_row(row, root, sequences, ids))
    for place, unused in (("Original", "has no row"), ("Ground Truth", "labels an image that has no row")):
        folder = root / "PNG" / place
        named = {one.image for frames in sequences.values() for one in frames}
        named |= {label.path for frames in sequences.values() for one in frames for label in one.labels or ()}
        for file in files(folder) if folder.is_dir() else ():
            if file not in named:
                yield Unplanned(f"{file} {unused} in {path}")
    for sequence, frames in sorted(sequences.items()):
        yield data_set.video(f"sequence_{sequence:02d}", "train", frames)


def _rows(path: Path) -> list[tuple[str, dict[str, str]]]:
    """(where, row) of a table. ValueError: it is none."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as table:
            rows = csv.DictReader(table)
            missing = sorted(set(CLINICDB_COLUMNS) - set(rows.fieldnames or ()))
            if missing:
                raise ValueError(f"it has no column {', '.join(missing)}")
            return [(f"{path}: row {number}", row) for number, row in enumerate(rows, start=1)]
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{path} is not the table of this data set: {error}") from None


def _clinicdb_row(
    row: tuple[str, dict[str, str]], root: Path, sequences: dict[int, list[FramePlan]], ids: dict[int, str]
) -> Iterator[Planned]:
    """Add a row's frame to its sequence, and its id to those that are taken."""
    where, values = row
    try:
        number, sequence = int(values["frame_id"]), int(values["sequence_id"])
        image, mask = root / values["png_image_path"], root / values["png_mask_path"]
    except (TypeError, ValueError) as error:
        yield Unplanned(f"{where} is left out: {error}")
        return
    if number < 0 or ids.setdefault(number, where) is not where:
        why = "is below 0" if number < 0 else f"is also that of {ids[number]}"
        yield Unplanned(f"{where} is left out, with {image}: its frame_id {number} {why}; each needs its own")
        return
    labels = MaskLabels(mask, POLYP, threshold=MASK_THRESHOLD)
    sequences.setdefault(sequence, []).append(FramePlan(number, image, (labels,)))


NEOPLASTIC = tissue("neoplastic polyp", "polyp", separate=True)
NON_NEOPLASTIC = tissue("non-neoplastic polyp", "polyp", separate=True)


def plan_bkai(root: Path, data_set: DataSet) -> Iterator[Planned]:
    """BKAI-IGH NeoPolyp-Small: `train/train/*.jpeg` with `train_gt/train_gt/*.jpeg`: red neoplastic, green not.

    Stills, all train. Follows, for the colours, namhainguyen2803/BKAI-IGH-NeoPolyp-Challenge (README), and for the
    reading of masks that are JPEGs, Dinhhoanghm/BKAI-IGH-NeoPolyp- (src/neopolyp/dataset/dataset.py); the folders are
    those of the competition's archive (kaggle.com/competitions/bkai-igh-neopolyp).
    """

    def stills(folder: Path) -> Iterator[Planned]:
        labels = folder.parents[1] / "train_gt/train_gt"
        images = [
            (image, (ChannelLabels(labels / image.name, NEOPLASTIC, NON_NEOPLASTIC),))
            for image in files(folder)
        ]
        yield from data_set.stills("train", images, files(labels))

    found, lost = folders_beside(
        root,
        "train/train",
        "train_gt/train_gt",
        lambda masks: masks.parents[1] / "train/train",
        data_set.layout,
    )
    yield from lost
    yield from each(found, stills)
