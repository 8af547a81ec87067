"""Warped features -> frame (the paper's image decoder U, after its blend and activation).

Two bodies: residual blocks (light), and SPADE blocks as in related work (`spade_decoder`). Warped
skips are mien's own addition: the encoder's earlier maps and the picture itself, warped by the same
field, so that detail comes from the source instead of from parameters. A net may also do without a
decoder and show the warped picture alone (`warped_picture`).
Axes: b batch (frames included), c channels, z depth layers, h w space.
"""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mien.nn.conv import ConvBlock, ResidualBlock2d, channels_last, group_norm
from mien.ops.warp import resize_displacement, warp_volume
from mien.portrait.guide import disocclusion
from mien.portrait.spade_decoder import SpadeDecoder
from mien.portrait.warped_picture import (
    flow_planes,
    guided_window,
    moved_map,
    picture_flow,
    warp_picture,
)
from mien.portrait.window import Window, cut
from mien.types import Appearance, Guide, MotionField

Occlusion = Literal["blend", "multiply"]

# Input channels of a guide: skin, mouth interior, person, background that the person uncovers, and
# the picture of the mouth interior (RGB times alpha, alpha).
_PLANES = 8
_INTERIOR_CONFIDENCE = 6.0  # initial logit: the picture of the mouth interior is shown unchanged


def occlude(
    moved: Float[Tensor, "b c z h w"],
    still: Float[Tensor, "b c z h w"],
    mask: Float[Tensor, "b z h w"],
    occlusion: Occlusion,
    slope: float,
) -> Float[Tensor, "b c z h w"]:
    """phi_r = act(d phi' + (1 - d) F_id), act with slope beta below zero; "multiply" drops F_id."""
    cover = mask[:, None].to(moved.dtype)  # lerp takes no mixed dtypes, as autocast leaves them
    mixed = (
        torch.lerp(still.to(moved.dtype), moved, cover) if occlusion == "blend" else cover * moved
    )
    return F.leaky_relu(mixed, slope)


def warp_by_field(
    volume: Float[Tensor, "b c z h w"], field: MotionField
) -> tuple[Float[Tensor, "b c z h w"], Float[Tensor, "b z h w"]]:
    """phi' = warp(F_id, phi), and the mask at the volume's size."""
    b, side = volume.shape[0], volume.shape[-1]
    layers = rearrange(field.displacement, "b z h w xy -> (b z) h w xy")
    layers = resize_displacement(layers, side, side)
    moved = warp_volume(volume, rearrange(layers, "(b z) h w xy -> b z h w xy", b=b))
    return moved, mask_at(field.mask, side)


def mask_at(mask: Float[Tensor, "b z h1 w1"], side: int) -> Float[Tensor, "b z h2 w2"]:
    """The occlusion mask on a grid of `side` by `side`."""
    if mask.shape[-1] == side:
        return mask
    return F.interpolate(mask, size=(side, side), mode="bilinear", align_corners=False)


class ResidualDecoder(nn.Module):
    """Residual blocks at a quarter size, then two upsampling steps with the warped skips."""

    def __init__(
        self,
        channels_in: int,
        channels: tuple[int, int, int],
        blocks: int,
        skip_channels: tuple[int, int],
    ) -> None:
        super().__init__()
        quarter, half, full = channels
        self.entry = nn.Conv2d(channels_in, quarter, 1)
        self.middle = nn.Sequential(*(ResidualBlock2d(quarter) for _ in range(blocks)))
        self.to_half = nn.Sequential(
            ConvBlock(quarter + skip_channels[0], half), ConvBlock(half, half)
        )
        self.to_full = ConvBlock(half + skip_channels[1], full)
        self.channels_out = full

    def forward(
        self,
        features: Float[Tensor, "b c1 h1 w1"],
        skips: tuple[Tensor, ...] = (),
        face: Float[Tensor, "b c3 h1 w1"] | None = None,
        layers: int = 0,
    ) -> Float[Tensor, "b c2 h2 w2"]:
        """Decode to four times the size; `skips` are at half and full size, or there are none.

        `face` is added to the input of the residual blocks. With `layers` the features are those of
        so many depth layers, one layer after the other, then flow and mask; without, the weights'
        order, all layers of a channel together.
        """
        entered = self._enter(channels_last(features), layers)
        x = self.middle(entered if face is None else entered + face)
        half, full = skips or (None, None)
        upsampling, second = self.to_half
        assert isinstance(upsampling, ConvBlock)
        x = second(upsampling.upsample(x, half))
        return self.to_full.upsample(x, full)

    def _enter(self, features: Tensor, layers: int) -> Tensor:
        """The first convolution. To reorder its weights takes less than to reorder features, which
        lie in memory layer by layer.
        """
        if not layers:
            return self.entry(features)
        weight, volume = self.entry.weight, features.shape[1] - flow_channels(layers)
        own = rearrange(weight[:, :volume], "k (c z) y x -> k (z c) y x", z=layers)
        return F.conv2d(features, torch.cat((own, weight[:, volume:]), dim=1), self.entry.bias)


