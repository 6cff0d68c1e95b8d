"""What consoles do with a tracker: names, resets, pauses, suggestions, many clients at once, and the log of it all."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from node_harness import SIZE, Client, NodeProcess, block_mask, isolated_ros

from sam2s_msgs.msg import ErrorCode, Prompt, TrackedObject, TrackedObjectArray
from sam2s_msgs.srv import ListObjects
from sam2s_ros.cli import main
from sam2s_ros.nodes import client as client_module
from sam2s_ros.nodes.client import Sam2sClient
from sam2s_ros.nodes.client_requests import prompt_message
from sam2s_ros.nodes.client_results import CallRefused, TrackerUnavailable, object_list
from sam2s_ros.nodes.messages import stamp_to_ns
from sam2s_ros.nodes.prompt_command import text
from sam2s_ros.tracking import TrackState

CALLERS = 8
WAITING = 60
ASIDE = np.roll(block_mask(), 60, axis=1)


@dataclass
class Stage:
    """An active node, a camera that also hears what it publishes, a console, and the node's audit log."""

    camera: Client
    console: Sam2sClient
    audit_file: Path

    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit_file.read_text().splitlines()]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    audit_file = tmp_path_factory.mktemp("audit") / "prompts.jsonl"
    parameters = {
        "autostart": True,
        "threads": 1,
        "heartbeat_period_s": 0.2,
        "service_timeout_s": 30.0,
        "audit_log": str(audit_file),
    }
    with isolated_ros():
        process = NodeProcess(parameters)
        camera = Client()
        camera.connect()
        with Sam2sClient(client="console left", timeout_s=60.0) as console:
            yield Stage(camera, console, audit_file)
        camera.close()
        process.end()


@pytest.fixture
def stage(running: Stage) -> Stage:
    """The node without objects or pause, and one image tracked."""
    running.console.resume()
    running.console.reset()
    running.camera.track()
    return running


def test_an_object_is_added_named_anew_listed_and_removed(stage: Stage) -> None:
    """Each answer has the id, the mask's summary and the stamp of the image that it speaks of."""
    console, image = stage.console, stage.camera.track()
    added = console.add_object("grasper", mask=block_mask())
    assert added.stamp_ns == stamp_to_ns(image.header.stamp)
    assert added.mask.area > 0 and added.mask.box[0] < added.mask.box[2]
    renamed = console.rename_object(added.id, "needle driver", "needle_driver")
    assert (renamed.id, renamed.name, renamed.class_name) == (added.id, "needle driver", "needle_driver")
    assert renamed.stamp_ns == added.stamp_ns and renamed.mask.area == added.mask.area
    listed = console.list_objects()
    assert [(one.id, one.name, one.class_name) for one in listed.objects] == [
        (added.id, "needle driver", "needle_driver")
    ]
    table = stage.camera.wait(
        lambda: next((t for t in stage.camera.tables[::-1] if "needle driver" in str(t)), None), "the table"
    )
    assert [entry.class_name for entry in table.entries] == ["needle_driver"]
    assert [one.name for one in stage.camera.track().objects] == ["needle driver"]
    assert console.rename_object(added.id, clear_class=True).class_name == ""
    removed = console.remove_object(added.id)
    assert removed.id == added.id and removed.stamp_ns is not None
    assert console.list_objects().objects == ()


def test_an_object_is_refined_on_a_kept_image_and_refused_on_one_that_is_not(stage: Stage) -> None:
    old = stage.camera.track()
    object_id = stage.console.add_object(mask=block_mask()).id
    stage.camera.track()
    old_ns = stamp_to_ns(old.header.stamp)
    refined = stage.console.refine_object(
        object_id, points=[(40, 30), (100, 80)], labels=[1, 0], stamp_ns=old_ns
    )
    assert refined.id == object_id and refined.stamp_ns == old_ns
    with pytest.raises(CallRefused) as refusal:
        stage.console.refine_object(object_id, points=[(40, 30)], stamp_ns=old_ns + 1)
    assert refusal.value.code == ErrorCode.UNKNOWN_STAMP
    assert refusal.value.oldest_kept_ns is not None and refusal.value.newest_kept_ns is not None
    assert refusal.value.oldest_kept_ns <= old_ns <= refusal.value.newest_kept_ns


