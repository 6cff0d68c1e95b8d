"""`sam2s ablate`: train variants of one recipe on the same number of clips and evaluate each in the same way.

Every training is a `sam2s train`, every evaluation a `sam2s evaluate`, in a process of its own; what is there already
is not done again, so that an interrupted ablation goes on. Of a variant that has all its scores nothing else need be
there: an ablation can be made in parts, on several machines, of which the scores alone are kept.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sam2s_ros.training.ablation import Ablation, Measurement, Variant, read_ablation
from sam2s_ros.training.config import read_train_config

HELP = "train variants of one recipe on the same number of clips, and compare them"
COLUMNS = {"J&F": "jf", "found": "found", "false": "false", "class": "class"}
"""Heading -> key of a row's numbers: J&F over frames that show the object, returns found, absent frames with a mask,
and frames with the right class, all in percent."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=Path("config/ablation.yaml"), help="the variants (YAML)"
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with train/ and test/, written DATA in the file"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for weights, scores, table.md and table.json"
    )
    parser.add_argument("--devices", type=int, default=1, help="processes of each training (default: 1)")
    parser.add_argument("--variants", help="only these, comma-separated (default: all)")
    parser.add_argument("--seeds", help="only these of the file's, comma-separated (default: all)")


def run(args: argparse.Namespace) -> int:
    ablation = read_ablation(args.config)
    variants = chosen_variants(ablation, args.variants)
    seeds = chosen_seeds(ablation, args.seeds)
    args.out.mkdir(parents=True, exist_ok=True)
    write_configs(ablation, variants, args.out)
    print(f"{check_budget(ablation, variants, args.out):,} clips in each training", flush=True)
    rows = []
    for seed in seeds:
        needed = {
            one.weights_of or one.name for one in variants if missing_scores(ablation, one, seed, args.out)
        }
        for variant in variants:
            if not _run_variant(ablation, variant, seed, args, train=variant.name in needed):
                return 1
            rows.append(read_row(ablation, variant, seed, args.out))
            _write_table(ablation, rows, args.out)
    print(table(ablation, rows))
    return 0


def chosen_variants(ablation: Ablation, names: str | None) -> tuple[Variant, ...]:
    """The variants of these names, comma-separated, and those whose weights they need; ValueError for unknown ones."""
    if names is None:
        return ablation.variants
    by_name = {variant.name: variant for variant in ablation.variants}
    wanted = {name.strip() for name in names.split(",")}
    unknown = sorted(wanted - by_name.keys())
    if unknown:
        raise ValueError(f"--variants: no variant {', '.join(unknown)}; there are {', '.join(by_name)}")
    wanted |= {by_name[name].weights_of for name in wanted} - {""}
    return tuple(variant for variant in ablation.variants if variant.name in wanted)


def chosen_seeds(ablation: Ablation, names: str | None) -> tuple[int, ...]:
    """The seeds of these names, comma-separated; ValueError for any that the ablation has not."""
    if names is None:
        return ablation.seeds
    wanted = [name.strip() for name in names.split(",")]
    unknown = [name for name in wanted if name not in map(str, ablation.seeds)]
    if unknown:
        known = ", ".join(map(str, ablation.seeds))
        raise ValueError(f"--seeds: no seed {', '.join(map(repr, unknown))}; there are {known}")
    return tuple(seed for seed in ablation.seeds if str(seed) in wanted)


def missing_scores(ablation: Ablation, variant: Variant, seed: int, out: Path) -> list[Measurement]:
    """What a variant has not been evaluated on yet."""
    return [one for one in ablation.measurements if not score_path(out, variant, seed, one).exists()]


