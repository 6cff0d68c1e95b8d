"""`sam2s evaluate --ray`: what many machines find is what one finds, also after a crash."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from evaluation_cases import write_bag

from sam2s_ros.evaluation import command
from sam2s_ros.evaluation.many_machines import part_numbers

ray = pytest.importorskip("ray", reason="pip install -r requirements-ray.txt")
TIMINGS = {"latency_ms"}


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three short recordings of a block that moves."""
    folder = tmp_path_factory.mktemp("bags")
    steps = {"slow": 1, "fast": 4, "faster": 7}
    return [write_bag(folder / f"{name}.mcap", 12, 25.0, step=step) for name, step in steps.items()]


@pytest.fixture(autouse=True)
def short_paths(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray's sockets lie below its temporary folder, whose name must be short; its processes end with each test."""
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    yield
    ray.shutdown()


def run(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return command.run(parser.parse_args([str(one) for one in arguments]))


def found(folder: Path) -> tuple[dict[str, Any], Any, str]:
    """Summary and records without the timings, and the worst frames."""
    document = json.loads((folder / "summary.json").read_text())
    del document["timings"]
    table = pq.read_table(folder / "frames.parquet")
    table = table.drop_columns([name for name in table.column_names if name in TIMINGS])
    return document, table.to_pylist(), (folder / "worst_frames.json").read_text()


def same(one: Path, other: Path) -> bool:
    """NaN equals NaN."""
    return repr(found(one)) == repr(found(other))


def test_many_give_what_one_gives_also_where_a_process_is_lost(bags: list[Path], tmp_path: Path) -> None:
    """The tracker and all baselines on three bags. The first process that runs one is killed."""
    options = ("--engine", "eager", "--precision", "fp32", "--out")
    assert run(*bags, *options, tmp_path / "one") == 0
    killed: list[str] = []
    over = threading.Event()

    def kill_one() -> None:
        while not killed and not over.wait(0.02):
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if (process / "cmdline").read_bytes().startswith(b"ray::run_sequence"):
                        os.kill(int(process.name), signal.SIGKILL)
                        killed.append(process.name)
                        break

    thread = threading.Thread(target=kill_one)
    thread.start()
    try:
        assert run(*bags, *options, tmp_path / "many", "--ray", "--ray-cpus", "1") == 0
    finally:
        over.set()
        thread.join()
    assert killed and same(tmp_path / "many", tmp_path / "one")
    assert not (tmp_path / "many" / "unfinished").exists()
    videos = {path.name for path in (tmp_path / "one").glob("*.mp4")}
    assert len(videos) == 3 == len(list((tmp_path / "many").glob("*.mp4")))


def test_a_sequence_that_fails_is_named_and_the_others_are_kept(bags: list[Path], tmp_path: Path) -> None:
    whole = bags[1].read_bytes()
    damaged = tmp_path / "damaged.mcap"
    damaged.write_bytes(whole[: len(whole) // 2] + bytes(64) + whole[len(whole) // 2 + 64 :])
    options = ("--model", "none", "--no-overlay", "--ray", "--ray-cpus", "1", "--out", tmp_path / "out")
    with pytest.raises(
        ValueError, match=r"1 of 2 sequences failed; 1 more are done.*: damaged: .*damaged.mcap"
    ):
        run(bags[0], damaged, *options)
    assert len(list((tmp_path / "out" / "unfinished").glob("*.parquet"))) == 3


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--ray"], "--ray needs --out DIR"),
        (["--ray", "--out", "o", "--mode", "live"], "only without --ray"),
        (["--ray", "--out", "o", "--mode", "real-time"], "give them with --step-time"),
        (["--ray", "--out", "o", "--ray-cpus", "0"], "give at least 1"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=problem):
        run("none.mcap", *options)


def test_a_cluster_that_is_not_there_is_said_at_once(bags: list[Path], tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(
            ValueError, match=rf"--ray {address}: no Ray cluster can be reached there .*refused"
        ):
            run(bags[0], "--model", "none", "--out", tmp_path / "out", "--ray", address)


def test_the_parts_of_all_sequences_are_those_of_one_run() -> None:
    """In the order in which `runs.evaluate_all` takes them: the model with its rounds, then each baseline."""
    arguments = argparse.Namespace(model="nano", rounds=2, no_baselines=False)
    places = [part_numbers(number, 3, arguments) for number in range(3)]
    assert places[1] == [3, 4, 5, 10, 13, 16]
    assert sorted(sum(places, [])) == list(range(18))
    arguments = argparse.Namespace(model="none", rounds=0, no_baselines=True)
    assert part_numbers(0, 2, arguments) == [0, 2, 4]
