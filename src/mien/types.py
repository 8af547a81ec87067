"""Data types passed between the parts of mien, with named axes; the test suite checks the shapes.

Axes: b batch, t video frames, l audio steps, s audio samples, f mel bins, c channels, z depth
layers, h w space, m motion dimensions, a appearance dimensions, d model width, r regions, n history
frames. Pictures are RGB in [-1, 1]; waveforms are mono in [-1, 1] at 16 kHz.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from jaxtyping import Bool, Float, Int
from torch import Tensor

SAMPLE_RATE = 16_000  # of every waveform, samples a second
FPS = 25  # of every video, frames a second

Framing = Literal["face", "half_body"]
"""What clips and portraits show: head and shoulders, or as much of the body below the head as is in
the picture, for gestures."""
FRAMINGS: tuple[Framing, ...] = get_args(Framing)

Transfer = Literal["relative", "absolute", "same_person"]
"""What of the driver the portrait takes: how it differs from the driver at rest (Loki: from its
usual head pose); that and the place of its head in the picture; or all of it, where both are one
person, filmed alike."""


@dataclass(frozen=True)
class Appearance:
    """Encoded source: all that rendering needs from the portrait's picture, computed once.

    `volume` is the paper's F_id, `vector` its F_A; `skips` are the encoder's earlier maps from
    coarse to fine (empty where warped skips are off), `picture` is the source itself at output
    size.
    """

    volume: Float[Tensor, "b c z h w"]
    vector: Float[Tensor, "b a"]
    skips: tuple[Float[Tensor, "b _ _ _"], ...]
    picture: Float[Tensor, "b 3 H W"]


@dataclass(frozen=True)
class PreparedField:
    """The source's part of the net that predicts displacements.

    `films` are scale and shift of each level by F_A (empty where F_A is off), `place` what F_id
    adds to the last convolution (None where it is no input), `at_rest` the result f(0) of no
    deviation, with regions, layers and x y as channels. `compressed` are the features that the
    region attention warps, and `attended` what they add to its first convolution (both None
    without attention).
    """

    films: tuple[Float[Tensor, "b _"], ...]
    place: Float[Tensor, "b d h w"] | None
    at_rest: Float[Tensor, "b _ h w"]
    compressed: Float[Tensor, "b c z h w"] | None
    attended: Float[Tensor, "b k *space"] | None


@dataclass(frozen=True)
class PreparedSource:
    """All that depends on the source alone, computed once for any number of its frames
    (`Animator.prepare_source`): its appearance, its own motion, and its part of the field.
    """

    appearance: Appearance
    motion: Float[Tensor, "b m"]
    field: PreparedField


@dataclass(frozen=True)
class MotionField:
    """Displacement of every feature, and the occlusion mask.

    `displacement` is in normalised picture coordinates (2 spans the picture), x before y;
    `mask` is the paper's d in [0, 1]; `regions` are the softmax weights, background first, those of
    a guide last. `fine` is the displacement of all depth layers at the picture's size, where a
    guide gives one.
    """

    displacement: Float[Tensor, "b z h w 2"]
    mask: Float[Tensor, "b z h w"]
    regions: Float[Tensor, "b r z h w"]
    fine: Float[Tensor, "b H W 2"] | None = None


@dataclass
class Guide:
    """Maps of a frame from two meshes of one face, its own and the source's.

    `displacement` (2 spans the picture) leads from each point of the frame to the source; it is
    that of the face's mesh and fades out around it. `skin` and `mouth` are 1 on the face and
    between the inner lips. `head` gives the displacement of a point (x y 1) moving with the head.
    `person` is the person mask of the *source*, 0 on the background (1 everywhere if unknown);
    `background` is a picture of the background, filled in where the person occludes it. `covered`
    is 1 where the moved head shows the person, `disoccluded` where the source does and the moved
    head does not. `found` is 0 where no mesh was found. `interior` is a picture of the mouth
    interior, RGB and alpha in [0, 1]; alpha is 0 everywhere where there is none.
    """

    displacement: Float[Tensor, "b h w 2"]
    skin: Float[Tensor, "b h w"]
    mouth: Float[Tensor, "b h w"]
    head: Float[Tensor, "b 2 3"]
    person: Float[Tensor, "b h w"]
    background: Float[Tensor, "b 3 h w"]
    covered: Float[Tensor, "b h w"]
    disoccluded: Float[Tensor, "b h w"]
    found: Float[Tensor, " b"]
    interior: Float[Tensor, "b 4 H W"]


@dataclass(frozen=True)
class AudioContext:
    """Encoded audio: `whole` from Mamba-g (the utterance), `local` from Mamba-l (each frame)."""

    whole: Float[Tensor, "b d"]
    local: Float[Tensor, "b t d"]


@dataclass(frozen=True)
class Conditioning:
    """The conditions of the motion denoiser (paper: c = (F_ag, F_al, M[i-4..i-1], F_A), and M^0
    in addition).

    `history_known` is False where there is no frame before (the start of an utterance) or where
    the history is dropped.
    """

    audio: AudioContext
    history: Float[Tensor, "b n m"]
    history_known: Bool[Tensor, " b"]
    appearance: Float[Tensor, "b a"]
    source_motion: Float[Tensor, "b m"]


@dataclass
class FramePair:
    """Stage 1 batch: two frames of one clip. `mouth` is a weight map of the mouth region of
    `driving`, in [0, 1].

    `motion_view_*` are the same two frames, recoloured for the motion encoder alone; that of
    `driving` is the middle one of n consecutive frames, as many as the animator's convolution over
    frames covers (`AnimatorConfig.temporal_context` on each side). Where `driving` is `source`
    itself, warped by augmentation, `displacement` is that warp; elsewhere it is estimated by
    optical flow. `displacement_confidence` is 1 where the warp is known, in [0, 1] where it is
    estimated, and 0 in validation. `pixel_weight` weights the pixels of `driving`: 0 where a
    generated clip does not show what a filmed one would. `guide` is given if the animator is
    guided.
    """

    source: Float[Tensor, "b 3 h w"]
    driving: Float[Tensor, "b 3 h w"]
    motion_view_source: Float[Tensor, "b 3 h w"]
    motion_view_driving: Float[Tensor, "b n 3 h w"]
    mouth: Float[Tensor, "b 1 h w"]
    displacement: Float[Tensor, "b h w 2"]
    displacement_confidence: Float[Tensor, "b h w 1"]
    pixel_weight: Float[Tensor, "b 1 h w"]
    guide: Guide | None = None


@dataclass
class SpeechClip:
    """Stage 2 batch: a window of motion with the sound of its whole clip.

    `features` are padded on the right to the longest clip, `feature_lengths` counts unpadded steps;
    `start` is the window's first video frame within the clip.
    """

    features: Float[Tensor, "b l f"]
    feature_lengths: Int[Tensor, " b"]
    start: Int[Tensor, " b"]
    motion: Float[Tensor, "b t m"]
    history: Float[Tensor, "b n m"]
    history_known: Bool[Tensor, " b"]
    appearance: Float[Tensor, "b a"]
    source_motion: Float[Tensor, "b m"]


@dataclass
class FaceWindow:
    """Batch of Loki: n consecutive frames of a clip, one more frame of it, and their faces as maps
    of the face model.

    A map has the channels x y z of the position (normalised device coordinates of the picture),
    x y z of the expression offset, and whether the face covers the pixel; it is 0 off the face.
    `coefficients` are the same faces as numbers, for the net without a map.
    """

    frames: Float[Tensor, "b n 3 h w"]
    reference: Float[Tensor, "b 3 h w"]
    maps: Float[Tensor, "b n 7 s s"]
    reference_map: Float[Tensor, "b 7 s s"]
    coefficients: Float[Tensor, "b n k"]
    reference_coefficients: Float[Tensor, "b k"]