def test_a_reset_takes_one_object_back_and_leaves_the_other(stage: Stage) -> None:
    """The one taken back is in doubt until images confirm it; with id 0 all are."""
    first = stage.console.add_object("first", mask=block_mask()).id
    other = stage.console.add_object("other", mask=ASIDE).id
    for _ in range(3):
        before = {one.id: one for one in stage.camera.track().objects}
    back = stage.console.reset_object(first)
    assert back.objects == 1 and back.mask.state >= TrackState.UNCERTAIN
    listed = {one.id: one for one in stage.console.list_objects().objects}
    assert (
        listed[first].mask.state >= TrackState.UNCERTAIN and listed[other].mask.state == before[other].state
    )
    assert listed[other].mask.area == before[other].area and listed[first].name == "first"
    assert stage.console.reset_object(0).objects == 2
    with pytest.raises(CallRefused, match="777"):
        stage.console.reset_object(777)


def test_nothing_is_published_as_fresh_during_a_pause(stage: Stage) -> None:
    """The status is STALE with the name of who paused, old stamps stay, and no image is tracked; then all goes on."""
    object_id = stage.console.add_object(mask=block_mask()).id
    earlier = stage.camera.track()
    last = stage.camera.track()
    paused = stage.console.pause("lens is cleaned")
    assert paused.stamp_ns == stamp_to_ns(last.header.stamp) and paused.paused_by == "console left"
    stage.camera.newest_array(lambda one: one.status == TrackedObjectArray.STALE, "the pause")
    begun = len(stage.camera.arrays)
    for _ in range(5):
        stage.camera.send()
        time.sleep(0.1)
    stage.camera.wait(lambda: len(stage.camera.arrays) >= begun + 2, "heartbeats")
    during = stage.camera.arrays[begun:]
    assert {one.status for one in during} == {TrackedObjectArray.STALE}
    assert all(one.header.stamp == last.header.stamp for one in during)
    assert all(
        "console left" in one.status_message and "lens is cleaned" in one.status_message for one in during
    )
    assert all(one.state >= TrackedObject.UNCERTAIN for array in during for one in array.objects)
    assert stage.console.pause("again").since_ns == paused.since_ns
    refined = stage.console.refine_object(object_id, points=[(45, 35)])
    assert refined.stamp_ns == paused.stamp_ns
    added = stage.console.add_object("meanwhile", mask=block_mask())
    late = stage.console.add_object("late", mask=block_mask(), stamp_ns=stamp_to_ns(earlier.header.stamp))
    assert min(one.mask.state for one in (refined, added, late)) >= TrackState.UNCERTAIN
    stage.camera.wait(
        lambda: late.id in {one.id for one in stage.camera.arrays[-1].objects if not math.isnan(one.area)},
        "the late object to join",
    )
    begun = len(stage.camera.arrays)
    stage.camera.wait(lambda: len(stage.camera.arrays) >= begun + 2, "heartbeats")
    assert all(
        one.state >= TrackedObject.UNCERTAIN for array in stage.camera.arrays[begun:] for one in array.objects
    )
    listed = stage.console.list_objects()
    assert {one.mask.state >= TrackState.UNCERTAIN for one in listed.objects} == {True}
    assert "paused by 'console left'" in listed.message
    ended = stage.console.resume()
    assert ended.paused_by == "console left" and ended.paused_s >= 0.5
    fresh = stage.camera.track()
    assert fresh.status == TrackedObjectArray.OK
    assert (
        fresh.objects[0].state >= TrackedObject.UNCERTAIN and fresh.frames_skipped >= last.frames_skipped + 5
    )
    assert math.isnan(stage.console.resume().paused_s)


