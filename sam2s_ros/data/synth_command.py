"""`sam2s data synth`: long synthetic surgeries with exact masks, as image folders."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sam2s_ros.data.backgrounds import library_of_folder
from sam2s_ros.data.long_videos import LongVideos, parse_seeds, parse_size, read_long_videos
from sam2s_ros.data.splits import SPLITS
from sam2s_ros.data.surgery import DIFFICULTIES
from sam2s_ros.data.write_videos import write_video

HELP = "render long synthetic surgeries with masks, identities and classes, in the layout of DAVIS"


def configure(synth: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sam2s data synth`. Complete videos are left as they are when it runs again."""
    defaults = LongVideos()
    synth.add_argument("--out", type=Path, required=True, help="folder to write to")
    synth.add_argument(
        "--config",
        type=Path,
        help="YAML file of settings, such as config/long_test.yaml; flags here override it",
    )
    synth.add_argument("--seeds", help=f"SEED or FIRST-LAST, one video each (default: {defaults.seeds[0]}-"
                       f"{defaults.seeds[-1]})")  # fmt: skip
    synth.add_argument("--frames", type=int, help=f"frames of each video (default: {defaults.frames})")
    synth.add_argument("--fps", type=float, help=f"frames per second (default: {defaults.fps})")
    synth.add_argument(
        "--size", metavar="WxH", help=f"pixels (default: {defaults.size[0]}x{defaults.size[1]})"
    )
    synth.add_argument("--difficulty", choices=list(DIFFICULTIES), help=f"default: {defaults.difficulty}")
    synth.add_argument(
        "--split",
        choices=list(SPLITS),
        help=f"whose seeds and instrument designs are drawn from (default: {defaults.split})",
    )
    synth.add_argument(
        "--backgrounds", type=Path, help="folder of pictures of tissue (default: procedural tissue)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the videos asked for, with a bar of frames."""
    videos = read_long_videos(arguments.config) if arguments.config else LongVideos()
    videos = replace(videos, **_given(arguments))
    if arguments.out.exists() and not arguments.out.is_dir():
        raise ValueError(f"--out {arguments.out} is a file; name a folder")
    if arguments.backgrounds is not None:
        library_of_folder(arguments.backgrounds)  # a mistake shows before anything is written
    kept = 0
    with tqdm(total=len(videos.seeds) * videos.frames, unit="frame", mininterval=1.0) as bar:
        for seed in videos.seeds:
            bar.set_postfix(seed=seed, refresh=False)
            if not write_video(arguments.out, videos, seed, arguments.backgrounds, bar.update):
                kept += 1
                bar.update(videos.frames)
    print(
        f"{arguments.out}: {len(videos.seeds)} videos of {videos.frames} frames, {kept} of them from before"
    )
    return 0


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given as flags."""
    given: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in ("frames", "fps", "difficulty", "split")
        if getattr(arguments, name) is not None
    }
    try:
        if arguments.seeds is not None:
            given["seeds"] = parse_seeds(arguments.seeds)
        if arguments.size is not None:
            given["size"] = parse_size(arguments.size)
    except ValueError as error:
        raise ValueError(f"--{error}") from None
    return given
