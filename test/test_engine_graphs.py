"""Engines that run exported graphs say what eager PyTorch says, pixel for pixel in float32."""

from __future__ import annotations

import dataclasses
import sys
import threading

import numpy as np
import pytest
import torch
from engine_cases import ENGINE_IDS, ENGINES, ComparingEngine, compare_with_eager
from sam2_reference import perturb, set_object_score_bias
from tracking_cases import CLASSES, READING, SEMANTIC, SMALL, disc, moving_images, small_network

from sam2s_ros.engines import EngineCapacity, PromptBatch, create_engine
from sam2s_ros.engines.export import load_graphs
from sam2s_ros.engines.graphs import (
    GRAPHS,
    AttendGraph,
    DecodeGraph,
    EncodeGraph,
    MemoriseGraph,
    PromptGraph,
    ReadGraph,
    graphs_of,
)
from sam2s_ros.engines.openvino_runner import OpenVinoRunner
from sam2s_ros.network import Conditioned, HieraConfig, NetworkConfig, Sam2Network
from sam2s_ros.tracking import StreamingTracker, TrackerConfig
from sam2s_ros.tracking.class_memory import KnownClasses

pytestmark = pytest.mark.usefixtures("graph_cache", "gpu_for_tensorrt")
CAPACITY = EngineCapacity(max_objects=3, frame_slots=4)
ROWS = np.arange(2)
DEEP = dataclasses.replace(SMALL, memory_layers=2, binarize_mask_from_points=True)
DEEP_SEMANTIC = dataclasses.replace(SEMANTIC, memory_layers=2)
DEEP_READING = dataclasses.replace(READING, memory_layers=2)
HIERA = dataclasses.replace(
    SMALL,
    trunk=HieraConfig(embed_dim=16, stages=(1, 2, 2, 1), global_att_blocks=(3,), window_spec=(8, 4, 4, 2)),
    fpn_top_down_levels=(2, 3),
)


def random_network(config: NetworkConfig) -> Sam2Network:
    torch.manual_seed(3)
    network = Sam2Network(config).eval()
    perturb(network)
    return network


