"""What the sources named on a command line stand for: bags, videos, folders, rendered scenes."""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from sam2s_ros.evaluation.bag_messages import is_bag, unchecked_part
from sam2s_ros.evaluation.bags import LABEL_TOPIC, BagSequence
from sam2s_ros.evaluation.long import PREFIX as LONG_PREFIX
from sam2s_ros.evaluation.long import LongSequence, find_long_sequences
from sam2s_ros.evaluation.rendered import PREFIX, find_rendered_sequences
from sam2s_ros.evaluation.sequences import ImageFolderSequence, Sequence, find_folder_sequences
from sam2s_ros.evaluation.videos import VideoSequence, is_video

LOG = logging.getLogger(__name__)


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `source` and what says how to read it."""
    parser.add_argument(
        "source",
        nargs="+",
        help="bags, videos, data set folders, image folders, rendered:FIRST-LAST for rendered scenes of these seeds, "
        "or long: for the long test",
    )
    parser.add_argument(
        "--data", type=Path, help="folder with train/, whose pictures rendered scenes have as tissue"
    )
    parser.add_argument(
        "--ground-truth",
        metavar="TOPIC|DIR",
        help=f"topic of label images in a bag (default: {LABEL_TOPIC}), or folder of label images in the layout of "
        "DAVIS, for a bag, a video or an image folder",
    )
    parser.add_argument("--image-topic", help="image topic of a bag (default: its only one)")


def find_all_sequences(arguments: argparse.Namespace) -> list[Sequence]:
    """The sequences of all sources, each with a name of its own: like-named bags get their folder's too.

    Raises:
        FileNotFoundError, ValueError: as `find_sequences`; two are the same file, or have the same name.
    """
    sequences = [found for source in arguments.source for found in find_sequences(source, arguments)]
    warn_of_unchecked_parts(sequences)
    twice = {name for name, count in Counter(one.name for one in sequences).items() if count > 1}
    sequences = [
        replace(one, title=f"{one.path.resolve().parent.name}/{one.name}")
        if one.name in twice and isinstance(one, BagSequence | VideoSequence)
        else one
        for one in sequences
    ]
    for name, count in Counter(one.name for one in sequences).items():
        if count > 1:
            raise ValueError(
                f"{count} sources are called {name}: name each once, and give files names that differ"
            )
    return sequences


def find_sequences(text: str, arguments: argparse.Namespace) -> list[Sequence]:
    """The sequences that a source stands for: one for a bag or a video, all with ground truth below a folder.

    Raises:
        FileNotFoundError: there is no such source, or no ground truth for it.
        ValueError: the source is not of a kind that is known.
    """
    if text.startswith(PREFIX):
        return list(find_rendered_sequences(text, arguments.data))
    if text.startswith(LONG_PREFIX):
        return list(find_long_sequences(text))
    source = Path(text)
    if not source.exists():
        raise FileNotFoundError(f"there is no bag, video or folder {source}")
    truth: str | None = arguments.ground_truth
    if is_bag(source):
        if truth is None or _is_topic(truth):
            return [BagSequence(source, arguments.image_topic, truth or LABEL_TOPIC)]
        return [
            BagSequence(source, arguments.image_topic, label_folder=truth_folder(Path(truth), source.stem))
        ]
    if truth is not None and _is_topic(truth):
        raise ValueError(
            f"--ground-truth {truth} is a topic, but {source} is no bag: give a folder of label images"
        )
    if is_video(source):
        if truth is None:
            raise ValueError(f"{source} is a video: give its label images with --ground-truth DIR")
        return [VideoSequence(source, truth_folder(Path(truth), source.stem))]
    if source.is_file():
        raise ValueError(f"{source} is no bag (.mcap, .db3), video or folder")
    folder = None if truth is None else truth_folder(Path(truth), source.name)
    return list(find_folder_sequences(source, folder))


def truth_folder(folder: Path, name: str) -> Path:
    """The folder of label images of one source: `folder` itself, or what holds its name in the layout of DAVIS."""
    for candidate in (folder / "Annotations" / name, folder / name, folder):
        if candidate.is_dir() and any(candidate.glob("*.png")):
            return candidate
    raise FileNotFoundError(
        f"no label images (PNG) for {name} in {folder}, {folder / name} or {folder / 'Annotations' / name}"
    )


def warn_of_unchecked_parts(sequences: Iterable[Sequence]) -> None:
    """Say of each bag what of it no checksum protects, before it is scored."""
    for sequence in sequences:
        if isinstance(sequence, BagSequence) and (unchecked := unchecked_part(sequence.path)):
            LOG.warning("%s", unchecked)


def prompt_area_of(sequence: Sequence) -> float:
    """Share of the image that an object covers when it is prompted; synthetic videos say it, others show a pixel."""
    return sequence.prompt_area if isinstance(sequence, LongSequence | ImageFolderSequence) else 0.0


def _is_topic(text: str) -> bool:
    return text.startswith("/") and not Path(text).is_dir()