def test_a_prompt_after_a_reset_in_a_pause_is_told_of_the_pause(stage: Stage) -> None:
    """There is no image to prompt on, but the camera is not to blame."""
    stage.camera.track()
    stage.console.pause("lens is cleaned")
    stage.console.reset()
    with pytest.raises(CallRefused, match=r"paused by 'console left'.*lens is cleaned.*~/resume"):
        stage.console.add_object(mask=block_mask())
    stage.console.resume()


def test_an_object_in_doubt_is_suggested_with_a_place_until_it_is_removed(stage: Stage) -> None:
    object_id = stage.console.add_object("probe", mask=block_mask()).id
    stage.camera.track()
    stage.console.reset_object(object_id)
    deadline = time.monotonic() + 60.0
    while not (asked := stage.console.suggestions()).suggestions:
        assert time.monotonic() < deadline
        stage.camera.track()
    one = asked.suggestions[0]
    assert one.kind in ("AMBIGUOUS", "LOST") and one.id == object_id and "probe" in one.message
    assert 0 <= one.position[0] <= SIZE[1] and 0 <= one.position[1] <= SIZE[0] and 0 <= one.urgency <= 1
    stage.console.remove_object(object_id)
    while stage.console.suggestions().suggestions:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("service", "fields", "words"),
    [
        ("add_object", {"name": "x" * 129}, "name has 129 characters"),
        ("add_object", {"client": "two\nlines"}, "client is 'two\\nlines'"),
        ("rename_object", {"id": 1}, "name and class_name are empty"),
        ("remove_object", {"id": 0}, "id is 0"),
        ("pause", {"reason": "y" * 257}, "reason has 257 characters"),
        (
            "refine_object",
            {"id": 1, "prompt": Prompt(point_labels=[1])},
            "0 entries and prompt.point_labels has 1",
        ),
    ],
)
def test_a_field_beyond_its_limit_is_refused_by_name(
    stage: Stage, service: str, fields: dict[str, Any], words: str
) -> None:
    response = stage.console.request(service, **fields)
    assert not response.success and words in response.message
    assert response.error.code == ErrorCode.INVALID_REQUEST


def test_answers_of_many_clients_are_not_mixed_up(stage: Stage) -> None:
    """Each of 8 clients names its own object again and again while images flow, and reads its own answer."""
    ids = [
        stage.console.add_object(f"c{n}", mask=np.roll(block_mask(), 4 * n, axis=0)).id
        for n in range(CALLERS)
    ]
    stop = threading.Event()

    def film() -> None:
        while not stop.wait(0.1):
            stage.camera.send()

    def talk(number: int) -> list[tuple[int, str]]:
        name = f"caller {number}"
        with Sam2sClient(stage.camera.node, client=name, timeout_s=60.0) as client:
            answers = [client.rename_object(ids[number], f"{name} call {call}") for call in range(6)]
            listed = next(one for one in client.list_objects().objects if one.id == ids[number])
        return [(one.id, one.name) for one in answers] + [(listed.id, listed.name)]

    filming = threading.Thread(target=film)
    filming.start()
    try:
        with ThreadPoolExecutor(CALLERS) as pool:
            heard = list(pool.map(talk, range(CALLERS)))
    finally:
        stop.set()
        filming.join()
    for number, answers in enumerate(heard):
        names = [f"caller {number} call {call}" for call in (0, 1, 2, 3, 4, 5, 5)]
        assert answers == [(ids[number], name) for name in names]


def test_no_request_is_dropped_while_many_wait(stage: Stage) -> None:
    """More prompts than the node has threads, and than ROS keeps requests by default, all at once; each is answered."""
    object_id = stage.console.add_object(mask=block_mask()).id
    prompt = prompt_message([(45, 35)])
    with ThreadPoolExecutor(WAITING) as pool:
        answers = list(
            pool.map(
                lambda _: stage.console.request("refine_object", id=object_id, prompt=prompt), range(WAITING)
            )
        )
    assert [answer.success for answer in answers] == [True] * WAITING
    listed = stage.console.list_objects().objects[0]
    assert listed.prompts == 1 + WAITING


