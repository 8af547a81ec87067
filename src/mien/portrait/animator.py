"""The animator: one portrait, any motion -> frames (the paper's stage 1, its base model).

Axes: b batch, t video frames, c channels, z depth layers, h w space, m motion, r regions, a
appearance.
"""

from dataclasses import dataclass, replace

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mien.nn.conv import channels_last
from mien.ops.warp import repeat_frames
from mien.portrait.appearance import AppearanceEncoder, AppearanceVector, fit_to
from mien.portrait.config import AnimatorConfig
from mien.portrait.dense_motion import DenseMotionDecoder, DeviationDecoder
from mien.portrait.deviation import DeviationTransformer
from mien.portrait.frame_decoder import (
    FrameDecoder,
    ResidualDecoder,
    flow_channels,
    mask_at,
    occlude,
    warp_by_field,
)
from mien.portrait.guide import GuideAttention
from mien.portrait.motion_encoder import MotionEncoder
from mien.portrait.region_attention import RegionAttention
from mien.portrait.spade_decoder import SpadeDecoder
from mien.portrait.warped_picture import WarpedPicture
from mien.portrait.window import Window
from mien.types import Appearance, Guide, MotionField, PreparedSource


@dataclass(frozen=True)
class Rendering:
    """Rendered frames (batch axis: b t) and intermediate results, for losses and logs; `moved`, the
    warped volume, is None without a decoder, which alone reads it.
    """

    frames: Float[Tensor, "bt 3 H W"]
    field: MotionField
    moved: Float[Tensor, "bt c z h w"] | None


