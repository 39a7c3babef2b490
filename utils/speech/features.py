"""Speech features, addressed by time: what the mouth has to say at any moment of the sound.

Time is counted in slots of 40 ms (a frame of 25 fps video); a feature kind has one or more rows a slot.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.media.audio import SPEECH_RATE, Waveform, check_not_silent, load_waveform

SLOTS_PER_SECOND = 25

MEL_RANGE_DB = (-60.0, 10.0)
"""Mel bands are clipped to this range, relative to the recording's own speech level.

At 70 dB below it, the digital silence of synthetic speech lies so far from recorded pauses that the generator's face
falls apart in it.
"""
MEL_MEAN_DB = -42.0
MEL_DEVIATION_DB = 15.0
"""Mean and standard deviation of the clipped mel bands of speech: that of 24 clips, of many speakers and codecs."""

_MEL_HOP = SPEECH_RATE // 100
_MEL_WINDOW = SPEECH_RATE // 40
_MEL_FFT = 512
_MEL_BLOCK = 6000

_WHISPER_ROW = SPEECH_RATE // 50
_WHISPER_WINDOW = 30 * SPEECH_RATE
_WHISPER_OVERLAP = 6 * SPEECH_RATE


@dataclass(frozen=True)
class FeatureKind:
    """A kind of speech feature: `channels` numbers a row, `rows_per_frame` rows a slot of 40 ms."""

    name: str
    channels: int
    rows_per_frame: int

    @property
    def rate(self) -> int:
        """Rows per second."""
        return SLOTS_PER_SECOND * self.rows_per_frame


KINDS = {
    kind.name: kind
    for kind in (FeatureKind("mel", 80, 4), FeatureKind("deepspeech", 29, 1), FeatureKind("whisper", 384, 2))
}
"""All kinds by name, as `--audio_feature` and checkpoints name them."""


@dataclass(frozen=True)
class SpeechFeatures:
    """Features of one recording: `values` float32 [T, channels], row j at j / kind.rate seconds."""

    kind: FeatureKind
    values: np.ndarray

    def __post_init__(self):
        if self.values.ndim != 2 or len(self.values) == 0 or self.values.shape[1] != self.kind.channels:
            raise ValueError(f"{self.kind.name} features need shape [T, {self.kind.channels}], not {self.values.shape}")

    def window(self, times: np.ndarray, frames: int = 5) -> np.ndarray:
        """Rows round the given moments.

        The window of time t holds `frames` slots; the one in the middle starts at t. Between rows, values are
        interpolated linearly; beyond the ends, the first and last rows are repeated. At multiples of 40 ms the
        window of "deepspeech" is rows n - 2 .. n + 2 of the published code.

        Args:
            times: float [B] seconds.
            frames: slots in a window: 5 for the generator, 9 for SyncNet.

        Returns:
            float32 [B, channels, frames * rows_per_frame].
        """
        rows = self.kind.rows_per_frame
        first = (np.asarray(times, np.float64) * SLOTS_PER_SECOND - frames // 2) * rows
        # Rounded: n / 25 * 25 is not always n, and a multiple of 40 ms is to give exact rows.
        position = np.round(first[:, None] + np.arange(frames * rows), 6)
        below = np.floor(position)
        share = (position - below).astype(np.float32)[..., None]
        last = len(self.values) - 1
        left = self.values[np.clip(below, 0, last).astype(np.int64)]
        right = self.values[np.clip(below + 1, 0, last).astype(np.int64)]
        return np.ascontiguousarray((left * (1 - share) + right * share).transpose(0, 2, 1), dtype=np.float32)


class FeatureExtractor:
    """Reads sound as features of one kind. A model that the kind needs is loaded here, once for many files.

    Args:
        kind_name: "mel", "deepspeech" or "whisper".
        deepspeech_model: DeepSpeech 0.1's frozen graph, for "deepspeech".
        whisper_model: folder of a Whisper tiny model for CTranslate2, or the name of one that faster-whisper has
            fetched before, for "whisper".
        deepspeech_option: command line option that `deepspeech_model` came from, for error messages.

    Raises:
        UserError: an unknown kind; a model or package that is missing or unfit.
    """

    def __init__(
        self,
        kind_name: str,
        deepspeech_model: str | Path | None = None,
        whisper_model: str | Path | None = None,
        deepspeech_option: str = "--deepspeech_model_path",
    ):
        if kind_name not in KINDS:
            raise UserError(f"--audio_feature: {kind_name!r} is unknown; choose one of {', '.join(KINDS)}")
        self.kind = KINDS[kind_name]
        self._loading = {"channel": "mean", "resampler": "soxr"}
        self._compute: Callable[[Waveform], np.ndarray]
        if kind_name == "deepspeech":
            from utils.speech.deepspeech import MODEL_HINT, DeepSpeech

            if deepspeech_model is None:
                raise UserError(f"{deepspeech_option}: needed for DeepSpeech features; {MODEL_HINT}")
            self._compute = DeepSpeech(deepspeech_model, deepspeech_option)
            self._loading = {"channel": "first", "resampler": "resampy"}  # as the published weights have seen it
        elif kind_name == "whisper":
            self._compute = _WhisperEncoder(whisper_model or "tiny.en")
        else:
            self._compute = mel_features

    def extract(self, audio_path: str | Path, option: str) -> tuple[SpeechFeatures, float]:
        """Features of a file, and the exact length of its sound in seconds.

        Args:
            audio_path: audio file, or video with sound.
            option: command line option that `audio_path` came from, for error messages.

        Raises:
            UserError: unreadable or silent sound.
        """
        waveform = load_waveform(audio_path, option, **self._loading)
        check_not_silent(waveform, audio_path, option)
        return SpeechFeatures(self.kind, self._compute(waveform)), waveform.duration


def extract_features(
    kind_name: str,
    audio_path: str | Path,
    option: str,
    deepspeech_model: str | Path | None = None,
    whisper_model: str | Path | None = None,
    deepspeech_option: str = "--deepspeech_model_path",
) -> tuple[SpeechFeatures, float]:
    """Features of one file and its length in seconds: see `FeatureExtractor`."""
    return FeatureExtractor(kind_name, deepspeech_model, whisper_model, deepspeech_option).extract(audio_path, option)


def mel_features(waveform: Waveform, block_rows: int = _MEL_BLOCK) -> np.ndarray:
    """Log-mel spectrogram that does not depend on the recording level.

    Power P of 80 mel bands (librosa, 50 .. 7600 Hz, triangles of height 1; 25 ms Hann windows every 10 ms, row j
    centred at 10 j ms), after pre-emphasis y[n] = x[n] - 0.97 x[n - 1], without which sibilants sink below the range.
    L = 10 log10(max(P, 1e-10)) dB. The speech level is the 99th percentile over rows of the loudest band: pauses,
    however long, do not move it, nor does a click. Result: (clip(L - level, -60, 10) + 42) / 15, about zero mean and
    unit variance.

    Args:
        waveform: at 16 kHz.
        block_rows: rows computed at a time; bounds memory, the result is the same.

    Returns:
        float32 [ceil(duration * 100), 80].
    """
    from librosa import power_to_db
    from librosa.feature import melspectrogram

    total = -(-len(waveform.samples) // _MEL_HOP)
    bands = np.empty((total, KINDS["mel"].channels), np.float32)
    for first in range(0, total, block_rows):
        last = min(first + block_rows, total)
        start, stop = first * _MEL_HOP - _MEL_FFT // 2, (last - 1) * _MEL_HOP + _MEL_FFT // 2
        block = _padded(waveform.samples, start - 1, stop)
        power = melspectrogram(
            y=block[1:] - np.float32(0.97) * block[:-1],
            sr=SPEECH_RATE,
            n_fft=_MEL_FFT,
            win_length=_MEL_WINDOW,
            hop_length=_MEL_HOP,
            center=False,
            n_mels=bands.shape[1],
            fmin=50,
            fmax=7600,
            norm=None,
        )
        bands[first:last] = power_to_db(power, ref=1.0, amin=1e-10, top_db=None).T
    bands -= np.float32(np.percentile(bands.max(axis=1), 99))
    np.clip(bands, *MEL_RANGE_DB, out=bands)
    bands -= np.float32(MEL_MEAN_DB)
    bands /= np.float32(MEL_DEVIATION_DB)
    return bands


def _padded(samples: np.ndarray, start: int, stop: int) -> np.ndarray:
    """samples[start:stop] with zeros beyond both ends."""
    inside = samples[max(start, 0) : max(stop, 0)]
    before = min(max(-start, 0), stop - start)
    return np.pad(inside, (before, stop - start - before - len(inside)))


class _WhisperEncoder:
    """Encoder of a Whisper tiny model, English ("tiny.en") or of many languages ("tiny"): 384 numbers every 20 ms.

    The values are those of the encoder's final layer norm, less its answer to silence at the same place of the window;
    nothing else is done to them: about zero mean, standard deviation 1.2. Without that, a few channels of large
    values tell the place in the window and hardly anything of the sound (the centred cosine similarity of the same
    speech, 13 s apart in the window, is 0.53 without and 0.87 with it). Only local files are used; nothing is fetched.
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
        self._silence = self._encode(np.zeros(_WHISPER_WINDOW, np.float32))
        channels = KINDS["whisper"].channels
        if self._silence.shape[1] != channels:
            raise UserError(f"{option}: {folder} gives {self._silence.shape[1]} channels, not {channels}; {hint}")

    def __call__(self, waveform: Waveform) -> np.ndarray:
        """float32 [ceil(duration * 50), 384].

        Windows of 30 s, the length that Whisper was trained on, overlap by 6 s and are cross-faded there: near its
        ends a window knows only one side of the sound.
        """
        samples = waveform.samples
        total = -(-len(samples) // _WHISPER_ROW)
        values = np.zeros((total, KINDS["whisper"].channels), np.float32)
        weights = np.zeros((total, 1), np.float32)
        window_rows = _WHISPER_WINDOW // _WHISPER_ROW
        ramp = np.minimum(np.arange(window_rows), np.arange(window_rows)[::-1]).astype(np.float32)[:, None] + 1
        hop = _WHISPER_WINDOW - _WHISPER_OVERLAP
        for start in range(0, max(1, len(samples) - _WHISPER_OVERLAP), hop):
            encoded = self._encode(_padded(samples, start, start + _WHISPER_WINDOW)) - self._silence
            first = start // _WHISPER_ROW
            count = min(window_rows, total - first)
            values[first : first + count] += ramp[:count] * encoded[:count]
            weights[first : first + count] += ramp[:count]
        values /= weights
        return values

    def _encode(self, samples: np.ndarray) -> np.ndarray:
        """float32 [1500, channels] of 30 s."""
        mel = np.ascontiguousarray(self._mel(samples, padding=0)[None], dtype=np.float32)
        return np.array(self._encoder.encode(self._storage_view.from_array(mel)))[0]
