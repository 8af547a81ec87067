"""Predict the lip gap from audio alone, to compare it with a clip's tracked lips (audio offset).

The net is the shipped stage 2's local encoder with its direct head: it takes no noise, history or
portrait. Axes: t frames, s audio samples.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mien.audio.features import SAMPLES_PER_FRAME
from mien.audio.pretrained import load_front_end
from mien.checkpoint import default_weights, load_speech_to_motion
from mien.errors import UserError
from mien.motion.lips import lip_measures

LONGEST = 60 * 25 * SAMPLES_PER_FRAME  # samples that are encoded at once: a minute


class LipsFromSound:
    """The net, loaded once.

    Raises:
        UserError: the weights are missing, or made without a mesh or a direct head.
    """

    def __init__(self) -> None:
        path = default_weights()[1]
        self._speech = load_speech_to_motion(path)
        if self._speech.direct is None or not self._speech.config.mesh:
            raise UserError(
                f"{path} has no direct head for the face mesh, which lips are predicted by: "
                "take weights with direct_head and mesh"
            )
        self._front_end = load_front_end(self._speech.config.front_end)

    @torch.inference_mode()
    def __call__(self, waveform: Float[Tensor, " s"]) -> Float[np.ndarray, " t"]:
        """The lip gap in each whole frame of audio at 16 kHz, in eye distances of the mean face."""
        whole = len(waveform) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME
        pieces = [self._gap(piece) for piece in waveform[:whole].split(LONGEST)] if whole else []
        return np.concatenate([np.zeros(0, np.float32), *pieces])

    def _gap(self, waveform: Float[Tensor, " s"]) -> Float[np.ndarray, " t"]:
        speech = self._speech
        assert speech.direct is not None
        features = self._front_end(waveform[None])
        read = speech.direct(speech.encode_audio(features).local)
        at_rest = torch.zeros(1, sum(speech.config.motion_blocks))
        return lip_measures(speech.space.decode(read, at_rest))[0, :, 0].numpy()
