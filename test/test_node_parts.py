"""The parts of the node that need no running node: images, counts, labels, worker, prompts file, parameters."""

from __future__ import annotations

import array
import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from rclpy.qos import ReliabilityPolicy

pytest.importorskip("rclpy", reason="rclpy is not installed: make setup")
pytest.importorskip("sam2s_msgs.msg", reason="the messages are not built: make setup")

from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from tracking_cases import disc, moving_images, small_tracker

from sam2s_msgs.msg import TrackedObject, TrackedObjectArray
from sam2s_ros.evaluation.bags import BagSequence
from sam2s_ros.evaluation.prompts import FilePrompts, box_of
from sam2s_ros.nodes.detections import detections_message
from sam2s_ros.nodes.frame_worker import (
    CALLS_IN_A_ROW,
    QUICK_CALLS_IN_A_ROW,
    FrameWorker,
    WorkerStoppedError,
    WorkerTimeoutError,
)
from sam2s_ros.nodes.image_messages import ImageMessageError, ImageWriter, compressed_to_rgb, image_to_rgb
from sam2s_ros.nodes.image_source import NEWEST_IMAGE
from sam2s_ros.nodes.label_map import LabelMap, paint_labels
from sam2s_ros.nodes.messages import mask_summary, objects_array
from sam2s_ros.nodes.object_topics import ObjectTopics
from sam2s_ros.nodes.overlay import PALETTE_RGB, CaptionPlaces, draw_overlay, put_text
from sam2s_ros.nodes.settings import NodeSettings
from sam2s_ros.nodes.stream_counter import StampGapCounter, StreamCounter
from sam2s_ros.nodes.tracker_node import main as tracker_main
from sam2s_ros.nodes.tracker_process import close_all
from sam2s_ros.nodes.warning_periods import WarningPeriods
from sam2s_ros.tracking import TrackerConfig
from sam2s_ros.tracking.masks import MaskUpsampler
from sam2s_ros.tracking.prompts_file import PromptInputError, load_prompts_file
from sam2s_ros.tracking.runs import MaskRuns

ROOT = Path(__file__).resolve().parents[1]
COLOURS = np.array([[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [100, 110, 120]]], np.uint8)


def padded(pixels: np.ndarray, encoding: str, padding: int) -> Image:
    """A message whose rows end in `padding` bytes of rubbish."""
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    rubbish = np.full((len(rows), padding), 255, np.uint8)
    data = np.hstack([rows, rubbish]).tobytes()
    step = rows.shape[1] + padding
    return Image(
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        step=step,
        data=array.array("B", data),
    )


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("rgb8", COLOURS),
        ("bgr8", COLOURS[:, :, ::-1]),
        ("rgba8", np.dstack([COLOURS, COLOURS[:, :, :1]])),
        ("bgra8", np.dstack([COLOURS[:, :, ::-1], COLOURS[:, :, :1]])),
    ],
)
def test_colours_are_read_in_every_order_and_with_padded_rows(
    encoding: str, pixels: np.ndarray, padding: int
) -> None:
    """The same RGB array comes out, whatever the order of channels and the row step."""
    assert np.array_equal(image_to_rgb(padded(pixels, encoding, padding)), COLOURS)


@pytest.mark.parametrize("padding", [0, 6])
def test_sixteen_bit_grey_is_scaled(padding: int) -> None:
    """A rare encoding goes through a library, also with padded rows."""
    grey = np.array([[0, 65535], [32768, 257]], np.uint16)
    message = padded(grey.view(np.uint8).reshape(2, 4), "mono16", padding)
    message.width = 2
    assert np.abs(image_to_rgb(message)[:, :, 1].astype(int) - [[0, 255], [128, 1]]).max() <= 1


def test_reading_rgb_copies_nothing() -> None:
    """The array is a view: it shows a change of the message's data."""
    message = padded(COLOURS, "rgb8", 3)
    view = image_to_rgb(message)
    message.data[0] = 99
    assert view[0, 0, 0] == 99


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": 0}, "empty images"),
        ({"step": 5}, "a row needs 6 bytes"),
        ({"height": 9}, "truncated, needs"),
        ({"encoding": "unheard_of"}, "unheard_of"),
        ({"encoding": "32FC1", "step": 8}, "32FC1"),
    ],
)
def test_an_image_that_contradicts_itself_is_refused(change: dict[str, int | str], words: str) -> None:
    """The message says which field is wrong."""
    message = padded(COLOURS, "rgb8", 2)
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ImageMessageError, match=words):
        image_to_rgb(message)


