"""SAM 2.1 tiny, frame by frame: the public reference, Hugging Face's Sam2Video, and each of our engines, in turn.

    python test/benchmarks/peers.py [--size 512] [--objects 1 4 8] [--threads 2] [--json FILE] [--quick]

Random weights, the same for the reference and for ours; one conditioning frame, six recent frames and sixteen
pointers in use. A step of ours is the whole tracker's, from an image of uint8 to masks and geometry at the image's
size; the others are given normalised images and give masks of a quarter of the size. `agreement` is the least IoU
of our masks with the reference's in float32 over all frames. The reference's objects are one batch, which its
video predictor does not do. Hugging Face's model is left out where `transformers` is not installed
(requirements-embed.txt); its weights are random ones of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import json
import multiprocessing
import statistics
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam2_reference import ReferenceStream, build_reference, reference_features
from tracking_cases import disc, moving_images

from sam2s_ros.engines import create_engine
from sam2s_ros.network import PRESETS, Sam2Network
from sam2s_ros.tracking import StreamingTracker, TrackerConfig

PRESET = "sam2.1_hiera_t"
KEPT_FRAMES = 16
"""Frames that the reference looks back, for its pointers; older outputs are dropped."""
WARM_UP_STEPS = 17
"""Fill six recent memories and sixteen pointers."""
IMAGES = 24
ENGINES = (
    ("eager", "fp32"),
    ("eager", "bf16"),
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
)


def main() -> None:
    """Measure, print a table, write JSON."""
    args = parse_arguments()
    rounds, warm_up = (1, 2) if args.quick else (args.rounds, WARM_UP_STEPS)
    results: dict[str, Any] = {
        "preset": PRESET,
        "image_size": args.size,
        "threads": args.threads,
        "objects": {},
    }
    print(
        f"{'objects':>7} {'':>26} {'ms a step':>9} {'fastest':>8} {'slowest':>8} {'to fp32':>8} {'to bf16':>8}"
        "  agreement"
    )
    names = peer_names()
    for count in args.objects:
        with contextlib.ExitStack() as stack:
            peers = {}
            for name in names:
                worker = Worker(name, args.size, count, args.threads)
                peers[name] = stack.enter_context(contextlib.closing(worker))
                worker.ask("run", warm_up)
            times: dict[str, list[float]] = {name: [] for name in peers}
            for _ in range(rounds):
                for name, peer in peers.items():
                    times[name].append(statistics.median(peer.ask("run", args.steps)))
            truth = peers["reference fp32"].ask("all_masks")
            agreement = {
                name: least_iou(truth, peer.ask("all_masks")) if name.startswith("ours") else 1.0
                for name, peer in peers.items()
            }
            stages = {name: peer.ask("stages") for name, peer in peers.items()}
        results["objects"][str(count)] = table(times, agreement, stages)
        report(count, results["objects"][str(count)])
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


class Worker:
    """A peer in a process of its own, which does nothing while it is not asked: threads of one library that wait
    actively would slow the others down."""

    def __init__(self, name: str, size: int, count: int, threads: int) -> None:
        self._name = name
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, name, size, count, threads), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, what: str, *arguments: Any) -> Any:
        """`Peer.run`, `all_masks` or `stages` there. RuntimeError when the process has ended."""
        try:
            self._connection.send((what, *arguments))
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError(f"the process of '{self._name}' has ended, see above") from error

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()


def serve(connection: Any, name: str, size: int, count: int, threads: int) -> None:
    """Make a peer and do what is asked of it."""
    torch.set_num_threads(threads)
    peer = make_peer(name, size, count, threads)
    peer.start()
    while True:
        what, *arguments = connection.recv()
        connection.send(getattr(peer, what)(*arguments))


class Peer(ABC):
    """One implementation that follows the objects through the images, to and fro."""

    def __init__(self, images: list[NDArray[np.uint8]], count: int) -> None:
        self.images, self.count, self.index = images, count, 0
        self.masks: list[NDArray[np.bool_]] = []
        """Masks bool [N, S / 4, S / 4] of every step."""

    @abstractmethod
    def start(self) -> None:
        """Show the first image and give each object its mask there."""

    @abstractmethod
    def follow(self, image: int) -> None:
        """One step, on the image of this number."""

    def step(self) -> None:
        self.index += 1
        last = len(self.images) - 1
        self.follow(last - abs(last - self.index % (2 * last)))  # to and fro

    def given(self) -> list[NDArray[np.bool_]]:
        """The objects' masks on the first image, each [S, S]."""
        return first_masks(self.count, self.images[0].shape[0])

    def run(self, steps: int) -> list[float]:
        """Milliseconds of each of so many steps."""
        times = []
        for _ in range(steps):
            begun = time.perf_counter()
            self.step()
            times.append(1000 * (time.perf_counter() - begun))
        return times

    def all_masks(self) -> list[NDArray[np.bool_]]:
        """Those of every step."""
        return self.masks

    def stages(self) -> dict[str, float]:
        """Median milliseconds by stage; empty where they are not known."""
        return {}