def largest_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative to the largest value."""
    return float((found - expected.reshape(found.shape)).abs().max() / expected.abs().max())


@torch.inference_mode()
def attended_by_both(network: Sam2Network, graph: AttendGraph) -> tuple[Conditioned, list[torch.Tensor]]:
    """Three objects, with memory of which some entries and pointers are not valid: the network's, the graph's."""
    torch.manual_seed(4)
    config, image = network.config, torch.randint(0, 256, (128, 128, 3), dtype=torch.uint8)
    encoded = EncodeGraph(network)(image)
    token = encoded[5:] if config.has_class_token else ()
    area = config.feature_size**2
    memory, index = torch.randn(3, 5, area, config.memory_dim), torch.randint(0, 8, (3, 5))
    pointers, distance = torch.randn(3, 4, config.hidden_dim), torch.randint(1, 16, (3, 4)).float()
    valid, pointer_valid = torch.rand(3, 5) < 0.6, torch.rand(3, 4) < 0.6
    valid[:, 0] = True
    expected = network.attend_memory(encoded[2], memory, index, valid, pointers, distance, pointer_valid)
    found = graph(encoded[3], memory, index, valid.float(), pointers, distance, pointer_valid.float(), *token)
    return expected, list(found) if network.config.has_class_token else [found]


def image_tokens(conditioned: Conditioned) -> torch.Tensor:
    """[N, C, h, w] as [N, L, C]."""
    return conditioned.features.flatten(2).transpose(1, 2)


@pytest.mark.parametrize("presence", [8.0, -8.0], ids=["present", "absent"])
@pytest.mark.parametrize(
    "config", [DEEP, HIERA, DEEP_SEMANTIC, DEEP_READING], ids=["conv", "hiera", "token", "reader"]
)
@torch.inference_mode()
def test_every_graph_is_the_network_to_rounding(config: NetworkConfig, presence: float) -> None:
    network = random_network(config)
    set_object_score_bias(network, presence)
    mean, std = torch.tensor(config.image_mean), torch.tensor(config.image_std)
    image = torch.randint(0, 256, (128, 128, 3), dtype=torch.uint8)
    features = network.encode_image(((image / 255 - mean) / std).permute(2, 0, 1)[None])
    f0, f1, f2, _, projected, *of_class = EncodeGraph(network)(image)
    assert largest_error(f2, features.f2) < 1e-5
    conditioned, found = attended_by_both(network, AttendGraph(network))
    tokens = [] if conditioned.class_token is None else [conditioned.class_token]
    assert len(found) == 1 + len(tokens) == 1 + config.has_class_token
    for ours, expected in zip(found, [image_tokens(conditioned), *tokens], strict=True):
        assert largest_error(ours, expected) < 1e-5
    if features.pixels is not None:
        assert largest_error(of_class[0], features.pixels) < 1e-5

    points, labels = 128 * torch.rand(3, 2, 2), torch.tensor([[1, 0], [2, 3], [1, -1]])
    mask = 5 * torch.randn(3, 1, config.mask_size, config.mask_size)
    for prior in (None, mask):
        for multimask in (True, False):
            maps = features.f0, features.f1
            answer = network.decode(conditioned, *maps, points, labels, prior, multimask, features.pixels)
            has_mask = torch.tensor([float(prior is not None)])
            sparse, dense = PromptGraph(network)(points, labels, mask[:, 0], has_mask)
            image = image_tokens(conditioned) + dense
            found = DecodeGraph(network)(image, sparse, f0, f1, torch.tensor([int(multimask)]), *tokens)
            if config.class_reader:
                found = (*found, ReadGraph(network)(of_class[0], found[0]))
            expected = [answer.logits, answer.iou, answer.object_score, answer.pointer]
            expected += [] if answer.embedding is None else [answer.embedding]
            errors = [largest_error(*pair) for pair in zip(found, expected, strict=True)]
            assert max(errors[:4]) < 1e-5
            # A reader looks at noise here, at a place that noise says: no real image is as sensitive.
            assert max(errors[4:], default=0) < (2e-3 if config.class_reader else 1e-5)
    score = torch.tensor([[3.0], [-2.0], [0.5]])
    for from_points in (False, True):
        memory = network.encode_memory(features.f2, answer.high_res, score, from_points)
        binarise = [torch.tensor([float(from_points)])] if config.binarize_mask_from_points else []
        found = MemoriseGraph(network)(projected, answer.high_res[:, 0], score, *binarise)
        assert largest_error(found, memory) < 1e-5


@pytest.mark.parametrize("what", ["cosine", "sine"])
def test_a_wrong_rotation_shows(what: str) -> None:
    """The comparison above can fail."""
    network = random_network(DEEP)
    graph = AttendGraph(network)
    getattr(graph.phases, what).mul_(0.9)
    expected, found = attended_by_both(network, graph)
    assert largest_error(found[0], image_tokens(expected)) > 1e-4


def differing_pixels(engine: ComparingEngine) -> list[int]:
    """Of each object in each call: mask pixels on which the two do not agree."""
    return [
        int(np.count_nonzero((ours > 0) != (theirs > 0)))
        for reference, other in engine.pairs
        for ours, theirs in zip(reference.logits, other.logits, strict=True)
    ]


def largest_logit_error(engine: ComparingEngine) -> float:
    """Over all calls, relative to the range of the reference's logits."""
    return max(
        float(np.abs(reference.logits - other.logits).max() / max(np.ptp(reference.logits), 1.0))
        for reference, other in engine.pairs
    )


def run_scenario(engine: ComparingEngine, config: TrackerConfig) -> None:
    """Three objects prompted by a mask, a box and a click on different frames; one corrected, one removed."""
    tracker = StreamingTracker(engine, config)
    images = moving_images(16)
    for number, image in enumerate(images):
        tracker.step(image)
        if number == 0:
            tracker.add_object(None, mask=disc(40, 40, 15))
        if number == 3:
            tracker.add_object(None, box=[80, 20, 120, 60])
        if number == 6:
            tracker.add_object(None, points=[[100, 50], [20, 80]], labels=[1, 0])
        if number == 9:
            tracker.refine_object(1, points=[[50, 45]], stamp_ns=tracker.kept_stamps_ns()[-3])
            tracker.remove_object(2)
    assert len(engine.pairs) > len(images)


