"""Images that show nothing to learn from: each kind is found, and ordinary images are not taken for one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from tracking_cases import moving_images, small_tracker

from sam2s_ros.data.sequences import render_sequence
from sam2s_ros.evaluation.bags import BagSequence
from sam2s_ros.evaluation.sequences import find_folder_sequences
from sam2s_ros.tracking import ImageCondition, TrackerConfig, image_judge
from sam2s_ros.tracking.image_judge import LONGEST_RING, ImageJudge, column_sample, measure_image

USABLE, BLACK, SATURATED, FROZEN, TORN, OBSCURED, OUT_OF_BODY = list(ImageCondition)[1:]
PERIOD_NS = 40_000_000


class Stream:
    """A judge and what the tracker keeps beside it."""

    def __init__(self, **settings: object) -> None:
        self.judge = ImageJudge(TrackerConfig(**settings))
        self.before: deque[np.ndarray] = deque(maxlen=LONGEST_RING)
        self.stamp_ns = 0

    def show(self, image: np.ndarray, period_ns: int = PERIOD_NS) -> ImageCondition:
        self.stamp_ns += period_ns
        condition = self.judge.judge(self.judge.look(image), image, self.stamp_ns, self.before)
        self.before.appendleft(image.copy())
        return condition

    def alarms(self, images: Iterable[np.ndarray]) -> list[tuple[int, str]]:
        """Number and condition of every image that is not usable."""
        found = [(number, self.show(image)) for number, image in enumerate(images)]
        return [(number, condition.name) for number, condition in found if not condition.usable]


@pytest.fixture(scope="module")
def endoscopy(repository_root: Path) -> list[np.ndarray]:
    """The bundled recording, uint8 [512, 512, 3] each."""
    return [frame.image for frame in BagSequence(repository_root / "test/data/vocalfolds_seq4.mcap").frames()]


def black(image: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 9, image.shape, dtype=np.uint8)
    return noise


def saturated(image: np.ndarray) -> np.ndarray:
    return np.clip(image.astype(int) * 6, 0, 255).astype(np.uint8)


def half_of_another(image: np.ndarray) -> np.ndarray:
    torn = image.copy()
    torn[300:] = image[::-1, ::-1][300:]
    return torn


def missing_rows(image: np.ndarray) -> np.ndarray:
    torn = image.copy()
    torn[400:] = 0
    return torn


def green_rows(image: np.ndarray) -> np.ndarray:
    """What a decoder puts where data is missing."""
    torn = image.copy()
    torn[128:192] = (0, 135, 0)
    return torn


def defocused(image: np.ndarray) -> np.ndarray:
    """What is left of it is ten blobs across."""
    small = cv2.resize(image, (10, 10), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_CUBIC))


def outside(image: np.ndarray) -> np.ndarray:
    """The same picture in the colours of a drape."""
    grey = image.mean(axis=2, keepdims=True)
    return np.clip(grey * [0.6, 1.0, 1.1], 0, 255).astype(np.uint8)


CASES = {
    "black": (black, BLACK),
    "saturated": (saturated, SATURATED),
    "half of another image": (half_of_another, TORN),
    "missing rows": (missing_rows, TORN),
    "green rows": (green_rows, TORN),
    "defocused": (defocused, OBSCURED),
    "outside": (outside, OUT_OF_BODY),
}


@pytest.mark.parametrize("case", CASES)
def test_an_image_that_shows_nothing_is_called_by_its_name(endoscopy: list[np.ndarray], case: str) -> None:
    """Amid a real recording, for as long as it lasts, with a reason; the next real image is usable again."""
    spoil, condition = CASES[case]
    stream = Stream()
    assert stream.alarms(endoscopy[:5]) == []
    for image in endoscopy[5:8]:
        seen = stream.show(spoil(image))
        assert seen == condition and not seen.usable and seen.reason
    assert stream.show(endoscopy[8]) == USABLE


def test_the_same_image_under_a_later_stamp_is_frozen(endoscopy: list[np.ndarray]) -> None:
    stream = Stream()
    assert [stream.show(image) for image in endoscopy[:2]] == [USABLE, USABLE]
    assert [stream.show(endoscopy[1]) for _ in range(3)] == [FROZEN] * 3
    assert stream.show(endoscopy[2]) == USABLE


@pytest.mark.parametrize("length", [2, 3, LONGEST_RING])
def test_a_ring_of_images_is_frozen_once_it_has_gone_round(endoscopy: list[np.ndarray], length: int) -> None:
    stream = Stream()
    ring = endoscopy[:length]
    assert stream.alarms([*ring, *ring[:-1]]) == []
    assert [stream.show(image) for image in [ring[-1], *ring]] == [FROZEN] * (length + 1)
    assert stream.show(endoscopy[length]) == USABLE


def test_a_recording_that_turns_back_is_not_frozen(endoscopy: list[np.ndarray]) -> None:
    forth = endoscopy[:6]
    assert Stream().alarms([*forth, *forth[-2::-1], *forth[1:]]) == []


def test_one_pixel_that_lives_is_enough_not_to_be_frozen(endoscopy: list[np.ndarray]) -> None:
    """Also one outside of the sample that is looked at first."""
    stream = Stream()
    stream.show(endoscopy[0])
    for pixel in ((0, 0), (511, 511), (200, 201)):
        changed = endoscopy[0].copy()
        changed[pixel] ^= 1
        assert stream.show(changed) == USABLE


def test_an_image_that_is_delivered_twice_is_not_frozen(endoscopy: list[np.ndarray]) -> None:
    """Its stamp does not advance."""
    stream = Stream()
    stream.show(endoscopy[0])
    assert stream.show(endoscopy[0], period_ns=0) == USABLE


def test_a_source_that_repeats_images_can_be_allowed_to(endoscopy: list[np.ndarray]) -> None:
    stream = Stream(frozen_images=2)
    doubled = [image for image in endoscopy[:6] for _ in range(2)]
    assert stream.alarms(doubled) == []
    assert [stream.show(endoscopy[6]) for _ in range(4)] == [USABLE, USABLE, FROZEN, FROZEN]


def test_no_false_alarm_on_the_bundled_recording(endoscopy: list[np.ndarray]) -> None:
    assert len(endoscopy) == 66 and Stream().alarms(endoscopy) == []


@pytest.mark.parametrize("seed", [1, 2, 5])
def test_no_false_alarm_on_rendered_scenes(seed: int) -> None:
    scene = render_sequence(seed, 20, (360, 450), 12.5, objects=1 + seed % 3, plain=False)
    assert Stream().alarms(image for image, _ in scene) == []


@pytest.mark.parametrize("part", ["train/vocalfolds", "train/davis2016_val", "test/davis2016_val"])
def test_no_false_alarm_on_real_sequences(shared_data: Path, part: str) -> None:
    """Where they are at hand; every fifth image of each, so with larger steps from one to the next."""
    alarms = {}
    for sequence in find_folder_sequences(shared_data / part):
        images = (cv2.imread(str(path))[:, :, ::-1] for _, path, _ in sequence.paths()[::5])
        if found := Stream().alarms(np.ascontiguousarray(image) for image in images):
            alarms[sequence.name] = found
    assert alarms == {}


def test_a_cameras_own_border_is_not_missing_rows(endoscopy: list[np.ndarray]) -> None:
    """Letterboxed from the first image on."""
    stream = Stream()
    assert stream.alarms(np.pad(image, ((60, 60), (0, 0), (0, 0))) for image in endoscopy[:20]) == []


def test_a_grey_camera_is_not_out_of_the_body(endoscopy: list[np.ndarray]) -> None:
    """It has never shown the colour of tissue."""
    stream = Stream()
    assert (
        stream.alarms(image.mean(axis=2, keepdims=True).repeat(3, 2).astype(np.uint8) for image in endoscopy)
        == []
    )


@pytest.mark.parametrize("change", [outside, missing_rows])
def test_a_new_look_is_usable_once_somebody_accepts_it(endoscopy: list[np.ndarray], change) -> None:
    """Another light or a border drawn by the camera: doubted until a prompt or a reset says that it is right."""
    stream = Stream()
    stream.alarms(endoscopy[:5])
    assert len(stream.alarms(change(image) for image in endoscopy[5:10])) == 5
    stream.judge.accept()
    assert stream.alarms(change(image) for image in endoscopy[10:20]) == []


def test_a_change_of_scene_is_not_torn(endoscopy: list[np.ndarray]) -> None:
    """Only a line across the image is."""
    assert Stream().alarms([*endoscopy[:3], *(image[::-1, ::-1] for image in endoscopy[30:33])]) == []


def test_nothing_is_judged_where_the_settings_say_so(endoscopy: list[np.ndarray]) -> None:
    stream = Stream(judge_images=False)
    assert {stream.show(black(endoscopy[0])) for _ in range(3)} == {ImageCondition.UNKNOWN}


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (16, 16), (17, 300), (300, 17)])
def test_every_size_is_judged_or_left(size: tuple[int, int]) -> None:
    stream = Stream()
    rng = np.random.default_rng(0)
    for _ in range(3):
        stream.show(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    stream.show(rng.integers(0, 256, (50, 60, 3), dtype=np.uint8))


def test_what_is_looked_at_does_not_grow_with_the_width(endoscopy: list[np.ndarray]) -> None:
    """So the cost of a judgement is bounded by the rows."""
    for width in (32, 640, 1280, 3840):
        assert column_sample(np.zeros((10, width, 3), np.uint8)).shape[1] <= 64
    measures = measure_image(column_sample(endoscopy[0]), TrackerConfig())
    assert 0.9 < measures.lit <= 1 and measures.tissue > 0.5 and not measures.steps.any()


def test_an_image_that_cannot_be_looked_at_fails_its_step_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More often than there are slots for frames: none may be lost."""
    frames = moving_images(3)
    tracker = small_tracker()
    tracker.step(frames[0])
    oid = tracker.add_object(frames[0], box=[10, 10, 60, 60])
    for _ in range(tracker.config.kept_frames + 20):
        with monkeypatch.context() as broken:
            broken.setattr(image_judge, "column_sample", lambda image: image[0, 0, 5])
            with pytest.raises(IndexError):
                tracker.step(frames[1])
    assert tracker.step(frames[2]).index_of(oid) == 0
