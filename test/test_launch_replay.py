"""launch/replay.launch.py: tracker on sim time, scorer, and a player that waits until both are there."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from launch_standin import Recorded, load_launch_file, started

LAUNCH_FILE = Path(__file__).resolve().parents[1] / "launch" / "replay.launch.py"
GIVEN = {"bag": "/b.mcap", "out": "/scored"}


@pytest.fixture
def launch_file(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_launch_file(LAUNCH_FILE, monkeypatch)
    monkeypatch.setattr(module, "has_rosbag2", lambda: False)
    return module


def handler(actions: list[Recorded], kind: str) -> dict[str, Any]:
    handlers = [one.arguments[0] for one in actions if one.kind == "RegisterEventHandler"]
    (found,) = [one for one in handlers if one.kind == kind]
    return found.fields


def player(actions: list[Recorded]) -> Recorded:
    """What the scorer's word starts; nothing else does."""
    on_line = handler(actions, "OnProcessIO")["on_stdout"]
    assert on_line(SimpleNamespace(text=b"not ready yet\n")) is None
    (action,) = on_line(SimpleNamespace(text=b"scorer\nready\n"))
    assert action not in actions
    return action


def test_every_argument_is_described(launch_file: ModuleType) -> None:
    declared, _ = started(launch_file, **GIVEN)
    assert declared.keys() == launch_file.ARGUMENTS.keys()
    assert all(len(one.fields["description"]) > 15 for one in declared.values())


def test_the_tracker_is_on_sim_time_and_listens_to_the_bag_s_images(launch_file: ModuleType) -> None:
    for topic, image, transport in (("/cam/compressed", "/cam", "compressed"), ("/cam", "/cam", "raw")):
        actions = started(launch_file, image_topic=topic, model="/m.safetensors", **GIVEN)[1]
        arguments = dict(actions[0].fields["launch_arguments"])
        wanted = {
            "image": image,
            "image_transport": transport,
            "use_sim_time": "true",
            "model": "/m.safetensors",
        }
        assert arguments == {**wanted, "engine": ""}
        assert Path(actions[0].arguments[0].arguments[0]) == LAUNCH_FILE.with_name("tracker.launch.py")


def test_our_player_and_scorer_are_executables_of_the_package(launch_file: ModuleType) -> None:
    actions = started(launch_file, prompts="box", **GIVEN)[1]
    played = player(actions)
    scorer = actions[-1]
    assert (played.fields["executable"], scorer.fields["executable"]) == ("replay", "score_replay")
    assert played.fields["arguments"][:5] == ["/b.mcap", "--rate", "1.0", "--clock", "100"]
    assert scorer.fields["arguments"][:4] == ["/b.mcap", "/scored", "--prompts", "box"]
    setup = (LAUNCH_FILE.parents[1] / "setup.py").read_text()
    assert "score_replay = {NAME}.nodes.replay_scorer:main" in setup
    end = handler(actions, "OnProcessExit")
    assert end["target_action"] is scorer and end["on_exit"][0].fields["event"].kind == "Shutdown"


def test_rosbag2_s_player_is_taken_where_there_is_one(
    launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch_file, "has_rosbag2", lambda: True)
    played = player(started(launch_file, rate="2.0", **GIVEN)[1])
    assert played.fields["cmd"] == ["ros2", "bag", "play", "/b.mcap", "--rate", "2.0", "--clock", "100"]
    assert player(started(launch_file, player="replay", **GIVEN)[1]).kind == "Node"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"out": "/scored"}, "give bag:="),
        ({"bag": "b"}, "give out:="),
        ({**GIVEN, "player": "vlc"}, "player:=vlc"),
    ],
)
def test_what_is_missing_or_wrong_is_named(
    launch_file: ModuleType, values: dict[str, str], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        started(launch_file, **values)
