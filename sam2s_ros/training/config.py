"""A training run as one frozen value, read from one YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from sam2s_ros.data.clips import folder_of
from sam2s_ros.network import PRESETS

MASK_LOSSES = ("balanced", "focal", "quality_focal")
BF16_PARTS = ("none", "encoder", "all")
LONG_TERM_FRAMES = 2
"""Of a clip with hybrid temporal sampling (source: SAM2S, section 4.2)."""


@dataclass(frozen=True)
class StageConfig:
    """A stretch of training with clips of one length."""

    steps: int
    length: int
    """Frames per clip; 1 trains on single images, prompted by clicks and boxes."""
    clips: int
    """Clips per batch; `TrainConfig.batches` of them make a step."""
    objects: int = 2
    """Objects per clip."""
    images: float = 0.0
    """Share of batches that are single images, from `TrainConfig.image_sources` (SAM2S: image to video 1:4)."""
    hybrid: float = 0.0
    """Share of the other batches with SAM2S's hybrid temporal sampling: `LONG_TERM_FRAMES` anywhere in the video are
    remembered in the long-term memory, and the frames after them are consecutive."""

    def __post_init__(self) -> None:
        if self.hybrid and self.length < LONG_TERM_FRAMES + 3:
            raise ValueError(
                f"stages: hybrid sampling needs clips of {LONG_TERM_FRAMES + 3} frames, length is {self.length}"
            )


@dataclass(frozen=True)
class PromptConfig:
    """How the first frame is prompted (source: SAM 2's fine-tuning recipe) and what follows it."""

    mask: float = 0.5
    """Share of mask prompts. A mask of the frame itself teaches a single image nothing, so single images get a
    mask that was moved, scaled and blurred, as the previous frame's would be."""
    box: float = 0.25
    """Share of box prompts; the rest are clicks."""
    max_clicks: int = 4
    correction: float = 0.15
    """Share of batches in which one later frame gets a corrective click and becomes a conditioning frame."""
    previous_mask: float = 0.5
    """Share of batches in which each frame is also prompted by the previous frame's predicted mask."""
    drift: float = 0.0
    """Share of batches in which wrong masks of recent frames are remembered (`drift.Drift`)."""
    true_masks: float = 0.0
    """Share of batches that teach the class reader alone, from the true masks (`reader_loss`): nothing is tracked."""
    gap: float = 0.0
    """Share of batches in which the frames after the first count as up to `LONGEST_GAP` frames later."""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms. `balanced` learns from scratch; `focal` is SAM 2's 20/1/1/1 for fine-tuning, and
    `quality_focal` with `softening` 1.0 that of SAM2S (ambiguity-resilient learning)."""

    mask_loss: str = "balanced"
    softening: float = 0.0
    """Standard deviation in pixels of `size` of the Gaussian that softens the label of the mask loss; 0: none."""
    mask: float = 2.0
    dice: float = 3.0
    iou: float = 0.5
    presence: float = 0.5
    others: float = 0.0
    """Weight of the mean over all hypotheses beside the best one. From scratch the predicted IoU often picks another
    hypothesis than the one that learns, and tracking follows the pick."""
    size: int = 128
    """Side in pixels at which masks are compared."""
    tsl: float = 0.0
    """Weight of temporal semantic learning (`semantic_loss`); 0: none. SAM2S: 0.1 beside `focal`'s 20/1/1/1."""
    tsl_scale: float = 100.0
    """Factor on the cosines of an object's embedding with those of the class bank."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything a run depends on, except where its data lies and where its output goes."""

    preset: str = "nano"
    image_size: int = 0
    """Side of the network's input and of the clips, pixels; 0: the preset's."""
    init: str = ""
    """Checkpoint to start from; empty: random weights."""
    long_term: bool = False
    """Give the network the long-term memory's own temporal embedding, which begins as the conditioning frames' one."""
    class_bank: str = ""
    """Class embeddings (`sam2s embed-classes`): gives the network this bank, and a class token or, with
    `class_reader`, a class reader. Empty: as `init` is."""
    class_reader: bool = False
    """Whether classes are told by a reader that has no part in any mask, instead of by a class token."""
    train_only: tuple[str, ...] = ()
    """Beginnings of the names of the parameters to train, the others stay as they are; empty: all are trained. The
    object score alone (`sam_mask_decoder.pred_obj_score_head`) learns absences without a change of any mask."""
    seed: int = 1
    batches: int = 2
    """Batches of a step, each with a plan and random numbers of its own; their gradients are averaged. The processes of
    a run share them evenly, so that any number of processes that divides this one trains the same."""
    threads: int = 1
    """Threads of a process, on the CPU."""
    workers: int = 1
    """Processes that read ahead, for each process that trains; 0: read in between."""
    learning_rate: float = 1e-3
    final_learning_rate: float = 5e-5
    layer_decay: float = 1.0
    """Factor on the learning rate from each layer of the trunk to the one before it (SAM 2: 0.9); 1: none."""
    weight_decay: float = 0.05
    warmup_steps: int = 200
    clip_norm: float = 1.0
    """Longest gradient over all parameters."""
    bf16: str = "none"
    """What is computed in bfloat16: none, the image encoder, or all but the losses. Weights stay float32."""
    ema: float = 0.998
    """Share of the moving average of the weights that a step keeps; the average is what is validated and written."""
    save_every_steps: int = 100
    validate_every_steps: int = 1000
    validation: str = ""
    """`videos:FOLDER` validates on the videos of the split `val` below that folder; empty: on rendered scenes."""
    validation_clips: int = 8
    """Rendered scenes or, at most, videos that are validated on."""
    sources: dict[str, float] = field(default_factory=dict)
    """Weights of the clip sources, by name."""
    image_sources: dict[str, float] = field(default_factory=dict)
    """Weights of the sources of single images where a stage mixes them in; empty: those of `sources`."""
    prompts: PromptConfig = PromptConfig()
    loss: LossConfig = LossConfig()
    stages: tuple[StageConfig, ...] = ()

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("stages is empty; give at least one {steps, length, clips}")
        if any(stage.hybrid for stage in self.stages) and not self.long_term:
            raise ValueError(
                "a stage has hybrid sampling, which trains the long-term memory: set long_term: true"
            )
        if self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset!r}; use one of {', '.join(PRESETS)}")
        if self.loss.mask_loss not in MASK_LOSSES:
            raise ValueError(
                f"loss.mask_loss is {self.loss.mask_loss!r}; use one of {', '.join(MASK_LOSSES)}"
            )
        if self.loss.softening < 0:
            raise ValueError(f"loss.softening is {self.loss.softening}; use 0 for none, or pixels")
        if self.bf16 not in BF16_PARTS:
            raise ValueError(f"bf16 is {self.bf16!r}; use one of {', '.join(BF16_PARTS)}")
        if self.validation and folder_of(self.validation) is None:
            raise ValueError(
                f"validation is {self.validation!r}; use videos:FOLDER, or nothing for rendered scenes"
            )
        if self.batches < 1:
            raise ValueError(f"batches is {self.batches}; a step needs at least 1")
        if self.prompts.true_masks and not (self.class_reader and self.loss.tsl):
            raise ValueError("prompts.true_masks teaches a class reader: set class_reader and loss.tsl")
        if self.loss.tsl and not self.class_bank:
            raise ValueError(
                f"loss.tsl is {self.loss.tsl}, and there are no classes to learn: set class_bank"
            )

    @property
    def total_steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    @property
    def side(self) -> int:
        """Side in pixels of the network's input and of the clips."""
        return self.image_size or PRESETS[self.preset].image_size

    @property
    def total_clips(self) -> int:
        """Clips of the whole run, over all processes."""
        return self.batches * sum(stage.steps * stage.clips for stage in self.stages)

    def stage_at(self, step: int) -> StageConfig:
        """The stage that holds a step (0-based)."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]


def read_train_config(path: str | Path) -> TrainConfig:
    """Read a YAML file into a `TrainConfig`.

    Raises:
        ValueError: the file is not a mapping, or names a setting that does not exist.
    """
    raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: expected a mapping of settings")
    values = dict(raw)
    stages = values.pop("stages", [])
    nested = {"prompts": PromptConfig, "loss": LossConfig}
    built: dict[str, Any] = {
        name: _build(kind, values.pop(name, {}), f"{path}: {name}") for name, kind in nested.items()
    }
    values["train_only"] = tuple(values.get("train_only", ()))
    built["stages"] = tuple(
        _build(StageConfig, stage, f"{path}: stages[{i}]") for i, stage in enumerate(stages)
    )
    return _build(TrainConfig, {**values, **built}, str(path))


def _build(kind: type, values: dict[str, Any], where: str) -> Any:
    known = {f.name for f in fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(
            f"{where}: unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}"
        )
    for setting in fields(kind):
        value = values.get(setting.name)
        if setting.type in ("int", "float") and isinstance(value, str):
            raise ValueError(
                f"{where}: {setting.name} is the text {value!r}; YAML wants numbers such as 1.0e-5"
            )
    return kind(**values)
