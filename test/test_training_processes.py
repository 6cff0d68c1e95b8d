"""Promises of `sam2s train`: any number of processes trains the same, and a run that was killed goes on exactly."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from training_cases import (
    arguments,
    largest_difference,
    losses,
    start,
    start_script,
    steps_logged,
    wait_until,
    write_config,
    write_video,
)

from sam2s_ros.cli import main
from sam2s_ros.data.out_lock import locked
from sam2s_ros.data.video_folder import write_index
from sam2s_ros.data.whole_files import check_files
from sam2s_ros.network import build_network
from sam2s_ros.network.checkpoint import save_checkpoint
from sam2s_ros.training.batches import reader_watched
from sam2s_ros.training.config import StageConfig, TrainConfig
from sam2s_ros.training.peers import how_it_ended
from sam2s_ros.training.processes import make_fabric

pytestmark = pytest.mark.usefixtures("one_thread")
LOST = r"process 1 of 2 \(pid {pid}\) was ended by SIGKILL.*`sam2s train --config .*` goes on from the last checkpoint"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path / "tiny.yaml")


def test_two_processes_train_what_one_does_and_outlive_a_killed_worker(config: Path, tmp_path: Path) -> None:
    """To 1e-5 after 5 steps, a batch for each. The error says which process ended; one process alone goes on."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert main(arguments(config, alone)) == 0
    run = start("sam2s_ros.cli", *arguments(config, together, "--devices", "2", "--timeout-s", "30"))
    wait_until(lambda: (together / "checkpoint.pt").exists(), run)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    assert len(children) == 1
    os.kill(int(children[0]), signal.SIGKILL)
    error = run.communicate(timeout=60)[1]
    said = [line for line in error.splitlines() if line.startswith("sam2s: error:")]
    assert run.returncode == 2 and len(said) == 1, error
    assert re.search(LOST.format(pid=children[0]), said[0]) and str(together) in said[0], said
    assert torch.load(together / "checkpoint.pt", weights_only=True)["step"] == 5
    assert losses(together)[:5] == pytest.approx(losses(alone)[:5], abs=1e-5)
    assert main(arguments(config, together)) == 0
    assert losses(together) == pytest.approx(losses(alone), abs=1e-5)
    assert largest_difference(alone, together) < 1e-5


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """SIGKILL at a random moment: the next 20 losses are those of the run that was not interrupted, bit for bit.

    Each run is a process of its own: it forks to read, which a process with the threads of other tests must not.
    """
    stages = [{"steps": 29, "length": 2, "clips": 1, "objects": 1, "images": 0.6}]
    config = write_config(tmp_path / "tiny.yaml", batches=1, save_every_steps=4, workers=1, stages=stages)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start("sam2s_ros.cli", *arguments(config, whole)).wait(timeout=120) == 0
    last = random.SystemRandom().randint(3, 8)
    run = start("sam2s_ros.cli", *arguments(config, killed))
    wait_until(lambda: steps_logged(killed) >= last, run)
    run.kill()
    run.wait()
    taken = steps_logged(killed)
    assert last <= taken < 29
    assert start("sam2s_ros.cli", *arguments(config, killed)).wait(timeout=120) == 0
    assert losses(killed) == losses(whole) and len(losses(killed)) == 29
    assert largest_difference(whole, killed) == 0


