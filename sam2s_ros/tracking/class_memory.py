"""Which class each object is, over time: what single frames say of it, averaged; less, the longer it was left alone.

A frame's say is the softmax of the scaled cosines between the object's embedding and the class bank. Of its logarithm
a weighted mean is kept, K numbers per object; the probabilities are then those of the mean cosines, so that no single
frame overrules many. An object never becomes another class, but a mask can come to lie on another object: the frame of
a prompt counts 1, later ones less, 1 / (1 + age / `class_memory_frames`). Frames count in which the object is in view
with a mask that the network trusts: an object that is away keeps its class. SAM2S does not say how it fuses frames, and
this is our choice.

A class reader costs time. So it is asked in every frame until an object's class is known and its latest prompt is old;
from then on in every `class_interval`-th frame, of each object in another one. Such a frame counts for those in which
the object was as well in view, and that were left out before it. Whose mask was another one's in the frame before is
asked, too: what is seen there tells whose it is (`odds`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.engines.base import DecodeResult
from sam2s_ros.tracking.config import TrackerConfig

_TINY = 1e-12
NO_FRAME = -1
"""Number of the last frame that counted, before there is one."""


@dataclass(frozen=True, eq=False)
class KnownClasses:
    """The class bank as the tracker needs it: K names, and embeddings float32 [K, D] of length 1."""

    names: tuple[str, ...]
    embeddings: NDArray[np.float32]


class ClassMemory:
    """What is known of the class of every object, [max_objects] each. Without classes it does nothing."""

    def __init__(self, config: TrackerConfig, classes: KnownClasses | None) -> None:
        self._embeddings = None if classes is None else classes.embeddings
        self._scale, self._min_iou = config.class_scale, config.class_min_iou
        self._frames, self._interval = config.class_memory_frames, config.class_interval
        self.names: tuple[str, ...] = () if classes is None else classes.names
        self.sha256 = "" if classes is None else _checksum(classes)
        """Checksum over the class bank; "" without one."""
        objects = config.max_objects
        self.mean_log = np.zeros((objects, len(self.names)), dtype=np.float64)
        """Weighted mean of log-probabilities, [max_objects, K]."""
        self.weight = np.zeros(objects, dtype=np.float64)
        """Sum of the weights of the frames in it; 0 where none counted yet."""
        self.last_frame = np.full(objects, NO_FRAME, dtype=np.int64)
        """Number of the newest frame that counted: no frame counts twice, though a prompt may have it tracked again."""
        self.left_out = np.zeros(objects, dtype=np.int64)
        """Frames since then that would have counted, had the reader been asked; at most `class_interval` less 1."""
        self.contested = np.zeros(objects, dtype=np.bool_)
        """Whether the mask of the latest frame was another object's, too."""

    def clear(self, row: int) -> None:
        """Forget everything of one object."""
        self.mean_log[row] = self.weight[row] = self.left_out[row] = 0
        self.contested[row] = False
        self.last_frame[row] = NO_FRAME

    def due(
        self,
        rows: NDArray[np.int64],
        ids: NDArray[np.int64],
        frame_index: int,
        since_prompt: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """Of which rows [N] a class reader is to be asked on a frame, so many frames after each one's latest prompt.

        `ids` [N] of the objects: their turns do not depend on the row that they have.
        """
        unknown, in_turn = self.weight[rows] == 0, (frame_index + ids) % self._interval == 0
        return np.asarray((since_prompt <= self._frames) | unknown | in_turn | self.contested[rows])

    def observe(
        self, rows: NDArray[np.int64], frame_index: int, seen: DecodeResult, since_prompt: NDArray[np.int64]
    ) -> None:
        """Take in what a frame showed of the rows, int64 [N], so many frames after each one's latest prompt, [N].

        Rows whose embedding is NaN were not asked for.
        """
        if self._embeddings is None or seen.embedding is None:
            return
        counts = (seen.object_score > 0) & (seen.iou > self._min_iou) & (frame_index > self.last_frame[rows])
        asked = ~np.isnan(seen.embedding[:, 0])
        passed = rows[counts & ~asked]
        self.left_out[passed] = np.minimum(self.left_out[passed] + 1, self._interval - 1)
        counts &= asked
        rows = rows[counts]
        said = self._said(seen.embedding[counts], self._embeddings)
        counted = (1 + self.left_out[rows]) / (1 + np.maximum(since_prompt[counts], 0) / self._frames)
        self.left_out[rows] = 0
        self.weight[rows] += counted
        self.mean_log[rows] += (said - self.mean_log[rows]) * (counted / self.weight[rows])[:, None]
        self.last_frame[rows] = frame_index

    def odds(self, rows: NDArray[np.int64], seen: DecodeResult) -> NDArray[np.float64]:
        """How much likelier what a frame showed of two of the rows is the first than the second, as a logarithm [N, N].

        By the classes that are read of the two masks, which are taken to be one, and those that the two objects were
        known to be before. 0 where a class is not known, or of neither anything was read.
        """
        count = len(rows)
        if self._embeddings is None or seen.embedding is None:
            return np.zeros((count, count))
        read = np.exp(self._said(seen.embedding, self._embeddings))
        asked, known = ~np.isnan(read[:, 0]), self.weight[rows] > 0
        known_as = np.exp(log_softmax(self.mean_log[rows]))
        fit = known_as @ np.where(asked[:, None], read, 0.0).T  # of each object [N, ] to each mask [, N]
        own = fit.diagonal()
        first, second = own[:, None] + fit, (own[:, None] + fit).T
        told = known[:, None] & known & (asked[:, None] | asked)
        return np.where(told, np.log(np.maximum(first, _TINY) / np.maximum(second, _TINY)), 0.0)

    def _said(self, embedding: NDArray[np.float32], bank: NDArray[np.float32]) -> NDArray[np.float64]:
        """Logarithm of the probability of each class of the bank [K, D] by embeddings [N, D]: [N, K]."""
        return log_softmax(self._scale * (embedding @ bank.T).astype(np.float64))

    def probabilities(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """[N, K] of each class of the bank; NaN for an object of which no frame has counted."""
        probabilities = np.exp(log_softmax(self.mean_log[rows]))
        probabilities[self.weight[rows] == 0] = np.nan
        return probabilities.astype(np.float32)

    def most_probable(
        self, probabilities: NDArray[np.float32]
    ) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        """Of probabilities [N, K], the name of the best class of each, "" where not known, and its probability, NaN."""
        count = len(probabilities)
        if not self.names:
            return ("",) * count, np.full(count, np.nan, dtype=np.float32)
        known = np.asarray(~np.isnan(probabilities).any(axis=1))
        best = np.where(known, np.nan_to_num(probabilities).argmax(axis=1), 0)
        names = tuple(self.names[index] if sure else "" for index, sure in zip(best, known, strict=True))
        return names, probabilities[np.arange(count), best]


def _checksum(classes: KnownClasses) -> str:
    content = json.dumps(classes.names).encode() + np.ascontiguousarray(classes.embeddings).tobytes()
    return hashlib.sha256(content).hexdigest()


def log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the softmax over the last axis, [N, K]."""
    if scores.size == 0:
        return scores
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
