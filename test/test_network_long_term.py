"""Long-term memory entries have a temporal embedding of their own where the network has one, and only there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from tracking_cases import SMALL

from sam2s_ros.network import PRESETS, Sam2Network, build_network
from sam2s_ros.network.checkpoint import CheckpointError, detect_preset, load_checkpoint, save_checkpoint
from sam2s_ros.network.semantics import LONG_TERM_TPOS

CONDITIONING, LONG_TERM = SMALL.num_maskmem - 1, SMALL.num_maskmem


def network_with(long_term: bool) -> Sam2Network:
    torch.manual_seed(0)
    return Sam2Network(replace(SMALL, long_term=long_term)).eval()


@torch.no_grad()
def attended(network: Sam2Network, index: int) -> Tensor:
    """Features conditioned on two entries, the second of this temporal index."""
    generator = torch.Generator().manual_seed(1)
    c, cm, side = SMALL.hidden_dim, SMALL.memory_dim, SMALL.feature_size
    return network.attend_memory(
        torch.randn(1, c, side, side, generator=generator),
        torch.randn(1, 2, side * side, cm, generator=generator),
        torch.tensor([[0, index]]),
        None,
        torch.randn(1, 1, c, generator=generator),
        torch.ones(1, 1),
        None,
    ).features


def test_the_state_dict_has_one_more_key_with_long_term_memory_and_no_other_value_differs() -> None:
    plain, extended = network_with(False).state_dict(), network_with(True).state_dict()
    assert set(extended) - set(plain) == {LONG_TERM_TPOS} == {"sam2s.long_term_tpos"}
    assert all(torch.equal(extended[name], value) for name, value in plain.items())
    assert torch.equal(extended[LONG_TERM_TPOS], plain["maskmem_tpos_enc"][-1:])


def test_without_an_embedding_of_their_own_they_are_read_as_conditioning_entries() -> None:
    network = network_with(False)
    assert torch.equal(attended(network, LONG_TERM), attended(network, CONDITIONING))


@torch.no_grad()
def test_their_own_embedding_counts_for_them_alone() -> None:
    network = network_with(True)
    before = attended(network, CONDITIONING)
    network.sam2s.long_term_tpos.add_(torch.randn(SMALL.memory_dim), alpha=3.0)
    assert torch.equal(attended(network, CONDITIONING), before)
    assert not torch.equal(attended(network, LONG_TERM), before)


def test_their_own_embedding_is_learnt() -> None:
    network = network_with(True)
    network.temporal_embeddings()[LONG_TERM].sum().backward()
    gradient = network.sam2s.long_term_tpos.grad
    assert gradient is not None and gradient.abs().sum() > 0
    assert network.maskmem_tpos_enc.grad is not None and not network.maskmem_tpos_enc.grad.any()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_say_whether_they_have_long_term_memory(tmp_path: Path, suffix: str) -> None:
    network = Sam2Network(replace(PRESETS["nano"], long_term=True))
    network.sam2s.long_term_tpos.data.fill_(0.25)
    path = tmp_path / f"trained{suffix}"
    if suffix == ".pt":
        torch.save(network.state_dict(), path)
    else:
        save_checkpoint(path, network.state_dict(), "nano", "CC0-1.0")
    assert detect_preset(path) == "nano"
    loaded = build_network("nano", path)
    assert loaded.config.long_term
    assert bool((loaded.sam2s.long_term_tpos == 0.25).all())
    with pytest.raises(CheckpointError, match="the weights of preset nano with long-term memory"):
        load_checkpoint(build_network("nano"), path)


def test_from_weights_without_it_the_embedding_starts_as_that_of_conditioning_frames(tmp_path: Path) -> None:
    state, path = build_network("nano").state_dict(), tmp_path / "sam2.safetensors"
    save_checkpoint(path, state, "nano", "CC0-1.0")
    assert not build_network("nano", path).config.long_term
    network = Sam2Network(replace(PRESETS["nano"], long_term=True))
    load_checkpoint(network, path)
    assert torch.equal(network.sam2s.long_term_tpos, state["maskmem_tpos_enc"][-1:])
