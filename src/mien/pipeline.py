"""The main jobs on one page: a portrait and a voice, or a driving video, become a video.

    portrait - Session.prepare -> Portrait: source (b 3 h w), Appearance, motion (b m), guided face
    audio    - Session.encode  -> EncodedSound: features (l f) -> AudioContext, and voice activity
    both     - Session.speak   -> rollout: motion (b t m), a window at a time
                                  finish: head sway, rest where nobody speaks, blinks
                                  guides_for: the mesh motion on this portrait -> Guide, if guided
                                  render_stream -> frames (t h w 3, bytes), a few at a time
    driver   - Session.drive   -> load_driver: its face tracked in every frame, its sound
                                  driven_motion: motion (b t m); then as above
    frames   - write           -> VideoWriter -> mp4, as they come

Only the sound is in memory as a whole; frames are written as they are rendered.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mien.audio.features import FPS
from mien.command_line import Progress
from mien.config import refuse_seed
from mien.devices import AUTO as CHOSEN
from mien.face import Box
from mien.media import AUTO, WRITERS, Frames
from mien.motion.controls import Controls
from mien.motion.sampling import SamplingConfig
from mien.motion.speech_to_motion import SpeechToMotion
from mien.paths import refuse_file
from mien.portrait.animator import Animator
from mien.report import Report, Stopwatch, back_ends, machine
from mien.session import FrameStream, Portrait, PortraitSource, Session, SoundSource
from mien.types import Transfer

if TYPE_CHECKING:  # not imported where the first system works alone
    from mien.loki.driving import LokiControls
    from mien.session.loki import LokiSession

SPOKEN_PARTS = "audio", "portrait", "motion", "render", "encode"  # of the work, as reports say it
DRIVEN_PARTS = "driver", "portrait", "motion", "render", "encode"
LOKI_PARTS = "driver", "portrait", "render", "encode"


def animate(
    audio: SoundSource,
    portrait: PortraitSource | Portrait,
    output: Path | str,
    *,
    session: Session | None = None,
    animator: Animator | None = None,
    speech: SpeechToMotion | None = None,
    precision: str = CHOSEN,
    sampling: SamplingConfig | None = None,
    controls: Controls | None = None,
    seed: int = 0,
    box: Box | None = None,
    overwrite: bool = False,
    channel: str = AUTO,
    start: float = 0.0,
    end: float | None = None,
    still_head: bool = False,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Make the portrait say the audio, as a square mp4 of 25 frames a second with the sound.

    `audio` is a file, a Sound, or samples (or chunks of them) with their rate, of which the part
    from `start` to `end` (seconds) is spoken; `portrait` is a file, RGB bytes, a PIL image, or what
    the session prepared; `box` is the face in pixels of the upright picture (x0, y0, x1, y1),
    without it the largest face is found. The nets are those of `session`, or the two given, else
    those that ship. `sampling` is by default that of the speech net's training run, of which
    `dataclasses.replace(speech.sampling, steps=3)` changes a part. `channel` is the one of the
    sound that speaks (`speaking_channel`). `controls` scale expression and pose and set how often
    eyes blink; with `still_head` only the mouth moves, which takes a part of the time. `progress`
    is called with (frames done, frames in all). Same seed and threads on one machine, same frames.

    Raises:
        UserError: an input cannot be used, or the output exists and `overwrite` is off.
    """
    output = Path(output)
    refuse_output(output, _files(audio, portrait), overwrite)
    refuse_seed(seed)
    if (animator is None) != (speech is None):
        raise ValueError("animator and speech belong together: give both or neither")
    if session is None:
        session = (
            Session(animator, speech, precision) if animator else Session.load(precision=precision)
        )
    watch = Stopwatch(dict.fromkeys(SPOKEN_PARTS, 0.0), session.device)

    sound = session.encode(audio, channel, watch, start=start, end=end)
    prepared = portrait if isinstance(portrait, Portrait) else session.prepare(portrait, box, watch)
    stream = session.speak(
        prepared,
        sound,
        sampling=sampling,
        controls=controls,
        seed=seed,
        still_head=still_head,
        watch=watch,
    )
    return write(stream, output, session, seed, progress)


