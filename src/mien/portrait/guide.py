"""The guide regions: two more regions whose displacement a face's mesh gives (not in the paper).

One moves as the mesh of the face does, the other as the head does as a whole. Each takes a share
of every place from what the learned regions and the background share out among themselves; the
net learns how much. Where no mesh is known, shares are 0 and the paper's field is left as it is.
Axes: b batch (frames included), g guide regions, c channels, z depth layers, h w space.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mien.nn.conv import group_norm
from mien.ops.warp import identity_grid, resize_displacement, warp_map
from mien.portrait.region_attention import mean_flow, size_of
from mien.types import Guide, MotionField

REGIONS = 2  # the mesh of the face, the head as a whole
# At first the mesh is trusted on the face (0.95) and nowhere else, and the head hardly anywhere.
_MESH_TRUST, _MESH_FROM, _HEAD_BIAS = 10.0, 0.7, -4.0


class GuideAttention(nn.Module):
    """Which places follow the mesh, and which the head.

    Args:
        compressed: channels of the features that are moved.
        depth_layers: S_d.
        hidden: channels of the region attention's U-Net at its finest level.
    """

    def __init__(self, compressed: int, depth_layers: int, hidden: int) -> None:
        super().__init__()
        seen = (REGIONS * (compressed + 1) + 2) * depth_layers
        self.depth_layers = depth_layers
        self.look = nn.Conv2d(seen, hidden, 3, padding=1, bias=False)
        self.mix = nn.Sequential(
            nn.Conv2d(2 * hidden, hidden, 3, padding=1), group_norm(hidden), nn.SiLU()
        )
        self.share = nn.Conv2d(hidden, REGIONS * depth_layers, 1)
        nn.init.normal_(self.share.weight, std=1e-2)
        assert self.share.bias is not None
        nn.init.zeros_(self.share.bias)
        self.trust = nn.Parameter(torch.tensor(_MESH_TRUST))
        self.head_bias = nn.Parameter(torch.tensor(_HEAD_BIAS))

    def forward(
        self,
        still: Float[Tensor, "b c z h w"],
        hidden: Float[Tensor, "b k h w"],
        guide: Guide,
    ) -> Float[Tensor, "b g z h w"]:
        """Shares of the two guide regions; what is left belongs to the other regions."""
        z, side = self.depth_layers, still.shape[-1]
        moves = moves_at(guide, side)
        skin, inside = (F.adaptive_avg_pool2d(x[:, None], side) for x in (guide.skin, guide.inside))
        seen = [torch.cat((skin, inside), dim=1).repeat(1, z, 1, 1)]
        for move in moves.unbind(dim=1):
            layers = rearrange(still, "b c z h w -> (b z) c h w")
            moved = warp_map(layers, move.repeat_interleave(z, dim=0))
            seen.append(rearrange(moved, "(b z) c h w -> b (c z) h w", z=z))
            seen.append(size_of(move)[:, None].expand(-1, z, -1, -1))
        looked = self.mix(torch.cat((hidden, self.look(torch.cat(seen, dim=1))), dim=1))
        logits = rearrange(self.share(looked), "b (g z) h w -> b g z h w", g=REGIONS)
        mesh = logits[:, 0] + self.trust * (skin + inside - _MESH_FROM)
        head = logits[:, 1] + self.head_bias
        others = torch.zeros_like(mesh)
        shares = torch.softmax(torch.stack((others, mesh, head), dim=1), dim=1)[:, 1:]
        return shares * guide.known[:, None, None, None, None]


def moves_at(guide: Guide, side: int) -> Float[Tensor, "b g h w 2"]:
    """The displacement of both guide regions on a grid of `side` by `side`."""
    planes = rearrange(guide.displacement, "b h w xy -> b xy h w")
    mesh = rearrange(F.adaptive_avg_pool2d(planes, side), "b xy h w -> b h w xy")
    places = identity_grid(side, side, like=mesh)
    places = torch.cat((places, torch.ones_like(places[..., :1])), dim=-1)
    head = torch.einsum("b i j, h w j -> b h w i", guide.head, places)
    return torch.stack((mesh, head), dim=1)


def follow(field: MotionField, shares: Float[Tensor, "b g z h w"], guide: Guide) -> MotionField:
    """The field with the guide's shares in it, and the fine displacement for the picture."""
    side, whole = field.mask.shape[-1], guide.displacement.shape[1]
    others = 1 - shares.sum(dim=1)
    learned = others[..., None] * field.displacement
    coarse = (shares[..., None] * moves_at(guide, side)[:, :, None]).sum(dim=1)
    regions = torch.cat((field.regions * others[:, None], shares), dim=1)

    weights = F.normalize(field.mask, p=1, dim=1, eps=1e-6)
    fine = resize_displacement(mean_flow(learned, field.mask), whole, whole)
    share = (shares * weights[:, None]).sum(dim=2)
    share = F.interpolate(share, size=(whole, whole), mode="bilinear", align_corners=False)
    fine = fine + (share[..., None] * moves_at(guide, whole)).sum(dim=1)
    return MotionField(learned + coarse, field.mask, regions, fine)
