"""The guide regions: two more regions whose displacement a face mesh gives (not in the paper).

One moves with the mesh of the face, the other with the head as a whole. At every position the net
predicts the softmax weight of each; the learned regions and the background keep the rest. The
background behind the person does not move. Where no mesh is known, the weights are 0 and the
paper's field is unchanged.
Axes: b batch (frames included), g guide regions, c channels, z depth layers, h w space.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mien.mesh.guide import head_move
from mien.nn.conv import channels_last, group_norm
from mien.ops.precision import full_precision
from mien.ops.sampling import is_compiled
from mien.ops.warp import pool_plane, resize_displacement, unrepeated, warp_map
from mien.portrait.region_attention import layer_weights, magnitude, mean_flow
from mien.types import Guide, MotionField

REGIONS = 2  # the mesh of the face, the head as a whole
# Initial weights: of the mesh 0.98 on the face and a third around it, where its rings fade out; of
# the head almost 0.
_MESH_CONFIDENCE, _MESH_FROM, _HEAD_BIAS = 5.0, 0.17, -4.0


class GuideAttention(nn.Module):
    """Softmax weights of the mesh region and the head region at every position.

    Args:
        compressed: channels of the features that are warped.
        depth_layers: S_d.
        hidden: channels of the region attention's U-Net at its finest level.
    """

    def __init__(self, compressed: int, depth_layers: int, hidden: int) -> None:
        super().__init__()
        channels = (REGIONS * (compressed + 1) + 2) * depth_layers + 1
        self.depth_layers = depth_layers
        self.conv = nn.Conv2d(channels, hidden, 3, padding=1, bias=False)
        self.mix = nn.Sequential(
            nn.Conv2d(2 * hidden, hidden, 3, padding=1), group_norm(hidden), nn.SiLU()
        )
        self.share = nn.Conv2d(hidden, REGIONS * depth_layers, 1)
        nn.init.normal_(self.share.weight, std=1e-2)
        assert self.share.bias is not None
        nn.init.zeros_(self.share.bias)
        self.confidence = nn.Parameter(torch.tensor(_MESH_CONFIDENCE))
        self.head_bias = nn.Parameter(torch.tensor(_HEAD_BIAS))

    def forward(
        self,
        still: Float[Tensor, "b c z h w"],
        hidden: Float[Tensor, "b k h w"],
        guide: Guide,
        moves: Float[Tensor, "b g h w 2"],
    ) -> Float[Tensor, "b g z h w"]:
        """Weights of the two guide regions, whose displacements `moves` are at this size
        (`guide_displacement`); the rest belongs to the other regions.
        """
        z, side = self.depth_layers, still.shape[-1]
        skin, inside = (_pooled(plane, side) for plane in (guide.skin, guide.mouth))
        inputs = [torch.cat((skin, inside), dim=1).repeat(1, z, 1, 1)]
        layers = rearrange(unrepeated(still), "n c z h w -> n (c z) h w")
        for move in moves.unbind(dim=1):
            inputs.append(warp_map(layers, move))
            inputs.append(magnitude(move)[:, None].expand(-1, z, -1, -1))
        inputs.append(_pooled(unrepeated(guide.person), side).expand(hidden.shape[0], -1, -1, -1))
        guided = self.conv(channels_last(torch.cat(inputs, dim=1)))
        features = self.mix(torch.cat((channels_last(hidden), guided), dim=1))
        logits = rearrange(self.share(features), "b (g z) h w -> b g z h w", g=REGIONS)
        mesh = logits[:, 0] + self.confidence * (skin + inside - _MESH_FROM)
        head = logits[:, 1] + self.head_bias
        others = torch.zeros_like(mesh)
        shares = torch.softmax(torch.stack((others, mesh, head), dim=1), dim=1)[:, 1:]
        return shares * guide.found[:, None, None, None, None]


def _pooled(plane: Float[Tensor, "b h w"], size: int) -> Float[Tensor, "b 1 h2 w2"]:
    return pool_plane(plane[..., None], size).permute(0, 3, 1, 2)


@full_precision
def guide_displacement(guide: Guide, side: int) -> Float[Tensor, "b g h w 2"]:
    """The displacement of both guide regions on a grid of `side` by `side`."""
    mesh = pool_plane(guide.displacement, side)
    return torch.stack((mesh, head_move(guide.head, side)), dim=1)


@full_precision
def follow(
    field: MotionField,
    shares: Float[Tensor, "b g z h w"],
    guide: Guide,
    moves: Float[Tensor, "b g h w 2"],
) -> MotionField:
    """The field blended with the guide regions, and the fine displacement for the picture; `moves`
    are the guide regions' displacements at the field's size.
    """
    side = field.mask.shape[-1]
    others = 1 - shares.sum(dim=1)
    learned = others[..., None] * field.displacement
    coarse = (shares[..., None] * moves[:, :, None]).sum(dim=1)
    regions = torch.cat((field.regions * others[:, None], shares), dim=1)

    share = (shares * layer_weights(field.mask)[:, None]).sum(dim=2)
    fine, person = _guided_flow(mean_flow(learned, field.mask), share, guide)
    person = pool_plane(person[..., None], side)[:, None]
    return MotionField((learned + coarse) * person, field.mask, regions, fine)


def _guided_flow(
    flow: Float[Tensor, "b n n 2"], share: Float[Tensor, "b g n n"], guide: Guide
) -> tuple[Float[Tensor, "b h w 2"], Float[Tensor, "b h w"]]:
    """The displacement of the picture from that of the learned regions and the weights of the guide
    regions, 0 off the person, and that person mask.
    """
    maps = guide.displacement, guide.head, guide.person, guide.covered, guide.disoccluded
    if is_compiled(flow, share, *maps):
        from mien.portrait import composition_numba  # imported late: numba takes long to load

        return composition_numba.guided_flow(flow, share, *maps, guide.found)
    whole = guide.displacement.shape[1]
    fine = resize_displacement(flow, whole, whole)
    share = F.interpolate(share, size=(whole, whole), mode="bilinear", align_corners=False)
    fine_moves = guide_displacement(guide, whole)
    fine = fine + (share[..., None] * fine_moves).sum(dim=1)
    # Where the moved head is but the field still samples background, use the head's displacement.
    head_weight = F.relu(guide.covered - warp_person_mask(guide, fine))[..., None]
    fine = torch.lerp(fine, fine_moves[:, 1], head_weight)
    person = warp_person_mask(guide, fine) * (1 - guide.disoccluded)
    return fine * person[..., None], person


def fill_background(
    picture: Float[Tensor, "b 3 H W"], guide: Guide, disoccluded: Float[Tensor, "b h w"]
) -> Float[Tensor, "b 3 H W"]:
    """The warped picture, with background where the person has moved away (`disocclusion`)."""
    disoccluded, behind = disoccluded[:, None], guide.background.to(picture.dtype)
    if picture.shape[2:] != behind.shape[2:]:
        side = picture.shape[2:]
        disoccluded, behind = (
            F.interpolate(x, size=side, mode="bilinear") for x in (disoccluded, behind)
        )
    return torch.lerp(picture, behind, disoccluded.to(picture.dtype))


def disocclusion(guide: Guide, person: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Disoccluded places: the source shows the person, the frame does not (`person`: warped)."""
    return torch.maximum(F.relu(guide.person - person), guide.disoccluded)


def warp_person_mask(guide: Guide, fine: Float[Tensor, "b h w 2"]) -> Float[Tensor, "b h w"]:
    """The source's person mask warped to the frame; 1 everywhere where no mesh is known."""
    background = 1 - warp_map(guide.person[:, None], fine)[:, 0]
    return 1 - background * guide.found[:, None, None]