def test_a_jpeg_cut_short_is_refused_and_a_whole_one_read() -> None:
    """OpenCV itself would fill the missing rows with grey."""
    smooth = cv2.resize(COLOURS, (64, 64), interpolation=cv2.INTER_LINEAR)
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(smooth, cv2.COLOR_RGB2BGR))[1].tobytes()
    whole = CompressedImage(format="jpeg", data=array.array("B", jpeg))
    assert np.abs(compressed_to_rgb(whole).astype(int) - smooth).max() < 12
    for data, words in ((jpeg[:-40], "truncated"), (b"", "no data"), (b"no image at all", "cannot decode")):
        with pytest.raises(ImageMessageError, match=words):
            compressed_to_rgb(CompressedImage(format="jpeg", data=array.array("B", data)))


def test_an_image_writer_publishes_what_is_written_into_its_view() -> None:
    """The view belongs to the message, and follows a change of size."""
    writer = ImageWriter("rgb8", 3)
    for size in ((2, 2), (3, 5)):
        writer.pixels(*size)[:] = 7
        message = writer.message
        assert (message.height, message.width, message.step) == (*size, size[1] * 3)
        assert message.data == array.array("B", [7] * size[0] * size[1] * 3)


def test_missing_stamps_of_a_regular_stream_are_counted() -> None:
    """25 Hz with 30 % jitter: three missing images are three, and jitter is none."""
    jitter = np.random.default_rng(0).uniform(-0.006, 0.006, 100)
    stamps = [round(1e9 * (i * 0.04 + jitter[i])) for i in range(100) if i not in (50, 70, 71)]
    counter = StampGapCounter()
    assert [counter.add(stamp) for stamp in stamps].count(0) == len(stamps) - 2
    assert counter.missing == 3


def test_an_irregular_stream_has_no_missing_images() -> None:
    """A sparse recording must not look like a broken network."""
    gaps = np.random.default_rng(0).choice([1, 2, 5, 9], 100)
    counter = StampGapCounter()
    for stamp in np.cumsum(gaps) * 100_000_000:
        counter.add(int(stamp))
    assert counter.missing == 0


def test_what_the_middleware_reports_replaces_the_estimate() -> None:
    """Gaps between stamps count only as long as nobody reports losses: a camera that stutters is not a bad network."""
    counter = StreamCounter()
    for number in [*range(20), *range(24, 30)]:
        counter.add_received(number * 40_000_000)
    assert counter.counts().lost == 4
    counter.set_lost_in_transport(0)
    assert counter.counts().lost == 0
    counter.set_lost_in_transport(9)
    assert counter.counts().lost == 9


def test_a_label_value_rests_before_it_is_used_again() -> None:
    """Within the rest another value is given, afterwards the same one again."""
    labels = LabelMap(rest_s=10.0)
    assert labels.update([1, 2], now_s=0.0) and dict(labels.labels()) == {1: 1, 2: 2}
    assert not labels.update([1, 2], now_s=1.0)
    assert labels.update([2, 3], now_s=5.0) and labels.label(3) == 3
    assert labels.update([2, 3, 4], now_s=15.0) and labels.label(4) == 1


def test_values_end_at_254() -> None:
    """255 is reserved: with all values taken, an object gets none until one is free."""
    labels = LabelMap(rest_s=0.0)
    labels.update(range(1, 256), now_s=0.0)
    assert max(labels.labels().values()) == 254 and labels.label(255) == 0
    labels.update(range(2, 256), now_s=1.0)
    assert labels.label(255) == 1