def reenact(
    video: Path | str,
    portrait: PortraitSource,
    output: Path | str,
    *,
    session: Session | None = None,
    transfer: Transfer = "relative",
    controls: Controls | None = None,
    box: Box | None = None,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Make the portrait move as the face of a video does, as a square mp4 of 25 frames a second
    with the video's own sound (the paper's Table I). `transfer` as `Session.drive` says it, the
    rest as in `animate`.

    Raises:
        UserError: an input cannot be used, or the output exists and `overwrite` is off.
    """
    output = Path(output)
    refuse_output(output, _files(video, portrait), overwrite)
    session = session or Session.load()
    watch = Stopwatch(dict.fromkeys(DRIVEN_PARTS, 0.0), session.device)

    prepared = session.prepare(portrait, box, watch)
    stream = session.drive(prepared, video, transfer=transfer, controls=controls, watch=watch)
    return write(stream, output, session, None, progress)


def reenact_by_loki(
    video: Path | str,
    portrait: PortraitSource,
    output: Path | str,
    *,
    session: "LokiSession",
    transfer: Transfer = "relative",
    controls: "LokiControls | None" = None,
    seed: int = 0,
    box: Box | None = None,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> Report:
    """The same by Loki: the driver's coefficients on the portrait's shape. `transfer` and
    `controls` as `LokiSession.drive` says it; same seed and threads on one machine, same frames.

    Raises:
        UserError: an input cannot be used, or the output exists and `overwrite` is off.
    """
    output = Path(output)
    refuse_output(output, _files(video, portrait), overwrite)
    watch = Stopwatch(dict.fromkeys(LOKI_PARTS, 0.0), session.device)

    prepared = session.prepare(portrait, box, watch)
    stream = session.drive(
        prepared, video, transfer=transfer, controls=controls, seed=seed, watch=watch
    )
    return write(stream, output, session, seed, progress)


def write(
    stream: FrameStream,
    output: Path,
    session: "Session | LokiSession",
    seed: int | None,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Write all frames with their sound to an mp4 as they are rendered; returns the report.

    Frames are encoded while the next ones are rendered: the report's `encode` is what that delays.
    """
    done, watch = 0, stream.watch
    with (
        WRITERS[output.suffix.lower()](output, stream.sound) as writer,
        _in_background(writer.write) as encode,
    ):
        for frames in stream:
            with watch.measure("encode"):
                encode(frames.pictures)
            done += len(frames.pictures)
            progress(done, stream.count)
    used = back_ends(session.device)
    if isinstance(session, Session):
        used += f", rendering: {stream.engine or session.engine.what}"
    return Report(
        output,
        done / FPS,
        done,
        watch.seconds,
        seed,
        machine(session.device),
        used,
        stream.notes,
        stream.sampling,
    )


@contextmanager
def _in_background(work: Callable[[Frames], None]) -> Iterator[Callable[[Frames], None]]:
    """Do `work` in another thread while the caller goes on, one call after another; an error is
    raised by the next call, or at the end of the block.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        running: list[Future[None]] = []

        def send(frames: Frames) -> None:
            if running:
                running.pop().result()
            running.append(thread.submit(work, frames))

        yield send
        if running:
            running.pop().result()


def refuse_output(output: Path, inputs: tuple[Path, ...], overwrite: bool) -> None:
    """Check the output path before any work is done.

    Raises:
        UserError: it is not an mp4, its folder is missing, it exists already, or it is an input.
    """
    refuse_file(output, WRITERS, inputs, overwrite)


def _files(*inputs: SoundSource | PortraitSource | Portrait) -> tuple[Path, ...]:
    """Those of the inputs that are files."""
    return tuple(Path(given) for given in inputs if isinstance(given, Path | str))
