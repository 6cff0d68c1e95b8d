"""Architecture of one network as a frozen value: every number that shapes a tensor is named here."""

from __future__ import annotations

from dataclasses import dataclass, field

from sam2s_ros.network.conv_trunk import ConvTrunkConfig
from sam2s_ros.network.hiera import HieraConfig

__all__ = ["ConvTrunkConfig", "HieraConfig", "NetworkConfig"]


@dataclass(frozen=True)
class NetworkConfig:
    """Shapes and constants of a SAM 2.1 network (source: SAM 2's `sam2.1_hiera_*.yaml`, Apache-2.0).

    The defaults are those shared by the four official sizes; only the trunk differs between them.
    """

    name: str
    trunk: HieraConfig | ConvTrunkConfig
    image_size: int = 1024
    """Side of the square network input, in pixels. A multiple of 32."""
    hidden_dim: int = 256
    """Channels C of image features, object pointers and decoder tokens."""
    memory_dim: int = 64
    """Channels Cm of a memory entry. Divides `hidden_dim`: a pointer is split into C / Cm memory tokens."""
    fpn_top_down_levels: tuple[int, ...] = (2, 3)
    """Pyramid levels (0 = stride 4) that receive the upsampled coarser level."""
    num_maskmem: int = 7
    """Entries of the temporal embedding: 6 recent distances and, last, the conditioning frame."""
    long_term: bool = False
    """An embedding of their own for long-term memory entries (SAM2S, DiveMem): the state dict has one more key."""
    semantic_dim: int = 0
    """Channels D of the class bank's text embeddings (SAM2S, temporal semantic learning); 0: no class is known."""
    class_reader: bool = False
    """Whether a network with a class bank tells classes by a reader of its own, which has no part in its masks; else it
    does so by a class token, as SAM2S."""
    class_names: tuple[str, ...] = ()
    """The class bank: the name of each row of its embeddings. Empty if and only if `semantic_dim` is 0."""
    max_pointers: int = 16
    """Object pointers attended from recent frames plus one; distances are divided by this less one."""
    memory_layers: int = 4
    mask_downsampler_widths: tuple[int, int, int, int] = (4, 16, 64, 256)
    """Channels after each strided convolution that brings a mask to the memory's resolution."""
    memory_ffn_dim: int = 2048
    rope_theta: float = 10000.0
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_ffn_dim: int = 2048
    decoder_iou_hidden_dim: int = 256
    num_multimask_outputs: int = 3
    mask_prompt_channels: int = 16
    """Channels inside the dense prompt's downscaling."""
    mask_sigmoid_scale: float = 20.0
    """The memory encoder sees sigmoid(mask logits) * scale + bias."""
    mask_sigmoid_bias: float = -10.0
    binarize_mask_from_points: bool = False
    """Binarise the mask of a click-prompted frame before it is memorised (SAM 2's video predictor does)."""
    image_mean: tuple[float, float, float] = field(default=(0.485, 0.456, 0.406))
    image_std: tuple[float, float, float] = field(default=(0.229, 0.224, 0.225))

    def __post_init__(self) -> None:
        if self.image_size % 32:
            raise ValueError(f"image_size {self.image_size} is not a multiple of 32; take the next multiple")
        if self.hidden_dim % self.memory_dim:
            raise ValueError(f"memory_dim {self.memory_dim} does not divide hidden_dim {self.hidden_dim}")
        if bool(self.semantic_dim) != bool(self.class_names):
            raise ValueError(
                f"semantic_dim is {self.semantic_dim} with {len(self.class_names)} class names; a class bank needs both"
            )
        if self.class_reader and not self.semantic_dim:
            raise ValueError("class_reader is true, and there is no class bank to compare with")

    @property
    def has_class_token(self) -> bool:
        """Whether a class token goes through memory attention and mask decoder."""
        return bool(self.semantic_dim) and not self.class_reader

    @property
    def feature_size(self) -> int:
        """Side h = w of the stride-16 feature map."""
        return self.image_size // 16

    @property
    def mask_size(self) -> int:
        """Side 4h of the low-resolution mask logits."""
        return self.image_size // 4
