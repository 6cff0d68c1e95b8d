"""A tracker's memory as a snapshot: another tracker goes on from it bit for bit, and a bad file is refused."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tracking_cases import CLASSES, READING, SEMANTIC, SIZE, disc, moving_images, small_network, small_tracker

from sam2s_ros.engines import create_engine
from sam2s_ros.tracking import (
    PromptError,
    Snapshot,
    SnapshotError,
    StreamingTracker,
    TrackerConfig,
    TrackState,
    read_snapshot,
    snapshot_files,
    write_snapshot,
)
from sam2s_ros.tracking.class_memory import KnownClasses
from sam2s_ros.tracking.loader import known_classes
from sam2s_ros.tracking.snapshot import snapshot_age_s
from sam2s_ros.tracking.snapshot_files import FILES, MAGIC, STARTS, SnapshotFolder

FRAMES = moving_images(22)
SAVED, END = 14, 22
WITHIN: dict[str, Any] = {
    "uncertain_iou": 0.0,
    "uncertain_boundary": 1000.0,
    "twin_iou": 1.0,
    "uncertain_pixels": 1.0,
    "jump_distance": 10.0,
    "jump_area_rate": 1000.0,
}
"""With random weights no mask deserves trust: what is tested here is what the snapshot does to it."""
SETTINGS: dict[str, dict[str, Any]] = {
    "sam2": {},
    "components": {"drop_stray_components": True},
    "box": {"previous_mask_prompt": "box"},
    "exclusive": {"exclusive_masks": True},
    "long_term": {
        "num_long_term": 2,
        "long_term_interval_s": 0.0,
        "long_term_min_iou": 0.0,
        "long_term_candidates": 3,
    },
}


def begin(**settings: Any) -> StreamingTracker:
    """Two objects, added on different frames, the second by a click; one image in between shows nothing."""
    tracker = small_tracker(small_network(), **{**WITHIN, **settings})
    tracker.add_object(FRAMES[0], mask=disc(60, 40, 20), name="hook")
    for frame in FRAMES[1:5]:
        tracker.step(frame)
    tracker.step(np.zeros((*SIZE, 3), np.uint8))
    tracker.add_object(FRAMES[5], points=[[100, 50]], name="Ärger 1")
    for frame in FRAMES[6:SAVED]:
        tracker.step(frame)
    return tracker


@pytest.fixture(scope="module")
def taken() -> Snapshot:
    return begin().take_snapshot()


def through_a_file(snapshot: Snapshot, folder: Path) -> Snapshot:
    write_snapshot(folder / "snapshot", snapshot)
    return read_snapshot(folder / "snapshot")


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_restored_tracker_goes_on_bit_for_bit(
    tmp_path: Path, settings: dict[str, Any], one_thread: None
) -> None:
    """Same masks, logits and numbers, also in a tracker for more objects that keeps other frames."""
    kept = begin(**settings)
    restored = small_tracker(small_network(), **{**WITHIN, **settings, "max_objects": 5, "kept_frames": 3})
    restored.restore_snapshot(through_a_file(kept.take_snapshot(), tmp_path))
    assert [(one.id, one.name) for one in restored.objects()] == [(1, "hook"), (2, "Ärger 1")]
    for frame in FRAMES[SAVED:]:
        expected, result = kept.step(frame), restored.step(frame)
        assert np.array_equal(expected.logits, result.logits) and np.array_equal(expected.masks, result.masks)
        for name in ("stamp_ns", "frame_index"):
            assert getattr(expected, name) == getattr(result, name)
        for name in ("ids", "last_seen_ns", "long_term_insertions"):
            assert np.array_equal(getattr(expected, name), getattr(result, name))
    assert restored.add_object(None, points=[[30, 30]]) == kept.add_object(None, points=[[30, 30]]) == 3


def test_classes_go_on_bit_for_bit_though_objects_get_other_rows(tmp_path: Path, one_thread: None) -> None:
    """The first of three objects is gone, so that the others move up."""
    network = small_network(config=READING)
    settings: dict[str, Any] = {"class_memory_frames": 1.0, "class_interval": 3, "class_min_iou": 0.0}
    config = TrackerConfig(max_objects=4, drop_stray_components=False, **settings)

    def tracker() -> StreamingTracker:
        engine = create_engine("eager", network, config.engine_capacity())
        return StreamingTracker(engine, config, KnownClasses(CLASSES, np.eye(3, 24, dtype=np.float32)))

    kept, restored = tracker(), tracker()
    kept.step(FRAMES[0])
    for centre in ((60, 40), (90, 60), (40, 70)):
        kept.add_object(None, mask=disc(*centre, 20))
    kept.remove_object(1)
    for frame in FRAMES[1:SAVED]:
        kept.step(frame)
    restored.restore_snapshot(through_a_file(kept.take_snapshot(), tmp_path))
    seen = []
    for frame in [*FRAMES[SAVED:], *FRAMES[1:SAVED]]:
        expected, result = kept.step(frame), restored.step(frame)
        np.testing.assert_array_equal(result.class_probabilities, expected.class_probabilities)
        seen.append(result.class_probabilities)
    assert np.ptp(np.stack(seen), axis=0).max() > 0, "the case shows something"


@pytest.mark.parametrize("mode", ["mask", "flow"])
def test_what_needs_the_image_before_does_without(mode: str, tmp_path: Path, one_thread: None) -> None:
    """The previous mask's prompt in these modes is the engine's own, and gone: the first image is tracked from memory
    alone, and no error."""
    kept = begin(previous_mask_prompt=mode)
    restored = small_tracker(small_network(), **WITHIN, previous_mask_prompt=mode)
    restored.restore_snapshot(through_a_file(kept.take_snapshot(), tmp_path))
    for frame in FRAMES[SAVED:]:
        assert len(restored.step(frame).ids) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("graph_cache")
@pytest.mark.parametrize("source, target", [("eager", "openvino"), ("openvino", "eager")])
def test_another_engine_goes_on_from_it(source: str, target: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    config = TrackerConfig(max_objects=4, drop_stray_components=False)

    def tracker(name: str) -> StreamingTracker:
        return StreamingTracker(
            create_engine(name, small_network(), config.engine_capacity(), precision="fp32"), config
        )

    kept, restored = tracker(source), tracker(target)
    kept.add_object(FRAMES[0], mask=disc(60, 40, 20))
    for frame in FRAMES[1:SAVED]:
        kept.step(frame)
    restored.restore_snapshot(through_a_file(kept.take_snapshot(), tmp_path))
    for frame in FRAMES[SAVED:]:
        one, other = kept.step(frame).masks, restored.step(frame).masks
        assert np.count_nonzero(one & other) >= 0.999 * np.count_nonzero(one | other)


def test_classes_go_on(tmp_path: Path, one_thread: None) -> None:
    network, config = small_network(config=SEMANTIC), TrackerConfig(max_objects=4, class_min_iou=0.0)

    def tracker() -> StreamingTracker:
        return StreamingTracker(
            create_engine("eager", network, config.engine_capacity()), config, known_classes(network)
        )

    kept, restored = tracker(), tracker()
    kept.add_object(FRAMES[0], mask=disc(60, 40, 20))
    for frame in FRAMES[1:SAVED]:
        kept.step(frame)
    snapshot = through_a_file(kept.take_snapshot(), tmp_path)
    restored.restore_snapshot(snapshot)
    expected, result = kept.step(FRAMES[SAVED]), restored.step(FRAMES[SAVED])
    assert np.array_equal(expected.class_probabilities, result.class_probabilities)
    assert result.class_names[0] in CLASSES
    with pytest.raises(SnapshotError, match="class_bank"):
        StreamingTracker(create_engine("eager", network, config.engine_capacity()), config).restore_snapshot(
            snapshot
        )


def test_restored_objects_are_uncertain_until_confirmed(taken: Snapshot) -> None:
    """The fifth good image in a row; one that shows nothing begins the count anew."""
    tracker = small_tracker(small_network(), **WITHIN, restore_confirm_frames=5)
    tracker.restore_snapshot(taken)
    images = [*FRAMES[SAVED : SAVED + 2], np.zeros((*SIZE, 3), np.uint8), *FRAMES[SAVED + 2 : SAVED + 7]]
    results = [tracker.step(image) for image in images]
    assert [one.states[0] for one in results] == [TrackState.UNCERTAIN] * 7 + [TrackState.TRACKING]
    assert all("restored from a snapshot" in one.state_reasons[0] for one in results[:-1])
    assert results[6].state_reasons[0] == "restored from a snapshot, good for 4 of 5 frames"
    assert results[-1].state_reasons[0] == ""


def test_a_prompt_confirms_a_restored_object(taken: Snapshot) -> None:
    tracker = small_tracker(small_network(), **WITHIN)
    tracker.restore_snapshot(taken)
    tracker.step(FRAMES[SAVED])
    tracker.refine_object(1, None, mask=disc(60, 40, 20))
    assert tracker.last_result is not None
    assert tracker.last_result.states == (TrackState.TRACKING, TrackState.UNCERTAIN)


def test_no_prompt_may_refer_to_an_image_from_before(taken: Snapshot) -> None:
    tracker = small_tracker(small_network())
    tracker.restore_snapshot(taken)
    assert tracker.kept_stamps_ns() == []
    with pytest.raises(PromptError, match="no frame has been tracked"):
        tracker.refine_object(1, None, points=[[10, 10]])


def test_a_snapshot_takes_the_place_of_what_there_was(taken: Snapshot, one_thread: None) -> None:
    """Other objects are gone, ids are not used twice, and the masks are those of a tracker that had no others."""
    busy, fresh = small_tracker(small_network(), **WITHIN), small_tracker(small_network(), **WITHIN)
    for k in range(4):
        busy.add_object(FRAMES[k], points=[[20 + 30 * k, 50]])
    for tracker in (busy, fresh):
        tracker.restore_snapshot(taken)
    assert busy.next_id == 5 and fresh.next_id == 3
    for frame in FRAMES[SAVED:]:
        assert np.array_equal(busy.step(frame).logits, fresh.step(frame).logits)


def test_spare_ids_are_left_out(taken: Snapshot) -> None:
    tracker = small_tracker(small_network())
    tracker.restore_snapshot(taken, spare_ids=100)
    assert tracker.next_id == 103


def test_nothing_to_save_is_an_error() -> None:
    with pytest.raises(SnapshotError, match="no object"):
        small_tracker(small_network()).take_snapshot()


def test_there_is_no_image_in_it(taken: Snapshot) -> None:
    """Its arrays are these and no other: features, numbers, last masks and mask prompts."""
    names = {name.split(".")[0] for name in taken.arrays}
    assert names == {
        *("memory", "memory_frames", "pointers", "pointer_frames"),
        *("long_term", "classes", "seen", "prompt_mask"),
    }
    image_bytes = SIZE[0] * SIZE[1]
    assert all(values.dtype != np.uint8 or values.nbytes < image_bytes for values in taken.arrays.values())


@pytest.mark.parametrize(
    "settings, reason",
    [
        ({"max_objects": 1}, "2 objects; max_objects is 1"),
        ({"max_conditioning": 3}, "max_conditioning is 4, here 3"),
        ({"num_long_term": 2}, "num_long_term is 0, here 2"),
    ],
)
def test_a_tracker_with_another_memory_refuses(
    taken: Snapshot, settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SnapshotError, match=reason):
        small_tracker(small_network(), **settings).restore_snapshot(taken)


def test_other_weights_refuse_and_nothing_changes(taken: Snapshot, one_thread: None) -> None:
    tracker = small_tracker(small_network(seed=1), **WITHIN)
    tracker.add_object(FRAMES[0], mask=disc(60, 40, 20), name="mine")
    with pytest.raises(SnapshotError, match="weights_sha256"):
        tracker.restore_snapshot(taken)
    untouched = small_tracker(small_network(seed=1), **WITHIN)
    untouched.add_object(FRAMES[0], mask=disc(60, 40, 20), name="mine")
    assert np.array_equal(tracker.step(FRAMES[1]).logits, untouched.step(FRAMES[1]).logits)


def test_content_that_does_not_fit_is_refused(taken: Snapshot) -> None:
    """A file of the right checksum by a program with a fault."""
    tracker = small_tracker(small_network())
    for name, values in taken.arrays.items():
        if values.ndim > 1 and values.shape[1]:
            with pytest.raises(SnapshotError):
                tracker.restore_snapshot(Snapshot(taken.facts, {**taken.arrays, name: values[:, :-1]}))
    with pytest.raises(SnapshotError):
        tracker.restore_snapshot(Snapshot({**taken.facts, "objects": [{}]}, taken.arrays))
    assert tracker.objects() == []


def test_a_file_cut_short_anywhere_is_refused(taken: Snapshot, tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    write_snapshot(path, taken)
    whole = path.read_bytes()
    for length in [*range(64), *range(64, len(whole), len(whole) // 60), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(SnapshotError, match=str(path)):
            read_snapshot(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(SnapshotError, match="damaged"):
        read_snapshot(path)


def test_a_file_with_any_bit_flipped_is_refused(taken: Snapshot, tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    write_snapshot(path, taken)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    places = [*range(0, 400, 3), *rng.integers(0, len(whole), 60)]
    for place in places:
        altered = bytearray(whole)
        altered[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(altered)
        with pytest.raises(SnapshotError, match=str(path)):
            read_snapshot(path)
    path.write_bytes(whole)
    assert read_snapshot(path).ids == [1, 2], "the control"


def test_a_file_of_a_later_version_is_refused(taken: Snapshot, tmp_path: Path) -> None:
    write_snapshot(tmp_path / "snapshot", Snapshot({**taken.facts, "format": 5}, taken.arrays))
    with pytest.raises(SnapshotError, match="format version 5; this software reads 4"):
        read_snapshot(tmp_path / "snapshot")


def test_modes_keep_others_out(taken: Snapshot, tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path / "made" / "tracker")
    path = folder.write(taken)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert (
        stat.S_IMODE(os.stat(path.parent).st_mode) == stat.S_IMODE(os.stat(path.parents[1]).st_mode) == 0o700
    )
    assert sorted(one.name for one in path.parent.iterdir()) == ["lock", FILES[0], STARTS], "no draft is left"


def test_the_last_two_are_kept_and_a_bad_one_gives_way_to_the_older(taken: Snapshot, tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path / "tracker")
    for number in range(3):
        facts = {**taken.facts, "saved": {**taken.facts["saved"], "wall_ns": number}}
        newest = folder.write(Snapshot(facts, taken.arrays))
    assert [one.snapshot.facts["saved"]["wall_ns"] for one in folder.read() if one.snapshot] == [2, 1]
    newest.write_bytes(newest.read_bytes()[:-100])
    bad, good = folder.read()
    assert bad.snapshot is None and bad.path == newest and "damaged" in bad.refusal
    assert good.snapshot is not None and good.snapshot.facts["saved"]["wall_ns"] == 1
    folder.close()
    again = SnapshotFolder(tmp_path / "tracker")
    again.read()
    assert again.write(taken) == newest, "what is good is replaced last"
    assert again.delete() == 2 and again.read() == []


def test_a_full_disk_leaves_what_there_was(
    taken: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SnapshotFolder(tmp_path / "tracker")
    folder.write(taken)
    folder.write(taken)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(snapshot_files.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            folder.write(taken)
    assert [one.snapshot is not None for one in folder.read()] == [True, True]
    assert sorted(one.name for one in folder.path.iterdir()) == ["lock", *FILES, STARTS]
    folder.write(taken)


def test_a_folder_that_cannot_be_made_is_an_error(taken: Snapshot, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        SnapshotFolder(tmp_path / "file" / "tracker").write(taken)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tracker").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SnapshotError, match="not a folder of this user"):
        SnapshotFolder(tmp_path / "tracker").write(taken)


def test_a_link_in_the_place_of_a_file_is_neither_read_nor_followed(taken: Snapshot, tmp_path: Path) -> None:
    folder, victim = SnapshotFolder(tmp_path / "tracker"), tmp_path / "victim"
    write_snapshot(victim, taken)
    before = victim.read_bytes()
    folder.read()
    (folder.path / FILES[0]).symlink_to(victim)
    (found,) = folder.read()
    assert found.snapshot is None and "symbolic link" in found.refusal
    assert folder.write(taken) == folder.path / FILES[0]
    assert victim.read_bytes() == before and not (folder.path / FILES[0]).is_symlink()
    os.mkfifo(folder.path / FILES[1])
    assert "not a plain file" in folder.read()[0].refusal


def test_a_folder_in_the_place_of_the_newest_file_gives_way_to_the_older_one(
    taken: Snapshot, tmp_path: Path
) -> None:
    folder = SnapshotFolder(tmp_path / "tracker")
    folder.write(taken)
    newest = folder.write(taken)
    newest.unlink()
    newest.mkdir()
    opened = len(os.listdir("/proc/self/fd"))
    bad, good = folder.read()
    assert (bad.path, bad.refusal) == (newest, f"{newest} is not a plain file")
    assert good.snapshot is not None and good.snapshot.ids == taken.ids
    assert len(os.listdir("/proc/self/fd")) == opened
    with pytest.raises(SnapshotError, match=f"{newest} cannot be removed: Is a directory"):
        folder.delete()
    assert not good.path.exists(), "what can be removed is"


def test_a_file_that_the_disk_does_not_give_gives_way_to_the_other(
    taken: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SnapshotFolder(tmp_path / "tracker")
    bad_path, good_path = folder.write(taken), folder.write(taken)
    of_the_bad, plain_open = bad_path.stat().st_ino, open

    def failing(file: int, mode: str, **named: Any) -> Any:
        if os.fstat(file).st_ino == of_the_bad:
            raise OSError(errno.EIO, "Input/output error")
        return plain_open(file, mode, **named)

    monkeypatch.setattr(snapshot_files, "open", failing, raising=False)
    bad, good = folder.read()
    assert bad.refusal == f"{bad_path} cannot be read: Input/output error"
    assert good.path == good_path and good.snapshot is not None


def without(facts: dict[str, Any], *place: str) -> dict[str, Any]:
    """The facts without the one at this place."""
    first, *rest = place
    if rest:
        return {**facts, first: without(facts[first], *rest)}
    return {key: value for key, value in facts.items() if key != first}


@pytest.mark.parametrize(
    "place",
    [
        ("saved",),
        ("saved", "wall_ns"),
        ("saved", "boot_ns"),
        ("saved", "boot_id"),
        ("stream",),
        ("stream", "image_size"),
        ("stream", "last_stamp_ns"),
        ("format",),
    ],
)
def test_a_whole_file_that_lacks_a_fact_gives_way_to_the_older_one(
    taken: Snapshot, tmp_path: Path, place: tuple[str, ...]
) -> None:
    folder = SnapshotFolder(tmp_path / "tracker")
    folder.write(taken)
    newest = folder.write(Snapshot(without(taken.facts, *place), taken.arrays))
    bad, good = folder.read()
    assert (bad.path, bad.refusal) == (newest, f"{newest} is not a snapshot: it does not say '{place[-1]}'")
    assert good.snapshot is not None


@pytest.mark.parametrize(
    "altered",
    [
        {"saved": {"wall_ns": float("inf"), "boot_ns": 0, "boot_id": ""}},
        {"saved": {"wall_ns": 10**30, "boot_ns": 0, "boot_id": ""}},
        {"saved": {"wall_ns": 1, "boot_ns": "0", "boot_id": ""}},
        {"saved": {"wall_ns": 1, "boot_ns": 0, "boot_id": None}},
        {"saved": None},
        {"stream": {"image_size": [96], "last_stamp_ns": 1}},
        {"stream": {"image_size": [96, 128], "last_stamp_ns": "1"}},
    ],
    ids=str,
)
def test_a_whole_file_with_a_fact_of_another_kind_is_refused(
    taken: Snapshot, tmp_path: Path, altered: dict[str, Any]
) -> None:
    write_snapshot(tmp_path / "snapshot", Snapshot({**taken.facts, **altered}, taken.arrays))
    with pytest.raises(SnapshotError, match=f"{tmp_path / 'snapshot'} is not a snapshot: "):
        read_snapshot(tmp_path / "snapshot")


def test_a_folder_is_used_by_one_process(taken: Snapshot, tmp_path: Path) -> None:
    first, second = SnapshotFolder(tmp_path / "tracker"), SnapshotFolder(tmp_path / "tracker")
    first.write(taken)
    for use in (second.read, second.delete, lambda: second.write(taken)):
        with pytest.raises(SnapshotError, match="in use by another node"):
            use()
    first.close()
    assert len(second.read()) == 1


def test_what_a_killed_process_left_half_written_is_swept_up(taken: Snapshot, tmp_path: Path) -> None:
    (tmp_path / "tracker").mkdir()
    (tmp_path / "tracker" / ".draft_x").write_bytes(b"half")
    folder = SnapshotFolder(tmp_path / "tracker")
    assert folder.read() == [] and not (tmp_path / "tracker" / ".draft_x").exists()


@pytest.mark.parametrize(
    "wall_s, boot_s, same_boot, age_s",
    [(5, 5, True, 5), (5, 20, True, 20), (-3600, 5, True, -3600), (5, 20, False, 5), (3600, 5, True, 3600)],
    ids=["usual", "clock put back", "from the future", "after a reboot", "clock put forward"],
)
def test_the_age_is_not_less_than_either_clock_says(
    taken: Snapshot,
    wall_s: float,
    boot_s: float,
    same_boot: bool,
    age_s: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sam2s_ros.tracking import snapshot as module

    saved = taken.facts["saved"]
    monkeypatch.setattr(module.time, "time_ns", lambda: saved["wall_ns"] + int(wall_s * 1e9))
    boot_id = saved["boot_id"] if same_boot else "another"
    monkeypatch.setattr(module, "boot_clock", lambda: (saved["boot_ns"] + int(boot_s * 1e9), boot_id))
    assert snapshot_age_s(taken) == pytest.approx(age_s)


def test_each_opening_of_a_folder_has_its_own_number(taken: Snapshot, tmp_path: Path) -> None:
    """Though the one before did nothing at all, or removed all there was."""
    numbers = []
    for use in (
        SnapshotFolder.read,
        SnapshotFolder.delete,
        lambda one: one.write(taken),
        SnapshotFolder.read,
    ):
        folder = SnapshotFolder(tmp_path / "tracker")
        use(folder)
        numbers.append(folder.start)
        folder.close()
    assert numbers == [1, 2, 3, 4]
    (tmp_path / "tracker" / STARTS).write_text("x")
    with pytest.raises(SnapshotError, match="starts is damaged"):
        SnapshotFolder(tmp_path / "tracker").read()


def test_an_opening_that_cannot_be_counted_is_none(
    taken: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the next one would have its number, and give ids anew."""
    folder = SnapshotFolder(tmp_path / "tracker")

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(snapshot_files, "_write_whole", full)
        for use in (folder.read, lambda: folder.write(taken), folder.read):
            with pytest.raises(OSError, match="No space"):
                use()
        assert folder.start == 0
    folder.write(taken)
    assert folder.start == 1


def test_a_header_that_is_nested_without_end_is_refused(taken: Snapshot, tmp_path: Path) -> None:
    header = b'{"__metadata__":' + b"[" * 100_000
    body = len(header).to_bytes(8, "little") + header
    path = tmp_path / "snapshot"
    path.write_bytes(MAGIC + hashlib.sha256(body).digest() + body)
    with pytest.raises(SnapshotError, match="is not a snapshot"):
        read_snapshot(path)
