"""Any picture -> motion, 768 numbers without a spatial map (the paper's motion encoder, M_D).

A small ConvNeXt; `timm` may supply a pretrained one. Its last map is brought to 4 x 4 and squeezed
before it becomes numbers: with a plain mean over space the net could not tell where a head had
moved to (known moves explained after 150 steps: 16 % against none).
Axes: b batch, c channels, h w space, m motion.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mien.errors import UserError
from mien.ops.warp import identity_grid
from mien.portrait.appearance import fit_to

MOTION_DIM = 768
POOLED = 4  # side of the last map, in cells
SQUEEZED = 64  # channels a cell


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, normalisation, and a two-layer perceptron over channels, added to the
    input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.GroupNorm(1, channels)
        self.widen = nn.Conv2d(channels, 4 * channels, 1)
        self.narrow = nn.Conv2d(4 * channels, channels, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Refine a map."""
        hidden = self.widen(self.norm(self.depthwise(x)))
        return x + self.narrow(nn.functional.gelu(hidden))


class ConvNeXt(nn.Module):
    """Stem of stride 4, then stages that halve the size; returns the last map.

    Every change of size also reads two channels of coordinates: what is pooled afterwards would
    otherwise know that a head moved, but hardly where to.
    """

    def __init__(self, channels: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        super().__init__()
        widths = (3, *channels)
        self.shrink = nn.ModuleList(
            nn.Conv2d(a + 2, b, 2 if i else 4, stride=2 if i else 4)
            for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True))
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in channels)
        self.stages = nn.ModuleList(
            nn.Sequential(*(ConvNeXtBlock(width) for _ in range(count)))
            for width, count in zip(channels, blocks, strict=True)
        )
        self.num_features = channels[-1]

    def forward(self, picture: Float[Tensor, "b 3 h1 w1"]) -> Float[Tensor, "b c h2 w2"]:
        """Look at a picture."""
        x = picture
        for shrink, norm, stage in zip(self.shrink, self.norms, self.stages, strict=True):
            places = identity_grid(x.shape[2], x.shape[3], like=x).permute(2, 0, 1)
            x = torch.cat((x, places.expand(len(x), -1, -1, -1)), dim=1)
            x = stage(norm(shrink(x)))
        return x


class MotionEncoder(nn.Module):
    """Picture -> motion (b, 768), standardised so that no direction can grow without bound.

    Args:
        size: the picture is brought to this many pixels first.
        channels: widths of the stages.
        blocks: blocks a stage.
        backbone: name of a timm model to use in place of the own net.
    """

    def __init__(
        self, size: int, channels: tuple[int, ...], blocks: tuple[int, ...], backbone: str | None
    ) -> None:
        super().__init__()
        self.size = size
        self.backbone = backbone
        body = timm_backbone(backbone, False) if backbone else ConvNeXt(channels, blocks)
        width = body.num_features
        assert isinstance(width, int)
        self.body = body
        self.squeeze = nn.Conv2d(width, SQUEEZED, 1)
        self.head = nn.Linear(SQUEEZED * POOLED**2, MOTION_DIM)
        self.norm = nn.LayerNorm(MOTION_DIM, elementwise_affine=False)

    def forward(self, picture: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b m"]:
        """What the face is doing; colours and lighting are taken out before anything looks."""
        features = self.body(_standard_grey(fit_to(picture, self.size)))
        cells = self.squeeze(nn.functional.adaptive_avg_pool2d(features, POOLED))
        return self.norm(self.head(nn.functional.gelu(cells).flatten(1)))

    def load_pretrained(self) -> None:
        """Fetch the backbone's pretrained weights; a fresh training run calls it, a restored one
        never.
        """
        if self.backbone:
            trained = timm_backbone(self.backbone, True)
            self.body.load_state_dict(trained.state_dict())


def _standard_grey(picture: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Luminance with mean 0 and deviation 1: motion has no colour, but people have."""
    weights = picture.new_tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)
    grey = (picture * weights).sum(dim=1, keepdim=True)
    return torch.nn.functional.layer_norm(grey, grey.shape[1:]).expand(-1, 3, -1, -1)


def timm_backbone(name: str, pretrained: bool) -> nn.Module:
    """A timm model that returns its last feature map; pretrained weights come from timm's hub.

    Raises:
        UserError: timm is missing, the name is unknown, or the weights cannot be fetched.
    """
    try:
        import timm  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"motion_backbone {name!r} needs timm, which does not import here ({error}); "
            'install it with: pip install "mien[pretrained]"'
        ) from error
    if name not in timm.list_models():
        raise UserError(f"motion_backbone {name!r} is not a timm model; see timm.list_models()")
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="")
    except (OSError, RuntimeError) as error:
        raise UserError(f"timm could not load the weights of {name!r}: {error}") from error


def motion_tokens(motion: Float[Tensor, "*b m"], grid: int) -> Float[Tensor, "*b k n n"]:
    """Motion seen as a grid of tokens (the paper's V_D, 8 x 8 x 12)."""
    return torch.unflatten(motion, -1, (MOTION_DIM // grid**2, grid, grid))
