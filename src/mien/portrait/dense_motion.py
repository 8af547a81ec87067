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

from mien.nn.conv import channels_last, conv_of_frames, conv_of_source, conv_upsampled
from mien.ops.precision import full_precision
from mien.ops.warp import repeat_frames
from mien.portrait.guide import GuideAttention, follow, guide_displacement
from mien.portrait.motion_encoder import GRID, TOKEN_DIM
from mien.portrait.region_attention import RegionAttention, uniform_weights
from mien.types import Appearance, Guide, MotionField, PreparedField


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

    @full_precision
    def prepare(
        self, vector: Float[Tensor, "b a"], volume: Float[Tensor, "b c z h w"]
    ) -> tuple[
        tuple[Float[Tensor, "b _"], ...], Float[Tensor, "b d h w"] | None, Float[Tensor, "b _ h w"]
    ]:
        """The source's part: `films`, `place` and `at_rest` of a `PreparedField`, the last with
        regions, layers and x y as channels.
        """
        films = tuple(film(vector) for film in self.films) if self.uses_appearance else ()
        place = None
        if self.place is not None:
            placed = self.place(rearrange(volume, "b c z h w -> b (c z) h w"))
            place = conv_of_source(placed, self.mix, first=self.mix.in_channels - placed.shape[1])
        nothing = vector.new_zeros(len(vector), self.regions * TOKEN_DIM, GRID, GRID)
        return films, place, self._decode(nothing, films, place)

    @full_precision  # f(0) is subtracted: in bfloat16 the difference would lose its precision
    def forward(
        self, deviations: Float[Tensor, "b t r k n n"], source: PreparedField
    ) -> Float[Tensor, "b t r z h w 2"]:
        """f(Delta) - f(0) of every frame, before the bound is applied."""
        x = rearrange(deviations, "b t r k y x -> (b t) (r k) y x")
        moves = self._decode(x, source.films, source.place)
        moves = moves.unflatten(0, deviations.shape[:2]) - source.at_rest[:, None]
        return rearrange(
            moves,
            "b t (r z xy) h w -> b t r z h w xy",
            r=self.regions,
            z=self.depth_layers,
        )

    def _decode(self, x: Tensor, films: tuple[Tensor, ...], place: Tensor | None) -> Tensor:
        """f of deviations (bt c n n), the frames of a source consecutive."""
        for i, conv in enumerate(self.lift):
            assert isinstance(conv, nn.Conv2d)
            x = conv_upsampled(x, None, conv) if i else conv(channels_last(x))
            if films:
                film = repeat_frames(films[i], x.shape[0] // len(films[i]))
                scale, shift = film[:, :, None, None].chunk(2, dim=1)
                x = torch.addcmul(shift, x, 1 + scale)
            x = F.silu(x)
        x = self.mix(x) if place is None else conv_of_frames(x, self.mix, place)
        return self.move(F.silu(x))


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

    def prepare(self, appearance: Appearance) -> PreparedField:
        """The source's part of the field, once for all its frames."""
        volume = shrink(appearance.volume, self.field_size)
        decoded = self.decoder.prepare(appearance.vector, volume)
        attended = (None, None) if self.attention is None else self.attention.prepare(volume)
        return PreparedField(*decoded, *attended)

    def forward(
        self,
        source: PreparedField,
        deviations: Float[Tensor, "b t r k n n"],
        guide: Guide | None = None,
    ) -> MotionField:
        """The field of every frame; its batch axis is (b t), like that of `guide`."""
        raw = self.decoder(deviations, source).flatten(0, 1)
        field, hidden = self._regions(source, self.max_displacement * torch.tanh(raw))
        return field if guide is None else self.with_guide(source, field, hidden, guide)

    def still(
        self, source: PreparedField
    ) -> tuple[MotionField, Float[Tensor, "b d *space"] | None]:
        """The field without motion (the identity, with its predicted mask), and the attention's
        features of it.
        """
        b, _, h, w = source.at_rest.shape
        shape = b, self.decoder.regions, self.decoder.depth_layers, h, w, 2
        return self._regions(source, source.at_rest.new_zeros(shape))

    def _regions(self, source: PreparedField, moves: Tensor) -> tuple[MotionField, Tensor | None]:
        still, attended = source.compressed, source.attended
        if self.attention is None or still is None or attended is None:
            return _weighted_field(moves, *uniform_weights(moves)), None
        hidden = self.attention.attend(still, attended, moves)
        return _weighted_field(moves, *self.attention.decide(hidden)), hidden

    def with_guide(
        self,
        source: PreparedField,
        field: MotionField,
        hidden: Float[Tensor, "bt d *space"] | None,
        guide: Guide,
    ) -> MotionField:
        """The field with the guide regions, if the net has them; `hidden` are the attention's
        features.
        """
        if self.guide is None or source.compressed is None or hidden is None:
            return field
        moved = guide_displacement(guide, field.mask.shape[-1])
        still = repeat_frames(source.compressed, hidden.shape[0] // len(source.compressed))
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
