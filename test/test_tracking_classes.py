"""An object's class over time: frames are averaged, only trusted ones count, and nothing is said before one has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tracking_cases import CLASSES, READING, SEMANTIC, disc, moving_images, small_network, small_tracker

from sam2s_ros.engines import DecodeResult, create_engine
from sam2s_ros.network import ClassBank, build_network
from sam2s_ros.network.checkpoint import save_checkpoint
from sam2s_ros.network.class_bank import METADATA_KEY, write_class_bank
from sam2s_ros.tracking import StreamingTracker, TrackerConfig, load_tracker
from sam2s_ros.tracking.class_memory import ClassMemory, KnownClasses
from sam2s_ros.tracking.loader import known_classes

HOOK, GRASPER, LIVER = np.eye(3, dtype=np.float32)
KNOWN = KnownClasses(CLASSES, np.eye(3, dtype=np.float32))


def memory(**settings: float) -> ClassMemory:
    return ClassMemory(TrackerConfig(max_objects=4, **settings), KNOWN)  # type: ignore[arg-type]


def seen(*embeddings: np.ndarray, score: float = 8.0, iou: float = 0.9) -> DecodeResult:
    count = len(embeddings)
    return DecodeResult(
        np.zeros((count, 2, 2), np.float32),
        np.full(count, iou, np.float32),
        np.full(count, score, np.float32),
        np.stack(embeddings),
    )


def rows(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


def observe(case: ClassMemory, of: np.ndarray, frame: int, said: DecodeResult, since: int = 0) -> None:
    case.observe(of, frame, said, np.full(len(of), since))


def test_one_frame_gives_the_softmax_of_the_scaled_cosines() -> None:
    case = memory(class_scale=2.0)
    observe(case, rows(1), 0, seen(np.array([0.8, 0.6, 0.0], np.float32)))
    expected = np.exp([1.6, 1.2, 0.0]) / np.exp([1.6, 1.2, 0.0]).sum()
    np.testing.assert_allclose(case.probabilities(rows(1))[0], expected, rtol=1e-5)


def test_two_frames_give_their_weighted_mean_in_logarithms() -> None:
    """Four frames after the prompt one counts 1 / (1 + 4 / 2): cosines of 1 become 1 and 1/3 of the sum of weights."""
    case = memory(class_scale=2.0, class_memory_frames=2.0)
    observe(case, rows(0), 0, seen(HOOK))
    observe(case, rows(0), 1, seen(GRASPER), since=4)
    scores = np.exp(2.0 * np.array([1.0, 1 / 3, 0.0]) / (1 + 1 / 3))
    np.testing.assert_allclose(case.probabilities(rows(0))[0], scores / scores.sum(), rtol=1e-5)


def test_the_odds_of_two_objects_are_how_their_classes_fit_what_both_masks_show() -> None:
    """Two looks at what is one mask count alike, whichever of the two objects each was taken for."""
    case = memory(class_scale=2.0)
    observe(case, rows(0, 2), 0, seen(HOOK, GRASPER))
    hook, grasper = case.probabilities(rows(0, 2)).astype(float)
    looks = seen(np.array([0.8, 0.6, 0.0], np.float32), LIVER)
    read = sum(np.exp(2.0 * look) / np.exp(2.0 * look).sum() for look in looks.embedding.astype(float))
    expected = np.log((hook @ read) / (grasper @ read))
    assert expected > 0.05
    np.testing.assert_allclose(
        case.odds(rows(0, 2), looks), [[0, expected], [-expected, 0]], rtol=1e-5, atol=1e-9
    )


def test_there_are_no_odds_where_a_class_is_not_known_or_nothing_was_read() -> None:
    case = memory()
    observe(case, rows(0, 1), 0, seen(HOOK, GRASPER))
    unread = np.full(3, np.nan, np.float32)
    assert np.flatnonzero(case.odds(rows(0, 1, 2), seen(HOOK, unread, HOOK))).tolist() == [1, 3]
    assert not case.odds(rows(0, 1), seen(unread, unread)).any()


def test_an_object_in_the_row_of_a_removed_one_is_not_contested() -> None:
    case = memory(class_interval=5)
    observe(case, rows(1), 0, seen(HOOK))
    case.contested[1] = True
    old, turn = np.array([100]), np.array([4])
    assert case.due(rows(1), turn, 3, old).all()
    case.clear(1)
    observe(case, rows(1), 1, seen(HOOK))
    assert not case.due(rows(1), turn, 3, old).any()


def test_one_frame_does_not_overrule_many_and_many_do_overrule_one() -> None:
    case = memory(class_memory_frames=10.0)
    said = []
    for number, embedding in enumerate([HOOK] * 3 + [GRASPER] * 15):
        observe(case, rows(2), number, seen(embedding), since=number)
        said.append(case.most_probable(case.probabilities(rows(2)))[0][0])
    assert said[2:5] == ["hook"] * 3 and said[-1] == "grasper"
    assert said.index("grasper") in range(6, 12)


def test_a_mask_that_strays_long_after_a_prompt_does_not_change_the_class_but_a_prompt_does() -> None:
    case = memory(class_memory_frames=5.0)
    for number in range(20):
        observe(case, rows(0), number, seen(HOOK), since=number)
    for number in range(20, 60):
        observe(case, rows(0), number, seen(GRASPER), since=number)
    assert case.most_probable(case.probabilities(rows(0)))[0] == ("hook",)
    for age in range(12):
        observe(case, rows(0), 60 + age, seen(GRASPER), since=age)
    assert case.most_probable(case.probabilities(rows(0)))[0] == ("grasper",)


@pytest.mark.parametrize("doubt", [{"score": -0.1}, {"iou": 0.5}])
def test_a_frame_without_the_object_or_with_a_poor_mask_has_no_say(doubt: dict[str, float]) -> None:
    case = memory(class_min_iou=0.7)
    observe(case, rows(0), 0, seen(HOOK))
    before = case.probabilities(rows(0))
    observe(case, rows(0), 1, seen(GRASPER, **doubt))
    assert np.array_equal(case.probabilities(rows(0)), before)


def test_a_frame_that_is_tracked_again_counts_once() -> None:
    case = memory()
    for _ in range(2):
        observe(case, rows(0), 5, seen(HOOK))
    assert case.weight[0] == 1


def test_objects_do_not_share_what_is_known_and_a_cleared_one_knows_nothing() -> None:
    case = memory()
    observe(case, rows(3, 0), 0, seen(HOOK, LIVER))
    case.clear(3)
    probabilities = case.probabilities(rows(0, 3))
    names, scores = case.most_probable(probabilities)
    assert names == ("liver", "") and scores[0] > 0.99 and np.isnan(scores[1])
    assert np.isnan(probabilities[1]).all()


def test_a_reader_is_asked_at_first_always_and_later_of_each_object_in_another_frame() -> None:
    case = memory(class_interval=3, class_memory_frames=2.0)
    of, ids = rows(0, 1, 2), rows(7, 5, 9)
    observe(case, of, 0, seen(HOOK, HOOK, HOOK))
    assert all(case.due(of, ids, 7, np.array([since] * 3)).all() for since in (0, 1, 2))
    later = np.stack([case.due(of, ids, frame, np.full(3, 50)) for frame in range(9)])
    assert (later.sum(axis=0) == 3).all() and (later.sum(axis=1) == 1).all()
    moved = np.stack([case.due(of[::-1], ids, frame, np.full(3, 50)) for frame in range(9)])
    assert np.array_equal(moved, later), "its turn is the object's, not its row's"


def test_a_reader_is_asked_until_something_is_known() -> None:
    case = memory(class_interval=1000)
    assert case.due(rows(1), rows(3), 7, rows(50))
    observe(case, rows(1), 7, seen(HOOK, iou=0.1), since=50)
    assert case.due(rows(1), rows(3), 8, rows(51))
    observe(case, rows(1), 8, seen(HOOK), since=51)
    assert not case.due(rows(1), rows(3), 9, rows(52))
    case.clear(1)
    assert case.due(rows(1), rows(3), 10, rows(53))


NOT_ASKED = np.full(3, np.nan, dtype=np.float32)


def test_a_frame_counts_for_those_in_which_the_reader_was_not_asked() -> None:
    always, seldom = memory(class_interval=4), memory(class_interval=4)
    for number in range(200):
        said = HOOK if number % 40 < 30 else GRASPER
        observe(always, rows(0), number, seen(said), since=number)
        asked = seldom.due(rows(0), rows(1), number, rows(number))
        observe(seldom, rows(0), number, seen(said if asked[0] else NOT_ASKED), since=number)
    assert seldom.weight[0] == pytest.approx(always.weight[0], rel=0.05)
    np.testing.assert_allclose(seldom.mean_log[0], always.mean_log[0], atol=0.05 * 100)  # of class_scale


def test_a_frame_does_not_count_for_those_without_the_object() -> None:
    """In view on frames 0, 4 and 30; on the others it is away, whether the reader was asked or not."""
    case = memory(class_memory_frames=5.0)
    weights = []
    for number in range(31):
        there = number in (0, 4, 30)
        said = HOOK if there or number % 5 == 0 else NOT_ASKED
        before = case.weight[0]
        observe(case, rows(0), number, seen(said, score=8.0 if there else -8.0), since=number)
        if there:
            weights.append(case.weight[0] - before)
    np.testing.assert_allclose(weights, [1, 1 / (1 + 4 / 5), 1 / (1 + 30 / 5)])


def test_a_frame_counts_for_no_more_than_an_interval() -> None:
    case = memory(class_interval=4, class_memory_frames=5.0)
    observe(case, rows(0), 0, seen(HOOK))
    for number in range(1, 30):
        observe(case, rows(0), number, seen(NOT_ASKED), since=number)
    observe(case, rows(0), 30, seen(HOOK), since=30)
    assert case.weight[0] == pytest.approx(1 + 4 / (1 + 30 / 5))


@pytest.mark.parametrize("previous_mask_prompt", ["off", "box"])
def test_the_tracker_asks_the_reader_of_each_object_in_its_turn(previous_mask_prompt: str) -> None:
    config = TrackerConfig(
        max_objects=4,
        class_min_iou=0.0,
        class_memory_frames=1.0,
        class_interval=3,
        previous_mask_prompt=previous_mask_prompt,
        drop_twins=False,
        drop_stray_components=False,
    )
    network = small_network(config=READING)
    engine = create_engine("eager", network, config.engine_capacity())
    tracker = StreamingTracker(engine, config, KnownClasses(CLASSES, np.eye(3, 24, dtype=np.float32)))
    images = moving_images(12)
    tracker.step(images[0])
    for centre in ((60, 40), (90, 60), (40, 70)):
        tracker.add_object(None, mask=disc(*centre, 20))
    read, turns = engine.decode, []

    def decode(of, slot, prompt, asked=None):  # type: ignore[no-untyped-def]
        turns[-1].update(dict(zip(of.tolist(), asked.tolist(), strict=True)))
        return read(of, slot, prompt, asked)

    engine.decode = decode  # type: ignore[method-assign]
    for number, image in enumerate(images[1:], start=1):
        turns.append({})
        tracker.step(image)
        known = ~np.isnan(tracker.last_result.class_scores)  # type: ignore[union-attr]
        assert known.all() and sorted(turns[-1]) == [0, 1, 2]
        wanted = {row: number <= 1 or (number + row + 1) % 3 == 0 for row in range(3)}
        assert turns[-1] == wanted, number


def test_nothing_grows_with_frames() -> None:
    case = memory()
    arrays = {name: value.nbytes for name, value in vars(case).items() if isinstance(value, np.ndarray)}
    for number in range(200):
        observe(case, rows(0), number, seen(HOOK))
    assert {
        name: value.nbytes for name, value in vars(case).items() if isinstance(value, np.ndarray)
    } == arrays
    assert case.weight[0] == 200


def test_a_tracker_without_a_class_token_says_no_class() -> None:
    tracker = small_tracker()
    tracker.add_object(moving_images(1)[0], mask=disc(60, 40, 20))
    result = tracker.last_result
    assert result is not None
    assert result.classes == () and result.class_names == ("",) and np.isnan(result.class_scores).all()
    assert result.class_probabilities.shape == (1, 0)
    assert tracker.objects()[0].class_name == ""


def semantic_tracker() -> StreamingTracker:
    network = small_network(config=SEMANTIC)
    config = TrackerConfig(max_objects=4, class_min_iou=0.0)
    classes = known_classes(network)
    return StreamingTracker(create_engine("eager", network, config.engine_capacity()), config, classes)


def test_a_tracker_with_a_class_token_says_the_class_of_each_object() -> None:
    tracker, images = semantic_tracker(), moving_images(4)
    tracker.add_object(images[0], mask=disc(60, 40, 20))
    second = tracker.add_object(None, points=[[100, 50]])
    for image in images[1:]:
        result = tracker.step(image)
    assert result.classes == CLASSES and result.class_probabilities.shape == (2, 3)
    np.testing.assert_allclose(result.class_probabilities.sum(axis=1), 1, rtol=1e-5)
    best = result.class_probabilities.argmax(axis=1)
    assert result.class_names == tuple(CLASSES[row] for row in best)
    assert np.array_equal(result.class_scores, result.class_probabilities.max(axis=1))
    assert [one.class_name for one in tracker.objects()] == list(result.class_names)
    left = result.without(second)
    assert left.class_names == result.class_names[:1] and left.class_probabilities.shape == (1, 3)


def test_a_new_object_in_the_row_of_a_removed_one_starts_without_its_class() -> None:
    tracker, images = semantic_tracker(), moving_images(6)
    first = tracker.add_object(images[0], mask=disc(60, 40, 20))
    for image in images[1:]:
        tracker.step(image)
    assert tracker._classes.weight[0] > 2
    tracker.remove_object(first)
    tracker.add_object(None, mask=disc(60, 40, 20))
    assert tracker._classes.weight[0] == 1


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """nano at random with a bank of three classes."""
    bank = ClassBank(CLASSES, np_bank(3), "hand", "a {}")
    state = build_network("nano", class_bank=bank).state_dict()
    path = tmp_path / "semantic.safetensors"
    save_checkpoint(path, state, "nano", "CC0-1.0", {METADATA_KEY: bank.facts()})
    return path


def np_bank(count: int) -> object:
    import torch

    return torch.eye(count, 8)


def test_weights_with_a_class_token_load_with_their_classes_or_with_others(
    weights: Path, tmp_path: Path
) -> None:
    assert load_tracker(str(weights), "eager", max_objects=1)._classes.names == CLASSES
    other = ClassBank(("hook", "stapler"), np_bank(2), "hand", "a {}")  # type: ignore[arg-type]
    write_class_bank(tmp_path / "other.safetensors", other)
    tracker = load_tracker(str(weights), "eager", max_objects=1, class_bank=tmp_path / "other.safetensors")
    assert tracker._classes.names == ("hook", "stapler")


def test_a_class_bank_of_another_encoder_or_for_weights_without_classes_is_refused(
    weights: Path, tmp_path: Path
) -> None:
    path = tmp_path / "other.safetensors"
    write_class_bank(path, ClassBank(("hook",), np_bank(1), "another encoder", "a {}"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="another encoder.*were trained with hand"):
        load_tracker(str(weights), "eager", class_bank=path)
    plain = tmp_path / "plain.safetensors"
    save_checkpoint(plain, build_network("nano").state_dict(), "nano", "CC0-1.0")
    with pytest.raises(ValueError, match="plain.safetensors knows no classes"):
        load_tracker(str(plain), "eager", class_bank=path)