@pytest.mark.parametrize("mode", ["off", "flow", "box"])
@pytest.mark.parametrize(("name", "precision"), ENGINES, ids=ENGINE_IDS)
def test_masks_are_those_of_eager_with_the_same_memory(name: str, precision: str, mode: str) -> None:
    """float32: the same masks but for 3 pixels of 1,024. bf16 and fp16 (encoder, memory): logits within 2 % of
    their range."""
    config = TrackerConfig(
        max_objects=3,
        previous_mask_prompt=mode,
        num_long_term=2,
        long_term_interval_s=0.0,
        long_term_candidates=2,
        long_term_min_iou=0.0,
    )
    networks = small_network(), small_network()
    engine = compare_with_eager(networks, name, precision, config.engine_capacity())
    run_scenario(engine, config)
    assert np.ptp([reference.iou.mean() for reference, _ in engine.pairs]) > 0, "the case shows something"
    if precision == "fp32":
        assert max(differing_pixels(engine)) <= 3
        assert largest_logit_error(engine) < 1e-4
    else:
        assert 1e-6 < largest_logit_error(engine) < 0.02


@pytest.mark.parametrize(("name", "precision"), ENGINES, ids=ENGINE_IDS)
@pytest.mark.parametrize("known_by", [DEEP_SEMANTIC, DEEP_READING], ids=["token", "reader"])
def test_embeddings_and_masks_of_a_network_that_knows_classes_are_those_of_eager(
    known_by: NetworkConfig, name: str, precision: str
) -> None:
    """Prompted by a mask, a box and clicks, then tracked. Largest difference of an embedding of length 1."""
    config = TrackerConfig(max_objects=3, class_interval=1)
    networks = small_network(config=known_by), small_network(config=known_by)
    engine = compare_with_eager(networks, name, precision, config.engine_capacity())
    run_scenario(engine, config)
    embeddings = [np.concatenate([pair[i].embedding for pair in engine.pairs]) for i in (0, 1)]
    np.testing.assert_allclose(np.linalg.norm(embeddings[1], axis=1), 1, atol=1e-5)
    assert np.ptp(embeddings[0], axis=0).max() > 0.05, "the case shows something"
    error = np.abs(embeddings[0] - embeddings[1])
    if known_by.class_reader:  # its place in an image of noise hangs on every digit of a random mask
        assert error.max() < 1e-3 if precision == "fp32" else error.mean() < 0.03
    else:
        assert error.max() < (1e-4 if precision == "fp32" else 0.05)
    if precision == "fp32":
        assert max(differing_pixels(engine)) <= 3


@pytest.mark.parametrize("name", ["eager", "openvino", "onnxruntime", "tensorrt"])
def test_a_reader_is_asked_of_some_rows_alone(name: str) -> None:
    engine = create_engine(name, small_network(config=DEEP_READING), CAPACITY, precision="fp32")
    engine.encode(moving_images(1)[0], 0)
    rows = np.array([2, 0, 1], dtype=np.int64)
    said = []
    for asked in (None, np.array([False, True, True]), np.zeros(3, dtype=np.bool_)):
        engine.attend(rows, 0, None)
        result = engine.decode(rows, 0, PromptBatch(), asked)
        assert result.embedding is not None and result.embedding.shape == (3, 24)
        said.append(result.embedding)
    everything, some, nothing = said
    assert not np.isnan(everything).any() and np.isnan(nothing).all() and np.isnan(some[0]).all()
    np.testing.assert_allclose(some[1:], everything[1:], atol=1e-5)


@pytest.mark.parametrize("name", ["eager", "openvino", "tensorrt"])
def test_a_reader_that_is_not_asked_says_nothing_and_changes_no_mask(name: str) -> None:
    """A given mask and a tracked frame, then the same engine asked again."""
    config = TrackerConfig(max_objects=1)
    engine = create_engine(
        name, small_network(config=DEEP_READING), config.engine_capacity(), precision="fp32"
    )
    images, found = moving_images(3), []
    for asked in (True, False, True):
        engine.reads_classes = asked
        tracker = StreamingTracker(engine, config, KnownClasses(CLASSES, np.eye(3, 24, dtype=np.float32)))
        tracker.add_object(images[0], mask=disc(60, 40, 20))
        found.append([tracker.last_result, *(tracker.step(image) for image in images[1:])])
        tracker.reset()
    for with_reader, without, again in zip(*found, strict=True):
        assert np.array_equal(with_reader.logits, without.logits)
        assert np.isnan(without.class_probabilities).all()
        np.testing.assert_array_equal(with_reader.class_probabilities, again.class_probabilities)
    assert not np.isnan(found[0][0].class_probabilities).any()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            SEMANTIC,
            {
                "encode": ([], ["token"]),
                "attend": (["token"], ["conditioned_token"]),
                "prompt": ([], []),
                "decode": (["token"], ["embedding"]),
                "memorise": ([], []),
            },
        ),
        (
            READING,
            {
                "encode": ([], ["pixels"]),
                "attend": ([], []),
                "prompt": ([], []),
                "decode": ([], []),
                "memorise": ([], []),
            },
        ),
    ],
    ids=["token", "reader"],
)
def test_a_network_that_knows_no_class_has_no_embedding_and_no_graph_more_inputs_or_outputs(
    config: NetworkConfig, expected: dict[str, tuple[list[str], list[str]]]
) -> None:
    plain, semantic = small_network(), small_network(config=config)
    more = {}
    for graph in GRAPHS:
        one, other = graph(plain), graph(semantic)
        inputs = [name for name in other.example() if name not in one.example()]
        more[graph.name] = (inputs, list(other.outputs[len(one.outputs) :]))
    assert more == expected
    assert [graph.name for graph in graphs_of(semantic)[len(GRAPHS) :]] == ["read"] * config.class_reader
    engine = create_engine("onnxruntime", plain, CAPACITY)
    engine.encode(moving_images(1)[0], 0)
    engine.attend(ROWS, 0, None)
    assert engine.decode(ROWS, 0, PromptBatch()).embedding is None


