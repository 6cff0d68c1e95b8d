"""`sam2s data score`: how well the masks of versions of a video agree with the truth, on frames that were held out."""

from __future__ import annotations

import argparse
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sam2s_ros.data.given_paths import given_video
from sam2s_ros.data.provenance import Provenance, place_of, read_provenance
from sam2s_ros.data.review import LIST_FILE, read_list
from sam2s_ros.data.video_folder import VideoFolder, read_index
from sam2s_ros.evaluation.metrics import region_and_boundary

HELP = "J&F of propagated masks against a video with the truth, before and after corrections"


@dataclass(frozen=True)
class Agreement:
    """J&F in percent, over masklets the mean of the mean over frames; NaN where there is none."""

    all_frames: float
    """Frames without the masklet count too: 100 where both are empty."""
    present: float
    """Over frames on which the truth shows the masklet."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sam2s data score`."""
    parser.add_argument("truth", type=Path, help="the video with the true label images")
    parser.add_argument(
        "versions",
        type=Path,
        nargs="+",
        help="propagated videos; what is by hand in the first is not scored in any",
    )
    parser.add_argument(
        "--frames", type=Path, metavar=LIST_FILE, help="score the frames of this list and the others apart"
    )


def run(arguments: argparse.Namespace) -> int:
    """Score and print a line per version."""
    truth = given_video(arguments.truth, "TRUTH")
    versions = [given_video(path, "VERSION") for path in arguments.versions]
    for version in versions:
        for lacking in lacking_masklets(truth, version):
            print(f"{version.path} lacks the masklet {lacking}: counted as never found")
    provenances = [read_provenance(version) for version in versions]
    held_out = held_out_frames(truth, versions[0], provenances[0])
    parts = {"held-out frames": held_out}
    if len(versions) > 1:
        parts["by hand in none"] = [
            number for number in held_out if not any(one.by_hand(number) for one in provenances)
        ]
    if arguments.frames is not None:
        flagged = set(read_list(arguments.frames, versions[0]))
        if not flagged:
            raise ValueError(
                f"{arguments.frames} has nothing for {place_of(versions[0])}, and --frames asks for it"
            )
        parts["listed"] = [number for number in held_out if number in flagged]
        parts["not listed"] = [number for number in held_out if number not in flagged]
    print(f"J&F (%), in brackets over frames that show the masklet; {truth.path}")
    print(
        f"{'':44}{'by hand':>9}" + "".join(f"{f'{name} ({len(part)})':>26}" for name, part in parts.items())
    )
    for version, provenance in zip(versions, provenances, strict=True):
        by_hand = sum(provenance.complete_by_hand(number) for number in provenance.origins)
        table = score(truth, version, held_out)
        cells = [agreement(table, part) for part in parts.values()]
        print(f"{str(version.path)[-43:]:44}{by_hand:>9}" + "".join(f"{_cell(one):>26}" for one in cells))
    return 0


def held_out_frames(truth: VideoFolder, version: VideoFolder, provenance: Provenance) -> list[int]:
    """Frames that the truth has labelled and of which the version has no mask by hand.

    Raises:
        ValueError: there is none; or the version lacks a label image.
    """
    known, made = truth.masks(), version.masks()
    found = [number for number in known if not provenance.by_hand(number)]
    if not found:
        raise ValueError(
            f"{version.path}: every mask is by hand, so there is nothing to score against {truth.path}"
        )
    missing = [number for number in found if number not in made]
    if missing:
        raise ValueError(f"{version.path} has no label image of frame {missing[0]}, which {truth.path} has")
    return found


def lacking_masklets(truth: VideoFolder, version: VideoFolder) -> list[str]:
    """The names of the truth's masklets that a version lacks.

    Raises:
        ValueError: an id of the version is no id of the truth, or that of another class: what is of the same object
            must have the same id in both, or nothing is compared.
    """
    known = {masklet.id: masklet for masklet in truth.facts.masklets}
    for masklet in version.facts.masklets:
        own = known.pop(masklet.id, None)
        if own is None:
            raise ValueError(
                f"{version.path} has the masklet {masklet.name}, and {truth.path} has none with the id {masklet.id} "
                f"(its masklets are {', '.join(truth.facts.names.values())}); both need the same ids"
            )
        if (own.class_name, own.source_class) != (masklet.class_name, masklet.source_class):
            raise ValueError(
                f"{version.path}: masklet {masklet.id} is {masklet.name}, in {truth.path} it is {own.name}; both need "
                "the same ids"
            )
    return [masklet.name for masklet in known.values()]


def score(
    truth: VideoFolder, version: VideoFolder, frames: Sequence[int]
) -> dict[tuple[int, int], tuple[float, bool]]:
    """(frame, masklet) -> J&F as a fraction, and whether the truth shows the masklet there.

    Raises:
        ValueError: the label images of a frame differ in size, or one has an id that its `video.json` lacks.
    """
    known, made = truth.masks(), version.masks()
    table: dict[tuple[int, int], tuple[float, bool]] = {}
    for number in tqdm(frames, version.name, unit="frame", mininterval=1.0, disable=None):
        wanted, found = read_index(known[number]), read_index(made[number])
        if wanted.shape != found.shape:
            raise ValueError(
                f"{known[number]} is {wanted.shape[1]}x{wanted.shape[0]} pixels, and {made[number]} "
                f"{found.shape[1]}x{found.shape[0]}; both need the size of the frame"
            )
        for video, path, ids in ((truth, known[number], wanted), (version, made[number], found)):
            foreign = sorted(set(np.unique(ids).tolist()) - {0} - set(video.facts.names))
            if foreign:
                raise ValueError(
                    f"{path} has the id {foreign[0]}; {video.path} has the masklets {sorted(video.facts.names)}"
                )
        for masklet in truth.facts.masklets:
            mask = wanted == masklet.id
            value = float(np.mean(region_and_boundary(found == masklet.id, mask)))
            table[number, masklet.id] = (value, bool(mask.any()))
    return table


def agreement(table: dict[tuple[int, int], tuple[float, bool]], frames: Collection[int]) -> Agreement:
    """The mean over these frames."""
    chosen, ids = set(frames), sorted({masklet for _, masklet in table})

    def mean(present_only: bool) -> float:
        means = []
        for one in ids:
            values = [
                value
                for (frame, masklet), (value, present) in table.items()
                if masklet == one and frame in chosen and (present or not present_only)
            ]
            if values:
                means.append(100 * float(np.mean(values)))
        return float(np.mean(means)) if means else math.nan

    return Agreement(mean(False), mean(True))


def _cell(one: Agreement) -> str:
    return "-" if math.isnan(one.all_frames) else f"{one.all_frames:.1f} ({one.present:.1f})"
