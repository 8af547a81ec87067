"""One video from end to end: track faces, analyse audio, cut, check, write.

Memory hardly grows with the video's length: it is read three times, and each pass keeps only a few
values per frame. Axes: s audio samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from hashlib import file_digest
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from mien.audio.features import SAMPLES_PER_FRAME
from mien.data.lips_from_sound import LipsFromSound
from mien.errors import UserError
from mien.face import Box, FaceIdentity, Picture
from mien.media import VideoWriter
from mien.media.files import Unwritable, writable, written_whole
from mien.media.timeline import Damaged, Tracks, look_inside, pictures_on_grid, sound_on_grid
from mien.paths import readable
from mien.prepare.audio import (
    FARTHEST,
    AudioAnalysis,
    Lateness,
    SoundInOrder,
    analyse_audio,
    no_audio,
    sound_late,
)
from mien.prepare.checks import judge, measure, without_sound
from mien.prepare.collections import Source
from mien.prepare.engine import progress
from mien.prepare.framing import cut_out, in_square, resized, square_of
from mien.prepare.outcome import CLIPS, STRIPS, Outcome, Part
from mien.prepare.settings import Preparation
from mien.prepare.spans import Span, split
from mien.prepare.tracking import FaceTracker, FaceTracks, load_face_finder
from mien.report import Stopwatch
from mien.types import FPS

Array = np.ndarray
Piece = TypeVar("Piece")

COMMENT = "prepared by mien"
KEY_EVERY = 10  # frames between key frames: training seeks (tools/benchmark_data.py)
STRIP, STRIP_SIZE = 3, 96  # frames of a strip, and pixels a side
MOUTH_MARGIN = 0.08  # of the mouth box's size, on each side


class SourceCutter:
    """Prepares one video after another; the face nets are loaded once.

    Args:
        root: folder of the sources.
        output: folder of the data set.
        settings: all settings.
    """

    def __init__(self, root: Path, output: Path, settings: Preparation) -> None:
        self.root, self.output, self.settings = root, output, settings
        self.stopwatch = Stopwatch()  # time per stage, over all videos
        self._mesh = load_face_finder(settings.face_finder)
        self._lips_from_sound = LipsFromSound()
        self._identity = FaceIdentity() if settings.people == "faces" else None

    def __call__(self, source: Source, name: str) -> Outcome:
        """Prepare one video; errors of this source are returned in the outcome.

        Raises:
            Unwritable: the output cannot be written, which concerns all sources.
        """
        path = self.root / source.path
        content = None
        try:
            with self.stopwatch.measure("hash"):
                content = content_of(path)
            inside = look_inside(path)
            parts, notes = self._parts(source, path, inside)
            parts = [
                replace(part, name=f"{name}-{part.first:06d}{_suffix(parts, index)}")
                for index, part in enumerate(parts)
            ]
            with self.stopwatch.measure("cut and encode"):
                parts = self._write(source, path, inside, parts)
        except Unwritable:
            raise
        except UserError as error:
            return Outcome(source, [], [], self._relative(error), content)
        except Exception as error:  # decoders may raise anything; only this source is lost
            problem = f"{source.path} cannot be prepared ({type(error).__name__}: {error})"
            return Outcome(source, [], [], problem, None)  # perhaps the machine's fault: try again
        problem = None if parts else "no face was found in it, or none while there is audio"
        return Outcome(source, parts, notes, problem, content)

    def _relative(self, error: UserError) -> str:
        """The message with paths relative to the root: records do not depend on its location."""
        return str(error).replace(f"{self.root}/", "")

    def _parts(self, source: Source, path: Path, inside: Tracks) -> tuple[list[Part], list[str]]:
        notes: list[str] = []
        has_sound = source.sound is not None or inside.sounds > 0
        if not has_sound and self.settings.sound == "required":
            raise UserError(
                f"{path} has no audio track, which stage 2 needs (sound=optional accepts it for "
                "stage 1 alone)"
            )
        if source.sound is None and inside.sounds > 1:
            notes.append(f"{inside.sounds} audio tracks: the first was taken")
        watcher = FaceTracker(self._mesh, self.settings.detect_every)
        pictures = self._up_to_damage(self._pictures(path), notes)
        with self.stopwatch.measure("track faces"):
            watched = watcher.watch(pictures)
        with self.stopwatch.measure("analyse audio"):
            sound = self._up_to_damage(self._sound(source, path, inside), notes)
            lips = self._lips_from_sound
            audio = analyse_audio(sound, lips) if has_sound else no_audio(watched.frames)
        if len(audio.loudness) < watched.frames - FPS:
            seconds = (watched.frames - len(audio.loudness)) / FPS
            notes.append(f"the audio ends {seconds:.1f} s before the picture")
        parts = []
        for number, track in enumerate(watched.tracks):
            gaps = np.ascontiguousarray(track.faces.column("gap"))
            late = sound_late(gaps, audio.part(track.first, track.first + len(track)))
            moved = self._move_of(late.frames)
            # Moving lips without audio would teach stage 2 to ignore the audio.
            track.keep(-moved, len(audio.loudness) - moved)
            for span in split(number, track, self.settings.cut.max_seconds):
                part = self._part(span, watched, audio, late, moved, has_sound)
                parts.append(part)
        return sorted(parts, key=lambda part: (part.first, part.square)), notes

    def _up_to_damage(self, pieces: Iterator, notes: list[str]) -> Iterator:
        try:
            yield from pieces
        except Damaged as error:
            notes.append(self._relative(error))

    def _pictures(self, path: Path) -> Iterator[Picture]:
        return _in_progress(self.stopwatch.measure_items("decode", pictures_on_grid(path)))

    def _sound(self, source: Source, path: Path, inside: Tracks) -> Iterator[Float[Array, " s"]]:
        if source.sound is None:
            return _in_progress(sound_on_grid(path, inside.origin) if inside.sounds else iter(()))
        return _in_progress(sound_on_grid(self.root / source.sound, Fraction(0)))

    def _part(
        self,
        span: Span,
        watched: FaceTracks,
        audio: AudioAnalysis,
        late: Lateness,
        moved: int,
        has_sound: bool,
    ) -> Part:
        cut = self.settings.cut
        square = square_of(span, cut.framing, watched.width, watched.height)
        own = audio.part(span.first + moved, span.end + moved)
        found = measure(span, square, watched, own, late)
        limits = self.settings.limits if has_sound else without_sound(self.settings.limits)
        reasons = judge(found, cut, limits, self.settings.shift_sound)
        mouth = _mouth(span, square)
        first, frames = span.first, len(span)
        return Part("", first, frames, square, mouth, moved, found, reasons, sound=has_sound)

    def _move_of(self, late: int | None) -> int:
        """Frames by which the audio is read later than the picture, to align it with the lips."""
        most = self.settings.limits.max_audio_offset
        if not self.settings.shift_sound or late is None or most is None:
            return 0
        return late if most < abs(late) < FARTHEST else 0

    def _write(self, source: Source, path: Path, inside: Tracks, parts: list[Part]) -> list[Part]:
        """Write the accepted parts and a strip of every part, in as many passes over the video as
        parts overlap in time. Returns the parts with the embeddings of their faces.
        """
        embeddings: dict[str, list[float] | None] = {}
        for layer in _without_overlap([part for part in parts if not part.reasons]):
            sound = SoundInOrder(self._sound(source, path, inside))
            pictures = enumerate(self._pictures(path))
            for part in layer:
                with self._writer(part, sound) as writer:
                    shown = self._write_frames(part, pictures, writer)
                embeddings[part.name] = self._embed(shown)
                self._save_strip(part, shown)
        self._show_rejected(path, [part for part in parts if part.reasons])
        return [replace(part, embedding=embeddings.get(part.name)) for part in parts]

    def _write_frames(
        self, part: Part, pictures: Iterator[tuple[int, Picture]], writer: VideoWriter
    ) -> list[Picture]:
        """Write the part's frames; returns those of its strip."""
        wanted, shown = _strip_frames(part), []
        for number, picture in pictures:
            if number >= part.first:
                frame = cut_out(picture, part.square, self.settings.cut.size)
                writer.write(frame[None])
                shown += [frame] * wanted.count(number)
            if number == part.first + part.frames - 1:
                break
        return shown

    def _show_rejected(self, path: Path, parts: list[Part]) -> None:
        """Write the strips of all rejected parts in one pass."""
        open_parts = {part.name: (part, _strip_frames(part)) for part in parts}
        strips: dict[str, list[Picture]] = {name: [] for name in open_parts}
        for number, picture in enumerate(self._pictures(path) if parts else ()):
            for name, (part, wanted) in list(open_parts.items()):
                if number in wanted:
                    frame = cut_out(picture, part.square, STRIP_SIZE)
                    strips[name] += [frame] * wanted.count(number)
                if number == max(wanted):
                    self._save_strip(part, strips.pop(name))
                    del open_parts[name]
            if not open_parts:
                break

    def _embed(self, shown: list[Picture]) -> list[float] | None:
        """The mean face embedding, if people are identified by face and a face is found."""
        if self._identity is None:
            return None
        with self.stopwatch.measure("embed faces"):
            found = [
                self._identity(frame, self._mesh.landmarks(frame, faces[0])[0])
                for frame in shown
                if (faces := self._mesh.faces(frame))
            ]
        return [round(float(x), 4) for x in np.mean(found, axis=0)] if found else None

    def _save_strip(self, part: Part, shown: list[Picture]) -> None:
        strip = [resized(frame, STRIP_SIZE) for frame in shown]
        path = self.output / STRIPS / f"{part.name}.jpg"
        with writable(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as unfinished:
                Image.fromarray(np.concatenate(strip, axis=1)).save(unfinished, "JPEG", quality=80)

    def _writer(self, part: Part, sound: SoundInOrder) -> VideoWriter:
        begin = (part.first + part.sound_moved) * SAMPLES_PER_FRAME
        waveform = sound.between(begin, begin + part.frames * SAMPLES_PER_FRAME)
        path = self.output / CLIPS / part.clip
        with writable(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return VideoWriter(path, torch.from_numpy(waveform), COMMENT, KEY_EVERY)


def _in_progress(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """The pieces; each reports progress to the watchdog of the engine."""
    for piece in pieces:
        progress()
        yield piece


def _strip_frames(part: Part) -> list[int]:
    """The frames of the video that a part's strip shows."""
    return [part.first + int(part.frames * (i + 0.5) / STRIP) for i in range(STRIP)]


def _without_overlap(parts: Sequence[Part]) -> list[list[Part]]:
    """The parts in as few layers as possible, none with two parts that overlap in time."""
    layers: list[list[Part]] = []
    for part in sorted(parts, key=lambda part: part.first):
        fits = (some for some in layers if some[-1].first + some[-1].frames <= part.first)
        layer = next(fits, None)
        if layer is None:
            layers.append([part])
        else:
            layer.append(part)
    return layers


def _suffix(parts: Sequence[Part], index: int) -> str:
    """Distinguishes parts that begin in the same frame."""
    before = sum(part.first == parts[index].first for part in parts[:index])
    return f"-{before + 1}" if before else ""


def _mouth(span: Span, square: Box) -> Box | None:
    """The box in [0, 1] of the clip that contains the lips in all frames, with a margin."""
    mouths = np.array([in_square(tuple(box), square, 1) for box in span.faces.mouths.tolist()])
    low, high = mouths[:, :2].min(axis=0), mouths[:, 2:].max(axis=0)
    margin = MOUTH_MARGIN * (high - low)
    x0, y0, x1, y1 = (
        round(float(edge), 4) for edge in (*(low - margin).clip(0, 1), *(high + margin).clip(0, 1))
    )
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def content_of(path: Path) -> str:
    """A hash of the file's bytes, by which duplicates are found."""
    with readable(path, "video").open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
