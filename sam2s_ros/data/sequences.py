"""Long synthetic surgery videos, for validation and for demonstrations without any data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sam2s_ros.data.arrays import BoolArray, ByteArray
from sam2s_ros.data.backgrounds import load_tissue_library
from sam2s_ros.data.instruments import Instrument
from sam2s_ros.data.scene import Scene, SceneStyle, random_scene
from sam2s_ros.data.splits import VALIDATION


def instrument_style(objects: int, plain: bool, supersampling: float, leaving: float) -> SceneStyle:
    """Style of scenes with exactly `objects` instruments, of designs that training does not see."""
    count = tuple(float(i + 1 == objects) for i in range(max(objects, 4)))
    return SceneStyle(
        instruments=count, plain=plain, supersampling=supersampling, leaving=leaving, look_alikes=0.5, work_site=0.0,
        first_design=VALIDATION.first_design, designs=VALIDATION.designs,
    )  # fmt: skip


def render_sequence(
    seed: int,
    num_frames: int,
    size_hw: tuple[int, int] = (720, 1280),
    fps: float = 25.0,
    objects: int = 3,
    plain: bool = True,
    data_root: Path | None = None,
    render_scale: float | None = None,
    leaving: float = 0.0,
) -> Iterator[tuple[ByteArray, BoolArray]]:
    """Yield `num_frames` frames uint8 RGB [H, W, 3] with masks bool [objects, H, W] of a continuous scene.

    Every object is an instrument that is visible in the first frame; masks show visible parts and never overlap.
    plain: calm camera effects and no distractors. data_root: folder with `train/` for real backgrounds; None draws
    procedural tissue. render_scale: rendering size relative to the output; by default it is limited to 360 rows.
    leaving: chance that an instrument leaves the image at times.
    """
    if objects < 1 or num_frames < 1:
        raise ValueError(f"objects ({objects}) and num_frames ({num_frames}) must be at least 1")
    scale = min(1.0, 360.0 / size_hw[0]) if render_scale is None else render_scale
    scene = _visible_scene(
        seed, num_frames / fps, size_hw, instrument_style(objects, plain, scale, leaving), data_root
    )
    bodies = [i for i, body in enumerate(scene.bodies) if isinstance(body, Instrument)]
    for index in range(num_frames):
        frame, labels = scene.render(index / fps)
        yield frame, np.stack([scene.object_mask(labels, body) for body in bodies])


def _visible_scene(
    seed: int, duration: float, size_hw: tuple[int, int], style: SceneStyle, data_root: Path | None
) -> Scene:
    """The first scene of a seed in whose first frame every instrument covers 1 % of the image (in time 0.3 %)."""
    library = load_tissue_library(data_root)
    rng = np.random.default_rng([VALIDATION.stream, seed])
    for attempt in range(200):
        scene = random_scene(rng, library, size_hw, size_hw[1] / size_hw[0], duration, style)
        _, labels = scene.render(0.0)
        shares = scene.visible_shares(labels)
        needed = 0.01 if attempt < 100 else 0.003
        if all(s > needed for s, b in zip(shares, scene.bodies, strict=True) if isinstance(b, Instrument)):
            return scene
    raise ValueError(f"seed {seed} gives no scene in which all instruments are visible; use fewer objects")
