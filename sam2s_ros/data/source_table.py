"""The data sets that `sam2s data convert` knows, and the rows of the SAM2S paper's Table 1 that they make."""

from __future__ import annotations

from dataclasses import dataclass

from sam2s_ros.data.endovis_sources import plan_endovis17, plan_endovis18
from sam2s_ros.data.open_sources import plan_davis, plan_pairs, plan_synth, plan_vocalfolds, plan_ytvis
from sam2s_ros.data.polyp_sources import plan_bkai, plan_clinicdb, plan_kvasir, plan_polypgen
from sam2s_ros.data.sources import DataSet
from sam2s_ros.data.surgical_sources import (
    plan_autolaparo,
    plan_cholecseg8k,
    plan_cis,
    plan_dsad,
    plan_endoscapes,
    plan_grasp,
    plan_rarp50,
)
from sam2s_ros.data.tool_sources import plan_artnet, plan_robotool

_NEPHRECTOMY, _PROSTATECTOMY = "nephrectomy", "prostatectomy"
_CHOLECYSTECTOMY, _COLONOSCOPY = "cholecystectomy", "colonoscopy"

_LISTED = (
    DataSet(
        "endovis17", "EndoVis 2017", "instrument_dataset_N/left_frames and ground_truth or gt/TypeSegmentation",
        plan_endovis17, _NEPHRECTOMY, frame_rate=2.0, rows=(("test", "EndoVis17"),),
    ),
    DataSet(
        "endovis18", "EndoVis 2018", "seq_N/left_frames beside seq_N/labels",
        plan_endovis18, _NEPHRECTOMY, frame_rate=2.0, rows=(("test", "EndoVis18"),),
    ),
    DataSet(
        "cholecseg8k", "CholecSeg8k", "videoNN/videoNN_NNNNN/frame_N_endo.png and frame_N_endo_watershed_mask.png",
        plan_cholecseg8k, _CHOLECYSTECTOMY, frame_rate=25.0, rows=(("train", "CholecSeg8k"),),
    ),
    DataSet(
        "cis", "CholecInstanceSeg", "VIDNN_t50_full/img_dir beside ann_dir",
        plan_cis, _CHOLECYSTECTOMY, rows=(("train", "CIS-Train"), ("test", "CIS-Test")),
    ),
    DataSet(
        "sar-rarp50", "SAR-RARP50", "test/video_N/rgb (made by the challenge's `unpack`) beside segmentation",
        plan_rarp50, _PROSTATECTOMY, frame_rate=60.0, rows=(("test", "RARP50"),),
    ),
    DataSet(
        "endoscapes", "Endoscapes-Seg50", "train_seg, val_seg, test_seg with annotation_coco.json",
        plan_endoscapes, _CHOLECYSTECTOMY, "CC BY-NC-SA 4.0", rows=(("train", "Endoscapes"),),
    ),
    DataSet(
        "dsad", "Dresden Surgical Anatomy Dataset", "liver/NN/image00.png with mask00.png, and the other organs",
        plan_dsad, "rectal resection", rows=(("train", "DSAD-V"),),
    ),
    DataSet(
        "autolaparo", "AutoLaparo, task 3", "imgs beside masks",
        plan_autolaparo, "hysterectomy", "not for commercial purposes (the data set's README)", 25.0,
        rows=(("train", "AutoLaparo"),),
    ),
    DataSet(
        "grasp", "GraSP", "frames/CASENNN beside annotations/grasp_short-term_train.json",
        plan_grasp, _PROSTATECTOMY, frame_rate=30.0, rows=(("train", "GraSP"),),
    ),
    DataSet(
        "polypgen", "PolypGen", "sequenceData/positive/seqN/images_seqN beside masks_seqN",
        plan_polypgen, _COLONOSCOPY, frame_rate=5.0, rows=(("test", "PolypGen"),),
    ),
    DataSet(
        "kvasir-seg", "Kvasir-SEG", "images beside masks", plan_kvasir, _COLONOSCOPY, rows=(("train", "Kvasir-SEG"),)
    ),
    DataSet(
        "clinicdb", "CVC-ClinicDB", "metadata.csv, PNG/Original and PNG/Ground Truth",
        plan_clinicdb, _COLONOSCOPY, rows=(("train", "ClinicDB"),),
    ),
    DataSet(
        "bkai-igh", "BKAI-IGH NeoPolyp-Small", "train/train beside train_gt/train_gt",
        plan_bkai, _COLONOSCOPY, rows=(("train", "BKAI-IGH"),),
    ),
    DataSet(
        "art-net", "ART-Net", "Train/Train_Positive beside Train/Train_Positive_Tool_Mask, and Test",
        plan_artnet, rows=(("train", "ART-Net"),),
    ),
    DataSet(
        "robotool", "RoboTool", "dv10_00001.png beside dv10_00001_seg.png", plan_robotool, licence="CC BY 4.0",
        rows=(("train", "RoboTool"),),
    ),
    DataSet("davis", "DAVIS or YouTube-VOS", "JPEGImages beside Annotations", plan_davis, frame_rate=24.0),
    DataSet("synth", "what `sam2s data synth` rendered", "JPEGImages beside Annotations with objects.json", plan_synth,
            "rendered surgery", "Apache-2.0"),
    DataSet("ytvis", "YouTube-VIS (COCO with videos)", "a JSON file with videos, and their images", plan_ytvis,
            frame_rate=6.0),
    DataSet("vocalfolds", "Vocal Folds", "img/patientP/seqS beside annot/patientP/seqS", plan_vocalfolds,
            "laryngeal surgery", "CC BY 4.0"),
    DataSet("pairs", "any stills with a mask each", "images beside masks", plan_pairs),
)  # fmt: skip
SOURCES: dict[str, DataSet] = {source.name: source for source in _LISTED}


