"""The Hiera trunk computes what SAM 2's does, in every size and for images that need window padding."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest
import torch
from sam2_reference import REASON
from torch import nn

from sam2s_ros.network import PRESETS, HieraConfig
from sam2s_ros.network.hiera import Hiera, join_windows, split_windows

SMALL = HieraConfig(embed_dim=16, num_heads=2, stages=(1, 2, 3, 2), global_att_blocks=(4, 5))


@pytest.fixture(scope="module")
def reference_class() -> type[nn.Module]:
    return pytest.importorskip("sam2.modeling.backbones.hieradet", reason=REASON).Hiera


@pytest.mark.parametrize("preset", sorted(name for name in PRESETS if "hiera" in name))
def test_settings_are_those_of_the_official_configuration(
    reference_class: type[nn.Module], preset: str
) -> None:
    """State-dict keys say nothing of windows, heads or global attention, so the settings are compared."""
    compose = pytest.importorskip("hydra", reason=REASON).compose
    model = compose(config_name=f"configs/sam2.1/{preset}.yaml").model
    signature = inspect.signature(reference_class.__init__)
    official = {name: parameter.default for name, parameter in signature.parameters.items()}
    official.update(model.image_encoder.trunk)
    config = PRESETS[preset]
    for name, value in dataclasses.asdict(config.trunk).items():
        expected = official[name]
        assert value == (expected if isinstance(expected, int) else tuple(expected)), name
    assert config.image_size == model.image_size
    assert config.fpn_top_down_levels == tuple(model.image_encoder.neck.fpn_top_down_levels)


@pytest.mark.parametrize(
    ("config", "height", "width"),
    [
        pytest.param(SMALL, 96, 96, id="padded"),
        pytest.param(SMALL, 224, 320, id="oblong"),
        pytest.param(SMALL, 448, 448, id="without padding"),
        pytest.param(dataclasses.replace(SMALL, q_pool=2), 96, 64, id="two poolings"),
        pytest.param(dataclasses.replace(SMALL, window_spec=(8, 4, 16, 8)), 160, 160, id="windows of large"),
    ],
)
def test_maps_equal_the_reference(reference_class: Any, config: HieraConfig, height: int, width: int) -> None:
    torch.manual_seed(2)
    reference = reference_class(**dataclasses.asdict(config)).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    trunk = Hiera(config).eval()
    trunk.load_state_dict(reference.state_dict(), strict=True)
    image = torch.randn(2, 3, height, width)
    with torch.no_grad():
        maps, expected = trunk(image), reference(image)
    assert trunk.channel_list == reference.channel_list
    assert len(maps) == len(expected)
    for found, wanted in zip(maps, expected, strict=True):
        assert found.shape == wanted.shape
        assert ((found - wanted).abs().max() / (wanted.max() - wanted.min())).item() <= 1e-6


def test_windows_join_to_what_was_split() -> None:
    tokens = torch.arange(2 * 10 * 13 * 3, dtype=torch.float32).reshape(2, 10, 13, 3)
    windows, grid = split_windows(tokens, 4)
    assert grid == (3, 4)
    assert windows.shape == (2 * 3 * 4, 4, 4, 3)
    assert torch.equal(join_windows(windows, grid, 10, 13), tokens)


def test_an_image_that_does_not_fit_is_refused_with_the_multiple() -> None:
    with pytest.raises(ValueError, match="100 x 96 .* multiples of 32"):
        Hiera(SMALL)(torch.zeros(1, 3, 100, 96))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_spec": (8, 4, 14)}, "one window per stage"),
        ({"q_pool": 4}, r"q_pool 4 must lie in 0\.\.3"),
        ({"embed_dim": 15}, "embed_dim 15 is not divisible by num_heads 2"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **settings)