@pytest.mark.slow
def test_torchrun_trains_what_one_process_does(config: Path, tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert main(arguments(config, alone)) == 0
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sam2s_ros.cli")
    run = start(*torchrun, *arguments(config, together))
    error = run.communicate(timeout=200)[1]
    assert run.returncode == 0, error
    assert losses(together) == pytest.approx(losses(alone), abs=1e-5)
    assert largest_difference(alone, together) < 1e-5


@pytest.mark.slow
def test_nano_goes_on_exactly_after_a_kill(tmp_path: Path) -> None:
    """At its own size, with the mixture of prompts and errors that it is trained with, on two processes."""
    stages = [{"steps": 26, "length": 6, "clips": 1, "objects": 2, "hybrid": 0.5}]
    prompts = {"mask": 0.5, "box": 0.15, "max_clicks": 3, "correction": 0.3, "drift": 0.4, "gap": 0.5}
    changes = {"image_size": 256, "long_term": True, "workers": 1, "save_every_steps": 3, "prompts": prompts}
    config = write_config(tmp_path / "nano.yaml", stages=stages, **changes)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start("sam2s_ros.cli", *arguments(config, whole, "--devices", "2")).wait(timeout=280) == 0
    run = start("sam2s_ros.cli", *arguments(config, killed, "--devices", "2"))
    last = random.SystemRandom().randint(3, 6)
    wait_until(lambda: steps_logged(killed) >= last, run)
    run.kill()
    run.wait()
    assert start("sam2s_ros.cli", *arguments(config, killed, "--devices", "2")).wait(timeout=280) == 0
    assert losses(killed) == losses(whole) and len(losses(killed)) == 26


def test_processes_with_several_batches_each_differ_by_rounding_alone(config: Path, tmp_path: Path) -> None:
    """Sums of four gradients in another order, at a rate of 1e-3 after two steps: a hundredth of a step at most."""
    stages = [{"steps": 5, "length": 2, "clips": 1, "objects": 1, "images": 0.4}]
    write_config(config, batches=4, stages=stages)
    alone, together = tmp_path / "alone", tmp_path / "together"
    runs = [start("sam2s_ros.cli", *arguments(config, alone))]
    runs.append(start("sam2s_ros.cli", *arguments(config, together, "--devices", "2")))
    assert [(run.communicate(timeout=120), run.returncode)[1] for run in runs] == [0, 0]
    assert losses(together) == pytest.approx(losses(alone), abs=1e-5)
    assert largest_difference(alone, together) < 5e-5


def test_a_worker_learns_which_process_ended(config: Path, tmp_path: Path) -> None:
    """The first process is killed: the other one, which it began, says so and ends."""
    stages = [{"steps": 1000, "length": 2, "clips": 1, "objects": 1}]
    write_config(config, stages=stages)
    run = start("sam2s_ros.cli", *arguments(config, tmp_path / "out", "--devices", "2", "--timeout-s", "30"))
    wait_until(lambda: (tmp_path / "out/checkpoint.pt").exists(), run)
    run.kill()
    error = run.communicate(timeout=60)[1]
    assert (
        f"sam2s: error: process 0 of 2 (pid {run.pid}) ended; once the cause is mended, `sam2s train" in error
    )


@pytest.mark.parametrize("devices", [1, 2])
def test_a_second_run_into_the_same_folder_is_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], devices: int
) -> None:
    """The first one goes on; killed, it leaves the folder to the next at once, though its readers outlive it."""
    out = tmp_path / "out"
    write_config(config, workers=1, stages=[{"steps": 1000, "length": 2, "clips": 1, "objects": 1}])
    more = ("--devices", str(devices))
    first = start("sam2s_ros.cli", *arguments(config, out, *more))
    try:
        wait_until(lambda: steps_logged(out) >= 1, first)
        for second in ((), ("--devices", "2")):
            assert main(arguments(config, out, *second)) == 2
            said = capsys.readouterr().err
            assert f"{out} is being written to by another command (process {first.pid}): wait" in said
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()
    with locked(out, "train"):
        pass
    assert not (out / ".partial").exists()


KILLS_A_READER = """
import multiprocessing, os, sys, time
from sam2s_ros.cli import main
from sam2s_ros.training.loop import Trainer

update = Trainer._update_average

def kill_and_update(trainer):
    if trainer.step == 1 and trainer.fabric.global_rank == int(os.environ["KILLED_BY"]):
        multiprocessing.active_children()[0].kill()
        time.sleep(1)
    update(trainer)

Trainer._update_average = kill_and_update
sys.exit(main())
"""


@pytest.mark.parametrize(("devices", "rank"), [(1, 0), (2, 0), (2, 1)])
def test_a_killed_reader_is_told_wherever_its_process_is(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: int, rank: int
) -> None:
    """Torch raises that from a signal handler; here while the process is not waiting for a clip."""
    write_config(config, workers=1, stages=[{"steps": 100, "length": 2, "clips": 1, "objects": 1}])
    script = tmp_path / "killing.py"
    script.write_text(KILLS_A_READER)
    monkeypatch.setenv("KILLED_BY", str(rank))
    more = ("--devices", str(devices), "--timeout-s", "30")
    run = start_script(script, *arguments(config, tmp_path / "out", *more))
    error = run.communicate(timeout=90)[1]
    said = re.findall("sam2s: error: .*", error)  # the first may stand beside the bar
    assert run.returncode == 2 and "Traceback" not in error and len(said) == 1 + rank, error
    assert re.search(
        r"a process that reads clips ended \(DataLoader worker .*\); where memory ran out", said[0]
    )
    assert not rank or "process 1 of 2" in said[1] and "its own error is above" in said[1]


