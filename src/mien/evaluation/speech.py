"""A clip's own person says the clip's sound, and the drawn lips stand beside the real ones.

The portrait is the clip's own frame at rest; the sound goes the way of `mien infer`. By how much a
clip's sound lags its lips is given, never searched: a search flatters. Rivals: the real lips, the
portrait held still, and the same portrait saying the next clip's sound (chance).
Axes: t video frames, h w space, m motion, s audio samples, n sounds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mien.audio.features import FPS, frame_count
from mien.audio.voice_activity import frame_loudness
from mien.data.datasets import ClipCache
from mien.data.manifest import ClipRecord
from mien.data.meshes import face_mesh
from mien.devices import FULL, autocast
from mien.errors import UserError
from mien.evaluation.clips import load_clip_sound, track_clip, track_frames
from mien.evaluation.comparison import Comparison, Task, TrackedClip
from mien.evaluation.phonemes import Phonemes
from mien.media import Frames, to_bytes
from mien.motion.controls import Controls
from mien.motion.finishing import finish
from mien.motion.rollout import SamplingConfig, joins, rollout
from mien.motion.speech_to_motion import SpeechToMotion
from mien.pipeline import guides_for, hear, resting
from mien.portrait.animator import Animator
from mien.portrait.streaming import render_stream

REST_WITHIN = FPS  # frames from the start among which the portrait is chosen
MEANING = """Every clip's person says the clip's sound: `drawn`. Its rivals: `real` is the clip
itself, `copied` its portrait held still, `other sound` the same portrait saying the next clip's
sound, which is chance."""


@dataclass(frozen=True)
class Said:
    """What the nets made of a portrait and a sound: frames, in which of them somebody speaks, the
    motion that they were drawn from, and the frames in which its windows join.
    """

    frames: Frames
    speaking: Float[np.ndarray, " t"]
    motion: Float[Tensor, "1 t m"]
    joins: tuple[int, ...]


@dataclass(frozen=True)
class Sound:
    """A clip's sound: how loud it is under each frame, and the frames in which a p, b or m is
    heard, where that is known.
    """

    waveform: Float[Tensor, " s"]
    loudness: Float[Tensor, " t"]
    closures: Int[np.ndarray, " n"] | None


@dataclass(frozen=True)
class Spoken:
    """A clip, and what was drawn from its sound beside its rivals, where they overlap."""

    record: ClipRecord
    rows: dict[str, Comparison]


@torch.inference_mode()
def say(
    animator: Animator,
    speech: SpeechToMotion,
    portrait: Float[Tensor, "1 3 h w"],
    sound: Float[Tensor, " s"],
    seed: int,
    precision: str = FULL,
) -> Said:
    """Let the portrait say the sound, as `mien infer` does, on the nets' device."""
    device = next(animator.parameters()).device
    portrait, generator = portrait.to(device), torch.Generator().manual_seed(seed)
    sampling = SamplingConfig()
    with autocast(device, precision):
        context, gate = hear(speech, sound)
        appearance = animator.encode_appearance(portrait)
        own = animator.encode_motion(portrait).float()
        at_rest = resting(speech, own)
        windows = rollout(speech, context, appearance.vector, at_rest, sampling, generator)
        finished = finish(windows, gate, at_rest, speech.config, Controls(), seed)
        motion = torch.cat(list(finished), dim=1).float()
        guide_of = guides_for(portrait, animator, speech)
        drawn = render_stream(animator, appearance, own, iter([motion]), guide_of)
        frames = np.concatenate([to_bytes(part[0]) for part in drawn])
    seams = tuple(joins(motion.shape[1], speech.config, sampling))
    return Said(frames, gate.cpu().numpy(), motion[..., :-1], seams)


