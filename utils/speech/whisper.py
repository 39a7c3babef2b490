"""Whisper: features of a Whisper tiny encoder, run by CTranslate2, which is imported only when a model is loaded."""

from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.media.audio import SPEECH_RATE, Waveform
from utils.speech.features import KINDS
from utils.speech.mel import padded

_ROW = SPEECH_RATE // 50
_WINDOW = 30 * SPEECH_RATE
_OVERLAP = 6 * SPEECH_RATE


class WhisperEncoder:
    """Encoder of a Whisper tiny model, English ("tiny.en") or of many languages ("tiny"): 384 numbers every 20 ms.

    The values are those of the encoder's final layer norm, minus those of silence at the same position in the
    window: about zero mean, standard deviation 1.2. Without the subtraction, a few channels of large values encode the
    position in the window rather than the audio (the centred cosine similarity of the same speech, 13 s apart in the
    window, is 0.53 without and 0.87 with it). Only local files are used; nothing is downloaded.
    """

    def __init__(self, model: str | Path, option: str = "--whisper_model"):
        try:
            import ctranslate2
            from faster_whisper.feature_extractor import FeatureExtractor as WhisperMel
            from faster_whisper.utils import download_model
        except ImportError as error:
            raise UserError(
                f"{option}: Whisper features need faster-whisper, which is not installed; pip install faster-whisper"
            ) from error
        hint = (
            "give the folder of a Whisper tiny model for CTranslate2 (model.bin, config.json), such as "
            "https://huggingface.co/Systran/faster-whisper-tiny.en"
        )
        try:
            folder = str(model) if Path(model).is_dir() else download_model(str(model), local_files_only=True)
        except (ValueError, OSError) as error:
            raise UserError(f"{option}: {model} is not on this computer; {hint}") from error
        try:
            # Not faster_whisper.WhisperModel: that would fetch a tokenizer, which features do not need.
            self._encoder = ctranslate2.models.Whisper(folder, device="cpu", compute_type="float32")
            self._mel = WhisperMel(feature_size=self._encoder.n_mels)
        except (RuntimeError, ValueError, TypeError) as error:
            raise UserError(
                f"{option}: {folder} holds no Whisper model that can be loaded ({error}); {hint}"
            ) from error
        self._storage_view = ctranslate2.StorageView
        self._silence = self._encode(np.zeros(_WINDOW, np.float32))
        channels = KINDS["whisper"].channels
        if self._silence.shape[1] != channels:
            raise UserError(f"{option}: {folder} gives {self._silence.shape[1]} channels, not {channels}; {hint}")

    def __call__(self, waveform: Waveform) -> np.ndarray:
        """float32 [ceil(duration * 50), 384].

        Windows of 30 s, the length that Whisper was trained on, overlap by 6 s and are cross-faded there: near its
        ends a window has context on one side only.
        """
        samples = waveform.samples
        total = -(-len(samples) // _ROW)
        values = np.zeros((total, KINDS["whisper"].channels), np.float32)
        weights = np.zeros((total, 1), np.float32)
        window_rows = _WINDOW // _ROW
        ramp = np.minimum(np.arange(window_rows), np.arange(window_rows)[::-1]).astype(np.float32)[:, None] + 1
        hop = _WINDOW - _OVERLAP
        for start in range(0, max(1, len(samples) - _OVERLAP), hop):
            encoded = self._encode(padded(samples, start, start + _WINDOW)) - self._silence
            first = start // _ROW
            count = min(window_rows, total - first)
            values[first : first + count] += ramp[:count] * encoded[:count]
            weights[first : first + count] += ramp[:count]
        values /= weights
        return values

    def _encode(self, samples: np.ndarray) -> np.ndarray:
        """float32 [1500, channels] of 30 s."""
        mel = np.ascontiguousarray(self._mel(samples, padding=0)[None], dtype=np.float32)
        return np.array(self._encoder.encode(self._storage_view.from_array(mel)))[0]
