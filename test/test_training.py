"""Promises of the training room: prompts fall where an operator would click, losses prefer the truth, runs resume."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_cases import Squares, small_config

from sam2s_ros.network import build_network
from sam2s_ros.network.checkpoint import save_checkpoint
from sam2s_ros.network.mask_decoder import MaskHypotheses
from sam2s_ros.network.position import rotate
from sam2s_ros.training.clicks import corrective_click, first_click, noisy_box
from sam2s_ros.training.clip_loss import normalise
from sam2s_ros.training.config import LossConfig, StageConfig, TrainConfig, read_train_config
from sam2s_ros.training.drift import Drift
from sam2s_ros.training.initialise import align_memory_attention, align_prompt_attention
from sam2s_ros.training.loop import Trainer
from sam2s_ros.training.losses import (
    balanced_bce,
    dice_loss,
    focal_loss,
    hypotheses_loss,
    quality_focal_loss,
    soften,
)
from sam2s_ros.training.optimiser import idle_biases, learning_rate, trained_parameters
from sam2s_ros.training.rollout import ClipMemory, Rollout, RolloutPlan, moved_mask_logits
from sam2s_ros.training.run_files import training_facts

CONFIG = Path(__file__).parent.parent / "config" / "train_nano.yaml"


def test_a_click_lies_inside_the_mask() -> None:
    mask = np.zeros((64, 64), bool)
    mask[10:14, 20:50] = True
    for seed in range(20):
        x, y = first_click(mask, np.random.default_rng(seed))
        assert mask[int(y), int(x)]


def test_a_corrective_click_answers_the_larger_error() -> None:
    truth = np.zeros((64, 64), bool)
    truth[10:30, 10:30] = True
    leaked = truth.copy()
    leaked[10:30, 30:60] = True
    x, y, label = corrective_click(leaked, truth, np.random.default_rng(0))
    assert label == 0 and leaked[int(y), int(x)] and not truth[int(y), int(x)]
    x, y, label = corrective_click(np.zeros_like(truth), truth, np.random.default_rng(0))
    assert label == 1 and truth[int(y), int(x)]


def test_a_noisy_box_stays_near_the_mask() -> None:
    mask = np.zeros((100, 100), bool)
    mask[20:60, 30:70] = True
    boxes = np.stack([noisy_box(mask, np.random.default_rng(seed)) for seed in range(50)])
    assert np.abs(boxes - [30, 20, 69, 59]).max() <= 10
    assert boxes.std(axis=0).min() > 0.1


@pytest.mark.parametrize("loss", [balanced_bce, focal_loss, quality_focal_loss, dice_loss])
def test_mask_losses_prefer_the_truth(loss: object) -> None:
    target = torch.zeros(1, 1, 16, 16)
    target[..., 4:9, 4:9] = 1
    right, wrong = (target * 2 - 1) * 6, -(target * 2 - 1) * 6
    values = loss(torch.cat((right, wrong, torch.zeros_like(right)), dim=1), target)[0]  # type: ignore[operator]
    assert values[0] < values[2] < values[1]


@pytest.mark.parametrize("label", [0.1, 0.4, 0.6, 0.7, 0.9])
def test_of_a_soft_label_only_the_quality_focal_loss_is_least_at_the_label(label: float) -> None:
    """Ordinary focal loss is least at 0.72 for 0.6 and at 0.88 for 0.7: it undoes the softening."""
    probability = torch.linspace(0.001, 0.999, 999)
    logits = torch.logit(probability).view(-1, 1, 1, 1)
    target = torch.full((999, 1, 1, 1), label)
    at = {
        loss: float(probability[loss(logits, target)[:, 0].argmin()])
        for loss in (quality_focal_loss, lambda *a: focal_loss(*a, alpha=0.5))
    }
    quality, ordinary = at.values()
    assert quality == pytest.approx(label, abs=0.002)
    if label in (0.6, 0.7):
        assert ordinary == pytest.approx({0.6: 0.72, 0.7: 0.88}[label], abs=0.01)


def test_softening_spreads_a_label_and_keeps_its_sum() -> None:
    target = torch.zeros(1, 1, 16, 16)
    target[..., 4:12, 4:12] = 1
    soft = soften(target, 1.0)
    assert soft.sum() == pytest.approx(64.0, rel=1e-5)
    assert soft[0, 0, 8, 8] == pytest.approx(1.0) and 0.2 < soft[0, 0, 8, 4] < 0.8 and soft[0, 0, 0, 0] == 0
    ones = torch.ones(1, 1, 8, 8)
    assert torch.allclose(soften(ones, 1.0), ones), "nothing is lost at the border"


def test_softening_reaches_the_mask_loss_alone() -> None:
    """IoU and presence are taught by the label as it is."""
    target = torch.zeros(1, 1, 8, 8)
    target[..., 3, 3] = 1
    hypotheses = MaskHypotheses(
        torch.zeros(1, 4, 8, 8), torch.full((1, 4), 0.5), torch.zeros(1, 4, 8), torch.zeros(1, 1)
    )
    hard, soft = (
        hypotheses_loss(hypotheses, True, target, LossConfig("quality_focal", sigma, size=8))
        for sigma in (0.0, 1.0)
    )
    assert hard[0] != soft[0]
    without = [replace(LossConfig("quality_focal", sigma, size=8), mask=0.0) for sigma in (0.0, 1.0)]
    assert len({float(hypotheses_loss(hypotheses, True, target, one)[0]) for one in without}) == 1


def test_only_the_best_hypothesis_learns_its_mask() -> None:
    target = torch.zeros(1, 1, 8, 8)
    target[..., 2:6, 2:6] = 1
    logits = torch.zeros(1, 4, 8, 8)
    logits[:, 2] = (target[:, 0] * 2 - 1) * 2
    logits.requires_grad_()
    hypotheses = MaskHypotheses(logits, torch.full((1, 4), 0.5), torch.zeros(1, 4, 8), torch.zeros(1, 1))
    loss, log = hypotheses_loss(hypotheses, True, target, LossConfig(size=8))
    loss.backward()
    assert logits.grad is not None
    assert [bool(logits.grad[0, i].abs().sum() > 0) for i in range(4)] == [False, False, True, False]
    assert log["iou_best"] == 1.0


def test_an_absent_object_teaches_presence_only() -> None:
    logits = torch.zeros(1, 4, 8, 8, requires_grad=True)
    score = torch.zeros(1, 1, requires_grad=True)
    hypotheses = MaskHypotheses(logits, torch.full((1, 4), 0.5), torch.zeros(1, 4, 8), score)
    loss, _ = hypotheses_loss(hypotheses, True, torch.zeros(1, 1, 8, 8), LossConfig(size=8))
    loss.backward()
    assert logits.grad is not None and logits.grad.abs().sum() == 0
    assert score.grad is not None and score.grad.item() > 0


def test_each_prompt_gives_one_pass_per_click_and_frame() -> None:
    network = build_network("nano")
    clip = Squares().sample(np.random.default_rng(0), 3, 2, 256)
    images, masks = (
        normalise(torch.from_numpy(clip.frames[None]), network),
        torch.from_numpy(clip.masks[None]),
    )
    expected = {"mask": [1, 2], "clicks": [0, 0, 1, 1, 2], "box": [0, 0, 1, 1, 2]}
    for prompt, frames in expected.items():
        plan = RolloutPlan(prompt, clicks=2, correct_at=-1 if prompt == "mask" else 1, previous_mask=True)
        with torch.no_grad():
            passes = Rollout(network, images, masks, plan, np.random.default_rng(0)).run()
        assert [p.frame for p in passes] == frames
        assert passes[-1].multimask and passes[-1].decoded.logits.shape == (2, 1, 64, 64)


def test_a_moved_mask_is_like_the_mask_but_not_the_mask() -> None:
    masks = torch.zeros(8, 1, 256, 256)
    masks[:, :, 80:180, 60:120] = 1
    moved = moved_mask_logits(masks, 64, np.random.default_rng(0)) > 0
    low = masks[:, :, ::4, ::4] > 0
    iou = (moved & low).sum((1, 2, 3)) / (moved | low).sum((1, 2, 3))
    assert 0.3 < float(iou.mean()) < 0.95 and float(iou.max()) < 1


@torch.no_grad()
def test_aligned_attention_starts_where_it_looks() -> None:
    torch.manual_seed(0)
    network = build_network("nano")
    align_prompt_attention(network)
    align_memory_attention(network)
    cells = torch.arange(16 * 16)
    position = network.sam_prompt_encoder.image_position().flatten(2)[0].T
    for name, attention in network.sam_mask_decoder.transformer.named_modules():
        if name.endswith(("token_to_image", "image_to_token")):
            scores = attention.q_proj(position) @ attention.k_proj(position).T
            assert (scores.argmax(dim=1) == cells).float().mean() > 0.9
    rotation = network.memory_attention.rotation
    for layer in network.memory_attention.layers:
        query, key = (
            p.bias.expand(1, 1, 256, -1)
            for p in (layer.cross_attn_image.q_proj, layer.cross_attn_image.k_proj)
        )
        scores = (rotate(query, rotation) @ rotate(key, rotation).transpose(2, 3))[0, 0]
        assert torch.equal(scores.argmax(dim=1), cells)


def test_the_rate_warms_up_and_falls_to_its_end() -> None:
    config = small_config(warmup_steps=5, stages=(StageConfig(100, 1, 1),))
    rates = [learning_rate(config, step) for step in range(100)]
    assert np.argmax(rates) in (4, 5) and rates[0] < rates[4] and rates[-1] < 1.1 * config.final_learning_rate


def test_training_learns_and_an_interrupted_run_goes_on_exactly(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = Trainer(small_config(), Squares(), tmp_path)
    losses = [whole.train_step().loss for _ in range(2)]
    whole.save()
    losses += [whole.train_step().loss for _ in range(3)]
    again = Trainer(small_config(seed=1), Squares(), tmp_path)
    assert again.restore() and again.step == 2
    assert [again.train_step().loss for _ in range(3)] == losses[2:]
    assert all(np.isfinite(losses))


def test_the_shipped_configuration_reads_and_a_typo_is_named(tmp_path: Path) -> None:
    config = read_train_config(CONFIG)
    assert config.preset == "nano" and config.total_steps > 1000
    assert config.stage_at(0).length == 1 and config.stage_at(config.total_steps - 1) == config.stages[-1]
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("lerning_rate: 1\nstages: [{steps: 1, length: 1, clips: 1}]\n")
    with pytest.raises(ValueError, match="lerning_rate"):
        read_train_config(wrong)
    with pytest.raises(ValueError, match="mask_loss"):
        replace(config, loss=LossConfig(mask_loss="magic"))


def test_what_is_not_to_be_trained_stays_as_it_was(tmp_path: Path) -> None:
    """Only the object score changes; a name that the network does not have is refused."""
    score = "sam_mask_decoder.pred_obj_score_head"
    trainer = Trainer(small_config(train_only=(score,)), Squares(), tmp_path)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.train_step()
    changed = {n for n, v in trainer.network.state_dict().items() if not torch.equal(v, before[n])}
    assert changed and all(name.startswith(score) for name in changed)
    with pytest.raises(ValueError, match="train_only.*'no_such'.*sam_mask_decoder"):
        trained_parameters(trainer.network, ("no_such",))


@torch.no_grad()
def test_biases_that_no_output_depends_on_are_not_trained() -> None:
    """Those of the mask decoder's keys: whatever they are, the masks stay. Any other key bias does change them."""
    torch.manual_seed(0)
    network = build_network("nano").eval()
    network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias += 10.0
    clip = Squares().sample(np.random.default_rng(0), 3, 2, 256)
    images, masks = (
        normalise(torch.from_numpy(clip.frames[None]), network),
        torch.from_numpy(clip.masks[None]),
    )
    plan = RolloutPlan("mask", clicks=0, correct_at=-1, previous_mask=False)

    def logits() -> torch.Tensor:
        passes = Rollout(network, images, masks, plan, np.random.default_rng(0)).run()
        return torch.stack([one.decoded.logits for one in passes])

    before, idle = logits(), idle_biases(network)
    assert len(idle) == 7 and not idle & trained_parameters(network, ()).keys()
    named = dict(network.named_parameters())
    for name in idle:
        named[name].normal_()
    assert torch.allclose(logits(), before, atol=1e-3)
    others = [name for name in named if name.endswith("k_proj.bias") and name not in idle]
    for name in others:
        named[name].normal_(std=3.0)
    assert others and not torch.allclose(logits(), before, atol=1e-3)


