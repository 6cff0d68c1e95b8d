"""The public SAM 2 implementation (`sam2` 1.1.0), driven frame by frame with the random weights of ours."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

REASON = "the public SAM 2 reference is not installed; it is one of the development extras"
UNBOUNDED = 10_000
"""Length given for a stream: SAM 2 scales pointer distances by a shorter video's length."""


def build_reference(preset: str, image_size: int, seed: int) -> nn.Module:
    """`SAM2Base` of an official configuration in float32, randomly weighted; skips the test without it."""
    pytest.importorskip("sam2.modeling.sam2_base", reason=REASON)
    hydra = pytest.importorskip("hydra", reason=REASON)
    config = hydra.compose(
        config_name=f"configs/sam2.1/{preset}.yaml", overrides=[f"++model.image_size={image_size}"]
    )
    torch.manual_seed(seed)
    reference = hydra.utils.instantiate(config.model, _recursive_=True).eval()
    perturb(reference)
    return reference


@torch.no_grad()
def perturb(network: nn.Module) -> None:
    """Make every parameter count.

    SAM 2 builds its layer stacks as copies and starts several parameters at or near zero, which would hide
    layers in the wrong order or terms left out; and a random network that sees no object puts out a constant.
    """
    for parameter in network.parameters():
        matrix = parameter.ndim > 1 and parameter[0].numel() > 1 and parameter.shape[0] > 1
        scale = 0.4 / math.sqrt(parameter[0].numel()) if matrix else 0.1
        parameter.add_(torch.randn_like(parameter), alpha=scale)
    set_object_score_bias(network, 8.0)


@torch.no_grad()
def set_object_score_bias(network: Any, bias: float) -> None:
    """Positive: every object is in view; negative: none is."""
    network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(bias)


FrameFeatures = tuple[list[Tensor], list[Tensor], list[tuple[int, int]]]


@torch.no_grad()
def reference_features(reference: Any, frames: list[Tensor]) -> list[FrameFeatures]:
    """What `track_step` wants of each normalised image [1, 3, S, S]: maps, their positions, their sizes."""
    return [reference._prepare_backbone_features(reference.forward_image(image))[1:] for image in frames]


class ReferenceStream:
    """One object in SAM 2's own loop: `track_step` and the two dictionaries of past outputs."""

    def __init__(self, reference: Any, features: list[FrameFeatures]) -> None:
        """`features` are those of every frame of the stream, from `reference_features`."""
        self.reference = reference
        self.features = features
        self.outputs: dict[str, dict[int, dict[str, Any]]] = {
            "cond_frame_outputs": {},
            "non_cond_frame_outputs": {},
        }

    @torch.no_grad()
    def step(
        self,
        frame_index: int,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Track, start (first call, with a prompt) or refine (a prompt on a tracked frame) the object.

        Returns logits [1, 1, 4h, 4w], iou [1], object_score [1, 1], pointer [1, C] and memory [1, hw, Cm].
        """
        earlier = self.outputs["non_cond_frame_outputs"].pop(frame_index, None)
        prompted = points is not None or mask is not None
        ious: list[Tensor] = []
        inner = self.reference._track_step

        def listening(*args: Any, **kwargs: Any) -> Any:
            result = inner(*args, **kwargs)
            ious.append(result[1][2])
            return result

        features, positions, sizes = self.features[frame_index]
        self.reference._track_step = listening
        try:
            output = self.reference.track_step(
                frame_idx=frame_index,
                is_init_cond_frame=prompted and earlier is None,
                current_vision_feats=features,
                current_vision_pos_embeds=positions,
                feat_sizes=sizes,
                point_inputs=None if points is None else {"point_coords": points, "point_labels": labels},
                mask_inputs=mask,
                output_dict=self.outputs,
                num_frames=UNBOUNDED,
                prev_sam_mask_logits=None if earlier is None else earlier["pred_masks"].clamp(-32.0, 32.0),
            )
        finally:
            del self.reference._track_step
        kind = "cond_frame_outputs" if prompted else "non_cond_frame_outputs"
        self.outputs[kind][frame_index] = output
        return {
            "logits": output["pred_masks"],
            "iou": ious[0].max(dim=1).values,
            "object_score": output["object_score_logits"],
            "pointer": output["obj_ptr"],
            "memory": output["maskmem_features"].flatten(2).transpose(1, 2),
        }
