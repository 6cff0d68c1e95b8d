"""Bootstrap confidence intervals of means over objects or frames that come in clusters: the sequences.

Frames of one video are no independent samples, and neither are its objects. So whole sequences are drawn, with
replacement, and the mean is taken anew over what they hold (percentile bootstrap; Efron and Tibshirani, 1993, chapter
13). The same seed gives the same draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
_RESAMPLES_AT_ONCE = 256


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made."""

    resamples: int = 2000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.resamples < 1 or not 0 < self.level < 1:
            raise ValueError(
                f"a bootstrap needs at least 1 resample and a level in 0 .. 1, not {self.resamples} and {self.level}"
            )

    def interval(self, sums: NDArray[np.float64], counts: NDArray[np.float64]) -> Interval | None:
        """Interval of sum(sums) / sum(counts), given both by sequence, [S] or, for a mean over C such ratios, [S, C].

        None with fewer than two sequences that hold something: one video says nothing of the next.
        """
        sums, counts = (np.asarray(one, np.float64).reshape(len(one), -1) for one in (sums, counts))
        filled = counts.any(axis=1)
        sums, counts = sums[filled], counts[filled]
        sequences = len(sums)
        if sequences < 2:
            return None
        generator = np.random.default_rng(self.seed)
        means = []
        for begin in range(0, self.resamples, _RESAMPLES_AT_ONCE):
            size = (min(_RESAMPLES_AT_ONCE, self.resamples - begin), sequences)
            drawn = generator.integers(sequences, size=size)
            total, number = sums[drawn].sum(axis=1), counts[drawn].sum(axis=1)
            with np.errstate(invalid="ignore"):
                means.append(np.nanmean(total / number, axis=1))
        tail = 50 * (1 - self.level)
        low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
        return float(low), float(high)