def test_an_error_that_a_killed_reader_caused_is_told_as_such_and_no_other() -> None:
    with (
        pytest.raises(OSError, match=r"reads clips ended \(DataLoader worker \(pid 1\) is killed"),
        reader_watched(),
    ):
        try:
            raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed. ")
        except RuntimeError as error:
            raise SystemError("a call returned a result with an exception set") from error
    with pytest.raises(RuntimeError, match="^shapes differ$"), reader_watched():
        raise RuntimeError("shapes differ")


def test_how_a_process_ended_is_said_in_words() -> None:
    assert how_it_ended(-signal.SIGKILL) == "was ended by SIGKILL, as the system does where memory runs out"
    assert how_it_ended(-signal.SIGSEGV) == "was ended by SIGSEGV"
    assert how_it_ended(2) == "ended with exit status 2, its own error is above"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--devices", "0"), "--devices is 0; at least 1 is needed"),
        (("--devices", "-1"), "--devices is -1; at least 1 is needed"),
        (("--nodes", "0"), "--nodes is 0; at least 1 is needed"),
        (("--timeout-s", "nan"), "--timeout-s is nan; use seconds above 0"),
        (("--timeout-s", "inf"), "--timeout-s is inf; use seconds above 0"),
        (("--timeout-s", "-1"), "--timeout-s is -1.0; use seconds above 0"),
        (("--accelerator", "cuda", "--devices", "2000"), "torch sees"),
    ],
)
def test_options_beyond_their_limits_are_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "out"
    assert main(arguments(config, out, *options)) == 2
    assert said in capsys.readouterr().err and not out.exists()


def test_processes_that_cannot_share_the_batches_are_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(config, tmp_path / "out", "--devices", "3")) == 2
    assert "3 processes cannot share the 2 batches of a step evenly" in capsys.readouterr().err


def test_torchrun_alone_says_how_many_processes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    with pytest.raises(ValueError, match="leave out --devices"):
        make_fabric(TrainConfig(stages=(StageConfig(1, 1, 1),)), devices=2)


def test_a_run_goes_on_with_its_own_settings_only(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = [{"steps": 1, "length": 1, "clips": 1, "objects": 1}]
    out = tmp_path / "out"
    assert main(arguments(write_config(config, stages=stages), out)) == 0
    assert main(arguments(write_config(config, stages=stages, ema=0.9, threads=2), out)) == 2
    assert "begun with other settings (ema was 0.998, is 0.9)" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cut off, or with a changed byte anywhere: in weights or the state of the optimiser it would pass unseen."""
    stages = [{"steps": 1, "length": 1, "clips": 1, "objects": 1}]
    command = arguments(write_config(config, stages=stages), tmp_path / "out")
    assert main(command) == 0
    checkpoint = tmp_path / "out/checkpoint.pt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:1000])
    assert main(command) == 2
    assert f"{checkpoint} is no checkpoint" in capsys.readouterr().err
    with zipfile.ZipFile(checkpoint.parent / "whole.pt", "w") as other:
        other.writestr("data.pkl", b"no pickle")
    (checkpoint.parent / "whole.pt").replace(checkpoint)
    assert main(command) == 2
    assert f"{checkpoint} is no checkpoint" in capsys.readouterr().err
    for share in (0.2, 0.5, 0.8):
        place = int(share * len(whole))
        checkpoint.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        assert main(command) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and f"{checkpoint} is damaged: the checksum of its part" in lines[0]
        assert "put back a copy of it, or remove it to begin anew" in lines[0]
    marked = bytearray(whole)
    marked[whole.rindex(b"PK\x01\x02") + 38] ^= 0x10  # as a folder: torch would read zeros
    checkpoint.write_bytes(marked)
    assert main(command) == 2 and f"{checkpoint} is damaged" in capsys.readouterr().err
    checkpoint.write_bytes(whole)
    assert main(command) == 0


def test_a_run_goes_on_with_what_it_began_with_only(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other weights or videos under the same settings are refused; the same weights under another name are not."""
    stages = [{"steps": 1, "length": 1, "clips": 1, "objects": 1}]
    out = tmp_path / "out"
    first, second, same = (tmp_path / f"{name}.safetensors" for name in ("first", "second", "same"))
    for seed, path in enumerate((first, second)):
        torch.manual_seed(seed)
        save_checkpoint(path, build_network("nano").state_dict(), "nano", "CC0-1.0", {})
    shutil.copyfile(first, same)

    def train_from(init: Path | str, **changes: Any) -> str:
        status = main(arguments(write_config(config, stages=stages, init=str(init), **changes), out))
        error = capsys.readouterr().err
        assert status == (2 if "sam2s: error" in error else 0)
        return error.partition("sam2s: error: ")[2].strip()

    assert train_from(first) == ""
    assert train_from(same, threads=2, workers=1, save_every_steps=7) == ""
    for init in (second, ""):
        said = train_from(init)
        assert "what init names was sha256" in said and "checkpoint.pt" in said and "\n" not in said
        assert "Only save_every_steps, threads, workers may change" in said
    stages[0]["steps"] = 2
    assert "(stages[0].steps was 1, is 2)" in train_from(first)
    stages[0]["steps"] = 1
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "videos", kept)
    frame = tmp_path / "videos/train/frames/000003.png"
    Image.new("RGB", (64, 64)).save(frame)
    assert "names was 2 videos of 32 images, sha256" in train_from(first)
    frame.unlink()
    assert "names was 2 videos of 32 images, sha256" in (said := train_from(first)) and "of 31 images" in said
    shutil.rmtree(tmp_path / "videos")
    shutil.copytree(kept, tmp_path / "videos", copy_function=shutil.copyfile)
    assert train_from(first) == ""
    write_video(tmp_path / "videos/more", "train")
    assert "what videos:videos names was 2 videos" in train_from(first)


