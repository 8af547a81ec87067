"""Times of p, b and m in audio, when lips must be closed. The only module using hama.

hama is a phoneme recogniser that needs no text (IPA, 50 steps a second; Apache-2.0; its own engine
and numpy). Axes: s audio samples, n sounds.
"""

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from mien.errors import UserError
from mien.types import FPS, SAMPLE_RATE

CLOSING = ("p", "b", "m", "ɓ")  # how the symbols of such sounds begin in IPA
STEP_SECONDS = 0.02


class Phonemes:
    """The recogniser, loaded once.

    Raises:
        UserError: it is not installed, or its engine does not run on this machine.
    """

    def __init__(self) -> None:
        try:
            from hama.asr import ASRModel  # pyright: ignore[reportMissingImports]

            self._model = ASRModel()
        except (ImportError, OSError, RuntimeError) as error:
            raise UserError(
                'finding p, b and m in the sound needs hama: pip install "mien[phonemes]"'
            ) from error

    def closures(self, waveform: Float[Tensor, " s"]) -> Int[np.ndarray, " n"]:
        """The video frames with a p, b or m, in order."""
        recognised = self._model(waveform.cpu().numpy(), SAMPLE_RATE)
        spans = self._model.phoneme_spans(recognised)
        steps = [span.start_frame for span in spans if span.phoneme.startswith(CLOSING)]
        return frames_of(np.array(steps, dtype=np.int64))


def frames_of(steps: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The video frames that hold the middles of the recogniser's steps."""
    return np.floor((steps + 0.5) * STEP_SECONDS * FPS).astype(np.int64)
