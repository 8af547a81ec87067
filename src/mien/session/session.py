"""The session: nets loaded once on a device, portraits and sounds prepared once, frames rendered on
demand.

    session = Session.load()
    portrait = session.prepare("portrait.png")
    for frames in session.speak(portrait, "audio.wav"):
        frames.pictures, frames.times

Several threads may use one session at the same time.
Axes: t video frames, n motion numbers.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mien.checkpoint import (
    default_weights,
    load_animator,
    load_speech_to_motion,
    motion_fingerprint,
)
from mien.config import refuse_seed
from mien.devices import AUTO as CHOSEN
from mien.devices import CPU, autocast, choose_device, inference, prepare_cpu
from mien.engines import choose_engine
from mien.errors import UserError
from mien.face import Box
from mien.media import AUTO, Frames, sound_of_video, to_bytes
from mien.motion.controls import Controls
from mien.motion.finishing import Windows, finish
from mien.motion.rollout import rollout
from mien.motion.sampling import SamplingConfig
from mien.motion.speech_to_motion import SpeechToMotion
from mien.portrait.animator import Animator
from mien.portrait.streaming import GuideOf, no_guides, render_still_head, render_stream
from mien.report import Stopwatch
from mien.session.driving import driven_motion, load_driver, refuse_scales
from mien.session.guiding import LIP_CONTRAST, guides_for, head_at_rest, with_mesh_at_rest
from mien.session.portrait import (
    Portrait,
    PortraitSource,
    load_face,
    read_portrait,
    refuse_unprepared,
)
from mien.session.sound import EncodedSound, SoundSource, encode_sound
from mien.session.stream import FrameStream, TimedFrames, iterate_in_context, prefetch, timed_frames
from mien.types import Transfer


def load_models(
    animator: Path | str | None = None,
    speech: Path | str | None = None,
    device: torch.device | None = None,
) -> tuple[Animator, SpeechToMotion]:
    """Both nets, ready for use: the shipped ones unless named, on the accelerator if torch sees one
    unless a device is named.

    Raises:
        UserError: a file is missing, damaged or foreign, or the two were not trained together.
    """
    shipped = default_weights()
    drawing = load_animator(Path(animator or shipped[0]))
    speaking = load_speech_to_motion(
        Path(speech or shipped[1]), motion_fingerprint(drawing.state_dict())
    )
    device = device or choose_device()
    return drawing.to(device), speaking.to(device)


class Session:
    """Nets on a device, used for any number of portraits, sounds and drivers.

    Args:
        animator: stage 1's net.
        speech: stage 2's net, trained with that animator; without it a session only drives.
        precision: 32-true or bf16-mixed (`mien.devices.autocast`); auto is 32-true, but for
            frames, where the engine is faster in bfloat16.
        engine: what renders (`mien.engines.RENDERING`); auto is the fastest that works here.

    Raises:
        UserError: the engine or the precision cannot be used here.
    """

    def __init__(
        self,
        animator: Animator,
        speech: SpeechToMotion | None = None,
        precision: str = CHOSEN,
        engine: str = CHOSEN,
    ) -> None:
        self.animator, self._speech, self.precision = animator, speech, precision
        self.device = next(animator.parameters()).device
        autocast(self.device, precision)  # raises if the device cannot
        self.engine = choose_engine(animator, precision, engine)
        if self.device.type == CPU:
            prepare_cpu(self.engine.chunks_at_once)

    @classmethod
    def load(
        cls,
        animator: Path | str | None = None,
        speech: Path | str | None = None,
        device: str = CHOSEN,
        precision: str = CHOSEN,
        engine: str = CHOSEN,
    ) -> "Session":
        """A session of the weights that ship or are named (`load_models`).

        Raises:
            UserError: as `load_models`.
        """
        nets = load_models(animator, speech, choose_device(device))
        return cls(*nets, precision, engine)

    @property
    def speech(self) -> SpeechToMotion:
        """Stage 2's net.

        Raises:
            UserError: the session has none.
        """
        if self._speech is None:
            raise UserError("this session has no speech-to-motion net: give one to Session")
        return self._speech

    def prepare(
        self, portrait: PortraitSource, box: Box | None = None, watch: Stopwatch | None = None
    ) -> Portrait:
        """Find and crop the face of a picture and encode it; `box` is the face in pixels of the
        upright picture (x0, y0, x1, y1), without it the largest face is found.

        Raises:
            UserError: the picture cannot be read, shows no face, or the box is not inside it.
        """
        with (watch or Stopwatch()).measure("portrait"), self._inference():
            net = self.animator.config
            source, notes = load_face(portrait, box, net.image_size, net.framing)
            return read_portrait(self.animator, source, notes)

    def read(self, source: Float[Tensor, "1 3 h w"]) -> Portrait:
        """Encode a picture that is cropped already, in [-1, 1]."""
        with self._inference():
            return read_portrait(self.animator, source)

    def encode(
        self,
        sound: SoundSource,
        channel: str = AUTO,
        watch: Stopwatch | None = None,
        *,
        start: float = 0.0,
        end: float | None = None,
    ) -> EncodedSound:
        """Read a sound, or its part from `start` to `end` (seconds), and encode it. `channel` is
        the one that speaks (`speaking_channel`). An iterator of chunks is read to its end first:
        Mamba-g encodes the whole utterance.

        Raises:
            UserError: it cannot be read, is too short, or has no such channel.
        """
        with (watch or Stopwatch()).measure("audio"), self._inference():
            return encode_sound(self.speech, sound, channel, start, end)

    def speak(
        self,
        portrait: Portrait,
        sound: EncodedSound | SoundSource,
        *,
        sampling: SamplingConfig | None = None,
        controls: Controls | None = None,
        seed: int = 0,
        still_head: bool = False,
        watch: Stopwatch | None = None,
    ) -> FrameStream:
        """The portrait says the sound; `sampling`: by default as in the speech net's training. With
        `still_head` only the mouth moves, which takes less time: head pose and eyes stay as they
        are, whatever `controls` say, and torch renders. Same seed, threads, machine: same frames.

        Raises:
            UserError: an input cannot be used, or there is no mesh for `still_head`.
        """
        refuse_unprepared(portrait, Portrait)
        refuse_seed(seed)
        watch = watch or Stopwatch()
        if still_head:
            controls = replace(controls or Controls(), pose_scale=0.0, blink=0.0)
        if not isinstance(sound, EncodedSound):
            sound = self.encode(sound, watch=watch)
        sampling = sampling or self.speech.sampling
        motion = self.generate(portrait, sound, sampling=sampling, controls=controls, seed=seed)
        motion = watch.measure_items("motion", prefetch(motion, self.device))
        guide_of = self.guides_of_speech(portrait)
        draw = self._draw_still if still_head else self.draw
        frames = draw(portrait, motion, guide_of, watch)
        notes, engine = sound.notes + portrait.notes, "torch" if still_head else None
        count, sampled = len(sound.gate), str(sampling)
        return FrameStream(frames, count, sound.sound, notes, watch, engine, sampled)

    def generate(
        self,
        portrait: Portrait,
        sound: EncodedSound,
        *,
        sampling: SamplingConfig | None = None,
        controls: Controls | None = None,
        seed: int = 0,
        watch: Stopwatch | None = None,
    ) -> Windows:
        """The motion that `speak` renders: implicit, of the mesh where stage 2 generates one, and
        last how far the eyelids are closed.

        Raises:
            UserError: the portrait or the seed cannot be used.
        """
        refuse_unprepared(portrait, Portrait)
        refuse_seed(seed)
        speech, own = self.speech, portrait.motion
        at_rest = with_mesh_at_rest(own) if speech.config.mesh else own
        vector, generator = portrait.appearance.vector, torch.Generator().manual_seed(int(seed))
        sampling = sampling or speech.sampling
        motion = rollout(speech, sound.context, vector, at_rest, sampling, generator)
        motion = finish(motion, sound.gate, at_rest, speech.config, controls or Controls(), seed)
        yield from (watch or Stopwatch()).measure_items(
            "motion", iterate_in_context(self._inference, motion)
        )

    def guides_of_speech(self, portrait: Portrait) -> GuideOf:
        """What guides the motion of `generate`: the mesh, where stage 2 generates its motion and
        the animator has a guide.
        """
        return guides_for(portrait, LIP_CONTRAST) if self.speech.config.mesh else no_guides

    def drive(
        self,
        portrait: Portrait,
        video: Path | str | Frames,
        *,
        transfer: Transfer = "relative",
        controls: Controls | None = None,
        watch: Stopwatch | None = None,
    ) -> FrameStream:
        """The portrait moves as the face of a video, or of frames of 25 a second, moves.

        Args:
            portrait: as `prepare` gives it.
            video: of any frame rate, read by its time stamps; its sound is kept.
            transfer: `relative`: the portrait moves by the driver's difference from rest, so they
                may be two people; `absolute`: its head also goes where the driver's is;
                `same_person`: driver and portrait are one person, framed alike.
            controls: scales of expression and pose; blinks are the driver's.
            watch: where seconds of work are added up.

        Raises:
            UserError: the portrait is not prepared, the video cannot be read or shows no face, or
                controls are given for `same_person`, whose motion is not scaled.
        """
        refuse_unprepared(portrait, Portrait)
        watch = watch or Stopwatch()
        refuse_scales(self.animator, transfer, controls or Controls())
        with watch.measure("driver"):
            net = self.animator.config
            sound = sound_of_video(Path(video)) if isinstance(video, Path | str) else None
            driver = load_driver(video, net.image_size, net.framing)
        motion, guide_of = driven_motion(self.animator, portrait, driver, transfer, controls)
        motion = watch.measure_items("motion", iterate_in_context(self._inference, motion))
        frames = self.draw(portrait, motion, guide_of, watch)
        return FrameStream(frames, len(driver), sound, portrait.notes + driver.notes, watch)

    def draw(
        self,
        portrait: Portrait,
        motion: Windows,
        guide_of: GuideOf = no_guides,
        watch: Stopwatch | None = None,
    ) -> Iterator[TimedFrames]:
        """Render motion, a few frames at a time, each with its time stamp."""
        own, context = (portrait.appearance, portrait.motion), self._inference
        how = self.engine.render, self.engine.chunks_at_once, context, to_bytes
        drawn = render_stream(self.animator, *own, motion, guide_of, *how)
        return timed_frames(drawn, context, watch or Stopwatch())

    def _draw_still(
        self, portrait: Portrait, motion: Windows, guide_of: GuideOf, watch: Stopwatch
    ) -> Iterator[TimedFrames]:
        with watch.measure("render"), self._inference():
            head = head_at_rest(self.animator, portrait, guide_of)
        at_once, context = self.engine.chunks_at_once, self._inference
        drawn = render_still_head(head, motion, guide_of, at_once, context, to_bytes)
        return timed_frames(drawn, context, watch)

    def _inference(self) -> AbstractContextManager:
        """Gradients off, in the session's precision."""
        return inference(self.device, self.precision)
