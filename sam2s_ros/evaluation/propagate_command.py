"""`sam2s data propagate`: sparse labels carried over whole videos by the tracker, with how sure it is of each mask."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image
from tqdm import tqdm

from sam2s_ros.data.given_paths import check_out_folder
from sam2s_ros.data.provenance import Provenance, place_of, read_provenance
from sam2s_ros.data.video_folder import VIDEO_FILE, VideoFolder, find_videos, read_video
from sam2s_ros.evaluation.model_arguments import add_model_arguments, model_maker
from sam2s_ros.evaluation.propagate import Labels, propagate

HELP = "carry sparse labels over a video with the tracker, forwards and backwards, with a confidence for every mask"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sam2s data propagate`."""
    parser.add_argument(
        "folder", type=Path, help="a video, or a folder with videos at any depth, some frames labelled"
    )
    parser.add_argument("out", type=Path, help="folder for OUT/<source>/<split>/<video>, all frames labelled")
    parser.add_argument(
        "--every",
        type=int,
        default=1,
        metavar="N",
        help="use only every Nth labelled frame; what is left out can be compared with (default: 1, all)",
    )
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Propagate in each video; nothing is written before all can be."""
    if arguments.every < 1:
        raise ValueError(f"--every {arguments.every}: at least 1 is needed")
    check_out_folder(arguments.out, "OUT")
    videos = [read_video(path) for path in find_videos(arguments.folder)]
    stills = [video for video in videos if video.facts.stills]
    for video in stills:
        print(f"left out: {video.path} holds stills, between which nothing moves")
    videos = [video for video in videos if not video.facts.stills]
    if not videos:
        raise FileNotFoundError(f"no video under {arguments.folder}: no folder there has a {VIDEO_FILE}")
    all_labels = [labels_of(video, arguments.every) for video in videos]
    for video in videos:
        check_sizes(video)
        if (arguments.out / place_of(video)).exists():
            raise ValueError(
                f"{arguments.out / place_of(video)} is there already: delete it, or choose another folder"
            )
    facts: dict[str, Any] = {}
    tracker = model_maker(arguments, facts, max(len(video.facts.masklets) for video in videos))()
    with tqdm(total=2 * sum(len(video.frames()) for video in videos), unit="frame", mininterval=1.0) as bar:
        for labels in all_labels:
            used = len(labels.provenance.origins)
            source = (
                f"{arguments.model} ({facts['engine']['weights_sha256'][:12]}), from {used} labelled frames"
            )
            propagate(labels, arguments.out, tracker, source, bar.update)
    for labels in all_labels:
        video = read_video(arguments.out / place_of(labels.video))
        provenance = read_provenance(video)
        lowest = min(
            (row[0][0] for row in map(provenance.confidences, provenance.origins) if row), default=1.0
        )
        for one in labels.unseen:
            print(
                f"{video.path}: no label that was used shows {one.name}; it is on no other frame, confidence 0"
            )
        print(
            f"{video.path}: {len(video.frames())} frames from {len(labels.provenance.origins)} labelled ones, "
            f"{provenance.counts['model']} masks by the model, lowest confidence {lowest:.2f}"
        )
    return 0


def labels_of(video: VideoFolder, every: int) -> Labels:
    """The labels by hand of every Nth frame that has any; those by a model are never propagated again."""
    provenance = read_provenance(video)
    known = video.masks()
    numbers = [
        number for number in sorted(provenance.origins) if number in known and provenance.by_hand(number)
    ]
    return Labels(video, Provenance({number: provenance.origins[number] for number in numbers[::every]}))


def check_sizes(video: VideoFolder) -> None:
    """Read the sizes of all frames and label images, not what they show.

    Raises:
        ValueError: one is not that of the video.
        OSError: one is no image.
    """
    for path in (*video.frames().values(), *video.masks().values()):
        size = image_size(path)
        if size != video.facts.size:
            width, height = video.facts.size
            raise ValueError(
                f"{path} is {size[0]}x{size[1]} pixels, its video {width}x{height}; leave it out or scale it "
                "(`sam2s data check` lists such images)"
            )


def image_size(path: Path) -> tuple[int, int]:
    """Width and height as an image is read, turned if its camera says so. OSError: it is none."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return image.size[::-1] if turned else image.size
    except (OSError, SyntaxError, ValueError) as error:
        raise OSError(f"{path} is no image, or cut off: {' '.join(str(error).split())}") from None
