"""The network equals the public SAM 2 reference over a stream; with any of its parts wrong, it does not.

The contract is `SAM2Base.track_step` in float32; the official predictor rounds memory to bfloat16, this does
not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from sam2_reference import ReferenceStream, build_reference, reference_features, set_object_score_bias
from torch import Tensor

from sam2s_ros.network import PRESETS, Sam2Network
from sam2s_ros.network.sam2 import Conditioned, Decoded, ImageFeatures

BAR = 5e-6
"""Largest accepted deviation, relative to the range of the values compared."""
FRAMES = 18
"""Longer than the 6 recent memories and the 16 pointers."""


@dataclass(frozen=True)
class Prompt:
    """Clicks (labels 1, 0) or box corners (2, 3), or a disc (x, y, radius) as mask; in parts of the side."""

    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    disc: tuple[float, float, float] | None = None

    def tensors(self, size: int) -> dict[str, Tensor]:
        """Points [1, K, 2] in pixels with labels [1, K], or mask [1, 1, S, S]."""
        if self.disc is None:
            return {
                "points": size * torch.tensor([self.points]),
                "labels": torch.tensor([self.labels], dtype=torch.int32),
            }
        x, y, radius = (size * value for value in self.disc)
        rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        return {"mask": ((columns - x) ** 2 + (rows - y) ** 2 < radius**2).float()[None, None]}


# object -> frame -> prompt; an object's first prompt adds it, a later one refines it
SCRIPT: dict[str, dict[int, Prompt]] = {
    "clicked": {0: Prompt(((0.4, 0.3),), (1,)), 9: Prompt(((0.47, 0.35), (0.12, 0.78)), (1, 0))},
    "masked": {3: Prompt(disc=(0.6, 0.55, 0.16))},
    "boxed": {5: Prompt(((0.15, 0.2), (0.55, 0.66)), (2, 3)), 11: Prompt(((0.25, 0.25),), (0,))},
}


def make_frames(size: int, count: int) -> list[Tensor]:
    """A smooth random texture that drifts, as normalised images [1, 3, S, S]."""
    generator = torch.Generator().manual_seed(3)
    texture = torch.randn(1, 3, 40, 40, generator=generator)
    large = torch.nn.functional.interpolate(
        texture, size=(size + 3 * count, size + 3 * count), mode="bicubic"
    )
    return [large[:, :, 2 * t : 2 * t + size, 3 * t : 3 * t + size].contiguous() for t in range(count)]


@dataclass
class TrackedObject:
    """SAM 2's two sets of past outputs: frame -> (memory [hw, Cm], pointer [C])."""

    conditioning: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    recent: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    logits: Tensor | None = None


