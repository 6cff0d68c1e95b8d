"""Rolling the network over clips, with gradients: prompt the first frame, then track with memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sam2s_ros.network import Conditioned, Decoded, ImageFeatures, Sam2Network
from sam2s_ros.training.clicks import corrective_click, first_click, noisy_box
from sam2s_ros.training.config import PromptConfig
from sam2s_ros.training.drift import Drift

LONGEST_GAP = 600
"""Frames; with more, the distance of a conditioning frame's pointer tells nothing new."""


@dataclass(frozen=True)
class RolloutPlan:
    """What is decided once per step for all clips of a batch."""

    prompt: str
    """mask, moved_mask, box or clicks."""
    clicks: int
    correct_at: int
    """Frame that gets one corrective click; -1: none."""
    previous_mask: bool
    gap: int = 0
    """Frames that count as lying between the first frame and the second."""
    drift: bool = False
    """Whether memories of recent frames go wrong."""
    long_term: int = 0
    """Frames after the first that are remembered in the long-term memory; only the others are recent ones."""

    @staticmethod
    def draw(config: PromptConfig, length: int, rng: np.random.Generator, long_term: int = 0) -> RolloutPlan:
        """Draw a plan for clips of `length` frames, of which `long_term` after the first lie far apart."""
        u = rng.random()
        whole = "mask" if length > 1 else "moved_mask"
        prompt = whole if u < config.mask else "box" if u < config.mask + config.box else "clicks"
        correct = length > 1 and rng.random() < config.correction
        return RolloutPlan(
            prompt=prompt,
            clicks=int(rng.integers(1, config.max_clicks + 1)),
            correct_at=int(rng.integers(1 + long_term, length)) if correct else -1,
            previous_mask=bool(rng.random() < config.previous_mask),
            gap=int(LONGEST_GAP ** rng.random()) if long_term or rng.random() < config.gap else 0,
            drift=bool(length > 2 and rng.random() < config.drift),
            long_term=long_term,
        )


@dataclass(frozen=True)
class Supervised:
    """A decoder pass that is to be compared with the truth of a frame."""

    frame: int
    decoded: Decoded
    multimask: bool


class ClipMemory:
    """Memory of a batch of objects that share one timeline."""

    def __init__(self, network: Sam2Network) -> None:
        self.network = network
        self.entries: list[tuple[int, bool, Tensor, Tensor]] = []  # frame, conditioning, memory, pointer
        self.long_term: list[tuple[Tensor, Tensor]] = []  # memory, whether it counts [N] bool

    def write(self, frame: int, conditioning: bool, memory: Tensor, pointer: Tensor) -> None:
        self.entries = [entry for entry in self.entries if entry[0] != frame]
        self.entries.append((frame, conditioning, memory, pointer))

    def attend(self, f2: Tensor, frame: int) -> Conditioned:
        config = self.network.config
        recent = config.num_maskmem - 1
        spatial = [e for e in self.entries if e[1] or frame - e[0] <= recent]
        pointed = [e for e in self.entries if e[1] or frame - e[0] < config.max_pointers]
        n = f2.shape[0]
        index = [recent if e[1] else frame - e[0] - 1 for e in spatial]
        index += [recent + 1] * len(self.long_term)
        valid = torch.ones(n, len(index), dtype=torch.bool, device=f2.device)
        for position, (_, counts) in enumerate(self.long_term, start=len(spatial)):
            valid[:, position] = counts
        distance = torch.tensor([float(frame - e[0]) for e in pointed], device=f2.device)
        return self.network.attend_memory(
            f2,
            torch.stack([e[2] for e in spatial] + [memory for memory, _ in self.long_term], dim=1),
            torch.tensor(index, device=f2.device).expand(n, -1),
            None if valid.all() else valid,
            torch.stack([e[3] for e in pointed], dim=1),
            distance.expand(n, -1),
            None,
        )