def test_the_higher_logit_wins_an_overlap() -> None:
    """Left half and right half overlap in the middle; each pixel there goes to the object that is surer of it."""
    masks = np.zeros((2, 8, 16), bool)
    masks[0, :, :10], masks[1, :, 6:] = True, True
    logits = np.zeros((2, 4, 8), np.float32)
    logits[0, :2], logits[1, 2:] = 5.0, 5.0
    image = np.empty((8, 16), np.uint8)
    paint_labels(image, MaskRuns.of_masks(masks), logits, np.array([3, 9], np.uint8))
    assert (image[:, :6] == 3).all() and (image[:, 10:] == 9).all()
    assert (image[:3, 6:10] == 3).all() and (image[5:, 6:10] == 9).all()


@pytest.mark.parametrize("seed", range(8))
def test_every_pixel_has_the_label_of_the_highest_logit_among_the_masks_on_it(seed: int) -> None:
    """Of objects some of which lie on others, apart, or out of view."""
    rng = np.random.default_rng(seed)
    size, count = (90, 160), 5
    y, x = np.indices((64, 64))
    centres, radii = rng.uniform(0, 64, (count, 2)), rng.uniform(-4, 40, count)
    logits = np.stack([r - np.hypot(y - cy, x - cx) for (cy, cx), r in zip(centres, radii, strict=True)])
    logits = logits.astype(np.float32)
    runs, labels = MaskUpsampler(64, size)(logits), np.array([7, 1, 254, 0, 2], np.uint8)
    out = np.full(size, 99, np.uint8)
    paint_labels(out, runs, logits, labels)
    scores = np.stack([cv2.resize(one, size[::-1], interpolation=cv2.INTER_LINEAR) for one in logits])
    scores[~runs.masks() | (labels == 0)[:, None, None]] = -np.inf
    expected = np.where(scores.max(axis=0) > -np.inf, labels[scores.argmax(axis=0)], 0)
    assert (runs.masks().sum(axis=0) > 1).any(), "some overlap"
    assert np.array_equal(out, expected)


