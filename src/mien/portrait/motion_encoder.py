"""Picture -> motion, a vector of 768 (the paper's motion encoder, M_D).

A small ConvNeXt whose coarse maps are added to its finer ones; `timm` may supply a pretrained body.
The last map is reduced by spatial attention pooling: each of 8 x 8 tokens returns its soft-argmax
position around its part of the picture, and the pooled feature. Lips are a few pixels of a head
that moves as a whole; a plain mean over space, or over a few cells, captures the head and misses
the lips.
Axes: b batch, c channels, h w space, m motion, n tokens, k token dimensions.
"""

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mien.errors import UserError
from mien.ops.precision import full_precision
from mien.ops.warp import identity_grid
from mien.portrait.appearance import fit_to

Pooling = Literal["attention", "mean"]

MOTION_DIM = 768
GRID = 8  # the paper reads M_D as 8 x 8 tokens
TOKEN_DIM = MOTION_DIM // GRID**2  # 12: a position (2) and a feature (10)


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
        """Apply to a feature map."""
        hidden = self.widen(self.norm(self.depthwise(x)))
        return x + self.narrow(F.gelu(hidden))


class ConvNeXt(nn.Module):
    """Stem of stride 4, then stages that halve the size; returns a map at the stem's size into
    which the coarser ones have been added.

    Every downsampling also takes two coordinate channels. The stem's convolutions overlap:
    patches side by side would cut a mouth into two or three pieces.

    Args:
        channels: widths of the stages.
        blocks: blocks a stage.
        width: channels of the map that is returned.
    """

    def __init__(self, channels: tuple[int, ...], blocks: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels[0] // 2, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(channels[0] // 2, channels[0], 3, stride=2, padding=1),
        )
        self.shrink = nn.ModuleList(nn.Conv2d(a + 2, b, 2, stride=2) for a, b in pairwise(channels))
        self.norms = nn.ModuleList(nn.GroupNorm(1, channel) for channel in channels)
        self.stages = nn.ModuleList(
            nn.Sequential(*(ConvNeXtBlock(channel) for _ in range(count)))
            for channel, count in zip(channels, blocks, strict=True)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(channel, width, 1) for channel in channels)
        self.refine = ConvNeXtBlock(width)
        self.num_features = width

    def forward(self, picture: Float[Tensor, "b 3 h1 w1"]) -> Float[Tensor, "b c h2 w2"]:
        """The feature map of a picture."""
        x = self.stem(picture)
        maps = []
        for i, (norm, stage) in enumerate(zip(self.norms, self.stages, strict=True)):
            if i:
                places = identity_grid(x.shape[2], x.shape[3], like=x).permute(2, 0, 1)
                x = self.shrink[i - 1](torch.cat((x, places.expand(x.shape[0], -1, -1, -1)), dim=1))
            x = stage(norm(x))
            maps.append(x)

        merged = self.lateral[-1](maps[-1])
        for lateral, finer in zip(self.lateral[-2::-1], maps[-2::-1], strict=True):
            grown = F.interpolate(merged, finer.shape[2:], mode="bilinear", align_corners=False)
            merged = lateral(finer) + grown
        return self.refine(merged)


class AttentionPooling(nn.Module):
    """Spatial attention pooling, map -> grid of tokens: each token returns its soft-argmax position
    and the pooled feature.

    The softmax over positions has a Gaussian prior around the token's own cell. So a token's
    position follows a moving feature with sub-pixel accuracy, and what happens in a part of the
    picture is encoded by the tokens of that part, as the deviation's convolutions expect.

    Args:
        channels: of the map.
        side: tokens along a side of the picture.
        numbers: dimensions of each token, its position included.
    """

    def __init__(self, channels: int, side: int, numbers: int) -> None:
        super().__init__()
        self.side = side
        self.score = nn.Conv2d(channels, side**2, 1)
        self.readout = nn.Parameter(torch.randn(side**2, channels, numbers - 2) * channels**-0.5)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k n n"]:
        """One softmax over all positions for each token."""
        weights, offsets = self._soft_argmax(self.score(x))
        pooled = torch.einsum("bnc,nck->bnk", weights @ x.flatten(2).mT, self.readout)
        tokens = torch.cat((offsets, pooled.to(offsets)), dim=-1)
        return rearrange(tokens, "b (y x) k -> b k y x", y=self.side)

    @full_precision
    def _soft_argmax(
        self, scores: Float[Tensor, "b n h w"]
    ) -> tuple[Float[Tensor, "b n hw"], Float[Tensor, "b n 2"]]:
        """Each token's softmax over positions, and its soft-argmax offset in cell sizes."""
        positions = identity_grid(scores.shape[2], scores.shape[3], like=scores).flatten(0, 1)
        cells = identity_grid(self.side, self.side, like=scores).flatten(0, 1)
        spacing = 2 / self.side
        distance = (cells[:, None] - positions).square().sum(dim=-1) / (2 * spacing**2)
        weights = (scores.flatten(2) - distance).softmax(dim=-1)
        return weights, ((weights[..., None] * positions).sum(dim=2) - cells) / spacing


