"""Key-value injection: the reference's hidden states become more tokens of every self-attention.

One pass of the reference records what enters each self-attention (after its norm); the passes that
draw append those tokens to their own, and the same to_k and to_v project both: there are no new
weights. Without a reference nothing is appended, so the net is the plain one; a reference of zeros
still appends its tokens, to which attention is paid.
Axes: b batch, t frames, n tokens of a frame, d channels of a stage.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor

ReferenceTokens = tuple[Tensor, ...]  # of each self-attention in the order of the pass: (b n d)


@dataclass(frozen=True)
class Injection:
    """What the self-attentions of one pass share.

    Args:
        frames: t; the batch of the pass is (b t).
        reference: tokens to append; None: nothing is.
        known: samples that have a reference; None: all. Tokens of the others are masked out.
        recorded: a list to which each self-attention appends its input; None: not recorded.
    """

    frames: int
    reference: ReferenceTokens | None = None
    known: Bool[Tensor, " b"] | None = None
    recorded: list[Tensor] | None = None


class InjectedSelfAttention:
    """A processor of diffusers' Attention: self-attention with injected tokens.

    Args:
        place: number of this self-attention in the order of the pass.
        across_frames: attend to the tokens of all frames of a window (3-D), or within each frame.
    """

    def __init__(self, place: int, across_frames: bool) -> None:
        self.place, self.across_frames = place, across_frames

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
        query, keys, values = attn.to_q(x), attn.to_k(x), attn.to_v(x)
        mask = None
        if injection.reference is not None:
            extra = injection.reference[self.place].to(x.dtype)
            copies = 1 if self.across_frames else frames
            keys, values = (
                torch.cat((own, repeat(project(extra), "b n d -> (b t) n d", t=copies)), dim=1)
                for own, project in ((keys, attn.to_k), (values, attn.to_v))
            )
            mask = _mask(injection.known, x.shape[1], extra.shape[1], copies)
        query, keys, values = (
            rearrange(part, "b n (heads c) -> b heads n c", heads=attn.heads)
            for part in (query, keys, values)
        )
        seen = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        out = attn.to_out[1](attn.to_out[0](rearrange(seen, "b heads n c -> b n (heads c)")))
        return rearrange(out, "b (t n) d -> (b t) n d", t=frames) if self.across_frames else out


def _mask(
    known: Bool[Tensor, " b"] | None, own: int, extra: int, copies: int
) -> Bool[Tensor, "bt 1 1 k"] | None:
    """Which keys are seen: own tokens always, the reference's where it is known."""
    if known is None or bool(known.all()):
        return None
    each = known.repeat_interleave(copies)
    seen = torch.cat(
        (torch.ones_like(each)[:, None].expand(-1, own), each[:, None].expand(-1, extra)), 1
    )
    return seen[:, None, None]
