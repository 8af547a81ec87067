"""Lips from audio: a clip is regenerated from its audio and compared with the real lips.

The portrait is the clip's own frame at rest; the audio is processed as by `mien infer`. The lag of
a clip's audio is given, never searched, since a search inflates scores. Baselines: the real lips,
the still portrait, and the same portrait with the next clip's audio (chance).
Axes: t video frames, h w space, m motion, s audio samples, n sounds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mien.audio.features import FPS, SAMPLE_RATE, frame_count
from mien.audio.voice_activity import frame_loudness
from mien.data.datasets import ClipCache
from mien.data.manifest import ClipRecord
from mien.data.meshes import face_mesh
from mien.devices import FULL
from mien.errors import UserError
from mien.evaluation.clips import load_clip_sound, track_clip, track_frames
from mien.evaluation.comparison import Comparison, Task, TrackedClip
from mien.evaluation.phonemes import Phonemes
from mien.media import Frames
from mien.motion.rollout import crossfade_frames
from mien.motion.speech_to_motion import SpeechToMotion
from mien.portrait.animator import Animator
from mien.session import Session

REST_WITHIN = FPS  # frames from the start among which the portrait is chosen
MEANING = """Every clip is regenerated from its audio: `drawn`. Baselines: `real` is the clip
itself, `copied` its still portrait, `other sound` the same portrait with the next clip's audio,
which is chance."""


@dataclass(frozen=True)
class Said:
    """The result for a portrait and audio: frames, voice activity, the motion that they were
    rendered from, and the frames at which its windows join.
    """

    frames: Frames
    speaking: Float[np.ndarray, " t"]
    motion: Float[Tensor, "1 t m"]
    joins: tuple[int, ...]


@dataclass(frozen=True)
class Sound:
    """A clip's audio: the loudness of each frame, and the frames with a p, b or m, if known."""

    waveform: Float[Tensor, " s"]
    loudness: Float[Tensor, " t"]
    closures: Int[np.ndarray, " n"] | None


@dataclass(frozen=True)
class Spoken:
    """A clip, the frames generated from its audio and the baselines, where they overlap."""

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
    """Animate the portrait by the audio, as `mien infer` does, on the nets' device."""
    session = Session(animator, speech, precision)
    prepared = session.read(portrait)
    encoded = session.encode((sound, SAMPLE_RATE))
    motion = torch.cat(list(session.generate(prepared, encoded, seed=seed)), dim=1)
    drawn = session.draw(prepared, iter([motion]), session.guides_of_speech(prepared))
    frames = np.concatenate([part.pictures for part in drawn])
    seams = tuple(crossfade_frames(motion.shape[1], speech.config, speech.sampling))
    return Said(frames, encoded.gate.cpu().numpy(), motion[..., :-1], seams)


@dataclass(frozen=True)
class Speaking:
    """Both nets, the phoneme recogniser if there is one, the seed of the motion and the precision
    of the nets.
    """

    animator: Animator
    speech: SpeechToMotion
    phonemes: Phonemes | None = None
    seed: int = 0
    precision: str = FULL

    def encode(self, waveform: Float[Tensor, " s"]) -> Sound:
        """Analyse audio: loudness and p, b, m of each frame."""
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
        """Regenerate a clip from its audio, which lags its lips by `lag` frames; `other` is the
        audio of the chance baseline.
        """
        rest = real.rest(REST_WITHIN)
        portrait = real.part(rest, rest + 1)
        analysed = self.encode(sound)
        said = self._say(portrait, sound)
        drawn = aligned(said, said.speaking, analysed, real, portrait, lag, record.path)
        still = portrait.held(0, len(drawn.reference))
        rows = {
            "drawn": drawn,
            "real": replace(drawn, clip=drawn.reference, motion=None),
            "copied": replace(drawn, clip=still, motion=None),
        }
        if other is not None:
            wrong = self._say(portrait, other)
            rows["other sound"] = aligned(
                wrong, said.speaking, analysed, real, portrait, lag, record.path
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
    """The generated and the real clip, both cut to the frames that they have in common.

    `speaking` is of the clip's own sound.

    Raises:
        UserError: they have less than three frames in common.
    """
    drawn, own = overlap(min(len(said.frames), len(speaking)), len(real), lag)
    if drawn.stop - drawn.start < 3:
        raise UserError(
            f"the audio of {name} lags its lips by {lag} frames, of {len(real)}: check --offsets"
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
    """Regenerate every clip, or its first `seconds`, from its audio.

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
