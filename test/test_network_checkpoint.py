"""Weights files: what fits is loaded whole, what does not is explained, and nothing in a file is ever run."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sam2s_ros.network import Sam2Network, build_network
from sam2s_ros.network.checkpoint import (
    CheckpointError,
    detect_preset,
    load_checkpoint,
    read_metadata,
    save_checkpoint,
    weights_sha256,
)
from sam2s_ros.network.fit import preset_shapes
from sam2s_ros.network.presets import PRESETS

State = dict[str, Tensor]
WIDTH = PRESETS["nano"].hidden_dim


@pytest.fixture(scope="module")
def state() -> State:
    """Weights of a nano network, all different from a freshly built one."""
    torch.manual_seed(5)
    return {name: torch.randn_like(tensor) for name, tensor in build_network("nano").state_dict().items()}


@pytest.fixture
def saved(tmp_path: Path, state: State) -> Path:
    path = tmp_path / "nano.safetensors"
    save_checkpoint(path, state, preset="nano", licence="Apache-2.0", extra={"commit": "abc"})
    return path


def assert_holds(network: Sam2Network, state: State) -> None:
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_saved_weights_come_back_bit_for_bit(saved: Path, state: State) -> None:
    assert_holds(build_network("nano", checkpoint=saved), state)


def test_metadata_says_preset_licence_checksum_and_origin(saved: Path, state: State) -> None:
    metadata = read_metadata(saved)
    assert metadata is not None
    assert (metadata.preset, metadata.licence) == ("nano", "Apache-2.0")
    assert metadata.weights_sha256 == weights_sha256(state)
    assert metadata.extra == {"commit": "abc"}


def test_saving_twice_gives_the_same_bytes(saved: Path, state: State, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    for _ in range(3):
        save_checkpoint(again, state, preset="nano", licence="Apache-2.0", extra={"commit": "abc"})
        assert again.read_bytes() == saved.read_bytes()


def test_saving_leaves_no_other_file(saved: Path) -> None:
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_checksum_is_that_of_the_tensor_bytes_in_key_order() -> None:
    state = {"b": torch.tensor([3.0]), "a": torch.tensor([[1.0, 2.0]]).T}
    expected = hashlib.sha256(torch.tensor([1.0, 2.0, 3.0]).numpy().tobytes()).hexdigest()
    assert weights_sha256(state) == expected


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize(
    "wrap", [lambda state: state, lambda state: {"model": state}], ids=["plain", "official"]
)
def test_pytorch_files_load(
    tmp_path: Path, state: State, suffix: str, wrap: Callable[[State], object]
) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(wrap(state), path)
    network = build_network("nano")
    metadata = load_checkpoint(network, path)
    assert_holds(network, state)
    assert metadata.licence == "unknown"
    assert metadata.weights_sha256 == weights_sha256(state)


def test_half_precision_files_load_into_float32(tmp_path: Path, state: State) -> None:
    path = tmp_path / "half.pt"
    torch.save({name: tensor.half() for name, tensor in state.items()}, path)
    network = build_network("nano", checkpoint=path)
    assert_holds(network, {name: tensor.half().float() for name, tensor in state.items()})


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_preset_is_told_from_names_and_shapes(tmp_path: Path, state: State, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"model": state}, path)
    else:
        save_file(state, path)
    assert detect_preset(path) == "nano"


def test_misfits_are_listed_and_nothing_is_loaded(tmp_path: Path, state: State) -> None:
    wrong = dict(state)
    del wrong["no_mem_embed"]
    wrong["stranger.weight"] = torch.zeros(2)
    wrong["no_obj_ptr"] = torch.zeros(1, 7)
    path = tmp_path / "wrong.safetensors"
    save_file(wrong, path)
    network = build_network("nano")
    before = weights_sha256(network.state_dict())
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(network, path)
    message = str(caught.value)
    assert str(path) in message
    assert f"missing 1 of {len(state)}: no_mem_embed" in message
    assert f"unexpected 1 of {len(state)}: stranger.weight" in message
    assert f"wrong shape 1 of {len(state)}: no_obj_ptr [1, 7] instead of [1, {WIDTH}]" in message
    assert f"closest preset is nano: {len(state) - 2} of its {len(state)}" in message
    assert weights_sha256(network.state_dict()) == before
    with pytest.raises(CheckpointError) as caught:
        detect_preset(path)
    assert "Compared with nano:" in str(caught.value) and "no_mem_embed" in str(caught.value)
    assert "stranger.weight" in str(caught.value) and "no_obj_ptr [1, 7]" in str(caught.value)


def test_one_tensor_too_many_is_named_though_all_others_fit(tmp_path: Path, state: State) -> None:
    path = tmp_path / "more.safetensors"
    save_file({**state, "stranger.weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"unexpected 1 of \d+: stranger\.weight"):
        detect_preset(path)


def test_weights_of_another_preset_are_named(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in preset_shapes("sam2.1_hiera_t").items()}, path)
    with pytest.raises(CheckpointError, match=r"weights of preset sam2\.1_hiera_t; ask for that preset"):
        load_checkpoint(build_network("nano"), path)


def test_long_lists_are_cut(tmp_path: Path, state: State) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({f"vision.layer{i}": torch.zeros(1) for i in range(40)}, path)
    with pytest.raises(
        CheckpointError, match=r"unexpected 40 of 40: .*and 30 more\n.*not weights of a SAM 2\.1"
    ):
        load_checkpoint(build_network("nano"), path)
    with pytest.raises(CheckpointError, match=r"fits no preset\. These are not weights of a SAM 2\.1"):
        detect_preset(path)


def test_sam_2_0_weights_are_recognised(tmp_path: Path) -> None:
    added = ("no_obj_embed_spatial", "obj_ptr_tpos_proj")
    shapes = {
        name: shape for name, shape in preset_shapes("sam2.1_hiera_t").items() if not name.startswith(added)
    }
    path = tmp_path / "sam2_hiera_tiny.pt"
    torch.save({"model": {name: torch.zeros(shape) for name, shape in shapes.items()}}, path)
    with pytest.raises(CheckpointError, match=r"SAM 2\.0's version of sam2\.1_hiera_t"):
        detect_preset(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, state: State, value: float) -> None:
    path = tmp_path / "diverged.pt"
    torch.save({**state, "no_obj_ptr": torch.full((1, WIDTH), value)}, path)
    with pytest.raises(CheckpointError, match="no_obj_ptr holds NaN or infinity"):
        load_checkpoint(build_network("nano"), path)


def test_integer_weights_are_refused(tmp_path: Path, state: State) -> None:
    path = tmp_path / "quantised.pt"
    torch.save({**state, "no_obj_ptr": torch.zeros(1, WIDTH, dtype=torch.int8)}, path)
    with pytest.raises(CheckpointError, match=r"no_obj_ptr is torch\.int8"):
        load_checkpoint(build_network("nano"), path)


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.zeros(1, WIDTH).to(torch.float8_e4m3fn), r"no_obj_ptr is torch\.float8_e4m3fn"),
        (torch.zeros(1, WIDTH).to_sparse(), r"no_obj_ptr is sparse .*to_dense"),
    ],
    ids=["float8", "sparse"],
)
def test_tensors_that_cannot_be_checked_are_refused(
    tmp_path: Path, state: State, tensor: Tensor, reason: str
) -> None:
    path = tmp_path / "strange.pt"
    torch.save({**state, "no_obj_ptr": tensor}, path)
    with pytest.raises(CheckpointError, match=reason):
        load_checkpoint(build_network("nano"), path)


def test_metadata_whose_extra_is_no_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "extra.safetensors"
    metadata = {
        "preset": "nano",
        "licence": "x",
        "weights_sha256": "0",
        "format_version": "1",
        "extra": "[1]",
    }
    save_file({"a": torch.zeros(1)}, path, metadata)
    with pytest.raises(CheckpointError, match=r"extra\.safetensors has metadata.*extra is a JSON list"):
        read_metadata(path)


def test_a_tilde_is_the_home_folder(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(saved.parent))
    assert detect_preset(f"~/{saved.name}") == "nano"


def test_a_flipped_byte_is_found(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-6] ^= 1
    saved.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(build_network("nano"), saved)


@pytest.mark.parametrize("kept", [0.9, 0.2, 0.001])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_file_cut_short_is_named(
    tmp_path: Path, saved: Path, state: State, suffix: str, kept: float
) -> None:
    path = tmp_path / f"cut{suffix}"
    if suffix == ".pt":
        torch.save(state, path)
    else:
        path.write_bytes(saved.read_bytes())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(CheckpointError, match=r"cut\.\w+ is not a complete"):
        load_checkpoint(build_network("nano"), path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.pt", b"", "is empty"),
        ("noise.pt", bytes(range(256)) * 8, "not a complete PyTorch file"),
        ("noise.safetensors", bytes(range(256)) * 8, "not a complete safetensors file"),
        ("page.pt", b"<!DOCTYPE html><html>sign in</html>", "is a web page"),
        (
            "pointer.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "git lfs pull",
        ),
        ("weights.onnx", b"onnx", "known are .safetensors, .pt, .pth"),
        ("number.pt", pickle.dumps(3, protocol=2), "not a complete PyTorch file"),
    ],
)
def test_foreign_files_are_refused_with_the_reason(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for read in (detect_preset, lambda path: load_checkpoint(build_network("nano"), path)):
        with pytest.raises(CheckpointError) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert reason in str(caught.value)


def test_a_folder_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder"):
        load_checkpoint(build_network("nano"), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no weights file .*absent\.pt"):
        load_checkpoint(build_network("nano"), tmp_path / "absent.pt")


class Call:
    """Unpickling this calls a function."""

    def __init__(self, function: Callable[..., object], *arguments: str) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return self.call


@pytest.mark.parametrize("function", [open, os.system], ids=["open", "system"])
def test_code_in_a_file_is_refused_and_not_run(
    tmp_path: Path, state: State, function: Callable[..., object]
) -> None:
    trace = tmp_path / "trace"
    arguments = (str(trace), "w") if function is open else (f"touch {trace}",)
    path = tmp_path / "malicious.pt"
    torch.save({"model": state, "hook": Call(function, *arguments)}, path)
    with pytest.raises(CheckpointError, match=rf"asks to run code on loading \(\S*{function.__name__}\)"):
        load_checkpoint(build_network("nano"), path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "holds no state dict"),
        ({}, "holds no state dict"),
        ({"model": {}, "epoch": 3}, "holds no state dict"),
        ({"optimizer": {"lr": 1.0}, "epoch": 3}, r"entries that are no tensors \(optimizer, epoch\)"),
    ],
)
def test_pytorch_files_without_a_state_dict_are_refused(tmp_path: Path, content: object, reason: str) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=reason):
        load_checkpoint(build_network("nano"), path)


def test_a_newer_format_is_refused(tmp_path: Path, state: State) -> None:
    path = tmp_path / "newer.safetensors"
    metadata = {"preset": "nano", "licence": "x", "weights_sha256": "0", "format_version": "99"}
    save_file(state, path, metadata)
    with pytest.raises(CheckpointError, match="format version 99"):
        load_checkpoint(build_network("nano"), path)


def test_saving_refuses_what_does_not_fit(tmp_path: Path, state: State) -> None:
    incomplete = {name: tensor for name, tensor in state.items() if name != "no_mem_embed"}
    with pytest.raises(CheckpointError, match="missing 1 of .*no_mem_embed"):
        save_checkpoint(tmp_path / "a.safetensors", incomplete, preset="nano", licence="MIT")
    with pytest.raises(CheckpointError, match=r"name the file a\.safetensors"):
        save_checkpoint(tmp_path / "a.pt", state, preset="nano", licence="MIT")
    with pytest.raises(CheckpointError, match="need a licence"):
        save_checkpoint(tmp_path / "a.safetensors", state, preset="nano", licence=" ")
    assert list(tmp_path.iterdir()) == []