class Animator(nn.Module):
    """Portrait and motion -> frames.

    `render` is the paper's Figure 1, right half; driving = source gives the identity field, and
    then the frame equals `reconstruct`.
    """

    def __init__(self, config: AnimatorConfig) -> None:
        super().__init__()
        self.config = c = config
        self.appearance_encoder = AppearanceEncoder(
            c.encoder_channels, c.volume_channels, c.depth_layers, c.volume_blocks, c.depth_pooling
        )
        self.appearance_vector = AppearanceVector(c.appearance_channels, c.appearance_dim)
        self.motion_encoder = MotionEncoder(
            c.motion_input_size,
            c.motion_channels,
            c.motion_blocks,
            c.motion_width,
            c.motion_backbone,
            c.motion_pooling,
        )
        self.deviation_transformer = DeviationTransformer(
            c.regions,
            c.deviation_width,
            c.deviation_layers,
            c.deviation_heads,
            c.deviation_convolutions,
            c.temporal_kernel,
        )
        self.dense_motion = DenseMotionDecoder(
            DeviationDecoder(
                c.regions,
                c.depth_layers,
                c.volume_channels,
                c.lift_channels,
                c.appearance_dim if c.use_appearance else None,
                c.field_sees_volume,
            ),
            _attention(c) if c.use_attention else None,
            c.field_size,
            c.max_displacement,
            GuideAttention(c.compressed_channels, c.depth_layers, c.attention_channels[0])
            if c.guide
            else None,
        )
        self.frame_decoder = _frame_decoder(c)

    def guide_state(self) -> dict[str, Tensor]:
        """The guide's part of the state dict, which weights trained without a guide lack."""
        guides = "dense_motion.guide.", "frame_decoder.face.", "frame_decoder.interior_confidence"
        return {k: v for k, v in self.state_dict().items() if k.startswith(guides)}

    def encode_appearance(self, source: Float[Tensor, "b 3 H W"]) -> Appearance:
        """All that rendering needs from the portrait; call once per source."""
        picture = fit_to(source, self.config.image_size)
        encoded = fit_to(picture, self.config.encoded_size)
        volume, (half, full) = self.appearance_encoder(encoded)
        skips = (half, full) if self.config.has_skips else ()
        return Appearance(volume, self.encode_identity(source), skips, picture)

    def encode_identity(self, source: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b a"]:
        """F_A alone, from the motion encoder's input size, so independent of the output size."""
        return self.appearance_vector(fit_to(source, self.config.motion_input_size))

    def encode_motion(self, image: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b m"]:
        """M_D: the motion (expression and pose) in each picture."""
        return self.motion_encoder(image)

    def prepare_source(
        self, appearance: Appearance, source_motion: Float[Tensor, "b m"]
    ) -> PreparedSource:
        """All that depends on the source alone: once for any number of frames."""
        field = self.dense_motion.prepare(appearance)
        laid_out = replace(
            appearance,
            volume=channels_last(appearance.volume),
            skips=tuple(channels_last(skip) for skip in appearance.skips),
        )  # as sampling reads them
        return PreparedSource(laid_out, source_motion, field)

    def draw(
        self,
        appearance: Appearance,
        source_motion: Float[Tensor, "b m"],
        motion: Float[Tensor, "b t m"],
        guide: Guide | None = None,
        drawn: slice = slice(None),
    ) -> Rendering:
        """Render the source with every frame's motion, with the intermediate results for losses.

        Of the t frames only those of `drawn` are rendered; the others are temporal context. The
        batch axis of `guide` is (b t) over the rendered frames; a net without a guide ignores it.
        """
        return self._draw(self.prepare_source(appearance, source_motion), motion, guide, drawn)

    def _draw(
        self, source: PreparedSource, motion: Tensor, guide: Guide | None, drawn: slice
    ) -> Rendering:
        guide = guide if self.config.guide else None
        deviations = self.deviation_transformer(source.motion, motion)[:, drawn]
        field = self.dense_motion(source.field, deviations, guide)

        appearance = repeat_appearance(source.appearance, deviations.shape[1])
        return self.decode(appearance, field, guide)

    def decode(
        self,
        appearance: Appearance,
        field: MotionField,
        guide: Guide | None = None,
        window: Window | None = None,
        decoder: FrameDecoder | WarpedPicture | None = None,
    ) -> Rendering:
        """Draw the frames of a known field, or a window of them; `appearance` is repeated to its
        batch. Another `decoder` can stand for the animator's own.
        """
        draw = decoder or self.frame_decoder
        if isinstance(draw, WarpedPicture):
            return Rendering(draw(appearance.picture, field, guide, window), field, None)
        moved, mask = warp_by_field(appearance.volume, field)
        features = occlude(
            moved, appearance.volume, mask, self.config.occlusion, self.config.activation_slope
        )
        return Rendering(draw(features, appearance, field, mask, guide, window), field, moved)

    def render(
        self,
        appearance: Appearance,
        source_motion: Float[Tensor, "b m"],
        motion: Float[Tensor, "b t m"],
        guide: Guide | None = None,
        drawn: slice = slice(None),
    ) -> Float[Tensor, "b _ 3 H W"]:
        """Frames in [-1, 1]; `guide` and `drawn` as `draw` takes them."""
        source = self.prepare_source(appearance, source_motion)
        return self.render_prepared(source, motion, guide, drawn)

    def render_prepared(
        self,
        source: PreparedSource,
        motion: Float[Tensor, "b t m"],
        guide: Guide | None = None,
        drawn: slice = slice(None),
    ) -> Float[Tensor, "b _ 3 H W"]:
        """The same for a source that is prepared already."""
        frames = self._draw(source, motion, guide, drawn).frames
        return rearrange(frames, "(b t) c h w -> b t c h w", b=len(motion))

    def reconstruct(self, appearance: Appearance) -> Float[Tensor, "b 3 H W"]:
        """Render the source without motion: nothing is warped, and no motion is an input."""
        if isinstance(self.frame_decoder, WarpedPicture):
            return appearance.picture
        field, _ = self.dense_motion.still(self.dense_motion.prepare(appearance))
        mask = mask_at(field.mask, appearance.volume.shape[-1])
        features = occlude(
            appearance.volume,
            appearance.volume,
            mask,
            self.config.occlusion,
            self.config.activation_slope,
        )
        return self.frame_decoder(features, appearance, field, mask)

    def forward(
        self, source: Float[Tensor, "b 3 H W"], driving: Float[Tensor, "b t 3 H W"]
    ) -> Float[Tensor, "b t 3 H W"]:
        """Video-driven: the source with the motion of the driving frames."""
        motion = self.encode_motion(driving.flatten(0, 1))
        motion = rearrange(motion, "(b t) m -> b t m", t=driving.shape[1])
        return self.render(self.encode_appearance(source), self.encode_motion(source), motion)


def _attention(c: AnimatorConfig) -> RegionAttention:
    return RegionAttention(
        c.regions,
        c.depth_layers,
        c.volume_channels,
        c.compressed_channels,
        c.attention_channels,
        c.attention_volume,
        c.region_dropout,
    )


def _frame_decoder(c: AnimatorConfig) -> FrameDecoder | WarpedPicture:
    if c.decoder == "none":
        return WarpedPicture()
    return FrameDecoder(_decoder_body(c), c.warped_skips, c.upscale, c.guide)


def _decoder_body(c: AnimatorConfig) -> SpadeDecoder | ResidualDecoder:
    channels_in = c.volume_channels * c.depth_layers
    if c.decoder == "spade":
        return SpadeDecoder(channels_in, c.decoder_channels, c.decoder_blocks)
    if not c.warped_skips:
        return ResidualDecoder(channels_in, c.decoder_channels, c.decoder_blocks, (0, 0))
    skips = (c.encoder_channels[1], c.encoder_channels[0])
    channels_in += flow_channels(c.depth_layers)
    return ResidualDecoder(channels_in, c.decoder_channels, c.decoder_blocks, skips)


def repeat_appearance(appearance: Appearance, frames: int) -> Appearance:
    """A source's appearance for each of its frames."""
    if frames == 1:
        return appearance
    return replace(
        appearance,
        volume=repeat_frames(appearance.volume, frames),
        vector=repeat_frames(appearance.vector, frames),
        skips=tuple(repeat_frames(skip, frames) for skip in appearance.skips),
        picture=repeat_frames(appearance.picture, frames),
    )
