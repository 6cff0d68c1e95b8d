"""Whether an image shows anything to learn from. Black, saturated, frozen, torn, obscured and out-of-body ones do not.

Everything is judged on a column sample of the image, all rows of about 32 columns, which is a fixed small cost. Torn
and out-of-body are judged against the last usable image of the stream, because a camera's own border looks like missing
rows, and a grey camera looks like one outside of the patient. What such an image shows is therefore called by that name
until an image looks usable again, or until somebody says that the new look is right (`ImageJudge.accept`: a prompt or a
reset).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2s_ros.tracking.config import TrackerConfig
from sam2s_ros.tracking.image_condition import ImageCondition

LONGEST_RING = 4
"""Images of a ring that a device may send round and round; longer ones are not recognised."""
MIN_SIDE = 16
"""Pixels of either side under which an image is too small to be judged."""
COLUMNS = 32
"""About how many columns are looked at."""
SATURATED_LEVEL = 250
"""Grey level from which on a pixel counts as overexposed."""
STEP_ROWS = 4
"""Rows on either side of a step between which the image must be smooth for the step to be a tear."""
STEP_RATIO = 3.0
"""How many times larger than those between the rows beside it the step of a tear is."""
UNIFORM_SPREAD = 4
"""Grey levels within which all pixels of a missing row lie."""
MISSING_SHARE = 0.04
"""Least share of the image's rows, in one piece, that are missing in a torn image."""
DETAIL_SIZE = 64
"""Side of the picture on which the detail is measured, in pixels; what is finer does not count as detail."""
DETAIL_QUANTILE = 0.98
"""Of the picture's details the measure is this quantile: a sharp thing in a plain view is enough."""
TISSUE_RATIO = 1.2
"""How many times as red as green a pixel of lit tissue is at least."""
TISSUE_SEEN_SHARE = 0.3
"""Share of tissue in a stream's usual image above which an image without any was taken outside of the body."""
TISSUE_MEMORY = 0.05
"""Weight of the newest usable image in the stream's usual share of tissue."""


@dataclass(frozen=True)
class ImageMeasures:
    """What is measured of one image, for thresholds to be compared with and for people to print.

    lit and saturated: shares of the pixels, 0 .. 1. detail: grey levels by which the picture, reduced to `DETAIL_SIZE`,
    differs from its own blur, `DETAIL_QUANTILE` of its lit part. tissue: share of the lit pixels that are reddish.
    steps: bool [H - 1], rows after which the whole row changes at once. uniform: bool [H], rows of one colour.
    """

    lit: float
    saturated: float
    detail: float
    tissue: float
    steps: NDArray[np.bool_]
    uniform: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Look:
    """What one image shows by itself: its column sample uint8 [H, C, 3] and the measures of that."""

    sample: NDArray[np.uint8]
    measures: ImageMeasures


class ImageJudge:
    """Judges the images of one stream one after another. Holds `LONGEST_RING` column samples and measures of the last
    usable image.

    Not thread-safe, but for `look`.
    """

    def __init__(self, config: TrackerConfig) -> None:
        self._config = config
        self.reset()

    def reconfigure(self, config: TrackerConfig) -> None:
        """Go on by other limits; what was seen stays."""
        self._config = config

    def reset(self) -> None:
        """Begin a stream: nothing to compare with."""
        self._samples: deque[NDArray[np.uint8]] = deque(maxlen=LONGEST_RING)
        self._stamp_ns = 0
        self._repeats = [0] * LONGEST_RING
        self.accept()

    def accept(self) -> None:
        """Somebody says that the newest image is as it should be: the next one is the stream's new look."""
        self._whole: ImageMeasures | None = None
        self._tissue = float("nan")

    @property
    def usual_tissue(self) -> float:
        """The stream's usual share of tissue, 0 .. 1; NaN while not known."""
        return self._tissue

    def resume(self, usual_tissue: float) -> None:
        """Begin a stream that goes on from a snapshot: no image to compare with, but a usual share of tissue."""
        self.reset()
        self._tissue = usual_tissue

    def look(self, image: NDArray[np.uint8]) -> Look | None:
        """Look at an image uint8 [H, W, 3] RGB, which needs none before it; None where it is too small, or where the
        settings say not to judge. May run beside everything else."""
        if not self._config.judge_images or min(image.shape[:2]) < MIN_SIDE:
            return None
        sample = column_sample(image)
        return Look(sample, measure_image(sample, self._config))

    def judge(
        self,
        look: Look | None,
        image: NDArray[np.uint8],
        stamp_ns: int,
        before: Sequence[NDArray[np.uint8]],
    ) -> ImageCondition:
        """Condition of the newest image; UNKNOWN where it was not looked at.

        Args:
            look: what `look` gave for it.
            image: uint8 [H, W, 3] RGB.
            stamp_ns: its stamp.
            before: the images before it, the newest first; only looked at where samples cannot tell them apart.
        """
        if look is None:
            return ImageCondition.UNKNOWN
        measures = look.measures
        condition = self._compare(measures, self._goes_round(image, look.sample, stamp_ns, before))
        if condition.usable:
            self._whole = measures
            known = not np.isnan(self._tissue)
            self._tissue += TISSUE_MEMORY * (measures.tissue - self._tissue) if known else 0.0
            self._tissue = self._tissue if known else measures.tissue
        return condition

    def describe(self) -> str:
        """One line on what the next image is compared with."""
        seen = "no usable image yet" if self._whole is None else f"usual share of tissue {self._tissue:.2f}"
        return f"{seen}; the newest image was repeated {self._repeats[0]} times"

    def _goes_round(
        self,
        image: NDArray[np.uint8],
        sample: NDArray[np.uint8],
        stamp_ns: int,
        before: Sequence[NDArray[np.uint8]],
    ) -> bool:
        """Whether the newest images came before, under earlier stamps: one again and again, or some in a ring.

        A ring is one once it has gone round: as many images in a row as it has were each the one that many before.
        """
        later, self._stamp_ns = stamp_ns > self._stamp_ns or not self._samples, stamp_ns
        most = max(self._config.frozen_images, LONGEST_RING)
        for place, known in enumerate(self._samples):
            same = place < len(before) and np.array_equal(sample, known)
            if not (same and np.array_equal(image, before[place])):
                self._repeats[place] = 0
            elif later:
                self._repeats[place] = min(self._repeats[place] + 1, most)
        self._samples.appendleft(sample)
        return any(
            repeats >= max(self._config.frozen_images, length)
            for length, repeats in enumerate(self._repeats, start=1)
        )

    def _compare(self, measures: ImageMeasures, frozen: bool) -> ImageCondition:
        config = self._config
        if measures.lit < config.black_share:
            return ImageCondition.BLACK
        if measures.saturated > config.saturated_share:
            return ImageCondition.SATURATED
        if frozen:
            return ImageCondition.FROZEN
        if self._whole is not None and is_torn(measures, self._whole):
            return ImageCondition.TORN
        if measures.detail < config.obscured_detail:
            return ImageCondition.OBSCURED
        if self._tissue > TISSUE_SEEN_SHARE and measures.tissue < config.out_of_body_share:
            return ImageCondition.OUT_OF_BODY
        return ImageCondition.USABLE


