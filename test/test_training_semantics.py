"""Temporal semantic learning in training: the loss is InfoNCE over the bank, and only what is known and seen counts."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sam2s_ros.network import build_network
from sam2s_ros.network.checkpoint import load_checkpoint, read_checkpoint_bank
from sam2s_ros.network.class_bank import CLASS_EMBEDDINGS, ClassBank, write_class_bank
from sam2s_ros.training.batches import batch_of
from sam2s_ros.training.clip_loss import clip_loss
from sam2s_ros.training.config import LossConfig, PromptConfig, StageConfig, TrainConfig
from sam2s_ros.training.loop import Trainer
from sam2s_ros.training.run_files import write_weights
from sam2s_ros.training.semantic_loss import UNLABELLED, SemanticSamples, info_nce, semantic_loss

NAMES = ("hook", "grasper", "liver")


class LabelledClip:
    """A square that moves over noise, and a second one that is only in the first frame."""

    def __init__(
        self, rng: np.random.Generator, length: int, size: int, class_names: tuple[str, ...]
    ) -> None:
        self.frames = rng.integers(20, 60, (length, size, size, 3), dtype=np.uint8)
        self.masks = np.zeros((length, 2, size, size), bool)
        self.class_names = class_names
        unit = size // 64
        for t in range(length):
            self.masks[t, 0, 10 * unit : 27 * unit, (8 + t) * unit : (25 + t) * unit] = True
        self.masks[0, 1, 37 * unit : 55 * unit, 30 * unit : 47 * unit] = True
        self.frames[self.masks[:, 0]] = (250, 60, 90)
        self.frames[self.masks[:, 1]] = (60, 250, 90)


class LabelledSquares:
    def __init__(self, *class_names: str) -> None:
        self.class_names = class_names

    def sample(
        self, rng: np.random.Generator, length: int, objects: int, size: int, long_term: int = 0
    ) -> LabelledClip:
        return LabelledClip(rng, length, size, self.class_names)


def make_bank(names: tuple[str, ...] = NAMES, encoder: str = "hand", dim: int = 5) -> ClassBank:
    return ClassBank(names, torch.eye(len(names), dim), encoder, "a {}")


def semantic_config(folder: Path, **changes: object) -> TrainConfig:
    write_class_bank(folder / "bank.safetensors", make_bank())
    settings: dict[str, object] = {
        "image_size": 128,
        "stages": (StageConfig(20, 3, 1, 2),),
        "batches": 1,
        "workers": 0,
        "warmup_steps": 2,
        "class_bank": str(folder / "bank.safetensors"),
        "loss": LossConfig(tsl=0.1),
    }
    return TrainConfig(**{**settings, **changes})  # type: ignore[arg-type]


def samples_of(embeddings: list[list[float]], rows: list[int], present: list[bool]) -> SemanticSamples:
    return SemanticSamples(torch.tensor(embeddings), torch.tensor(rows), torch.tensor(present))


def test_info_nce_is_what_a_hand_computes() -> None:
    """Cosines 0.8 and 0.6 with two classes at scale 10: -log(e^8 / (e^8 + e^6)) for the first, 2 more for the other."""
    embeddings, bank = torch.tensor([[0.8, 0.6], [0.8, 0.6]]), torch.eye(2)
    loss = info_nce(embeddings, bank, torch.tensor([0, 1]), scale=10.0)
    expected = math.log(1 + math.exp(-2))
    assert loss.tolist() == pytest.approx([expected, expected + 2], rel=1e-5)


def test_the_scale_multiplies() -> None:
    """A right answer costs less with a larger scale; divided by it, as the paper prints, it would cost more."""
    embeddings, bank, row = torch.tensor([[0.8, 0.6]]), torch.eye(2), torch.tensor([0])
    assert info_nce(embeddings, bank, row, 100.0) < 1e-6 < info_nce(embeddings, bank, row, 1.0)


def test_only_labelled_objects_in_view_count() -> None:
    """The first is wrong and unlabelled, the second wrong and away: of the third alone come loss and accuracy."""
    right = [0.0, 1.0]
    all_of_them = samples_of([[1.0, 0.0], [1.0, 0.0], right], [UNLABELLED, 1, 1], [True, False, True])
    loss, accuracy = semantic_loss([all_of_them], torch.eye(2), 10.0)
    alone, _ = semantic_loss([samples_of([right], [1], [True])], torch.eye(2), 10.0)
    assert float(loss) == pytest.approx(float(alone)) and accuracy == 1.0


def test_accuracy_is_the_share_whose_class_comes_first() -> None:
    samples = [samples_of([[0.6, 0.8], [0.8, 0.6]], [1, 1], [True, True])] * 2
    assert semantic_loss(samples, torch.eye(2), 100.0)[1] == 0.5


def test_without_a_label_there_is_no_loss_and_no_accuracy() -> None:
    loss, accuracy = semantic_loss([samples_of([[1.0, 0.0]], [UNLABELLED], [True])], torch.eye(2), 100.0)
    assert float(loss) == 0 and math.isnan(accuracy)


def test_names_become_rows_and_unknown_ones_none() -> None:
    assert make_bank().rows(("liver", "", "surgical tool", "hook")) == [2, -1, -1, 0]


def test_class_names_are_carried_through_to_the_batch() -> None:
    stage = StageConfig(1, 2, 3, 2)
    source = LabelledSquares("hook", "")
    assert batch_of(source, stage, stage.length, 256, np.random.default_rng(0))[2] == [("hook", "")] * 3


def test_an_unlabelled_clip_leaves_the_loss_of_the_masks_and_no_gradient_to_the_projection(
    tmp_path: Path,
) -> None:
    config = semantic_config(tmp_path)
    trainer = Trainer(config, LabelledSquares("", ""), tmp_path)
    clip = LabelledSquares("", "").sample(np.random.default_rng(0), 3, 2, config.side)
    frames, masks = torch.from_numpy(clip.frames[None]), torch.from_numpy(clip.masks[None])
    values = {}
    for kind, rows in (("unlabelled", [[-1, -1]]), ("labelled", [[0, -1]]), ("no rows", None)):
        trainer.network.zero_grad(set_to_none=True)
        given = None if rows is None else torch.tensor(rows)
        loss, log = clip_loss(trainer.network, frames, masks, config, np.random.default_rng(0), rows=given)
        loss.backward()
        gradient = trainer.network.sam2s.class_projection.weight.grad
        values[kind] = (
            float(loss.detach()),
            float(log["class_accuracy"]),
            gradient is None or not gradient.any(),
        )
    assert values["unlabelled"][0] == values["no rows"][0] < values["labelled"][0]
    assert math.isnan(values["unlabelled"][1]) and values["labelled"][1] in (0.0, 1.0)
    assert values["unlabelled"][2] and not values["labelled"][2]


def test_a_trained_network_knows_what_it_was_told(tmp_path: Path) -> None:
    """The token and its projection learn; the bank's embeddings stay; an interrupted run goes on exactly."""
    config = semantic_config(tmp_path, learning_rate=3e-3, loss=LossConfig(tsl=1.0))
    trainer = Trainer(config, LabelledSquares("grasper", "hook"), tmp_path)
    token = trainer.network.sam2s.class_token.detach().clone()
    logs = [trainer.train_step() for _ in range(5)]
    trainer.save()
    logs += [trainer.train_step() for _ in range(8)]
    assert not torch.equal(trainer.network.sam2s.class_token, token)
    assert torch.equal(trainer.average[CLASS_EMBEDDINGS], make_bank().embeddings)
    assert np.mean([log.class_accuracy for log in logs[-4:]]) > 0.6 > 1 / len(NAMES)
    again = Trainer(config, LabelledSquares("grasper", "hook"), tmp_path)
    assert again.restore()
    assert again.train_step().loss == logs[5].loss


