"""The configurations of trainings that come with the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2s_ros.data.source_table import PAPER_TABLE, SOURCES
from sam2s_ros.training.config import TrainConfig, read_train_config

FOLDER = Path(__file__).resolve().parents[1] / "config"
CONFIGS = sorted(path.name for path in FOLDER.glob("*.yaml") if "\nstages:" in path.read_text())
PREFIX = "videos:sa-sv/"


def read(name: str) -> TrainConfig:
    return read_train_config(FOLDER / name)


def rows_of(source: str) -> set[str]:
    return {row for _, row in SOURCES[source.removeprefix(PREFIX)].rows}


@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_a_configuration_and_is_documented(name: str) -> None:
    assert read(name).total_steps > 0
    docs = [FOLDER.parent / "README.md", *FOLDER.parent.glob("docs/*.md"), FOLDER.parent / "models/README.md"]
    assert any(name in page.read_text() for page in docs), f"{name} is nowhere mentioned"


def test_the_recipe_of_the_paper_is_the_papers() -> None:
    """SAM2S_SPEC.md, section 5; sources and epochs from the paper's Table 1."""
    config = read("train_sam2s_base_plus.yaml")
    assert (config.preset, config.side, config.learning_rate, config.bf16) == (
        "sam2.1_hiera_b+",
        512,
        1e-5,
        "all",
    )
    assert (config.weight_decay, config.layer_decay, config.clip_norm) == (0.1, 0.9, 0.1)
    loss = config.loss
    assert (loss.mask, loss.dice, loss.iou, loss.presence, loss.tsl, loss.softening) == (
        20,
        1,
        1,
        1,
        0.1,
        1.0,
    )
    (stage,) = config.stages
    assert (stage.length, stage.objects, stage.images, stage.hybrid) == (8, 3, 0.2, 0.5)
    videos = sum(config.sources.values())
    for source, weight in config.sources.items():
        assert weight in [PAPER_TABLE[row].videos for row in rows_of(source)], source
    for source, weight in config.image_sources.items():
        images = {PAPER_TABLE[row].frames for row in rows_of(source)} | {PAPER_TABLE["DSAD-I"].frames}
        assert weight in images, source
    assert config.batches * stage.steps * (1 - stage.images) == pytest.approx(30 * videos, rel=1e-3)
