"""A class reader says what objects are and has no part in their masks; weights have all of it or none."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from tracking_cases import CLASSES, READING, SEMANTIC, SMALL, small_network

from sam2s_ros.data.long_videos import LongVideos
from sam2s_ros.network import ClassBank, Decoded, Sam2Network, build_network
from sam2s_ros.network.checkpoint import CheckpointError, detect_preset, load_checkpoint, save_checkpoint
from sam2s_ros.network.class_bank import METADATA_KEY
from sam2s_ros.network.class_reader import SIDE, square_around_tip
from sam2s_ros.tracking.loader import load_network
from sam2s_ros.training.clip_loss import normalise

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
    given = network.mask_as_output(f.f2, f.f0, f.f1, squares(), f.pixels)
    points, labels = torch.tensor([[[30.0, 30]], [[90, 90]]]), torch.tensor([[1], [1]])
    start = network.without_memory(f.f2.expand(2, -1, -1, -1))
    clicked = network.decode(start, f.f0, f.f1, points, labels, None, True, f.pixels)
    entries = [network.encode_memory(f.f2, one.high_res, one.object_score) for one in (given, clicked)]
    index, distance = torch.tensor([[6, 0]]).expand(2, -1), torch.ones(2, 1)
    conditioned = network.attend_memory(
        f.f2, torch.stack(entries, 1), index, None, clicked.pointer[:, None], distance, None
    )
    return [given, clicked, network.decode(conditioned, f.f0, f.f1, None, None, None, True, f.pixels)]


def test_every_mask_score_and_pointer_is_that_without_the_reader_bit_for_bit() -> None:
    reading = small_network(config=READING)
    plain = Sam2Network(SMALL).eval()
    shared = {name: value for name, value in reading.state_dict().items() if name in plain.state_dict()}
    plain.load_state_dict(shared, strict=True)
    for ours, expected in zip(answers(reading), answers(plain), strict=True):
        for part in ("logits", "high_res", "iou", "object_score", "pointer"):
            assert torch.equal(getattr(ours, part), getattr(expected, part)), part
        assert expected.embedding is None
        assert ours.embedding is not None and ours.embedding.shape == (2, 24)
        torch.testing.assert_close(ours.embedding.norm(dim=1), torch.ones(2))


def test_what_is_new_in_the_state_dict_is_named_after_classes() -> None:
    new = set(Sam2Network(READING).state_dict()) - set(Sam2Network(SMALL).state_dict())
    assert {name.split(".")[1] for name in new} == {"class_reader", "class_embeddings"}
    assert {name.split(".")[0] for name in new} == {"sam2s"}


def rod(angle: float, size: int = 64) -> Tensor:
    """A rod from an edge of the image to its middle at an angle, degrees from the right downwards, as [1, 1, a, a]."""
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    along, across = x * cosine + y * sine, y * cosine - x * sine
    return ((along < 0) & (across.abs() < 0.1)).float()[None, None]


@pytest.mark.parametrize("angle", range(0, 360, 30))
def test_the_square_lies_around_the_tip_and_along_the_object(angle: int) -> None:
    """Its middle is near the tip, within the rod, and its first axis points as the rod does."""
    grid = square_around_tip(rod(angle))[0]
    assert grid.shape == (SIDE, SIDE, 2)
    direction = torch.tensor([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
    middle = grid.mean(dim=(0, 1))
    assert -0.3 < float(middle @ direction) < 0 and (middle - (middle @ direction) * direction).norm() < 0.04
    along = grid[0, -1] - grid[0, 0]
    assert float(along @ direction / along.norm()) > 0.98
    assert abs(float(along @ (grid[-1, 0] - grid[0, 0]))) < 1e-4


@torch.no_grad()
def test_an_object_is_read_where_its_tip_is() -> None:
    """Another image far from the tip changes nothing, one at the tip does."""
    reader = small_network(config=READING).sam2s.class_reader
    assert reader is not None
    logits = 40 * rod(0)[0] - 20
    there = torch.zeros(128, 128, dtype=torch.bool)
    there[24:104, 24:104] = True
    said = reader(IMAGE, logits)
    assert torch.equal(reader(torch.where(there, IMAGE, -IMAGE), logits), said)
    assert (reader(torch.where(there, -IMAGE, IMAGE), logits) - said).norm() > 0.05


@torch.no_grad()
def test_an_empty_mask_has_an_embedding_without_a_number_that_is_none() -> None:
    reader = small_network(config=READING).sam2s.class_reader
    assert reader is not None
    for level in (-1024.0, -20.0, 0.0, 20.0):
        assert bool(torch.isfinite(reader(IMAGE, torch.full((2, 32, 32), level))).all())


@torch.no_grad()
def test_the_image_is_kept_for_a_reader_alone() -> None:
    kept = small_network(config=READING).encode_image(IMAGE).pixels
    assert kept is not None and torch.equal(kept, IMAGE)
    assert small_network(config=SEMANTIC).encode_image(IMAGE).pixels is None


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "reading.safetensors"
    state = build_network("nano", class_bank=BANK, class_reader=True).state_dict()
    save_checkpoint(path, state, "nano", "CC0-1.0", {METADATA_KEY: BANK.facts()})
    return path


def test_weights_with_a_reader_say_so(weights: Path) -> None:
    assert detect_preset(weights) == "nano"
    network = build_network("nano", weights)
    assert network.config.class_reader and network.config.class_names == CLASSES
    assert network.sam2s.class_token is None
    assert all(torch.equal(network.state_dict()[name], value) for name, value in load_file(weights).items())


def test_weights_with_a_reader_that_lack_a_part_or_are_for_a_token_do_not_load(
    weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"missing .*class_token"):
        load_checkpoint(build_network("nano", class_bank=BANK), weights)
    state = load_file(weights)
    del state["sam2s.class_reader.out.bias"]
    with pytest.raises(CheckpointError, match=r"missing .*class_reader\.out\.bias"):
        save_checkpoint(tmp_path / "cut.safetensors", state, "nano", "CC0-1.0", {METADATA_KEY: BANK.facts()})


def test_weights_that_know_no_class_get_a_new_reader_and_keep_the_rest(tmp_path: Path) -> None:
    state, path = build_network("nano").state_dict(), tmp_path / "sam2.safetensors"
    save_checkpoint(path, state, "nano", "CC0-1.0")
    network = build_network("nano", path, class_bank=BANK, class_reader=True)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in state.items())
    assert network.config.class_reader and not network.config.has_class_token


def test_a_reader_without_a_bank_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="no class bank"):
        replace(SMALL, class_reader=True)


@torch.no_grad()
def test_the_bundled_weights_tell_instruments_of_the_validation_designs_apart() -> None:
    """Of masks given as the answer, on one frame of each of 30 surgeries; chance is 1 of 37."""
    network = load_network("nano")
    names, embeddings = network.config.class_names, network.sam2s.class_embeddings
    assert embeddings is not None
    videos = LongVideos(seeds=tuple(range(200, 230)), size=(256, 256), frames=250, split="validation")
    right = []
    for seed in videos.seeds:
        surgery = videos.surgery(seed)
        frame, labels = surgery.render(10.0)
        f = network.encode_image(normalise(torch.from_numpy(frame)[None], network))
        for place, member in enumerate(surgery.cast, start=1):
            mask = torch.from_numpy(labels == place).float()[None, None]
            if mask.mean() > videos.prompt_area:
                said = network.mask_as_output(f.f2, f.f0, f.f1, mask, f.pixels).embedding
                assert said is not None
                right.append(names[int((said @ embeddings.T).argmax())] == member.name)
    assert len(right) > 40 and sum(right) / len(right) > 0.65