class Rollout:
    """One batch of clips on its way through the network.

    Args:
        images: [B, T, 3, S, S] normalised.
        masks: [B, T, K, S, S] bool.
        plan: how the clips are prompted.
        rng: where the simulated clicks fall.
        bf16_encoder: run the image encoder in bfloat16 (half the time where the CPU has it).
    """

    def __init__(
        self,
        network: Sam2Network,
        images: Tensor,
        masks: Tensor,
        plan: RolloutPlan,
        rng: np.random.Generator,
        bf16_encoder: bool = False,
    ) -> None:
        self.network, self.plan, self.rng = network, plan, rng
        self.batch, self.length = images.shape[:2]
        self.objects = masks.shape[2]
        self.images, self.masks = images, masks
        if bf16_encoder:
            with torch.autocast(images.device.type, torch.bfloat16):
                features = network.encode_image(images.flatten(0, 1))
        else:
            features = network.encode_image(images.flatten(0, 1))
        self.features = _each(features, lambda x: self._by_clip(x.float()))
        self.memory = ClipMemory(network)
        self.drift = Drift.draw(self.batch * self.objects, rng, images.device) if plan.drift else None

    def _by_clip(self, x: Tensor) -> Tensor:
        return x.unflatten(0, (self.batch, self.length))

    def _frame(self, t: int) -> ImageFeatures:
        """Features of frame t, repeated for each object: [B * K, ...]."""
        return _each(self.features, lambda x: x[:, t].repeat_interleave(self.objects, dim=0))

    def truth(self, t: int) -> Tensor:
        """Masks of frame t [B * K, 1, S, S] float."""
        return self.masks[:, t].flatten(0, 1)[:, None].float()

    def run(self) -> list[Supervised]:
        """All decoder passes of the clip, in order."""
        passes = self._prompt()
        previous_logits = self._as_prompt(self.start, self.start.high_res)
        for t in range(1, self.length):
            frame = self._frame(t)
            conditioned = self.memory.attend(frame.f2, self._number(t))
            consecutive = t > self.plan.long_term + 1 or not self.plan.long_term
            prompt = previous_logits if self.plan.previous_mask and consecutive else None
            decoded = self._decode(conditioned, frame, None, None, prompt)
            passes.append(Supervised(t, decoded, True))
            corrected = t == self.plan.correct_at
            if corrected:
                points, labels = self._correction(decoded, t)
                mask = decoded.logits.detach().clamp(-32, 32)
                decoded = self._decode(conditioned, frame, points, labels, mask)
                passes.append(Supervised(t, decoded, True))
            mask = self._remembered_mask(t, corrected, decoded)
            if t <= self.plan.long_term:
                self._memorise_long_term(frame, decoded)
            elif t < self.length - 1:
                self._memorise(t, corrected, frame, decoded, mask)
            previous_logits = self._as_prompt(decoded, mask)
        return passes

    def _decode(
        self,
        conditioned: Conditioned,
        frame: ImageFeatures,
        points: Tensor | None,
        labels: Tensor | None,
        mask: Tensor | None,
        multimask: bool = True,
    ) -> Decoded:
        """`Sam2Network.decode` of a frame's objects."""
        maps = frame.f0, frame.f1
        return self.network.decode(conditioned, *maps, points, labels, mask, multimask, frame.pixels)

    def _number(self, t: int) -> int:
        """The frame's number for its memory: that of the prompted frame is 0, a gap may follow."""
        return t + self.plan.gap if t else 0

    def _remembered_mask(self, t: int, conditioning: bool, decoded: Decoded) -> Tensor:
        """Logits [B * K, 1, S, S] that the frame is remembered by: the decoded ones, or wrong ones."""
        if self.drift is None or conditioning:
            return decoded.high_res
        truth = self.masks[:, t]
        wrong = self.drift.apply(truth.flatten(0, 1), truth.roll(1, dims=1).flatten(0, 1))
        drifting = (self.drift.loses | self.drift.gains)[:, None]
        return torch.where(drifting, wrong, decoded.high_res)

    def _as_prompt(self, decoded: Decoded, mask: Tensor) -> Tensor:
        """The logits [B * K, 1, S, S] that a frame is remembered by, as the next frame's mask prompt."""
        logits = decoded.logits
        if mask is not decoded.high_res:
            logits = F.interpolate(mask, size=logits.shape[-2:], mode="bilinear", antialias=True)
        return logits.detach().clamp(-32, 32)

    def _memorise(
        self, t: int, conditioning: bool, frame: ImageFeatures, decoded: Decoded, mask: Tensor
    ) -> None:
        memory = self.network.encode_memory(frame.f2, mask, decoded.object_score)
        self.memory.write(self._number(t), conditioning, memory, decoded.pointer)

    def _memorise_long_term(self, frame: ImageFeatures, decoded: Decoded) -> None:
        """Remember a frame for the rest of the clip; it counts for the objects that are seen in it."""
        memory = self.network.encode_memory(frame.f2, decoded.high_res, decoded.object_score)
        self.memory.long_term.append((memory, decoded.object_score.detach()[:, 0] > 0))

    def _prompt(self) -> list[Supervised]:
        frame = self._frame(0)
        passes: list[Supervised] = []
        if self.plan.prompt == "mask":
            self.start = self.network.mask_as_output(
                frame.f2, frame.f0, frame.f1, self.truth(0), frame.pixels
            )
        elif self.plan.prompt == "moved_mask":
            conditioned = self.network.without_memory(frame.f2)
            prior = moved_mask_logits(self.truth(0), self.network.config.mask_size, self.rng)
            decoded = self._decode(conditioned, frame, None, None, prior)
            passes.append(Supervised(0, decoded, True))
            self.start = decoded
        else:
            conditioned = self.network.without_memory(frame.f2)
            points, labels = self._first_prompt()
            mask = None
            for click in range(self.plan.clicks):
                multimask = labels.shape[1] <= 1
                decoded = self._decode(conditioned, frame, points, labels, mask, multimask)
                passes.append(Supervised(0, decoded, multimask))
                if click + 1 < self.plan.clicks:
                    more, kind = self._correction(decoded, 0)
                    points, labels = torch.cat((points, more), 1), torch.cat((labels, kind), 1)
                    mask = decoded.logits.detach().clamp(-32, 32)
            self.start = passes[-1].decoded
        if self.length > 1:
            self._memorise(0, True, frame, self.start, self.start.high_res)
        return passes

    def _first_prompt(self) -> tuple[Tensor, Tensor]:
        device = self.masks.device
        truth = self.masks[:, 0].flatten(0, 1).cpu().numpy()
        if self.plan.prompt == "box":
            boxes = np.stack([noisy_box(mask, self.rng) for mask in truth])
            corners = torch.from_numpy(boxes).view(-1, 2, 2).to(device)
            return corners, torch.tensor([[2, 3]], device=device).expand(len(truth), -1)
        clicks = np.array([first_click(mask, self.rng) for mask in truth], np.float32)
        labels = torch.ones(len(truth), 1, dtype=torch.int64, device=device)
        return torch.from_numpy(clicks)[:, None].to(device), labels

    def _correction(self, decoded: Decoded, t: int) -> tuple[Tensor, Tensor]:
        """One corrective click per object -> points [N, 1, 2], labels [N, 1]."""
        device = self.masks.device
        predicted = decoded.high_res.detach().gt(0)[:, 0].cpu().numpy()
        truth = self.masks[:, t].flatten(0, 1).cpu().numpy()
        found = [corrective_click(p, m, self.rng) for p, m in zip(predicted, truth, strict=True)]
        points = torch.tensor([[[x, y]] for x, y, _ in found], device=device)
        return points, torch.tensor([[label] for _, _, label in found], device=device)


