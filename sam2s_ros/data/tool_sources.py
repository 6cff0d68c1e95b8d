"""Converters of the stills of instruments in SA-SV, from the layouts in which they are distributed.

As in `surgical_sources`, the last sentence of a converter says what it follows. A mask is of all instruments of an
image: each of its connected components is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sam2s_ros.data.labels import MASK_THRESHOLD, LabelFile, MaskLabels, instrument
from sam2s_ros.data.sources import DataSet, Planned, files, folders_beside, natural
from sam2s_ros.data.video_plan import Unplanned

INSTRUMENT = instrument("instrument")


def plan_artnet(root: Path, data_set: DataSet) -> Iterator[Planned]:
    """ART-Net: `Train/Train_Positive/Train_Pos_sample_0001.png`, `Train/Train_Positive_Tool_Mask/..._Tool_Mask.png`.

    The same for `Test`: 662 and 154 stills, which are the paper's 816, all train as in SA-SV. Masks are above 127
    inside. Images without a tool (`..._Negative`), tips and lines are left out. Follows public code that reads the
    archive of kamruleee51/ART-Net: omariosc/msc-surgical-tool-tracking (src/ART.ipynb).
    """
    images: list[tuple[Path, tuple[LabelFile, ...]]] = []
    masks: list[Path] = []
    found, lost = folders_beside(
        root,
        "*_Positive",
        "*_Positive_Tool_Mask",
        lambda own: own.with_name(own.name.removesuffix("_Tool_Mask")),
        data_set.layout,
    )
    yield from lost
    for folder in found:
        own = folder.with_name(f"{folder.name}_Tool_Mask")
        if not own.is_dir():
            yield Unplanned(
                f"{own}, with the masks of {folder}, is not there: unpack the data set as it comes"
            )
            continue
        masks += files(own, (".png",))
        for image in files(folder, (".png",)):
            mask = own / f"{image.stem}_Tool_Mask.png"
            images.append((image, (MaskLabels(mask, INSTRUMENT, threshold=MASK_THRESHOLD),)))
    yield from data_set.stills("train", images, masks)


def plan_robotool(root: Path, data_set: DataSet) -> Iterator[Planned]:
    """RoboTool: `dv10_00001.png` with `dv10_00001_seg.png` in one folder, whose pixels above 0 are instruments.

    Stills of 20 procedures, all train. Follows Project-MONAI/tutorials (active_learning/tool_tracking_al:
    data_list.json, active_learning.py).
    """
    paths = sorted(root.rglob("dv*_*.png"), key=natural)
    if not paths:
        raise FileNotFoundError(f"nothing to convert under {root}: expected {data_set.layout}")
    images: list[tuple[Path, tuple[LabelFile, ...]]] = [
        (path, (MaskLabels(path.with_name(f"{path.stem}_seg.png"), INSTRUMENT),))
        for path in paths
        if re.fullmatch(r"dv\d+_\d+", path.stem)
    ]
    others = [path for path in paths if not re.fullmatch(r"dv\d+_\d+(_seg)?", path.stem)]
    said = [f"{path} is named neither as an image (dv10_00001.png) nor as a mask" for path in others]
    masks = [path for path in paths if re.fullmatch(r"dv\d+_\d+_seg", path.stem)]
    yield from data_set.stills("train", images, masks, said)
