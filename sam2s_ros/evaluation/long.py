"""Long synthetic surgeries as something to evaluate, rendered while they are scored.

`long:` is the frozen long test, `long:SEED` and `long:FIRST-LAST` are surgeries of its kind with other seeds, and
`long:FILE.yaml` are those that a file defines. What `sam2s data synth` wrote is read by `sequences` instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from sam2s_ros.data.long_videos import LongVideos, parse_seeds, read_long_videos
from sam2s_ros.evaluation.sequences import LabelledFrame

PREFIX = "long:"


@dataclass(frozen=True)
class LongSequence:
    """The surgery of one seed of a set."""

    videos: LongVideos
    seed: int

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.seed}"

    @cached_property
    def label_names(self) -> Mapping[int, str]:
        """Class of each object, numbered where there are several of it, by label value."""
        return dict(enumerate(self.videos.surgery(self.seed).object_names, start=1))

    @property
    def prompt_area(self) -> float:
        """Share of the image that an object covers when it is prompted."""
        return self.videos.prompt_area

    def frames(self) -> Iterator[LabelledFrame]:
        """Each frame, rendered anew."""
        surgery = self.videos.surgery(self.seed)
        for index, (image, labels) in enumerate(surgery.frames(self.videos.frames, self.videos.fps)):
            yield LabelledFrame(round(index * 1e9 / self.videos.fps), image, labels)


def find_long_sequences(source: str) -> list[LongSequence]:
    """The sequences that `long:...` stands for.

    Raises:
        FileNotFoundError: the file named does not exist.
        ValueError: the text is no range of seeds, or the file's settings do not fit.
    """
    text = source.removeprefix(PREFIX)
    videos = LongVideos()
    if text.endswith((".yaml", ".yml")):
        videos = read_long_videos(Path(text))
    elif text:
        try:
            videos = replace(videos, seeds=parse_seeds(text))
        except ValueError:
            raise ValueError(
                f"{source}: write {PREFIX} for the long test, {PREFIX}FIRST-LAST for other seeds, or {PREFIX}FILE.yaml"
            ) from None
    return [LongSequence(videos, seed) for seed in videos.seeds]
