"""The network room: SAM 2.1 (and what SAM2S adds to it) in PyTorch, and how its weights are read and written.

Nothing here knows of video streams, engines or ROS: a network is a set of graphs over tensors.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sam2s_ros.network.config import ConvTrunkConfig, HieraConfig, NetworkConfig
from sam2s_ros.network.presets import PRESETS
from sam2s_ros.network.sam2 import LONG_TERM_TPOS, Decoded, ImageFeatures, Sam2Network

__all__ = [
    "PRESETS",
    "ConvTrunkConfig",
    "Decoded",
    "HieraConfig",
    "ImageFeatures",
    "NetworkConfig",
    "Sam2Network",
    "build_network",
    "with_image_size",
]


def build_network(preset: str, checkpoint: str | Path | None = None, long_term: bool = False) -> Sam2Network:
    """Build the network of a preset in evaluation mode, float32, on the CPU.

    Args:
        preset: a key of `PRESETS`.
        checkpoint: weights to load strictly (safetensors, or a PyTorch file read with `weights_only=True`); None
            leaves the weights random. The network has long-term memory if they have.
        long_term: give it long-term memory even if they have none.

    Raises:
        ValueError: unknown preset, or a checkpoint that does not fit (the message lists what does not).
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; choose one of {', '.join(sorted(PRESETS))}")
    if checkpoint is None:
        return Sam2Network(replace(PRESETS[preset], long_term=long_term)).eval()
    from sam2s_ros.network.checkpoint import load_checkpoint, read_shapes

    long_term = long_term or LONG_TERM_TPOS in read_shapes(checkpoint)
    network = Sam2Network(replace(PRESETS[preset], long_term=long_term))
    load_checkpoint(network, checkpoint)
    return network.eval()


def with_image_size(network: Sam2Network, size: int) -> Sam2Network:
    """The same weights for square inputs of `size` pixels, in evaluation mode; no weight has a size of its own.

    Masks get coarser and small objects are lost with a smaller one: weights are best at the size they were trained for.

    Raises:
        ValueError: a size that is not a positive multiple of 32.
    """
    if size < 32:
        raise ValueError(f"image_size {size} is not a positive multiple of 32")
    resized = Sam2Network(replace(network.config, image_size=size))
    resized.load_state_dict(network.state_dict(), strict=True)
    return resized.eval()