def test_the_audit_log_says_who_asked_for_what_and_what_came_of_it(stage: Stage) -> None:
    """One line of JSON for each call that changes something or was refused, none for a list, in a private file."""
    before = len(stage.audit())
    added = stage.console.add_object("clip", "clip_applier", mask=block_mask())
    stage.console.list_objects()
    with pytest.raises(CallRefused):
        stage.console.remove_object(4242)
    lines = stage.audit()[before:]
    assert [line["service"] for line in lines] == ["add_object", "remove_object"]
    first, second = lines
    assert first["client"] == "console left" and first["outcome"] == "done" and first["id"] == added.id
    assert first["request"]["name"] == "clip" and first["stamp_ns"] == added.stamp_ns
    assert first["request"]["prompt"]["mask"] == {"height": SIZE[0], "width": SIZE[1], "pixels": 900}
    assert second["outcome"] == "UNKNOWN_OBJECT" and "4242" in second["message"]
    assert all(line["wall"] and line["node_ns"] and line["session"] for line in lines)
    assert stat.S_IMODE(stage.audit_file.stat().st_mode) == 0o600


def test_a_tracker_that_is_not_there_is_said_so(stage: Stage) -> None:
    """With how to start one, and what keeps one that runs from being found."""
    domain = os.environ["ROS_DOMAIN_ID"]
    with (
        Sam2sClient(stage.camera.node, "/nobody", timeout_s=0.3) as client,
        pytest.raises(TrackerUnavailable, match="/nobody did not come up within 0.3 s") as unavailable,
    ):
        client.list_objects()
    said = str(unavailable.value)
    assert "tracker --ros-args -p autostart:=true" in said and f"ROS_DOMAIN_ID is {domain}" in said
    assert "ROS_AUTOMATIC_DISCOVERY_RANGE is" in said


def test_a_list_says_why_an_object_is_in_doubt(stage: Stage) -> None:
    """In the words of ~/objects."""
    object_id = stage.console.add_object("probe", mask=block_mask()).id
    stage.console.reset_object(object_id)
    (one,) = stage.camera.newest_array(
        lambda array: array.objects and array.objects[0].state, "the doubt"
    ).objects
    message = stage.console.list_objects().message
    assert one.state_reason and message.startswith(f"1 object; {object_id} is UNCERTAIN: {one.state_reason}")


