"""Encoder of Whisper tiny (Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022)."""

import torch
import torch.nn.functional as F
from torch import nn

SAMPLE_COUNT = 30 * 16000
"""Samples that the encoder takes: 30 s at 16 kHz."""
ROWS = 1500
WIDTH, HEADS, LAYERS = 384, 6, 4
MELS, FFT_SIZE, HOP = 80, 400, 160
RANGE = 8.0
"""Decades of power, below the loudest band, beyond which the spectrogram is clipped."""


class WhisperEncoder(nn.Module):
    """Waveforms [B, SAMPLE_COUNT] at 16 kHz, in [-1, 1], to features [B, ROWS, WIDTH], one row every 20 ms.

    Computes what OpenAI's encoder does, from their log-mel spectrogram to the last layer norm; the filters of the
    spectrogram are in the weights, as librosa, which makes them, takes seconds to import.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("mel_filters", torch.zeros(MELS, FFT_SIZE // 2 + 1))
        self.register_buffer("window", torch.hann_window(FFT_SIZE), persistent=False)
        self.register_buffer("positions", torch.zeros(ROWS, WIDTH))
        self.conv1 = nn.Conv1d(MELS, WIDTH, 3, padding=1)
        self.conv2 = nn.Conv1d(WIDTH, WIDTH, 3, stride=2, padding=1)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0, activation="gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """See the class."""
        hidden = F.gelu(self.conv1(self._log_mel(samples)))
        hidden = F.gelu(self.conv2(hidden)).transpose(1, 2)
        return self.transformer(hidden + self.positions)

    def _log_mel(self, samples: torch.Tensor) -> torch.Tensor:
        """Log-mel spectrogram [B, MELS, 2 * ROWS], about -1 .. 1."""
        spectrum = torch.stft(samples, FFT_SIZE, HOP, window=self.window, return_complex=True)[..., :-1]
        decades = (self.mel_filters @ spectrum.abs().square()).clamp(min=1e-10).log10()
        return (torch.maximum(decades, decades.amax((1, 2), keepdim=True) - RANGE) + 4) / 4