def test_the_overlay_tints_objects_alone() -> None:
    """Background pixels stay as they are, an object's area takes its colour."""
    image, labels = np.full((60, 80, 3), 100, np.uint8), np.zeros((60, 80), np.uint8)
    labels[20:40, 20:60] = 5
    out = np.zeros_like(image)
    draw_overlay(image, labels, [(5, "5 hook")], out, alpha=0.5)
    assert np.abs(out[30, 40].astype(int) - (100 + PALETTE_RGB[5].astype(int)) // 2).max() <= 1
    assert (out[50:] == 100).all()


def test_captions_stay_in_the_picture_and_apart() -> None:
    """Of objects that lie on one another, at each edge and out of view; the last line of the picture is left free."""
    height, width, scale = 200, 300, 0.5
    places = CaptionPlaces(height, width, scale)
    texts = ["vocal folds uncertain", "other tissue occluded", "glottal space lost", "tool", "hook lost"]
    wanted = [(280, 3), (280, 3), (270, 8), (8, 250), (8, 250)]
    origins = [places.take(text, place) for text, place in zip(texts, wanted, strict=True)]
    drawn = []
    for text, origin in zip(texts, origins, strict=True):
        picture = np.zeros((height + 40, width + 200, 3), np.uint8)
        put_text(picture, text, origin, scale, (255, 255, 255))
        drawn.append(picture.any(axis=-1))
    assert all(
        not one[:, width:].any() and not one[height - 20 :].any() and not one[0].any() for one in drawn
    )
    assert np.sum(drawn, axis=0).max() == 1, "two captions overprint each other"


class Recorder:
    """A worker's `process` that can be held up."""

    def __init__(self) -> None:
        self.frames: list[int] = []
        self.prepared: dict[int, str] = {}
        self.go_on, self.begun = threading.Event(), threading.Event()

    def prepare(self, frame: int) -> int:
        self.prepared[frame] = threading.current_thread().name
        return frame

    def __call__(self, frame: int) -> None:
        self.begun.set()
        self.go_on.wait(10)
        self.frames.append(frame)


def wait_until(holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Return as soon as it holds; fail when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def worker(recorder: Recorder):
    worker: FrameWorker[int, int] = FrameWorker(
        recorder.prepare, recorder, on_error=lambda error: None, name="test"
    )
    worker.start()
    yield worker
    recorder.go_on.set()
    assert worker.stop(10)


def fill(worker: FrameWorker[int, int], recorder: Recorder) -> None:
    """Frame 1 in work and held up, frame 2 prepared."""
    worker.offer(1)
    assert recorder.begun.wait(10)
    assert not worker.offer(2)
    wait_until(lambda: 2 in recorder.prepared)


def test_the_worker_takes_the_newest_frame(worker: FrameWorker[int, int], recorder: Recorder) -> None:
    """One frame in work, one prepared; frames that come then replace each other, and each replacement is reported."""
    fill(worker, recorder)
    assert [worker.offer(number) for number in (3, 4, 5)] == [False, True, True]
    recorder.go_on.set()
    wait_until(lambda: recorder.frames[-1:] == [5])
    assert recorder.frames == [1, 2, 5]


def test_the_next_frame_is_prepared_while_one_is_processed(
    worker: FrameWorker[int, int], recorder: Recorder
) -> None:
    """On another thread; what is prepared and then flushed is never processed."""
    fill(worker, recorder)
    assert recorder.frames == [] and recorder.prepared[2] == "test encoder"
    worker.flush()
    recorder.go_on.set()
    for _ in range(CALLS_IN_A_ROW + 1):  # the last call lets a waiting frame go first
        worker.call(lambda: None, 10)
    assert recorder.frames == [1]


def test_a_frame_waits_for_quick_calls_and_only_for_a_few_others(
    worker: FrameWorker[int, int], recorder: Recorder
) -> None:
    """Quick calls overtake the others and all run before the frame, up to a number; of the others, a few do."""
    fill(worker, recorder)
    order: list[str] = []
    answers = [
        worker.post(lambda kind=kind: order.append(f"{kind} {recorder.frames[-1]}"), quick=kind == "quick")
        for kind in ["slow"] * (CALLS_IN_A_ROW + 1) + ["quick"] * (QUICK_CALLS_IN_A_ROW + 1)
    ]
    recorder.go_on.set()
    for answer in answers:
        answer.result(10)
    before = ["quick 1"] * QUICK_CALLS_IN_A_ROW + ["slow 1"] * CALLS_IN_A_ROW
    assert order == [*before, "quick 2", "slow 2"]


def test_spare_work_runs_until_it_is_done_and_lets_frames_and_calls_go_first(
    worker: FrameWorker[int, int], recorder: Recorder
) -> None:
    """After a frame and after a call, on the thread of both; none is begun while something waits."""
    done: list[tuple[str, str, list[int]]] = []
    left, go_on = 0, threading.Event()

    def spare() -> bool:
        nonlocal left
        if left:
            left -= 1
            done.append((threading.current_thread().name, calls[-1] if calls else "", list(recorder.frames)))
            go_on.wait(10)
        return left > 0

    def give(number: int) -> None:
        nonlocal left
        left = number
        calls.append(f"gave {number}")

    calls: list[str] = []
    worker.spare = spare
    worker.call(lambda: give(3), 10)
    wait_until(lambda: len(done) == 1)
    worker.offer(1)
    last = worker.post(lambda: calls.append("call"))
    wait_until(lambda: 1 in recorder.prepared)
    go_on.set()
    recorder.go_on.set()
    last.result(10)
    wait_until(lambda: len(done) == 3)
    assert done == [("test", "gave 3", []), ("test", "call", [1]), ("test", "call", [1])]


def test_a_frame_that_cannot_be_prepared_is_reported_and_the_next_one_goes_on() -> None:
    """The error of `prepare` reaches `on_error`; None leaves a frame out without a word."""
    seen: list[object] = []

    def prepare(frame: int) -> int | None:
        if frame == 1:
            raise ValueError("one")
        return None if frame == 2 else frame

    worker: FrameWorker[int, int] = FrameWorker(
        prepare, seen.append, lambda error: seen.append(str(error)), "test"
    )
    worker.start()
    for frame in (1, 2, 3):
        worker.offer(frame)
        time.sleep(0.1)
    wait_until(lambda: 3 in seen)
    assert seen == ["one", 3]
    assert worker.stop(10)


def test_a_call_runs_between_frames_and_its_error_comes_back(
    worker: FrameWorker[int, int], recorder: Recorder
) -> None:
    """A call waits for the frame in work, then runs on the same thread."""
    worker.offer(1)
    recorder.begun.wait(10)
    threading.Timer(0.1, recorder.go_on.set).start()
    assert worker.call(lambda: list(recorder.frames), 10) == [1]
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 // 0, 10)


def test_a_few_calls_go_before_a_waiting_frame_but_not_without_end(
    worker: FrameWorker[int, int], recorder: Recorder
) -> None:
    """Six calls and a frame wait: four calls, the frame, the other two."""
    fill(worker, recorder)
    callers = [
        threading.Thread(target=worker.call, args=(lambda: recorder.frames.append(0), 10)) for _ in range(6)
    ]
    for caller in callers:
        caller.start()
    time.sleep(0.3)
    recorder.go_on.set()
    for caller in callers:
        caller.join(10)
    assert recorder.frames == [1, 0, 0, 0, 0, 2, 0, 0]


def test_a_call_does_not_wait_for_ever(worker: FrameWorker[int, int], recorder: Recorder) -> None:
    """With the engine hung the caller gets an answer in time, and the dropped call is not made later."""
    worker.offer(1)
    recorder.begun.wait(10)
    made: list[int] = []
    begun = time.monotonic()
    with pytest.raises(WorkerTimeoutError, match="dropped"):
        worker.call(lambda: made.append(1), 0.2)
    assert time.monotonic() - begun < 5
    recorder.go_on.set()
    worker.call(lambda: None, 10)
    assert made == []


def test_label_values_rest_across_publishers_and_restores() -> None:
    """Whoever takes a map's place lets the values rest that were given by it."""
    before = LabelMap(rest_s=10.0)
    before.update([1, 2], 0.0)
    before.update([2], 1.0)
    after = LabelMap(rest_s=10.0, resting=before.resting(2.0))
    after.update([7], 5.0)
    assert after.label(7) == 3, "1 rests until 11 s, 2 until 12 s"
    after.update([7, 8], 11.5)
    assert after.label(8) == 1
    restored = LabelMap(10.0, {2: 2}, before.resting(2.0))
    restored.update([2, 9], 5.0)
    assert (restored.label(2), restored.label(9)) == (2, 3)


def test_each_kind_of_warning_has_its_own_period() -> None:
    periods = WarningPeriods(10.0)
    said = [
        periods.due(text, now_s)
        for text, now_s in (
            ("image 0x0", 0.0),
            ("image 0x5", 1.0),
            ("encoding 'foo'", 2.0),
            ("encoding 'foo'", 9.0),
            ("image 0x0", 10.0),
        )
    ]
    assert said == [True, False, True, False, True]
    assert all(periods.due("x" * number, 20.0) for number in range(1, 200)) and len(periods._last_s) <= 32


@pytest.mark.parametrize("encoding", ["8UC3", "16UC3", "8SC3", "8UC1", "8UC4", "16UC1"])
def test_an_encoding_that_does_not_say_which_channel_is_red_is_refused(encoding: str) -> None:
    with pytest.raises(ImageMessageError, match=f"'{encoding}': that says .* publish rgb8 or bgr8"):
        image_to_rgb(Image(height=4, width=4, encoding=encoding, step=32, data=array.array("B", bytes(128))))


def test_of_images_that_wait_the_reader_keeps_the_newest() -> None:
    assert (NEWEST_IMAGE.depth, NEWEST_IMAGE.reliability) == (1, ReliabilityPolicy.BEST_EFFORT)


@pytest.mark.parametrize("status", [0, 1, 2, 3])
def test_nothing_is_on_an_object_s_topics_while_the_status_is_not_ok(status: int) -> None:
    """Not even of an object that is TRACKING, as while stamps have gone back."""
    published: list[str] = []

    class FakeNode:
        def create_publisher(self, kind: type, topic: str, qos: Any) -> Any:
            return SimpleNamespace(publish=lambda message: published.append(topic))

    topics = ObjectTopics(FakeNode(), "depth", 1)  # type: ignore[arg-type]
    topics.keep([7])
    one = TrackedObject(id=7, state=TrackedObject.TRACKING, has_position=True)
    topics.publish(TrackedObjectArray(status=status, objects=[one]))
    assert TrackedObjectArray.OK == 0
    expected = ["~/objects/id_7/pixel", "~/objects/id_7/centroid", "~/objects/id_7/tip"]
    assert published == (expected if status == TrackedObjectArray.OK else [])


def test_what_waits_is_refused_by_a_flush_though_a_caller_has_given_up(
    worker: FrameWorker[int, int], recorder: Recorder
) -> None:
    """The call of one that gave up lies there still."""
    worker.offer(1)
    recorder.begun.wait(10)
    with pytest.raises(WorkerTimeoutError, match="dropped"):
        worker.call(lambda: None, 0.05)
    waits = worker.post(lambda: None)
    worker.flush()
    with pytest.raises(WorkerStoppedError, match="deactivated"):
        waits.result(10)


def test_every_node_is_closed_whatever_one_of_them_raises() -> None:
    """And none waits for another."""
    closed, log = [], []
    others = threading.Event()

    class Fake:
        def __init__(self, name: str) -> None:
            self.name = name

        def close(self) -> None:
            if self.name == "hangs":
                assert others.wait(10)
                raise RuntimeError("it did not end")
            closed.append(self.name)
            others.set()

        def get_logger(self) -> Any:
            return SimpleNamespace(error=log.append)

    assert close_all([Fake("hangs"), Fake("well")]) == 1  # type: ignore[list-item]
    assert closed == ["well"] and len(log) == 1 and "it did not end" in log[0]
    assert close_all([Fake("well")]) == 0  # type: ignore[list-item]


def test_a_stopped_worker_refuses_calls() -> None:
    """After deactivation a service call is refused at once."""
    worker: FrameWorker[int, int] = FrameWorker(
        lambda frame: frame, lambda frame: None, on_error=lambda error: None, name="test"
    )
    worker.start()
    assert worker.stop(10)
    with pytest.raises(WorkerStoppedError, match="not active"):
        worker.call(lambda: None, 10)


def test_a_prompts_file_that_does_not_exist_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(PromptInputError, match="missing.yaml: no such file"):
        load_prompts_file(tmp_path / "missing.yaml")


def test_help_names_every_parameter_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    """`tracker --help` starts no node."""
    with pytest.raises(SystemExit) as ended:
        tracker_main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(f"  {item.name} [{item.default!r}]" in text for item in dataclasses.fields(NodeSettings))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prompts: [", "not valid YAML"),
        ("- box: [1, 2, 3, 4]", "list under the key"),
        ("prompts: [{name: a}]", "entry 1: give points, box or mask"),
        ("prompts: [{box: [1, 2, 3]}]", "entry 1"),
        ("prompts: [{box: [1, 2, 3, 4]}, {bux: 1}]", "entry 2: use only the keys"),
        ("prompts: [{mask: missing.png}]", "missing.png: give its name relative to the prompts file"),
        ("prompts: [{mask: prompts.yaml}]", "prompts.yaml cannot be read"),
        ("prompts: [{box: [4, 2, 3, 4]}]", "entry 1: box .* min < max"),
        ("prompts: [{box: [1, 2, 3, .inf]}]", "entry 1: box "),
        ("prompts: [{points: [1, 2]}]", r"entry 1: points are \[1, 2\]: give a list of finite pairs"),
        ("prompts: [{points: [[1, 2], [3]]}]", "entry 1: points "),
        ("prompts: [{points: [[1, .nan]]}]", "entry 1: points "),
        ("prompts: [{points: [[1, 2]], labels: [4294967296]}]", "entry 1: labels "),
        ("prompts: [{points: [[1, 2]], labels: [0.5]}]", "entry 1: labels "),
        ("prompts: [{points: [[1, 2]], labels: [0]}]", "entry 1: all labels are 0"),
        ("prompts: [{points: [[1, 2], [3, 4]], labels: [1]}]", "entry 1: 2 points and 1 labels"),
        ("prompts: [{box: [1, 2, 3, 4], labels: [1]}]", "entry 1: labels without points"),
        (f"prompts: [{{points: {[[1, 2]] * 33}}}]", "entry 1: 33 points: give at most 32"),
        (
            "prompts: [{box: [1, 2, 3, 4], stamp: .inf}]",
            "entry 1: stamp is inf: give seconds .* the first image",
        ),
        ("prompts: [{box: [1, 2, 3, 4], stamp: 2147483648}]", "entry 1: stamp is 2147483648"),
        ("prompts: [{box: [1, 2, 3, 4], stamp: noon}]", "entry 1: stamp "),
        ("prompts: [{box: [1, 2, 3, 4], name: null}]", "entry 1: name is None: give text"),
    ],
)
def test_a_wrong_prompts_file_is_refused_with_the_entry(tmp_path: Path, text: str, words: str) -> None:
    """A mistake is found on configure, not when the first image comes."""
    (tmp_path / "prompts.yaml").write_text(text)
    with pytest.raises(PromptInputError, match=words) as caught:
        load_prompts_file(tmp_path / "prompts.yaml")
    assert str(tmp_path / "prompts.yaml") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "stamp", ["1719829012.123457", '"1719829012.123457000"', "1719829012123457000", '"1719829012123457000"']
)
def test_a_stamp_of_the_prompts_file_is_exact(tmp_path: Path, stamp: str) -> None:
    """A float times 1e9 would be up to 128 ns beside the image's stamp, and so name the next image."""
    (tmp_path / "prompts.yaml").write_text(f"prompts: [{{box: [1, 2, 3, 4], stamp: {stamp}}}]")
    assert load_prompts_file(tmp_path / "prompts.yaml")[0].stamp_ns == 1719829012123457000


