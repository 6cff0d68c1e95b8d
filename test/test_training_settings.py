"""Promises of a training's configuration: each setting has limits, and what lies beyond them is refused by name."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml

from sam2s_ros.cli import main
from sam2s_ros.training.config import LossConfig, PromptConfig, StageConfig, TrainConfig, read_train_config
from sam2s_ros.training.limits import Within

STAGE = {"steps": 1, "length": 2, "clips": 1}
KINDS = {"": TrainConfig, "prompts.": PromptConfig, "loss.": LossConfig, "stages[0].": StageConfig}
NO_NUMBERS = (".nan", ".inf", "'1'", "1e-3", "true", "null", "[1]", "{a: 1}")
NO_WHOLE_NUMBERS = (*NO_NUMBERS, "1.5", "-1")
NO_TEXTS = ("1", "true", "null", "[a]")
SHARE = ("a number from 0 to 1", (*NO_NUMBERS, "-0.1", "1.1"))
WEIGHT = ("a number from 0 to 1,000,000", (*NO_NUMBERS, "-0.1", "1.0e+7", "1" + 400 * "0"))
STEPS = ("a whole number from 1 to 100,000,000", (*NO_WHOLE_NUMBERS, "0", "100000001"))
PATH = ("a text", NO_TEXTS)
YES_NO = ("true or false", ("1", "'true'", "null", "[true]"))
SOURCES = ("a mapping, each value a number from 0 to 1,000,000", ("1", "davis", "null", "[davis]"))

WRONG: dict[str, tuple[str, tuple[str, ...]]] = {
    "preset": ("one of nano, sam2.1_hiera_t", (*NO_TEXTS, "huge")),
    "image_size": (
        "a whole number from 32 to 4,096, a multiple of 32, or 0",
        (*NO_WHOLE_NUMBERS, "31", "100", "4128"),
    ),
    "init": PATH,
    "long_term": YES_NO,
    "class_bank": PATH,
    "class_reader": YES_NO,
    "train_only": ("a list, each entry the beginning of a name", ("sam2s.class", "1", "null", "{a: 1}")),
    "seed": ("a whole number from 0 to 4,294,967,295", (*NO_WHOLE_NUMBERS, "4294967296")),
    "batches": ("a whole number from 1 to 65,536", (*NO_WHOLE_NUMBERS, "0", "65537")),
    "threads": ("a whole number from 1 to 1,024", (*NO_WHOLE_NUMBERS, "0", "1025")),
    "workers": ("a whole number from 0 to 1,024", (*NO_WHOLE_NUMBERS, "1025")),
    "learning_rate": ("a number above 0 and at most 1", (*NO_NUMBERS, "0", "-1.0e-3", "1.1")),
    "final_learning_rate": ("a number from 0 to 1", (*NO_NUMBERS, "-1.0e-3", "1.1")),
    "layer_decay": ("a number above 0 and at most 1", (*NO_NUMBERS, "0", "-0.9", "1.1")),
    "weight_decay": ("a number from 0 to 10", (*NO_NUMBERS, "-0.1", "10.1")),
    "warmup_steps": ("a whole number from 0 to 100,000,000", (*NO_WHOLE_NUMBERS, "100000001")),
    "clip_norm": ("a number above 0 and at most 1,000,000,000", (*NO_NUMBERS, "0", "-1.0")),
    "bf16": ("one of none, encoder, all", (*NO_TEXTS, "off", "some")),
    "ema": ("a number at least 0 and below 1", (*NO_NUMBERS, "-0.1", "1", "1.5")),
    "save_every_steps": STEPS,
    "validate_every_steps": STEPS,
    "validation": PATH,
    "validation_clips": ("a whole number from 1 to 100,000", (*NO_WHOLE_NUMBERS, "0", "100001")),
    "sources": SOURCES,
    "image_sources": SOURCES,
    "prompts": ("a mapping of settings", ("1", "mask", "null", "[mask]")),
    "loss": ("a mapping of settings", ("1", "focal", "null", "[focal]")),
    "stages": ("at least one {steps, length, clips}", ("[]", "1", "null", "{steps: 1, length: 1, clips: 1}")),
    "prompts.mask": SHARE,
    "prompts.box": SHARE,
    "prompts.max_clicks": ("a whole number from 1 to 100", (*NO_WHOLE_NUMBERS, "0", "101")),
    "prompts.correction": SHARE,
    "prompts.previous_mask": SHARE,
    "prompts.drift": SHARE,
    "prompts.true_masks": SHARE,
    "prompts.gap": SHARE,
    "loss.mask_loss": ("one of balanced, focal, quality_focal", (*NO_TEXTS, "magic")),
    "loss.softening": ("a number from 0.01 to 10, or 0", (*NO_NUMBERS, "-1.0", "1.0e-200", "11")),
    "loss.mask": WEIGHT,
    "loss.dice": WEIGHT,
    "loss.iou": WEIGHT,
    "loss.presence": WEIGHT,
    "loss.others": SHARE,
    "loss.size": ("a whole number from 8 to 4,096", (*NO_WHOLE_NUMBERS, "0", "7", "4097")),
    "loss.tsl": WEIGHT,
    "loss.tsl_scale": ("a number above 0 and at most 10,000", (*NO_NUMBERS, "0", "-1.0")),
    "stages[0].steps": STEPS,
    "stages[0].length": ("a whole number from 1 to 1,000", (*NO_WHOLE_NUMBERS, "0", "1001")),
    "stages[0].clips": ("a whole number from 1 to 4,096", (*NO_WHOLE_NUMBERS, "0", "4097")),
    "stages[0].objects": ("a whole number from 1 to 254", (*NO_WHOLE_NUMBERS, "0", "255")),
    "stages[0].images": SHARE,
    "stages[0].hybrid": SHARE,
}
"""Setting -> what it may be, in the words of the error, and values in YAML that it may not have."""


def text_with(name: str, value: str) -> str:
    """A configuration in which one setting has a value, as YAML."""
    place, _, last = name.rpartition(".")
    raw: dict[str, Any] = {"prompts": {}, "loss": {}, "stages": [dict(STAGE)]}
    mapping = raw["stages"][0] if place == "stages[0]" else raw[place] if place else raw
    mapping[last] = "VALUE"
    return yaml.safe_dump(raw).replace("VALUE", value)


def refusal(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `sam2s train` says of a configuration that it refuses before it looks for data: one line."""
    nowhere = path.parent / "nowhere"
    assert main(["train", "--config", str(path), "--data", str(nowhere), "--out", str(nowhere)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and not nowhere.exists(), lines
    return lines[0].removeprefix("sam2s: error: ")


def test_the_table_has_every_setting() -> None:
    assert set(WRONG) == {place + one.name for place, kind in KINDS.items() for one in fields(kind)}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_beyond_the_limits_is_refused_with_setting_value_and_limits(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "train.yaml"
    permitted, values = WRONG[name]
    for value in values:
        path.write_text(text_with(name, value))
        said = refusal(path, capsys)
        assert said.startswith(f"{path}: {name} is ") and f"; use {permitted}" in said, (value, said)


def test_the_limits_themselves_are_allowed(tmp_path: Path) -> None:
    """Lowest and highest value of each number, read from a file; what needs another setting besides is left out."""
    path = tmp_path / "train.yaml"
    together = {"true_masks", "tsl", "hybrid", "mask", "box", "learning_rate", "final_learning_rate"}
    tried = 0
    for place, kind in KINDS.items():
        for name, hint in get_type_hints(kind, include_extras=True).items():
            for within in (one for one in get_args(hint)[1:] if isinstance(one, Within)):
                ends = [within.low] * (not within.above_low) + [within.high] * (not within.below_high)
                for end in ends if name not in together else ():
                    path.write_text(text_with(place + name, repr(end)))
                    read_train_config(path)
                    tried += 1
    assert tried > 50


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lerning_rate: 1\n", ": unknown setting lerning_rate; known are batches, "),
        ("loss: {focal: 1}\n", ": unknown setting loss.focal; known are "),
        ("prompts: {1: 2, a: 3}\n", ": unknown setting prompts.1, prompts.a; known are "),
        ("seed: 1\n", ": stages is (); use at least one {steps, length, clips}"),
        ("stages: [3]\n", ": stages[0] is 3; use a mapping of settings"),
        ("stages: [{steps: 1, clips: 1}]\n", ": stages[0] lacks length; use a whole number from 1 to 1,000"),
        ("seed: 1\nseed: 2\n", " is no YAML: 'seed' is there twice; leave one"),
        ("seed: [1\n", " is no YAML: while parsing"),
        ("- seed\n", " is ['seed']; use a mapping of settings"),
        ("", " is empty; use a mapping of settings"),
        ("sources: {magic: 1.0}\n", ": sources has the text 'magic'; use the names surgical, "),
        ("sources: {davis: -1.0}\n", ": sources: davis is -1.0; use a number from 0 to 1,000,000"),
        ("sources: {davis: 0.0}\n", ": sources has no weight above 0"),
        ("image_sources: {3: 1.0}\n", ": image_sources has the name 3; use a text"),
        ("train_only: ['']\n", ": train_only[0] is the text ''; use the beginning of a name"),
        ("prompts: {mask: 0.8, box: 0.3}\n", ": prompts.mask is 0.8 and box is 0.3; as shares"),
        (
            "loss: {mask: 0, dice: 0, iou: 0, presence: 0}\n",
            ": loss.mask, dice, iou, presence and tsl are all 0",
        ),
        ("learning_rate: 1.0e-5\n", ": final_learning_rate is 5e-05; use at most learning_rate, 1e-05"),
        ("validation: somewhere\n", ": validation is 'somewhere'; use videos:FOLDER"),
    ],
)
def test_what_is_no_configuration_is_refused_in_one_line(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "train.yaml"
    stages = (
        ""
        if not text or text[0] == "-" or text.startswith(("stages", "seed"))
        else yaml.safe_dump({"stages": [STAGE]})
    )
    path.write_text(text + stages)
    error = refusal(path, capsys)
    assert error.startswith(f"{path}{said}"), error


def test_a_configuration_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "nowhere.yaml is no file" in refusal(tmp_path / "nowhere.yaml", capsys)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    assert "bytes.yaml is no YAML" in refusal(tmp_path / "bytes.yaml", capsys)
