"""Where the masks of a video come from: `provenance.csv` beside `video.json`, a line per masklet and labelled frame.

    frame,id,by,confidence,source
    225,3,model,0.8731,nano (sha256 1f3a...), from 3 labelled frames
    230,3,corrected,,corrections/patient2_seq5

`by` is `given` (the label that propagation began with), `corrected` (by hand, over what the model had made) or `model`;
only the last has a confidence, 0 to 1. A masklet that is not seen on a frame has a line too: its absence is as sure as
that. A video without this file has the masks of its data set, and all of them are given.
"""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sam2s_ros.data.out_lock import locked
from sam2s_ros.data.video_folder import VideoFolder

PROVENANCE_FILE = "provenance.csv"
COLUMNS = ("frame", "id", "by", "confidence", "source")
GIVEN, CORRECTED, MODEL = "given", "corrected", "model"


@dataclass(frozen=True)
class Origin:
    """Where one mask comes from."""

    by: str
    """GIVEN, CORRECTED or MODEL."""
    confidence: float = math.nan
    """0 to 1 where a model made it, NaN where a hand did."""
    source: str = ""
    """Which model, which corrections."""

    @property
    def by_hand(self) -> bool:
        return self.by != MODEL


@dataclass(frozen=True)
class Provenance:
    """Frame -> masklet -> where its mask comes from, for every labelled frame of a video."""

    origins: Mapping[int, Mapping[int, Origin]]

    def by_hand(self, frame: int) -> frozenset[int]:
        """The masklets whose mask, or absence, on a frame is from a hand."""
        return frozenset(number for number, origin in self.origins.get(frame, {}).items() if origin.by_hand)

    def complete_by_hand(self, frame: int) -> bool:
        """Whether nothing on a labelled frame is from a model."""
        return frame in self.origins and all(origin.by_hand for origin in self.origins[frame].values())

    def confidences(self, frame: int) -> list[tuple[float, int]]:
        """(confidence, masklet) of the model's masks on a frame, the lowest first; none where all is from a hand."""
        row = self.origins.get(frame, {})
        return sorted((one.confidence, number) for number, one in row.items() if not one.by_hand)

    @property
    def counts(self) -> dict[str, int]:
        """Masks by GIVEN, CORRECTED and MODEL, absences included."""
        every = [origin.by for row in self.origins.values() for origin in row.values()]
        return {name: every.count(name) for name in (GIVEN, CORRECTED, MODEL)}


def read_provenance(video: VideoFolder) -> Provenance:
    """Of a video; without the file, all of its masks are given.

    Raises:
        ValueError: a line of the file is not what this module writes.
    """
    path = video.path / PROVENANCE_FILE
    if not path.exists():
        row = {masklet.id: Origin(GIVEN) for masklet in video.facts.masklets}
        return Provenance(dict.fromkeys(video.masks(), row))
    origins: dict[int, dict[int, Origin]] = {}
    line, known = 1, set(video.facts.names)  # `line` is named in errors
    try:
        with path.open(newline="", encoding="utf-8") as table:
            for entry in csv.DictReader(table):
                line += 1
                frame, number, origin = _read_row(entry)
                if number not in known:
                    raise ValueError(f"the video has no masklet {number}")
                if origins.setdefault(frame, {}).setdefault(number, origin) is not origin:
                    raise ValueError(f"masklet {number} of frame {frame} is there twice")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}, line {line}: {error}; the columns are {', '.join(COLUMNS)}") from None
    return Provenance(origins)


def _read_row(row: Mapping[str, str]) -> tuple[int, int, Origin]:
    """Frame, masklet and where its mask is from. KeyError, TypeError or ValueError: the row does not say."""
    origin = Origin(row["by"], float(row["confidence"] or "nan"), row["source"] or "")
    if origin.by not in (GIVEN, CORRECTED, MODEL) or origin.by_hand != math.isnan(origin.confidence):
        raise ValueError(f"by {origin.by} with confidence {row['confidence']!r}")
    return int(row["frame"]), int(row["id"]), origin


def write_provenance(folder: Path, provenance: Provenance) -> None:
    """Write the file into a video's folder."""
    with (folder / PROVENANCE_FILE).open("w", newline="", encoding="utf-8") as table:
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(COLUMNS)
        for frame, row in sorted(provenance.origins.items()):
            for number, origin in sorted(row.items()):
                confidence = "" if origin.by_hand else f"{origin.confidence:.4f}"
                rows.writerow((frame, number, origin.by, confidence, origin.source))


def place_of(video: VideoFolder) -> Path:
    """Where a version of a video belongs below a folder of versions: data set, split, name."""
    return Path(video.facts.dataset) / video.facts.split / video.name


@contextmanager
def new_version(video: VideoFolder, out: Path) -> Iterator[Path]:
    """A hidden folder with a copy of a video's frames, which is moved to its place below `out` when the block ends.

    A block that fails or is cut off leaves nothing at that place.

    Raises:
        ValueError: there is a version already, or another command is writing it.
    """
    target = out / place_of(video)
    name = "_".join(place_of(video).parts)
    with locked(out, name) as hidden:
        if target.exists():
            raise ValueError(f"{target} is there already: delete it, or choose another folder to write to")
        partial = hidden / name
        if partial.exists():  # of a command that was killed: nobody else has the lock
            shutil.rmtree(partial)
        try:
            (partial / "masks").mkdir(parents=True)
            shutil.copytree(video.path / "frames", partial / "frames")
            yield partial
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
