"""Each public data set, generated small in its own format, and what its videos must be once they are converted."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco

from sam2s_ros import cli
from sam2s_ros.data.video_folder import VideoFolder, read_index, write_index

H, W = 48, 64
LEFT, RIGHT = (slice(10, 30), slice(4, 20)), (slice(10, 30), slice(40, 60))
"""Two places for objects that do not touch."""


def save(path: Path, pixels: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **({"compress_level": 1} if path.suffix == ".png" else {}), **options)


def photo(path: Path, seed: int = 0, size: tuple[int, int] = (H, W)) -> None:
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    save(path, cv2.resize(small, (size[1], size[0]), interpolation=cv2.INTER_LINEAR))


def labels(values: dict[int, tuple[slice, slice]], size: tuple[int, int] = (H, W)) -> np.ndarray:
    image = np.zeros(size, np.uint8)
    for value, where in values.items():
        image[where] = value
    return image


def grey3(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[..., None], 3, axis=2)


def rle(where: tuple[slice, slice]) -> dict[str, object]:
    runs = coco.encode(np.asfortranarray(labels({1: where})))
    return {"size": list(runs["size"]), "counts": runs["counts"].decode()}


def box(where: tuple[slice, slice]) -> list[list[float]]:
    rows, columns = where
    left, right, top, bottom = columns.start, columns.stop, rows.start, rows.stop
    return [[left, top, right, top, right, bottom, left, bottom]]


def endovis17(root: Path) -> None:
    full, inside = (1080, 1920), (slice(128, 528), slice(420, 720))
    training = root / "instrument_1_4_training/instrument_dataset_2"
    for number in range(2):
        photo(training / f"left_frames/frame{number:03d}.png", number, full)
        right = (inside[0], slice(1100, 1400))
        for folder, where in (
            ("Left_Prograsp_Forceps_labels", inside),
            ("Right_Prograsp_Forceps_labels", right),
        ):
            mask = labels({10: where}, full)
            mask[200:300, where[1]] = 20  # wrist
            save(training / f"ground_truth/{folder}/frame{number:03d}.png", mask)
        save(training / f"ground_truth/Other_labels/frame{number:03d}.png", grey3(np.zeros(full, np.uint8)))
    photo(root / "instrument_1_4_testing/instrument_dataset_2/left_frames/frame225.png", 3, full)
    types = labels({2: inside}, full)
    save(
        root
        / "instrument_2017_test/instrument_2017_test/instrument_dataset_2/gt/TypeSegmentation/frame225.png",
        types,
    )
    photo(root / "instrument_9_10_testing/instrument_dataset_9/left_frames/frame000.png", 4)
    types = root / "instrument_2017_test/instrument_dataset_9/TypeSegmentation"  # as a release without gt
    save(types / "frame000.png", labels({3: LEFT}))


def check_endovis17(videos: dict[str, VideoFolder]) -> None:
    assert set(videos) == {"test/seq_2", "unused/seq_9"}
    video = videos["test/seq_2"]
    assert video.facts.size == (1280, 1024) and list(video.frames()) == [0, 1, 225]
    assert [one.class_name for one in video.facts.masklets] == ["prograsp forceps"] * 2
    first, test = read_index(video.masks()[0]), read_index(video.masks()[225])
    assert first[100:500, 100:400].min() == 1 and first[100:500, 780:1080].min() == 2
    assert set(np.unique(test).tolist()) == {0, 1}, "the test frame shows the left forceps again"
    assert [one.class_name for one in videos["unused/seq_9"].facts.masklets] == ["needle driver"]


def endovis18(root: Path) -> None:
    sequence = root / "miccai_challenge_2018_release_1/seq_2"
    colours = np.zeros((H, W, 3), np.uint8)
    colours[LEFT], colours[10:20, 4:20] = (0, 255, 0), (125, 255, 12)  # shaft and wrist
    colours[RIGHT] = (0, 255, 255)
    colours[36:46] = (255, 55, 0)
    for number in range(2):
        photo(sequence / f"left_frames/frame{number:03d}.png", number)
        save(sequence / f"labels/frame{number:03d}.png", colours)
    photo(root / "miccai_challenge_release_2/seq_3/left_frames/frame000.png")
    save(root / "miccai_challenge_release_2/seq_3/labels/frame000.png", colours)


def check_endovis18(videos: dict[str, VideoFolder]) -> None:
    assert set(videos) == {"test/seq_2", "unused/seq_3"}
    found = sorted((one.source_class, one.kind) for one in videos["test/seq_2"].facts.masklets)
    assert found == [
        ("instrument", "instrument"),
        ("instrument", "instrument"),
        ("kidney-parenchyma", "tissue"),
    ]


def cholecseg8k(root: Path) -> None:
    mask = labels({31: LEFT, 21: (slice(32, 48), slice(0, 64)), 255: (slice(31, 32), slice(0, 64))})
    mask[mask == 0] = 50
    for first in (80, 82, 200):  # the first two follow one another
        for number in (first, first + 1):
            stem = root / f"video01/video01_{first:05d}/frame_{number}_endo"
            photo(stem.with_suffix(".png"), number)
            save(Path(f"{stem}_watershed_mask.png"), grey3(mask))
            save(Path(f"{stem}_color_mask.png"), grey3(mask))
            save(Path(f"{stem}_mask.png"), grey3(mask))


def check_cholecseg8k(videos: dict[str, VideoFolder]) -> None:
    assert {name: list(video.frames()) for name, video in videos.items()} == {
        "train/video01_00080": [80, 81, 82, 83],
        "train/video01_00200": [200, 201],
    }
    facts = videos["train/video01_00080"].facts
    assert {(one.class_name, one.kind) for one in facts.masklets} == {
        ("grasper", "instrument"),
        ("liver", "tissue"),
    }


def cis(root: Path) -> None:
    for sequence in ("VID14_t50_full", "VID01_t50_full", "VID03_t80_sparse"):
        for number in (1, 2):
            name = f"{sequence.split('_')[1]}_{sequence.split('_')[0]}_{number:06d}"
            photo(root / sequence / f"img_dir/{name}.png", number)
            pieces = [
                ("grasper", 1, (slice(10, 16), LEFT[1])),
                ("grasper", 1, (slice(20, 30), LEFT[1])),  # the same grasper, behind something
                ("grasper", 2, RIGHT),
                ("hook", 1, (slice(36, 46), slice(4, 60))),
            ]
            shapes = [
                {
                    "label": name,
                    "points": np.array(box(where)).reshape(4, 2).tolist(),
                    "group_id": group,
                    "description": "",
                    "shape_type": "polygon",
                    "flags": None,
                }
                for name, group, where in pieces
            ]
            path = root / sequence / f"ann_dir/{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"version": "1.0.0", "flags": {}, "shapes": shapes}))


def check_cis(videos: dict[str, VideoFolder]) -> None:
    assert set(videos) == {"test/VID14_t50_full", "train/VID01_t50_full", "unused/VID03_t80_sparse"}
    video = videos["test/VID14_t50_full"]
    assert [one.class_name for one in video.facts.masklets] == ["grasper", "grasper", "hook"]
    ids = read_index(video.masks()[1])
    assert ids[12, 10] == ids[25, 10] != ids[18, 10], "two polygons of one group are one object"


def rarp50(root: Path) -> None:
    for split in ("train1", "test"):
        folder = root / split / "video_1"
        for number in (0, 6, 60):
            photo(folder / f"rgb/{number:09d}.png", number)
        mask = labels({3: LEFT, 5: (slice(36, 38), slice(4, 60))})
        mask[10:14, 4:20] = 1
        for number in (0, 60):
            save(folder / f"segmentation/{number:09d}.png", mask)


def check_rarp50(videos: dict[str, VideoFolder]) -> None:
    assert set(videos) == {"test/video_1", "unused/video_1"}
    video = videos["test/video_1"]
    assert list(video.frames()) == [0, 60] and video.facts.frame_rate == 60
    assert [(m.source_class, m.class_name) for m in video.facts.masklets] == [
        ("tool", ""),
        ("thread", "thread"),
    ]


def coco_file(path: Path, names: list[str], classes: list[str], annotations: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = {
        "images": [{"id": i, "file_name": name, "width": W, "height": H} for i, name in enumerate(names)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes)],
        "annotations": [{"id": i, **annotation} for i, annotation in enumerate(annotations)],
    }
    path.write_text(json.dumps(raw))


ENDOSCAPES = ["cystic_plate", "calot_triangle", "cystic_artery", "cystic_duct", "gallbladder", "tool"]


def endoscapes(root: Path) -> None:
    for split, name in (("train_seg", "4_21725.jpg"), ("test_seg", "165_22925.jpg")):
        photo(root / split / name)
        annotations: list[dict[str, object]] = [
            {"image_id": 0, "category_id": 5, "segmentation": box(LEFT), "bbox": [4, 10, 16, 20]},
            {"image_id": 0, "category_id": 5, "segmentation": box(RIGHT), "bbox": [40, 10, 20, 20]},
            {"image_id": 0, "category_id": 4, "segmentation": [], "bbox": [0, 0, 3, 3]},
        ]
        coco_file(root / split / "annotation_coco.json", [name], ENDOSCAPES, annotations)


def check_endoscapes(videos: dict[str, VideoFolder]) -> None:
    assert set(videos) == {"train/stills_000"}
    video = videos["train/stills_000"]
    assert video.facts.stills and len(video.frames()) == 2
    assert [(one.source_class, one.kind) for one in video.facts.masklets] == [("tool", "instrument")] * 2


def grasp(root: Path) -> None:
    classes = ["Bipolar Forceps", "Prograsp Forceps", "Large Needle Driver", "Monopolar Curved Scissors",
               "Suction Instrument", "Clip Applier", "Laparoscopic Grasper"]  # fmt: skip
    for part, case in (("train", "CASE001"), ("test", "CASE041")):
        names = [f"{case}/{number:09d}.jpg" for number in (68, 1642)]
        for name in names:
            photo(root / "frames" / name)
        annotations: list[dict[str, object]] = [
            {"image_id": image, "category_id": kind, "segmentation": rle(where)}
            for image in (0, 1)
            for kind, where in ((2, LEFT), (2, RIGHT))
        ]
        coco_file(root / f"annotations/grasp_short-term_{part}.json", names, classes, annotations)


def check_grasp(videos: dict[str, VideoFolder]) -> None:
    assert set(videos) == {"train/CASE001", "train/CASE041"}
    video = videos["train/CASE001"]
    assert list(video.frames()) == [68, 1642]
    assert [one.class_name for one in video.facts.masklets] == ["needle driver"] * 2
    assert np.array_equal(read_index(video.masks()[68]), read_index(video.masks()[1642]))


def dsad(root: Path) -> None:
    for organ in ("liver", "pancreas"):
        for number in range(2):
            photo(root / organ / f"03/image{number:02d}.png", number)
            save(root / organ / f"03/mask{number:02d}.png", labels({255: LEFT}))
            save(root / organ / f"03/anno_1/mask{number:02d}.png", labels({255: RIGHT}))
    photo(root / "multilabel/03/image00.png")


def check_dsad(videos: dict[str, VideoFolder]) -> None:
    assert set(videos) == {"train/liver_03", "train/pancreas_03"}
    (organ,) = videos["train/pancreas_03"].facts.masklets
    assert (organ.class_name, organ.source_class, organ.kind) == ("", "pancreas", "tissue")


def autolaparo(root: Path) -> None:
    mask = labels({60: LEFT, 180: (slice(32, 48), slice(0, 64))})
    mask[10:14, 4:20] = 80  # the shaft of the tool
    for clip in (1, 2):
        for frame in (1, 25, 50):
            photo(root / f"AutoLaparo_Task3/imgs/{clip:03d}{frame:03d}.jpg", frame)
            save(root / f"AutoLaparo_Task3/masks/{clip:03d}{frame:03d}.png", grey3(mask))


def check_autolaparo(videos: dict[str, VideoFolder]) -> None:
    assert set(videos) == {"train/clip_001", "train/clip_002"}
    video = videos["train/clip_001"]
    assert list(video.frames()) == [1, 25, 50]
    assert [one.class_name for one in video.facts.masklets] == ["ligature", "uterus"]


def polypgen(root: Path) -> None:
    folder = root / "PolypGen2021_MultiCenterData_v3/sequenceData/positive/seq3"
    for number in (2, 10):
        photo(folder / f"images_seq3/C1_{number}.jpg", number)
        save(folder / f"masks_seq3/C1_{number}_mask.jpg", grey3(labels({255: LEFT})))


def check_polypgen(videos: dict[str, VideoFolder]) -> None:
    assert set(videos) == {"test/seq3"}
    assert [one.class_name for one in videos["test/seq3"].facts.masklets] == ["polyp"]


def kvasir(root: Path) -> None:
    for number in range(2):
        photo(root / f"Kvasir-SEG/images/cju{number}.jpg", number, (H + 2 * number, W))
        save(
            root / f"Kvasir-SEG/masks/cju{number}.jpg",
            grey3(labels({255: LEFT if number else RIGHT}, (H + 2 * number, W))),
        )


def check_kvasir(videos: dict[str, VideoFolder]) -> None:
    assert set(videos) == {"train/stills_000"}
    assert [one.class_name for one in videos["train/stills_000"].facts.masklets] == ["polyp"]


def clinicdb(root: Path) -> None:
    rows = [(1, 1), (2, 1), (3, 2)]
    for frame, _ in rows:
        photo(root / f"PNG/Original/{frame}.png", frame)
        save(root / f"PNG/Ground Truth/{frame}.png", labels({255: LEFT, 3: RIGHT}))
    with (root / "metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["frame_id", "sequence_id", "png_image_path", "png_mask_path"])
        for frame, sequence in rows:
            table.writerow([frame, sequence, f"PNG/Original/{frame}.png", f"PNG/Ground Truth/{frame}.png"])


def check_clinicdb(videos: dict[str, VideoFolder]) -> None:
    assert {name: len(video.frames()) for name, video in videos.items()} == {
        "train/sequence_01": 2,
        "train/sequence_02": 1,
    }


def bkai(root: Path) -> None:
    colours = np.zeros((H, W, 3), np.uint8)
    colours[LEFT], colours[RIGHT] = (255, 0, 0), (0, 255, 0)
    photo(root / "train/train/a1.jpeg")
    save(root / "train_gt/train_gt/a1.jpeg", colours)


def check_bkai(videos: dict[str, VideoFolder]) -> None:
    masklets = videos["train/stills_000"].facts.masklets
    assert [one.source_class for one in masklets] == ["neoplastic polyp", "non-neoplastic polyp"]
    assert {one.class_name for one in masklets} == {"polyp"}


def davis(root: Path) -> None:
    for number in range(3):
        photo(root / f"train/JPEGImages/ab12/{5 * number:05d}.jpg", number)
    for number in range(2):
        path = root / f"train/Annotations/ab12/{5 * number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_index(path, labels({2: LEFT, 7: RIGHT}))
    objects = {"2": {"category": "hook", "frames": ["00000"]}, "7": {"category": "ape", "frames": ["00000"]}}
    (root / "train/meta.json").write_text(json.dumps({"videos": {"ab12": {"objects": objects}}}))
    photo(root / "valid/JPEGImages/480p/bear/00000.jpg")
    save(root / "valid/Annotations/480p/bear/00000.png", labels({255: LEFT}))


def check_davis(videos: dict[str, VideoFolder]) -> None:
    assert set(videos) == {"train/ab12", "val/bear"}
    video = videos["train/ab12"]
    assert [(one.class_name, one.source_class) for one in video.facts.masklets] == [
        ("hook", "hook"),
        ("", "ape"),
    ]
    assert list(video.frames()) == [0, 5, 10] and list(video.masks()) == [0, 5]
    assert len(videos["val/bear"].facts.masklets) == 1


def synth(root: Path) -> None:
    command = ["data", "synth", "--out", str(root), "--seeds", "3", "--frames", "3", "--size", "96x64"]
    assert cli.main([*command, "--split", "training"]) == 0


def check_synth(videos: dict[str, VideoFolder]) -> None:
    (video,) = videos.values()
    assert list(videos) == ["train/long_0003"] and list(video.frames()) == [0, 1, 2]
    facts = video.facts
    assert (facts.dataset, facts.licence, facts.frame_rate) == ("synth", "Apache-2.0", 12.5)
    assert facts.prompt_area == 0.01 and all(one.class_name for one in facts.masklets)


def artnet(root: Path) -> None:
    for split, number in (("Train", 1), ("Train", 662), ("Test", 154)):
        folder, name = root / split, f"{split}_Pos_sample_{number:04d}"
        photo(folder / f"{split}_Positive/{name}.png", number)
        save(folder / f"{split}_Positive_Tool_Mask/{name}_Tool_Mask.png", labels({255: LEFT, 90: RIGHT}))
        save(folder / f"{split}_Positive_TipPoint/{name}_TipPoint.png", labels({255: RIGHT}))
        photo(folder / f"{split}_Negative/{split}_Neg_sample_{number:04d}.png")


def check_artnet(videos: dict[str, VideoFolder]) -> None:
    video = videos["train/stills_000"]
    assert len(video.frames()) == 3 and set(videos) == {"train/stills_000"}
    assert [(one.source_class, one.kind) for one in video.facts.masklets] == [("instrument", "instrument")]


def robotool(root: Path) -> None:
    for name in ("dv10_00001", "dv2_00197"):
        photo(root / f"robo_tool/{name}.png")
        save(root / f"robo_tool/{name}_seg.png", grey3(labels({1: LEFT}) + labels({1: RIGHT})))


def check_robotool(videos: dict[str, VideoFolder]) -> None:
    video = videos["train/stills_000"]
    assert len(video.frames()) == 2 and len(video.facts.masklets) == 2
    assert np.unique(read_index(video.masks()[1])).tolist() == [0, 1, 2]


def ytvis(root: Path) -> None:
    names = [f"v1/{number:05d}.jpg" for number in range(2)]
    for name in names:
        photo(root / "valid/JPEGImages" / name)
    raw = {
        "videos": [{"id": 1, "width": W, "height": H, "length": 2, "file_names": names}],
        "categories": [{"id": 9, "name": "scissors"}],
        "annotations": [
            {"id": 4, "video_id": 1, "category_id": 9, "segmentations": [None, rle(LEFT)]},
            {"id": 5, "video_id": 1, "category_id": 9, "segmentations": [rle(RIGHT), box(RIGHT)]},
        ],
    }
    (root / "valid/valid.json").write_text(json.dumps(raw))


def check_ytvis(videos: dict[str, VideoFolder]) -> None:
    video = videos["val/v1"]
    assert [one.class_name for one in video.facts.masklets] == ["scissors"] * 2
    assert [np.unique(read_index(path)).tolist() for path in video.masks().values()] == [[0, 1], [0, 1, 2]]


def vocalfolds(root: Path) -> None:
    for patient, sequence in ((1, 4), (2, 5), (2, 6)):
        for number in (3, 9):
            photo(root / f"img/patient{patient}/seq{sequence}/{number:04d}_l.jpg")
            save(
                root / f"annot/patient{patient}/seq{sequence}/{number:04d}.png",
                labels({1: LEFT, 5: RIGHT, 3: (slice(36, 46), slice(4, 60))}),
            )


def check_vocalfolds(videos: dict[str, VideoFolder]) -> None:
    assert set(videos) == {"test/patient1_seq4", "val/patient2_seq5", "train/patient2_seq6"}
    facts = videos["test/patient1_seq4"].facts
    assert [one.kind for one in facts.masklets] == ["tissue", "other", "instrument"]


def pairs(root: Path) -> None:
    photo(root / "images/x.jpg")
    save(root / "masks/x.png", labels({255: LEFT}))


def check_pairs(videos: dict[str, VideoFolder]) -> None:
    assert videos["train/stills_000"].facts.masklets[0].class_name == ""


CASES: dict[str, tuple[Callable[[Path], None], Callable[[dict[str, VideoFolder]], None]]] = {
    "endovis17": (endovis17, check_endovis17),
    "endovis18": (endovis18, check_endovis18),
    "cholecseg8k": (cholecseg8k, check_cholecseg8k),
    "cis": (cis, check_cis),
    "sar-rarp50": (rarp50, check_rarp50),
    "endoscapes": (endoscapes, check_endoscapes),
    "dsad": (dsad, check_dsad),
    "autolaparo": (autolaparo, check_autolaparo),
    "grasp": (grasp, check_grasp),
    "polypgen": (polypgen, check_polypgen),
    "kvasir-seg": (kvasir, check_kvasir),
    "clinicdb": (clinicdb, check_clinicdb),
    "bkai-igh": (bkai, check_bkai),
    "art-net": (artnet, check_artnet),
    "robotool": (robotool, check_robotool),
    "davis": (davis, check_davis),
    "synth": (synth, check_synth),
    "ytvis": (ytvis, check_ytvis),
    "vocalfolds": (vocalfolds, check_vocalfolds),
    "pairs": (pairs, check_pairs),
}
