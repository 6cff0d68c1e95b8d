"""`sam2s convert` writes safetensors that say what they are, and explains what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sam2s_ros.cli import main
from sam2s_ros.network import build_network
from sam2s_ros.network.checkpoint import load_checkpoint, read_metadata, weights_sha256


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return build_network("nano").state_dict()


@pytest.fixture
def official(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    """A file in the layout of the official checkpoints."""
    path = tmp_path / "official.pt"
    torch.save({"model": state}, path)
    return path


def test_converted_weights_load_and_say_what_they_are(
    official: Path, state: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "converted.safetensors"
    command = ["convert", str(official), str(output), "--preset", "nano", "--licence", "Apache-2.0"]
    assert main([*command, "--note", "source=official=file"]) == 0
    metadata = load_checkpoint(build_network("nano"), output)
    assert (metadata.preset, metadata.licence) == ("nano", "Apache-2.0")
    assert metadata.weights_sha256 == weights_sha256(state)
    assert metadata.extra == {"source": "official=file"}
    assert weights_sha256(state) in capsys.readouterr().out


def test_the_preset_is_told_from_the_tensors(official: Path, tmp_path: Path) -> None:
    output = tmp_path / "converted.safetensors"
    assert main(["convert", str(official), str(output), "--licence", "Apache-2.0"]) == 0
    metadata = read_metadata(output)
    assert metadata is not None and metadata.preset == "nano"


def test_converting_a_converted_file_keeps_its_origin(official: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    assert main(["convert", str(official), str(first), "--licence", "MIT", "--note", "source=x"]) == 0
    assert main(["convert", str(first), str(second)]) == 0
    assert second.read_bytes() == first.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "nano"], "does not say its licence"),
        (["--licence", "MIT", "--preset", "sam2.1_hiera_t"], "weights of preset nano; ask for that preset"),
        (["--licence", "MIT", "--note", "source"], "--note 'source' is not KEY=VALUE"),
    ],
)
def test_refusals_name_the_fix_and_write_nothing(
    official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    output = tmp_path / "out.safetensors"
    assert main(["convert", str(official), str(output), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_an_existing_output_is_kept_unless_forced(
    official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.safetensors"
    output.write_bytes(b"mine")
    command = ["convert", str(official), str(output), "--licence", "MIT"]
    assert main(command) == 2
    assert "give --force" in capsys.readouterr().err
    assert output.read_bytes() == b"mine"
    assert main([*command, "--force"]) == 0
    assert read_metadata(output) is not None
