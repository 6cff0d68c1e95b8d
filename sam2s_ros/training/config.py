"""A training run as one frozen value, read from one YAML file.

Each setting has its limits in its annotation; they are checked when the file is read, before any data is.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import yaml

from sam2s_ros.data.clips import DEFAULT_WEIGHTS, FOLDER_PREFIX, MORE_SOURCES, folder_of
from sam2s_ros.network import PRESETS
from sam2s_ros.training.limits import NotEmpty, OneOf, Within, check_settings, permitted, shown

MASK_LOSSES = ("balanced", "focal", "quality_focal")
BF16_PARTS = ("none", "encoder", "all")
LONG_TERM_FRAMES = 2
"""Of a clip with hybrid temporal sampling (source: SAM2S, section 4.2)."""

Share = Annotated[float, Within(0, 1)]
Weight = Annotated[float, Within(0, 1_000_000)]
Steps = Annotated[int, Within(1, 100_000_000)]


@dataclass(frozen=True)
class StageConfig:
    """A stretch of training with clips of one length."""

    steps: Steps
    length: Annotated[int, Within(1, 1000)]
    """Frames per clip; 1 trains on single images, prompted by clicks and boxes."""
    clips: Annotated[int, Within(1, 4096)]
    """Clips per batch; `TrainConfig.batches` of them make a step."""
    objects: Annotated[int, Within(1, 254)] = 2
    """Objects per clip."""
    images: Share = 0.0
    """Share of batches that are single images, from `TrainConfig.image_sources` (SAM2S: image to video 1:4)."""
    hybrid: Share = 0.0
    """Share of the other batches with SAM2S's hybrid temporal sampling: `LONG_TERM_FRAMES` anywhere in the video are
    remembered in the long-term memory, and the frames after them are consecutive."""

    def __post_init__(self) -> None:
        check_settings(self)
        if self.hybrid and self.length < LONG_TERM_FRAMES + 3:
            raise ValueError(
                f"hybrid is {self.hybrid}, and such sampling needs clips of {LONG_TERM_FRAMES + 3} frames, "
                f"length is {self.length}"
            )


@dataclass(frozen=True)
class PromptConfig:
    """How the first frame is prompted (source: SAM 2's fine-tuning recipe) and what follows it."""

    mask: Share = 0.5
    """Share of mask prompts. A mask of the frame itself teaches a single image nothing, so single images get a
    mask that was moved, scaled and blurred, as the previous frame's would be."""
    box: Share = 0.25
    """Share of box prompts; the rest are clicks."""
    max_clicks: Annotated[int, Within(1, 100)] = 4
    correction: Share = 0.15
    """Share of batches in which one later frame gets a corrective click and becomes a conditioning frame."""
    previous_mask: Share = 0.5
    """Share of batches in which each frame is also prompted by the previous frame's predicted mask."""
    drift: Share = 0.0
    """Share of batches in which wrong masks of recent frames are remembered (`drift.Drift`)."""
    true_masks: Share = 0.0
    """Share of batches that teach the class reader alone, from the true masks (`reader_loss`): nothing is tracked."""
    gap: Share = 0.0
    """Share of batches in which the frames after the first count as up to `LONGEST_GAP` frames later."""

    def __post_init__(self) -> None:
        check_settings(self)
        if self.mask + self.box > 1 + 1e-9:
            raise ValueError(
                f"mask is {self.mask} and box is {self.box}; as shares of one whole use at most 1 together"
            )


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms. `balanced` learns from scratch; `focal` is SAM 2's 20/1/1/1 for fine-tuning, and
    `quality_focal` with `softening` 1.0 that of SAM2S (ambiguity-resilient learning)."""

    mask_loss: Annotated[str, OneOf(MASK_LOSSES)] = "balanced"
    softening: Annotated[float, Within(0.01, 10, or_zero=True)] = 0.0
    """Standard deviation in pixels of `size` of the Gaussian that softens the label of the mask loss; 0: none."""
    mask: Weight = 2.0
    dice: Weight = 3.0
    iou: Weight = 0.5
    presence: Weight = 0.5
    others: Share = 0.0
    """Weight of the mean over all hypotheses beside the best one. From scratch the predicted IoU often picks another
    hypothesis than the one that learns, and tracking follows the pick."""
    size: Annotated[int, Within(8, 4096)] = 128
    """Side in pixels at which masks are compared."""
    tsl: Weight = 0.0
    """Weight of temporal semantic learning (`semantic_loss`); 0: none. SAM2S: 0.1 beside `focal`'s 20/1/1/1."""
    tsl_scale: Annotated[float, Within(0, 10_000, above_low=True)] = 100.0
    """Factor on the cosines of an object's embedding with those of the class bank."""

    def __post_init__(self) -> None:
        check_settings(self)
        if not any((self.mask, self.dice, self.iou, self.presence, self.tsl)):
            raise ValueError(
                "mask, dice, iou, presence and tsl are all 0; give the terms that are to be learnt a weight"
            )


@dataclass(frozen=True)
class TrainConfig:
    """Everything a run depends on, except where its data lies and where its output goes."""

    preset: Annotated[str, OneOf(tuple(PRESETS))] = "nano"
    image_size: Annotated[int, Within(32, 4096, or_zero=True, multiple_of=32)] = 0
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
    train_only: tuple[Annotated[str, NotEmpty("the beginning of a name")], ...] = ()
    """Beginnings of the names of the parameters to train, the others stay as they are; empty: all are trained. The
    object score alone (`sam_mask_decoder.pred_obj_score_head`) learns absences without a change of any mask."""
    seed: Annotated[int, Within(0, 2**32 - 1)] = 1
    batches: Annotated[int, Within(1, 65_536)] = 2
    """Batches of a step, each with a plan and random numbers of its own; their gradients are averaged. The processes of
    a run share them evenly, so that any number of processes that divides this one trains the same."""
    threads: Annotated[int, Within(1, 1024)] = 1
    """Threads of a process, on the CPU."""
    workers: Annotated[int, Within(0, 1024)] = 1
    """Processes that read ahead, for each process that trains; 0: read in between."""
    learning_rate: Annotated[float, Within(0, 1, above_low=True)] = 1e-3
    final_learning_rate: Annotated[float, Within(0, 1)] = 5e-5
    """At the last step, at most `learning_rate`."""
    layer_decay: Annotated[float, Within(0, 1, above_low=True)] = 1.0
    """Factor on the learning rate from each layer of the trunk to the one before it (SAM 2: 0.9); 1: none."""
    weight_decay: Annotated[float, Within(0, 10)] = 0.05
    warmup_steps: Annotated[int, Within(0, 100_000_000)] = 200
    clip_norm: Annotated[float, Within(0, 1_000_000_000, above_low=True)] = 1.0
    """Longest gradient over all parameters."""
    bf16: Annotated[str, OneOf(BF16_PARTS)] = "none"
    """What is computed in bfloat16: none, the image encoder, or all but the losses. Weights stay float32."""
    ema: Annotated[float, Within(0, 1, below_high=True)] = 0.998
    """Share of the moving average of the weights that a step keeps; the average is what is validated and written."""
    save_every_steps: Steps = 100
    validate_every_steps: Steps = 1000
    validation: str = ""
    """`videos:FOLDER` validates on the videos of the split `val` below that folder; empty: on rendered scenes."""
    validation_clips: Annotated[int, Within(1, 100_000)] = 8
    """Rendered scenes or, at most, videos that are validated on."""
    sources: dict[str, Weight] = field(default_factory=dict)
    """Weights of the clip sources, by name; empty: `data.clips.DEFAULT_WEIGHTS`."""
    image_sources: dict[str, Weight] = field(default_factory=dict)
    """Weights of the sources of single images where a stage mixes them in; empty: those of `sources`."""
    prompts: PromptConfig = PromptConfig()
    loss: LossConfig = LossConfig()
    stages: Annotated[tuple[StageConfig, ...], NotEmpty("at least one {steps, length, clips}")] = ()

    def __post_init__(self) -> None:
        check_settings(self)
        if any(stage.hybrid for stage in self.stages) and not self.long_term:
            raise ValueError(
                "a stage has hybrid sampling, which trains the long-term memory: set long_term: true"
            )
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate is {self.final_learning_rate}; use at most learning_rate, {self.learning_rate}"
            )
        for name, weights in (("sources", self.sources), ("image_sources", self.image_sources)):
            _check_sources(name, weights)
        if self.validation and folder_of(self.validation) is None:
            raise ValueError(
                f"validation is {self.validation!r}; use videos:FOLDER, or nothing for rendered scenes"
            )
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