def test_prompts_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    """The node looks for those that are due in the list of those that are left."""
    (tmp_path / "prompts.yaml").write_text("prompts: [{box: [1, 2, 3, 4]}, {box: [1, 2, 3, 4], stamp: 9}]")
    due, left = load_prompts_file(tmp_path / "prompts.yaml")
    assert left not in [due] and due in [due]


def test_where_no_mask_was_made_its_area_and_age_are_not_known() -> None:
    """After a change of the image size, 0 would say that the object is judged out of view now."""
    tracker = small_tracker()
    tracker.step(moving_images(1)[0], stamp_ns=1)
    object_id = tracker.add_object(None, mask=disc(60, 45, 20))
    (before,) = objects_array(tracker.step(moving_images(2)[1], stamp_ns=2), Header(), {}, {}).objects
    assert before.mask_age == 0 and not np.isnan(before.area)
    result = tracker.step(np.zeros((20, 30, 3), np.uint8), stamp_ns=3)
    (one,) = objects_array(result, Header(), {}, {}).objects
    assert np.isnan([one.area, one.mask_age, mask_summary(result, object_id).area]).all()
    assert (one.mask.height, one.mask.width, len(one.mask.counts)) == (0, 0, 0)
    assert np.isnan([one.position.x, one.position.y, one.position.z, one.tip_position.z]).all()
    assert np.isnan(one.position_covariance).all() and not one.has_position