@pytest.mark.parametrize(("name", "precision"), ENGINES, ids=ENGINE_IDS)
def test_left_alone_for_20_frames_masks_stay_those_of_eager(name: str, precision: str) -> None:
    """Memories written by the engine itself: IoU of at least 0.999 in float32 and 0.97 in bf16 and fp16 at the end."""
    config = TrackerConfig(max_objects=3)
    masks = []
    for engine, arithmetic in (("eager", "fp32"), (name, precision)):
        runner = create_engine(engine, small_network(), config.engine_capacity(), precision=arithmetic)
        tracker = StreamingTracker(runner, config)
        images = moving_images(20)
        tracker.add_object(images[0], mask=disc(60, 40, 20))
        tracker.add_object(None, points=[[100, 50]])
        masks.append([tracker.step(image).masks for image in images[1:]][-1])
    union = np.logical_or(*masks).sum()
    assert union > 0, "the case shows something"
    assert np.logical_and(*masks).sum() / union >= (0.999 if precision == "fp32" else 0.97)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime", "tensorrt"])
def test_an_empty_mask_is_an_absent_object_in_every_engine(name: str) -> None:
    """One object with a mask, one with an empty one: the same memory and pointers."""
    engine = compare_with_eager((small_network(), small_network()), name, "fp32", CAPACITY)
    engine.encode(moving_images(1)[0], 0)
    engine.decode_mask(ROWS, 0, np.stack([np.ones((128, 128)), np.zeros((128, 128))]).astype(np.float32))
    engine.memorise(ROWS, 0, np.zeros(2, int), np.zeros(2, int))
    reference, other = engine.pairs[0]
    assert reference.object_score.tolist() == other.object_score.tolist() == [10, -10]
    assert np.array_equal(reference.logits, other.logits)
    ours, theirs = (one.export_state(ROWS) for one in (engine.reference, engine.other))
    for key in ours:
        np.testing.assert_allclose(theirs[key], ours[key], atol=1e-4 * np.abs(ours[key]).max())


def test_the_comparison_sees_another_network() -> None:
    engine = compare_with_eager((small_network(seed=1), small_network()), "onnxruntime", "fp32", CAPACITY)
    engine.encode(moving_images(1)[0], 0)
    engine.attend(ROWS, 0, None)
    engine.decode(ROWS, 0, PromptBatch())
    assert max(differing_pixels(engine)) > 3 or largest_logit_error(engine) > 0.01


