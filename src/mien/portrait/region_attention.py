"""Where each region's motion applies (the paper's region-aware attention and mask module).

The source's features are warped by every region's deviation in turn; from the results a U-Net
predicts, at each position of each depth layer, a softmax over the regions and the static
background.
Axes: b batch (frames included), r regions, c channels, z depth layers, h w space.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mien.nn.conv import Hourglass
from mien.ops.precision import full_precision
from mien.ops.sampling import is_compiled
from mien.ops.warp import repeat_frames, unrepeated, warp_map

_MOVE = 20.0  # brings the length of typical moves, a few per cent of the picture, to about 1
_EPS = 1e-8  # of its root


class RegionAttention(nn.Module):
    """Warped features of all regions -> logits over background and regions, and mask logits, per
    layer.

    Args:
        regions: lambda.
        depth_layers: S_d.
        volume_channels: channels of F_id, compressed to `compressed` before they are warped.
        widths: channels of the U-Net, finest first.
        volume: convolve in 3-D; False merges depth into channels, which is cheaper.
        dropout: probability that a region is dropped from the softmax in training (against dead
        regions).
    """

    def __init__(
        self,
        regions: int,
        depth_layers: int,
        volume_channels: int,
        compressed: int,
        widths: tuple[int, ...],
        volume: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.volume, self.depth_layers, self.dropout = volume, depth_layers, dropout
        self.compress = nn.Conv3d(volume_channels, compressed, 1)
        merged = 1 if volume else depth_layers
        self.hourglass = Hourglass(
            (regions * (compressed + 1) + compressed) * merged, widths, volume
        )
        conv = nn.Conv3d if volume else nn.Conv2d
        self.share = conv(widths[0], (regions + 1) * merged, 1)
        self.cover = conv(widths[0], merged, 1)
        assert self.cover.bias is not None
        nn.init.constant_(self.cover.bias, 2.0)  # at first the warped features are preferred

    def forward(
        self, volume: Float[Tensor, "b c z h w"], deviations: Float[Tensor, "b r z h w 2"]
    ) -> tuple[Float[Tensor, "b s z h w"], Float[Tensor, "b z h w"]]:
        """Softmax weights of background and regions, and the occlusion mask."""
        return self.decide(self.attend(*self.prepare(volume), deviations))

    def prepare(
        self, volume: Float[Tensor, "b c z h w"]
    ) -> tuple[Float[Tensor, "b k z h w"], Float[Tensor, "b d *space"]]:
        """The source's compressed features, and what they add to the U-Net's first convolution."""
        still = self.compress(volume)
        return still, self.hourglass.prepare(self._merged(still))

    def attend(
        self,
        still: Float[Tensor, "b k z h w"],
        attended: Float[Tensor, "b d *space"],
        deviations: Float[Tensor, "bt r z h w 2"],
    ) -> Float[Tensor, "bt d *space"]:
        """The U-Net's output for the source's features (`prepare`) and their copies warped for
        each frame; the frames of a source are consecutive.
        """
        still = repeat_frames(still, deviations.shape[0] // len(still))
        if not self.volume and is_compiled(still, deviations):
            from mien.portrait.region_inputs_numba import region_inputs  # imported late

            return self.hourglass(region_inputs(still, deviations, _MOVE, _EPS), attended)
        inputs = torch.cat((self._moved(still, deviations), magnitude(deviations)), dim=1)
        return self.hourglass(self._merged(inputs), attended)

    def decide(
        self, hidden: Float[Tensor, "b d *space"]
    ) -> tuple[Float[Tensor, "b s z h w"], Float[Tensor, "b z h w"]]:
        """Softmax weights of background and regions, and the occlusion mask."""
        logits, cover = self.share(hidden), self.cover(hidden)
        if not self.volume:
            logits = rearrange(logits, "b (s z) h w -> b s z h w", z=self.depth_layers)
            cover = cover[:, None]
        if self.training and self.dropout > 0:
            logits = _drop_regions(logits, self.dropout)
        return torch.softmax(logits, dim=1), torch.sigmoid(cover[:, 0])

    def _merged(self, x: Tensor) -> Tensor:
        return x if self.volume else rearrange(x, "b c z h w -> b (c z) h w")

    def _moved(self, still: Tensor, deviations: Tensor) -> Tensor:
        b, r, z = deviations.shape[:3]
        features = unrepeated(still)[:, None]
        if len(features) > 1:  # else all regions of all frames share the source's layers
            features = features.expand(-1, r, -1, -1, -1, -1)
        features = rearrange(features, "n r c z h w -> (n r z) c h w")
        moved = warp_map(features, rearrange(deviations, "b r z h w xy -> (b r z) h w xy"))
        return rearrange(moved, "(b r z) c h w -> b (r c) z h w", b=b, r=r, z=z)


def magnitude(deviations: Float[Tensor, "*places 2"]) -> Float[Tensor, "*places"]:
    """|D_j|, smooth at zero."""
    return torch.sqrt(deviations.square().sum(dim=-1) + _EPS) * _MOVE


def _drop_regions(logits: Tensor, probability: float) -> Tensor:
    """Mask whole regions (never the background) out of the softmax."""
    b, s = logits.shape[:2]
    dropped = torch.rand(b, s, 1, 1, 1, device=logits.device) < probability
    dropped[:, 0] = False
    return torch.where(dropped, torch.full_like(logits, torch.finfo(logits.dtype).min / 2), logits)


def uniform_weights(
    deviations: Float[Tensor, "b r z h w 2"],
) -> tuple[Float[Tensor, "b s z h w"], Float[Tensor, "b z h w"]]:
    """The paper's ablation "w/o attention map": regions have equal weights, nothing is occluded."""
    b, r, z, h, w = deviations.shape[:5]
    shares = deviations.new_full((b, r + 1, z, h, w), 1 / (r + 1))
    return shares, deviations.new_ones((b, z, h, w))


@full_precision
def mean_flow(
    displacement: Float[Tensor, "b z h w 2"], mask: Float[Tensor, "b z h w"]
) -> Float[Tensor, "b h w 2"]:
    """Mean displacement over depth layers, weighted by the mask (for warped skips)."""
    return (layer_weights(mask)[..., None] * displacement).sum(dim=1)


def layer_weights(mask: Float[Tensor, "b z h w"]) -> Float[Tensor, "b z h w"]:
    """The mask in shares of its sum over depth layers."""
    return mask / mask.sum(dim=1, keepdim=True).clamp(min=1e-6)
