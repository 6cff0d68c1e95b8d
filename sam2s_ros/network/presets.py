"""The networks that have a name: SAM 2.1's four sizes and `nano`, which is small enough for two CPU cores."""

from __future__ import annotations

from sam2s_ros.network.config import ConvTrunkConfig, HieraConfig, NetworkConfig

PRESETS: dict[str, NetworkConfig] = {
    "nano": NetworkConfig(
        name="nano",
        trunk=ConvTrunkConfig(channels=(32, 64, 128, 256), blocks=(1, 2, 3, 1)),
        image_size=256,
        hidden_dim=64,
        memory_dim=32,
        fpn_top_down_levels=(0, 1, 2, 3),
        memory_layers=2,
        memory_ffn_dim=256,
        mask_downsampler_widths=(4, 16, 32, 64),
        decoder_heads=4,
        decoder_ffn_dim=256,
        decoder_iou_hidden_dim=64,
    ),
    "sam2.1_hiera_t": NetworkConfig(
        name="sam2.1_hiera_t",
        trunk=HieraConfig(
            embed_dim=96,
            num_heads=1,
            stages=(1, 2, 7, 2),
            global_att_blocks=(5, 7, 9),
            window_spec=(8, 4, 14, 7),
            window_pos_embed_bkg_spatial_size=(7, 7),
        ),
    ),
    "sam2.1_hiera_s": NetworkConfig(
        name="sam2.1_hiera_s",
        trunk=HieraConfig(
            embed_dim=96,
            num_heads=1,
            stages=(1, 2, 11, 2),
            global_att_blocks=(7, 10, 13),
            window_spec=(8, 4, 14, 7),
            window_pos_embed_bkg_spatial_size=(7, 7),
        ),
    ),
    "sam2.1_hiera_b+": NetworkConfig(
        name="sam2.1_hiera_b+",
        trunk=HieraConfig(
            embed_dim=112,
            num_heads=2,
            stages=(2, 3, 16, 3),
            global_att_blocks=(12, 16, 20),
            window_spec=(8, 4, 14, 7),
            window_pos_embed_bkg_spatial_size=(14, 14),
        ),
    ),
    "sam2.1_hiera_l": NetworkConfig(
        name="sam2.1_hiera_l",
        trunk=HieraConfig(
            embed_dim=144,
            num_heads=2,
            stages=(2, 6, 36, 4),
            global_att_blocks=(23, 33, 43),
            window_spec=(8, 4, 16, 8),
            window_pos_embed_bkg_spatial_size=(7, 7),
        ),
    ),
}
