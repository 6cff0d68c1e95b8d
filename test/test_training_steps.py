"""Promises of one optimiser step: how long the gradient is, which rate each parameter has, what is averaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from training_cases import Squares, small_config

from sam2s_ros.training.loop import Progress, Trainer
from sam2s_ros.training.optimiser import (
    RATE_SCALE,
    layer_scales,
    learning_rate,
    parameter_groups,
    trained_parameters,
)
from sam2s_ros.training.run_files import write_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def trainer_with(out: Path, **changes: object) -> Trainer:
    return Trainer(small_config(**{"image_size": 64, **changes}), Squares(), out)


def gradients_of_a_step(trainer: Trainer) -> tuple[Progress, Tensor]:
    """Those that the optimiser steps along, one after the other."""
    seen: list[Tensor] = []

    def look(*_: object) -> None:
        parameters = trainer.network.parameters()
        seen.append(torch.cat([p.grad.flatten().double() for p in parameters if p.grad is not None]))

    trainer._plain_optimiser.register_step_pre_hook(look)
    return trainer.train_step(), seen[0]


def test_a_long_gradient_is_cut_to_clip_norm_and_keeps_its_direction(tmp_path: Path) -> None:
    whole, gradient = gradients_of_a_step(trainer_with(tmp_path, clip_norm=1e6))
    length = float(gradient.norm())
    assert whole.gradient == pytest.approx(length, rel=1e-5) and length > 0.1
    clipped, cut = gradients_of_a_step(trainer_with(tmp_path, clip_norm=0.05))
    assert clipped.gradient == pytest.approx(length, rel=1e-5)
    assert float(cut.norm()) == pytest.approx(0.05, rel=1e-4)
    assert float((cut - gradient * 0.05 / length).norm()) < 1e-5


class Trunk(nn.Module):
    """The names that count: before the blocks, two blocks, and what lies beside the trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = nn.Module()
        trunk = self.image_encoder.trunk = nn.Module()
        trunk.pos_embed = nn.Parameter(torch.zeros(1, 3))
        trunk.patch_embed = nn.Linear(2, 2)
        trunk.blocks = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        self.image_encoder.neck = nn.Linear(2, 2)


def test_layers_of_the_trunk_learn_the_slower_the_earlier_they_are() -> None:
    """And matrices alone decay."""
    network = Trunk()
    scales = layer_scales(network, 0.5)  # type: ignore[arg-type]
    trunk = "image_encoder.trunk."
    assert {name.removeprefix(trunk): scale for name, scale in scales.items()} == {
        "pos_embed": 1.0,
        "patch_embed.weight": 0.125,
        "patch_embed.bias": 0.125,
        "blocks.0.weight": 0.25,
        "blocks.0.bias": 0.25,
        "blocks.1.weight": 0.5,
        "blocks.1.bias": 0.5,
    }
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = {
        names[id(parameter)].removeprefix(trunk): (group[RATE_SCALE], group["weight_decay"])
        for group in parameter_groups(dict(network.named_parameters()), scales, 0.1)
        for parameter in group["params"]
    }
    assert len(found) == len(names)
    assert found["patch_embed.weight"] == (0.125, 0.1) and found["patch_embed.bias"] == (0.125, 0.0)
    assert found["pos_embed"] == (1.0, 0.1) and found["blocks.1.bias"] == (0.5, 0.0)
    assert found["image_encoder.neck.weight"] == (1.0, 0.1)


def test_each_parameter_moves_by_the_rate_of_the_step_and_its_layer(tmp_path: Path) -> None:
    """Adam's first step moves by the rate, whatever the gradient is."""
    trainer = trainer_with(tmp_path, layer_decay=0.5, weight_decay=0.0)
    scales = layer_scales(trainer.network, 0.5)
    trained = trained_parameters(trainer.network, ())
    before = {name: parameter.detach().clone() for name, parameter in trained.items()}
    rate = learning_rate(trainer.config, 0)
    trainer.train_step()
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in trained.items()}
    checked = [
        scales.get(name, 1.0)
        for name, distance in moved.items()
        if distance and distance == pytest.approx(rate * scales.get(name, 1.0), rel=0.02)
    ]
    assert (
        len(checked) > 0.8 * len(moved) and set(checked) == {1.0, *scales.values()} and len(set(checked)) > 3
    )
    assert all(distance < 1.02 * rate * scales.get(name, 1.0) for name, distance in moved.items())


def test_the_average_follows_the_weights_as_its_formula_says(tmp_path: Path) -> None:
    """It keeps the smaller of `ema` and (1 + step) / (10 + step); it is what is written, and not the last weights."""
    trainer = trainer_with(tmp_path, ema=0.2, learning_rate=1e-2)
    expected = {name: value.double() for name, value in trainer.network.state_dict().items()}
    for keep in (1 / 10, 2 / 11, 0.2):
        trainer.train_step()
        weights = trainer.network.state_dict()
        expected = {name: keep * value + (1 - keep) * weights[name] for name, value in expected.items()}
    write_weights(trainer, tmp_path / "weights.safetensors", "CC0-1.0", {})
    written = load_file(tmp_path / "weights.safetensors")
    weights = trainer.network.state_dict()
    assert max(float((trainer.average[name] - value).abs().max()) for name, value in expected.items()) < 1e-6
    assert max(float((weights[name] - value).abs().max()) for name, value in expected.items()) > 1e-4
    assert all(torch.equal(written[name], trainer.average[name]) for name in written)