def decoder_inputs(count: int, tokens: int = 2) -> dict[str, np.ndarray]:
    """Of so many objects, each of which has others, on one frame."""
    rng = np.random.default_rng(5)
    config = small_network().config
    c, area = config.hidden_dim, config.feature_size**2
    shapes = {
        "image": (count, area, c),
        "sparse": (count, tokens, c),
        "f0": (1, area, 16, c // 8),
        "f1": (1, area, 4, c // 4),
    }
    values = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return {**values, "multimask": np.ones(1, dtype=np.int64)}


def openvino_runner(most_objects: int = 8) -> OpenVinoRunner:
    return OpenVinoRunner(load_graphs(small_network()), 2, "fp32", [{"t": 2}], most_objects)


@pytest.mark.parametrize("tokens", [2, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_openvino_gives_objects_together_what_it_gives_each_alone(count: int, tokens: int) -> None:
    """In a batch that the graph is compiled for, in one that it is not, and in sizes that it is not."""
    runner, together = openvino_runner(), decoder_inputs(count, tokens)
    found = [one.copy() for one in runner.run("decode", together)]
    for number in range(count):
        own = {name: together[name][number : number + 1] for name in ("image", "sparse")}
        for ours, alone in zip(found, runner.run("decode", {**together, **own}), strict=True):
            scale = max(float(np.abs(alone).max()), 1)
            np.testing.assert_allclose(ours[number], alone[0], atol=1e-4 * scale)
    assert count == 1 or not np.allclose(found[0][0], found[0][1], atol=0.1)


@pytest.mark.parametrize(
    ("most", "count", "sizes"), [(8, 7, [4, 2, 1]), (3, 5, [2, 2, 1]), (1, 2, [1, 1]), (8, 0, [])]
)
def test_objects_are_run_in_the_largest_batches_that_the_graphs_are_compiled_for(
    most: int, count: int, sizes: list[int]
) -> None:
    groups = openvino_runner(most).groups(count)
    assert [len(range(count)[group]) for group in groups] == sizes
    assert [one for group in groups for one in range(count)[group]] == list(range(count))


def test_openvino_refuses_shapes_that_the_graph_does_not_take_and_goes_on() -> None:
    runner = openvino_runner()
    with pytest.raises(ValueError, match="the graph takes"):
        runner.run("encode", {"image": np.zeros((3, 3, 3), np.uint8)})
    with pytest.raises(ValueError, match="the graph takes"):
        runner.run_into("encode", {"image": np.zeros((3, 3, 3), np.uint8)}, [])
    assert len(runner.run("decode", decoder_inputs(1))) > 3


def test_outputs_written_elsewhere_are_the_same_and_the_runner_s_own_stay() -> None:
    runner, inputs, others = openvino_runner(), decoder_inputs(2), decoder_inputs(2)
    others["image"] = -others["image"]
    expected = [one.copy() for one in runner.run("decode", inputs)]
    targets = [np.zeros_like(one) for one in expected]
    runner.run_into("decode", inputs, targets)
    own = runner.run("decode", others)
    for target, one, other in zip(targets, expected, own, strict=True):
        assert np.array_equal(target, one)
        assert not np.array_equal(other, one)


@pytest.mark.parametrize("name", ["openvino", "tensorrt"])
def test_encoding_on_another_thread_changes_nothing(name: str) -> None:
    """One thread encodes frame after frame while the other tracks on the features of an earlier one."""
    engine = create_engine(name, small_network(), CAPACITY, precision="fp32")
    first, *others = moving_images(20)
    engine.encode(first, 0)
    engine.attend(ROWS, 0, None)
    alone = engine.decode(ROWS, 0, PromptBatch()).logits
    thread = threading.Thread(target=lambda: [engine.encode(image, 1) for image in others])
    thread.start()
    results = []
    while thread.is_alive():
        engine.attend(ROWS, 0, None)
        results.append(engine.decode(ROWS, 0, PromptBatch()).logits)
    thread.join()
    assert results, "they ran at the same time"
    assert all(np.array_equal(result, alone) for result in results), "nor is a result overwritten by the next"


@pytest.mark.parametrize(("hardware", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_takes_openvino_and_says_why(
    hardware: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sam2s_ros.engines.eager.multiplies_bfloat16", lambda: hardware)
    described = create_engine("auto", small_network(), CAPACITY, threads=1).describe()
    assert (described.name, described.model, described.precision) == ("openvino", "small_test", precision)
    assert described.reason.startswith("auto: OpenVINO") and precision in described.reason
    assert described.threads == 1 and len(described.weights_sha256) == 64


def test_without_openvino_auto_takes_eager_with_the_reason_and_its_name_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "sam2s_ros.engines.openvino_runner", raising=False)
    described = create_engine("auto", small_network(), CAPACITY).describe()
    assert described.name == "eager"
    assert "OpenVINO cannot be used (" in described.reason and "openvino" in described.reason
    with pytest.raises(ImportError, match="engine 'openvino' lacks a package of requirements.txt"):
        create_engine("openvino", small_network(), CAPACITY)


def test_auto_takes_eager_for_large_images_with_the_reason() -> None:
    network = Sam2Network(dataclasses.replace(SMALL, image_size=1024))
    described = create_engine("auto", network, CAPACITY).describe()
    assert described.name == "eager" and "1024 pixels" in described.reason


def test_a_precision_that_an_engine_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="precision 'bf16': onnxruntime runs fp32"):
        create_engine("onnxruntime", small_network(), CAPACITY, precision="bf16")
