"""Training clips: the type, the sources and their mixture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.data.arrays import BoolArray, ByteArray, FloatArray
from sam2s_ros.data.backgrounds import TissueLibrary, load_tissue_library
from sam2s_ros.data.motion import frame_times
from sam2s_ros.data.scene import Scene, SceneStyle, random_scene, target_weights

MIN_FIRST_AREA = 0.001


@dataclass(frozen=True)
class Clip:
    """One training sample; objects do not overlap and each is visible in the first frame."""

    frames: ByteArray  # [T, S, S, 3] RGB
    masks: BoolArray  # [T, K, S, S] visible part of each object
    class_names: tuple[str, ...]  # [K], "" when unknown


class ClipSource(ABC):
    """Something that clips can be drawn from."""

    @abstractmethod
    def sample(
        self, rng: np.random.Generator, length: int, objects: int, size: int, long_term: int = 0
    ) -> Clip:
        """Draw a clip of `length` frames of `size` x `size` pixels with `objects` objects.

        The clip depends on nothing but the generator's state and the arguments. An object may be listed twice when
        the scene has fewer than asked for. `long_term` frames after the first lie anywhere in the video; at least two
        consecutive ones must follow them.
        """


def choose_objects(rng: np.random.Generator, weights: FloatArray, objects: int) -> NDArray[np.int64] | None:
    """Indices [objects] drawn by weight without repetition as far as possible; None when all weights are 0."""
    usable = np.flatnonzero(weights > 0)
    if len(usable) == 0:
        return None
    share = weights[usable] / weights[usable].sum()
    count = min(objects, len(usable))
    chosen = rng.choice(usable, count, replace=False, p=share)
    extra = rng.choice(usable, objects - count, p=share)
    return np.concatenate([chosen, extra]).astype(np.int64)


class SurgicalSource(ClipSource):
    """Synthetic surgery: instruments, tissue bodies and distractors over moving tissue."""

    def __init__(self, library: TissueLibrary, style: SceneStyle | None = None) -> None:
        self._library = library
        self._style = style or SceneStyle()

    def sample(
        self, rng: np.random.Generator, length: int, objects: int, size: int, long_term: int = 0
    ) -> Clip:
        while True:
            times = frame_times(rng, length, long_term=long_term)
            aspect = float(rng.choice([1.0, 1.25, 1.33, 1.5, 1.78], p=[0.15, 0.35, 0.15, 0.1, 0.25]))
            scene = random_scene(rng, self._library, (size, size), aspect, float(times.max()), self._style)
            first = scene.render(0.0)
            areas = scene.visible_shares(first[1])
            chosen = choose_objects(rng, target_weights(scene, areas, self._style), objects)
            if chosen is not None:
                return _film(scene, times, chosen, first)


def _film(
    scene: Scene, times: FloatArray, chosen: NDArray[np.int64], first: tuple[ByteArray, ByteArray]
) -> Clip:
    """Render a scene at the given times; `first` is its rendering at the first of them."""
    renders = [first, *(scene.render(float(time)) for time in times[1:])]
    masks = np.stack([[scene.object_mask(labels, int(body)) for body in chosen] for _, labels in renders])
    names = tuple(scene.bodies[int(body)].name for body in chosen)
    return Clip(np.stack([frame for frame, _ in renders]), masks, names)


class MixtureSource(ClipSource):
    """Picks one of several sources for each sample."""

    def __init__(self, sources: Sequence[tuple[ClipSource, float]]) -> None:
        if not sources or sum(weight for _, weight in sources) <= 0:
            raise ValueError("a mixture needs at least one source of positive weight")
        self._sources = [source for source, _ in sources]
        weights = np.array([weight for _, weight in sources], np.float64)
        self._shares = weights / weights.sum()

    def sample(
        self, rng: np.random.Generator, length: int, objects: int, size: int, long_term: int = 0
    ) -> Clip:
        index = int(rng.choice(len(self._sources), p=self._shares))
        return self._sources[index].sample(rng, length, objects, size, long_term)


DEFAULT_WEIGHTS: dict[str, float] = {"surgical": 0.55, "vocalfolds": 0.16, "davis": 0.09, "still_motion": 0.2}
PROCEDURAL = "procedural"
"""Surgery over procedural tissue: the source that needs no data."""
MORE_SOURCES = ("long_surgery", PROCEDURAL)
"""The former: instruments with class names that leave and return."""
FOLDER_PREFIX = "videos:"
"""Begins the name of a source of converted videos (`folder_clips`); their folder follows, relative to `data_root`."""


def folder_of(name: str) -> str | None:
    """The folder that the name of a source of converted videos holds; None: it is another source."""
    return name.removeprefix(FOLDER_PREFIX) if name.startswith(FOLDER_PREFIX) else None


def make_mixture(
    data_root: Path | None,
    size: int,
    weights: Mapping[str, float] | None = None,
    exclude: Collection[str] = (),
) -> ClipSource:
    """Mixture of the named sources.

    data_root: folder that holds `train/`; None leaves procedural surgery only. size: side of the clips that will be
    asked for; real frames are cached at a little more. weights: share of each source of DEFAULT_WEIGHTS (also those of
    MORE_SOURCES and `videos:FOLDER`). exclude: sources left out. ValueError on an unknown name.
    """
    from sam2s_ros.data.folder_clips import folder_source
    from sam2s_ros.data.real_clips import davis_source, vocalfolds_source
    from sam2s_ros.data.still_motion import still_source
    from sam2s_ros.data.surgery_clips import LongSurgerySource

    shares = dict(DEFAULT_WEIGHTS if weights is None else weights)
    folders = {name: folder for name in shares if (folder := folder_of(name)) is not None}
    unknown = sorted((set(shares) | set(exclude)) - {*DEFAULT_WEIGHTS, *MORE_SOURCES, *folders})
    if unknown:
        known = [*DEFAULT_WEIGHTS, *MORE_SOURCES, f"{FOLDER_PREFIX}FOLDER"]
        raise ValueError(f"unknown clip sources {unknown}; known are {known}")
    shares = {name: share for name, share in shares.items() if share > 0 and name not in exclude}
    if data_root is None:
        shares = {PROCEDURAL: 1.0}
    sources: list[tuple[ClipSource, float]] = []
    for name, share in shares.items():
        source: ClipSource
        if name in folders:
            source = folder_source(Path(str(data_root)) / folders[name], size)
        elif name == PROCEDURAL:
            source = SurgicalSource(load_tissue_library(None))
        elif name == "surgical":
            source = SurgicalSource(load_tissue_library(data_root))
        elif name == "long_surgery":
            source = LongSurgerySource(load_tissue_library(data_root))
        elif name == "vocalfolds":
            source = vocalfolds_source(Path(str(data_root)), size)
        elif name == "davis":
            source = davis_source(Path(str(data_root)), size)
        else:
            source = still_source(Path(str(data_root)), size)
        sources.append((source, share))
    return MixtureSource(sources)


def validation_clips(
    data_root: Path | None = None,
    seed: int = 0,
    numbers: Sequence[int] = range(8),
    length: int = 32,
    size: int = 256,
    fps: float = 12.5,
    objects: int = 2,
) -> Iterator[Clip]:
    """Yield the synthetic clips of these numbers: consecutive frames at `fps`, of designs and seeds unseen in training.

    Clips show 1 to `objects` instruments in turn. data_root: folder with `train/` for backgrounds; None draws tissue.
    """
    from sam2s_ros.data.sequences import render_sequence

    for number in numbers:
        sequence = render_sequence(
            seed * 1000 + number,
            length,
            (size, size),
            fps,
            objects=1 + number % objects,
            plain=False,
            data_root=data_root,
            render_scale=1.25,
            leaving=0.2,
        )
        frames, masks = zip(*sequence, strict=True)
        stacked = np.stack(masks)
        yield Clip(np.stack(frames), stacked, ("instrument",) * stacked.shape[1])
