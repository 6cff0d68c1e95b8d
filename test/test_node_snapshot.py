"""The node's memory on disk, over DDS: written, taken up again, refused with the reason, removed."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from lifecycle_msgs.msg import Transition
from node_harness import (
    Client,
    NodeProcess,
    block_mask,
    image_message,
    isolated_ros,
    mask,
    scene,
)

from sam2s_msgs.msg import Prompt, TrackedObject, TrackedObjectArray
from sam2s_ros.nodes.client import Sam2sClient
from sam2s_ros.nodes.client_results import CallRefused
from sam2s_ros.nodes.snapshots import SPARE_IDS, snapshot_folder
from sam2s_ros.tracking import Snapshot, read_snapshot, write_snapshot
from sam2s_ros.tracking.snapshot_files import FILES

CONFIRM = 3
DOWN = (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
UP = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)


class Case:
    """A node with snapshots in `base`, and its client."""

    def __init__(self, process: NodeProcess, client: Client, base: Path) -> None:
        self.process, self.client, self.base = process, client, base
        self.folder, self.sent = base / "tracker", 0

    def restart(self, between: Callable[[], None] = lambda: None, **parameters: Any) -> None:
        """Down to unconfigured, which forgets everything in the process, and up again."""
        for transition in DOWN:
            assert self.client.transition(transition)
        between()
        for name, value in parameters.items():
            assert self.client.set_parameter(name, value).successful
        for transition in UP:
            assert self.client.transition(transition), self.process.log()
        self.client.connect()

    def fresh(self) -> None:
        """No objects and no files, settings as at the start."""
        assert self.client.call("reset").success
        self.restart(snapshot_dir=str(self.base), snapshot_max_age_s=600.0, snapshot_period_s=3600.0)
        self.client.track()

    def add(self, name: str = "hook") -> int:
        answer = self.client.call(
            "add_object", prompt=Prompt(**mask(block_mask())), name=name, class_name="stapler"
        )
        assert answer.success, answer.message
        self.client.wait(self.files, "a snapshot")
        return int(answer.id)

    def prompts(self) -> list[int]:
        """Of each object that is listed, how many it was given."""
        return [one.prompts for one in self.client.call("list_objects").objects]

    def audit(self) -> list[dict[str, Any]]:
        """The lines of the audit log, but those of the other services."""
        lines = [json.loads(line) for line in (self.base / "audit.jsonl").read_text().splitlines()]
        return [line for line in lines if line["service"].endswith("_snapshot")]

    def files(self) -> list[str]:
        return [name for name in FILES if (self.folder / name).exists()]

    def track(self, frame_id: str = "endoscope", size: tuple[int, int] = (96, 128)) -> TrackedObjectArray:
        stamp = self.client.now()
        self.sent += 1
        pixels = scene(self.sent, size)
        self.client.images.publish(image_message(pixels, stamp, frame_id=frame_id))
        return self.client.array_of(stamp)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    base = tmp_path_factory.mktemp("snapshots")
    parameters = {
        "autostart": True,
        "threads": 1,
        "engine": "eager",
        "precision": "fp32",
        "snapshot_dir": str(base),
        "audit_log": str(base / "audit.jsonl"),
        "snapshot_max_age_s": 600.0,
        "snapshot_period_s": 3600.0,
        "restore_confirm_frames": CONFIRM,
        "recover_frames": 1,
        "stale_after_s": 30.0,
        "uncertain_iou": 0.0,
        "uncertain_pixels": 1.0,
        "uncertain_boundary": 1000.0,
        "twin_iou": 1.0,
        "jump_distance": 10.0,
        "jump_area": 1000.0,
    }
    with isolated_ros():
        process = NodeProcess(parameters)
        client = Client()
        client.connect()
        yield Case(process, client, base)
        client.close()
        process.end()


@pytest.fixture
def case(node: Case) -> Case:
    node.fresh()
    return node


def test_objects_outlive_the_node_and_a_reset_removes_them(case: Case) -> None:
    """Id, name, given class, label, session; UNCERTAIN, with the reason, until confirmed; ids go on."""
    object_id = case.add()
    before = case.track()
    case.restart()
    restored = case.track()
    (one,), (old,) = restored.objects, before.objects
    assert (one.id, one.name, one.class_name, one.label) == (object_id, "hook", "stapler", old.label)
    assert restored.session == before.session and math.isnan(one.class_score)
    case.client.wait(lambda: case.client.tables[-1].session == before.session, "its label table")
    assert [entry.name for entry in case.client.tables[-1].entries] == ["hook"]
    states = [restored, *(case.track() for _ in range(CONFIRM - 1))]
    assert [array.objects[0].state for array in states] == [
        *[TrackedObject.UNCERTAIN] * (CONFIRM - 1),
        TrackedObject.TRACKING,
    ]
    assert "restored from a snapshot" in one.state_reason
    assert case.add("second") == object_id + 1, "the last snapshot was the last word"
    answer = case.client.call("reset")
    assert answer.success and "snapshots removed" in answer.message
    assert case.files() == []
    case.restart()
    assert case.track().objects == []


def test_services_save_and_restore(case: Case) -> None:
    nothing = case.client.call("save_snapshot")
    assert not nothing.success and "no object" in nothing.message
    none = case.client.call("restore_snapshot")
    assert not none.success and "there is no snapshot" in none.message
    object_id = case.add()
    saved = case.client.call("save_snapshot")
    assert saved.success and saved.message.split()[-1].startswith(str(case.folder)), saved.message
    case.restart(snapshot_max_age_s=0.0)
    assert case.track().objects == [], "too old to be restored unasked"
    assert "snapshot_max_age_s is 0" in case.process.log()
    answer = restore(case)
    assert answer.success and f"restored {object_id} 'hook'" in answer.message, answer.message
    assert [one.id for one in case.track().objects] == [object_id]


def test_a_console_saves_and_restores(case: Case) -> None:
    with Sam2sClient(case.client.node, timeout_s=60.0) as console:
        with pytest.raises(CallRefused, match="no object"):
            console.save_snapshot()
        object_id = case.add()
        assert str(case.folder) in console.save_snapshot()
        case.restart(snapshot_max_age_s=0.0)
        assert case.track().objects == []
        console.pause("lens")
        with pytest.raises(CallRefused, match="tracking is paused by.*: lens"):
            console.restore_snapshot()
        console.resume()
        with ThreadPoolExecutor(1) as pool:
            restoring = pool.submit(console.restore_snapshot)
            while not restoring.done():
                case.track()
        assert f"restored {object_id} 'hook'" in restoring.result()


def test_how_many_prompts_an_object_was_given_outlives_the_node(case: Case) -> None:
    """Also where another call was made meanwhile; a file of before that was saved still gives its objects."""
    object_id = case.add()
    assert case.client.call("refine_object", id=object_id, prompt=Prompt(**mask(block_mask()))).success
    assert case.prompts() == [2]
    case.restart()
    case.track()
    assert case.prompts() == [2]
    assert case.client.call("save_snapshot").success
    assert case.client.call("refine_object", id=object_id, prompt=Prompt(**mask(block_mask()))).success
    assert case.prompts() == [3] and restore(case).success
    assert case.prompts() == [2], "as its memory, it is that of the snapshot"

    def as_of_before() -> None:
        for name in case.files():
            snapshot = read_snapshot(case.folder / name)
            of_node = {key: value for key, value in snapshot.facts["node"].items() if key != "prompts"}
            write_snapshot(case.folder / name, Snapshot({**snapshot.facts, "node": of_node}, snapshot.arrays))

    case.restart(as_of_before)
    assert [one.id for one in case.track().objects] == [object_id] and case.prompts() == [1]


def test_the_audit_log_says_what_was_saved_and_restored(case: Case) -> None:
    """Refusals too; and the session of every line is that of the ids that the node then publishes."""
    before = len(case.audit())
    assert not case.client.call("restore_snapshot").success
    object_id = case.add()
    saved = case.client.call("save_snapshot")
    session = case.track().session
    case.restart(snapshot_max_age_s=0.0)
    assert case.track().session != session
    restored = restore(case)
    assert saved.success and restored.success and case.track().session == session
    lines = case.audit()[before:]
    assert [(line["service"], line["outcome"]) for line in lines] == [
        ("restore_snapshot", "REFUSED"),
        ("save_snapshot", "done"),
        ("restore_snapshot", "done"),
    ]
    assert "there is no snapshot" in lines[0]["message"]
    assert [line["message"] for line in lines[1:]] == [saved.message, restored.message]
    assert f"restored {object_id} 'hook'" in lines[2]["message"]
    assert [line["session"] for line in lines[1:]] == [session, session]


def restore(case: Case, frame_id: str = "endoscope", size: tuple[int, int] = (96, 128)) -> Any:
    """Call ~/restore_snapshot while images arrive."""
    client = case.client
    service = client._services["restore_snapshot"]
    future = service.call_async(service.srv_type.Request())
    while not future.done():
        case.track(frame_id, size)
    return future.result()


def test_another_camera_or_image_size_is_refused(case: Case) -> None:
    object_id = case.add()
    case.restart()
    assert case.track(frame_id="other").objects == []
    case.client.wait(lambda: "another camera or image size" in case.process.log(), "the reason in the log")
    refused = restore(case, frame_id="other")
    assert not refused.success and "'endoscope'" in refused.message and "'other'" in refused.message
    refused = restore(case, size=(80, 128))
    assert not refused.success and "128 x 96" in refused.message and "128 x 80" in refused.message
    assert restore(case).success
    assert [one.id for one in case.track().objects] == [object_id]


def test_a_bad_newest_file_gives_way_to_the_older_one(case: Case) -> None:
    object_id = case.add()
    case.client.call("save_snapshot")
    case.client.call("save_snapshot")
    assert len(case.files()) == 2

    def damage() -> None:
        newest = max((case.folder / name for name in FILES), key=lambda path: path.stat().st_mtime_ns)
        content = bytearray(newest.read_bytes())
        content[len(content) // 2] ^= 1
        newest.write_bytes(content)

    case.restart(damage)
    assert [one.id for one in case.track().objects] == [object_id]
    assert "is damaged: it was cut short or altered" in case.process.log()
    assert case.client.call("add_object", prompt=Prompt(**mask(block_mask()))).id == object_id + 1 + SPARE_IDS


def test_a_snapshot_from_the_future_or_of_other_weights_is_refused(case: Case) -> None:
    case.add()

    def alter(**facts: Any) -> None:
        for name in case.files():
            snapshot = read_snapshot(case.folder / name)
            write_snapshot(case.folder / name, Snapshot({**snapshot.facts, **facts}, snapshot.arrays))

    def to_the_future() -> None:
        alter(saved={"wall_ns": time.time_ns() + 60_000_000_000, "boot_ns": 0, "boot_id": ""})

    case.restart(to_the_future)
    assert case.track().objects == [] and "in the future: a clock was changed" in case.process.log()
    case.restart(lambda: alter(saved={"wall_ns": time.time_ns(), "boot_ns": 0, "boot_id": ""}, model={}))
    assert case.track().objects == []
    case.client.wait(lambda: "weights_sha256 is None" in case.process.log(), "the reason in the log")


def test_an_object_that_was_removed_does_not_come_back(case: Case) -> None:
    object_id = case.add()
    case.track()
    assert case.client.call("remove_object", id=object_id).success
    case.client.wait(lambda: case.files() == [], "the files to go")


def test_a_folder_that_cannot_be_written_is_reported_and_tracking_goes_on(case: Case, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    case.restart(snapshot_dir=str(tmp_path / "file"))
    case.track()
    answer = case.client.call("add_object", prompt=Prompt(**mask(block_mask())))
    assert answer.success and len(case.track().objects) == 1
    refused = case.client.call("save_snapshot")
    assert not refused.success and str(tmp_path / "file") in refused.message
    assert "snapshots cannot be used" in case.process.log()
    case.restart(snapshot_dir="")
    for service in ("save_snapshot", "restore_snapshot"):
        off = case.client.call(service)
        assert not off.success and "snapshot_dir" in off.message


def test_each_node_has_a_folder_of_its_own(tmp_path: Path) -> None:
    names = ("/tracker", "/left/tracker", "/right/tracker", "/left/tracker2", "/left_tracker")
    folders = [snapshot_folder(str(tmp_path), name) for name in names]
    assert len({one.path for one in folders if one is not None}) == len(names)
    assert snapshot_folder("", "/tracker") is None
    home = snapshot_folder("~/x", "/tracker")
    assert home is not None and home.path == Path.home() / "x" / "tracker"


@pytest.mark.parametrize("final, spare", [(True, SPARE_IDS), (False, 2 * SPARE_IDS)])
def test_an_id_is_not_given_twice_though_a_start_left_no_snapshot(
    case: Case, final: bool, spare: int
) -> None:
    """The start in between gave ids, and was gone before it had written them: each such start has its own."""
    object_id = case.add()
    for transition in DOWN:
        assert case.client.transition(transition)
    saved = {name: read_snapshot(case.folder / name) for name in case.files()}
    for transition in UP:
        assert case.client.transition(transition), case.process.log()
    case.client.connect()

    def as_if_nothing_was_written_since() -> None:
        for name in case.files():
            (case.folder / name).unlink()
        for name, one in saved.items():
            facts = {**one.facts, "node": {**one.facts["node"], "final": final}}
            write_snapshot(case.folder / name, Snapshot(facts, one.arrays))

    case.track()
    assert case.client.call("add_object", prompt=Prompt(**mask(block_mask()))).id == object_id + 1
    case.restart(as_if_nothing_was_written_since)
    case.track()
    answer = case.client.call("add_object", prompt=Prompt(**mask(block_mask())))
    assert answer.id == object_id + 1 + spare
