"""The way of an image into the engine: encoded, perhaps ahead of its turn, then kept as the newest frame."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.engines.base import Engine
from sam2s_ros.tracking.image_condition import ImageCondition
from sam2s_ros.tracking.image_judge import LONGEST_RING, Look
from sam2s_ros.tracking.kept_frames import AHEAD, KeptFrame, KeptFrames, Lag
from sam2s_ros.tracking.motion import MotionEstimator
from sam2s_ros.tracking.stopwatch import Stopwatch


@dataclass(frozen=True, eq=False)
class EncodedFrame:
    """An image, the engine slot of its features, how it moved since the one before, what it shows, what that took."""

    image: NDArray[np.uint8]
    slot: int
    flow: NDArray[np.float32] | None
    look: Future[Look | None]
    watch: Stopwatch


class FrameIntake:
    """Encodes images into slots of `frames`. `encode_ahead` may run on one other thread beside everything else.

    Args:
        wants_flow: whether to estimate how each image moved since the one before.
        look: what is done with each image on a thread of its own, while the engine encodes it.
    """

    def __init__(
        self,
        engine: Engine,
        frames: KeptFrames,
        wants_flow: bool,
        look: Callable[[NDArray[np.uint8]], Look | None],
    ) -> None:
        self._look, self._looking = look, ThreadPoolExecutor(1, "look at images")
        self._engine, self._frames, self._wants_flow = engine, frames, wants_flow
        self._motion = MotionEstimator(engine.mask_size)
        self._encoding = threading.Lock()
        self._ahead: deque[EncodedFrame] = deque()
        self._newest_images: deque[NDArray[np.uint8]] = deque(maxlen=LONGEST_RING)
        self._copies: deque[NDArray[np.uint8]] = deque(maxlen=LONGEST_RING)

    @property
    def newest_image(self) -> NDArray[np.uint8]:
        """The newest image uint8 [H, W, 3], or a copy of it; [0, 0, 3] where there is none to compare with."""
        return self._newest_images[0] if self._newest_images else no_image()

    @property
    def newest_images(self) -> Sequence[NDArray[np.uint8]]:
        """The newest images uint8 [H, W, 3], at most `LONGEST_RING`, the newest first, all of one size."""
        return self._newest_images

    def encode_ahead(self, image: NDArray[np.uint8]) -> None:
        """Encode an image before its turn; the oldest of those is forgotten when there are more than `AHEAD`."""
        with self._encoding:
            if len(self._ahead) == AHEAD:
                self._frames.give_back(self._ahead.popleft().slot)
            self._ahead.append(self._encode(image))

    def keep(
        self,
        image: NDArray[np.uint8],
        stamp_ns: int,
        judge: Callable[[Look | None], ImageCondition],
        lags: Sequence[Lag],
        watch: Stopwatch,
        copy: bool,
    ) -> KeptFrame:
        """Make an image, or a copy of it, the newest frame, encoded now unless this very array was ahead, judge it, and
        let go of the frames that neither a prompt nor an object that `lags` needs any more: before another is encoded,
        which needs a slot."""
        with self._encoding:
            while self._ahead and self._ahead[0].image is not image:
                self._frames.give_back(self._ahead.popleft().slot)
            encoded = self._ahead.popleft() if self._ahead else self._encode(image)
            watch.include(encoded.watch)
            try:
                with watch.stage("judge"):
                    condition = judge(encoded.look.result())
            except BaseException:
                self._frames.give_back(encoded.slot)
                raise
            frame = self._frames.keep(encoded.slot, stamp_ns, encoded.flow, condition)
            self._frames.let_go(lags)
        if self.newest_image.shape != image.shape:
            self._newest_images.clear()
            self._copies.clear()
        self._newest_images.appendleft(self._copy_of(image) if copy else image)
        return frame

    def _copy_of(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy of the image, in the memory of the oldest copy once there are as many as may be the newest images."""
        full = len(self._copies) == LONGEST_RING
        copy = self._copies.pop() if full else np.empty_like(image, order="C")
        np.copyto(copy, image)
        self._copies.appendleft(copy)
        return copy

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nothing is encoded meanwhile, so slots may be given back."""
        with self._encoding:
            yield

    def begin_anew(self) -> None:
        """Forget the newest image and how images moved; to be called inside `alone`."""
        self._motion.reset()
        self._newest_images.clear()

    def forget_newest(self) -> None:
        """The newest image is not one to compare with, and so none before it is."""
        self._newest_images.clear()

    def _encode(self, image: NDArray[np.uint8]) -> EncodedFrame:
        """Put an image's features into a slot of its own."""
        watch, flow, look = Stopwatch(), None, self._looking.submit(self._look, image)
        if self._wants_flow:
            with watch.stage("motion"):
                flow = self._motion.advance(image)
        slot = self._frames.take_slot()
        try:
            with watch.stage("encode"):
                self._engine.encode(image, slot)
        except BaseException:
            self._frames.give_back(slot)
            raise
        return EncodedFrame(image, slot, flow, look, watch)


def no_image() -> NDArray[np.uint8]:
    """What stands for no image, uint8 [0, 0, 3]."""
    return np.zeros((0, 0, 3), dtype=np.uint8)
