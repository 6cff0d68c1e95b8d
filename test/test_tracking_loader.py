"""`load_tracker` finds the weights that a name means, or says where it looked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sam2s_ros
from sam2s_ros.network import build_network
from sam2s_ros.network.checkpoint import save_checkpoint
from sam2s_ros.tracking import loader


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    save_checkpoint(path, build_network("nano").state_dict(), "nano", "CC0-1.0")
    return path


def test_a_weights_file_loads_by_its_path_and_tracks(weights: Path) -> None:
    tracker = sam2s_ros.load_tracker(str(weights), max_objects=2)
    assert tracker.config.max_objects == 2
    assert tracker.engine.describe().model == "nano"
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    tracker.add_object(image, points=[[40, 30]])
    assert tracker.step(image).masks.shape == (1, 60, 80)


def test_a_preset_loads_the_checkpoint_given_with_it(weights: Path) -> None:
    assert loader.find_weights("nano", weights) == ("nano", weights)
    assert loader.find_weights(str(weights)) == ("nano", weights)


def test_the_bundled_weights_are_found_in_an_installation(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "__file__", str(tmp_path / "site" / "sam2s_ros" / "tracking" / "loader.py"))
    with pytest.raises(
        FileNotFoundError, match="bundled weights sam2s_nano.safetensors are missing; searched"
    ):
        loader.find_weights("nano")
    models = tmp_path / "ros" / "share" / "sam2s_ros" / "models"
    models.mkdir(parents=True)
    installed = models / "sam2s_nano.safetensors"
    installed.write_bytes(weights.read_bytes())
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/opt/none:{tmp_path / 'ros'}")
    assert loader.find_weights("nano") == ("nano", installed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "nanu"}, "unknown model 'nanu'; choose one of nano"),
        (
            {"model": "sam2.1_hiera_t"},
            "no weights are bundled for 'sam2.1_hiera_t'; give its official weights",
        ),
        ({"max_object": 3}, "unknown tracker setting 'max_object'; the settings are max_objects"),
        ({"model": "nowhere.safetensors"}, "no weights file nowhere.safetensors"),
    ],
)
def test_what_cannot_be_loaded_is_named(arguments: dict, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        sam2s_ros.load_tracker(**arguments)