def test_an_object_out_of_view_has_an_empty_mask_and_area_0() -> None:
    """It was looked for, and it is nowhere: that is known, and where it would be is not."""
    tracker = small_tracker()
    tracker.step(moving_images(1)[0], stamp_ns=1)
    tracker.add_object(None, mask=disc(60, 45, 20))
    result = tracker.last_result
    assert result is not None
    nothing = np.full_like(result.geometry.area, np.nan)
    away = dataclasses.replace(
        result,
        runs=MaskRuns.none(len(result.ids), result.image_size),
        geometry=dataclasses.replace(result.geometry, area=nothing, centroid=np.full((1, 2), np.nan)),
    )
    (one,) = objects_array(away, Header(), {}, {}).objects
    assert one.area == 0 and np.isnan(one.centroid.x)
    assert (one.mask.height, one.mask.width, sum(one.mask.counts)) == (90, 160, 90 * 160)


def test_the_example_prompts_file_is_right() -> None:
    """What users copy works: each prompt is on its object in the first image of the bundled recording, whose stamp is
    given."""
    path = ROOT / "config" / "prompts_example.yaml"
    clicked, boxed = load_prompts_file(path)
    bag = BagSequence(ROOT / "test" / "data" / "vocalfolds_seq4.mcap")
    first = next(iter(bag.frames()))
    assert first.labels is not None
    names = [bag.label_names[int(first.labels[int(y), int(x)])] for x, y in clicked.prompt.points]
    assert names == [clicked.name] * 2 and clicked.stamp_ns is None
    (label,) = [label for label, name in bag.label_names.items() if name == boxed.name]
    assert box_of(first.labels == label).tolist() == boxed.prompt.box.tolist()
    assert boxed.stamp_ns == first.stamp_ns
    due = FilePrompts(path).due(first, (), bag.label_names)
    assert [one.name for one in due] == [clicked.name, boxed.name]


