"""What a user may change about generated motion. Axes: t frames, n motion numbers."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mien.errors import UserError
from mien.mesh.blinks import BLINKS


@dataclass(frozen=True)
class Controls:
    """How strongly a face speaks and a head moves (1: as generated), and how often it blinks.

    `expression_scale` scales lips and face around them, `pose_scale` the head's move and, with it,
    the implicit motion that hair and shoulders follow; 0 holds either still. `blink` is in blinks a
    minute.
    """

    expression_scale: float = 1.0
    pose_scale: float = 1.0
    blink: float = BLINKS

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < float("inf"):
                raise UserError(f"{name} {value:g} must be 0 or above")

    def apply(
        self,
        windows: Iterator[Float[Tensor, "1 _ n"]],
        at_rest: Float[Tensor, "1 n"],
        blocks: tuple[int, ...],
    ) -> Iterator[Float[Tensor, "1 _ n"]]:
        """Scale motion away from rest; `blocks` as SpeechToMotionConfig.motion_blocks says.

        Raises:
            UserError: motion without a mesh is to be scaled in one respect only.
        """
        if len(blocks) == 1 and self.expression_scale != self.pose_scale:
            raise UserError(
                "this speech-to-motion net makes no mesh, so expression and pose cannot be told "
                "apart: give both scales the same value"
            )
        scales = (self.pose_scale, self.expression_scale, self.pose_scale)[: len(blocks)]
        factors = torch.cat(
            [at_rest.new_full((size,), s) for size, s in zip(blocks, scales, strict=True)]
        )
        for motion in windows:
            yield at_rest[:, None] + (motion - at_rest[:, None]) * factors
