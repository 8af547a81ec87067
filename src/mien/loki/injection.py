"""Identity by key-value injection: a reference enters the generator's self-attention.

The reference picture passes once through a net of the same shape at timestep 0. What enters each
of its self-attentions is projected by the generator's own keys and values, once and not at every
step, and appended to those of the generator's own tokens: no new weights, and no text. Without a
reference the net is the plain one; a reference of zeros still is one, to whose keys it attends.
Axes: b batch, t frames, n tokens of a frame, d channels of a stage, k all tokens attended to.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor

ReferenceTokens = tuple[Tensor, ...]  # of each self-attention in the order of the pass: (b n d)
ReferenceKeys = tuple[tuple[Tensor, Tensor], ...]  # their keys and values, each (b n d)


@dataclass(frozen=True)
class Injection:
    """What the self-attentions of one pass share.

    Args:
        frames: t; the batch of the pass is (b t).
        reference: keys and values to append; None: nothing is. If they are of fewer samples than
            the batch has, they belong to its first ones, and the others have no reference.
        has_reference: which of the samples with keys attend to them; None: all do.
        recorded: a list to which each self-attention appends its input; None: not recorded.
    """

    frames: int
    reference: ReferenceKeys | None = None
    has_reference: Bool[Tensor, " b"] | None = None
    recorded: list[Tensor] | None = None


class InjectedSelfAttention:
    """A processor of diffusers' Attention: self-attention with injected keys and values.

    Args:
        index: of this self-attention in the order of the pass.
        across_frames: attend to the tokens of all frames of a window (3-D), or within each frame.
    """

    def __init__(self, index: int, across_frames: bool) -> None:
        self.index, self.across_frames = index, across_frames

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "bt n d"],
        encoder_hidden_states: None = None,
        attention_mask: None = None,
        injection: Injection = Injection(1),  # noqa: B008 (frozen)
    ) -> Float[Tensor, "bt n d"]:
        """Attend; diffusers' names of the arguments."""
        if injection.recorded is not None:
            injection.recorded.append(hidden_states)
        frames = injection.frames
        x = hidden_states
        if self.across_frames:
            x = rearrange(x, "(b t) n d -> b (t n) d", t=frames)
        own = attn.to_q(x), attn.to_k(x), attn.to_v(x)
        if injection.reference is None:
            attended = _attend(*own, attn.heads)
        else:
            copies = 1 if self.across_frames else frames
            attended = self._attend_to_reference(own, injection, copies, attn.heads)
        out = attn.to_out[1](attn.to_out[0](attended))
        return rearrange(out, "b (t n) d -> (b t) n d", t=frames) if self.across_frames else out

    def _attend_to_reference(
        self, own: tuple[Tensor, Tensor, Tensor], injection: Injection, copies: int, heads: int
    ) -> Float[Tensor, "rows n d"]:
        """The first rows with the reference's keys and values, the others without."""
        assert injection.reference is not None
        keys, values = (
            repeat(part.to(own[0].dtype), "b n d -> (b t) n d", t=copies)
            for part in injection.reference[self.index]
        )
        count = len(keys)
        query, own_keys, own_values = (part[:count] for part in own)
        mask = _mask(injection.has_reference, own_keys.shape[1], keys.shape[1], copies)
        keys, values = torch.cat((own_keys, keys), dim=1), torch.cat((own_values, values), dim=1)
        attended = _attend(query, keys, values, heads, mask)
        if count == len(own[0]):
            return attended
        query, keys, values = (part[count:] for part in own)
        return torch.cat((attended, _attend(query, keys, values, heads)))


def _attend(
    query: Float[Tensor, "b n d"],
    keys: Float[Tensor, "b k d"],
    values: Float[Tensor, "b k d"],
    heads: int,
    mask: Bool[Tensor, "b 1 1 k"] | None = None,
) -> Float[Tensor, "b n d"]:
    """Attention of several heads."""
    parts = (
        rearrange(p, "b n (heads c) -> b heads n c", heads=heads) for p in (query, keys, values)
    )
    attended = F.scaled_dot_product_attention(*parts, attn_mask=mask)
    return rearrange(attended, "b heads n c -> b n (heads c)")


def _mask(
    has_reference: Bool[Tensor, " b"] | None, own: int, extra: int, copies: int
) -> Bool[Tensor, "bt 1 1 k"] | None:
    """Which keys are attended to: own ones always, the reference's by samples that have it."""
    if has_reference is None:
        return None
    each = has_reference.repeat_interleave(copies)
    attended = torch.cat(
        (torch.ones_like(each)[:, None].expand(-1, own), each[:, None].expand(-1, extra)), 1
    )
    return attended[:, None, None]
