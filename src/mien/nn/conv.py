"""Convolution blocks for pictures and volumes.

Group normalisation throughout: batch statistics would mix identities, and a batch of two must
equal two batches of one. Axes: b batch, c channels, z depth layers, h w space.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mien.ops.normalization import normalize_groups


class GroupNorm(nn.GroupNorm):
    """torch's, faster for maps of few channels on a CPU (`mien.ops.normalization`)."""

    def forward(self, x: Tensor, silu: bool = False) -> Tensor:
        """Apply to maps or volumes (b c *space), and SiLU to what comes out."""
        return normalize_groups(x, self.num_groups, self.weight, self.bias, self.eps, silu)


def group_norm(channels: int) -> GroupNorm:
    """Group normalisation with at most 8 groups that divide the channels."""
    return GroupNorm(math.gcd(8, channels), channels)


def channels_last(x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
    """The same values with channels innermost in memory: convolutions of maps on a CPU are then up
    to three times as fast, and all that follows keeps the layout.
    """
    if torch.compiler.is_exporting():
        return x
    layout = torch.channels_last_3d if x.ndim == 5 else torch.channels_last
    return x.contiguous(memory_format=layout)


def conv_upsampled(
    coarse: Float[Tensor, "b c1 h1 w1"],
    fine: Float[Tensor, "b c2 h2 w2"] | None,
    conv: nn.Conv2d,
) -> Float[Tensor, "b c3 h2 w2"]:
    """The 3x3 convolution `conv` of `coarse`, upsampled twofold (nearest), and `fine` concatenated.

    Neither is made: of the nine weights that fall on an upsampled map, those on one coarse pixel
    are added, which leaves a 2x2 convolution for each of the four positions within that pixel.
    """
    if torch.compiler.is_exporting() or _draws_in_bfloat16(coarse):
        return _conv_transposed(channels_last(coarse), fine, conv)
    b, c1, h, w = coarse.shape
    weight = channels_last(_position_weights(conv.weight[:, :c1]))
    found = F.conv2d(channels_last(coarse), weight, padding=1).permute(0, 2, 3, 1)
    found = found.reshape(b, h + 1, w + 1, 2, 2, conv.out_channels)
    if fine is not None:
        fine_weight = channels_last(conv.weight[:, c1:])
        whole = F.conv2d(channels_last(fine), fine_weight, conv.bias, padding=1)
    else:
        bias = coarse.new_zeros(()) if conv.bias is None else conv.bias[:, None, None]
        whole = channels_last(bias.expand(b, conv.out_channels, 2 * h, 2 * w))
    pixels = whole.permute(0, 2, 3, 1).view(b, h, 2, w, 2, conv.out_channels)
    for i, j in itertools.product((0, 1), (0, 1)):
        # Position (i, j) within a coarse pixel reads it and its neighbours before (0) or after (1).
        pixels[:, :, i, :, j] += found[:, i : i + h, j : j + w, i, j]
    return whole


def _draws_in_bfloat16(x: Tensor) -> bool:
    """In bfloat16 on a CPU adding up the four positions takes longer than it saves."""
    half = x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
    return half and x.is_cpu and not torch.is_grad_enabled()


def _conv_transposed(coarse: Tensor, fine: Tensor | None, conv: nn.Conv2d) -> Tensor:
    """The same as one transposed convolution and one convolution, which other engines have too."""
    own, theirs = conv.weight[:, : coarse.shape[1]], conv.weight[:, coarse.shape[1] :]
    doubled = sum(F.pad(own, (x, 1 - x, y, 1 - y)) for x in (0, 1) for y in (0, 1))
    assert isinstance(doubled, Tensor)
    whole = F.conv_transpose2d(
        coarse, doubled.flip(2, 3).transpose(0, 1), conv.bias, stride=2, padding=1
    )
    return whole if fine is None else whole + F.conv2d(channels_last(fine), theirs, padding=1)


def conv_of_source(
    source: Float[Tensor, "b c1 *space"], conv: nn.Conv2d | nn.Conv3d, first: int = 0
) -> Float[Tensor, "b c2 *space"]:
    """What the input channels of `conv` from `first` on, given as `source`, add to its result, and
    its bias: computed once for all frames of a source, and then the last input of `conv_of_frames`.
    """
    return _convolved(source, conv, first, conv.bias)


def conv_of_frames(
    x: Float[Tensor, "bt c1 *space"],
    conv: nn.Conv2d | nn.Conv3d,
    source: Float[Tensor, "b c2 *space"],
    first: int = 0,
) -> Float[Tensor, "bt c2 *space"]:
    """`conv` of the frames `x`, its input channels from `first` on, and of their source
    (`conv_of_source`); the frames of a source are consecutive.
    """
    frames = _convolved(x, conv, first, None)
    return (frames.unflatten(0, (len(source), -1)) + source[:, None]).flatten(0, 1)


def _convolved(x: Tensor, conv: nn.Conv2d | nn.Conv3d, first: int, bias: Tensor | None) -> Tensor:
    weight = conv.weight[:, first : first + x.shape[1]]
    if x.ndim == 5:
        return F.conv3d(x, weight, bias, padding=1)
    return F.conv2d(channels_last(x), channels_last(weight), bias, padding=1)


def _position_weights(weight: Float[Tensor, "c3 c1 3 3"]) -> Float[Tensor, "c4 c1 2 2"]:
    """Weights of 2x2 convolutions for the positions (0, 0), (0, 1), (1, 0), (1, 1), in turn."""
    a, b, c = weight.unbind(dim=2)
    rows = [torch.stack(pair, dim=2) for pair in ((a, b + c), (a + b, c))]
    pairs = []
    for row in rows:
        a, b, c = row.unbind(dim=3)
        pairs += [torch.stack(pair, dim=3) for pair in ((a, b + c), (a + b, c))]
    return torch.cat(pairs)


class ResidualBlock2d(nn.Module):
    """x + conv(act(norm(conv(act(norm(x)))))), same size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            group_norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            group_norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Apply to a feature map."""
        return x + self.body(x)


class ResidualBlock3d(nn.Module):
    """The same over a volume with depth layers (one block of the paper's ResNet3D)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            group_norm(channels),
            nn.SiLU(),
            nn.Conv3d(channels, channels, 3, padding=1),
            group_norm(channels),
            nn.SiLU(),
            nn.Conv3d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Float[Tensor, "b c z h w"]) -> Float[Tensor, "b c z h w"]:
        """Apply to a feature volume."""
        return x + self.body(x)


class DownBlock(nn.Module):
    """Halve the size, change the channels."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1)
        self.norm = group_norm(channels_out)

    def forward(self, x: Float[Tensor, "b c1 h1 w1"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Apply to a feature map."""
        return self.norm(self.conv(x), silu=True)


class ConvBlock(nn.Module):
    """Convolution, normalisation, activation; the size stays."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm = group_norm(channels_out)

    def forward(self, x: Float[Tensor, "b c1 h w"]) -> Float[Tensor, "b c2 h w"]:
        """Apply to a feature map."""
        return self.norm(self.conv(x), silu=True)

    def upsample(
        self, coarse: Float[Tensor, "b c1 h1 w1"], fine: Float[Tensor, "b c2 h2 w2"] | None
    ) -> Float[Tensor, "b c3 h2 w2"]:
        """Apply to `coarse` at twice its size, with `fine` concatenated."""
        return self.norm(conv_upsampled(coarse, fine, self.conv), silu=True)


class Hourglass(nn.Module):
    """A U-Net over maps or, with `volume=True`, over volumes halved in space alone.

    Args:
        channels_in: channels of the input.
        widths: channels at each level, finest first; each further level halves the space.
        volume: convolve over depth as well.
    """

    def __init__(self, channels_in: int, widths: tuple[int, ...], volume: bool) -> None:
        super().__init__()
        conv = nn.Conv3d if volume else nn.Conv2d

        def block(a: int, b: int) -> nn.Sequential:
            return nn.Sequential(conv(a, b, 3, padding=1), group_norm(b), nn.SiLU())

        self.entry = block(channels_in, widths[0])
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.down = nn.ModuleList(block(a, b) for a, b in pairs)
        self.up = nn.ModuleList(block(b + a, a) for a, b in reversed(pairs))
        self.pool = nn.AvgPool3d((1, 2, 2)) if volume else nn.AvgPool2d(2)

    @property
    def _first_conv(self) -> nn.Conv2d | nn.Conv3d:
        conv = self.entry[0]
        assert isinstance(conv, nn.Conv2d | nn.Conv3d)
        return conv

    def prepare(self, source: Float[Tensor, "b c1 *space"]) -> Float[Tensor, "b c2 *space"]:
        """What the first input channels, the same in all frames of a source, add to the first
        convolution.
        """
        return conv_of_source(source, self._first_conv)

    def forward(
        self, x: Float[Tensor, "bt c1 *space"], source: Float[Tensor, "b c2 *space"]
    ) -> Float[Tensor, "bt c2 *space"]:
        """Features at the input's size; `x` are the channels after those of `prepare`."""
        conv = self._first_conv
        first = conv.in_channels - x.shape[1]
        levels = [self.entry[1:](conv_of_frames(x, conv, source, first))]
        for down in self.down:
            levels.append(down(self.pool(levels[-1])))
        x = levels.pop()
        for up in self.up:
            finer = levels.pop()
            assert isinstance(up, nn.Sequential)
            conv, norm, act = up
            if isinstance(conv, nn.Conv2d) and finer.shape[2:] == (2 * x.shape[2], 2 * x.shape[3]):
                x = act(norm(conv_upsampled(x, finer, conv)))
            else:
                x = F.interpolate(x, size=finer.shape[2:], mode="nearest")
                x = up(torch.cat((x, finer), dim=1))
        return x