def test_a_class_reader_learns_alone_and_nothing_else_changes(tmp_path: Path) -> None:
    """With all else frozen, masks of random weights among them; a batch without a label is no error."""
    alone = {"class_reader": True, "train_only": ("sam2s.class",), "loss": LossConfig(tsl=1.0)}
    config = semantic_config(tmp_path, learning_rate=3e-3, **alone)
    trainer = Trainer(config, LabelledSquares("hook", "hook"), tmp_path)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    logs = [trainer.train_step() for _ in range(10)]
    assert logs[-1].class_accuracy == 1 and logs[-1].loss < logs[0].loss - 1
    after = trainer.network.state_dict()
    changed = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"class_reader"}
    unlabelled = Trainer(config, LabelledSquares("", ""), tmp_path)
    assert math.isnan(unlabelled.train_step().class_accuracy)


def test_a_reader_learns_from_the_true_masks_what_random_weights_do_not_see(tmp_path: Path) -> None:
    """Two classes in one clip: the squares' colours tell them apart, once the reader looks at the right places."""
    prompts = PromptConfig(true_masks=1.0)
    alone = {"class_reader": True, "train_only": ("sam2s.class",), "prompts": prompts}
    config = semantic_config(tmp_path, learning_rate=1e-3, loss=LossConfig(tsl=1.0), **alone)
    trainer = Trainer(config, LabelledSquares("grasper", "hook"), tmp_path)
    logs = [trainer.train_step() for _ in range(18)]
    assert np.mean([log.class_accuracy for log in logs[-3:]]) > 0.9
    assert all(math.isnan(log.iou) for log in logs), "nothing is tracked"


def test_true_masks_without_a_reader_are_refused() -> None:
    with pytest.raises(ValueError, match="set class_reader and loss.tsl"):
        TrainConfig(stages=(StageConfig(1, 1, 1),), prompts=PromptConfig(true_masks=0.5))


def test_a_run_does_not_go_on_with_another_bank(tmp_path: Path) -> None:
    Trainer(semantic_config(tmp_path), LabelledSquares("hook", ""), tmp_path).save()
    config = semantic_config(tmp_path)
    write_class_bank(config.class_bank, make_bank(("grasper", "hook", "liver"), dim=6))
    with pytest.raises(ValueError, match="another class bank"):
        Trainer(config, LabelledSquares("hook", ""), tmp_path).restore()


def test_weights_carry_embeddings_and_names(tmp_path: Path) -> None:
    trainer = Trainer(semantic_config(tmp_path), LabelledSquares("hook", ""), tmp_path)
    write_weights(trainer, tmp_path / "weights.safetensors", "CC0-1.0", {})
    bank = read_checkpoint_bank(tmp_path / "weights.safetensors")
    assert bank is not None and bank.names == NAMES and bank.encoder == "hand"
    network = build_network("nano", tmp_path / "weights.safetensors")
    assert network.config.class_names == NAMES and torch.equal(
        network.sam2s.class_embeddings, bank.embeddings
    )
    metadata = load_checkpoint(network, tmp_path / "weights.safetensors")
    assert str(tmp_path) not in json.dumps(dict(metadata.extra))


def test_a_weight_without_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="set class_bank"):
        TrainConfig(stages=(StageConfig(1, 1, 1),), loss=LossConfig(tsl=0.1))
