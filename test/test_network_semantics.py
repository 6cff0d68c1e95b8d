"""A class token goes through the network without touching image features; a bank's names never leave their rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from tracking_cases import CLASSES, SEMANTIC, SMALL, small_network

from sam2s_ros.network import ClassBank, Conditioned, Sam2Network, build_network
from sam2s_ros.network.checkpoint import (
    CheckpointError,
    detect_preset,
    load_checkpoint,
    read_checkpoint_bank,
    save_checkpoint,
)
from sam2s_ros.network.class_bank import CLASS_EMBEDDINGS, METADATA_KEY, read_class_bank, write_class_bank
from sam2s_ros.network.layers import Attention
from sam2s_ros.training.embed_classes import put_into_weights

BANK = ClassBank(CLASSES, torch.eye(3, 8), "hand", "a {}")


def network_with(semantic: bool) -> Sam2Network:
    torch.manual_seed(0)
    return Sam2Network(SEMANTIC if semantic else SMALL).eval()


@torch.no_grad()
def attended(network: Sam2Network, objects: int = 2, memory_seed: int = 1) -> Conditioned:
    """A frame conditioned on two entries and a pointer, one of each object not valid."""
    c, cm, side = SMALL.hidden_dim, SMALL.memory_dim, SMALL.feature_size
    frame, generator = torch.Generator().manual_seed(0), torch.Generator().manual_seed(memory_seed)
    return network.attend_memory(
        torch.randn(1, c, side, side, generator=frame),
        torch.randn(objects, 2, side * side, cm, generator=generator),
        torch.tensor([[6, 0]]).expand(objects, -1),
        torch.tensor([[True, False]]).expand(objects, -1),
        torch.randn(objects, 1, c, generator=generator),
        torch.ones(objects, 1),
        None,
    )


def test_without_a_bank_the_state_dict_has_no_new_key_and_with_one_no_other_value_differs() -> None:
    plain, extended = network_with(False).state_dict(), network_with(True).state_dict()
    names = ("class_token", "class_projection.weight", "class_projection.bias", "class_embeddings")
    assert set(extended) - set(plain) == {f"sam2s.{name}" for name in names}
    assert not any(name.startswith("sam2s.") for name in plain)
    assert all(torch.equal(extended[name], value) for name, value in plain.items())
    assert extended[CLASS_EMBEDDINGS].shape == (3, 24)


def test_image_features_before_the_decoder_are_those_without_the_token_bit_for_bit() -> None:
    plain, semantic = attended(network_with(False)), attended(network_with(True))
    assert torch.equal(plain.features, semantic.features)
    assert plain.class_token is None
    assert semantic.class_token is not None and semantic.class_token.shape == (2, 1, SMALL.hidden_dim)


def test_the_token_depends_on_what_each_object_remembers() -> None:
    token = attended(small_network(config=SEMANTIC)).class_token
    other = attended(small_network(config=SEMANTIC), memory_seed=2).class_token
    assert token is not None and other is not None
    assert (token[0] - token[1]).abs().max() > 1e-3
    assert (token - other).abs().max() > 1e-3


@torch.no_grad()
def test_the_token_attends_as_any_query_does_without_rotation() -> None:
    """Projecting the few tokens instead of the many keys gives the same numbers, with bias and without."""
    attention = small_network(config=SEMANTIC).memory_attention.layers[0].cross_attn_image
    token, keys = torch.randn(2, 1, SMALL.hidden_dim), torch.randn(2, 50, SMALL.memory_dim)
    values = torch.randn(2, 50, SMALL.memory_dim)
    for bias in (None, torch.randn(2, 1, 1, 50)):
        expected = Attention.forward(attention, token, keys, values, bias)
        torch.testing.assert_close(
            attention.unplaced(token, keys, values, bias), expected, rtol=1e-4, atol=1e-5
        )


def decoded(network: Sam2Network, conditioned: Conditioned) -> tuple[Tensor, Tensor]:
    c, side = SMALL.hidden_dim, SMALL.feature_size
    generator = torch.Generator().manual_seed(3)
    f0 = torch.randn(1, c // 8, 4 * side, 4 * side, generator=generator)
    f1 = torch.randn(1, c // 4, 2 * side, 2 * side, generator=generator)
    with torch.no_grad():
        answer = network.decode(conditioned, f0, f1, None, None, None, multimask=True)
    assert answer.embedding is not None
    return answer.logits, answer.embedding


def test_the_token_goes_through_the_decoder_and_comes_out_as_an_embedding_of_length_1() -> None:
    network = small_network(config=SEMANTIC)
    conditioned = attended(network)
    logits, embedding = decoded(network, conditioned)
    assert embedding.shape == (2, 24)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))
    assert conditioned.class_token is not None
    other = replace(conditioned, class_token=conditioned.class_token + 1.0)
    other_logits, other_embedding = decoded(network, other)
    assert (other_embedding - embedding).abs().max() > 1e-3, "what went in comes out"
    assert not torch.equal(other_logits, logits), "the decoder's other tokens look at it"


@torch.no_grad()
def test_without_memory_the_learnt_token_enters_the_decoder() -> None:
    network = small_network(config=SEMANTIC)
    side = SMALL.feature_size
    conditioned = network.without_memory(torch.randn(2, SMALL.hidden_dim, side, side))
    assert conditioned.class_token is network.sam2s.class_token
    assert decoded(network, conditioned)[1].shape == (2, 24)


@torch.no_grad()
def test_a_given_mask_has_an_embedding_too_and_a_plain_network_never_has() -> None:
    image, mask = torch.randn(1, 3, 128, 128), torch.zeros(2, 1, 128, 128)
    mask[0, 0, 30:80, 40:90] = 1
    for config, shape in ((SEMANTIC, (2, 24)), (SMALL, None)):
        network = small_network(config=config)
        f = network.encode_image(image)
        embedding = network.mask_as_output(f.f2, f.f0, f.f1, mask).embedding
        assert (None if embedding is None else tuple(embedding.shape)) == shape


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "semantic.safetensors"
    state = build_network("nano", class_bank=BANK).state_dict()
    save_checkpoint(path, state, "nano", "CC0-1.0", {METADATA_KEY: BANK.facts(), "step": 3})
    return path


def rewritten(path: Path, facts: dict) -> Path:
    """The same tensors, with other facts about their bank."""
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    metadata["extra"] = json.dumps({METADATA_KEY: facts})
    save_file(load_file(path), path, metadata=metadata)
    return path


def test_weights_say_which_classes_they_know(weights: Path) -> None:
    network = build_network("nano", weights)
    assert network.config.class_names == CLASSES and network.config.semantic_dim == 8
    assert torch.equal(network.sam2s.class_embeddings, BANK.embeddings)
    assert detect_preset(weights) == "nano"
    with pytest.raises(CheckpointError, match="the weights of preset nano with a class bank"):
        load_checkpoint(build_network("nano"), weights)


@pytest.mark.parametrize(
    "facts",
    [
        {**BANK.facts(), "names": ["grasper", "hook", "liver"]},
        replace(BANK, embeddings=BANK.embeddings.flip(0)).facts(),
        ClassBank(CLASSES[:2], BANK.embeddings[:2], "hand", "a {}").facts(),
    ],
    ids=["names in another order", "embeddings in another order", "fewer"],
)
def test_names_that_do_not_belong_to_the_embeddings_are_refused(weights: Path, facts: dict) -> None:
    with pytest.raises(CheckpointError, match=r"semantic\.safetensors: the names of the class bank"):
        build_network("nano", rewritten(weights, facts))


def test_embeddings_without_names_are_neither_written_nor_loaded(weights: Path, tmp_path: Path) -> None:
    state = build_network("nano", weights).state_dict()
    with pytest.raises(CheckpointError, match="without the names of their rows"):
        save_checkpoint(tmp_path / "other.safetensors", state, "nano", "CC0-1.0", {"step": 3})
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="without the names of their rows"):
        build_network("nano", tmp_path / "other.pt")


def test_a_network_of_other_classes_does_not_take_the_weights(weights: Path) -> None:
    network = build_network("nano", class_bank=replace(BANK, names=("grasper", "hook", "liver")))
    with pytest.raises(CheckpointError, match="other classes, or others in another order"):
        load_checkpoint(network, weights)


def test_weights_without_a_class_token_get_a_new_small_one_and_keep_the_rest(tmp_path: Path) -> None:
    state, path = build_network("nano").state_dict(), tmp_path / "sam2.safetensors"
    save_checkpoint(path, state, "nano", "CC0-1.0")
    network = build_network("nano", path, class_bank=BANK)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in state.items())
    assert network.sam2s.class_token is not None and 0 < network.sam2s.class_token.abs().max() < 0.2
    assert torch.equal(network.sam2s.class_embeddings, BANK.embeddings)


def test_another_bank_of_the_same_encoder_takes_the_place_of_the_weights_own(
    weights: Path, tmp_path: Path
) -> None:
    other = ClassBank(("stapler", *CLASSES), torch.eye(4, 8), "hand", "a {}")
    put_into_weights(other, weights, tmp_path / "new.safetensors")
    bank, network = (
        read_checkpoint_bank(tmp_path / "new.safetensors"),
        build_network("nano", weights, False, other),
    )
    assert bank is not None and bank.names == network.config.class_names == other.names
    state, new = load_file(weights), load_file(tmp_path / "new.safetensors")
    assert {name for name in state if not torch.equal(state[name], new[name])} == {CLASS_EMBEDDINGS}
    assert load_checkpoint(network, tmp_path / "new.safetensors").extra["step"] == 3
    with pytest.raises(ValueError, match="were trained with hand"):
        put_into_weights(replace(other, encoder="another"), weights, tmp_path / "wrong.safetensors")


def test_a_bank_reads_as_it_was_written_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    write_class_bank(path, BANK)
    again = read_class_bank(path)
    assert again.facts() == BANK.facts() and torch.equal(again.embeddings, BANK.embeddings)
    facts = json.dumps({**BANK.facts(), "names": ["grasper", "hook", "liver"]})
    save_file({CLASS_EMBEDDINGS: BANK.embeddings}, path, metadata={METADATA_KEY: facts})
    with pytest.raises(ValueError, match=r"bank\.safetensors: the names of the class bank"):
        read_class_bank(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ("hook", "hook", "liver")}, "distinct"),
        ({"names": ("hook", "grasper")}, "2 names for embeddings"),
        ({"embeddings": 2 * torch.eye(3, 8)}, "not of length 1"),
    ],
)
def test_a_bank_that_makes_no_sense_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(BANK, **changes)
