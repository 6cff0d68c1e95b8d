"""What is wrong on the node's command line is said in one line, and nothing is started."""

from __future__ import annotations

import pytest

from sam2s_ros.nodes.tracker_node import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--params-file", "/nowhere/tracker.yaml"], "/nowhere/tracker.yaml"),
        (["-p", "model=nano"], "'-p model=nano'"),
        (["-r", "image"], "'-r image'"),
    ],
)
def test_ros_arguments_that_cannot_be_read_are_named(
    arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["--ros-args", *arguments]) == 2
    error = capfd.readouterr().err
    assert said in error and error.startswith("tracker: ") and "Traceback" not in error
    assert error.count("\n") == 1
