"""Loki: reference picture and maps of a driven face -> frames, as one net.

    reference (b 3 h w) - encode_reference -> ReferenceKeys, once
    maps (b t 7 s s)    - encode_condition -> features added to the first feature map, once
    noisy sample, timestep of every frame  - forward -> the prediction (velocity or noise)

Axes: b batch, t frames, c channels of a sample, h w space, s side of the maps, d channels of the
first feature map.
"""

import copy

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mien.loki.backbone import Backbone
from mien.loki.condition import CoefficientEncoder, ConditionEncoder
from mien.loki.config import LokiConfig
from mien.loki.injection import Injection, ReferenceKeys
from mien.loki.space import space_of


class Loki(nn.Module):
    """The whole system; `reference_backbone` exists where the reference net is a frozen copy."""

    def __init__(self, config: LokiConfig) -> None:
        super().__init__()
        self.config = config
        self.space, self.schedule = space_of(config), config.schedule()
        self.backbone = Backbone(config)
        by_map = config.condition == "map"
        self.condition = ConditionEncoder(config) if by_map else CoefficientEncoder(config)
        self.reference_backbone: Backbone | None = None
        if config.reference == "frozen":
            self.reference_backbone = copy.deepcopy(self.backbone).requires_grad_(False)

    def load_pretrained(self) -> None:
        """Start from a pretrained UNet, and its frozen copy from the same, if the config names one.

        Raises:
            UserError: it cannot be read, or is of other sizes.
        """
        if self.config.pretrained is None:
            return
        self.backbone.load_pretrained(self.config.pretrained)
        if self.reference_backbone is not None:
            self.reference_backbone.load_state_dict(self.backbone.state_dict())

    def encode(self, pictures: Float[Tensor, "b t 3 _ _"]) -> Float[Tensor, "b t c _ _"]:
        """Pictures in [-1, 1] to samples of the space that is denoised."""
        samples = self.space.encode(rearrange(pictures, "b t c h w -> (b t) c h w"))
        return rearrange(samples, "(b t) c h w -> b t c h w", b=len(pictures))

    def decode(self, samples: Float[Tensor, "b t c _ _"]) -> Float[Tensor, "b t 3 _ _"]:
        """Samples to pictures in [-1, 1]."""
        pictures = self.space.decode(rearrange(samples, "b t c h w -> (b t) c h w"))
        return rearrange(pictures, "(b t) c h w -> b t c h w", b=len(samples))

    def encode_condition(
        self, maps: Float[Tensor, "b t 7 s s"], coefficients: Float[Tensor, "b t k"]
    ) -> Float[Tensor, "b t d _ _"]:
        """Features of driven faces: of their maps, or of their coefficients (ablation)."""
        if isinstance(self.condition, ConditionEncoder):
            return self.condition(maps)
        return self.condition(coefficients)

    def encode_reference(
        self,
        picture: Float[Tensor, "b 3 h w"],
        maps: Float[Tensor, "b 7 s s"],
        coefficients: Float[Tensor, "b k"],
    ) -> ReferenceKeys:
        """Keys and values of reference pictures, whose own map enters if the config says so."""
        added = None
        if self.config.reference_map:
            added = self.encode_condition(maps[:, None], coefficients[:, None])[:, 0]
        sample = self.space.encode(picture)
        if self.reference_backbone is None:
            tokens = self.backbone.tokens(sample, added)
        else:
            with torch.no_grad():
                tokens = self.reference_backbone.tokens(sample, added)
        return self.backbone.keys_and_values(tokens)

    def forward(
        self,
        sample: Float[Tensor, "b t c h w"],
        timestep: Int[Tensor, "b t"],
        condition: Float[Tensor, "b t d _ _"] | None = None,
        reference: ReferenceKeys | None = None,
        has_reference: Bool[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "b t c h w"]:
        """The prediction of noisy samples, each frame at its own timestep.

        The reference may be of the first samples of the batch alone. `has_reference` says which of
        these use it (None: all); it lies on the CPU, so that no device is waited for.
        """
        if has_reference is not None:
            has_reference = None if has_reference.all() else has_reference.to(sample.device)
        injection = Injection(sample.shape[1], reference, has_reference)
        return self.backbone(sample, timestep, condition, injection)
