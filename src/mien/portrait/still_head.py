"""A head that stays where the portrait has it: only a window around the mouth is drawn in each
frame, and composited with one frame at rest.

Without head motion the implicit motion is the source's own, so the learned regions are computed
once, and a frame differs by its guide alone. The statistics of group normalisation depend on the
whole picture: they are those of the frame at rest, so that a window equals this part of the whole.
Axes: b batch (1), t frames, c channels, h w space.
"""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mien.ops.warp import repeat_frames
from mien.portrait.animator import Animator, repeat_appearance
from mien.portrait.config import AnimatorConfig
from mien.portrait.frame_decoder import FrameDecoder
from mien.portrait.warped_picture import WarpedPicture
from mien.portrait.window import Window, cut
from mien.types import Appearance, Guide, MotionField, PreparedSource

_SEAM = 3  # width of the seam around the window, in pixels of the volume


class FixedNorm(nn.Module):
    """Group normalisation with the statistics of one earlier input: a scale and a shift."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: nn.GroupNorm, x: Float[Tensor, "1 c h w"]) -> None:
        super().__init__()
        groups = rearrange(x.float(), "1 (g c) h w -> g (c h w)", g=norm.num_groups)
        variance, mean = torch.var_mean(groups, dim=1, correction=0)
        each = norm.num_channels // norm.num_groups
        rate = torch.rsqrt(variance + norm.eps).repeat_interleave(each)
        scale = rate * norm.weight
        self.register_buffer("scale", scale[:, None, None])
        shift = norm.bias - mean.repeat_interleave(each) * scale
        self.register_buffer("shift", shift[:, None, None])

    def forward(self, x: Float[Tensor, "b c h w"], silu: bool = False) -> Float[Tensor, "b c h w"]:
        """Scale and shift, and SiLU of that if asked."""
        scaled = torch.addcmul(self.shift.to(x.dtype), x, self.scale.to(x.dtype))
        return F.silu(scaled) if silu else scaled


@dataclass(frozen=True)
class StillHead:
    """A source whose head stays; `render` draws its frames from their guides.

    `decoder` has fixed norms; `field` and `hidden` are those of the learned regions at rest;
    `frame` is the frame at rest, and `weight` its counterpart's in a new frame, 1 in the window and
    falling to 0 within a seam around it.
    """

    animator: Animator
    decoder: FrameDecoder | WarpedPicture
    source: PreparedSource
    field: MotionField
    hidden: Float[Tensor, "1 d h w"]
    frame: Float[Tensor, "1 3 H W"]
    window: Window
    weight: Float[Tensor, "1 1 H W"]

    @classmethod
    def of(
        cls,
        animator: Animator,
        appearance: Appearance,
        source_motion: Float[Tensor, "1 m"],
        at_rest: Guide,
        window: Window,
    ) -> "StillHead":
        """Draw the frame at rest (its guide: `at_rest`) and keep what all frames share.

        Raises:
            ValueError: the animator has no guide.
        """
        source = animator.prepare_source(appearance, source_motion)
        field, hidden = animator.dense_motion.still(source.field)
        if hidden is None or not animator.config.guide:
            raise ValueError("a still head needs an animator with a guide")
        guided = animator.dense_motion.with_guide(source.field, field, hidden, at_rest)
        decoder, frame = _with_fixed_norms(animator, appearance, guided, at_rest)
        weight = _seam(window, frame)
        return cls(animator, decoder, source, field, hidden, frame, window, weight)

    def render(self, guide: Guide) -> Float[Tensor, "1 t 3 H W"]:
        """The frames of these guides (batch axis: t)."""
        count = len(guide.found)
        net = self.animator.dense_motion
        rest = self.field.displacement, self.field.mask, self.field.regions
        field = MotionField(*(repeat_frames(x, count) for x in rest))
        field = net.with_guide(self.source.field, field, repeat_frames(self.hidden, count), guide)
        outer = self.window.grown(_SEAM)
        drawn = outer.grown(_reach(self.animator.config))
        appearance = repeat_appearance(self.source.appearance, count)
        decoded = self.animator.decode(appearance, field, guide, drawn, self.decoder).frames
        rows, columns = outer.slices(self.frame.shape[-1])
        shown_rows, shown_columns = outer.within(drawn).slices(self.frame.shape[-1])
        frames = self.frame.repeat(count, 1, 1, 1)
        frames[..., rows, columns] = torch.lerp(
            cut(self.frame, outer),
            decoded[..., shown_rows, shown_columns].float(),
            cut(self.weight, outer),
        )
        return frames[None]


def _reach(config: AnimatorConfig) -> int:
    """How far the decoder's convolutions reach, in pixels of the volume: two in each block, and
    less than two by those at half and full size.
    """
    if config.decoder == "none":
        return 0
    return 2 * config.decoder_blocks + 2


def _with_fixed_norms(
    animator: Animator, appearance: Appearance, field: MotionField, guide: Guide
) -> tuple[FrameDecoder | WarpedPicture, Tensor]:
    """The decoder with the statistics of a frame, and that frame."""
    decoder = copy.deepcopy(animator.frame_decoder)
    fixed: dict[str, FixedNorm] = {}
    for name, norm in animator.frame_decoder.named_modules():
        if isinstance(norm, nn.GroupNorm):

            def keep(norm: nn.Module, given: tuple[Tensor], name: str = name) -> None:
                assert isinstance(norm, nn.GroupNorm)
                fixed[name] = FixedNorm(norm, given[0])

            decoder.get_submodule(name).register_forward_pre_hook(keep)
    frame = animator.decode(appearance, field, guide, decoder=decoder).frames
    for name, norm in fixed.items():
        decoder.set_submodule(name, norm)
    return decoder, frame


def _seam(window: Window, frame: Float[Tensor, "1 3 H W"]) -> Float[Tensor, "1 1 H W"]:
    """1 in the window, falling smoothly to 0 over the seam around it."""
    side = frame.shape[-1]
    places, seam = torch.arange(side, device=frame.device), _SEAM * side // window.cells
    ramps = []
    for inside in window.slices(side):
        outside = torch.maximum(inside.start - places, places - inside.stop + 1)
        share = (1 - outside / (seam + 1)).clamp(0, 1)
        ramps.append(share.square() * (3 - 2 * share))
    return (ramps[0][:, None] * ramps[1])[None, None]