@dataclass
class Stream:
    """Our network in a plain loop: a frame's objects in one batch, their memories padded with garbage."""

    network: Sam2Network
    drop_pointers: bool = False
    reverse_temporal_index: bool = False
    objects: dict[str, TrackedObject] = field(default_factory=dict)

    @torch.no_grad()
    def step(self, index: int, image: Tensor, prompts: dict[str, Prompt]) -> dict[str, dict[str, Tensor]]:
        features = self.network.encode_image(image)
        results = {}
        if self.objects:
            results = self._track(index, features)
        for name, prompt in prompts.items():
            results[name] = self._prompt(index, features, name, prompt)
        return results

    def _track(self, index: int, features: ImageFeatures) -> dict[str, dict[str, Tensor]]:
        names = list(self.objects)
        conditioned = self._attend(index, features, names)
        decoded = self.network.decode(conditioned, features.f0, features.f1, None, None, None, multimask=True)
        return self._remember(index, features, names, decoded, conditioning=False)

    def _prompt(self, index: int, features: ImageFeatures, name: str, prompt: Prompt) -> dict[str, Tensor]:
        network = self.network
        refines = name in self.objects
        state = self.objects.setdefault(name, TrackedObject())
        given = prompt.tensors(network.config.image_size)
        if "mask" in given:
            decoded = network.mask_as_output(features.f2, features.f0, features.f1, given["mask"])
        else:
            if refines:
                state.recent.pop(index)
                conditioned, previous = self._attend(index, features, [name]), state.logits.clamp(-32, 32)
            else:
                conditioned, previous = network.without_memory(features.f2), None
            decoded = network.decode(
                conditioned,
                features.f0,
                features.f1,
                given["points"],
                given["labels"],
                previous,
                multimask=len(prompt.labels) <= 1,
            )
        return self._remember(index, features, [name], decoded, conditioning=True)[name]

    def _attend(self, index: int, features: ImageFeatures, names: list[str]) -> Conditioned:
        reads = [self._read(index, self.objects[name]) for name in names]
        memories, pointers = max(len(read[0]) for read in reads), max(len(read[1]) for read in reads)
        config = self.network.config
        memory = torch.randn(len(names), memories, config.feature_size**2, config.memory_dim)
        temporal_index = torch.zeros(len(names), memories, dtype=torch.int64)
        memory_valid = torch.zeros(len(names), memories, dtype=torch.bool)
        pointer = torch.randn(len(names), pointers, config.hidden_dim)
        distance = torch.full((len(names), pointers), 3.0)
        pointer_valid = torch.zeros(len(names), pointers, dtype=torch.bool)
        for row, (entries, known_pointers) in enumerate(reads):
            for slot, (when, entry) in zip(torch.randperm(memories).tolist(), entries, strict=False):
                memory[row, slot], temporal_index[row, slot], memory_valid[row, slot] = entry, when, True
            for slot, (when, entry) in zip(torch.randperm(pointers).tolist(), known_pointers, strict=False):
                pointer[row, slot], distance[row, slot], pointer_valid[row, slot] = entry, when, True
        if self.drop_pointers:
            pointer_valid[:] = False
        return self.network.attend_memory(
            features.f2, memory, temporal_index, memory_valid, pointer, distance, pointer_valid
        )

    def _read(
        self, index: int, state: TrackedObject
    ) -> tuple[list[tuple[int, Tensor]], list[tuple[int, Tensor]]]:
        """(temporal index, memory) and (distance, pointer) of what SAM 2 attends to on a frame."""
        entries = [(6, memory) for memory, _ in state.conditioning.values()]
        for distance in range(1, 7):
            if index - distance in state.recent:
                when = 6 - distance if self.reverse_temporal_index else distance - 1
                entries.append((when, state.recent[index - distance][0]))
        pointers = [(index - frame, pointer) for frame, (_, pointer) in state.conditioning.items()]
        pointers += [(d, state.recent[index - d][1]) for d in range(1, 16) if index - d in state.recent]
        return entries, pointers

    def _remember(
        self, index: int, features: ImageFeatures, names: list[str], decoded: Decoded, conditioning: bool
    ) -> dict[str, dict[str, Tensor]]:
        memory = self.network.encode_memory(features.f2, decoded.high_res, decoded.object_score)
        results = {}
        for row, name in enumerate(names):
            state = self.objects[name]
            frames = state.conditioning if conditioning else state.recent
            frames[index] = (memory[row], decoded.pointer[row])
            state.logits = decoded.logits[row : row + 1]
            results[name] = {
                "logits": decoded.logits[row : row + 1],
                "iou": decoded.iou[row : row + 1],
                "object_score": decoded.object_score[row : row + 1],
                "pointer": decoded.pointer[row : row + 1],
                "memory": memory[row : row + 1],
            }
        return results


Outputs = dict[str, list[dict[str, Tensor]]]


def run_ours(stream: Stream, frames: list[Tensor], script: dict[str, dict[int, Prompt]]) -> Outputs:
    torch.manual_seed(11)
    outputs: Outputs = {name: [] for name in script}
    for index, image in enumerate(frames):
        prompts = {name: plan[index] for name, plan in script.items() if index in plan}
        for name, result in stream.step(index, image, prompts).items():
            outputs[name].append(result)
    return outputs


def run_reference(reference: torch.nn.Module, frames: list[Tensor]) -> Outputs:
    """Each object alone. On a frame that is refined, what counts is the refined output."""
    features = reference_features(reference, frames)
    outputs: Outputs = {}
    for name, plan in SCRIPT.items():
        stream = ReferenceStream(reference, features)
        outputs[name] = []
        for index in range(min(plan), len(frames)):
            if index > min(plan):
                result = stream.step(index)
            if index in plan:
                result = stream.step(index, **plan[index].tensors(frames[0].shape[-1]))
            outputs[name].append(result)
    return outputs


def deviation(ours: Outputs, expected: Outputs, key: str) -> float:
    """Largest difference over objects and frames, relative to the range of the expected values.

    A single number has no range: IoU (0..1) is taken as it is, an object score relative to its size.
    """
    worst = 0.0
    for name, results in expected.items():
        assert len(ours[name]) == len(results)
        for mine, theirs in zip(ours[name], results, strict=True):
            value = theirs[key]
            assert mine[key].shape == value.shape
            spread = value.max() - value.min() if value.numel() > 1 else value.abs().clamp(min=1.0)
            worst = max(worst, ((mine[key] - value).abs().max() / spread).item())
    return worst


@dataclass(frozen=True)
class Pair:
    """The reference, what it puts out over a stream, and the same weights for our network."""

    preset: str
    reference: torch.nn.Module
    frames: list[Tensor]
    expected: Outputs

    def network(self) -> Sam2Network:
        config = dataclasses.replace(PRESETS[self.preset], image_size=self.frames[0].shape[-1])
        network = Sam2Network(config).eval()
        network.load_state_dict(self.reference.state_dict(), strict=True)
        return network


