"""Embedding of the denoiser's five conditions, and condition dropout.

Paper: c = (F_ag, F_al, M[i-4 .. i-1], F_A), and beside them the source's own motion M^0.
Axes: b batch, t frames, n history frames, m motion, k space dimensions, a appearance, c condition.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mien.motion.space import MotionSpace
from mien.types import Conditioning


@dataclass(frozen=True)
class ConditionDropout:
    """Condition dropout in training: probabilities per sample.

    `audio` drops the audio alone, `everything` all five conditions, `history` the frames before.
    """

    audio: float = 0.1
    everything: float = 0.1
    history: float = 0.5


@dataclass(frozen=True)
class ConditionMask:
    """Which samples keep which conditions; `source` stands for F_A and M^0 together."""

    audio: Bool[Tensor, " b"]
    history: Bool[Tensor, " b"]
    source: Bool[Tensor, " b"]


@dataclass(frozen=True)
class Embedded:
    """Embedded conditions: a vector per frame, and the history frames as tokens.

    `frames` modulates the window's frames, `history_condition` the history tokens, `history` are
    those tokens.
    """

    frames: Float[Tensor, "b t c"]
    history_condition: Float[Tensor, "b n c"]
    history: Float[Tensor, "b n d"]


def join_embedded(parts: Sequence[Embedded]) -> Embedded:
    """One batch of several."""
    return Embedded(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Embedded)))


class ConditionEmbedding(nn.Module):
    """Embed the conditions; dropped ones are replaced by learned null embeddings."""

    def __init__(
        self,
        audio: int,
        space: int,
        appearance: int | None,
        source_motion: bool,
        condition: int,
        width: int,
    ):
        super().__init__()
        self.whole = nn.Linear(audio, condition)
        self.local = nn.Linear(audio, condition)
        self.null_whole = nn.Parameter(0.02 * torch.randn(condition))
        self.null_local = nn.Parameter(0.02 * torch.randn(condition))
        self.history_condition = nn.Parameter(0.02 * torch.randn(condition))
        self.history = nn.Linear(space, width)
        self.null_history = nn.Parameter(0.02 * torch.randn(width))
        self.appearance = None if appearance is None else _SourceEmbedding(appearance, condition)
        self.source_motion = nn.Linear(space, condition) if source_motion else None
        self.null_source = nn.Parameter(0.02 * torch.randn(condition))

    def forward(
        self, conditioning: Conditioning, mask: ConditionMask, space: MotionSpace
    ) -> Embedded:
        """Embed; the result does not depend on the value of a dropped condition."""
        whole = _or_null(mask.audio, self.whole(conditioning.audio.whole), self.null_whole)
        local = _or_null(mask.audio, self.local(conditioning.audio.local), self.null_local)
        static = whole + _or_null(mask.source, self._source(conditioning, space), self.null_source)

        coordinates = space.encode(conditioning.history, conditioning.source_motion)
        known = mask.history & conditioning.history_known
        history = _or_null(known, self.history(coordinates), self.null_history)
        past = (static[:, None] + self.history_condition).expand(-1, history.shape[1], -1)
        return Embedded(frames=static[:, None] + local, history_condition=past, history=history)

    def _source(self, conditioning: Conditioning, space: MotionSpace) -> Float[Tensor, "b c"]:
        """F_A and M^0 embedded and added, as far as the config has them (ablations)."""
        embedded = torch.zeros_like(self.null_source).expand(len(conditioning.appearance), -1)
        if self.appearance is not None:
            embedded = embedded + self.appearance(conditioning.appearance)
        if self.source_motion is not None:
            embedded = embedded + self.source_motion(space.place_source(conditioning.source_motion))
        return embedded


class _SourceEmbedding(nn.Sequential):
    """Embed F_A; it is normalised first, since its scale depends on the training of stage 1."""

    def __init__(self, appearance: int, condition: int):
        super().__init__(
            nn.LayerNorm(appearance, elementwise_affine=False), nn.Linear(appearance, condition)
        )


def all_conditions(conditioning: Conditioning) -> ConditionMask:
    """A mask that drops no condition (an unknown history is dropped regardless)."""
    yes = torch.ones_like(conditioning.history_known)
    return ConditionMask(audio=yes, history=yes, source=yes)


def without_audio(conditioning: Conditioning) -> ConditionMask:
    """A mask that drops the audio alone: the unconditional branch of classifier-free guidance."""
    yes = torch.ones_like(conditioning.history_known)
    return ConditionMask(audio=~yes, history=yes, source=yes)


def draw_condition_mask(
    like: Bool[Tensor, " b"], dropout: ConditionDropout, generator: torch.Generator
) -> ConditionMask:
    """Draw for each sample which conditions it keeps in training."""
    draws = torch.rand(3, len(like), generator=generator, device=generator.device).to(like.device)
    not_all_dropped = draws[0] >= dropout.everything
    return ConditionMask(
        audio=not_all_dropped & (draws[1] >= dropout.audio),
        history=not_all_dropped & (draws[2] >= dropout.history),
        source=not_all_dropped,
    )


def _or_null(keep: Bool[Tensor, " b"], value: Tensor, null: Tensor) -> Tensor:
    """`value` where `keep` is true, the learned null embedding elsewhere."""
    return torch.where(keep.view(-1, *[1] * (value.ndim - 1)), value, null.to(value.dtype))
