"""The hyperparameters of Loki.

Read in the paper's abstract: a face model's coefficients, rasterised, condition a diffusion
backbone directly, and the identity enters by key-value injection from the backbone's own features.
Read in the authors' repository: the sizes of preset `sd21`, the noise schedule and its shift, the
three arms of the ablation. Ours: `small` (pixels in patches, trained from scratch, which predicts
the clean picture), the velocity form of the other presets, positions on the neutral face, and the
reference's own map.
"""

from dataclasses import dataclass
from typing import Literal

from mien.config import require_multiple
from mien.diffusion.discrete import DiscreteSchedule, scaled_linear_betas, zero_terminal_snr
from mien.presets import read_preset

LATENT_FACTOR = 8  # pixels of a latent's side: AutoencoderKL as Stable Diffusion uses it


@dataclass(frozen=True)
class LokiConfig:
    """Hyperparameters of Loki; the defaults are the preset `small`, in the order of loki.yaml."""

    image_size: int = 64
    window: int = 4  # frames that are denoised together (T)
    space: Literal["pixels", "latent"] = "pixels"
    patch: int = 4  # pixels: side of the squares that are folded into channels
    autoencoder: str | None = None  # latent: folder or hub name of an AutoencoderKL
    latent_channels: int = 4
    # the backbone: a UNet of diffusers without text
    pretrained: str | None = None  # folder or hub name of the UNet that training starts from
    channels: tuple[int, ...] = (64, 128, 192)
    layers: int = 1  # residual blocks (and transformers) of a stage, one more on the way up
    head_dim: int = 32
    # the identity: one pass of the reference at timestep 0
    reference: Literal["shared", "frozen"] = "shared"  # the same weights, or a frozen copy
    reference_map: bool = True  # ours: that pass sees the reference's own map
    # the condition
    condition: Literal["map", "coefficients"] = "map"  # coefficients: by an MLP (ablation)
    # neutral: which point of the face it is (ours); projected: of the posed mesh in the picture
    # (the authors); None: without (ablation)
    positions: Literal["projected", "neutral"] | None = "neutral"
    offsets: bool = True  # False: without the expression offsets (ablation)
    octaves: int = 7
    coefficient_dims: int = 63  # expression axes, rotation, place and gaze (condition coefficients)
    # each further one halves the map, which is drawn at the size that ends at the feature map's
    encoder_channels: tuple[int, ...] = (24, 48, 64)
    # the diffusion
    # What is predicted; noise: as the authors'. In pixels x0 was chosen over v by eye, on preview
    # strips of two runs: v's still had visible noise where x0's had none. No metric was compared.
    form: Literal["v", "x0", "noise"] = "x0"
    timesteps: int = 1000
    zero_terminal: bool = True  # the last timestep is pure noise
    shift: float = 1.0  # factor of the signal-to-noise ratio: large pictures need more noise

    def __post_init__(self) -> None:
        for name in ("window", "patch", "layers", "head_dim", "octaves", "timesteps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be at least 1")
        require_multiple("image_size", self.image_size, "the feature map's pixel", self.factor)
        require_multiple("feature size", self.feature_size, "the UNet's", 2 ** (self.stages - 1))
        for width in self.channels:
            require_multiple("channels", width, "head_dim", self.head_dim)
        if not self.encoder_channels or self.map_size > self.image_size:
            raise ValueError(
                f"encoder_channels {self.encoder_channels} must be 1 to "
                f"{int.bit_length(self.factor)}: each further one halves the map down to "
                f"{self.feature_size}, and a map must not be larger than the picture "
                f"({self.image_size})"
            )
        if self.condition == "map" and not self.map_channels:
            raise ValueError("the map has neither positions nor offsets: switch one of them on")
        if self.form == "noise" and self.zero_terminal:
            raise ValueError(
                "form noise says nothing of the picture at the pure noise of zero_terminal true: "
                "set zero_terminal false, or form v"
            )
        if self.reference == "frozen" and self.reference_map:
            raise ValueError("a frozen reference net has not learned maps: set reference_map false")
        if (self.autoencoder is None) != (self.space == "pixels"):
            raise ValueError(
                f"autoencoder {self.autoencoder} does not fit space {self.space}: "
                "latent needs one, pixels none"
            )

    @property
    def factor(self) -> int:
        """Pixels of the picture to one of the first feature map, along a side."""
        return self.patch if self.space == "pixels" else LATENT_FACTOR

    @property
    def feature_size(self) -> int:
        """Side of the first feature map."""
        return self.image_size // self.factor

    @property
    def map_size(self) -> int:
        """Side of the condition maps: the picture's, or smaller where patches are large."""
        return self.feature_size * 2 ** (len(self.encoder_channels) - 1)

    @property
    def stages(self) -> int:
        """Sizes of feature maps in the UNet."""
        return len(self.channels)

    @property
    def sample_channels(self) -> int:
        """Channels of what is denoised."""
        return 3 * self.patch**2 if self.space == "pixels" else self.latent_channels

    @property
    def drawn_positions(self) -> Literal["projected", "neutral"]:
        """What the maps' position channels hold; a net without positions does not read them."""
        return self.positions or "projected"

    @property
    def map_channels(self) -> int:
        """Channels of the encoded condition map: 45 with everything."""
        return (2 * 3 * self.octaves if self.positions else 0) + (3 if self.offsets else 0)

    def schedule(self) -> DiscreteSchedule:
        """The noise schedule of training: Stable Diffusion's, with pure noise at its end; `shift`
        multiplies alpha² over sigma² (arXiv 2301.11093, section 3.1).
        """
        betas = scaled_linear_betas(self.timesteps)
        schedule = DiscreteSchedule.from_betas(
            zero_terminal_snr(betas) if self.zero_terminal else betas
        )
        signal = self.shift * schedule.alphas.square()
        return DiscreteSchedule((signal / (signal + 1 - schedule.alphas.square())).sqrt())

    @classmethod
    def preset(cls, name: str) -> "LokiConfig":
        """The hyperparameters of a preset: tiny, small, small128, latent or sd21."""
        return read_preset(cls, name, "loki", "model.init_args.loki")
