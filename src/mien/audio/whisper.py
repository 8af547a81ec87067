"""The first two encoder layers of Whisper tiny.en (Radford et al. 2022), a frozen front end.

Weights: OpenAI, MIT, weights/WHISPER_LICENSE.txt; their names are those of transformers'
WhisperEncoder. Axes: b batch, s samples, n mel steps (100 a second), j encoder steps (50 a second),
f mel bins, d features per step.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from mien.audio.features import HOP, MEL_BINS, SAMPLES_PER_FRAME, frame_count, mel_filters
from mien.nn.initialization import NoInitialization
from mien.ops.precision import full_precision

WHISPER_WEIGHTS = (
    Path(__file__).parents[1] / "weights" / "whisper_tiny_en_encoder_2_layers.safetensors"
)
WIDTH = 384  # features per step
_HEADS, _LAYERS = 6, 2
_FFT = 400
# Encoder steps of a chunk and of the least overlap of two chunks, 10 s and 2.5 s. Whisper has
# positions up to 30 s; shorter chunks keep positions near those of the clips in training.
CHUNK, OVERLAP = 500, 125


class WhisperEncoder(nn.Module):
    """Two convolutions (the second halves the steps), sinusoidal positions, two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(MEL_BINS, WIDTH, 3, padding=1)
        self.conv2 = nn.Conv1d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(_Layer() for _ in range(_LAYERS))

    @full_precision
    def encode(self, mel: Float[Tensor, "b f n"]) -> Float[Tensor, "b j d"]:
        """The last layer's output for one chunk, n even, j = n / 2 and at most 1500 (30 s).

        Positions count from the start of the chunk. No final normalisation: Whisper applies it
        after its last layer only.
        """
        steps = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2)
        steps = steps + positions(steps.shape[1]).to(steps)
        for layer in self.layers:
            steps = layer(steps)
        return steps

    @torch.no_grad()
    def forward(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b j d"]:
        """Two steps a video frame, j = 2 * frame_count(s), step i centred on sample 320 i + 160.

        `waveform` is mono at 16 kHz in [-1, 1]; the last frame is padded with silence. Sound longer
        than 10 s is encoded in chunks of 10 s at equal distances, which overlap by 2.5 s or more;
        their outputs are averaged there with weights that fall to zero towards a chunk's edges.
        The log-mel of every chunk is normalised by the maximum of the whole utterance.
        """
        return torch.cat(list(self.pieces(waveform)), dim=1)

    @torch.no_grad()
    def pieces(self, waveform: Float[Tensor, "b s"]) -> Iterator[Float[Tensor, "b _ d"]]:
        """The steps of `forward` in order, a chunk's at a time: memory does not grow with s."""
        frames = frame_count(waveform.shape[1])
        j = 2 * frames
        starts = chunk_starts(j) if j > CHUNK else [0]
        loudest = _log_mel(waveform, -1, 0).amax(dim=(1, 2), keepdim=True)
        for start in range(0, 2 * j, 2 * CHUNK):
            part = _log_mel(waveform, start, min(start + 2 * CHUNK, 2 * j))
            loudest = loudest.maximum(part.amax(dim=(1, 2), keepdim=True))
        edge = (torch.arange(CHUNK) + 0.5).to(loudest) / OVERLAP
        weight = torch.minimum(edge, edge.flip(0)).clamp(max=1)[:, None]
        sums, weights = loudest.new_zeros(len(waveform), 0, WIDTH), loudest.new_zeros(0, 1)
        for start, after in zip(starts, [*starts[1:], j], strict=True):
            end = min(start + CHUNK, j)
            encoded = self.encode(_normalised(_log_mel(waveform, 2 * start, 2 * end), loudest))
            if len(starts) == 1:
                yield encoded
                return
            joined = CHUNK - sums.shape[1]
            sums = F.pad(sums, (0, 0, 0, joined)) + weight * encoded
            weights = F.pad(weights, (0, 0, 0, joined)) + weight
            final = after - start
            yield sums[:, :final] / weights[:final]
            sums, weights = sums[:, final:], weights[final:]


class _Layer(nn.Module):
    """Pre-norm transformer layer: self-attention and a feed-forward net, both residual."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(WIDTH)
        self.self_attn = _Attention()
        self.final_layer_norm = nn.LayerNorm(WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, steps: Float[Tensor, "b j d"]) -> Float[Tensor, "b j d"]:
        steps = steps + self.self_attn(self.self_attn_layer_norm(steps))
        return steps + self.fc2(F.gelu(self.fc1(self.final_layer_norm(steps))))


class _Attention(nn.Module):
    """Multi-head self-attention; Whisper's keys have no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.v_proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.k_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.out_proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, steps: Float[Tensor, "b j d"]) -> Float[Tensor, "b j d"]:
        q, k, v = (
            rearrange(project(steps), "b j (h d) -> b h j d", h=_HEADS)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(rearrange(attended, "b h j d -> b j (h d)"))


def load_whisper() -> WhisperEncoder:
    """The encoder with the shipped weights: frozen, in evaluation mode, float32, on the CPU."""
    with NoInitialization():
        encoder = WhisperEncoder()
    encoder.load_state_dict(load_file(WHISPER_WEIGHTS))
    return encoder.eval().requires_grad_(False)


def whisper_log_mel(waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b f n"]:
    """Log-mel as Whisper takes it, n = s // 160; step i is centred on sample 160 i.

    Base-10 logarithms, at most 8 below the loudest value of each utterance, then (x + 4) / 4.
    """
    level = _levels(F.pad(waveform[:, None], (_FFT // 2, _FFT // 2), mode="reflect")[:, 0])
    level = level[..., : waveform.shape[1] // HOP]
    return _normalised(level, level.amax(dim=(1, 2), keepdim=True))


@full_precision
def _levels(padded: Float[Tensor, "b s"]) -> Float[Tensor, "b f n"]:
    """Base-10 logarithms of the mel spectrum of every whole window."""
    window = torch.hann_window(_FFT, device=padded.device)
    spectrum = torch.stft(padded, _FFT, HOP, window=window, center=False, return_complex=True)
    power = spectrum.abs().square()
    mel = torch.einsum("fn,bnl->bfl", mel_filters(_FFT, "slaney").to(power), power)
    return mel.clamp(min=1e-10).log10()


def _normalised(
    level: Float[Tensor, "b f n"], loudest: Float[Tensor, "b 1 1"]
) -> Float[Tensor, "b f n"]:
    return (level.maximum(loudest - 8) + 4) / 4


def _log_mel(waveform: Float[Tensor, "b s"], first: int, end: int) -> Float[Tensor, "b f n"]:
    """Mel steps `first` to `end` before normalisation, step i centred on sample 160 (i + 1).

    Whisper centres step i on sample 160 i. One step more, and the first left out, centres encoder
    step i on the middle of its own 320 samples. The sound is filled with silence to its last frame
    and a step beyond, and reflected at both ends.
    """
    whole = frame_count(waveform.shape[1]) * SAMPLES_PER_FRAME + HOP
    begin, stop = HOP * (first + 1) - _FFT // 2, HOP * end + _FFT // 2
    left, right = max(0, begin), min(max(stop, _FFT), whole)  # room for what is reflected
    part = waveform[:, left:right].float()
    part = F.pad(part, (0, right - left - part.shape[1]))
    part = F.pad(part[:, None], (left - begin, max(0, stop - whole)), mode="reflect")[:, 0]
    return _levels(part[:, : stop - begin])


def chunk_starts(steps: int) -> list[int]:
    """First steps of the chunks that cover `steps` steps, of which there are more than CHUNK."""
    pieces = 1 + math.ceil((steps - CHUNK) / (CHUNK - OVERLAP))
    return [round(i * (steps - CHUNK) / (pieces - 1)) for i in range(pieces)]


def positions(steps: int) -> Float[Tensor, "steps d"]:
    """Sinusoidal positions: sines, then cosines of the step index, at frequencies 1 .. 1/10000."""
    half = WIDTH // 2
    frequencies = torch.exp(-math.log(10000) / (half - 1) * torch.arange(half))
    angle = torch.arange(steps)[:, None] * frequencies
    return torch.cat([angle.sin(), angle.cos()], dim=1)
