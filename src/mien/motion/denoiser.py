"""Motion denoiser: a transformer that predicts clean motion from noisy motion.

History tokens (four in the paper) precede the window's tokens. Each token is modulated (AdaLN-Zero)
by its own condition: noise level, Mamba-g, F_A, M^0 and, in the window, its frame's Mamba-l.
Axes: b batch, t frames, n history frames, k space dimensions, c condition, d width.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mien.motion.conditioning import Embedded
from mien.nn.attention import SelfAttention
from mien.nn.embedding import NoiseLevelEmbedding
from mien.nn.modulation import Modulation, PlainNorm


class MotionDenoiser(nn.Module):
    """Takes any number of frames; positions are relative to the window's first frame (0)."""

    def __init__(
        self, space: int, width: int, layers: int, heads: int, expand: int, condition: int
    ):
        super().__init__()
        self.in_proj = nn.Linear(space, width)
        self.level = NoiseLevelEmbedding(condition)
        self.blocks = nn.ModuleList(
            DenoiserBlock(width, heads, expand, condition) for _ in range(layers)
        )
        self.norm = PlainNorm(width)
        self.modulation = Modulation(condition, width, parts=2)
        self.out_proj = nn.Linear(width, space)
        nn.init.zeros_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, mixture: Float[Tensor, "b t k"], level: Float[Tensor, " b"], embedded: Embedded
    ) -> Float[Tensor, "b t k"]:
        """Predict the window's frames; the history tokens are context only."""
        n, t = embedded.history.shape[1], mixture.shape[1]
        tokens = torch.cat([embedded.history, self.in_proj(mixture)], dim=1)
        condition = (
            torch.cat([embedded.history_condition, embedded.frames], dim=1)
            + self.level(level)[:, None]
        )
        positions = torch.arange(-n, t, device=mixture.device)

        for block in self.blocks:
            tokens = block(tokens, condition, positions)
        frames = tokens[:, n:]
        shift, scale = self.modulation(condition[:, n:])
        return self.out_proj(self.norm.modulated(frames, shift, scale))


class DenoiserBlock(nn.Module):
    """Self-attention over frames, then an MLP per frame; both gates start at zero (AdaLN-Zero)."""

    def __init__(self, width: int, heads: int, expand: int, condition: int):
        super().__init__()
        self.modulation = Modulation(condition, width, parts=6)
        self.norm = PlainNorm(width)
        self.attention = SelfAttention(width, heads)
        self.network = nn.Sequential(
            nn.Linear(width, expand * width), nn.GELU(), nn.Linear(expand * width, width)
        )

    def forward(
        self,
        tokens: Float[Tensor, "b t d"],
        condition: Float[Tensor, "b t c"],
        positions: Int[Tensor, " t"],
    ) -> Float[Tensor, "b t d"]:
        """Each token is shifted, scaled and gated by its own condition."""
        shift, scale, gate, shift_2, scale_2, gate_2 = self.modulation(condition)
        attended = self.attention(self.norm.modulated(tokens, shift, scale), positions)
        tokens = tokens + gate * attended
        return tokens + gate_2 * self.network(self.norm.modulated(tokens, shift_2, scale_2))
