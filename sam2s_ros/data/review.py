"""`sam2s data review`: the frames of propagated videos that a person should look at: a list and a contact sheet."""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

from sam2s_ros.data.dataset_view import contact_sheet, write_sheet
from sam2s_ros.data.given_paths import check_out_folder
from sam2s_ros.data.provenance import PROVENANCE_FILE, place_of, read_provenance
from sam2s_ros.data.video_folder import VIDEO_FILE, VideoFolder, find_videos, read_video

HELP = "list the frames of propagated videos on which the model is least sure, with a contact sheet of them"
LIST_FILE = "frames.csv"
COLUMNS = ("dataset", "split", "video", "frame", "confidence", "id", "masklet")


@dataclass(frozen=True)
class Doubt:
    """A frame to be looked at."""

    frame: int
    confidence: float
    """The lowest of the frame's masks by a model."""
    masklet: int
    """Whose it is."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sam2s data review`."""
    parser.add_argument("folder", type=Path, help=f"a video with {PROVENANCE_FILE}, or a folder with some")
    parser.add_argument(
        "--out", type=Path, required=True, help=f"folder for {LIST_FILE} and a sheet per video"
    )
    parser.add_argument(
        "--below",
        type=float,
        default=1.0,
        help="list frames with a confidence below this, 0 to 1 (default: 1, all)",
    )
    parser.add_argument(
        "--most", type=int, default=12, metavar="N", help="the N least sure ones of a video (default: 12)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the list and the sheets, and say how many frames are on them."""
    if arguments.most < 1:
        raise ValueError(f"--most {arguments.most}: at least 1 is needed")
    if not 0 <= arguments.below <= 1:
        raise ValueError(f"--below {arguments.below}: give a confidence from 0 to 1")
    check_out_folder(arguments.out, "--out")
    videos = [read_video(path) for path in find_videos(arguments.folder)]
    videos = [video for video in videos if (video.path / PROVENANCE_FILE).is_file()]
    if not videos:
        raise FileNotFoundError(
            f"no video under {arguments.folder} has a {PROVENANCE_FILE} beside its {VIDEO_FILE}; "
            "`sam2s data propagate` writes one"
        )
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / LIST_FILE).open("w", newline="", encoding="utf-8") as table:
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(COLUMNS)
        for video in videos:
            doubts = doubtful(video, arguments.below, arguments.most)
            for one in doubts:
                name = video.facts.names[one.masklet]
                rows.writerow((*place_of(video).parts, one.frame, f"{one.confidence:.4f}", one.masklet, name))
            print(f"{video.path}: {len(doubts)} frames to look at")
            if doubts:
                sheet = contact_sheet(video, [one.frame for one in doubts])
                path = arguments.out / f"{video.facts.dataset}_{video.facts.split}_{video.name}.png"
                write_sheet(path, sheet)
    print(arguments.out / LIST_FILE)
    return 0


def doubtful(video: VideoFolder, below: float, most: int) -> list[Doubt]:
    """At most `most` frames with a confidence under `below` (1: with any), the least sure first; none all by hand.

    Of frames with the same lowest confidence, such as 0 of a masklet that no label shows, the next lowest decides.

    Raises:
        ValueError: the provenance has a frame that the video lacks, or is not what `read_provenance` takes.
    """
    provenance = read_provenance(video)
    frames = video.frames()
    foreign = [frame for frame in provenance.origins if frame not in frames]
    if foreign:
        raise ValueError(
            f"{video.path / PROVENANCE_FILE} has frame {foreign[0]}, which the video lacks; propagate it again"
        )
    found = [(provenance.confidences(frame), frame) for frame in provenance.origins]
    ranked = sorted((row, frame) for row, frame in found if row and (row[0][0] < below or below >= 1))
    return [Doubt(frame, *row[0]) for row, frame in ranked[:most]]


def read_list(path: Path, video: VideoFolder) -> list[int]:
    """The frames that a list names for a video, in order: for that of its data set and split alone.

    Raises:
        FileNotFoundError: there is no such list.
        ValueError: it is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--frames {path} is no file; name a {LIST_FILE} of `sam2s data review`")
    place = place_of(video).parts
    with path.open(newline="", encoding="utf-8") as table:
        try:
            rows = list(csv.DictReader(table))
            return sorted(
                {int(row["frame"]) for row in rows if tuple(row[name] for name in COLUMNS[:3]) == place}
            )
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise ValueError(
                f"{path} is no list of `sam2s data review` (columns {', '.join(COLUMNS)}): {error!r}"
            ) from None
