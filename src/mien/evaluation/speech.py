"""A clip's own person says the clip's sound, and the drawn lips stand beside the real ones.

The portrait is the clip's own frame at rest; the sound goes the way of `mien infer`. By how much a
clip's sound lags its lips is told, never searched: a search flatters. Rivals: the real lips, the
portrait held still, and the same portrait saying the next clip's sound (chance).
Axes: t video frames, h w space, m motion, s audio samples.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mien.audio.features import FPS, SAMPLE_RATE
from mien.data.datasets import ClipCache
from mien.data.manifest import ClipRecord
from mien.evaluation.clips import Watched, load_clip_sound, watch, watch_clip
from mien.evaluation.lips import NOWHERE, LipScore, Mouth, lip_score, ratio
from mien.evaluation.looks import Likeness
from mien.evaluation.phonemes import Phonemes
from mien.evaluation.steadiness import join_ratio, silence_share, trembling
from mien.face import FaceMesh
from mien.media import Frames
from mien.motion.rollout import SamplingConfig, joins
from mien.motion.speech_to_motion import SpeechToMotion
from mien.portrait.animator import Animator
from mien.portrait.streaming import no_guides
from mien.session import Session
from mien.session.guiding import LIP_CONTRAST, guides_for
from mien.session.portrait import read_portrait

REST_WITHIN = FPS  # frames from the start among which the portrait is chosen


@dataclass(frozen=True)
class SpeechScore(LipScore):
    """Lips, and what else one sees.

    `silence` is the lips' speed while nobody speaks over that while somebody does, `joins` the
    speed of motion where windows join over that elsewhere, `tremble` the second difference of
    stable points over the real clip's, `sharpness` of the face over the real one's, `identity` the
    distance of drawn faces from the portrait.
    """

    silence: float = NOWHERE
    joins: float = NOWHERE
    tremble: float = NOWHERE
    sharpness: float = NOWHERE
    identity: float = NOWHERE


@dataclass(frozen=True)
class Said:
    """What the nets made of a portrait and a sound."""

    frames: Frames
    gate: Float[np.ndarray, " t"]
    joins: float


@dataclass(frozen=True)
class Spoken:
    """A clip, the scores of the drawn one and of its rivals, and both clips where they overlap."""

    record: ClipRecord
    scores: dict[str, SpeechScore]
    real: Watched
    drawn: Watched
    lag: int


@torch.inference_mode()
def say(
    animator: Animator,
    speech: SpeechToMotion,
    portrait: Float[Tensor, "1 3 h w"],
    sound: Float[Tensor, " s"],
    seed: int,
) -> Said:
    """Let the portrait say the sound, as `mien infer` does."""
    session, sampling = Session(animator, speech), SamplingConfig()
    prepared = read_portrait(animator, portrait)
    encoded = session.encode((sound, SAMPLE_RATE))
    motion = torch.cat(list(session.generate(prepared, encoded, seed=seed)), dim=1)
    guide_of = guides_for(prepared, LIP_CONTRAST) if speech.config.mesh else no_guides
    drawn = session.draw(prepared, iter([motion]), guide_of)
    frames = np.concatenate([part.pictures for part in drawn])
    seams = joins(motion.shape[1], speech.config, sampling)
    return Said(frames, encoded.gate.cpu().numpy(), join_ratio(motion[..., :-1], seams))


class SpeechJudge:
    """Both nets and all that looks at what they draw, loaded once."""

    def __init__(
        self, animator: Animator, speech: SpeechToMotion, phonemes: Phonemes | None, seed: int
    ) -> None:
        self.animator, self.speech, self.phonemes, self.seed = animator, speech, phonemes, seed
        self.mesh, self.likeness = FaceMesh(), Likeness()

    def judge(
        self,
        record: ClipRecord,
        real: Watched,
        sound: Float[Tensor, " s"],
        other: Float[Tensor, " s"] | None,
        lag: int,
    ) -> Spoken:
        """Draw a clip and score it; `other` is the sound of chance."""
        rest = real.rest(REST_WITHIN)
        sounds = None if self.phonemes is None else self.phonemes.closures(sound)
        said = say(self.animator, self.speech, real.picture(rest), sound, self.seed)
        drawn = watch(self.mesh, said.frames)
        still = real.mouth.held(rest, len(drawn))
        scores = {
            "drawn": self._score(said, drawn, real, rest, sounds, lag),
            "real": self._score_real(said, real, sounds, lag),
            "copied": SpeechScore(**vars(lips_at_lag(still, real.mouth, sounds, lag))),
        }
        if other is not None:
            wrong = say(self.animator, self.speech, real.picture(rest), other, self.seed)
            mouth = watch(self.mesh, wrong.frames).mouth
            lips = lips_at_lag(mouth, real.mouth, sounds, lag)
            scores["other sound"] = SpeechScore(**vars(lips))
        return Spoken(record, scores, real, drawn, lag)

    def _score(
        self,
        said: Said,
        drawn: Watched,
        real: Watched,
        rest: int,
        sounds: Int[np.ndarray, " n"] | None,
        lag: int,
    ) -> SpeechScore:
        return SpeechScore(
            **vars(lips_at_lag(drawn.mouth, real.mouth, sounds, lag)),
            silence=silence_share(drawn.mouth, said.gate),
            joins=said.joins,
            tremble=ratio(trembling(drawn.points), trembling(real.points)),
            sharpness=ratio(drawn.sharpness(), real.sharpness()),
            identity=self.likeness.distance(
                drawn.frames, drawn.points, real.frames[rest], real.points[rest]
            ),
        )

    def _score_real(
        self, said: Said, real: Watched, sounds: Int[np.ndarray, " n"] | None, lag: int
    ) -> SpeechScore:
        """The real mouth against itself: only its closures and its stillness say anything."""
        _, mouth, moments = overlapping(real.mouth, real.mouth, sounds, lag)
        lips = lip_score(mouth, mouth, moments)
        gate = said.gate[max(0, lag) :]
        return SpeechScore(
            spread=lips.spread,
            closed=lips.closed,
            closed_off=lips.closed_off,
            sounds=lips.sounds,
            silence=silence_share(mouth.part(0, len(gate)), gate[: len(mouth)]),
        )


def lips_at_lag(
    drawn: Mouth, real: Mouth, sounds: Int[np.ndarray, " n"] | None, lag: int
) -> LipScore:
    """Score a mouth drawn from a sound that lags the real mouth by so many frames."""
    drawn, real, moments = overlapping(drawn, real, sounds, lag)
    return lip_score(drawn, real, moments)


def overlapping(
    drawn: Mouth, real: Mouth, sounds: Int[np.ndarray, " n"] | None, lag: int
) -> tuple[Mouth, Mouth, Int[np.ndarray, " n"] | None]:
    """Frames that belong together: frame i of the sound, and of the mouth drawn from it, is real
    frame i - lag. The moments of sounds move along.
    """
    ahead, behind = max(0, lag), max(0, -lag)
    count = max(0, min(len(drawn) - ahead, len(real) - behind))
    return (
        drawn.part(ahead, ahead + count),
        real.part(behind, behind + count),
        None if sounds is None else sounds - ahead,
    )


def closures_of(scores: Sequence[SpeechScore]) -> dict[str, float]:
    """Closures over all clips, every p, b and m counting alike: clips hold few of them each."""

    def share(name: str) -> float:
        known = [
            (getattr(score, name), score.sounds)
            for score in scores
            if getattr(score, name) == getattr(score, name)
        ]
        return ratio(
            float(sum(part * count for part, count in known)),
            float(sum(count for _, count in known)),
        )

    return {"closed": share("closed"), "closed_off": share("closed_off")}


def speech_clips(
    judge: SpeechJudge,
    records: Sequence[ClipRecord],
    root: Path,
    lags: Mapping[str, int],
    seconds: float | None,
) -> Iterator[Spoken]:
    """Let every clip's person say its sound, or the first `seconds` of it.

    Raises:
        UserError: a clip cannot be read, shows no face, or has no sound.
    """
    clips = ClipCache(root, judge.animator.config.image_size, capacity=1)
    for number, record in enumerate(records):
        real = watch_clip(judge.mesh, clips, record, seconds)
        sound = load_clip_sound(root, record, len(real))
        other = None
        if len(records) > 1:
            other = load_clip_sound(root, records[(number + 1) % len(records)], len(real))
        yield judge.judge(record, real, sound, other, lags.get(record.path, 0))
