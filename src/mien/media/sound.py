"""Sound in: any file that libsndfile or FFmpeg reads becomes mono at 16 kHz.

Axes: s audio samples.
"""

from pathlib import Path

import av
import numpy as np
import soundfile
import soxr
import torch
from av.error import FFmpegError
from jaxtyping import Float
from torch import Tensor

from mien.errors import UserError
from mien.media.files import readable
from mien.types import SAMPLE_RATE

Array = np.ndarray


def load_audio(path: Path) -> Float[Tensor, " s"]:
    """The sound of a file as mono 16 kHz in [-1, 1].

    Channels are averaged, what exceeds full scale is made quieter as a whole, and sound that starts
    late in a video is preceded by silence.

    Raises:
        UserError: there is no such file, it holds no sound, or samples that are no numbers.
    """
    path = readable(path, "sound")
    try:
        channels, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
        sound = channels.mean(axis=1)
    except (soundfile.LibsndfileError, RuntimeError):  # not one of libsndfile's formats
        sound, rate = _decode(path)
    if not len(sound):
        raise UserError(f"{path} holds no sound: it has no samples; take another file")
    if not np.isfinite(sound).all():
        raise UserError(f"{path} holds samples that are not numbers (NaN or infinite): repair it")
    sound = soxr.resample(sound, rate, SAMPLE_RATE)
    peak = float(np.abs(sound).max(initial=0.0))
    return torch.from_numpy(np.ascontiguousarray(sound / max(peak, 1.0), dtype=np.float32))


def _decode(path: Path) -> tuple[Float[Array, " s"], int]:
    """Mono sound and its rate through FFmpeg."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UserError(f"{path} holds no sound: take a wav, mp3, m4a, flac or a video")
            stream = container.streams.audio[0]
            rate = stream.rate
            # FFmpeg's own mixing would follow loudness conventions; channels are averaged as above.
            planes = av.AudioResampler(format="fltp", layout=stream.layout, rate=rate)
            start, parts = None, []
            for frame in container.decode(stream):
                if start is None and frame.time is not None:
                    start = frame.time
                parts += [part.to_ndarray().mean(axis=0) for part in planes.resample(frame)]
            length = stream.duration and float(stream.duration * (stream.time_base or 0))
    except (FFmpegError, OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as sound: take a wav, mp3, m4a, flac or a video"
        ) from error
    sound = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if length:  # encoders fill up their last block
        sound = sound[: round(length * rate)]
    late = round((start or 0.0) * rate)
    sound = np.pad(sound, (late, 0)) if late > 0 else sound[-late or None :]
    return sound.astype(np.float32), rate
