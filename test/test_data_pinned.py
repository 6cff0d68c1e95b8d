"""Numbers and choices that nothing else would miss if they changed: of the paper, of the data sets, of both rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from sam2s_ros.data.labels import Region, instrument
from sam2s_ros.data.linking import Linker
from sam2s_ros.data.provenance import read_provenance
from sam2s_ros.data.source_table import PAPER_TABLE, SOURCES
from sam2s_ros.data.surgical_sources import CHOLECSEG8K_IGNORED, CHOLECSEG8K_VALUES
from sam2s_ros.data.video_folder import Masklet, VideoFacts, VideoFolder, read_index, read_video, write_index
from sam2s_ros.data.video_folder import write_video_facts as write_facts
from sam2s_ros.data.video_plan import VideoPlan
from sam2s_ros.evaluation import propagate as propagation
from sam2s_ros.evaluation.propagate import Labels, Opinion, _nearest, propagate

SIZE = (60, 80)

# --- the paper and the data sets


PAPER_MASKS = {
    "ART-Net": (816, None), "BKAI-IGH": (None, 1176), "DSAD-I": (None, 4864), "Endoscapes": (936, 1288),
    "Kvasir-SEG": (None, 1064), "RoboTool": (1008, None), "AutoLaparo": (2905, 1057), "CholecSeg8k": (21136, 6242),
    "CIS-Train": (31416, None), "ClinicDB": (None, 647), "DSAD-V": (None, 4248), "GraSP": (9025, None),
    "CIS-Test": (10971, None), "EndoVis17": (2265, None), "EndoVis18": (1676, 807), "Hyst-YT": (4113, None),
    "PolypGen": (None, 1761), "RARP50": (10656, None), "SurgAI3.8k": (None, 3817),
}  # fmt: skip
"""Instrument and tissue masks of Table 1 of arXiv 2511.16618 v1."""


def test_the_table_has_the_masks_of_the_paper_and_its_totals() -> None:
    assert {
        name: (row.instrument_masks, row.tissue_masks) for name, row in PAPER_TABLE.items()
    } == PAPER_MASKS
    rows = PAPER_TABLE.values()
    assert sum(row.videos or 0 for row in rows) == 572
    assert sum(row.masklets or 0 for row in rows) == 1612
    assert round(sum(row.frames for row in rows) / 1000) == 61


@pytest.mark.parametrize(
    ("name", "folder", "parts", "test"),
    [
        ("endovis17", "instrument_dataset_{}", ("left_frames", "gt/TypeSegmentation"), {2, 5, 6}),
        ("endovis18", "seq_{}", ("left_frames", "labels"), {2, 5, 9, 15}),
    ],
)
def test_the_sequences_of_the_test_are_those_of_the_benchmark(
    name: str, folder: str, parts: tuple[str, ...], test: set[int], tmp_path: Path
) -> None:
    for number in range(1, 17):
        for part in parts:
            path = tmp_path / folder.format(number) / part / "frame000.png"
            path.parent.mkdir(parents=True)
            path.touch()
    splits = {
        int(plan.name.split("_")[1]): plan.split
        for plan in SOURCES[name].plan(tmp_path, SOURCES[name])
        if isinstance(plan, VideoPlan)
    }
    assert splits == {number: "test" if number in test else "unused" for number in range(1, 17)}


CHOLECSEG8K = {
    50: "black background", 11: "abdominal wall", 21: "liver", 13: "gastrointestinal tract", 12: "fat", 31: "grasper",
    23: "connective tissue", 24: "blood", 25: "cystic duct", 32: "L-hook electrocautery", 22: "gallbladder",
    33: "hepatic vein", 5: "liver ligament",
}  # fmt: skip
"""The table of the classes 0 to 12 in the data set's description, in its order."""