def _check_sources(name: str, weights: dict[str, float]) -> None:
    """ValueError for a source that does not exist, and where all weights are 0."""
    for source in weights:
        if folder_of(source) is None and source not in (*DEFAULT_WEIGHTS, *MORE_SOURCES):
            known = ", ".join((*DEFAULT_WEIGHTS, *MORE_SOURCES, f"{FOLDER_PREFIX}FOLDER"))
            raise ValueError(f"{name} has {shown(source)}; use the names {known}")
    if weights and not any(weights.values()):
        raise ValueError(f"{name} has no weight above 0; give one to what is to be trained on")


def read_train_config(path: str | Path) -> TrainConfig:
    """Read a YAML file into a `TrainConfig`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a mapping, names a setting that does not exist or twice, lacks one, or has a value
            of another type or outside its limits.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is no file; name the configuration of a training, such as config/train_nano.yaml"
        )
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeysSafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    values = _settings_of(TrainConfig, raw, str(path), "")
    for name, kind in (("prompts", PromptConfig), ("loss", LossConfig)):
        if name in values:
            values[name] = _build(kind, values[name], str(path), f"{name}.")
    if isinstance(values.get("train_only"), list):
        values["train_only"] = tuple(values["train_only"])
    if isinstance(values.get("stages"), list):
        values["stages"] = tuple(
            _build(StageConfig, stage, str(path), f"stages[{i}].") for i, stage in enumerate(values["stages"])
        )
    return _build(TrainConfig, values, str(path), "")


class _UniqueKeysSafeLoader(yaml.SafeLoader):
    """YAML's plain values; a key that a mapping has twice is an error, where YAML would drop the first."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The node of a mapping, as it stands in the file."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.composer.ComposerError(
                        None, None, f"'{key.value}' is there twice; leave one", key.start_mark
                    )
                seen.add(key.value)
        return node


def _build(kind: type, raw: Any, path: str, prefix: str) -> Any:
    """A dataclass from a mapping; what is wrong is named with the file and the place in it."""
    values = _settings_of(kind, raw, path, prefix)
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{path}: {prefix}{error}") from None


def _settings_of(kind: type, raw: Any, path: str, prefix: str) -> dict[str, Any]:
    """The mapping itself. ValueError: it is none, has unknown settings or lacks some."""
    where = f"{path}: {prefix.rstrip('.')}" if prefix else path
    if not isinstance(raw, dict):
        raise ValueError(f"{where} is {shown(raw)}; use a mapping of settings")
    known = {one.name: one for one in fields(kind)}
    unknown = [name for name in raw if name not in known]
    if unknown:
        listed = ", ".join(f"{prefix}{name}" for name in unknown)
        raise ValueError(f"{path}: unknown setting {listed}; known are {', '.join(sorted(known))}")
    lacking = [
        name
        for name, one in known.items()
        if one.default is MISSING and one.default_factory is MISSING and name not in raw
    ]
    if lacking:
        raise ValueError(f"{where} lacks {', '.join(lacking)}; use {permitted(kind, lacking[0])}")
    return dict(raw)
