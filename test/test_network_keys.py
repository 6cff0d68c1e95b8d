"""State-dict names and shapes are the official ones, so official checkpoints load strictly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sam2s_ros.network import PRESETS, build_network
from sam2s_ros.network.fit import preset_shapes

FIXTURES = Path(__file__).parent / "fixtures"
OFFICIAL = {
    "sam2.1_hiera_t": ("sam21_keys_t.json", 471, 38_962_498),
    "sam2.1_hiera_s": ("sam21_keys_s.json", 519, 46_060_354),
    "sam2.1_hiera_b+": ("sam21_keys_b_plus.json", 615, 80_850_178),
    "sam2.1_hiera_l": ("sam21_keys_l.json", 903, 224_446_642),
}


def official_shapes(preset: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes written from the public reference (`sam2` 1.1.0, `sam2/configs/sam2.1`)."""
    content = json.loads((FIXTURES / OFFICIAL[preset][0]).read_text())
    return {name: tuple(shape) for name, shape in content.items()}


@pytest.mark.parametrize("preset", sorted(OFFICIAL))
def test_state_dict_is_the_official_one(preset: str) -> None:
    assert preset_shapes(preset) == official_shapes(preset)


@pytest.mark.parametrize("preset", sorted(OFFICIAL))
def test_network_has_the_published_number_of_parameters(preset: str) -> None:
    _, tensors, parameters = OFFICIAL[preset]
    shapes = preset_shapes(preset)
    buffers = {"sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"}
    assert len(shapes) == tensors
    counted = sum(torch.Size(shape).numel() for name, shape in shapes.items() if name not in buffers)
    assert counted == parameters


def test_nano_has_the_official_names_outside_its_trunk() -> None:
    def outside_trunk(names: dict[str, tuple[int, ...]]) -> set[str]:
        return {
            name
            for name in names
            if not name.startswith(("image_encoder.trunk.", "memory_attention.layers."))
        }

    nano = dict(preset_shapes("nano"))
    assert outside_trunk(nano) == outside_trunk(official_shapes("sam2.1_hiera_t"))
    layer_names = {name for name in official_shapes("sam2.1_hiera_t") if name.startswith("memory_attention.")}
    assert {name for name in nano if name.startswith("memory_attention.")} <= layer_names


def test_every_preset_is_covered() -> None:
    assert set(PRESETS) == {"nano", *OFFICIAL}


def test_building_gives_evaluation_mode_in_float32_on_the_cpu() -> None:
    network = build_network("nano")
    assert not network.training
    assert {(tensor.dtype, tensor.device.type) for tensor in network.state_dict().values()} == {
        (torch.float32, "cpu")
    }


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown preset 'sam2_tiny'.*nano.*sam2\.1_hiera_t"):
        build_network("sam2_tiny")
