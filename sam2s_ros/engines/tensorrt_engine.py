"""The engine of compiled graphs: every tensor that outlives a call is in GPU memory, at an address that never changes.

Banks, row workspaces and the features of kept frames are allocated once. In a frame, slot numbers and prompts go to the
device, masks and scores come back; everything else is copied within it. `encode` has a stream of its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
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
)
from sam2s_ros.engines.cuda_device import CudaDevice
from sam2s_ros.engines.device_parts import FLOAT, Loaded, make_parts
from sam2s_ros.engines.device_runner import CompiledGraph, DeviceArray, groups
from sam2s_ros.engines.given_masks import GIVEN_LOGIT, GivenMasks, previous_mask_prompt
from sam2s_ros.engines.memory_reads import repeated_read, rows_of, widest_columns
from sam2s_ros.engines.preprocess import resize_to_square
from sam2s_ros.engines.tensorrt_api import TensorRt
from sam2s_ros.engines.tensorrt_files import MAX_POINTS, NO_PROMPT_TOKENS, OBJECT_PROFILES
from sam2s_ros.network.checkpoint import weights_sha256
from sam2s_ros.network.prompt_encoder import NOT_A_POINT
from sam2s_ros.network.sam2 import Sam2Network


class TensorRtEngine(Engine):
    """Runs compiled graphs of `network`, of which it keeps a few small weights only.

    Raises:
        ValueError: a capacity that the network or the compiled graphs do not have.
        DeviceError: the GPU has not enough memory, or cannot run the graphs.
    """

    def __init__(
        self,
        network: Sam2Network,
        loaded: Loaded,
        library: TensorRt,
        device: CudaDevice,
        capacity: EngineCapacity,
        precision: str,
        reason: str,
    ) -> None:
        config = network.config
        check_capacity(config, capacity)
        self.capacity = capacity
        self.image_size, self.mask_size = config.image_size, config.mask_size
        self._config, self._library, self._device = config, library, device
        self._parts = make_parts(config, capacity, loaded, library, device)
        self._precision, self._reason = precision, reason
        self._sha256 = weights_sha256(network.state_dict())
        self._given_masks = GivenMasks(network)
        self._no_pointer = self._parts.lane.array((1, config.hidden_dim), FLOAT)
        self._parts.lane.put_entries(self._no_pointer, [0], network.no_obj_ptr.detach().numpy())
        self._learnt_token = self._parts.lane.array((1, 1, config.hidden_dim), FLOAT)
        if network.sam2s.class_token is not None:
            self._parts.lane.put_entries(self._learnt_token, [0], network.sam2s.class_token.detach().numpy())
        self._forget()

    def _forget(self) -> None:
        """Begin anew: nothing encoded, nothing remembered, all memory zero."""
        rows, slots = self.capacity.max_objects, self.capacity.frame_slots
        self._encoded = [0] * slots
        self._staged_frame = (-1, 0)
        self._prompted = True  # what the decoder's prompt memory holds is not known
        self._logits = np.zeros((rows, slots, self.mask_size, self.mask_size), dtype=np.float32)
        self._object_score = np.zeros(rows, dtype=np.float32)
        self._is_given = np.zeros(rows, dtype=np.bool_)
        for bank in self._parts.banks.values():
            self._parts.lane.clear(bank)
        self._parts.lane.wait()

    def encode(self, frame_rgb: NDArray[np.uint8], frame_slot: int) -> None:
        lane = self._parts.encode_lane
        lane.put(self._parts.encode.inputs["image"], resize_to_square(frame_rgb, self.image_size))
        self._parts.encode.run()
        for name, made in self._parts.encode.outputs.items():
            lane.move(self._parts.frames[name], [frame_slot], made, [0])
        lane.wait()
        self._encoded[frame_slot] += 1

    def attend(self, rows: NDArray[np.int64], frame_slot: int, read: MemoryRead | None) -> None:
        self._stage(frame_slot)
        if read is None:
            self._condition(rows, "unconditioned")
            return
        graph, capacity = self._parts.graphs["attend"], self.capacity
        for group, size in self._runs(rows):
            own = rows[group]
            part = widest_columns(
                rows_of(read, group), self._parts.reads.memory[0], self._parts.reads.pointers[0]
            )
            inputs = {
                "slots": own[:, None] * capacity.memory_slots + part.slots,
                "temporal_index": part.temporal_index,
                "valid": part.valid,
                "pointer_slots": own[:, None] * capacity.pointer_slots + part.pointer_slots,
                "pointer_distance": part.pointer_distance,
                "pointer_valid": part.pointer_valid,
            }
            for name, values in inputs.items():
                self._put(graph, name, values, size)
            graph.run(n=size, m=part.slots.shape[1], p=part.pointer_slots.shape[1])
            self._keep_rows(graph, "conditioned", own)
            if self._config.has_class_token:
                self._keep_rows(graph, "conditioned_token", own, "class_token")

    def decode(
        self,
        rows: NDArray[np.int64],
        frame_slot: int,
        prompt: PromptBatch,
        asked: NDArray[np.bool_] | None = None,
    ) -> DecodeResult:
        self._stage(frame_slot)
        previous = None
        if prompt.previous_mask_slot is not None:
            logits = self._logits[rows, prompt.previous_mask_slot]
            previous = previous_mask_prompt(logits, prompt.previous_mask_flow)
        result = self._read(rows, self._decode(rows, prompt, previous, prompt.multimask), asked)
        self._is_given[rows] = False
        self._store(rows, frame_slot, result)
        return result

    def _decode(
        self,
        rows: NDArray[np.int64],
        prompt: PromptBatch,
        mask: NDArray[np.float32] | None,
        multimask: bool,
    ) -> DecodeResult:
        """Run the decoder on the rows' conditioned features; logits and pointers go to the rows' workspace."""
        graph, lane = self._parts.graphs["decode"], self._parts.lane
        said = self._config.semantic_dim if self._config.has_class_token else 0
        result = _empty_result(len(rows), self.mask_size, said)
        for group, size in self._runs(rows):
            own = rows[group]
            tokens = self._put_prompt(prompt, mask, group, size)
            self._put(graph, "rows", own, size)
            self._put(graph, "multimask", np.array([multimask]), 1)
            graph.run(n=size, t=tokens)
            self._keep_rows(graph, "pointer", own)
            self._keep_rows(graph, "logits", own)
            logits = lane.get(graph.outputs["logits"], (len(own), self.mask_size, self.mask_size))
            iou = lane.get(graph.outputs["iou"], (len(own),))
            score = lane.get(graph.outputs["object_score"], (len(own),))
            embedding = lane.get(graph.outputs["embedding"], (len(own), said)) if said else None
            lane.wait()
            result.logits[group], result.iou[group], result.object_score[group] = logits, iou, score
            if result.embedding is not None:
                result.embedding[group] = embedding
        return result

    def _read(
        self, rows: NDArray[np.int64], result: DecodeResult, asked: NDArray[np.bool_] | None = None
    ) -> DecodeResult:
        """The result with what a class reader says of the logits of the rows that are `asked` [N] for."""
        if not (self._config.class_reader and self.reads_classes):
            return result
        graph, lane = self._parts.graphs["read"], self._parts.lane
        embeddings = np.full((len(rows), self._config.semantic_dim), np.nan, dtype=np.float32)
        chosen = np.arange(len(rows)) if asked is None else np.flatnonzero(asked)
        for group, size in self._runs(chosen):
            own = rows[chosen[group]]
            self._put(graph, "rows", own, size)
            graph.run(n=size)
            said = lane.get(graph.outputs["embedding"], (len(own), self._config.semantic_dim))
            lane.wait()
            embeddings[chosen[group]] = said
        return replace(result, embedding=embeddings)

    def _put_prompt(
        self, prompt: PromptBatch, mask: NDArray[np.float32] | None, group: slice, size: int
    ) -> int:
        """Bring a group's prompts to the decoder; how many tokens they are."""
        graph = self._parts.graphs["prompt"]
        if prompt.points is None and mask is None:
            if self._prompted:
                self._run_prompt(graph, _no_points(self._parts.rows_at_once), None, self._parts.rows_at_once)
                self._prompted = False
            return NO_PROMPT_TOKENS
        self._prompted = True
        points = _no_points(group.stop - group.start)
        if prompt.points is not None and prompt.labels is not None:
            points = (prompt.points[group], prompt.labels[group])
        if points[0].shape[1] > MAX_POINTS:
            raise ValueError(f"a prompt has {points[0].shape[1]} points; compiled graphs take {MAX_POINTS}")
        self._run_prompt(graph, points, None if mask is None else mask[group], size)
        return points[0].shape[1] + 1

    def _run_prompt(
        self,
        graph: CompiledGraph,
        points: tuple[NDArray[Any], NDArray[Any]],
        mask: NDArray[np.float32] | None,
        size: int,
    ) -> None:
        self._put(graph, "points", points[0], size)
        self._put(graph, "labels", points[1], size)
        if mask is not None:
            self._put(graph, "mask", mask, size)
        self._put(graph, "has_mask", np.array([mask is not None]), 1)
        graph.run(n=size, k=points[0].shape[1])

    def decode_mask(
        self, rows: NDArray[np.int64], frame_slot: int, masks: NDArray[np.float32]
    ) -> DecodeResult:
        self._stage(frame_slot)
        given = self._given_masks.answer(masks)
        self._condition(rows, "tokens")
        said = self._decode(rows, PromptBatch(), given.prompt, multimask=False).embedding
        self._no_pointers(rows[given.object_score <= 0])
        self._parts.lane.put_entries(self._parts.banks["logits"], rows.tolist(), given.logits)
        self._parts.lane.put_entries(self._parts.banks["given"], rows.tolist(), masks)
        self._is_given[rows] = True
        iou = np.ones(len(rows), dtype=np.float32)
        result = self._read(rows, DecodeResult(given.logits, iou, given.object_score, said))
        self._store(rows, frame_slot, result)
        return result

    def mark_absent(self, rows: NDArray[np.int64], frame_slot: int) -> None:
        self._logits[rows, frame_slot] = ABSENT_LOGIT
        self._parts.lane.put_entries(
            self._parts.banks["logits"], rows.tolist(), self._logits[rows, frame_slot]
        )
        self._no_pointers(rows)
        self._object_score[rows] = -GIVEN_LOGIT
        self._is_given[rows] = False

    def _no_pointers(self, rows: NDArray[np.int64]) -> None:
        """Put the pointer of an absent object into the rows' workspace."""
        for row in rows.tolist():
            self._parts.lane.move(self._parts.banks["pointer"], [row], self._no_pointer, [0])

    def memorise(
        self,
        rows: NDArray[np.int64],
        frame_slot: int,
        memory_slots: NDArray[np.int64],
        pointer_slots: NDArray[np.int64],
        keep: NDArray[np.bool_] | None = None,
        from_points: bool = False,
    ) -> None:
        self._stage(frame_slot)
        if keep is not None:
            self._drop(rows, frame_slot, keep)
        places = rows * self.capacity.memory_slots + memory_slots
        for name, given in (("memorise", False), ("memorise_given", True)):
            chosen = np.flatnonzero(self._is_given[rows] == given)
            self._memorise(self._parts.graphs[name], rows[chosen], places[chosen], from_points)
        pointer_places = rows * self.capacity.pointer_slots + pointer_slots
        self._parts.lane.move(
            self._parts.banks["pointers"], pointer_places, self._parts.banks["pointer"], rows
        )
        self._parts.lane.wait()

    def _memorise(
        self, graph: CompiledGraph, rows: NDArray[np.int64], places: NDArray[np.int64], from_points: bool
    ) -> None:
        for group, size in self._runs(rows):
            own = rows[group]
            if "rows" in graph.inputs:
                self._put(graph, "rows", own, size)
            else:
                self._parts.lane.move(graph.inputs["masks"], range(len(own)), self._parts.banks["given"], own)
            self._put(graph, "object_score", self._object_score[own, None], size)
            if "binarise" in graph.inputs:
                self._put(graph, "binarise", np.array([from_points]), 1)
            graph.run(n=size)
            self._parts.lane.move(
                self._parts.banks["memory"], places[group], graph.outputs["memory"], range(len(own))
            )

    def _drop(self, rows: NDArray[np.int64], frame_slot: int, keep: NDArray[np.bool_]) -> None:
        """Turn what `keep` leaves out into background, here and on the device."""
        changed = np.flatnonzero(~keep.all(axis=(1, 2)))
        for index in changed:
            logits = self._logits[rows[index], frame_slot]
            np.minimum(logits, DROPPED_LOGIT, out=logits, where=~keep[index])
        if len(changed):
            own = rows[changed]
            self._parts.lane.put_entries(
                self._parts.banks["logits"], own.tolist(), self._logits[own, frame_slot]
            )
            self._is_given[own] = False

    def similarity(
        self, rows: NDArray[np.int64], frame_slot: int, feature_slots: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        self._stage(frame_slot)
        graph, places = self._parts.graphs["similarity"], self._feature_places(rows, feature_slots)
        result = np.empty(len(rows), dtype=np.float32)
        for group, size in self._runs(rows):
            self._put(graph, "feature_slots", places[group], size)
            graph.run(n=size)
            found = self._parts.lane.get(graph.outputs["similarity"], (group.stop - group.start,))
            self._parts.lane.wait()
            result[group] = found
        return result

    def keep_memory(
        self, rows: NDArray[np.int64], from_slots: NDArray[np.int64], to_slots: NDArray[np.int64]
    ) -> None:
        start, memory = rows * self.capacity.memory_slots, self._parts.banks["memory"]
        self._parts.lane.move(memory, start + to_slots, memory, start + from_slots)
        self._parts.lane.wait()

    def keep_feature(
        self, rows: NDArray[np.int64], frame_slot: int, feature_slots: NDArray[np.int64]
    ) -> None:
        self._stage(frame_slot)
        for place in self._feature_places(rows, feature_slots):
            self._parts.lane.move(self._parts.banks["kept"], [place], self._parts.staged["feature"], [0])
        self._parts.lane.wait()

    def _feature_places(self, rows: NDArray[np.int64], feature_slots: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(rows * self.capacity.feature_slots + feature_slots)

    def warm_up(self) -> None:
        """Every usual size of every graph, so that what is compiled or recorded at a first run is so now."""
        self.encode(np.zeros((self.image_size, self.image_size, 3), dtype=np.uint8), 0)
        counts = [size for size in OBJECT_PROFILES if size <= self._parts.rows_at_once]
        for count in counts:
            rows = np.arange(min(count, self.capacity.max_objects), dtype=np.int64)
            zeros = np.zeros_like(rows)
            usual = (self._parts.reads.memory[0], self._parts.reads.pointers[0])
            most = (self._parts.reads.memory[1], self._parts.reads.pointers[1])
            for memory, pointers in (usual, (usual[0], most[1]), (most[0], usual[1]), most):
                self.attend(rows, 0, repeated_read(len(rows), memory, pointers))
            self.decode(rows, 0, PromptBatch())
            self.decode(rows, 0, PromptBatch(previous_mask_slot=0))
            self.memorise(rows, 0, zeros, zeros)
            self.decode_mask(rows, 0, np.zeros((len(rows), self.image_size, self.image_size), np.float32))
            self.memorise(rows, 0, zeros, zeros)
            if self.capacity.long_term_slots:
                self.similarity(rows, 0, zeros)
                self.keep_memory(rows, zeros, zeros)
                self.keep_feature(rows, 0, zeros)
        self._forget()

    def describe(self) -> EngineDescription:
        return EngineDescription(
            name="tensorrt",
            model=self._config.name,
            precision=self._precision,
            device=self._device.name,
            version=self._library.version,
            threads=1,
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
        state, chosen = {}, {"memory": memory_slots, "pointers": pointer_slots}
        for name, (bank, slots) in self._stored().items():
            only = chosen.get(name)
            if only is None:
                entries = [self._parts.lane.get_entries(bank, row * slots, slots) for row in rows]
            else:
                entries = [
                    self._parts.lane.get_entries(bank, row * slots + slot, 1) for row in rows for slot in only
                ]
            count = slots if only is None else len(only)
            state[name] = np.array(entries, dtype=np.float32).reshape(len(rows), count, *bank.shape[1:])
        return state

    def import_state(self, rows: NDArray[np.int64], state: dict[str, np.ndarray]) -> None:
        stored = self._stored()
        check_state(
            state, {name: (len(rows), slots, *bank.shape[1:]) for name, (bank, slots) in stored.items()}
        )
        for name, (bank, slots) in stored.items():
            for row, entries in zip(rows, state[name], strict=True):
                self._parts.lane.put_all(bank, row * slots, entries)

    def free(self) -> None:
        device, contexts = self._device, self.__dict__
        contexts.clear()
        device.free()

    def _stored(self) -> dict[str, tuple[DeviceArray, int]]:
        """What outlives a frame: the bank, and how many of its slots are one row's."""
        capacity = self.capacity
        stored = {
            "memory": (self._parts.banks["memory"], capacity.memory_slots),
            "pointers": (self._parts.banks["pointers"], capacity.pointer_slots),
        }
        if capacity.long_term_slots:
            stored["features"] = (self._parts.banks["kept"], capacity.feature_slots)
        return stored

    def _stage(self, frame_slot: int) -> None:
        """Bring a frame's features to where the graphs read them, if they are not there."""
        version = self._encoded[frame_slot]
        if not version:
            raise RuntimeError(f"frame slot {frame_slot} holds no features: encode a frame into it first")
        if self._staged_frame != (frame_slot, version):
            for name, target in self._parts.staged.items():
                self._parts.lane.move(target, [0], self._parts.frames[name], [frame_slot])
            self._staged_frame = (frame_slot, version)

    def _condition(self, rows: NDArray[np.int64], name: str) -> None:
        """Give the rows the staged frame's own tokens, or those of an object without memory."""
        for row in rows:
            self._parts.lane.move(self._parts.banks["conditioned"], [row], self._parts.staged[name], [0])
            self._parts.lane.move(self._parts.banks["class_token"], [row], self._learnt_token, [0])

    def _keep_rows(self, graph: CompiledGraph, name: str, rows: NDArray[np.int64], bank: str = "") -> None:
        """Copy an output to the rows' entries of a bank, by default that of the same name."""
        self._parts.lane.move(self._parts.banks[bank or name], rows, graph.outputs[name], range(len(rows)))

    def _put(self, graph: CompiledGraph, name: str, values: NDArray[Any], size: int) -> None:
        """Fill an input for `size` objects; those beyond the given ones get zeros."""
        target = graph.inputs[name]
        filled = np.zeros((size, *values.shape[1:]), dtype=target.dtype)
        filled[: len(values)] = values
        self._parts.lane.put(target, filled)

    def _runs(self, rows: NDArray[np.int64]) -> Any:
        return groups(len(rows), self._parts.rows_at_once)

    def _store(self, rows: NDArray[np.int64], frame_slot: int, result: DecodeResult) -> None:
        self._logits[rows, frame_slot] = result.logits
        self._object_score[rows] = result.object_score


def _no_points(count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    return np.zeros((count, 1, 2), dtype=np.float32), np.full((count, 1), NOT_A_POINT, dtype=np.int64)


def _empty_result(count: int, side: int, semantic_dim: int) -> DecodeResult:
    return DecodeResult(
        logits=np.empty((count, side, side), dtype=np.float32),
        iou=np.empty(count, dtype=np.float32),
        object_score=np.empty(count, dtype=np.float32),
        embedding=np.empty((count, semantic_dim), dtype=np.float32) if semantic_dim else None,
    )
