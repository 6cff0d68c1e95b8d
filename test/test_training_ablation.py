"""Promises of `sam2s ablate`: equal budgets, nothing done twice, commands a user could type, a table over seeds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sam2s_ros.cli import main
from sam2s_ros.evaluation.model_arguments import parse_settings
from sam2s_ros.training import ablate
from sam2s_ros.training.ablation import Ablation, Measurement, Variant, merged, read_ablation
from sam2s_ros.training.config import read_train_config

CONFIG = Path(__file__).parent.parent / "config" / "ablation.yaml"
BASE: dict[str, Any] = {
    "init": "start.safetensors",
    "batches": 2,
    "loss": {"mask": 2.0, "dice": 3.0},
    "stages": [{"steps": 5, "length": 2, "clips": 3}],
}


def small_ablation(**changes: Any) -> Ablation:
    values: dict[str, Any] = {
        "base": BASE,
        "variants": (
            Variant("vanilla"),
            Variant("tuned", train={"loss": {"dice": 1.0}}),
            Variant("tuned-flow", weights_of="tuned", tracker={"previous_mask_prompt": "flow"}),
        ),
        "measurements": (Measurement("test", "DATA/test/vocalfolds"), Measurement("long", "long:")),
        "seeds": (1, 2),
    }
    return Ablation(**{**values, **changes})


def document(jf: float) -> dict[str, Any]:
    mean = {"jf_present": jf, "found_share": None, "false_share": 10 * jf, "class_accuracy": None}
    return {"scores": {"model": {"mean": mean}}}


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What would be run; an evaluation then has its scores: 1.0 with the first seed, 3.0 with the second."""
    called: list[list[str]] = []

    def call(command: list[str]) -> bool:
        called.append(command)
        if command[0] == "evaluate":
            path = Path(command[command.index("--out") + 1]) / "summary.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(document(1.0 if "seed-1" in str(path) else 3.0)))
        return True

    monkeypatch.setattr(ablate, "_call", call)
    return called


def run(
    ablation: Ablation,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    variants: str | None = None,
    seeds: str | None = None,
) -> int:
    monkeypatch.setattr(ablate, "read_ablation", lambda _: ablation)
    given = argparse.Namespace(
        config=Path("x"), data=Path("data"), out=out, variants=variants, seeds=seeds, devices=1
    )
    return ablate.run(given)


def test_the_shipped_ablation_is_comparable_and_its_settings_exist(tmp_path: Path) -> None:
    """At least 5,000 clips for each of its trainings, as the project asks."""
    ablation = read_ablation(CONFIG)
    ablate.write_configs(ablation, ablation.variants, tmp_path)
    assert ablate.check_budget(ablation, ablation.variants, tmp_path) >= 5000
    for variant in ablation.variants:
        parse_settings([f"{name}={value}" for name, value in variant.tracker.items()])


def test_nested_settings_are_replaced_one_by_one(tmp_path: Path) -> None:
    assert merged(BASE, {"loss": {"dice": 1.0}})["loss"] == {"mask": 2.0, "dice": 1.0}
    assert BASE["loss"] == {"mask": 2.0, "dice": 3.0}
    ablation = small_ablation()
    ablate.write_configs(ablation, ablation.variants, tmp_path)
    config = read_train_config(tmp_path / "tuned" / "seed-2" / "config.yaml")
    assert (config.loss.mask, config.loss.dice, config.seed) == (2.0, 1.0, 2)
    assert config.total_clips == 2 * 5 * 3


def test_unequal_budgets_are_refused(tmp_path: Path) -> None:
    longer = Variant("longer", train={"stages": [{"steps": 6, "length": 2, "clips": 3}]})
    ablation = small_ablation(variants=(*small_ablation().variants, longer))
    ablate.write_configs(ablation, ablation.variants, tmp_path)
    with pytest.raises(ValueError, match=r"30 clips \(tuned\), 36 clips \(longer\)"):
        ablate.check_budget(ablation, ablation.variants, tmp_path)


def test_other_settings_in_the_same_folder_are_refused(tmp_path: Path) -> None:
    ablation = small_ablation()
    ablate.write_configs(ablation, ablation.variants, tmp_path)
    other = small_ablation(base={**BASE, "ema": 0.9})
    with pytest.raises(ValueError, match="holds other settings"):
        ablate.write_configs(other, other.variants, tmp_path)


