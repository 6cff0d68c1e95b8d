"""`sam2s ... | head` ends as other commands do when nobody reads on: without a word."""

from __future__ import annotations

import argparse
import os
import sys
from types import SimpleNamespace

import pytest

from sam2s_ros import cli


def test_a_pipe_that_is_closed_ends_the_command_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)

    def run(_: argparse.Namespace) -> int:
        print("a line", flush=True)
        return 0

    command = SimpleNamespace(HELP="prints a line", configure=lambda parser: None, run=run)
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: command)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert cli.main(["compare"]) == 141
    assert capfd.readouterr().err == ""
