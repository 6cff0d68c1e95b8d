"""A class map knows what objects are and has no part in their masks; weights have all of it or none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from tracking_cases import CLASSES, MAPPED, SEMANTIC, SMALL, small_network

from sam2s_ros.network import ClassBank, Decoded, Sam2Network, build_network
from sam2s_ros.network.checkpoint import CheckpointError, detect_preset, load_checkpoint, save_checkpoint
from sam2s_ros.network.class_bank import METADATA_KEY
from sam2s_ros.network.class_map import HEADS

BANK = ClassBank(CLASSES, torch.eye(3, 8), "hand", "a {}")
IMAGE = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))


def squares() -> Tensor:
    """Two masks that do not touch, [2, 1, S, S]."""
    masks = torch.zeros(2, 1, 128, 128)
    masks[0, 0, 8:56, 8:56] = masks[1, 0, 72:120, 72:120] = 1
    return masks


@torch.no_grad()
def answers(network: Sam2Network) -> list[Decoded]:
    """A mask given as the answer, clicks on the first frame, and a frame that reads the memory of both."""
    f = network.encode_image(IMAGE)
    given = network.mask_as_output(f.f2, f.f0, f.f1, squares(), f.class_map)
    points, labels = torch.tensor([[[30.0, 30]], [[90, 90]]]), torch.tensor([[1], [1]])
    start = network.without_memory(f.f2.expand(2, -1, -1, -1))
    clicked = network.decode(start, f.f0, f.f1, points, labels, None, True, f.class_map)
    entries = [network.encode_memory(f.f2, one.high_res, one.object_score) for one in (given, clicked)]
    index, distance = torch.tensor([[6, 0]]).expand(2, -1), torch.ones(2, 1)
    conditioned = network.attend_memory(
        f.f2, torch.stack(entries, 1), index, None, clicked.pointer[:, None], distance, None
    )
    return [given, clicked, network.decode(conditioned, f.f0, f.f1, None, None, None, True, f.class_map)]


def test_every_mask_score_and_pointer_is_that_without_the_map_bit_for_bit() -> None:
    mapped = small_network(config=MAPPED)
    plain = Sam2Network(SMALL).eval()
    shared = {name: value for name, value in mapped.state_dict().items() if name in plain.state_dict()}
    plain.load_state_dict(shared, strict=True)
    for ours, expected in zip(answers(mapped), answers(plain), strict=True):
        for part in ("logits", "high_res", "iou", "object_score", "pointer"):
            assert torch.equal(getattr(ours, part), getattr(expected, part)), part
        assert expected.embedding is None
        assert ours.embedding is not None and ours.embedding.shape == (2, 24)
        torch.testing.assert_close(ours.embedding.norm(dim=1), torch.ones(2))


def test_what_is_new_in_the_state_dict_is_named_after_classes() -> None:
    new = set(Sam2Network(MAPPED).state_dict()) - set(Sam2Network(SMALL).state_dict())
    assert {name.split(".")[1] for name in new} == {"class_map", "class_reader", "class_embeddings"}
    assert {name.split(".")[0] for name in new} == {"sam2s"}


@torch.no_grad()
def test_an_object_is_read_inside_of_its_mask() -> None:
    """Another map outside of the mask changes little, one inside of it much."""
    reader = small_network(config=MAPPED).sam2s.class_reader
    assert reader is not None
    class_map, other = torch.randn(2, 1, 16 + HEADS, 16, 16, generator=torch.Generator().manual_seed(1))
    logits = torch.full((1, 32, 32), -20.0)
    logits[0, 4:20, 4:20] = 20.0
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[2:10, 2:10] = True
    said = reader(class_map, logits)
    elsewhere = reader(torch.where(inside, class_map, other), logits)
    there = reader(torch.where(inside, other, class_map), logits)
    assert (elsewhere - said).norm() < 0.05 * (there - said).norm()


@torch.no_grad()
def test_the_map_is_of_the_image_and_at_stride_8() -> None:
    network = small_network(config=MAPPED)
    one, other = (network.encode_image(image).class_map for image in (IMAGE, -IMAGE))
    assert one is not None and one.shape == (1, 16 + HEADS, 16, 16)
    assert other is not None and (one - other).abs().max() > 0.01
    assert small_network(config=SEMANTIC).encode_image(IMAGE).class_map is None


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "mapped.safetensors"
    state = build_network("nano", class_bank=BANK, class_map=16).state_dict()
    save_checkpoint(path, state, "nano", "CC0-1.0", {METADATA_KEY: BANK.facts()})
    return path


def test_weights_with_a_map_say_so(weights: Path) -> None:
    assert detect_preset(weights) == "nano"
    network = build_network("nano", weights)
    assert network.config.class_map_dim == 16 and network.config.class_names == CLASSES
    assert network.sam2s.class_token is None
    assert all(torch.equal(network.state_dict()[name], value) for name, value in load_file(weights).items())


def test_weights_with_a_map_that_lack_a_part_or_are_for_a_token_do_not_load(
    weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"missing .*class_token"):
        load_checkpoint(build_network("nano", class_bank=BANK), weights)
    state = load_file(weights)
    del state["sam2s.class_reader.out.bias"]
    with pytest.raises(CheckpointError, match=r"missing .*class_reader\.out\.bias"):
        save_checkpoint(tmp_path / "cut.safetensors", state, "nano", "CC0-1.0", {METADATA_KEY: BANK.facts()})


def test_weights_that_know_no_class_get_a_new_map_and_keep_the_rest(tmp_path: Path) -> None:
    state, path = build_network("nano").state_dict(), tmp_path / "sam2.safetensors"
    save_checkpoint(path, state, "nano", "CC0-1.0")
    network = build_network("nano", path, class_bank=BANK, class_map=16)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in state.items())
    assert network.config.class_map_dim == 16 and not network.config.has_class_token


def test_a_map_without_a_bank_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="no class bank"):
        replace(SMALL, class_map_dim=16)