def test_the_shipped_parameters_are_the_defaults() -> None:
    """config/tracker.yaml names every parameter, with the value it has without the file."""
    content = yaml.safe_load((ROOT / "config" / "tracker.yaml").read_text())
    assert NodeSettings(**content["/**"]["ros__parameters"]) == NodeSettings()
    assert NodeSettings().tracker_config() == TrackerConfig()


def test_detections_hold_what_is_in_view() -> None:
    """Boxes as vision_msgs counts them, and nothing for an object that is out of view."""
    objects = TrackedObjectArray()
    seen, lost = (
        TrackedObject(id=4, name="hook", presence=0.75, area=6.0),
        TrackedObject(state=TrackedObject.LOST),
    )
    seen.bounding_box.x_min, seen.bounding_box.x_max = 10.0, 12.0
    seen.bounding_box.y_min, seen.bounding_box.y_max = 20.0, 21.0
    objects.objects = [seen, lost]
    (detection,) = detections_message(vision_stand_in(), objects).detections
    assert detection.id == "4" and detection.results[0].hypothesis.class_id == "hook"
    assert detection.results[0].hypothesis.score == 0.75
    assert (detection.bbox.center.position.x, detection.bbox.center.position.y) == (11.0, 20.5)
    assert (detection.bbox.size_x, detection.bbox.size_y) == (3.0, 2.0)