def _each(features: ImageFeatures, change: Callable[[Tensor], Tensor]) -> ImageFeatures:
    """All maps of a frame, changed alike."""
    pixels = None if features.pixels is None else change(features.pixels)
    return ImageFeatures(change(features.f0), change(features.f1), change(features.f2), pixels)


def moved_mask_logits(masks: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """Masks [N, 1, S, S] shifted, scaled, turned a little and blurred -> logits [N, 1, size, size].

    Stands in for the previous frame's mask where there is no previous frame.
    """
    n = masks.shape[0]
    low = F.interpolate(masks, size=(size, size), mode="bilinear", antialias=True)
    angle = torch.from_numpy(rng.normal(0, 0.15, n)).float().to(masks.device)
    scale = torch.from_numpy(np.exp(rng.normal(0, 0.12, n))).float().to(masks.device)
    shift = torch.from_numpy(rng.normal(0, 0.08, (n, 2))).float().to(masks.device)
    where = (low[:, 0] > 0.5).float()
    mass = where.sum(dim=(1, 2)).clamp(min=1)
    axis = (torch.arange(size, device=masks.device) + 0.5) / size * 2 - 1
    centre = torch.stack((where.sum(1) @ axis, where.sum(2) @ axis), dim=1) / mass[:, None]
    turn = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), dim=1).view(n, 2, 2)
    matrix = turn * scale[:, None, None]
    offset = centre[:, :, None] - matrix @ (centre + shift)[:, :, None]
    grid = F.affine_grid(torch.cat((matrix, offset), dim=2), [n, 1, size, size], align_corners=False)
    moved = F.grid_sample(low, grid, align_corners=False)
    radius = int(rng.integers(0, 3))
    if radius:
        moved = F.avg_pool2d(moved, 2 * radius + 1, stride=1, padding=radius)
    threshold = float(rng.uniform(0.3, 0.7))
    return ((moved - threshold) * float(rng.uniform(8, 30))).clamp(-12, 12)
