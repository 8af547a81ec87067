"""A tiny animator with every part switched on, for tests."""

from dataclasses import replace

import torch

from mien.portrait.animator import Animator, AnimatorConfig

TINY = AnimatorConfig(
    image_size=64,
    encoder_channels=(8, 12, 16),
    volume_channels=8,
    depth_layers=2,
    appearance_dim=32,
    appearance_channels=(16, 24),
    motion_input_size=64,
    motion_channels=(16, 24, 32),
    motion_blocks=(1, 1, 1),
    motion_width=16,
    regions=4,
    deviation_width=32,
    deviation_layers=1,
    deviation_heads=2,
    temporal_kernel=3,
    field_size=16,
    lift_channels=(24, 16),
    attention_channels=(16, 24),
    decoder="residual",
    decoder_channels=(24, 16, 8),
    decoder_blocks=1,
    guide=False,
)


def tiny_animator(seed: int = 0, **changes) -> Animator:
    torch.manual_seed(seed)
    return Animator(replace(TINY, **changes))


def awake(animator: Animator) -> Animator:
    """Weights far from their quiet start, so that motion really moves something."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in animator.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return animator.eval()


def pictures(count: int, size: int = 64, seed: int = 2) -> torch.Tensor:
    """Smooth random pictures in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 9, 9, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
