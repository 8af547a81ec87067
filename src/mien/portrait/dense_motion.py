"""Deviation maps + appearance -> motion field (the paper's Latent Motion Deviation Decoder, LMDD).

D = f(Delta, F_A, F_id) - f(0, F_A, F_id): biases, norms and modulation after Delta would otherwise
turn no deviation into some motion. With the difference, driving = source gives exactly the identity
field.
Axes: b batch, t video frames, r regions, k token dimensions, c channels, z depth layers, h w space.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mien.nn.conv import channels_last, conv_upsampled, conv_with_source
from mien.ops.precision import full_precision
from mien.portrait.deviation import repeat_frames
from mien.portrait.guide import GuideAttention, follow, guide_displacement
from mien.portrait.motion_encoder import GRID, TOKEN_DIM
from mien.portrait.region_attention import RegionAttention, uniform_weights
from mien.types import Appearance, Guide, MotionField


class DeviationDecoder(nn.Module):
    """f: deviations (8 x 8) -> a displacement per region and depth layer at the field's size.

    Taken as the figure's Motion Appearance Decoder: F_A modulates every level (FiLM). F_id is
    concatenated at the last one (`sees_volume`, not in the paper), so that displacements can align
    with this face's own mouth and eyes.
    No normalisation: it would remove the magnitude of the deviations, that is of the motion.
    """

    def __init__(
        self,
        regions: int,
        depth_layers: int,
        volume_channels: int,
        channels: tuple[int, ...],
        appearance_dim: int | None,
        sees_volume: bool = True,
    ) -> None:
        super().__init__()
        self.regions, self.depth_layers = regions, depth_layers
        widths = [regions * TOKEN_DIM, *channels]
        self.lift = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.films = nn.ModuleList(
            nn.Linear(appearance_dim, 2 * width) if appearance_dim else nn.Identity()
            for width in channels
        )
        self.uses_appearance = appearance_dim is not None
        self.place = (
            nn.Conv2d(volume_channels * depth_layers, channels[-1], 1) if sees_volume else None
        )
        joined = 2 * channels[-1] if sees_volume else channels[-1]
        self.mix = nn.Conv2d(joined, channels[-1], 3, padding=1)
        self.move = nn.Conv2d(channels[-1], regions * depth_layers * 2, 3, padding=1, bias=False)
        # Small and random: regions that all start at zero would always get the same gradient.
        nn.init.normal_(self.move.weight, std=1e-2)

    @full_precision  # f(0) is subtracted: in bfloat16 the difference would lose its precision
    def forward(
        self,
        deviations: Float[Tensor, "b t r k n n"],
        vector: Float[Tensor, "b a"],
        volume: Float[Tensor, "b c z h w"],
    ) -> Float[Tensor, "b t r z h w 2"]:
        """f(Delta) - f(0) of every frame, before the bound is applied."""
        frames = deviations.shape[1] + 1
        deviations = torch.cat((deviations, torch.zeros_like(deviations[:, :1])), dim=1)
        x = rearrange(deviations, "b t r k y x -> (b t) (r k) y x")
        for i, (conv, film) in enumerate(zip(self.lift, self.films, strict=True)):
            assert isinstance(conv, nn.Conv2d)
            x = conv_upsampled(x, None, conv) if i else conv(channels_last(x))
            if self.uses_appearance:
                scale, shift = repeat_frames(film(vector), frames)[:, :, None, None].chunk(2, dim=1)
                x = torch.addcmul(shift, x, 1 + scale)
            x = F.silu(x)
        if self.place is None:
            x = self.mix(x)
        else:
            place = self.place(rearrange(volume, "b c z h w -> b (c z) h w"))
            x = conv_with_source(x, place, self.mix)
        moves = rearrange(
            self.move(F.silu(x)),
            "(b t) (r z xy) h w -> b t r z h w xy",
            t=frames,
            r=self.regions,
            z=self.depth_layers,
        )
        return moves[:, :-1] - moves[:, -1:]


class DenseMotionDecoder(nn.Module):
    """Deviations -> MotionField: the regions' displacements, averaged by their softmax weights.

    Args:
        decoder: f, the displacements of the regions.
        attention: None is the paper's ablation "w/o attention map".
        field_size: side of the grid of the field; it is interpolated from there.
        max_displacement: bound of a region's displacement, in normalised units (2 spans the
            picture).
        guide: None is the paper's net; else two more regions are displaced by a face mesh.
    """

    def __init__(
        self,
        decoder: DeviationDecoder,
        attention: RegionAttention | None,
        field_size: int,
        max_displacement: float,
        guide: GuideAttention | None = None,
    ) -> None:
        super().__init__()
        self.decoder, self.attention, self.guide = decoder, attention, guide
        self.field_size, self.max_displacement = field_size, max_displacement

    def forward(
        self,
        appearance: Appearance,
        deviations: Float[Tensor, "b t r k n n"],
        guide: Guide | None = None,
    ) -> MotionField:
        """The field of every frame; its batch axis is (b t), like that of `guide`."""
        frames = deviations.shape[1]
        volume = shrink(appearance.volume, self.field_size)
        raw = self.decoder(deviations, appearance.vector, volume).flatten(0, 1)
        moves = self.max_displacement * torch.tanh(raw)
        return self._combine_regions(repeat_frames(volume, frames), moves, guide)

    def still(self, appearance: Appearance) -> MotionField:
        """The field without motion: the identity, with its predicted mask."""
        volume = shrink(appearance.volume, self.field_size)
        b, _, z, h, w = volume.shape
        return self._combine_regions(volume, volume.new_zeros(b, self.decoder.regions, z, h, w, 2))

    def _combine_regions(
        self, volume: Tensor, moves: Tensor, guide: Guide | None = None
    ) -> MotionField:
        if self.attention is None:
            return _weighted_field(moves, *uniform_weights(moves))
        still, hidden = self.attention.attend(volume, moves)
        field = _weighted_field(moves, *self.attention.decide(hidden))
        if self.guide is None or guide is None:
            return field
        moved = guide_displacement(guide, field.mask.shape[-1])
        return follow(field, self.guide(still, hidden, guide, moved), guide, moved)


@full_precision
def _weighted_field(moves: Tensor, shares: Tensor, mask: Tensor) -> MotionField:
    return MotionField((shares[:, 1:, ..., None] * moves).sum(dim=1), mask, shares)


def shrink(volume: Float[Tensor, "b c z h1 w1"], size: int) -> Float[Tensor, "b c z h2 w2"]:
    """The volume averaged down to the field's size (never enlarged)."""
    if volume.shape[-1] <= size:
        return volume
    return F.adaptive_avg_pool3d(volume, (volume.shape[2], size, size))


def lift_levels(field_size: int) -> int:
    """How many levels lead from the 8 x 8 tokens to the field's size.

    Raises:
        ValueError: the field's size is not 8 times a power of two.
    """
    levels = math.log2(field_size / GRID) if field_size >= GRID else -1.0
    if levels < 0 or not levels.is_integer():
        raise ValueError(f"field_size {field_size} is not {GRID} times a power of two")
    return int(levels) + 1
