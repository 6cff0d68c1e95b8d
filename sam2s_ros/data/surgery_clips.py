"""Training clips cut from long synthetic surgeries: instruments with class names that leave, stay away and return."""

from __future__ import annotations

import numpy as np

from sam2s_ros.data.arrays import FloatArray
from sam2s_ros.data.backgrounds import TissueLibrary
from sam2s_ros.data.clips import MIN_FIRST_AREA, Clip, ClipSource, choose_objects
from sam2s_ros.data.motion import frame_times
from sam2s_ros.data.splits import TRAINING
from sam2s_ros.data.surgery import DIFFICULTIES, Surgery, random_surgery

DIFFICULTY_SHARES = {"easy": 0.2, "medium": 0.5, "hard": 0.3}
DURATION_S = (10.0, 45.0)
AROUND_A_CHANGE = 0.5
"""Share of the clips whose consecutive frames lie around a moment at which the target comes or goes."""
ANYWHERE = 0.2
"""Share of those that lie anywhere in the video; the others lie in a visit of the target."""


class LongSurgerySource(ClipSource):
    """Clips of surgeries of the training split, each of its own seed. Targets are instruments, named by their class."""

    def __init__(self, library: TissueLibrary) -> None:
        self._library = library

    def sample(
        self, rng: np.random.Generator, length: int, objects: int, size: int, long_term: int = 0
    ) -> Clip:
        while True:
            surgery = self._surgery(rng, size)
            target = int(rng.integers(len(surgery.cast)))
            if not surgery.cast[target].visits:
                continue
            times = clip_times(rng, surgery, target, length, long_term)
            first = surgery.render(float(times[0]))
            areas = np.bincount(first[1].ravel(), minlength=len(surgery.cast) + 1)[1:] / first[1].size
            weights = np.where(areas >= MIN_FIRST_AREA, 1.0, 0.0).astype(np.float32)
            if weights[target] == 0:
                continue
            weights[target] = 8.0  # the times are chosen for this one
            chosen = choose_objects(rng, weights, objects)
            assert chosen is not None
            renders = [first, *(surgery.render(float(time)) for time in times[1:])]
            masks = np.stack([labels[None] == chosen[:, None, None] + 1 for _, labels in renders])
            names = tuple(surgery.cast[int(member)].name for member in chosen)
            return Clip(np.stack([frame for frame, _ in renders]), masks, names)

    def _surgery(self, rng: np.random.Generator, size: int) -> Surgery:
        style = DIFFICULTIES[str(rng.choice(list(DIFFICULTY_SHARES), p=list(DIFFICULTY_SHARES.values())))]
        duration = float(rng.uniform(*DURATION_S))
        aspect = float(rng.choice([1.0, 1.25, 1.33, 1.5, 1.78], p=[0.15, 0.35, 0.15, 0.1, 0.25]))
        seed = int(rng.integers(2**31))
        return random_surgery(seed, TRAINING, self._library, (size, size), duration, style, aspect)


def clip_times(
    rng: np.random.Generator, surgery: Surgery, target: int, length: int, long_term: int
) -> FloatArray:
    """Times [length] in seconds: the first in a visit of the target, `long_term` anywhere, the others consecutive."""
    visits = [visit for visit, _ in surgery.cast[target].visits]
    last = surgery.duration - 0.1
    shown = visits[int(rng.integers(len(visits)))]
    first = float(np.clip(rng.uniform(*_inner(shown.start, shown.end)), 0.0, last))
    anywhere = rng.uniform(0.0, last, long_term)
    steps = frame_times(rng, length - 1 - long_term, 0.25, 0.0)
    if len(steps) == 0:
        return np.concatenate([[first], anywhere]).astype(np.float32)
    choice = rng.random()
    if choice < AROUND_A_CHANGE:
        changes = np.array([moment for visit in visits for moment in (visit.start + 0.4, visit.end - 0.4)])
        begin = float(rng.choice(changes)) - float(rng.uniform(0.0, 1.0)) * float(steps[-1])
    elif choice < AROUND_A_CHANGE + ANYWHERE:
        begin = float(rng.uniform(0.0, last))
    else:
        visit = visits[int(rng.integers(len(visits)))]
        begin = float(rng.uniform(*_inner(visit.start, visit.end)))
    if not long_term and rng.random() < 0.5:
        begin = first + float(steps[1] if len(steps) > 1 else 0.1)  # a plain clip
    consecutive = np.clip(begin, 0.0, max(0.0, last - float(steps[-1]))) + steps
    return np.concatenate([[first], anywhere, np.minimum(consecutive, last)]).astype(np.float32)


def _inner(start: float, end: float) -> tuple[float, float]:
    """The part of a visit in which the instrument is in view: it is outside at both ends."""
    return start + 0.15 * (end - start), end - 0.12 * (end - start)