class Reference(Peer):
    """`SAM2Base.track_step`, all objects in one batch."""

    def __init__(self, reference: Any, images: list[NDArray[np.uint8]], count: int, bf16: bool) -> None:
        super().__init__(images, count)
        self.reference, self.bf16 = reference, bf16
        self.encode_ms: list[float] = []
        self.inputs = normalised(images)
        self.features: dict[int, Any] = {}
        self.stream = ReferenceStream(reference, self.features)  # type: ignore[arg-type]

    def start(self) -> None:
        masks = torch.from_numpy(np.stack(self.given())).float()[:, None]
        self._run(0, mask=masks)

    def follow(self, image: int) -> None:
        self._run(image)

    def _run(self, image: int, mask: Tensor | None = None) -> None:
        begun = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            ((maps, positions, sizes),) = reference_features(self.reference, [self.inputs[image]])
            self.encode_ms.append(1000 * (time.perf_counter() - begun))
            batched = [[one.expand(-1, self.count, -1) for one in several] for several in (maps, positions)]
            self.features[self.index] = (*batched, sizes)
            output = self.stream.step(self.index, mask=mask)
        self.features.pop(self.index)
        self.stream.outputs["non_cond_frame_outputs"].pop(self.index - KEPT_FRAMES, None)
        self.masks.append((output["logits"][:, 0] > 0).numpy())

    def stages(self) -> dict[str, float]:
        return {"encode": statistics.median(self.encode_ms[1:])}


