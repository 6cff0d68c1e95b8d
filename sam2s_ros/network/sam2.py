"""SAM 2.1 assembled: what happens to a frame and to each object on it, one method per graph.

The order of a frame: `encode_image` once; then, batched over objects, `attend_memory` (or `without_memory`),
`decode` (or `mask_as_output`) and `encode_memory`. Numerics are those of SAM 2's `SAM2Base.track_step` in
float32; state-dict keys are those of the official checkpoints. What SAM2S adds is named `sam2s.` there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam2s_ros.network.class_bank import ClassBank
from sam2s_ros.network.config import ConvTrunkConfig, NetworkConfig
from sam2s_ros.network.conv_trunk import ConvTrunk
from sam2s_ros.network.hiera import Hiera
from sam2s_ros.network.image_encoder import FpnNeck, ImageEncoder
from sam2s_ros.network.layers import MLP
from sam2s_ros.network.mask_decoder import MaskDecoder, MaskHypotheses, upsample_logits
from sam2s_ros.network.memory_attention import MemoryAttention
from sam2s_ros.network.memory_encoder import MemoryEncoder
from sam2s_ros.network.position import sine_encoding_1d, sine_encoding_2d
from sam2s_ros.network.prompt_encoder import NOT_A_POINT, PromptEncoder
from sam2s_ros.network.semantics import Sam2sParts

NO_OBJECT_LOGIT = -1024.0
"""Mask logit everywhere in the mask of an object that is not in view."""
INVALID_BIAS = -1e4
"""Added to attention scores of memory that is not valid; still finite in float16."""


@dataclass(frozen=True)
class ImageFeatures:
    """Features of one frame: f0 [B, C/8, 4h, 4w], f1 [B, C/4, 2h, 2w], f2 [B, C, h, w] with h = w = S / 16.

    `pixels` [B, 3, S, S] is the normalised image itself, for a class reader; None for a network without one.
    """

    f0: Tensor
    f1: Tensor
    f2: Tensor
    pixels: Tensor | None = None


@dataclass(frozen=True)
class Conditioned:
    """What the mask decoder starts from, for N objects: what their memory says of the frame."""

    features: Tensor
    """[N, C, h, w]."""
    class_token: Tensor | None
    """[N or 1, 1, C]; None for a network without one."""


@dataclass(frozen=True)
class Decoded:
    """What one frame says of N objects. `logits` are NO_OBJECT_LOGIT everywhere for an object not in view."""

    logits: Tensor
    """[N, 1, 4h, 4w] chosen mask."""
    high_res: Tensor
    """[N, 1, S, S] the same at input size, as the memory encoder sees it."""
    iou: Tensor
    """[N] predicted IoU of the chosen mask, 0..1."""
    object_score: Tensor
    """[N, 1] logit; positive: in view."""
    pointer: Tensor
    """[N, C] object pointer."""
    hypotheses: MaskHypotheses | None
    """Everything the decoder said before a choice was made; None for a mask taken as the output."""
    embedding: Tensor | None
    """[N, D] of length 1, to be compared with the rows of the class bank; None for a network that knows no class."""


class Sam2Network(nn.Module):
    """The network of one preset. Build it with `sam2s_ros.network.build_network`."""

    memory_position: Tensor
    feature_position: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        c, cm, side = config.hidden_dim, config.memory_dim, config.feature_size
        trunk = ConvTrunk(config.trunk) if isinstance(config.trunk, ConvTrunkConfig) else Hiera(config.trunk)
        self.image_encoder = ImageEncoder(trunk, FpnNeck(trunk.channel_list, c, config.fpn_top_down_levels))
        self.mask_downsample = nn.Conv2d(1, 1, 4, 4)
        self.memory_attention = MemoryAttention(
            c, cm, config.memory_layers, config.memory_ffn_dim, side, config.rope_theta
        )
        self.memory_encoder = MemoryEncoder(c, cm, config.mask_downsampler_widths)
        self.sam_prompt_encoder = PromptEncoder(c, config.image_size, config.mask_prompt_channels)
        self.sam_mask_decoder = MaskDecoder(
            c,
            config.decoder_depth,
            config.decoder_heads,
            config.decoder_ffn_dim,
            config.decoder_iou_hidden_dim,
            config.num_multimask_outputs,
        )
        self.obj_ptr_proj = MLP(c, c, c, 3)
        self.obj_ptr_tpos_proj = nn.Linear(c, cm)
        self.maskmem_tpos_enc = _embedding(config.num_maskmem, 1, 1, cm)
        self.no_mem_embed = _embedding(1, 1, c)
        self.no_mem_pos_enc = _embedding(1, 1, c)  # in the official checkpoints, used by no graph
        self.no_obj_ptr = _embedding(1, c)
        self.no_obj_embed_spatial = _embedding(1, cm)
        self.sam2s = Sam2sParts(config, self.maskmem_tpos_enc.detach()[-1:])
        feature_position = sine_encoding_2d(side, side, c).flatten(1).T[None]
        memory_position = sine_encoding_2d(side, side, cm).flatten(1).T.contiguous()
        self.register_buffer("feature_position", feature_position.contiguous(), persistent=False)
        self.register_buffer("memory_position", memory_position, persistent=False)

    def put_class_bank(self, bank: ClassBank) -> None:
        """Take another class bank of the same number of channels; only for a network with a class token."""
        self.config = replace(self.config, semantic_dim=bank.dim, class_names=bank.names)
        self.sam2s.put_class_bank(bank)

    def reduce_precision(self) -> None:
        """Run image encoder and memory attention in bfloat16, for inference; images must then be bfloat16.

        Their sums over many terms stay in float32 inside of the kernels. Prompts, decoder, memory encoder and all
        that is kept stay in float32.
        """
        self.image_encoder.to(torch.bfloat16)
        self.sam_mask_decoder.conv_s0.to(torch.bfloat16)
        self.sam_mask_decoder.conv_s1.to(torch.bfloat16)
        self.memory_attention.reduce_precision()

    def encode_image(self, image: Tensor) -> ImageFeatures:
        """Normalised image [B, 3, S, S] -> features; the decoder's projections of f0 and f1 are done here."""
        f0, f1, f2 = self.image_encoder(image)
        pixels = image.float() if self.config.class_reader else None
        return ImageFeatures(self.sam_mask_decoder.conv_s0(f0), self.sam_mask_decoder.conv_s1(f1), f2, pixels)

    def without_memory(self, f2: Tensor) -> Conditioned:
        """An object's first frame [N or 1, C, h, w], prompted by clicks or a box; the class token is the learnt one."""
        return Conditioned(f2 + self.no_mem_embed.view(1, -1, 1, 1), self.sam2s.class_token)

    def attend_memory(
        self,
        f2: Tensor,
        memory: Tensor,
        temporal_index: Tensor,
        memory_valid: Tensor | None,
        pointers: Tensor,
        pointer_distance: Tensor,
        pointer_valid: Tensor | None,
    ) -> Conditioned:
        """Condition a frame's features, and the class token, on each object's memory.

        Args:
            f2: [N or 1, C, h, w].
            memory: [N, M, h * w, Cm] spatial entries in any order.
            temporal_index: [N, M] row of `temporal_embeddings`: distance in frames - 1 for recent entries, 6 for
                conditioning ones, 7 for long-term ones.
            memory_valid: [N, M] bool, or None when every entry is valid.
            pointers: [N, P, C].
            pointer_distance: [N, P] frames between the pointer's frame and this one.
            pointer_valid: [N, P] bool, or None when every pointer is valid.
        """
        n, m, area, cm = memory.shape
        split = self.config.hidden_dim // cm
        temporal = self.temporal_embeddings()[temporal_index].view(n, m, 1, cm)
        position = (self.memory_position + temporal).flatten(1, 2)
        distance = sine_encoding_1d(
            pointer_distance.to(f2.dtype) / (self.config.max_pointers - 1), self.config.hidden_dim
        )
        pointer_position = self.obj_ptr_tpos_proj(distance).repeat_interleave(split, dim=1)
        tokens = torch.cat((memory.flatten(1, 2), pointers.reshape(n, -1, cm)), dim=1)
        positions = torch.cat((position, pointer_position), dim=1)
        bias = self._memory_bias(memory, memory_valid, pointers, pointer_valid, area, split)
        features = f2.flatten(2).transpose(1, 2)
        attended, token = self.memory_attention(
            features, self.feature_position, tokens, positions, bias, m, self.sam2s.class_token
        )
        side = self.config.feature_size
        return Conditioned(attended.transpose(1, 2).unflatten(2, (side, side)), token)

    def temporal_embeddings(self) -> Tensor:
        """[num_maskmem + 1, 1, 1, Cm]: `maskmem_tpos_enc`, then the embedding of all long-term entries.

        A network without one of its own for these gives them that of the conditioning frames.
        """
        own = self.sam2s.long_term_tpos
        return torch.cat((self.maskmem_tpos_enc, self.maskmem_tpos_enc[-1:] if own is None else own))

    @staticmethod
    def _memory_bias(
        memory: Tensor,
        memory_valid: Tensor | None,
        pointers: Tensor,
        pointer_valid: Tensor | None,
        area: int,
        split: int,
    ) -> Tensor | None:
        """[N, 1, 1, M * area + P * split]: 0 where valid, very negative elsewhere; None when all is valid."""
        if memory_valid is None and pointer_valid is None:
            return None
        if memory_valid is None:
            memory_valid = torch.ones(memory.shape[:2], dtype=torch.bool, device=memory.device)
        if pointer_valid is None:
            pointer_valid = torch.ones(pointers.shape[:2], dtype=torch.bool, device=memory.device)
        valid = torch.cat(
            (memory_valid.repeat_interleave(area, dim=1), pointer_valid.repeat_interleave(split, dim=1)),
            dim=1,
        )
        return ((~valid).to(memory.dtype) * INVALID_BIAS)[:, None, None, :]

    def decode(
        self,
        conditioned: Conditioned,
        f0: Tensor,
        f1: Tensor,
        points: Tensor | None,
        labels: Tensor | None,
        mask_prompt: Tensor | None,
        multimask: bool,
        pixels: Tensor | None = None,
    ) -> Decoded:
        """Masks of N objects from conditioned features and prompts (source: SAM 2 `_forward_sam_heads`).

        Args:
            conditioned: of N objects, from `attend_memory` or `without_memory`.
            f0: [N or 1, C/8, 4h, 4w]. f1: [N or 1, C/4, 2h, 2w].
            points: [N, K, 2] in pixels of the S x S input, or None.
            labels: [N, K] 1 positive, 0 negative, 2 and 3 box corners, -1 not a point; None with `points` None.
            mask_prompt: [N, 1, 4h, 4w] logits, or None.
            multimask: take the best of the ambiguous hypotheses instead of the single one.
            pixels: [N or 1, 3, S, S] normalised image, for a network with a class reader.
        """
        features = conditioned.features
        n = features.shape[0]
        if points is None or labels is None:
            points = features.new_zeros(n, 1, 2)
            labels = torch.full((n, 1), NOT_A_POINT, dtype=torch.int64, device=features.device)
        prompts = self.sam_prompt_encoder
        hypotheses = self.sam_mask_decoder(
            features,
            prompts.image_position(),
            prompts.sparse(points, labels),
            prompts.dense(mask_prompt),
            f0,
            f1,
            conditioned.class_token,
        )
        return self._choose(hypotheses, multimask, pixels)

    def _choose(self, hypotheses: MaskHypotheses, multimask: bool, pixels: Tensor | None) -> Decoded:
        """The hypothesis of highest predicted IoU among the ambiguous ones, or the single-mask one."""
        if multimask:
            best = hypotheses.iou[:, 1:].argmax(dim=1) + 1
        else:
            best = torch.zeros_like(hypotheses.iou[:, 0], dtype=torch.int64)
        row = torch.arange(best.shape[0], device=best.device)
        appearing = hypotheses.object_score > 0
        logits = hypotheses.logits[row, best][:, None]
        logits = torch.where(appearing[:, :, None, None], logits, NO_OBJECT_LOGIT)
        pointer = self.obj_ptr_proj(hypotheses.tokens[row, best])
        return Decoded(
            logits=logits,
            high_res=self.upsample(logits),
            iou=hypotheses.iou[row, best],
            object_score=hypotheses.object_score,
            pointer=self._pointer_or_absence(pointer, appearing),
            hypotheses=hypotheses,
            embedding=self._embedding(hypotheses.class_token, pixels, logits),
        )

    def _embedding(self, token: Tensor | None, pixels: Tensor | None, logits: Tensor) -> Tensor | None:
        """What is said of the class by the token, or by the reader of masks [N, 1, 4h, 4w]."""
        said = self.sam2s.embedding(token)
        return self.sam2s.read(pixels, logits[:, 0]) if said is None else said

    def _pointer_or_absence(self, pointer: Tensor, appearing: Tensor) -> Tensor:
        """Pointers [N, C] replaced by `no_obj_ptr` where not appearing [N, 1] (SAM 2's `fixed_no_obj_ptr`)."""
        present = appearing.to(pointer.dtype)
        return present * pointer + (1 - present) * self.no_obj_ptr

    def mask_as_output(
        self, f2: Tensor, f0: Tensor, f1: Tensor, mask: Tensor, pixels: Tensor | None = None
    ) -> Decoded:
        """Take a given mask as the frame's output (source: SAM 2 `_use_mask_as_output`).

        Args:
            f2: [N or 1, C, h, w] the frame's own features, without memory.
            f0: [N or 1, C/8, 4h, 4w]. f1: [N or 1, C/4, 2h, 2w].
            mask: [N, 1, S, S] float, 0 or 1.
            pixels: as for `decode`.

        Returns:
            `Decoded` with predicted IoU 1, and object score 10 where the mask is not empty, else -10. A class reader
            reads the given mask, a class token has gone through the decoder with it.
        """
        scale, bias = 20.0, -10.0
        high_res = mask * scale + bias
        low_res = F.interpolate(
            high_res,
            size=(self.config.mask_size, self.config.mask_size),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        pointed = self.decode(
            Conditioned(f2.expand(mask.shape[0], -1, -1, -1), self.sam2s.class_token),
            f0,
            f1,
            None,
            None,
            self.mask_downsample(mask),
            multimask=False,
        )
        appearing = mask.flatten(1).gt(0).any(dim=1, keepdim=True)
        return Decoded(
            logits=low_res,
            high_res=high_res,
            iou=mask.new_ones(mask.shape[0]),
            object_score=appearing.to(mask.dtype) * scale + bias,
            pointer=self._pointer_or_absence(pointed.pointer, appearing),
            hypotheses=None,
            embedding=pointed.embedding
            if self.config.has_class_token
            else self.sam2s.read(pixels, low_res[:, 0]),
        )

    def upsample(self, logits: Tensor) -> Tensor:
        """Mask logits [N, 1, 4h, 4w] -> [N, 1, S, S]."""
        return upsample_logits(logits, self.config.image_size)

    def encode_memory(
        self, f2: Tensor, mask_logits: Tensor, object_score: Tensor, from_points: bool = False
    ) -> Tensor:
        """Make memory entries (source: SAM 2 `_encode_new_memory`).

        Args:
            f2: [N or 1, C, h, w] the frame's own features, without memory.
            mask_logits: [N, 1, S, S].
            object_score: [N, 1] logit.
            from_points: the mask answers clicks; only matters with `binarize_mask_from_points`.

        Returns:
            [N, h * w, Cm].
        """
        config = self.config
        if from_points and config.binarize_mask_from_points:
            mask = mask_logits.gt(0).to(mask_logits.dtype)
        else:
            mask = torch.sigmoid(mask_logits)
        mask = mask * config.mask_sigmoid_scale + config.mask_sigmoid_bias
        memory = self.memory_encoder(f2, mask).flatten(2).transpose(1, 2)
        absent = object_score.le(0).to(memory.dtype)[:, :, None]
        return memory + absent * self.no_obj_embed_spatial[:, None, :]


def _embedding(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.zeros(*shape), std=0.02))