class MeanPooling(nn.Module):
    """Map -> tokens by global mean pooling and one linear layer, as in the paper.

    None of its outputs is a position, so `token_positions` has no meaning here.
    """

    def __init__(self, channels: int, side: int, numbers: int) -> None:
        super().__init__()
        self.side = side
        self.project = nn.Linear(channels, side**2 * numbers)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k n n"]:
        """All tokens from one vector."""
        tokens = self.project(x.mean(dim=(2, 3)))
        return rearrange(tokens, "b (k y x) -> b k y x", y=self.side, x=self.side)


class MotionEncoder(nn.Module):
    """Picture -> motion (b, 768), standardised so that no direction can grow without bound.

    Args:
        size: the picture is resized to this many pixels first.
        channels: widths of the stages.
        blocks: blocks a stage.
        width: channels of the map that is pooled.
        backbone: name of a timm model to use in place of the built-in net. Its last map is coarse,
        and so are then the tokens' positions; `width` is unused with it.
        pooling: how the last map becomes tokens: by attention, or by the mean over positions.
    """

    def __init__(
        self,
        size: int,
        channels: tuple[int, ...],
        blocks: tuple[int, ...],
        width: int,
        backbone: str | None,
        pooling: Pooling = "attention",
    ) -> None:
        super().__init__()
        self.size = size
        self.backbone = backbone
        body = timm_backbone(backbone, False) if backbone else ConvNeXt(channels, blocks, width)
        features = body.num_features
        assert isinstance(features, int)
        self.body = body
        pool = AttentionPooling if pooling == "attention" else MeanPooling
        self.pool = pool(features, GRID, TOKEN_DIM)

    def forward(self, picture: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b m"]:
        """The motion; colour is removed and brightness and contrast normalised first."""
        return tokens_as_motion(self.tokens(picture))

    def tokens(self, picture: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k n n"]:
        """The motion before it is standardised; `token_positions` reads it."""
        return self.pool(self.body(_standard_grey(fit_to(picture, self.size))))

    def load_pretrained(self) -> None:
        """Fetch the backbone's pretrained weights; a fresh training run calls it, a restored one
        never.
        """
        if self.backbone:
            trained = timm_backbone(self.backbone, True)
            self.body.load_state_dict(trained.state_dict())


def _standard_grey(picture: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Luminance with mean 0 and deviation 1: colour is identity, not motion."""
    weights = picture.new_tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)
    grey = (picture * weights).sum(dim=1, keepdim=True)
    return F.layer_norm(grey, grey.shape[1:]).expand(-1, 3, -1, -1)


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


def standardise(motion: Float[Tensor, "*b m"]) -> Float[Tensor, "*b m"]:
    """Each motion with mean 0 and deviation 1 over its own numbers (the paper's V_nor)."""
    return F.layer_norm(motion, motion.shape[-1:])


def token_positions(tokens: Float[Tensor, "b k n n"]) -> Float[Tensor, "b n n 2"]:
    """Soft-argmax position of each token (x, y; 2 spans the picture)."""
    cells = identity_grid(GRID, GRID, like=tokens)
    return rearrange(tokens[:, :2], "b xy y x -> b y x xy") * (2 / GRID) + cells


def tokens_as_motion(tokens: Float[Tensor, "b k n n"]) -> Float[Tensor, "b m"]:
    """The encoder's tokens as a standardised motion vector."""
    return standardise(tokens.flatten(1))


def motion_tokens(motion: Float[Tensor, "*b m"]) -> Float[Tensor, "*b k n n"]:
    """Motion seen as a grid of tokens (the paper's V_D, 8 x 8 x 12)."""
    return torch.unflatten(motion, -1, (TOKEN_DIM, GRID, GRID))
