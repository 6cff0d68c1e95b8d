"""The engine of exported graphs: keeps every tensor in numpy arrays, lets a `GraphRunner` do the arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from sam2s_ros.engines.base import (
    ABSENT_LOGIT,
    DROPPED_LOGIT,
    DecodeResult,
    Engine,
    EngineCapacity,
    EngineDescription,
    MemoryRead,
    PromptBatch,
    check_capacity,
    check_state,
    export_rows,
)
from sam2s_ros.engines.export import load_graphs
from sam2s_ros.engines.given_masks import GIVEN_LOGIT, GivenMasks, previous_mask_prompt
from sam2s_ros.engines.memory_reads import quickest_columns, repeated_read, rows_of
from sam2s_ros.engines.preprocess import resize_to_square
from sam2s_ros.engines.runner import Gathered, GraphRunner
from sam2s_ros.network.checkpoint import weights_sha256
from sam2s_ros.network.prompt_encoder import NOT_A_POINT
from sam2s_ros.network.sam2 import Sam2Network

NO_PROMPT_TOKENS = 2
"""Tokens that stand for no prompt: one that is not a point, and the one that ends every prompt."""


@dataclass(frozen=True)
class _FrameFeatures:
    """What `EncodeGraph` says of one frame, in its order.

    `of_class` is the class token [1, 1, C] or the normalised image [1, 3, S, S], or empty where no class is known.
    """

    f0: NDArray[np.float32]
    f1: NDArray[np.float32]
    f2: NDArray[np.float32]
    attended: NDArray[np.float32]
    projected: NDArray[np.float32]
    of_class: NDArray[np.float32]

    @property
    def tokens(self) -> NDArray[np.float32]:
        """f2 as [L, C]."""
        return self.f2[0].reshape(self.f2.shape[1], -1).T


class GraphEngine(Engine):
    """Runs the exported graphs of `network`, of which it keeps a few small weights only.

    Objects are run in groups of the runner's `batches`. All arrays are made at the start; `decode` gives copies.
    """

    def __init__(
        self, network: Sam2Network, runner: GraphRunner, capacity: EngineCapacity, reason: str
    ) -> None:
        config = network.config
        check_capacity(config, capacity)
        self.capacity = capacity
        self.image_size, self.mask_size = config.image_size, config.mask_size
        self._config, self._runner, self._reason = config, runner, reason
        self._sha256 = weights_sha256(network.state_dict())
        self._given_masks = GivenMasks(network)
        self._no_pointer = network.no_obj_ptr.detach().numpy().copy()
        self._no_memory = network.no_mem_embed.detach().numpy().reshape(-1).copy()
        prompts = network.sam_prompt_encoder
        with torch.no_grad():
            nothing = prompts.sparse(torch.zeros(1, 1, 2), torch.full((1, 1), NOT_A_POINT))
        self._no_prompt = nothing.numpy().copy()
        self._no_mask = prompts.no_mask_embed.weight.detach().numpy().copy()
        self._tokens = int(config.has_class_token)
        learnt = network.sam2s.class_token
        self._learnt_token = (
            _zeros(1, 0, config.hidden_dim) if learnt is None else learnt.detach().numpy().copy()
        )
        self._writing: Iterator[None] = iter(())
        self._allocate()

    def _allocate(self) -> None:
        config, capacity = self._config, self.capacity
        rows, side = capacity.max_objects, config.feature_size
        area, c, cm = side * side, config.hidden_dim, config.memory_dim
        of_class: tuple[int, ...] = (1, self._tokens, c)
        if config.class_reader:
            of_class = (1, 3, config.image_size, config.image_size)
        self._features = [
            _FrameFeatures(
                f0=_zeros(1, area, 16, c // 8),
                f1=_zeros(1, area, 4, c // 4),
                f2=_zeros(1, c, side, side),
                attended=_zeros(1, area, c),
                projected=_zeros(1, c, side, side),
                of_class=_zeros(*of_class),
            )
            for _ in range(capacity.frame_slots)
        ]
        self._encoded = [False] * capacity.frame_slots
        self._memory = _zeros(rows, capacity.memory_slots, area, cm)
        self._pointers = _zeros(rows, capacity.pointer_slots, c)
        self._kept_features = _zeros(rows, capacity.feature_slots, c * area)
        self._logits = _zeros(rows, capacity.frame_slots, config.mask_size, config.mask_size)
        self._conditioned = _zeros(rows, area, c)
        self._class_token = _zeros(rows, self._tokens, c)
        self._high_res = _zeros(rows, config.image_size, config.image_size)
        self._pointer = _zeros(rows, c)
        self._object_score = _zeros(rows, 1)

    def encode(self, frame_rgb: NDArray[np.uint8], frame_slot: int) -> None:
        image = np.ascontiguousarray(resize_to_square(frame_rgb, self.image_size))
        kept = self._features[frame_slot]
        targets = [kept.f0, kept.f1, kept.f2, kept.attended, kept.projected]
        if self._config.semantic_dim:
            targets.append(kept.of_class)
        self._runner.run_into("encode", {"image": image}, targets)
        self._encoded[frame_slot] = True

    def attend(self, rows: NDArray[np.int64], frame_slot: int, read: MemoryRead | None) -> None:
        self.settle()
        frame = self._frame(frame_slot)
        if read is None:
            self._conditioned[rows] = frame.tokens + self._no_memory
            self._class_token[rows] = self._learnt_token
            return
        for group in self._runner.groups(len(rows)):
            own, part = rows[group], quickest_columns(rows_of(read, group), self._runner.usual_reads)
            inputs: dict[str, np.ndarray | Gathered] = {
                "attended": frame.attended,
                "memory": Gathered(self._memory, own, part.slots),
                "temporal_index": np.ascontiguousarray(part.temporal_index),
                "valid": part.valid.astype(np.float32, order="C"),
                "pointers": Gathered(self._pointers, own, part.pointer_slots),
                "pointer_distance": np.ascontiguousarray(part.pointer_distance),
                "pointer_valid": part.pointer_valid.astype(np.float32, order="C"),
                **self._token_input(frame.of_class),
            }
            self._conditioned[own], *token = self._runner.run("attend", inputs)
            if token:
                self._class_token[own] = token[0]

    def _token_input(self, token: NDArray[np.float32]) -> dict[str, np.ndarray]:
        """The class token as a graph's input, for a network that has one."""
        return {"token": np.ascontiguousarray(token)} if self._tokens else {}

    def _read(
        self, frame: _FrameFeatures, result: DecodeResult, asked: NDArray[np.bool_] | None = None
    ) -> None:
        """Have the class reader, of a network that has one, look at the result's masks, or those `asked` [N] for."""
        if result.embedding is None or not self._config.class_reader:
            return
        chosen = np.arange(len(result.logits)) if asked is None else np.flatnonzero(asked)
        for group in self._runner.groups(len(chosen)):
            asked_now = chosen[group]
            inputs = {"pixels": frame.of_class, "logits": result.logits[asked_now]}
            (result.embedding[asked_now],) = self._runner.run("read", inputs)

    def decode(
        self,
        rows: NDArray[np.int64],
        frame_slot: int,
        prompt: PromptBatch,
        asked: NDArray[np.bool_] | None = None,
    ) -> DecodeResult:
        self.settle()
        frame = self._frame(frame_slot)
        result = self._empty_result(len(rows))
        previous = None
        if prompt.previous_mask_slot is not None:
            logits = self._logits[rows, prompt.previous_mask_slot]
            previous = previous_mask_prompt(logits, prompt.previous_mask_flow)
        for group in self._runner.groups(len(rows)):
            own = rows[group]
            sparse, dense = self._prompt(prompt, previous, group, len(own))
            token = self._token_input(self._class_token[own])
            inputs = _decoder_inputs(self._conditioned[own] + dense, sparse, frame, prompt.multimask)
            logits, iou, score, self._pointer[own], *embedding = self._runner.run(
                "decode", {**inputs, **token}
            )
            result.logits[group], result.iou[group], result.object_score[group] = logits, iou, score[:, 0]
            if result.embedding is not None and embedding:
                result.embedding[group] = embedding[0]
        self._read(frame, result, asked)
        self._store(rows, frame_slot, result)
        for row, logits in zip(rows, result.logits, strict=True):
            self._upsample(row, logits)
        return result

    def _prompt(
        self, prompt: PromptBatch, previous: NDArray[np.float32] | None, group: slice, count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Tokens [n, T, C] and dense prompt [n, L, C] or [1, C] of a group of n objects."""
        if prompt.points is None and previous is None:
            return np.repeat(self._no_prompt, count, axis=0), self._no_mask
        if prompt.points is None or prompt.labels is None:
            points = np.zeros((count, 1, 2), dtype=np.float32)
            labels = np.full((count, 1), NOT_A_POINT, dtype=np.int64)
        else:
            points = np.ascontiguousarray(prompt.points[group], dtype=np.float32)
            labels = prompt.labels[group].astype(np.int64, order="C")
        mask = _zeros(count, self.mask_size, self.mask_size) if previous is None else previous[group]
        has_mask = np.array([previous is not None], dtype=np.float32)
        sparse, dense = self._runner.run(
            "prompt", {"points": points, "labels": labels, "mask": mask, "has_mask": has_mask}
        )
        return sparse, dense

    def decode_mask(
        self, rows: NDArray[np.int64], frame_slot: int, masks: NDArray[np.float32]
    ) -> DecodeResult:
        self.settle()
        frame = self._frame(frame_slot)
        given = self._given_masks.answer(masks)
        iou, embeddings = np.ones(len(rows), dtype=np.float32), self._empty_embeddings(len(rows))
        result = DecodeResult(given.logits, iou, given.object_score, embeddings)
        for group in self._runner.groups(len(rows)):
            n = len(rows[group])
            sparse, dense = self._prompt(PromptBatch(), given.prompt, group, n)
            inputs = _decoder_inputs(frame.tokens + dense, sparse, frame, multimask=False)
            token = self._token_input(np.repeat(self._learnt_token, n, axis=0))
            _, _, _, pointer, *embedding = self._runner.run("decode", {**inputs, **token})
            if embeddings is not None and embedding:
                embeddings[group] = embedding[0]
            present = result.object_score[group, None] > 0
            self._pointer[rows[group]] = np.where(present, pointer, self._no_pointer)
        self._read(frame, result)
        self._store(rows, frame_slot, result)
        self._high_res[rows] = given.high_res
        return result

    def mark_absent(self, rows: NDArray[np.int64], frame_slot: int) -> None:
        self.settle()
        self._logits[rows, frame_slot] = self._high_res[rows] = ABSENT_LOGIT
        self._pointer[rows] = self._no_pointer
        self._object_score[rows] = -GIVEN_LOGIT

    def memorise(
        self,
        rows: NDArray[np.int64],
        frame_slot: int,
        memory_slots: NDArray[np.int64],
        pointer_slots: NDArray[np.int64],
        keep: NDArray[np.bool_] | None = None,
        from_points: bool = False,
    ) -> None:
        self.settle()
        if keep is not None:
            self._drop(rows, frame_slot, keep)
        self._pointers[rows, pointer_slots] = self._pointer[rows]
        writing = self._write(rows, self._frame(frame_slot).projected, memory_slots, from_points)
        if self._runner.runs_beside:
            next(writing)
        self._writing = writing

    def _write(
        self,
        rows: NDArray[np.int64],
        projected: NDArray[np.float32],
        slots: NDArray[np.int64],
        from_points: bool,
    ) -> Iterator[None]:
        """Write memory of the rows' last decode; with a runner that runs beside others, pause once it only waits."""
        groups = self._runner.groups(len(rows))[::-1]  # the largest last
        for group in groups:
            own = rows[group]
            inputs = {
                "projected": projected,
                "logits": self._high_res[own],
                "object_score": self._object_score[own],
            }
            if self._config.binarize_mask_from_points:
                inputs["binarise"] = np.array([from_points], dtype=np.float32)
            if group is groups[-1] and self._runner.runs_beside:
                finish = self._runner.start("memorise", inputs)
                yield
                (self._memory[own, slots[group]],) = finish()
            else:
                (self._memory[own, slots[group]],) = self._runner.run("memorise", inputs)

    def settle(self) -> None:
        writing, self._writing = self._writing, iter(())
        for _ in writing:
            pass

    def _drop(self, rows: NDArray[np.int64], frame_slot: int, keep: NDArray[np.bool_]) -> None:
        """Turn what `keep` leaves out into background, in the stored logits and at full resolution."""
        for index in np.flatnonzero(~keep.all(axis=(1, 2))):
            logits = self._logits[rows[index], frame_slot]
            np.minimum(logits, DROPPED_LOGIT, out=logits, where=~keep[index])
            self._upsample(rows[index], logits)

    def _upsample(self, row: np.int64, logits: NDArray[np.float32]) -> None:
        """Bilinear, as the network's `upsample`."""
        size = (self.image_size, self.image_size)
        cv2.resize(logits, size, dst=self._high_res[row], interpolation=cv2.INTER_LINEAR)

    def similarity(
        self, rows: NDArray[np.int64], frame_slot: int, feature_slots: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        kept = self._kept_features[rows, feature_slots]
        return np.einsum(
            "nc,c->n", kept, self._unit_feature(frame_slot)
        )  # without threads of the BLAS library

    def keep_memory(
        self, rows: NDArray[np.int64], from_slots: NDArray[np.int64], to_slots: NDArray[np.int64]
    ) -> None:
        self.settle()
        self._memory[rows, to_slots] = self._memory[rows, from_slots]

    def keep_feature(
        self, rows: NDArray[np.int64], frame_slot: int, feature_slots: NDArray[np.int64]
    ) -> None:
        self._kept_features[rows, feature_slots] = self._unit_feature(frame_slot)

    def _unit_feature(self, frame_slot: int) -> NDArray[np.float32]:
        feature = self._frame(frame_slot).f2.ravel()
        return np.asarray(feature / max(float(np.linalg.norm(feature)), 1e-12), dtype=np.float32)

    def warm_up(self) -> None:
        capacity = self.capacity
        self.encode(np.zeros((self.image_size, self.image_size, 3), dtype=np.uint8), 0)
        usual = (capacity.recent_slots + 1, capacity.recent_pointers + 1)
        reads = {*self._runner.usual_reads, usual, (capacity.memory_reads, capacity.pointer_reads)}
        for batch in sorted({min(batch, capacity.max_objects) for batch in self._runner.batches}):
            rows = np.arange(batch, dtype=np.int64)
            zeros = np.zeros_like(rows)
            for memory, pointers in sorted(reads):
                self.attend(rows, 0, repeated_read(batch, memory, pointers))
            self.decode(rows, 0, PromptBatch())
            self.decode(rows, 0, PromptBatch(previous_mask_slot=0))
            self.memorise(rows, 0, zeros, zeros)
        if capacity.long_term_slots:
            self.similarity(rows, 0, zeros)
            self.keep_memory(rows, zeros, zeros)
            self.keep_feature(rows, 0, zeros)
        self.settle()
        self._allocate()

    def describe(self) -> EngineDescription:
        return EngineDescription(
            name=self._runner.name,
            model=self._config.name,
            precision=self._runner.precision,
            device="cpu",
            version=self._runner.version,
            threads=self._runner.threads,
            image_size=self.image_size,
            weights_sha256=self._sha256,
            reason=self._reason,
        )

    def export_state(
        self,
        rows: NDArray[np.int64],
        memory_slots: NDArray[np.int64] | None = None,
        pointer_slots: NDArray[np.int64] | None = None,
    ) -> dict[str, np.ndarray]:
        self.settle()
        return export_rows(self._banks(), rows, memory_slots, pointer_slots)

    def import_state(self, rows: NDArray[np.int64], state: dict[str, np.ndarray]) -> None:
        self.settle()
        banks = self._banks()
        check_state(state, {name: (len(rows), *bank.shape[1:]) for name, bank in banks.items()})
        for name, bank in banks.items():
            bank[rows] = state[name]

    def free(self) -> None:
        self.settle()
        self.__dict__.clear()

    def _banks(self) -> dict[str, NDArray[np.float32]]:
        """The rows' memory, pointers and, with long-term memory, features: [max_objects, slots, ...]."""
        stored = {"memory": self._memory, "pointers": self._pointers}
        if self.capacity.long_term_slots:
            stored["features"] = self._kept_features
        return stored

    def _frame(self, frame_slot: int) -> _FrameFeatures:
        if not self._encoded[frame_slot]:
            raise RuntimeError(f"frame slot {frame_slot} holds no features: encode a frame into it first")
        return self._features[frame_slot]

    def _empty_result(self, count: int) -> DecodeResult:
        return DecodeResult(
            logits=np.empty((count, self.mask_size, self.mask_size), dtype=np.float32),
            iou=np.empty(count, dtype=np.float32),
            object_score=np.empty(count, dtype=np.float32),
            embedding=self._empty_embeddings(count),
        )

    def _empty_embeddings(self, count: int) -> NDArray[np.float32] | None:
        dim, asked = self._config.semantic_dim, self.reads_classes or not self._config.class_reader
        return np.full((count, dim), np.nan, dtype=np.float32) if dim and asked else None

    def _store(self, rows: NDArray[np.int64], frame_slot: int, result: DecodeResult) -> None:
        self._logits[rows, frame_slot] = result.logits
        self._object_score[rows, 0] = result.object_score


def make_graph_engine(
    name: str, network: Sam2Network, capacity: EngineCapacity, threads: int, precision: str, reason: str
) -> GraphEngine:
    """Export the network, or find it exported, and run it with the library `name`: "openvino" or "onnxruntime".

    `threads` > 0 also sets PyTorch's, for the little that it still does; 0 takes as many as PyTorch has.

    Raises:
        ImportError: the library, or what exports the graphs, is not installed.
    """
    check_capacity(network.config, capacity)
    if threads:
        torch.set_num_threads(threads)
    threads = threads or torch.get_num_threads()
    if name == "openvino":
        from sam2s_ros.engines.openvino_runner import OpenVinoRunner

        pointers = {"p": capacity.recent_pointers + 1, "t": NO_PROMPT_TOKENS}
        usual = [
            {"m": capacity.recent_slots + 1 + long_term, **pointers}
            for long_term in sorted({0, capacity.long_term_slots})
        ]
        runner: GraphRunner = OpenVinoRunner(
            load_graphs(network), threads, precision, usual, capacity.max_objects
        )
    else:
        from sam2s_ros.engines.onnxruntime_runner import OnnxRuntimeRunner

        runner = OnnxRuntimeRunner(load_graphs(network), threads)
    return GraphEngine(network, runner, capacity, reason)


def _decoder_inputs(
    image: NDArray[np.float32], sparse: NDArray[np.float32], frame: _FrameFeatures, multimask: bool
) -> dict[str, np.ndarray]:
    return {
        "image": np.ascontiguousarray(image),
        "sparse": sparse,
        "f0": frame.f0,
        "f1": frame.f1,
        "multimask": np.array([multimask], dtype=np.int64),
    }


def _zeros(*shape: int) -> NDArray[np.float32]:
    return np.zeros(shape, dtype=np.float32)
