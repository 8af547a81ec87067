"""The backbone: diffusers' UNet2DConditionModel without text, over the frames of a window.

Its cross-attention to text is taken out; its self-attention takes injected tokens and, where the
channels of a stage are at least twice those of the outermost one, sees all frames of the window.
Residual blocks work frame by frame, each with the timestep of its frame.
Axes: b batch, t frames, c channels of a sample, d channels of the first feature map, h w space.
"""

from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from mien.errors import UserError, first_line
from mien.loki.config import LokiConfig
from mien.loki.injection import (
    InjectedSelfAttention,
    Injection,
    ReferenceKeys,
    ReferenceTokens,
)

_TEXT = ".attn2.", ".norm2."  # keys of a transformer block that only text needs
_ACROSS = 2  # channel multiplier from which self-attention sees all frames


class FirstConvolution(nn.Module):
    """The UNet's first convolution, plus features that are added to its output.

    The UNet takes one input, so that both come joined along the channels: `sample` first.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, joined: Float[Tensor, "n cd h w"]) -> Float[Tensor, "n d h w"]:
        """The first feature map."""
        sample = joined[:, : self.conv.in_channels]
        added = joined[:, self.conv.in_channels :]
        features = self.conv(sample)
        return features + added.to(features.dtype) if added.shape[1] else features


class Backbone(nn.Module):
    """A UNet over windows of frames."""

    def __init__(self, config: LokiConfig) -> None:
        super().__init__()
        self.unet = _unet(config)
        blocks = [m for m in self.unet.modules() if type(m).__name__ == "BasicTransformerBlock"]
        for block in blocks:
            block.attn2 = block.norm2 = None
        self.unet.conv_in = FirstConvolution(self.unet.conv_in)
        # Recorded in the order of the pass: down, middle, up.
        order = ("down_blocks", "mid_block", "up_blocks")
        names = sorted(self.unet.attn_processors, key=lambda name: order.index(name.split(".")[0]))
        attentions = dict(self.unet.named_modules())
        width = config.channels[0]
        self.unet.set_attn_processor(
            {
                name: InjectedSelfAttention(
                    index,
                    attentions[name.removesuffix(".processor")].query_dim >= _ACROSS * width,
                )
                for index, name in enumerate(names)
            }
        )

    def forward(
        self,
        sample: Float[Tensor, "b t c h w"],
        timestep: Int[Tensor, "b t"],
        added: Float[Tensor, "b t d _ _"] | None,
        injection: Injection,
    ) -> Float[Tensor, "b t c h w"]:
        """The prediction for every frame; `added` is added to the first feature map."""
        joined = sample
        if added is not None:
            joined = torch.cat((sample, added.expand(-1, -1, -1, *sample.shape[3:])), dim=2)
        drawn = self.unet(
            rearrange(joined, "b t c h w -> (b t) c h w"),
            rearrange(timestep, "b t -> (b t)"),
            None,
            cross_attention_kwargs={"injection": injection},
            return_dict=False,
        )[0]
        return rearrange(drawn, "(b t) c h w -> b t c h w", b=len(sample))

    def tokens(
        self, sample: Float[Tensor, "b c h w"], added: Float[Tensor, "b d _ _"] | None
    ) -> ReferenceTokens:
        """What enters every self-attention when a clean picture passes once, at timestep 0."""
        recorded: list[Tensor] = []
        timestep = torch.zeros(len(sample), 1, dtype=torch.long, device=sample.device)
        over = None if added is None else added[:, None]
        self(sample[:, None], timestep, over, Injection(1, recorded=recorded))
        return tuple(recorded)

    def keys_and_values(self, tokens: ReferenceTokens) -> ReferenceKeys:
        """Tokens of a reference projected by each self-attention's keys and values."""
        modules = dict(self.unet.named_modules())
        attentions = {
            processor.index: modules[name.removesuffix(".processor")]
            for name, processor in self.unet.attn_processors.items()
        }
        return tuple(
            (attentions[index].to_k(part), attentions[index].to_v(part))
            for index, part in enumerate(tokens)
        )

    def load_pretrained(self, name: str) -> None:
        """Start from the weights of a UNet, of its own folder, one with a folder `unet`, or a hub
        name; its weights for text are left out.

        Raises:
            UserError: it cannot be read, or is of other sizes.
        """
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        read = from_pretrained(UNet2DConditionModel, name, "unet").state_dict()
        state = {
            key.replace("conv_in.", "conv_in.conv."): value
            for key, value in read.items()
            if not any(part in key and "transformer_blocks" in key for part in _TEXT)
        }
        try:
            self.unet.load_state_dict(state)
        except RuntimeError as error:
            reason = " ".join(str(error).split("\n\t", 1)[-1].split())[:200]
            raise UserError(
                f"pretrained {name} is not the UNet of this config: {reason}"
            ) from error


def from_pretrained(kind: Any, name: str, subfolder: str) -> nn.Module:
    """A net of diffusers from its own folder, from one that has it as a subfolder, or by hub name.

    Raises:
        UserError: it cannot be read.
    """
    folder = Path(name).expanduser()
    inner = not folder.is_dir() or (folder / subfolder).is_dir()
    try:
        return kind.from_pretrained(name, subfolder=subfolder if inner else None)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot read the {subfolder} of {name}: {first_line(error)}") from error


def _unet(config: LokiConfig) -> Any:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    stages = config.stages
    # diffusers means the number of heads by this name, and types it as of one stage.
    heads: Any = tuple(width // config.head_dim for width in config.channels)
    return UNet2DConditionModel(
        sample_size=config.feature_size,
        in_channels=config.sample_channels,
        out_channels=config.sample_channels,
        # As Stable Diffusion: the innermost stage has no transformer, the middle has one.
        down_block_types=("CrossAttnDownBlock2D",) * (stages - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (stages - 1),
        block_out_channels=config.channels,
        layers_per_block=config.layers,
        cross_attention_dim=1,  # of text, which is taken out
        attention_head_dim=heads,
        use_linear_projection=True,
    )