def make_pair(preset: str, size: int, count: int = FRAMES) -> Pair:
    reference = build_reference(preset, size, seed=7)
    frames = make_frames(size, count)
    return Pair(preset, reference, frames, run_reference(reference, frames))


@pytest.fixture(scope="module")
def small_pair() -> Pair:
    """Tiny at 64 px: 16 grid cells, so there are more pointer tokens than cells."""
    return make_pair("sam2.1_hiera_t", 64)


def assert_equal_streams(pair: Pair) -> None:
    ours = run_ours(Stream(pair.network()), pair.frames, SCRIPT)
    found = {
        key: deviation(ours, pair.expected, key)
        for key in ("logits", "iou", "object_score", "pointer", "memory")
    }
    print(f"{pair.preset} at {pair.frames[0].shape[-1]} px, {len(pair.frames)} frames: {found}")
    assert max(found.values()) <= BAR, found


@pytest.mark.parametrize("preset", ["sam2.1_hiera_t", "sam2.1_hiera_s"])
def test_three_objects_in_one_batch_equal_the_reference_tracking_each_alone(preset: str) -> None:
    assert_equal_streams(make_pair(preset, 128))


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["sam2.1_hiera_t", "sam2.1_hiera_s"])
def test_streams_are_equal_at_512_px(preset: str) -> None:
    assert_equal_streams(make_pair(preset, 512, 12))


def test_streams_are_equal_with_more_pointers_than_grid_cells(small_pair: Pair) -> None:
    assert_equal_streams(small_pair)


def test_an_object_that_leaves_and_comes_back_equals_the_reference(small_pair: Pair) -> None:
    reference, network, frames = small_pair.reference, small_pair.network(), small_pair.frames
    features = reference_features(reference, frames)
    theirs, ours = ReferenceStream(reference, features), Stream(network)
    plan = {0: Prompt(disc=(0.6, 0.55, 0.16))}
    results: Outputs = {"object": []}
    expected: Outputs = {"object": []}
    try:
        for index, image in enumerate(frames[:8]):
            for either in (reference, network):
                set_object_score_bias(either, -30.0 if 3 <= index < 6 else 8.0)
            prompt = plan[index].tensors(64) if index in plan else {}
            expected["object"].append(theirs.step(index, **prompt))
            prompts = {"object": plan[index]} if index in plan else {}
            results["object"].append(ours.step(index, image, prompts)["object"])
    finally:
        set_object_score_bias(reference, 8.0)
    for index, result in enumerate(results["object"]):
        assert bool((result["logits"] == -1024).all()) == (3 <= index < 6)
    absent = {"object": results["object"][3:6]}, {"object": expected["object"][3:6]}
    assert torch.equal(absent[0]["object"][0]["logits"], absent[1]["object"][0]["logits"])
    assert deviation(*absent, "pointer") <= BAR
    assert deviation(*absent, "memory") <= BAR
    present = {"object": results["object"][6:]}, {"object": expected["object"][6:]}
    assert deviation(*present, "logits") <= BAR


def test_an_empty_mask_prompt_equals_the_reference(small_pair: Pair) -> None:
    reference, network = small_pair.reference, small_pair.network()
    features = reference_features(reference, small_pair.frames[:1])
    prompt = Prompt(disc=(0.5, 0.5, 0.0))
    expected = ReferenceStream(reference, features).step(0, **prompt.tensors(64))
    ours = Stream(network).step(0, small_pair.frames[0], {"object": prompt})["object"]
    assert ours["object_score"].item() == expected["object_score"].item() == -10.0
    for key in ("logits", "pointer", "memory"):
        assert torch.allclose(ours[key], expected[key], rtol=0, atol=BAR), key


def without_rope(network: Sam2Network) -> Stream:
    network.memory_attention.rotation = torch.ones_like(network.memory_attention.rotation)
    return Stream(network)


def with_layers_swapped(network: Sam2Network) -> Stream:
    layers = network.memory_attention.layers
    layers[1], layers[2] = layers[2], layers[1]
    return Stream(network)


CONTROLS: dict[str, Callable[[Sam2Network], Stream]] = {
    "pointers dropped": lambda network: Stream(network, drop_pointers=True),
    "temporal index reversed": lambda network: Stream(network, reverse_temporal_index=True),
    "RoPE removed": without_rope,
    "two layers swapped": with_layers_swapped,
}


@pytest.mark.parametrize("control", sorted(CONTROLS))
def test_a_wrong_network_is_found(small_pair: Pair, control: str) -> None:
    ours = run_ours(CONTROLS[control](small_pair.network()), small_pair.frames, SCRIPT)
    found = deviation(ours, small_pair.expected, "logits")
    print(f"{control}: {found:.1e}")
    assert found >= 5 * BAR
