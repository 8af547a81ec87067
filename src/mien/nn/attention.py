"""Self-attention over frames with rotary positions. Axes: b batch, t time, d width."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Real
from torch import Tensor, nn

from mien.config import require_multiple
from mien.nn.embedding import apply_rotary


class SelfAttention(nn.Module):
    """Multi-head self-attention; distance in time comes from `positions`, not from order."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        require_multiple("width", width, "heads", heads)
        require_multiple("width per head", width // heads, "a pair of numbers", 2)
        self.heads = heads
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, tokens: Float[Tensor, "b t d"], positions: Real[Tensor, " t"]
    ) -> Float[Tensor, "b t d"]:
        """Attend; `positions` may be negative and need not start at zero."""
        pattern = "b t (three heads d) -> three b heads t d"
        projected = rearrange(self.in_proj(tokens), pattern, three=3, heads=self.heads)
        query, key = apply_rotary(projected[:2].flatten(0, 1), positions).chunk(2)
        attended = F.scaled_dot_product_attention(query, key, projected[2])
        return self.out_proj(rearrange(attended, "b heads t d -> b t (heads d)"))