def vision_stand_in() -> SimpleNamespace:
    """The three messages of vision_msgs 4 that are filled, for machines without it."""

    def hypothesis() -> SimpleNamespace:
        return SimpleNamespace(hypothesis=SimpleNamespace(class_id="", score=0.0))

    def detection(**fields: object) -> SimpleNamespace:
        centre = SimpleNamespace(position=SimpleNamespace(x=0.0, y=0.0), theta=0.0)
        return SimpleNamespace(
            bbox=SimpleNamespace(center=centre, size_x=0.0, size_y=0.0), results=[], **fields
        )

    return SimpleNamespace(
        Detection2DArray=lambda **fields: SimpleNamespace(detections=[], **fields),
        Detection2D=detection,
        ObjectHypothesisWithPose=hypothesis,
    )


def test_an_object_without_a_label_value_is_not_painted() -> None:
    """And does not take pixels from the objects that have one."""
    masks = np.ones((2, 4, 4), bool)
    masks[1, :, 2:] = False
    logits = np.stack([np.full((2, 2), 9, np.float32), np.full((2, 2), 1, np.float32)])
    out = np.full((4, 4), 77, np.uint8)
    paint_labels(out, MaskRuns.of_masks(masks), logits, np.array([0, 3], np.uint8))
    assert np.array_equal(out, np.where(masks[1], 3, 0))


@pytest.mark.parametrize("encoding", ["32FC3", "64FC1", "16FC1"])
def test_floating_point_images_are_refused(encoding: str) -> None:
    """Their range is not known: converted as they are, they would be black."""
    image = Image(height=2, width=2, encoding=encoding, step=24, data=bytes(48))
    with pytest.raises(ImageMessageError, match="no agreed range; publish rgb8 or bgr8"):
        image_to_rgb(image)


def test_images_replaced_in_the_readers_queue_count_as_received_and_skipped() -> None:
    """Five samples of one publisher, of which the middleware lost one and the reader's queue replaced two."""
    counter = StreamCounter()
    counter.set_lost_in_transport(0)
    for number in (4, 5, 9):
        counter.add_received(number, publisher="camera", number=number)
        counter.add("tracked")
    counter.set_lost_in_transport(1)
    counts = counter.counts()
    assert (counts.received, counts.tracked, counts.skipped, counts.lost) == (5, 3, 2, 1)
    counter.add_received(10, publisher="another camera", number=100)
    counter.add_received(11, publisher="camera", number=10)
    assert counter.counts().skipped == 2