def test_the_command_line_does_what_a_console_does(
    stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every action, once; a refusal is exit status 1 and the node's words on standard error.

    After the first, all calls go through one console: a node for each call would take a second.
    """

    def prompt(*arguments: str) -> Any:
        assert main(["prompt", *arguments, "--json", "--timeout", "60"]) == 0
        return json.loads(capsys.readouterr().out)

    added = prompt("add", "--click", "45,35", "--not-on", "100,80", "--name", "hook")
    object_id = str(added["id"])
    assert added["mask"]["state"] in TrackState.__members__
    assert stage.audit()[-1]["client"] == "sam2s prompt"
    monkeypatch.setattr(client_module, "Sam2sClient", lambda **_: contextlib.nullcontext(stage.console))
    stamp = f"{added['stamp_ns'] // 10**9}.{added['stamp_ns'] % 10**9:09d}"
    assert prompt("refine", object_id, "--click", "50,40", "--stamp", stamp)["stamp_ns"] == added["stamp_ns"]
    assert prompt("rename", object_id, "--name", "dissector")["name"] == "dissector"
    assert prompt("reset-object", object_id)["objects"] == 1
    assert prompt("pause", "--reason", "test")["paused_by"] == "console left"
    assert prompt("resume")["paused_by"] == "console left"
    assert [one["name"] for one in prompt("list")["objects"]] == ["dissector"]
    assert "suggestions" in prompt("suggestions")
    listed = prompt("list")
    assert "1 object" in listed["message"] and 0 < listed["age_s"] < 3600
    time.sleep(max(0.0, 0.6 - listed["age_s"]))
    assert main(["prompt", "list", "--timeout", "60"]) == 0
    said = capsys.readouterr().out
    assert "dissector" in said and said.splitlines()[0] == listed["message"]
    assert " s old; 1 of at most 8 objects\n" in said and "1 object; " in listed["message"]
    newest = said.split()[-1]
    assert prompt("refine", object_id, "--click", "50,40", "--stamp", newest.replace(".", ""))["id"] == int(
        object_id
    ), "in nanoseconds too"
    assert main(["prompt", "refine", object_id, "--click", "50,40", "--stamp", "7.5", "--timeout", "60"]) == 1
    assert f"to {newest}\n" in capsys.readouterr().err
    assert main(["prompt", "reset-object", "0", "--timeout", "60"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "back at the first prompt" in line
    assert prompt("remove", object_id)["id"] == int(object_id)
    assert main(["prompt", "remove", object_id, "--timeout", "60"]) == 1
    assert f"no object has id {object_id}" in capsys.readouterr().err
    assert "removed" in prompt("reset")["message"]
    for action in ("save-snapshot", "restore-snapshot"):
        assert main(["prompt", action, "--timeout", "60"]) == 1
        assert "set the parameter snapshot_dir" in capsys.readouterr().err


def test_options_that_all_actions_have_may_stand_before_the_action_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever they stand, they mean the same; a client's name that the request cannot hold is refused."""
    asked: list[dict[str, Any]] = []

    def client(**arguments: Any) -> Any:
        asked.append(arguments)
        raise OSError("far enough")

    monkeypatch.setattr(client_module, "Sam2sClient", client)
    options = ("--tracker", "/left/tracker", "--timeout", "3", "--client", "bob")
    assert main(["prompt", *options, "list"]) == main(["prompt", "list", *options]) == 2
    assert asked[0] == asked[1] == {"tracker": "/left/tracker", "timeout_s": 3.0, "client": "bob"}
    assert main(["prompt", "list"]) == main(["prompt", "reset"]) == 2
    assert [one["client"] for one in asked[2:]] == ["sam2s prompt", ""]
    assert {(one["tracker"], one["timeout_s"]) for one in asked[2:]} == {("/tracker", 10.0)}
    capsys.readouterr()
    assert main(["prompt", "--client", "bob", "reset"]) == 2 and len(asked) == 4
    assert "reset has no field for it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", "--mask", "none.png"), "there is no mask image none.png: give an image file"),
        (
            ("add", "--click", "1,2", "--stamp", "noon"),
            "stamp is 'noon': .* leave it out for the newest image",
        ),
        (("add", "--click", "1,2", "--stamp", "9999999999.5"), "stamp is '9999999999.5'"),
    ],
)
def test_a_bad_argument_is_one_line_and_no_call(
    arguments: tuple[str, ...],
    words: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "Sam2sClient", None)
    assert main(["prompt", *arguments]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert re.search(words, line)


@pytest.mark.parametrize("action", ["reset", "save-snapshot", "restore-snapshot", "suggestions"])
def test_who_asks_is_not_taken_where_the_request_has_no_place_for_it(
    action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["prompt", action, "--client", "bob"])
    assert ended.value.code == 2 and "--client" in capsys.readouterr().err


def test_the_age_of_an_image_is_said_by_a_clock_that_agrees() -> None:
    """A replay of recorded stamps is no image of years ago."""
    response = ListObjects.Response(stamp=Time(sec=100))
    assert " on image 100.000000000; 0 of at most" in text(object_list(response, 100_400_000_000))
    assert "100.000000000, 2.5 s old; 0 of" in text(object_list(response, 102_500_000_000))
    for now_ns in (90_000_000_000, 1_700_000_000_000_000_000):
        assert "another clock" in text(object_list(response, now_ns))


def test_a_list_before_any_image_says_that_there_is_none() -> None:
    """Not that a prompt may name the images "none" to "none"."""
    said = text(object_list(ListObjects.Response(max_objects=8), 5))
    assert "no image yet; 0 of at most 8 objects" in said and "no image is kept yet" in said
    assert "none" not in said.replace("none can be", "")