def flow_channels(layers: int) -> int:
    """Channels of the flow and of the mask of so many depth layers."""
    return 2 + layers


class FrameDecoder(nn.Module):
    """Warped, blended volume -> frame in [-1, 1], alpha-blended with the warped source picture.

    Args:
        body: the decoder up to its last features.
        warped_skips: use the skips and the warped picture; field and mask are inputs of the body.
        upscale: 2 renders at twice the encoded size (sub-pixel head), 1 at the encoded size.
        guided: maps of the face's skin, the mouth interior, the person, and the background that the
            person covered in the source are inputs of the body.
    """

    def __init__(
        self,
        body: SpadeDecoder | ResidualDecoder,
        warped_skips: bool,
        upscale: int,
        guided: bool = False,
    ) -> None:
        super().__init__()
        self.face = nn.Conv2d(_PLANES, body.entry.out_channels, 1, bias=False) if guided else None
        if self.face is not None:
            nn.init.zeros_(self.face.weight)
            self.interior_confidence = nn.Parameter(torch.tensor(_INTERIOR_CONFIDENCE))
        self.body, self.warped_skips, self.upscale = body, warped_skips, upscale
        self.norm = group_norm(body.channels_out)
        picture = 4 if warped_skips else 3
        self.head = nn.Conv2d(body.channels_out, picture * upscale**2, 3, padding=1)
        assert self.head.bias is not None
        if warped_skips:
            with torch.no_grad():  # at first mostly the warped picture is shown
                self.head.weight.mul_(0.3)
                self.head.bias[3 * upscale**2 :] = 1.0

    def forward(
        self,
        features: Float[Tensor, "b c z h w"],
        appearance: Appearance,
        field: MotionField,
        mask: Float[Tensor, "b z h w"],
        guide: Guide | None = None,
        window: Window | None = None,
    ) -> Float[Tensor, "b 3 H2 W2"]:
        """Draw the frames of a batch, or a window of them; `appearance` is repeated to that batch.

        Only a net with warped skips draws a window.
        """
        if not self.warped_skips:
            flat = rearrange(features, "b c z h w -> b (c z) h w")
            return torch.tanh(self._head(self.body(flat)))
        flow = picture_flow(field)
        maps = (*features.unbind(dim=2), flow_planes(flow, features.shape[-1]), mask)
        inputs = torch.cat([channels_last(cut(x, window)) for x in maps], dim=1)
        skips = tuple(moved_map(skip, flow, window) for skip in appearance.skips)
        person = None
        if guide is not None:
            guide, person = guided_window(guide, flow, window)
        assert isinstance(self.body, ResidualDecoder)
        face = self._face_of(guide, person, inputs)
        drawn = self._head(self.body(inputs, skips, face, features.shape[2]))
        moved, cover = warp_picture(appearance.picture, flow, guide, person, window)
        alpha_logit = drawn[:, 3:]
        if cover is not None:
            alpha_logit = alpha_logit + self.interior_confidence * cover
        own = torch.tanh(drawn[:, :3]).to(moved.dtype)
        return torch.lerp(own, moved, torch.sigmoid(alpha_logit).to(moved.dtype))

    def _face_of(self, guide: Guide | None, person: Tensor | None, like: Tensor) -> Tensor | None:
        if self.face is None or guide is None or person is None:
            return None
        planes = (guide.skin, guide.mouth, person, disocclusion(guide, person))
        cover = guide.interior[:, 3:]
        maps = (torch.stack(planes, dim=1), guide.interior[:, :3] * cover, cover)
        size = like.shape[2], like.shape[3]
        inputs = torch.cat([F.adaptive_avg_pool2d(x, size) for x in maps], dim=1)
        return self.face(channels_last(inputs.to(like.dtype)))

    def _head(self, x: Tensor) -> Tensor:
        drawn = self.head(self.norm(x, silu=True)).contiguous()  # planes, as the picture has them
        return drawn if self.upscale == 1 else F.pixel_shuffle(drawn, self.upscale)


def decoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The decoder's part of an animator's weights."""
    return {name: value for name, value in state.items() if name.startswith("frame_decoder.")}


def with_larger_head(state: Mapping[str, Tensor], upscale: int) -> dict[str, Tensor]:
    """An animator's weights for a head that draws `upscale` times the size, from one that draws the
    encoded size: at first every pixel becomes a square of equal pixels.
    """
    heads = "frame_decoder.head.weight", "frame_decoder.head.bias"
    larger = {name: state[name].repeat_interleave(upscale**2, dim=0) for name in heads}
    return {**state, **larger}
