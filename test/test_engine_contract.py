"""Every engine: rows are independent, slots keep what is put into them. Input is prepared as documented."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tracking_cases import moving_images, small_network

from sam2s_ros.engines import Engine, EngineCapacity, MemoryRead, PromptBatch, create_engine
from sam2s_ros.engines.eager import EagerEngine
from sam2s_ros.engines.memory_reads import without_empty_columns
from sam2s_ros.engines.preprocess import Normaliser, resize_to_square

pytestmark = pytest.mark.usefixtures("graph_cache", "gpu_for_tensorrt")
NAMES = ("eager", "openvino", "onnxruntime", "tensorrt")
CAPACITY = EngineCapacity(max_objects=3, frame_slots=4)
LONG_TERM = dataclasses.replace(CAPACITY, long_term_slots=2)
ROWS = np.array([2, 0], dtype=np.int64)


def random_read(rows: int, seed: int = 0) -> MemoryRead:
    """Slots written by `remember`; some of each row invalid, the third column of both."""
    rng = np.random.default_rng(seed)
    memory = (rows, CAPACITY.memory_reads)
    valid = rng.random(memory) < 0.6
    valid[:, 0], valid[:, 2] = True, False
    pointers = (rows, CAPACITY.pointer_reads)
    pointer_valid = rng.random(pointers) < 0.6
    pointer_valid[:, 0] = True
    return MemoryRead(
        slots=rng.integers(0, 4, memory),
        kind=np.zeros(memory, dtype=np.int8),
        temporal_index=rng.integers(0, 7, memory),
        valid=valid,
        pointer_slots=rng.integers(0, 4, pointers),
        pointer_distance=rng.integers(1, 16, pointers).astype(np.float32),
        pointer_valid=pointer_valid,
    )


def rows_of(read: MemoryRead, index: slice) -> MemoryRead:
    return MemoryRead(**{field.name: getattr(read, field.name)[index] for field in dataclasses.fields(read)})


def engine_with_memory(
    precision: str = "fp32", capacity: EngineCapacity = CAPACITY, name: str = "eager"
) -> Engine:
    """Four slots of each row filled from four frames with masks of their own."""
    engine = create_engine(name, small_network(), capacity, precision=precision)
    rng = np.random.default_rng(1)
    for slot, frame in enumerate(moving_images(4)):
        engine.encode(frame, slot)
        rows = np.arange(3)
        engine.decode_mask(rows, slot, (rng.random((3, 128, 128)) < 0.4).astype(np.float32))
        engine.memorise(rows, slot, np.full(3, slot), np.full(3, slot))
    return engine


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_a_batch_get_what_they_get_alone(name: str) -> None:
    engine, read = engine_with_memory(name=name), random_read(2)
    engine.attend(ROWS, 1, read)
    together = engine.decode(ROWS, 1, PromptBatch())
    for index, row in enumerate(ROWS):
        engine.attend(ROWS[index : index + 1], 1, rows_of(read, slice(index, index + 1)))
        alone = engine.decode(np.array([row]), 1, PromptBatch())
        assert np.ptp(alone.logits) > 0.1, "the case shows something"
        assert np.abs(alone.logits[0] - together.logits[index]).max() <= 5e-6 * np.ptp(alone.logits)


@pytest.mark.parametrize("name", NAMES)
def test_an_object_marked_absent_is_remembered_as_one_that_is_and_the_others_as_before(name: str) -> None:
    """The memory and pointer of an empty mask; the row beside it is not touched."""
    marked, plain, empty = (engine_with_memory(name=name) for _ in range(3))
    read, slots = random_read(2), np.array([3, 3])
    for engine in (marked, plain):
        engine.attend(ROWS, 1, read)
        assert np.ptp(engine.decode(ROWS, 1, PromptBatch()).logits) > 0.1, "the case shows something"
    marked.mark_absent(ROWS[:1], 1)
    empty.decode_mask(ROWS, 1, np.zeros((2, 128, 128), np.float32))
    for engine in (marked, plain, empty):
        engine.memorise(ROWS, 1, slots, slots)
    states = [engine.export_state(ROWS, np.array([3]), np.array([3])) for engine in (marked, plain, empty)]
    for key in ("memory", "pointers"):
        found, before, absent = (state[key] for state in states)
        scale = np.abs(before).max()
        np.testing.assert_array_equal(found[1], before[1])
        np.testing.assert_allclose(found[0], absent[0], atol=1e-3 * scale)
        assert np.abs(found[0] - before[0]).max() > 0.01 * scale, "the case shows something"


@pytest.mark.parametrize("name", NAMES)
def test_what_an_invalid_slot_holds_does_not_matter(name: str) -> None:
    read = random_read(2)
    moved = dataclasses.replace(
        read,
        slots=np.where(read.valid, read.slots, 3),
        pointer_slots=np.where(read.pointer_valid, read.pointer_slots, 3),
    )
    results = []
    for one in (read, moved):
        engine = engine_with_memory(name=name)
        engine.attend(ROWS, 1, one)
        results.append(engine.decode(ROWS, 1, PromptBatch()).logits)
    assert np.abs(results[0] - results[1]).max() <= 5e-6 * np.ptp(results[0])


def test_a_valid_slot_does_matter() -> None:
    read = random_read(2)
    other = dataclasses.replace(read, slots=np.where(read.valid, (read.slots + 1) % 4, read.slots))
    engine, results = engine_with_memory(), []
    for one in (read, other):
        engine.attend(ROWS, 1, one)
        results.append(engine.decode(ROWS, 1, PromptBatch()).logits)
    assert np.abs(results[0] - results[1]).max() > 1e-3 * np.ptp(results[0])


def test_columns_valid_for_no_object_are_left_out() -> None:
    read = random_read(2)
    shorter = without_empty_columns(read)
    assert shorter.valid.shape[1] == read.valid.any(axis=0).sum()
    assert np.array_equal(shorter.slots, read.slots[:, read.valid.any(axis=0)])


@pytest.mark.parametrize("name", NAMES)
def test_the_mask_of_the_named_frame_slot_is_the_dense_prompt(name: str) -> None:
    engine = engine_with_memory(name=name)
    answers = []
    for slot in (0, 2, None):
        engine.attend(ROWS, 1, None)
        answers.append(engine.decode(ROWS, 1, PromptBatch(previous_mask_slot=slot)).logits)
    assert not np.array_equal(answers[0], answers[1])
    assert not np.array_equal(answers[0], answers[2])


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_state_continues_in_another_engine(name: str) -> None:
    engine, fresh = (
        engine_with_memory(name=name),
        create_engine(name, small_network(), CAPACITY, precision="fp32"),
    )
    state = engine.export_state(ROWS)
    fresh.import_state(np.array([0, 1]), state)
    fresh.encode(moving_images(4)[1], 1)
    results = []
    for one, rows in ((engine, ROWS), (fresh, np.array([0, 1]))):
        one.attend(rows, 1, random_read(2))
        results.append(one.decode(rows, 1, PromptBatch()).logits)
    assert np.array_equal(*results)


@pytest.mark.parametrize("name", NAMES)
def test_a_state_that_does_not_fit_is_refused(name: str) -> None:
    engine = engine_with_memory(name=name)
    state = engine.export_state(ROWS)
    with pytest.raises(ValueError, match="engine state: pointers is float32"):
        engine.import_state(ROWS, {**state, "pointers": state["pointers"][:, :-1]})
    with pytest.raises(ValueError, match="engine state holds"):
        engine.import_state(ROWS, {"memory": state["memory"]})


def test_similarity_is_the_cosine_of_the_stride_16_maps_of_two_frames() -> None:
    engine = engine_with_memory(capacity=LONG_TERM)
    assert isinstance(engine, EagerEngine)
    kept = np.array([3, 0])
    engine.keep_feature(ROWS[:1], 0, kept[:1])
    engine.keep_feature(ROWS[1:], 2, kept[1:])
    maps = [engine._features[slot].f2.flatten() for slot in (0, 2, 3)]
    expected = [torch.cosine_similarity(one, maps[2], dim=0).item() for one in maps[:2]]
    assert abs(expected[0] - expected[1]) > 1e-4, "the case shows something"
    np.testing.assert_allclose(engine.similarity(ROWS, 3, kept), expected, atol=1e-6)
    np.testing.assert_allclose(engine.similarity(ROWS, 0, kept)[0], 1, atol=1e-6)
    assert engine.similarity(ROWS, 3, kept[::-1].copy()).tolist() == [0, 0], "nothing is kept there"


@pytest.mark.parametrize("name", NAMES)
def test_a_kept_memory_outlives_its_slot_and_touches_no_other(name: str) -> None:
    engine = engine_with_memory(capacity=LONG_TERM, name=name)
    before = engine.export_state(np.arange(3))["memory"]
    engine.keep_memory(ROWS, np.array([1, 2]), np.array([6, 4]))
    engine.memorise(ROWS, 0, np.array([1, 2]), np.array([1, 2]))
    after = engine.export_state(np.arange(3))["memory"]
    assert np.array_equal(after[2, 6], before[2, 1]) and np.array_equal(after[0, 4], before[0, 2])
    changed = np.argwhere((after != before).any(axis=(2, 3))).tolist()
    assert changed == [[0, 2], [0, 4], [2, 1], [2, 6]]


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_state_with_features_continues_in_another_engine(name: str) -> None:
    engine, fresh = (
        engine_with_memory(capacity=LONG_TERM, name=name),
        create_engine(name, small_network(), LONG_TERM, precision="fp32"),
    )
    engine.keep_feature(ROWS, 2, np.array([1, 3]))
    state = engine.export_state(ROWS)
    assert {name: bank.shape[1] for name, bank in state.items()} == {
        "memory": LONG_TERM.memory_slots,
        "pointers": LONG_TERM.pointer_slots,
        "features": 4,
    }
    fresh.import_state(np.array([0, 1]), state)
    fresh.encode(moving_images(4)[3], 1)
    continued = fresh.similarity(np.array([0, 1]), 1, np.array([1, 3]))
    assert np.array_equal(continued, engine.similarity(ROWS, 3, np.array([1, 3])))
    assert all(np.array_equal(bank, state[name]) for name, bank in fresh.export_state(np.arange(2)).items())
    with pytest.raises(ValueError, match="engine state holds"):
        create_engine(name, small_network(), CAPACITY, precision="fp32").import_state(ROWS, state)


@pytest.mark.parametrize("capacity", [CAPACITY, LONG_TERM], ids=["sam2", "long_term"])
@pytest.mark.parametrize("name", NAMES)
def test_warming_up_leaves_no_trace(name: str, capacity: EngineCapacity) -> None:
    engine = create_engine(name, small_network(), capacity, precision="fp32")
    engine.warm_up()
    assert not any(bank.any() for bank in engine.export_state(np.arange(3)).values())
    with pytest.raises(RuntimeError, match="frame slot 0 holds no features"):
        engine.attend(ROWS, 0, None)


def test_an_unknown_engine_or_precision_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match="unknown engine 'cuda'; choose one of auto, eager, openvino, onnxruntime, tensorrt"
    ):
        create_engine("cuda", small_network(), CAPACITY)
    with pytest.raises(ValueError, match="unknown precision 'int8'; choose one of auto, fp32, bf16, fp16"):
        create_engine("eager", small_network(), CAPACITY, precision="int8")


def test_bfloat16_stays_close_to_float32_and_says_what_it_is() -> None:
    """Encoder and memory attention in bfloat16 move the logits, by less than 2 % of their range."""
    exact, reduced = engine_with_memory("fp32"), engine_with_memory("bf16")
    assert (exact.describe().precision, reduced.describe().precision) == ("fp32", "bf16")
    assert exact.describe().weights_sha256 == reduced.describe().weights_sha256
    logits = []
    for engine in (exact, reduced):
        engine.attend(ROWS, 1, random_read(2))
        logits.append(engine.decode(ROWS, 1, PromptBatch()).logits)
    difference = np.abs(logits[0] - logits[1]).max() / np.ptp(logits[0])
    assert 0 < difference < 0.02


def test_a_capacity_that_the_network_cannot_read_is_refused() -> None:
    with pytest.raises(
        ValueError, match="small_test reads 6 recent frames and 15 recent pointers, not 7 and 15"
    ):
        create_engine("eager", small_network(), EngineCapacity(recent_slots=7))


def test_images_are_normalised_as_in_sam2() -> None:
    image = moving_images(1, (64, 64))[0]
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ours = Normaliser(mean, std, torch.float32)(image)
    reference = (
        torch.from_numpy(image).permute(2, 0, 1) / 255 - torch.tensor(mean)[:, None, None]
    ) / torch.tensor(std)[:, None, None]
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert (ours[0] - reference).abs().max() < 1e-6


@pytest.mark.parametrize("size", [(720, 1280), (90, 160), (128, 128), (400, 60), (60, 400), (1, 1)])
def test_resizing_keeps_a_ramp_in_its_place(size: tuple[int, int]) -> None:
    """A horizontal ramp of the source, sampled at the pixel centres of the target."""
    columns = np.linspace(0, 255, size[1])
    image = np.broadcast_to(np.round(columns).astype(np.uint8)[None, :, None], (*size, 3))
    resized = resize_to_square(image, 128)
    expected = np.interp((np.arange(128) + 0.5) * size[1] / 128 - 0.5, np.arange(size[1]), columns)
    assert resized.shape == (128, 128, 3)
    assert np.abs(resized[64, :, 0] - expected).max() <= 2


def test_an_image_read_backwards_is_accepted() -> None:
    bgr = moving_images(1)[0]
    assert np.array_equal(resize_to_square(bgr[..., ::-1], 128), resize_to_square(bgr[..., ::-1].copy(), 128))