class HuggingFace(Peer):
    """`Sam2VideoModel`, its image encoder run on each frame."""

    def __init__(self, images: list[NDArray[np.uint8]], count: int, bf16: bool) -> None:
        from transformers import Sam2VideoConfig, Sam2VideoModel
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        super().__init__(images, count)
        side = images[0].shape[0]
        config = Sam2VideoConfig(image_size=side)
        config.vision_config.backbone_config.image_size = [side, side]
        config.vision_config.backbone_feature_sizes = [[side // part] * 2 for part in (4, 8, 16)]
        config.prompt_encoder_config.image_size = side
        config.memory_attention_rope_feat_sizes = [side // 16] * 2
        config.mask_decoder_config.dynamic_multimask_via_stability = False
        torch.manual_seed(0)
        self.model, self.bf16 = Sam2VideoModel(config).eval(), bf16
        self.session = Sam2VideoInferenceSession(video_height=side, video_width=side, dtype=torch.float32)
        self.inputs = normalised(images)

    def start(self) -> None:
        self.session.add_new_frame(self.inputs[0], 0)
        for one, mask in enumerate(self.given()):
            index = self.session.obj_id_to_idx(one)
            self.session.add_mask_inputs(index, 0, torch.from_numpy(mask).float()[None, None])
            self.session.obj_with_new_inputs.append(one)
        self._run(frame_idx=0)

    def follow(self, image: int) -> None:
        self._run(frame=self.inputs[image], frame_idx=self.index)
        self.session.processed_frames.pop(self.index - 1)  # it would keep every frame

    @torch.no_grad()
    def _run(self, **arguments: Any) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            self.model(self.session, **arguments)


class Ours(Peer):
    """The streaming tracker as SAM 2 has it, by one engine."""

    def __init__(
        self,
        network: Sam2Network,
        images: list[NDArray[np.uint8]],
        count: int,
        engine: str,
        precision: str,
        threads: int,
    ) -> None:
        super().__init__(images, count)
        config = dataclasses.replace(TrackerConfig.sam2(), max_objects=count)
        runner = create_engine(engine, network, config.engine_capacity(), threads, precision)
        runner.warm_up()
        self.tracker = StreamingTracker(runner, config)
        self.stages_ms: dict[str, list[float]] = {}

    def start(self) -> None:
        self.tracker.step(self.images[0])
        for mask in self.given():
            self.tracker.add_object(None, mask=mask)
        self._keep()

    def follow(self, image: int) -> None:
        result = self.tracker.step(self.images[image])
        for stage, value in result.timings_ms.items():
            self.stages_ms.setdefault(stage, []).append(value)
        self._keep()

    def _keep(self) -> None:
        self.masks.append(self.tracker.last_result.logits > 0)

    def stages(self) -> dict[str, float]:
        return {stage: statistics.median(values) for stage, values in self.stages_ms.items()}


def peer_names() -> list[str]:
    """All that can be made here; those of Hugging Face only where its library is installed."""
    names = ["reference fp32", "reference autocast bf16"]
    try:
        importlib.import_module("transformers.models.sam2_video.modeling_sam2_video")
    except ImportError as error:
        print(f"Hugging Face's Sam2Video is left out (requirements-embed.txt): {error}")
    else:
        names += ["Hugging Face fp32", "Hugging Face autocast bf16"]
    return names + [f"ours {engine} {precision}" for engine, precision in ENGINES]


def make_peer(name: str, size: int, count: int, threads: int) -> Peer:
    """The peer of a name, with the same random weights as the others have, but for Hugging Face's."""
    images = moving_images(IMAGES, (size, size))
    bf16 = name.endswith("bf16")
    if name.startswith("Hugging Face"):
        return HuggingFace(images, count, bf16)
    reference = build_reference(PRESET, size, seed=2)
    if name.startswith("reference"):
        return Reference(reference, images, count, bf16)
    _, engine, precision = name.split()
    network = Sam2Network(dataclasses.replace(PRESETS[PRESET], image_size=size)).eval()
    network.load_state_dict(reference.state_dict(), strict=True)
    return Ours(network, images, count, engine, precision, threads)


def first_masks(count: int, size: int) -> list[NDArray[np.bool_]]:
    """A disc [S, S] for each object on the first image."""
    return [disc(size * (0.3 + 0.05 * one), size * 0.5, size / 6, (size, size)) for one in range(count)]


def normalised(images: list[NDArray[np.uint8]]) -> list[Tensor]:
    """The images as float32 [1, 3, S, S]."""
    config = PRESETS[PRESET]
    mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in (config.image_mean, config.image_std))
    return [(torch.from_numpy(one).permute(2, 0, 1)[None] / 255 - mean) / std for one in images]


def least_iou(one: list[NDArray[np.bool_]], other: list[NDArray[np.bool_]]) -> float:
    """The least IoU of two masks over all frames and objects; 1 where both are empty."""
    a, b = np.stack(one), np.stack(other)
    both, either = ((a & b).sum((-2, -1)), (a | b).sum((-2, -1)))
    return float(np.where(either > 0, both / np.maximum(either, 1), 1.0).min())


def table(
    times: dict[str, list[float]], agreement: dict[str, float], stages: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """Medians, and the median over the rounds of each ratio to the reference in the same round."""

    def ratio(name: str, to: str) -> float:
        return round(statistics.median(a / b for a, b in zip(times[to], times[name], strict=True)), 2)

    return {
        name: {
            "step_ms": round(statistics.median(values), 1),
            "rounds_ms": [round(value, 1) for value in values],
            "speed_to_reference_fp32": ratio(name, "reference fp32"),
            "speed_to_reference_bf16": ratio(name, "reference autocast bf16"),
            "least_iou": round(agreement[name], 4) if name.startswith("ours") else None,
            "stages_ms": {stage: round(value, 1) for stage, value in stages[name].items()},
        }
        for name, values in times.items()
    }


def report(count: int, rows: dict[str, Any]) -> None:
    for name, row in rows.items():
        agreed = "" if row["least_iou"] is None else f"{row['least_iou']:.4f}"
        print(
            f"{count:>7} {name:>26} {row['step_ms']:>9.1f} {min(row['rounds_ms']):>8.1f} {max(row['rounds_ms']):>8.1f} "
            f"{row['speed_to_reference_fp32']:>8.2f} {row['speed_to_reference_bf16']:>8.2f}  {agreed}",
            flush=True,
        )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size", type=int, default=512, help="side of the network's input (default: %(default)s)"
    )
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 4, 8], help="how many to track")
    parser.add_argument("--threads", type=int, default=2, help="of each (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="in turn (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="of each in a round (default: %(default)s)")
    parser.add_argument("--model", help="not used: the network is SAM 2.1 tiny")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--quick", action="store_true", help="one short round")
    return parser.parse_args()


if __name__ == "__main__":
    main()
