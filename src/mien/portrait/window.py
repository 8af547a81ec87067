"""A rectangle of the picture that is drawn alone, given in pixels of the feature volume, so that it
has whole pixels in every map of the decoder.

Axes: b batch, c channels, h w space.
"""

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from mien.types import Guide

# Of a guide, those whose last axes are h w.
_MAPS = "skin", "mouth", "person", "background", "covered", "disoccluded", "interior"


@dataclass(frozen=True)
class Window:
    """Rows `top` to `bottom` and columns `left` to `right` of `cells` by `cells`."""

    top: int
    bottom: int
    left: int
    right: int
    cells: int

    def slices(self, side: int) -> tuple[slice, slice]:
        """Its rows and columns in a map of this side."""
        scale = side // self.cells
        rows = slice(scale * self.top, scale * self.bottom)
        return rows, slice(scale * self.left, scale * self.right)

    def grown(self, by: int) -> "Window":
        """With a margin, as far as the picture has one."""
        return replace(
            self,
            top=max(0, self.top - by),
            bottom=min(self.cells, self.bottom + by),
            left=max(0, self.left - by),
            right=min(self.cells, self.right + by),
        )

    def within(self, other: "Window") -> "Window":
        """The same rectangle, counted from the first row and column of a larger one."""
        return replace(
            self,
            top=self.top - other.top,
            bottom=self.bottom - other.top,
            left=self.left - other.left,
            right=self.right - other.left,
        )


def cut(x: Float[Tensor, "b *c h1 w1"], window: Window | None) -> Float[Tensor, "b *c h2 w2"]:
    """The window of square maps, or all of them."""
    if window is None:
        return x
    rows, columns = window.slices(x.shape[-1])
    return x[..., rows, columns]


def cut_guide(guide: Guide, window: Window | None) -> Guide:
    """The window of all maps of a guide."""
    if window is None:
        return guide
    rows, columns = window.slices(guide.skin.shape[-1])
    return replace(
        guide,
        displacement=guide.displacement[:, rows, columns],
        **{name: cut(getattr(guide, name), window) for name in _MAPS},
    )