def test_what_cannot_be_validated_on_is_found_before_the_first_step(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No video of the split, no masks, no object, a picture that is cut off: named, and nothing is written."""
    out, video = tmp_path / "out", tmp_path / "videos/val"
    kept = tmp_path / "kept"
    shutil.copytree(video, kept)

    def refused() -> str:
        assert main(arguments(config, out)) == 2 and not out.exists()
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        return lines[0]

    shutil.rmtree(video)
    said = refused()
    assert "validation: videos:videos: " in said and "no video of the split 'val'" in said
    assert "name another folder, or leave `validation` empty" in said
    shutil.copytree(kept, video)
    shutil.rmtree(video / "masks")
    assert f"{video} has no two labelled frames" in refused()
    shutil.copytree(kept / "masks", video / "masks")
    picture = video / "frames/000003.png"
    picture.write_bytes(b"")
    assert str(picture) in refused()
    shutil.copyfile(kept / "frames/000003.png", picture)
    for path in (video / "masks").iterdir():
        write_index(path, np.zeros((64, 64), np.uint8))
    shutil.copytree(kept, tmp_path / "videos/whole")
    stages = [{"steps": 1, "length": 1, "clips": 1, "objects": 1}]
    assert main(arguments(write_config(config, stages=stages), out)) == 0
    assert f"validation: left out {video}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["masks/000005.png", "frames/000005.png", "frames/000005.jpg"])
def test_a_damaged_file_to_train_on_is_found_before_the_first_step(
    name: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cut off or empty; of a label image also a changed byte."""
    out, path = tmp_path / "out", tmp_path / "videos/train" / name
    if path.suffix == ".jpg":
        Image.open(path.with_suffix(".png")).save(path)
        path.with_suffix(".png").unlink()
    whole = path.read_bytes()
    middle = len(whole) // 2
    damaged = [whole[:-20], whole[:middle], b""]
    if "masks" in name:
        damaged.append(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    for data in damaged:
        path.write_bytes(data)
        assert main(arguments(config, out)) == 2 and not out.exists()
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and f"sam2s: error: {path} is " in lines[0], lines
    path.write_bytes(
        whole + b"more" * ("frames" in name)
    )  # what stands behind the end of a picture is no damage
    assert check_files(tmp_path / "videos") == 8


@pytest.mark.parametrize("setting", ["init", "class_bank"])
def test_a_file_that_a_setting_names_is_looked_for_first(
    setting: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_config(config, **{setting: "nowhere.safetensors"})
    assert main(arguments(config, tmp_path / "out")) == 2
    assert f"{setting}: there is no file nowhere.safetensors" in capsys.readouterr().err


def test_weights_that_scored_best_are_kept_beside_the_last(config: Path, tmp_path: Path) -> None:
    from sam2s_ros.network.checkpoint import read_metadata
    from sam2s_ros.training.run_files import read_lines

    stages = [{"steps": 2, "length": 1, "clips": 1, "objects": 1}]
    out = tmp_path / "out"
    assert main(arguments(write_config(config, stages=stages, validate_every_steps=1), out)) == 0
    checks = read_lines(out / "validation.jsonl")
    best = max(checks, key=lambda check: check["jf"])
    stored = {name: read_metadata(out / f"{name}.safetensors") for name in ("best", "weights")}
    assert stored["best"] is not None and stored["weights"] is not None
    assert stored["best"].extra["validation"]["jf"] == best["jf"]
    assert stored["weights"].extra["step"] == 2 == checks[-1]["step"]
