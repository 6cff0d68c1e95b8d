"""The reference engine: the network's own PyTorch modules, run eagerly on the CPU, in float32 or partly in bfloat16."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

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
from sam2s_ros.engines.given_masks import GIVEN_LOGIT, previous_mask_prompt
from sam2s_ros.engines.memory_reads import repeated_read, without_empty_columns
from sam2s_ros.engines.preprocess import Normaliser, resize_to_square
from sam2s_ros.network.checkpoint import weights_sha256
from sam2s_ros.network.sam2 import Conditioned, Decoded, ImageFeatures, Sam2Network

EAGER_PRECISIONS = ("fp32", "bf16")


class EagerEngine(Engine):
    """Runs `network`, which is the engine's from then on.

    `threads` > 0 sets PyTorch's threads for the whole process. `precision`: "fp32" is the reference; "bf16" runs
    image encoder and memory attention in bfloat16.
    """

    @torch.inference_mode()
    def __init__(
        self,
        network: Sam2Network,
        capacity: EngineCapacity,
        threads: int = 0,
        precision: str = "fp32",
        reason: str = "asked for by name",
    ) -> None:
        config = network.config
        if precision not in EAGER_PRECISIONS:
            raise ValueError(f"precision {precision!r}: eager runs {' or '.join(EAGER_PRECISIONS)}")
        check_capacity(config, capacity)
        if threads < 0:
            raise ValueError(f"threads is {threads}; use 0 for the default or a positive number")
        if threads:
            torch.set_num_threads(threads)
        self.capacity = capacity
        self.image_size = config.image_size
        self.mask_size = config.mask_size
        self._network = network.eval()
        self._sha256 = weights_sha256(network.state_dict())
        network.image_encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.sam2s.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._precision, self._reason = precision, reason
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._normalise = Normaliser(config.image_mean, config.image_std, dtype)
        if precision == "bf16":
            network.reduce_precision()
        self._allocate()

    def _allocate(self) -> None:
        config, capacity = self._network.config, self.capacity
        rows, side, size = capacity.max_objects, config.feature_size, config.image_size
        area, c, cm = side * side, config.hidden_dim, config.memory_dim
        self._features = [
            ImageFeatures(
                torch.zeros(1, c // 8, 4 * side, 4 * side),
                torch.zeros(1, c // 4, 2 * side, 2 * side),
                torch.zeros(1, c, side, side),
                torch.zeros(1, 3, size, size) if config.class_reader else None,
            )
            for _ in range(capacity.frame_slots)
        ]
        self._encoded = [False] * capacity.frame_slots
        self._memory = torch.zeros(rows * capacity.memory_slots, area, cm)
        self._pointers = torch.zeros(rows * capacity.pointer_slots, c)
        self._kept_features = torch.zeros(rows * capacity.feature_slots, c * area)
        self._logits = torch.zeros(rows * capacity.frame_slots, 1, config.mask_size, config.mask_size)
        self._conditioned = torch.zeros(rows, c, side, side)
        self._class_token = torch.zeros(rows, 1, c)
        self._high_res = torch.zeros(rows, 1, size, size)
        self._pointer = torch.zeros(rows, c)
        self._object_score = torch.zeros(rows, 1)

    @torch.inference_mode()
    def encode(self, frame_rgb: NDArray[np.uint8], frame_slot: int) -> None:
        new = self._network.encode_image(self._normalise(resize_to_square(frame_rgb, self.image_size)))
        kept = self._features[frame_slot]
        for target, source in ((kept.f0, new.f0), (kept.f1, new.f1), (kept.f2, new.f2)):
            target.copy_(source)
        if kept.pixels is not None and new.pixels is not None:
            kept.pixels.copy_(new.pixels)
        self._encoded[frame_slot] = True

    @torch.inference_mode()
    def attend(self, rows: NDArray[np.int64], frame_slot: int, read: MemoryRead | None) -> None:
        f2 = self._frame(frame_slot).f2
        index = torch.from_numpy(rows)
        if read is None:
            self._keep_conditioned(index, self._network.without_memory(f2))
            return
        read = without_empty_columns(read)
        memory = _gather(self._memory, rows, read.slots, self.capacity.memory_slots)
        pointers = _gather(self._pointers, rows, read.pointer_slots, self.capacity.pointer_slots)
        conditioned = self._network.attend_memory(
            f2,
            memory,
            torch.from_numpy(read.temporal_index),
            _validity(read.valid),
            pointers,
            torch.from_numpy(read.pointer_distance),
            _validity(read.pointer_valid),
        )
        self._keep_conditioned(index, conditioned)

    def _keep_conditioned(self, index: Tensor, conditioned: Conditioned) -> None:
        self._conditioned[index] = conditioned.features
        if conditioned.class_token is not None:
            self._class_token[index] = conditioned.class_token

    def _kept_conditioned(self, index: Tensor) -> Conditioned:
        token = self._class_token[index] if self._network.config.has_class_token else None
        return Conditioned(self._conditioned[index], token)

    @torch.inference_mode()
    def decode(
        self,
        rows: NDArray[np.int64],
        frame_slot: int,
        prompt: PromptBatch,
        asked: NDArray[np.bool_] | None = None,
    ) -> DecodeResult:
        frame = self._frame(frame_slot)
        decoded = self._network.decode(
            self._kept_conditioned(torch.from_numpy(rows)),
            frame.f0,
            frame.f1,
            None if prompt.points is None else torch.from_numpy(prompt.points),
            None if prompt.labels is None else torch.from_numpy(prompt.labels),
            self._previous_mask(rows, prompt.previous_mask_slot, prompt.previous_mask_flow),
            prompt.multimask,
        )
        result = self._store(rows, frame_slot, decoded)
        if frame.pixels is None or not self.reads_classes:
            return result
        asked = np.ones(len(rows), dtype=np.bool_) if asked is None else asked
        embedding = np.full((len(rows), self._network.config.semantic_dim), np.nan, dtype=np.float32)
        if asked.any():
            said = self._network.sam2s.read(frame.pixels, decoded.logits[torch.from_numpy(asked), 0])
            assert said is not None  # there are pixels, so there is a reader
            embedding[asked] = said.numpy()
        return replace(result, embedding=embedding)

    @torch.inference_mode()
    def decode_mask(
        self, rows: NDArray[np.int64], frame_slot: int, masks: NDArray[np.float32]
    ) -> DecodeResult:
        frame = self._frame(frame_slot)
        given = torch.from_numpy(masks)[:, None]
        pixels = frame.pixels if self.reads_classes else None
        decoded = self._network.mask_as_output(frame.f2, frame.f0, frame.f1, given, pixels)
        return self._store(rows, frame_slot, decoded)

    @torch.inference_mode()
    def mark_absent(self, rows: NDArray[np.int64], frame_slot: int) -> None:
        index = torch.from_numpy(rows)
        self._logits[torch.from_numpy(self._logit_slots(rows, frame_slot))] = ABSENT_LOGIT
        self._high_res[index] = ABSENT_LOGIT
        self._pointer[index] = self._network.no_obj_ptr
        self._object_score[index] = -GIVEN_LOGIT

    @torch.inference_mode()
    def memorise(
        self,
        rows: NDArray[np.int64],
        frame_slot: int,
        memory_slots: NDArray[np.int64],
        pointer_slots: NDArray[np.int64],
        keep: NDArray[np.bool_] | None = None,
        from_points: bool = False,
    ) -> None:
        if keep is not None:
            self._drop(rows, frame_slot, keep)
        index = torch.from_numpy(rows)
        memory = self._network.encode_memory(
            self._frame(frame_slot).f2, self._high_res[index], self._object_score[index], from_points
        )
        self._memory[index * self.capacity.memory_slots + torch.from_numpy(memory_slots)] = memory
        slots = index * self.capacity.pointer_slots + torch.from_numpy(pointer_slots)
        self._pointers[slots] = self._pointer[index]

    def _drop(self, rows: NDArray[np.int64], frame_slot: int, keep: NDArray[np.bool_]) -> None:
        """Turn what `keep` leaves out into background, in the stored logits and at full resolution."""
        changed = ~keep.all(axis=(1, 2))
        if not changed.any():
            return
        slots = torch.from_numpy(self._logit_slots(rows[changed], frame_slot))
        logits = self._logits[slots]
        logits = torch.where(
            torch.from_numpy(keep[changed])[:, None], logits, logits.clamp(max=DROPPED_LOGIT)
        )
        self._logits[slots] = logits
        self._high_res[torch.from_numpy(rows[changed])] = self._network.upsample(logits)

    @torch.inference_mode()
    def similarity(
        self, rows: NDArray[np.int64], frame_slot: int, feature_slots: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        kept = self._kept_features[self._feature_index(rows, feature_slots)]
        return np.asarray((kept @ self._unit_feature(frame_slot)).numpy())

    @torch.inference_mode()
    def keep_memory(
        self, rows: NDArray[np.int64], from_slots: NDArray[np.int64], to_slots: NDArray[np.int64]
    ) -> None:
        start = rows * self.capacity.memory_slots
        self._memory[torch.from_numpy(start + to_slots)] = self._memory[torch.from_numpy(start + from_slots)]

    @torch.inference_mode()
    def keep_feature(
        self, rows: NDArray[np.int64], frame_slot: int, feature_slots: NDArray[np.int64]
    ) -> None:
        self._kept_features[self._feature_index(rows, feature_slots)] = self._unit_feature(frame_slot)

    def _feature_index(self, rows: NDArray[np.int64], feature_slots: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(rows * self.capacity.feature_slots + feature_slots)

    def _unit_feature(self, frame_slot: int) -> Tensor:
        return F.normalize(self._frame(frame_slot).f2.flatten(), dim=0)

    @torch.inference_mode()
    def warm_up(self) -> None:
        rows = np.arange(self.capacity.max_objects, dtype=np.int64)
        zeros = np.zeros_like(rows)
        self.encode(np.zeros((self.image_size, self.image_size, 3), dtype=np.uint8), 0)
        self.attend(
            rows, 0, repeated_read(len(rows), self.capacity.memory_reads, self.capacity.pointer_reads)
        )
        self.decode(rows, 0, PromptBatch())
        self.memorise(rows, 0, zeros, zeros)
        if self.capacity.long_term_slots:
            self.similarity(rows, 0, zeros)
            self.keep_memory(rows, zeros, zeros)
            self.keep_feature(rows, 0, zeros)
        self._allocate()

    def describe(self) -> EngineDescription:
        return EngineDescription(
            name="eager",
            model=self._network.config.name,
            precision=self._precision,
            device="cpu",
            version=f"torch {torch.__version__}",
            threads=torch.get_num_threads(),
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
        banks = {name: bank.numpy() for name, bank in self._banks().items()}
        return export_rows(banks, rows, memory_slots, pointer_slots)

    @torch.inference_mode()
    def import_state(self, rows: NDArray[np.int64], state: dict[str, np.ndarray]) -> None:
        banks = self._banks()
        check_state(state, {name: (len(rows), *bank.shape[1:]) for name, bank in banks.items()})
        for name, bank in banks.items():
            bank[torch.from_numpy(rows)] = torch.from_numpy(state[name])

    def free(self) -> None:
        self.__dict__.clear()

    def _banks(self) -> dict[str, Tensor]:
        """The rows' memory, pointers and, with long-term memory, features: [max_objects, slots, ...]."""
        stored = {"memory": self._memory, "pointers": self._pointers}
        if self.capacity.long_term_slots:
            stored["features"] = self._kept_features
        return {name: bank.unflatten(0, (self.capacity.max_objects, -1)) for name, bank in stored.items()}

    def _frame(self, frame_slot: int) -> ImageFeatures:
        if not self._encoded[frame_slot]:
            raise RuntimeError(f"frame slot {frame_slot} holds no features: encode a frame into it first")
        return self._features[frame_slot]

    def _logit_slots(self, rows: NDArray[np.int64], frame_slot: int) -> NDArray[np.int64]:
        return np.asarray(rows * self.capacity.frame_slots + frame_slot)

    def _previous_mask(
        self, rows: NDArray[np.int64], frame_slot: int | None, flow: NDArray[np.float32] | None
    ) -> Tensor | None:
        if frame_slot is None:
            return None
        slots = torch.from_numpy(self._logit_slots(rows, frame_slot))
        return torch.from_numpy(previous_mask_prompt(self._logits[slots][:, 0].numpy(), flow))[:, None]

    def _store(self, rows: NDArray[np.int64], frame_slot: int, decoded: Decoded) -> DecodeResult:
        index = torch.from_numpy(rows)
        self._logits[torch.from_numpy(self._logit_slots(rows, frame_slot))] = decoded.logits
        self._high_res[index] = decoded.high_res
        self._pointer[index] = decoded.pointer
        self._object_score[index] = decoded.object_score
        return DecodeResult(
            logits=decoded.logits[:, 0].numpy(),
            iou=decoded.iou.numpy(),
            object_score=decoded.object_score[:, 0].numpy(),
            embedding=None if decoded.embedding is None else decoded.embedding.numpy(),
        )


def multiplies_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware; elsewhere it is slower than float32."""
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def _gather(bank: Tensor, rows: NDArray[np.int64], slots: NDArray[np.int64], per_row: int) -> Tensor:
    """Slots [N, M] of the rows out of a bank [rows * per_row, ...] -> [N, M, ...]."""
    flat = torch.from_numpy((rows[:, None] * per_row + slots).ravel())
    return bank.index_select(0, flat).unflatten(0, slots.shape)


def _validity(valid: NDArray[np.bool_]) -> Tensor | None:
    return None if valid.all() else torch.from_numpy(valid)
