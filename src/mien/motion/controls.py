"""User controls of generated motion. Axes: t frames, n motion dimensions."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mien.config import refuse_negative
from mien.errors import UserError
from mien.mesh.blinks import BLINKS


@dataclass(frozen=True)
class Controls:
    """Scales of expression and head pose (1: as generated), and the blink rate.

    `expression_scale` scales the lips and the face around them, `pose_scale` the head pose and the
    implicit motion that hair and shoulders follow; 0 holds either still. `blink` is in blinks per
    minute.
    """

    expression_scale: float = 1.0
    pose_scale: float = 1.0
    blink: float = BLINKS

    def __post_init__(self) -> None:
        refuse_negative(**vars(self))

    def apply(
        self,
        windows: Iterator[Float[Tensor, "1 _ n"]],
        at_rest: Float[Tensor, "1 n"],
        blocks: tuple[int, ...],
    ) -> Iterator[Float[Tensor, "1 _ n"]]:
        """Scale motion relative to rest; `blocks` as in SpeechToMotionConfig.motion_blocks.

        Raises:
            UserError: the two scales differ for motion without a mesh.
        """
        if len(blocks) == 1 and self.expression_scale != self.pose_scale:
            raise UserError(
                "this speech-to-motion net generates no mesh motion, so expression and pose cannot "
                "be scaled separately: give both scales the same value"
            )
        scales = (self.pose_scale, self.expression_scale, self.pose_scale)[: len(blocks)]
        factors = torch.cat(
            [at_rest.new_full((size,), s) for size, s in zip(blocks, scales, strict=True)]
        )
        for motion in windows:
            yield at_rest[:, None] + (motion - at_rest[:, None]) * factors
