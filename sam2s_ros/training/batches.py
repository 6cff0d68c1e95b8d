"""Batches of clips, read ahead by processes of their own. What a batch holds depends on its number alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sam2s_ros.training.config import LONG_TERM_FRAMES, StageConfig, TrainConfig

RENDERED_FRAMES = 4
"""Frames that a scene is rendered for at least."""
MIN_PROMPTED_AREA = 0.0008
"""Share of the image that each object covers in a clip's first frame, where it is prompted."""
BATCHES_AHEAD = 2
"""Batches that each reading process has ready or in the making: the memory that reading takes has this bound."""
READER_ENDED = re.compile(r"DataLoader worker \(pid.*?\) (is killed|exited)")
"""What torch says when one of them ended."""
READING, ROLLING_OUT = 0, 1
"""Last numbers of the random streams of a batch: which clips it holds, and how they are prompted."""


class Clip(Protocol):
    """Frames with the masks of some objects."""

    @property
    def frames(self) -> np.ndarray:
        """uint8 [T, S, S, 3] RGB."""

    @property
    def masks(self) -> np.ndarray:
        """bool [T, K, S, S]."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """[K], "" when unknown."""


class ClipSource(Protocol):
    """Where clips come from; the same generator state gives the same clip."""

    def sample(
        self, rng: np.random.Generator, length: int, objects: int, size: int, long_term: int = 0
    ) -> Clip: ...


@dataclass(frozen=True)
class BatchNumber:
    """Which batch of a run: together with the seed, all that its random numbers depend on."""

    step: int
    """0-based."""
    index: int
    """0-based within the step."""

    def stream(self, seed: int, purpose: int) -> np.random.Generator:
        """The random numbers of this batch for READING or ROLLING_OUT."""
        return np.random.default_rng([seed, self.index, self.step, purpose])


@dataclass(frozen=True)
class Batch:
    """B clips of T frames with K objects each."""

    number: BatchNumber
    frames: Tensor
    """uint8 [B, T, S, S, 3] RGB."""
    masks: Tensor
    """bool [B, T, K, S, S]."""
    class_names: list[tuple[str, ...]]
    """[B][K], "" when unknown."""
    long_term: int
    """Frames after the first that lie anywhere in the video."""


def batch_of(
    source: ClipSource,
    stage: StageConfig,
    length: int,
    size: int,
    rng: np.random.Generator,
    long_term: int = 0,
) -> tuple[np.ndarray, np.ndarray, list[tuple[str, ...]]]:
    """Clips of one batch -> frames uint8 [B, T, S, S, 3], masks bool [B, T, K, S, S], class names of each clip [B][K].

    Setting a scene up costs more than another frame of it, so short clips are cut from longer ones. `long_term`
    frames after the first lie anywhere in the video.
    """
    frames: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    names: list[tuple[str, ...]] = []
    while len(frames) < stage.clips:
        clip = source.sample(rng, max(RENDERED_FRAMES, length), stage.objects, size, long_term)
        for start in range(0, len(clip.frames) - length + 1, length):
            window = slice(start, start + length)
            if clip.masks[start].mean(axis=(1, 2)).min() >= MIN_PROMPTED_AREA:
                frames.append(clip.frames[window])
                masks.append(clip.masks[window])
                names.append(clip.class_names)
    return np.stack(frames[: stage.clips]), np.stack(masks[: stage.clips]), names[: stage.clips]


class Batches(Dataset):
    """The batches of a run by their numbers.

    A source that fails (a broken file) gives its error as the item, so that the message crosses processes as it is.
    """

    def __init__(self, config: TrainConfig, videos: ClipSource, images: ClipSource) -> None:
        self._config, self._videos, self._images = config, videos, images

    def __getitem__(self, number: BatchNumber) -> Batch | Exception:
        config = self._config
        rng = number.stream(config.seed, READING)
        stage = config.stage_at(number.step)
        still = rng.random() < stage.images
        long_term = LONG_TERM_FRAMES if rng.random() < stage.hybrid and not still else 0
        source, length = (self._images, 1) if still else (self._videos, stage.length)
        try:
            frames, masks, names = batch_of(source, stage, length, config.side, rng, long_term)
        except (ValueError, OSError) as error:
            return error
        return Batch(number, torch.from_numpy(frames), torch.from_numpy(masks), names, long_term)


class BatchOrder(Sampler[BatchNumber]):
    """The batches that one process of several trains on, from a step on: where a resumed run goes on reading."""

    def __init__(self, config: TrainConfig, first_step: int = 0, rank: int = 0, ranks: int = 1) -> None:
        self._steps = range(first_step, config.total_steps)
        self._indices = range(rank, config.batches, ranks)

    def __iter__(self) -> Iterator[BatchNumber]:
        return (BatchNumber(step, index) for step in self._steps for index in self._indices)


def read_batches(batches: Batches, order: BatchOrder, workers: int) -> Iterator[Batch]:
    """The batches in their order; `workers` processes read up to `BATCHES_AHEAD` each ahead, 0 reads when asked.

    Raises:
        ValueError, OSError: what a source raised, or that a reading process ended.
    """
    loader: DataLoader[Any] = DataLoader(
        batches,
        batch_size=None,
        sampler=order,
        num_workers=workers,
        collate_fn=_as_it_is,
        prefetch_factor=BATCHES_AHEAD if workers else None,
        # Forks share the videos that the sources hold in memory. This process must not have begun threads of its own.
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=_one_thread,
        generator=torch.Generator(),
    )
    items = iter(loader)
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except RuntimeError as error:
            raise _reader_ended(error) from error
        if isinstance(item, Exception):
            raise item
        yield item


@contextmanager
def reader_watched() -> Iterator[None]:
    """To train within: torch raises that a reading process ended from a signal handler, wherever this process is then.

    Raises:
        OSError: a reading process ended.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:  # what it interrupted may have made another error of it
            if isinstance(cause, RuntimeError) and READER_ENDED.search(str(cause)):
                raise _reader_ended(cause) from error
            cause = cause.__cause__ or cause.__context__
        raise


def _reader_ended(error: RuntimeError) -> OSError:
    said = " ".join(str(error).split()).rstrip(". ")
    return OSError(
        f"a process that reads clips ended ({said}); where memory ran out, set fewer workers. The same command goes on "
        "from the last checkpoint, if there is one"
    )


def _as_it_is(item: Any) -> Any:
    return item


def _one_thread(_: int) -> None:
    cv2.setNumThreads(0)
