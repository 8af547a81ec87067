"""The source picture warped to a frame, with the mouth interior and the background composited in:
what warped skips show beside what the decoder draws, and all of a frame where there is no decoder.

Axes: b batch (frames included), h w space, H W of the picture.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mien.ops.sampling import is_compiled
from mien.ops.warp import identity_grid, resize_displacement, sample_map, warp_map
from mien.portrait.guide import disocclusion, fill_background, warp_person_mask
from mien.portrait.region_attention import mean_flow
from mien.portrait.window import Window, cut, cut_guide
from mien.types import Guide, MotionField


class WarpedPicture(nn.Module):
    """Field and guide -> frame, without parameters (decoder "none")."""

    def forward(
        self,
        picture: Float[Tensor, "b 3 H W"],
        field: MotionField,
        guide: Guide | None = None,
        window: Window | None = None,
    ) -> Float[Tensor, "b 3 H2 W2"]:
        """Draw the frames of a batch, or a window of them; `picture` is repeated to that batch."""
        flow, person = picture_flow(field), None
        if guide is not None and window is None and _is_compiled(picture, flow, guide):
            from mien.portrait.composition_numba import composed  # imported late: numba loads long

            masks = guide.person, guide.disoccluded, guide.found
            return composed(picture, flow, *masks, guide.background, guide.interior)
        if guide is not None:
            guide, person = guided_window(guide, flow, window)
        return warp_picture(picture, flow, guide, person, window)[0]


def _is_compiled(picture: Tensor, flow: Tensor, guide: Guide) -> bool:
    """Whether one compiled loop draws the frame: all maps have its size."""
    maps = flow.permute(0, 3, 1, 2), guide.background, guide.interior
    return is_compiled(picture, *maps) and all(x.shape[2:] == picture.shape[2:] for x in maps)


def picture_flow(field: MotionField) -> Float[Tensor, "b h w 2"]:
    """The displacement of the picture: that of all depth layers together."""
    return mean_flow(field.displacement, field.mask) if field.fine is None else field.fine


def guided_window(
    guide: Guide, flow: Float[Tensor, "b h w 2"], window: Window | None
) -> tuple[Guide, Float[Tensor, "b h2 w2"]]:
    """The window of a guide, and of its person mask warped by `flow`."""
    return cut_guide(guide, window), cut(warp_person_mask(guide, flow), window)


def warp_picture(
    picture: Float[Tensor, "b 3 H W"],
    flow: Float[Tensor, "b h w 2"],
    guide: Guide | None,
    person: Float[Tensor, "b h2 w2"] | None,
    window: Window | None,
) -> tuple[Float[Tensor, "b 3 H2 W2"], Float[Tensor, "b 1 H2 W2"] | None]:
    """The window of the warped picture, background and mouth interior composited in, and the
    interior's alpha (None without a guide).

    `guide` and `person`, its person mask warped by `flow`, are cut to the window already.
    """
    moved = moved_map(picture, flow, window)
    if guide is None or person is None:
        return moved, None
    moved = fill_background(moved, guide, disocclusion(guide, person))
    return _with_interior(moved, guide.interior)


def moved_map(features: Tensor, flow: Tensor, window: Window | None) -> Tensor:
    """The window of maps of the source, warped by a displacement of any size."""
    height, width = features.shape[2:]
    displacement = resize_displacement(flow, height, width)
    if window is None:
        return warp_map(features, displacement)
    rows, columns = window.slices(width)
    grid = identity_grid(height, width, like=displacement)
    return sample_map(features, (grid + displacement)[:, rows, columns])


def flow_planes(flow: Float[Tensor, "b h1 w1 2"], side: int) -> Float[Tensor, "b 2 h2 w2"]:
    """The displacement as channels of a map; the factor brings moves of a few per cent of the
    picture to the scale of features.
    """
    return rearrange(resize_displacement(flow, side, side), "b h w xy -> b xy h w") * 20


def _with_interior(
    moved: Float[Tensor, "b 3 H W"], interior: Float[Tensor, "b 4 H1 W1"]
) -> tuple[Float[Tensor, "b 3 H W"], Float[Tensor, "b 1 H W"]]:
    """The warped picture with the mouth interior composited in, and the interior's alpha.

    The picture comes back unchanged, to the bit, where the interior's own alpha is 0.
    """
    interior = interior.to(moved.dtype)
    if interior.shape[2:] != moved.shape[2:]:
        interior = F.interpolate(
            interior, size=moved.shape[2:], mode="bilinear", align_corners=False
        )
    cover = interior[:, 3:]
    return torch.lerp(moved, interior[:, :3], cover), cover