@dataclass(frozen=True)
class Speaking:
    """Both nets, the recogniser of sounds where there is one, the seed of the motion, and in which
    precision nets compute.
    """

    animator: Animator
    speech: SpeechToMotion
    phonemes: Phonemes | None = None
    seed: int = 0
    precision: str = FULL

    def hear(self, waveform: Float[Tensor, " s"]) -> Sound:
        """What metrics need of a sound."""
        loudness = frame_loudness(waveform, frame_count(len(waveform)))
        closures = None if self.phonemes is None else self.phonemes.closures(waveform)
        return Sound(waveform, loudness, closures)

    def compare(
        self,
        record: ClipRecord,
        real: TrackedClip,
        sound: Float[Tensor, " s"],
        other: Float[Tensor, " s"] | None,
        lag: int,
    ) -> Spoken:
        """Draw a clip from its sound, which lags its lips by so many frames; `other` is the sound
        of chance.
        """
        rest = real.rest(REST_WITHIN)
        portrait = real.part(rest, rest + 1)
        heard = self.hear(sound)
        said = self._say(portrait, sound)
        drawn = aligned(said, said.speaking, heard, real, portrait, lag, record.path)
        still = portrait.held(0, len(drawn.reference))
        rows = {
            "drawn": drawn,
            "real": replace(drawn, clip=drawn.reference, motion=None),
            "copied": replace(drawn, clip=still, motion=None),
        }
        if other is not None:
            wrong = self._say(portrait, other)
            rows["other sound"] = aligned(
                wrong, said.speaking, heard, real, portrait, lag, record.path
            )
        return Spoken(record, rows)

    def _say(self, portrait: TrackedClip, sound: Float[Tensor, " s"]) -> Said:
        return say(self.animator, self.speech, portrait.pictures, sound, self.seed, self.precision)


def aligned(
    said: Said,
    speaking: Float[np.ndarray, " _"],
    sound: Sound,
    real: TrackedClip,
    portrait: TrackedClip,
    lag: int,
    name: str,
) -> Comparison:
    """What was drawn beside the real clip, both cut to the frames that they have in common.

    `speaking` is of the clip's own sound.

    Raises:
        UserError: they have less than three frames in common.
    """
    drawn, own = overlap(min(len(said.frames), len(speaking)), len(real), lag)
    if drawn.stop - drawn.start < 3:
        raise UserError(
            f"the sound of {name} lags its lips by {lag} frames, of {len(real)}: check --offsets"
        )
    return Comparison(
        Task.SPEECH,
        track_frames(face_mesh(), said.frames).part(drawn.start, drawn.stop),
        real.part(own.start, own.stop),
        portrait,
        loudness=sound.loudness[drawn],
        speaking=speaking[drawn].astype(np.float64),
        closures=None if sound.closures is None else sound.closures - drawn.start,
        motion=said.motion,
        joins=said.joins,
    )


def overlap(drawn: int, real: int, lag: int) -> tuple[slice, slice]:
    """The frames of both, of so many, that belong together: frame i of the sound, and of what was
    drawn from it, is real frame i - lag.
    """
    ahead, behind = max(0, lag), max(0, -lag)
    count = max(0, min(drawn - ahead, real - behind))
    return slice(ahead, ahead + count), slice(behind, behind + count)


def speech_clips(
    speaking: Speaking,
    records: Sequence[ClipRecord],
    root: Path,
    lags: Mapping[str, int],
    seconds: float | None,
) -> Iterator[Spoken]:
    """Let every clip's person say its sound, or the first `seconds` of it.

    Raises:
        UserError: a clip cannot be read, shows no face, or has no sound.
    """
    clips = ClipCache(root, speaking.animator.config.image_size, capacity=1)
    for number, record in enumerate(records):
        real = track_clip(face_mesh(), clips, record, seconds)
        sound = load_clip_sound(root, record, len(real))
        other = None
        if len(records) > 1:
            other = load_clip_sound(root, records[(number + 1) % len(records)], len(real))
        yield speaking.compare(record, real, sound, other, lags.get(record.path, 0))
