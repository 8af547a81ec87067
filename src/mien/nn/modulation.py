"""AdaLN-Zero: adaptive layer norm with zero-initialised modulation (arXiv 2212.09748).

Axes: b batch, t tokens, d width, c condition.
"""

from jaxtyping import Float
from torch import Tensor, nn


class Modulation(nn.Module):
    """Project each token's condition to `parts` vectors of the token's width; zero-initialised."""

    def __init__(self, condition: int, width: int, parts: int):
        super().__init__()
        self.parts = parts
        self.project = nn.Linear(condition, parts * width)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, condition: Float[Tensor, "b t c"]) -> tuple[Float[Tensor, "b t d"], ...]:
        """Shift, scale, gate and so on, in the order in which the caller unpacks them."""
        return self.project(nn.functional.silu(condition)).chunk(self.parts, dim=-1)


class PlainNorm(nn.LayerNorm):
    """Layer norm without affine parameters: scale and shift come from the condition."""

    def __init__(self, width: int):
        super().__init__(width, elementwise_affine=False)

    def modulated(
        self,
        tokens: Float[Tensor, "b t d"],
        shift: Float[Tensor, "b t d"],
        scale: Float[Tensor, "b t d"],
    ) -> Float[Tensor, "b t d"]:
        """Normalise, then scale by 1 + `scale` and shift."""
        return self(tokens) * (1 + scale) + shift