def test_drift_is_wrong_in_the_same_way_for_a_whole_clip() -> None:
    """A lost part lies on one side of a line; what is gained belongs to the neighbour; some objects stay right."""
    masks = torch.zeros(64, 64, 64, dtype=torch.bool)
    masks[:, 10:30, 5:60] = True
    neighbours = torch.zeros_like(masks)
    neighbours[:, 40:60, 5:60] = True
    drift = Drift.draw(64, np.random.default_rng(0))
    first, later = (drift.apply(m, n) > 0 for m, n in ((masks, neighbours), (masks.roll(2, 1), neighbours)))
    right = ~(drift.loses | drift.gains)[:, 0, 0]
    assert 0 < int(right.sum()) < 64
    assert torch.equal(first[right, 0], masks[right])
    lost, gained = masks & ~first[:, 0], first[:, 0] & ~masks
    assert torch.equal(lost.flatten(1).any(1), drift.loses[:, 0, 0])
    assert torch.equal(gained.flatten(1).any(1), drift.gains[:, 0, 0])
    assert not (gained & ~neighbours).any()
    assert torch.equal(lost.roll(2, 1), masks.roll(2, 1) & ~later[:, 0])


def test_without_a_neighbour_drift_takes_in_what_lies_beside() -> None:
    masks = torch.zeros(32, 64, 64, dtype=torch.bool)
    masks[:, 24:40, 24:40] = True
    drift = Drift.draw(32, np.random.default_rng(1))
    gained = (drift.apply(masks, torch.zeros_like(masks))[:, 0] > 0) & ~masks
    assert torch.equal(gained.flatten(1).any(1), drift.gains[:, 0, 0])


