"""`sam2s evaluate --ray`: the sequences of one run on the machines of a Ray cluster, each run as `runs` would here.

A sequence comes back as the parts that a run on one machine makes of it (`unfinished`), and is then like one that was
run before: the merge is the same code, and an interrupted run goes on. Machines need this package, and bags and weights
under the same paths. Ray is optional: requirements-ray.txt.
"""

from __future__ import annotations

import argparse
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sam2s_ros.evaluation.baselines import BASELINES
from sam2s_ros.evaluation.outputs import EvaluationOutputs
from sam2s_ros.evaluation.runs import evaluate_all, with_baselines
from sam2s_ros.evaluation.sequences import Sequence
from sam2s_ros.evaluation.sources import find_all_sequences
from sam2s_ros.evaluation.unfinished import Part, UnfinishedRun

LOCAL = "local"
"""Instead of an address: a cluster of this machine alone, for this run."""
CRASHES = 3
"""How often a sequence is begun anew whose process or machine was lost, or that could not read or write a file."""
REACH_TIMEOUT_S = 10.0
"""How long a cluster may take to answer at its address."""


@dataclass(frozen=True)
class SequenceRun:
    """What a machine sends back of one sequence."""

    parts: list[Part]
    """In the order of a run of this sequence alone."""
    videos: dict[str, bytes]
    """Overlay videos by file name."""


def run_sequence(arguments: argparse.Namespace, number: int, folder: Path) -> SequenceRun:
    """Evaluate one of the sequences that the arguments name; `folder` is the one that relative paths start from.

    Raises:
        FileNotFoundError: this machine does not have `folder`, or a file that the arguments name.
        ValueError: what an evaluation raises.
    """
    os.chdir(folder)
    with tempfile.TemporaryDirectory(prefix="sam2s_") as temporary:
        out = Path(temporary)
        here = argparse.Namespace(**{**vars(arguments), "out": out})
        outputs = EvaluationOutputs(out, {})
        evaluate_all(find_all_sequences(here), here, outputs, only=number)
        return SequenceRun(
            outputs.unfinished.parts(), {path.name: path.read_bytes() for path in out.glob("*.mp4")}
        )


def run_missing_sequences(
    sequences: list[Sequence], arguments: argparse.Namespace, run: UnfinishedRun
) -> None:
    """Have all sequences run that are not there already, and put their parts where a run on one machine has them.

    Raises:
        ValueError: Ray is missing or cannot be reached, sequences failed (which are named; the others are kept), or
            the machines ran different engines.
    """
    places = {number: part_numbers(number, len(sequences), arguments) for number in range(len(sequences))}
    missing = [number for number, parts in places.items() if not all(map(run.has, parts))]
    if not missing:
        return
    ray = _connect(arguments.ray)
    try:
        task = ray.remote(run_sequence).options(
            num_cpus=arguments.ray_cpus, max_retries=CRASHES, retry_exceptions=[OSError]
        )
        numbers = {task.remote(arguments, number, Path.cwd()): number for number in missing}
        waiting, failed = list(numbers), []
        with tqdm(total=len(missing), unit=" sequences", disable=None) as bar:
            while waiting:
                (done,), waiting = ray.wait(waiting)
                number = numbers[done]
                try:
                    _keep(ray.get(done), places[number], arguments.out, run)
                except ray.exceptions.RayError as error:
                    failed.append(f"{sequences[number].name}: {_reason(error)}")
                bar.update()
    finally:
        ray.shutdown()
    if failed:
        kept = len(missing) - len(failed)
        raise ValueError(
            f"{len(failed)} of {len(sequences)} sequences failed; {kept} more are done, and the same command on the "
            "same files goes on with them: " + "; ".join(failed)
        )
    _require_one_engine(run, places)


def part_numbers(number: int, sequences: int, arguments: argparse.Namespace) -> list[int]:
    """Which parts of the whole run are those of one sequence, in the order of a run of this sequence alone."""
    of_model = 0 if arguments.model == "none" else 1 + arguments.rounds
    model = [number * of_model + part for part in range(of_model)]
    baselines = range(len(BASELINES) if with_baselines(arguments) else 0)
    return model + [sequences * (of_model + baseline) + number for baseline in baselines]


def _connect(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ValueError(f"--ray needs Ray ({error}): pip install -r requirements-ray.txt") from error
    try:
        if address == LOCAL:
            ray.init(include_dashboard=False, log_to_driver=False)
        else:
            _require_somebody_listens(address)
            ray.init(address, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"--ray {address}: no Ray cluster can be reached there ({error}); one with a token, which `ray start` "
            "makes, wants RAY_AUTH_MODE=token and the file ~/.ray/auth_token of its head"
        ) from error
    return ray


def _require_somebody_listens(address: str) -> None:
    """OSError at once where Ray would try again for minutes; nothing for an address without a port ("auto")."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), REACH_TIMEOUT_S).close()


def _keep(found: SequenceRun, places: list[int], out: Path, run: UnfinishedRun) -> None:
    for name, video in found.videos.items():
        (out / name).write_bytes(video)
    for place, part in zip(places, found.parts, strict=True):
        run.put(place, part)


def _reason(error: Any) -> str:
    """One line: of what the evaluation raised, or of how its process was lost."""
    cause = getattr(error, "cause", None) or error
    return str(cause).strip().splitlines()[0]


def _require_one_engine(run: UnfinishedRun, places: dict[int, list[int]]) -> None:
    """Masks of different engines differ, so that their mean would be that of no engine."""
    facts = (run.facts(parts[0])["facts"].get("engine") for parts in places.values())
    engines = {f"{engine['name']} {engine['precision']}" for engine in facts if engine is not None}
    if len(engines) > 1:
        raise ValueError(
            f"the machines ran different engines ({', '.join(sorted(engines))}): name one with --engine and --precision"
        )
