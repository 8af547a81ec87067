"""A session of Loki: the net loaded once, portraits prepared once, frames sampled on demand.

    session = LokiSession.load()
    portrait = session.prepare("portrait.png")
    for frames in session.drive(portrait, "driver.mp4"):
        frames.pictures, frames.times

Axes: t video frames, h w space.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mien.config import refuse_seed
from mien.data.clips import to_picture
from mien.data.faces import face_model, face_tracker
from mien.devices import AUTO, FULL, autocast, choose_device, inference
from mien.errors import UserError
from mien.face import Box
from mien.face_model.clips import fit_frames
from mien.face_model.coefficients import FaceCoefficients
from mien.loki.driving import LokiControls, drive_faces, fill_frames
from mien.loki.faces import coefficient_vectors, face_maps
from mien.loki.injection import ReferenceKeys
from mien.loki.net import Loki
from mien.loki.sampling import LokiSamplingConfig, sample_frames
from mien.loki.weights import SHIPPED, load_loki_and_sampling
from mien.media import Frames, scaled, sound_of_video, to_bytes
from mien.report import Stopwatch
from mien.session.driving import load_driver
from mien.session.portrait import PortraitSource, load_face, refuse_unprepared
from mien.session.stream import FrameStream, TimedFrames, timed_frames
from mien.types import Transfer

FIT_SIZE = 256  # side at which faces are found and fitted; the net's picture may be smaller


@dataclass(frozen=True)
class LokiPortrait:
    """A portrait that Loki has encoded: the cropped picture in [-1, 1], the coefficients of its
    face (one row) and the reference's keys and values; `notes` are for the user.
    """

    source: Float[Tensor, "1 3 h w"]
    faces: FaceCoefficients
    reference: ReferenceKeys
    notes: tuple[str, ...] = ()


class LokiSession:
    """Loki on a device, used for any number of portraits and drivers.

    Args:
        net: the trained net.
        sampling: steps, guidance and overlap.
        precision: 32-true or bf16-mixed (`mien.devices.autocast`).

    Raises:
        UserError: the device cannot compute in that precision, or there are more sampling steps
            than the net has timesteps.
    """

    def __init__(
        self, net: Loki, sampling: LokiSamplingConfig | None = None, precision: str = FULL
    ) -> None:
        self.net, self.precision = net, precision
        self.sampling = sampling or LokiSamplingConfig()
        if self.sampling.steps > net.config.timesteps:
            raise UserError(
                f"steps {self.sampling.steps} must be at most {net.config.timesteps}, "
                "the timesteps that the net was trained with"
            )
        self.device = next(net.parameters()).device
        autocast(self.device, precision)  # raises if the device cannot

    @classmethod
    def load(
        cls,
        weights: Path | str | None = None,
        device: str = AUTO,
        precision: str = FULL,
        sampling: LokiSamplingConfig | None = None,
    ) -> "LokiSession":
        """A session of the weights that ship, or of others; without `sampling` frames are sampled
        as in their training.

        Raises:
            UserError: the file is missing, damaged or foreign.
        """
        net, as_trained = load_loki_and_sampling(Path(weights or SHIPPED))
        return cls(net.to(choose_device(device)), sampling or as_trained, precision)

    def prepare(
        self, portrait: PortraitSource, box: Box | None = None, watch: Stopwatch | None = None
    ) -> LokiPortrait:
        """Find, crop and fit the face of a picture, and encode it; `box` is the face in pixels of
        the upright picture (x0, y0, x1, y1), without it the largest face is found.

        Raises:
            UserError: the picture cannot be read, shows no face, or the box is not inside it.
        """
        with (watch or Stopwatch()).measure("portrait"), self._inference():
            picture, notes = load_face(portrait, box, FIT_SIZE)
            return replace(self.read(picture), notes=notes)

    def read(self, picture: Float[Tensor, "1 3 h w"]) -> LokiPortrait:
        """Fit and encode a picture that is cropped already, in [-1, 1]; it should not be smaller
        than FIT_SIZE.

        Raises:
            UserError: it shows no face.
        """
        faces = fit_frames(to_bytes(picture), "the cropped portrait", face_tracker(), face_model())
        source = resized(picture, self.net.config.image_size)
        with self._inference():
            maps, values = self._maps(faces)
            reference = self.net.encode_reference(source.to(self.device), maps, values)
        return LokiPortrait(source, faces, reference)

    def drive(
        self,
        portrait: LokiPortrait,
        video: Path | str | Frames,
        *,
        transfer: Transfer = "relative",
        controls: LokiControls | None = None,
        seed: int = 0,
        watch: Stopwatch | None = None,
    ) -> FrameStream:
        """The portrait moves as the face of a video, or of frames of 25 a second, moves. Same seed
        and threads on one machine, same frames.

        Args:
            portrait: as `prepare` gives it.
            video: of any frame rate, read by its time stamps; its sound is kept.
            transfer: of the head pose, as `drive_faces` says it.
            controls: scales of expression and pose, a frozen pose, other blinks.
            seed: of the noise.
            watch: where seconds of work are added up.

        Raises:
            UserError: the portrait or the seed cannot be used, or the video cannot be read or
                shows no face.
        """
        refuse_unprepared(portrait, LokiPortrait)
        refuse_seed(seed)
        watch = watch or Stopwatch()
        with watch.measure("driver"):
            sound = sound_of_video(Path(video)) if isinstance(video, Path | str) else None
            driver = load_driver(video, FIT_SIZE)
            pictures = (frame for chunk in driver.chunks() for frame in to_bytes(chunk))
            seen = fit_frames(pictures, "the driving video", face_tracker(), face_model())
            driven = drive_faces(face_model(), portrait.faces, seen, transfer, controls)
        frames = self.draw(portrait, fill_frames(driven, len(driver)), seed, watch)
        notes, sampled = portrait.notes + driver.notes, str(self.sampling)
        return FrameStream(frames, len(driver), sound, notes, watch, sampling=sampled)

    def draw(
        self,
        portrait: LokiPortrait,
        faces: FaceCoefficients,
        seed: int = 0,
        watch: Stopwatch | None = None,
    ) -> Iterator[TimedFrames]:
        """Sample the portrait's frames with these faces, a window at a time."""

        def condition(first: int, last: int) -> Tensor:
            maps, values = self._maps(faces.at(slice(first, last)))
            return self.net.encode_condition(maps[None], values[None])

        generator = torch.Generator().manual_seed(int(seed))
        drawn = sample_frames(
            self.net, portrait.reference, len(faces), condition, self.sampling, generator
        )
        pictures = (to_bytes(chunk[0]) for chunk in drawn)
        return timed_frames(pictures, self._inference, watch or Stopwatch())

    def _maps(
        self, faces: FaceCoefficients
    ) -> tuple[Float[Tensor, "t 7 h w"], Float[Tensor, "t k"]]:
        config = self.net.config
        maps = face_maps(face_model(), faces, config.map_size, config.drawn_positions)
        return maps.to(self.device), coefficient_vectors(faces).to(self.device)

    def _inference(self) -> AbstractContextManager:
        """Gradients off, in the session's precision."""
        return inference(self.device, self.precision)


def resized(pictures: Float[Tensor, "n 3 _ _"], size: int) -> Float[Tensor, "n 3 size size"]:
    """Square pictures in [-1, 1] at another size, scaled as clips are in training
    (`mien.media.scaled`).
    """
    if pictures.shape[-1] == size:
        return pictures
    return to_picture(torch.from_numpy(scaled(to_bytes(pictures), size)))
