"""The settings by which motion is sampled."""

from dataclasses import dataclass
from typing import Literal

from mien.presets import read_preset


@dataclass(frozen=True)
class SamplingConfig:
    """How motion is sampled.

    `steps`: denoising steps. `guidance`: scale of classifier-free guidance by audio (1: none).
    `crossfade`: frames over which windows are cross-faded (0: the paper's hard joins).
    `pose_smoothing`: standard deviation in frames of the Gaussian that smooths a mesh's head pose
    (0: none), since the net learns the jitter of the face tracker from its training data.
    """

    steps: int = 6
    guidance: float = 1.25
    sampler: Literal["multistep", "ddim", "euler"] = "multistep"
    crossfade: int = 12
    pose_smoothing: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")
        if self.crossfade < 0:
            raise ValueError(f"crossfade must be at least 0, not {self.crossfade}")
        if not 0 <= self.pose_smoothing < float("inf"):
            raise ValueError(f"pose_smoothing must be at least 0, not {self.pose_smoothing}")

    def __str__(self) -> str:
        return f"{self.sampler}, {self.steps} steps, guidance {self.guidance:g}"

    @classmethod
    def preset(cls, name: str) -> "SamplingConfig":
        """The sampling of a preset (`mien.presets`)."""
        return read_preset(cls, name, "stage2", "model.init_args.sampling")

    def crossfade_within(self, window: int, history: int) -> int:
        """Frames over which windows are cross-faded: at most a quarter of a window, and few enough
        that the history fits before them.
        """
        return min(self.crossfade, window // 4, window - history)