def test_the_values_of_cholecseg8k_are_those_of_its_description() -> None:
    known = {value: label.source_class for value, label in CHOLECSEG8K_VALUES.items()}
    assert known | {50: "black background"} == CHOLECSEG8K and 50 in CHOLECSEG8K_IGNORED
    tools = {value for value, label in CHOLECSEG8K_VALUES.items() if label.kind == "instrument"}
    assert tools == {31, 32}
    assert not CHOLECSEG8K_IGNORED & set(CHOLECSEG8K_VALUES)


# --- the rule that links


@pytest.mark.parametrize(("shift", "wanted"), [(5, 1), (11, 1), (12, 2)])
def test_an_overlap_of_a_tenth_says_more_than_nearness(shift: int, wanted: int) -> None:
    """What comes back where the first object was, an IoU of 0.47, 0.12 or 0.08, while the second was seen last."""
    linker, label = Linker(), instrument("grasper")

    def link(*columns: int) -> np.ndarray:
        mask = np.zeros(SIZE, bool)
        for x in columns:
            mask[20:34, x : x + 14] = True
        return linker.ids([Region(mask, label)], SIZE)

    first = link(5, 36)
    assert (first[25, 10], first[25, 40]) == (1, 2)
    assert set(np.unique(link(36)).tolist()) == {0, 2}
    assert set(np.unique(link(5 + shift)).tolist()) == {0, wanted}


# --- the nearest label


@pytest.mark.parametrize(
    ("number", "masklet", "wanted"),
    [
        (2, 1, 0),
        (3, 1, 0),
        (4, 1, 1),
        (6, 1, 0),
        (7, 1, 0),
        (8, 1, 0),
        (9, 1, 1),
        (2, 2, 1),
        (8, 2, 0),
        (5, 3, 0),
    ],
)
def test_the_nearest_label_that_shows_a_masklet_counts_and_of_two_the_earlier(
    number: int, masklet: int, wanted: int
) -> None:
    assert _nearest({0: {1}, 6: {1, 2}, 10: {1}}, number, masklet) == wanted


def test_propagation_takes_each_mask_from_the_run_of_the_nearest_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run forwards shows everything on the left, that backwards on the right."""
    path, numbers = tmp_path / "truth", range(0, 12, 2)
    for folder in ("frames", "masks"):
        (path / folder).mkdir(parents=True)
    for number in numbers:
        (path / f"frames/{number:06d}.jpg").touch()
    for number in (0, 10):
        ids = np.zeros(SIZE, np.uint8)
        ids[:10, 35:45], ids[50:, 35:45] = 1, 2 * (number == 10)
        write_index(path / f"masks/{number:06d}.png", ids)
    masklets = tuple(Masklet(number, "", "", "other") for number in (1, 2))
    write_facts(path, VideoFacts("set", "val", "", 1.0, SIZE[::-1], 6, "none", "source", masklets))
    video: VideoFolder = read_video(path)

    def follow(labels: Labels, order: Sequence[int], tracker: object) -> Iterator[tuple[int, Opinion]]:
        forwards = order[0] < order[-1]
        columns = slice(0, 20) if forwards else slice(60, 80)
        ids = np.zeros(SIZE, np.uint16)
        ids[:10, columns], ids[50:, columns] = 1, 0 if forwards else 2
        yield from ((number, Opinion(ids, {1: 0.5} if forwards else {1: 0.5, 2: 0.5})) for number in order)

    monkeypatch.setattr(propagation, "follow", follow)
    propagate(Labels(video, read_provenance(video)), tmp_path / "out", None, "x")  # type: ignore[arg-type]
    masks = read_video(tmp_path / "out/set/val/truth").masks()
    for number in (2, 4, 6, 8):
        ids = read_index(masks[number])
        side = slice(0, 20) if number < 5 else slice(60, 80)
        assert (ids[:10, side] == 1).all() and (ids == 1).sum() == 200, number
        assert (ids[50:, 60:] == 2).all(), "one run alone knows it"