@dataclass(frozen=True)
class TableRow:
    """A row of the paper's Table 1; None where it has a dash."""

    videos: int | None
    frames: int
    instrument_masks: int | None
    tissue_masks: int | None
    masklets: int | None
    duration_s: float | None
    """Mean of a video."""


PAPER_TABLE: dict[str, TableRow] = {
    "ART-Net": TableRow(None, 816, 816, None, None, None),
    "BKAI-IGH": TableRow(None, 1000, None, 1176, None, None),
    "DSAD-I": TableRow(None, 4177, None, 4864, None, None),
    "Endoscapes": TableRow(None, 468, 936, 1288, None, None),
    "Kvasir-SEG": TableRow(None, 1000, None, 1064, None, None),
    "RoboTool": TableRow(None, 514, 1008, None, None, None),
    "AutoLaparo": TableRow(300, 1800, 2905, 1057, 738, 6),
    "CholecSeg8k": TableRow(45, 4338, 21136, 6242, 300, 4),
    "CIS-Train": TableRow(10, 19029, 31416, None, 77, 1903),
    "ClinicDB": TableRow(29, 612, None, 647, 32, 21),
    "DSAD-V": TableRow(76, 4390, None, 4248, 91, 58),
    "GraSP": TableRow(13, 3449, 9025, None, 130, 265),
    "CIS-Test": TableRow(4, 7229, 10971, None, 31, 1807),
    "EndoVis17": TableRow(3, 900, 2265, None, 10, 300),
    "EndoVis18": TableRow(4, 596, 1676, 807, 28, 149),
    "Hyst-YT": TableRow(6, 1973, 4113, None, 19, 329),
    "PolypGen": TableRow(21, 2037, None, 1761, 24, 19),
    "RARP50": TableRow(10, 3252, 10656, None, 81, 325),
    "SurgAI3.8k": TableRow(51, 3817, None, 3817, 51, 75),
}
"""arXiv 2511.16618 v1, Table 1."""