def write_configs(ablation: Ablation, variants: Sequence[Variant], out: Path) -> None:
    """Write the settings of each training. ValueError where others were trained in the same folder."""
    for variant in variants:
        for seed in ablation.seeds if variant.train is not None else ():
            path = run_folder(out, variant.name, seed) / "config.yaml"
            text = yaml.safe_dump(ablation.train_settings(variant, seed), sort_keys=False)
            if path.exists() and path.read_text() != text:
                raise ValueError(f"{path} holds other settings: give another --out, or remove {path.parent}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def check_budget(ablation: Ablation, variants: Sequence[Variant], out: Path) -> int:
    """Clips of each training; ValueError where they differ."""
    counts = {
        variant.name: read_train_config(
            run_folder(out, variant.name, ablation.seeds[0]) / "config.yaml"
        ).total_clips
        for variant in variants
        if variant.train is not None
    }
    if len(set(counts.values())) > 1:
        raise ValueError(
            "the variants are not comparable, their trainings have "
            + ", ".join(f"{count} clips ({name})" for name, count in counts.items())
        )
    return next(iter(counts.values()), 0)


def run_folder(out: Path, variant: str, seed: int) -> Path:
    """Where a variant's training and scores with a seed lie."""
    return out / variant / f"seed-{seed}"


def weights_of(ablation: Ablation, variant: Variant, seed: int, out: Path) -> Path:
    """The weights that a variant is evaluated with."""
    if variant.train is None and not variant.weights_of:
        return Path(str(ablation.base["init"]))
    return run_folder(out, variant.weights_of or variant.name, seed) / "weights.safetensors"


def train_command(variant: Variant, seed: int, args: argparse.Namespace) -> list[str]:
    """`sam2s train` of a variant."""
    folder = run_folder(args.out, variant.name, seed)
    return [
        "train",
        *("--config", str(folder / "config.yaml")),
        *("--data", str(args.data)),
        *("--out", str(folder)),
        *("--devices", str(args.devices)),
    ]


def evaluate_command(
    ablation: Ablation, variant: Variant, seed: int, measurement: Measurement, args: argparse.Namespace
) -> list[str]:
    """`sam2s evaluate` of a variant."""
    source = measurement.source
    if source.startswith("DATA/"):
        source = str(args.data / source.removeprefix("DATA/"))
    settings = [word for name, value in variant.tracker.items() for word in ("--set", f"{name}={value}")]
    return [
        "evaluate",
        source,
        *("--data", str(args.data)),
        *("--model", str(weights_of(ablation, variant, seed, args.out))),
        *("--prompts", measurement.prompts),
        *settings,
        "--no-baselines",
        "--no-overlay",
        *("--out", str(score_path(args.out, variant, seed, measurement).parent)),
    ]


def score_path(out: Path, variant: Variant, seed: int, measurement: Measurement) -> Path:
    """Where the scores of a variant lie."""
    return run_folder(out, variant.name, seed) / measurement.name / "summary.json"


def _run_variant(
    ablation: Ablation, variant: Variant, seed: int, args: argparse.Namespace, train: bool
) -> bool:
    """Train a variant, if its weights are needed, and evaluate it, as far as that is not done; False when a command
    failed."""
    folder = run_folder(args.out, variant.name, seed)
    needs_training = train and variant.train is not None and not _is_trained(folder)
    if needs_training and not _call(train_command(variant, seed, args)):
        return False
    missing = missing_scores(ablation, variant, seed, args.out)
    return all(_call(evaluate_command(ablation, variant, seed, one, args)) for one in missing)


def _is_trained(folder: Path) -> bool:
    from sam2s_ros.network.checkpoint import read_metadata

    weights = folder / "weights.safetensors"
    if not weights.exists():
        return False
    metadata = read_metadata(weights)
    steps = read_train_config(folder / "config.yaml").total_steps
    return metadata is not None and metadata.extra.get("step") == steps


def _call(command: list[str]) -> bool:
    print(f"$ sam2s {shlex.join(command)}", flush=True)
    status = subprocess.run([sys.executable, "-m", "sam2s_ros.cli", *command], check=False).returncode
    if status:
        print(f"sam2s: error: the command above failed ({status}); mend it and call again", file=sys.stderr)
    return status == 0


def read_row(ablation: Ablation, variant: Variant, seed: int, out: Path) -> dict[str, Any]:
    """The numbers of a variant with a seed, by measurement: percent, None where there is nothing to measure."""
    row: dict[str, Any] = {"variant": variant.name, "seed": seed}
    for measurement in ablation.measurements:
        document = json.loads(score_path(out, variant, seed, measurement).read_text())
        mean = next(iter(document["scores"].values()))["mean"]
        row[measurement.name] = {
            "jf": mean["jf_present"],
            "found": mean["found_share"],
            "false": mean["false_share"],
            "class": mean["class_accuracy"],
        }
    return row


def table(ablation: Ablation, rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table, one line a variant: the mean over seeds, and the spread (largest less smallest) if several."""
    heading = ["variant", "seeds"]
    heading += [f"{measurement.name} {column}" for measurement in ablation.measurements for column in COLUMNS]
    lines = [heading, ["---"] * len(heading)]
    for variant in dict.fromkeys(row["variant"] for row in rows):
        own = [row for row in rows if row["variant"] == variant]
        cells = [variant, str(len(own))]
        for measurement in ablation.measurements:
            cells += [_cell([row[measurement.name][key] for row in own]) for key in COLUMNS.values()]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    spread = f" ({max(known) - min(known):.1f})" if len(known) > 1 else ""
    return f"{statistics.mean(known):.1f}{spread}"


def _write_table(ablation: Ablation, rows: Sequence[dict[str, Any]], out: Path) -> None:
    (out / "table.json").write_text(json.dumps(list(rows), indent=2) + "\n")
    (out / "table.md").write_text(table(ablation, rows) + "\n")
