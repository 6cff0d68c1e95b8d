"""The network room: SAM 2.1 (and what SAM2S adds to it) in PyTorch, and how its weights are read and written.

Nothing here knows of video streams, engines or ROS: a network is a set of graphs over tensors.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sam2s_ros.network.class_bank import ClassBank
from sam2s_ros.network.config import ConvTrunkConfig, HieraConfig, NetworkConfig
from sam2s_ros.network.presets import PRESETS
from sam2s_ros.network.sam2 import Conditioned, Decoded, ImageFeatures, Sam2Network
from sam2s_ros.network.semantics import LONG_TERM_TPOS, has_class_reader

__all__ = [
    "PRESETS",
    "ClassBank",
    "Conditioned",
    "ConvTrunkConfig",
    "Decoded",
    "HieraConfig",
    "ImageFeatures",
    "NetworkConfig",
    "Sam2Network",
    "build_network",
    "with_image_size",
]


def build_network(
    preset: str,
    checkpoint: str | Path | None = None,
    long_term: bool = False,
    class_bank: ClassBank | None = None,
    class_reader: bool = False,
) -> Sam2Network:
    """Build the network of a preset in evaluation mode, float32, on the CPU.

    Args:
        preset: a key of `PRESETS`.
        checkpoint: weights to load strictly (safetensors, or a PyTorch file read with `weights_only=True`); None
            leaves the weights random. The network has long-term memory, and knows classes, if they do.
        long_term: give it long-term memory even if they have none.
        class_bank: give it this bank, and a class token or class reader. Weights that have a bank already get this one
            instead, which must come from the same text encoder and prompt, and keep what they tell classes by.
        class_reader: whether weights without a bank get a class reader instead of a class token.

    Raises:
        ValueError: unknown preset, a checkpoint that does not fit (the message lists what does not), or a class bank
            that cannot take the place of its own.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; choose one of {', '.join(sorted(PRESETS))}")
    if checkpoint is None:
        return _network(replace(PRESETS[preset], long_term=long_term), class_bank, class_reader)
    from sam2s_ros.network.checkpoint import load_checkpoint, read_checkpoint_bank, read_shapes

    own_bank, shapes = read_checkpoint_bank(checkpoint), read_shapes(checkpoint)
    config = replace(PRESETS[preset], long_term=long_term or LONG_TERM_TPOS in shapes)
    network = _network(config, own_bank or class_bank, has_class_reader(shapes) if own_bank else class_reader)
    load_checkpoint(network, checkpoint)
    if own_bank is not None and class_bank is not None:
        class_bank.check_replaces(own_bank)
        network.put_class_bank(class_bank)
    return network.eval()


def _network(config: NetworkConfig, class_bank: ClassBank | None, class_reader: bool) -> Sam2Network:
    """A network with random weights that knows the classes of this bank, if any."""
    if class_bank is None:
        return Sam2Network(config).eval()
    config = replace(
        config, semantic_dim=class_bank.dim, class_names=class_bank.names, class_reader=class_reader
    )
    network = Sam2Network(config)
    network.put_class_bank(class_bank)
    if network.sam2s.class_reader is not None:
        network.sam2s.class_reader.begin_between(class_bank.embeddings)
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
