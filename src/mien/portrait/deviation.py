"""Source and driving motion -> one deviation map per region (the paper's Deviation Image
Transformer).

Delta = (V_i - V_0) / sqrt(delta^2 + eps) * k_sc + k_sh, where V is the motion as 8 x 8 tokens of
12. delta comes from running statistics over training, not from the pair: dividing a pair's
difference by its own deviation would remove the amplitude of the motion and blow up noise where
nothing moves. k_sh is gated by the size of the difference, so that no difference gives exactly no
deviation.
Axes: b batch, t video frames, m motion, r regions, k token dimensions, n tokens per side, d width.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mien.nn.conv import channels_last
from mien.portrait.motion_encoder import GRID, TOKEN_DIM, motion_tokens, standardise

EPS = 1e-5  # the paper's


class DeviationTransformer(nn.Module):
    """Tokens, transformer over driving and source, 3-D convolution over frames, scale and shift.

    Args:
        regions: lambda, the number of regions that move independently.
        width: width of the transformer and of the convolutions.
        layers: transformer layers; 0 is the paper's ablation "w/o Transformer in DIT".
        heads: attention heads.
        convolutions: n, the layers of 3-D convolution.
        temporal_kernel: kernel size over frames (odd); 1 processes each frame alone.
    """

    running_square: Tensor
    batches_seen: Tensor

    def __init__(
        self,
        regions: int,
        width: int,
        layers: int,
        heads: int,
        convolutions: int,
        temporal_kernel: int,
    ) -> None:
        super().__init__()
        self.regions = regions
        self.embed = nn.Linear(TOKEN_DIM, width)
        self.position = nn.Parameter(torch.randn(GRID**2, width) * 0.02)
        self.role = nn.Parameter(torch.randn(2, width) * 0.02)
        self.transformer = nn.ModuleList(_transformer_layer(width, heads) for _ in range(layers))
        channels = [width] * convolutions + [2 * regions * TOKEN_DIM]
        self.temporal_padding = (temporal_kernel - 1) // 2
        self.convolutions = nn.ModuleList(
            nn.Conv3d(a, b, (temporal_kernel, 3, 3))
            for a, b in zip(channels[:-1], channels[1:], strict=True)
        )
        last = self.convolutions[-1]
        assert isinstance(last, nn.Conv3d) and last.bias is not None
        nn.init.normal_(last.weight, std=1e-3)  # k_sc starts near 1, k_sh near 0
        nn.init.zeros_(last.bias)
        self.register_buffer("running_square", torch.ones(TOKEN_DIM))
        self.register_buffer("batches_seen", torch.zeros(()))

    def forward(
        self, source: Float[Tensor, "b m"], driving: Float[Tensor, "b t m"]
    ) -> Float[Tensor, "b t r k n n"]:
        """Deviation of every region from the source, per frame."""
        v_source = motion_tokens(standardise(source))[:, None]
        v_driving = motion_tokens(standardise(driving))
        difference = self._normalise(v_driving - v_source)

        tokens = self._attend(v_driving, v_source.expand_as(v_driving))
        scale, shift = self._convolve(tokens).chunk(2, dim=2)

        size = difference.square().mean(dim=2, keepdim=True)
        gate = size / (1 + size)
        per_region = difference[:, :, None]
        return per_region * (1 + scale) + gate[:, :, None] * shift

    def _normalise(self, difference: Tensor) -> Tensor:
        if self.training:
            square = difference.detach().square().mean(dim=(0, 1, 3, 4))
            # A plain mean at first: differences start far below the buffer's initial value of 1,
            # which an exponential average would keep too long.
            self.batches_seen.add_(1).clamp_(max=100)  # beyond, the mean moves at one rate
            weight = torch.clamp(1 / self.batches_seen, min=0.01)
            self.running_square.lerp_(square.to(self.running_square.dtype), weight)
        deviation = torch.sqrt(self.running_square + EPS)
        return difference / deviation[:, None, None]

    def _attend(self, driving: Tensor, source: Tensor) -> Tensor:
        b, t = driving.shape[:2]
        rows = [rearrange(v, "b t k y x -> (b t) (y x) k") for v in (driving, source)]
        tokens = torch.cat(
            [self.embed(row) + self.position + self.role[i] for i, row in enumerate(rows)], dim=1
        )
        for layer in self.transformer:
            tokens = layer(tokens)
        return rearrange(
            tokens[:, : GRID**2], "(b t) (y x) d -> b d t y x", b=b, t=t, y=GRID, x=GRID
        )

    def _convolve(self, x: Tensor) -> Tensor:
        side = self.temporal_padding
        if not side:
            return self._convolve_frames(x)
        for i, convolution in enumerate(self.convolutions):
            x = F.pad(F.silu(x) if i else x, (1, 1, 1, 1, side, side), mode="replicate")
            x = convolution(x)
        return rearrange(x, "b (r k) t y x -> b t r k y x", k=TOKEN_DIM)

    def _convolve_frames(self, x: Tensor) -> Tensor:
        """The same where each frame is convolved alone, faster on a CPU."""
        batch = x.shape[0]
        x = rearrange(x, "b d t y x -> (b t) d y x")
        for i, convolution in enumerate(self.convolutions):
            assert isinstance(convolution, nn.Conv3d)
            x = F.pad(F.silu(x) if i else x, (1, 1, 1, 1), mode="replicate")
            x = F.conv2d(channels_last(x), convolution.weight[:, :, 0], convolution.bias)
        return rearrange(x, "(b t) (r k) y x -> b t r k y x", b=batch, k=TOKEN_DIM)


def _transformer_layer(width: int, heads: int) -> nn.Module:
    return nn.TransformerEncoderLayer(
        width,
        heads,
        dim_feedforward=4 * width,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
