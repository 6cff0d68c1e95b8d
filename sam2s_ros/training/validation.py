"""Validation during training: mask-prompted tracking of fixed clips by the averaged weights, scored by J&F."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from sam2s_ros.data.backgrounds import load_tissue_library
from sam2s_ros.data.clips import MIN_FIRST_AREA, folder_of, validation_clips
from sam2s_ros.data.folder_validation import validation_clip, validation_videos
from sam2s_ros.evaluation.metrics import region_and_boundary
from sam2s_ros.network import NetworkConfig, Sam2Network
from sam2s_ros.training.batches import Clip
from sam2s_ros.training.clip_loss import normalise
from sam2s_ros.training.config import TrainConfig
from sam2s_ros.training.processes import sum_over_processes
from sam2s_ros.training.rollout import Rollout, RolloutPlan

LENGTH = 32
"""Frames of a clip."""
OBJECTS = 2
"""Of a rendered clip, at most."""
VIDEO_OBJECTS = 3
"""Of a video's clip, at most."""
MODES = {"memory": False, "previous": True}
"""Name of a score -> whether each frame is also prompted by the previous frame's mask."""

INSTEAD = "name another folder, or leave `validation` empty for rendered scenes"


class ValidationClips:
    """The clips that one process of several validates on. Those of videos are read anew each time, one at a time."""

    def __init__(self, config: TrainConfig, data: Path, rank: int = 0, ranks: int = 1) -> None:
        self._config, self._data, self._rank, self._ranks = config, data, rank, ranks
        self._rendered: list[Clip] | None = None

    def __iter__(self) -> Iterator[Clip]:
        config = self._config
        folder = folder_of(config.validation)
        if folder is not None:
            videos = validation_videos(self._data / folder, config.validation_clips)
            for video in videos[self._rank :: self._ranks]:
                clip = validation_clip(video, config.side, LENGTH, VIDEO_OBJECTS)
                if clip is not None:
                    yield clip
            return
        if self._rendered is None:
            own = range(self._rank, config.validation_clips, self._ranks)
            tissue = self._data if (self._data / "train").is_dir() else None
            clips = validation_clips(tissue, numbers=own, length=LENGTH, size=config.side, objects=OBJECTS)
            self._rendered = list(clips)
        yield from self._rendered


def check_validation(config: TrainConfig, data: Path) -> None:
    """Read all that a run will be validated on once, so that what is wrong with it shows before the first step.

    Videos that cannot be validated on are named. `data` is the folder that the one of `validation` is relative to.

    Raises:
        FileNotFoundError, ValueError, OSError: there is no video to validate on, or a file that is no image.
    """
    cv2.setNumThreads(0)  # processes that read are forked from this one, which must have no threads then
    folder = folder_of(config.validation)
    if folder is None:
        if (data / "train").is_dir():
            load_tissue_library(data)
        return
    try:
        videos = validation_videos(data / folder, config.validation_clips)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"validation: {config.validation}: {error}; {INSTEAD}") from None
    useless = [v for v in videos if validation_clip(v, config.side, LENGTH, VIDEO_OBJECTS) is None]
    why = (
        f"has no two labelled frames, the first of which shows an object of {MIN_FIRST_AREA:.1%} of the image"
    )
    if len(useless) == len(videos):
        raise ValueError(
            f"validation: {config.validation}: {useless[0].path} {why}, nor has any other; {INSTEAD}"
        )
    for video in useless:
        print(f"validation: left out {video.path}, which {why}", flush=True)


def validate(
    config: NetworkConfig, weights: Mapping[str, Tensor], clips: Iterable[Clip], fabric: Fabric
) -> dict[str, float]:
    """Mean over the clips of all processes of J, F and their mean J&F, at the network's size, 0..1.

    Over the frames after the first that show the object. J&F with the previous frame's mask as a prompt is
    `jf_previous`, without it `jf_memory`, and `jf` is the mean of both; `j` and `f` are such means too.

    Raises:
        ValueError: there is no clip.
    """
    network = Sam2Network(config)
    network.load_state_dict(dict(weights))
    network.to(fabric.device).eval()
    sums = torch.zeros(2 * len(MODES) + 1, dtype=torch.float64, device=fabric.device)
    for clip in clips:
        scores = [track_scores(network, clip, previous) for previous in MODES.values()]
        sums += sums.new_tensor([*np.ravel(scores), 1.0])
    sums = sum_over_processes(fabric, sums).cpu()
    if not sums[-1]:
        raise ValueError("no clip to validate on shows an object; set validation_clips to 1 or more")
    j_and_f = (sums[:-1] / sums[-1]).view(len(MODES), 2)
    named = {f"jf_{name}": float(row.mean()) for name, row in zip(MODES, j_and_f, strict=True)}
    j, f = j_and_f.mean(dim=0).tolist()
    return {**named, "jf": float(j_and_f.mean()), "j": j, "f": f}


@torch.inference_mode()
def track_scores(network: Sam2Network, clip: Clip, previous_mask: bool) -> tuple[float, float]:
    """J and F of a clip's objects in the frames after the first that show them; 1.0 where there is none."""
    plan = RolloutPlan(prompt="mask", clicks=0, correct_at=-1, previous_mask=previous_mask)
    device = network.no_mem_embed.device
    frames, masks = (torch.from_numpy(values[None]).to(device) for values in (clip.frames, clip.masks))
    rollout = Rollout(network, normalise(frames, network), masks, plan, np.random.default_rng(0))
    scores = []
    for item in rollout.run():
        predicted = (item.decoded.high_res[:, 0] > 0).cpu().numpy()
        truth = clip.masks[item.frame]
        scores += [region_and_boundary(p, t) for p, t in zip(predicted, truth, strict=True) if t.any()]
    if not scores:
        return 1.0, 1.0
    j, f = np.mean(scores, axis=0).tolist()
    return j, f
