"""`sam2s export` writes what its manifest says; `sam2s build-engine` fills the cache that the tracker reads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from tensorrt_standin import Standin

from sam2s_ros import cli
from sam2s_ros.engines import create_engine
from sam2s_ros.network import build_network, with_image_size
from sam2s_ros.network.checkpoint import weights_sha256
from sam2s_ros.tracking import TrackerConfig
from sam2s_ros.tracking.loader import load_network

pytestmark = [pytest.mark.usefixtures("graph_cache"), pytest.mark.timeout(900)]  # the first exports nano
NAMES = {"encode", "attend", "prompt", "decode", "memorise", "memorise_given", "similarity", "read"}


def test_export_writes_graphs_and_a_manifest_with_checksums(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "graphs"
    assert cli.main(["export", "--model", "nano", "--precision", "fp16", "--out", str(out)]) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["files"].keys() == {f"{name}.onnx" for name in NAMES}
    for name, entry in manifest["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == entry["sha256"]
    made_from = manifest["made_from"]
    assert made_from["weights_sha256"] == weights_sha256(load_network("nano").state_dict())
    assert (made_from["precision"], made_from["config"]["image_size"]) == ("fp16", 256)
    assert made_from["packages"].keys() == {"torch", "onnx", "onnxscript"}
    assert manifest["files"]["attend.onnx"]["facts"]["inputs"]["slots"] == ["n", "m"]
    assert "encode.onnx" in capsys.readouterr().out


def test_export_does_not_touch_a_folder_that_holds_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").touch()
    assert cli.main(["export", "--out", str(tmp_path)]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert (tmp_path / "mine").is_file()


def test_a_size_that_does_not_fit_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", "--size", "200", "--out", str(tmp_path / "x")]) == 2
    assert "image_size 200 is not a multiple of 32" in capsys.readouterr().err


def test_another_size_keeps_the_weights() -> None:
    network = build_network("nano")
    resized = with_image_size(network, 320)
    assert (resized.config.image_size, resized.config.feature_size) == (320, 20)
    assert weights_sha256(resized.state_dict()) == weights_sha256(network.state_dict())
    with pytest.raises(ValueError, match="image_size 0 is not a positive multiple of 32"):
        with_image_size(network, 0)


def test_what_was_built_is_what_the_tracker_loads(
    standin_gpu: Standin, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["build-engine", "--model", "nano"]) == 0
    printed, built = capsys.readouterr().out, standin_gpu.built
    assert "tensorrt 10.0.standin for Test GPU (8.9)" in printed
    assert all(f"{name}: " in printed for name in NAMES)
    create_engine("tensorrt", load_network("nano"), TrackerConfig().engine_capacity())
    assert standin_gpu.built == built, "nothing was left to build"


def test_without_a_gpu_building_says_what_is_missing(
    standin_gpu: Standin, capsys: pytest.CaptureFixture[str]
) -> None:
    standin_gpu.cuda.devices = 0
    assert cli.main(["build-engine"]) == 2
    assert "no NVIDIA GPU is visible" in capsys.readouterr().err
