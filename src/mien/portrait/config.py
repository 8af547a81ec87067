"""The hyperparameters of the animator, and the constraints between them."""

from dataclasses import dataclass
from typing import Literal

from mien.config import require_multiple
from mien.portrait.dense_motion import lift_levels
from mien.portrait.depth import DepthPooling
from mien.portrait.frame_decoder import Occlusion
from mien.portrait.motion_encoder import Pooling
from mien.presets import read_preset
from mien.types import Framing

VOLUME_STRIDE = 4  # the volume is a quarter of the encoded picture


@dataclass(frozen=True)
class AnimatorConfig:
    """Hyperparameters of the animator; the defaults are the preset `small`, in the order of the
    data's path.

    Letters in comments are the paper's. Ablations of its Table II: `use_appearance`,
    `deviation_layers: 0`, `use_attention`.
    """

    framing: Framing = "face"  # what portraits and clips show; half_body for gestures
    image_size: int = 256  # side of the frames that are drawn
    upscale: int = 1  # 2: encode at half the size, draw at the whole (preset base512)

    encoder_channels: tuple[int, int, int] = (8, 24, 64)  # at full, half, quarter size (C_0 last)
    volume_channels: int = 24  # C
    depth_layers: int = 4  # S_d
    depth_pooling: DepthPooling = "space"  # "space_and_depth" is the paper's literal formula
    volume_blocks: int = 1  # ResNet3D blocks after the depth weights
    appearance_dim: int = 256  # F_A
    appearance_channels: tuple[int, ...] = (32, 64, 128, 192)

    motion_input_size: int = 128
    motion_channels: tuple[int, ...] = (24, 80, 160, 256)
    motion_blocks: tuple[int, ...] = (1, 1, 2, 1)
    motion_width: int = 40  # channels of the map that is turned into tokens
    motion_backbone: str | None = None  # a timm model in place of the own ConvNeXt
    motion_pooling: Pooling = "attention"  # mien's own addition; "mean" is the paper's

    regions: int = 8  # lambda
    deviation_width: int = 96
    deviation_layers: int = 2
    deviation_heads: int = 4
    deviation_convolutions: int = 2  # n
    temporal_kernel: int = 1  # kernel of the 3-D convolution over frames; 1 needs no lookahead

    field_size: int = 32
    lift_channels: tuple[int, ...] = (128, 96, 64)  # from 8 x 8 up to field_size
    field_sees_volume: bool = True  # mien's own addition: F_id is an input of the displacement head
    max_displacement: float = 0.5
    compressed_channels: int = 2
    attention_channels: tuple[int, ...] = (48, 64, 64)
    attention_volume: bool = False  # convolve the attention in 3-D
    region_dropout: float = 0.0

    occlusion: Occlusion = "blend"
    activation_slope: float = 0.2  # beta
    decoder: Literal["none", "residual", "spade"] = "none"  # none: the warped picture is the frame
    decoder_channels: tuple[int, int, int] = (64, 32, 12)  # at quarter, half, full size
    decoder_blocks: int = 2
    warped_skips: bool = True  # mien's own addition
    guide: bool = True  # mien's own addition: two more regions, displaced by a face mesh

    use_appearance: bool = True  # False: w/o F_A
    use_attention: bool = True  # False: w/o attention map

    def __post_init__(self) -> None:
        require_multiple("image_size", self.image_size, "upscale x 4", self.upscale * VOLUME_STRIDE)
        if self.upscale not in (1, 2):
            raise ValueError(f"upscale {self.upscale} is neither 1 nor 2")
        if self.field_size > self.volume_size:
            raise ValueError(
                f"field_size {self.field_size} is larger than the volume's {self.volume_size}"
            )
        if len(self.lift_channels) != lift_levels(self.field_size):
            raise ValueError(
                f"lift_channels {self.lift_channels} has {len(self.lift_channels)} levels; "
                f"field_size {self.field_size} needs {lift_levels(self.field_size)}"
            )
        if self.temporal_kernel % 2 == 0:
            raise ValueError(f"temporal_kernel {self.temporal_kernel} is not odd")
        if self.warped_skips and self.decoder == "spade":
            raise ValueError("warped_skips needs decoder 'residual' or 'none', not 'spade'")
        if self.decoder == "none" and not self.warped_skips:
            raise ValueError("decoder 'none' needs warped_skips: the warped picture is the frame")
        if self.guide and (self.attention_volume or not (self.use_attention and self.warped_skips)):
            raise ValueError("guide needs use_attention and warped_skips, and attention_volume off")
        require_multiple(
            "deviation_width", self.deviation_width, "deviation_heads", self.deviation_heads
        )

    @classmethod
    def preset(cls, name: str) -> "AnimatorConfig":
        """The animator of a preset (`mien.presets`): tiny, small, base, base512 or paper."""
        return read_preset(cls, name, "stage1", "model.init_args.animator")

    @property
    def has_skips(self) -> bool:
        """Whether the decoder takes warped maps of the encoder."""
        return self.warped_skips and self.decoder != "none"

    @property
    def encoded_size(self) -> int:
        """Side of the picture that the encoder takes."""
        return self.image_size // self.upscale

    @property
    def volume_size(self) -> int:
        """Side of the feature volume."""
        return self.encoded_size // VOLUME_STRIDE

    @property
    def temporal_context(self) -> int:
        """Frames on each side of a frame that affect its rendering."""
        return self.deviation_convolutions * (self.temporal_kernel - 1) // 2