def test_each_variant_is_evaluated_with_its_weights_and_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[list[str]]
) -> None:
    assert run(small_ablation(seeds=(1,)), tmp_path, monkeypatch) == 0
    assert [command[0] for command in commands] == ["evaluate", "evaluate", "train", *["evaluate"] * 4]
    models = [c[c.index("--model") + 1] for c in commands if c[0] == "evaluate"]
    tuned = str(tmp_path / "tuned" / "seed-1" / "weights.safetensors")
    assert models == ["start.safetensors"] * 2 + [tuned] * 4
    assert commands[0][1] == "data/test/vocalfolds" and commands[1][1] == "long:"
    assert "previous_mask_prompt=flow" in commands[-1] and "previous_mask_prompt=flow" not in commands[-3]


def test_what_is_there_is_not_evaluated_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[list[str]]
) -> None:
    ablation = small_ablation(variants=(Variant("vanilla"),))
    run(ablation, tmp_path, monkeypatch)
    assert len(commands) == 4
    (tmp_path / "vanilla" / "seed-2" / "long" / "summary.json").unlink()
    run(ablation, tmp_path, monkeypatch)
    assert len(commands) == 5 and commands[-1][-1].endswith("seed-2/long")


def test_scores_are_enough_and_weights_are_made_again_only_for_those_that_lack_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[list[str]]
) -> None:
    """No weights are there at any time, as on a machine to which the scores alone were brought."""
    ablation = small_ablation(seeds=(1,))
    run(ablation, tmp_path, monkeypatch)
    del commands[:]
    run(ablation, tmp_path, monkeypatch)
    assert commands == []
    (tmp_path / "tuned-flow" / "seed-1" / "long" / "summary.json").unlink()
    run(ablation, tmp_path, monkeypatch)
    assert [command[0] for command in commands] == ["train", "evaluate"]
    assert commands[1][-1].endswith("tuned-flow/seed-1/long")


def test_seeds_can_be_run_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[list[str]]
) -> None:
    ablation = small_ablation(variants=(Variant("vanilla"),))
    run(ablation, tmp_path, monkeypatch, seeds="2")
    assert {Path(command[-1]).parent.name for command in commands} == {"seed-2"}
    run(ablation, tmp_path, monkeypatch)
    assert len(commands) == 4 and commands[-1][-1].endswith("seed-1/long")
    with pytest.raises(ValueError, match="no seed '3'; there are 1, 2"):
        run(ablation, tmp_path, monkeypatch, seeds="1,3")


def test_the_table_has_means_and_spreads_over_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[list[str]]
) -> None:
    run(small_ablation(variants=(Variant("vanilla"),)), tmp_path, monkeypatch)
    line = (tmp_path / "table.md").read_text().splitlines()[2]
    assert line == "| vanilla | 2 | 2.0 (2.0) | - | 20.0 (20.0) | - | 2.0 (2.0) | - | 20.0 (20.0) | - |"


def test_chosen_variants_come_with_the_weights_they_need() -> None:
    chosen = ablate.chosen_variants(small_ablation(), "tuned-flow")
    assert [variant.name for variant in chosen] == ["tuned", "tuned-flow"]
    with pytest.raises(ValueError, match="no variant tuned-slow"):
        ablate.chosen_variants(small_ablation(), "tuned-slow")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"variants": [{"name": "../up"}]}, "no name for a folder"),
        ({"variants": [{"name": "a"}, {"name": "a"}]}, "one name"),
        ({"variants": [{"name": "a", "weights_of": "b"}]}, "weights_of names a variant that is trained"),
        ({"variants": [{"name": "a", "learn": {}}]}, "learn"),
        ({"base": {}, "variants": [{"name": "a"}]}, "needs init"),
        ({"variations": []}, "unknown entries variations"),
        ({"base": "missing.yaml"}, "missing.yaml"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], entry: dict[str, Any], message: str
) -> None:
    values = {"base": BASE, "measurements": [{"name": "m", "source": "long:"}], **entry}
    path = tmp_path / "ablation.yaml"
    path.write_text(yaml.safe_dump(values))
    status = main(["ablate", "--config", str(path), "--data", str(tmp_path), "--out", str(tmp_path / "o")])
    assert status == 2
    error = capsys.readouterr().err
    assert message in error and ("missing" in message or "ablation.yaml" in error)