def test_a_gap_lies_between_the_prompt_and_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pointer of the first frame is `gap` frames farther away, later ones are not; drift changes what follows."""
    network = build_network("nano")
    clip = Squares().sample(np.random.default_rng(0), 4, 2, 256)
    images, masks = (
        normalise(torch.from_numpy(clip.frames[None]), network),
        torch.from_numpy(clip.masks[None]),
    )
    distances = []
    attend = network.attend_memory

    def watched(*arguments: torch.Tensor) -> torch.Tensor:
        distances.append(arguments[5][0].tolist())
        return attend(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(network, "attend_memory", watched)
    logits = []
    for drift in (False, True):
        plan = RolloutPlan("mask", clicks=0, correct_at=-1, previous_mask=False, gap=100, drift=drift)
        with torch.no_grad():
            passes = Rollout(network, images, masks, plan, np.random.default_rng(0)).run()
        logits.append([one.decoded.hypotheses.logits for one in passes if one.decoded.hypotheses])
    assert distances[:3] == [[101], [102, 1], [103, 2, 1]] == distances[3:]
    assert torch.equal(logits[0][0], logits[1][0]), "the first frame is remembered as it was prompted"
    assert not torch.equal(logits[0][1], logits[1][1])


def test_long_term_frames_are_read_by_all_that_follow_where_the_object_was_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two long-term frames with their own temporal row and no pointer; then recent frames as ever."""
    network = build_network("nano", long_term=True)
    with torch.no_grad():
        network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias += 10.0
    clip = Squares().sample(np.random.default_rng(0), 6, 2, 256)
    images, masks = (
        normalise(torch.from_numpy(clip.frames[None]), network),
        torch.from_numpy(clip.masks[None]),
    )
    reads, prompts = [], []
    attend, decode = network.attend_memory, network.decode

    def watched_attend(*arguments: torch.Tensor) -> torch.Tensor:
        assert arguments[3] is None, "every object was seen in every long-term frame"
        reads.append((arguments[2][0].tolist(), arguments[5][0].tolist()))
        return attend(*arguments)  # type: ignore[arg-type]

    def watched_decode(*arguments: torch.Tensor, **more: bool) -> object:
        prompts.append(arguments[5] is not None)
        return decode(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(network, "attend_memory", watched_attend)
    plan = RolloutPlan("mask", clicks=0, correct_at=-1, previous_mask=True, gap=100, long_term=2)
    rollout = Rollout(network, images, masks, plan, np.random.default_rng(0))
    monkeypatch.setattr(network, "decode", watched_decode)
    passes = rollout.run()
    prompts.pop(0)  # the pointer of the prompted frame
    assert [index for index, _ in reads] == [[6], [6, 7], [6, 7, 7], [6, 0, 7, 7], [6, 1, 0, 7, 7]]
    assert [distances for _, distances in reads] == [[101], [102], [103], [104, 1], [105, 2, 1]]
    assert prompts == [False, False, False, True, True], (
        "no previous mask before there are consecutive frames"
    )
    passes[-1].decoded.logits.sum().backward()
    gradient = network.sam2s.long_term_tpos.grad
    assert gradient is not None and gradient.abs().max() > 0


def test_a_long_term_frame_counts_only_for_objects_seen_in_it() -> None:
    memory = ClipMemory(network := build_network("nano", long_term=True))
    area, cm = network.config.feature_size**2, network.config.memory_dim
    stored = torch.randn(2, area, cm)
    memory.write(0, True, torch.randn(2, area, cm), torch.randn(2, network.config.hidden_dim))
    f2 = torch.randn(2, network.config.hidden_dim, network.config.feature_size, network.config.feature_size)
    with torch.no_grad():
        without = memory.attend(f2, 1).features
        memory.long_term.append((stored, torch.tensor([True, False])))
        having = memory.attend(f2, 1).features
    assert not torch.allclose(without[0], having[0], atol=1e-3)
    assert torch.allclose(without[1], having[1], atol=1e-5)


def test_hybrid_sampling_needs_long_clips_and_a_network_with_long_term_memory() -> None:
    with pytest.raises(ValueError, match="clips of 5 frames, length is 4"):
        StageConfig(1, 4, 1, hybrid=0.5)
    with pytest.raises(ValueError, match="long_term: true"):
        TrainConfig(stages=(StageConfig(1, 6, 1, hybrid=0.5),))


def test_weights_say_how_they_and_those_before_them_were_made(tmp_path: Path) -> None:
    """Settings without the path of the weights begun with, of which the hash and the own facts are told instead."""
    first = tmp_path / "first.safetensors"
    state = build_network("nano").state_dict()
    made = save_checkpoint(first, state, "nano", "CC-BY-4.0", {"step": 7})
    config = TrainConfig(init=str(first), seed=5, stages=(StageConfig(1, 1, 1),))
    facts = training_facts(config, 9, {"iou": 0.5})
    assert facts["step"] == 9 and facts["settings"]["seed"] == 5 and "init" not in facts["settings"]
    assert facts["begun_with"]["weights_sha256"] == made.weights_sha256
    assert facts["begun_with"]["extra"] == {"step": 7}
    assert str(tmp_path) not in json.dumps(facts)