def column_sample(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """All rows of about `COLUMNS` columns, a copy uint8 [H, C, 3]."""
    step = max(1, image.shape[1] // COLUMNS)
    return np.ascontiguousarray(image[:, step // 2 :: step])


def measure_image(sample: NDArray[np.uint8], config: TrackerConfig) -> ImageMeasures:
    """Measures of a column sample uint8 [H, C, 3] RGB."""
    grey: NDArray[np.uint8] = np.asarray(cv2.cvtColor(sample, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    small = np.asarray(
        cv2.resize(sample, (DETAIL_SIZE, DETAIL_SIZE), interpolation=cv2.INTER_AREA), dtype=np.uint8
    )
    small_grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), dtype=np.float32)
    lit = small_grey > config.black_level
    inside = cv2.erode(lit.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=1) > 0
    band = np.abs(small_grey - np.asarray(cv2.blur(small_grey, (5, 5))))[inside]
    red, green = small[..., 0][lit].astype(np.float32), small[..., 1][lit].astype(np.float32)
    return ImageMeasures(
        lit=float((grey > config.black_level).mean()),
        saturated=float((grey >= SATURATED_LEVEL).mean()),
        detail=float(np.partition(band, k := int(DETAIL_QUANTILE * band.size))[k]) if band.size else 0.0,
        tissue=float((red > TISSUE_RATIO * green).mean()) if red.size else 0.0,
        steps=find_steps(grey, config.torn_jump),
        uniform=grey.max(axis=1) - grey.min(axis=1) <= UNIFORM_SPREAD,
    )


def find_steps(grey: NDArray[np.uint8], jump: float) -> NDArray[np.bool_]:
    """After which rows of grey [H, C] most of the row changes at once by more than `jump` grey levels: bool [H - 1].

    An edge in the scene is blurred over some rows, or slants; a tear is as sharp as a row and as wide as the image.
    """
    change = np.asarray(cv2.absdiff(grey[1:], grey[:-1]))
    steps = np.count_nonzero(change > jump, axis=1) > grey.shape[1] // 2
    for y in np.flatnonzero(steps):
        near = np.median(change[max(0, y - STEP_ROWS) : y + STEP_ROWS + 1], axis=1)
        here = min(int(y), STEP_ROWS)
        beside = np.delete(near, here)
        steps[y] = beside.size == 0 or near[here] > STEP_RATIO * beside.max()
    return np.asarray(steps)


def is_torn(measures: ImageMeasures, whole: ImageMeasures) -> bool:
    """Whether an image has a step, or a band of rows of one colour, where the last usable one had none near."""
    if measures.steps.shape != whole.steps.shape:
        return False
    if measures.steps.any() and (measures.steps & ~widened(whole.steps)).any():
        return True
    missing = measures.uniform & ~widened(whole.uniform)
    return longest_run(missing) >= MISSING_SHARE * len(missing)


def widened(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool [K], True wherever `flags` is within `STEP_ROWS` rows."""
    near = np.ones((1, 2 * STEP_ROWS + 1), np.uint8)
    return np.asarray(cv2.dilate(flags.view(np.uint8)[None], near)[0] > 0)


def longest_run(flags: NDArray[np.bool_]) -> int:
    """Length of the longest row of True in bool [K]."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False]))))
    return int((edges[1::2] - edges[::2]).max(initial=0))
