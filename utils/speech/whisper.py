"""Whisper features: what the encoder of a Whisper tiny model gives for audio of any length.

The encoder of tiny.en comes with DINet. Others are run by CTranslate2, which is imported only then.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from models.whisper_encoder import SAMPLE_COUNT, WIDTH, WhisperEncoder
from utils.checkpoints import WHISPER_ENCODER, load_network, read_checkpoint
from utils.errors import UserError
from utils.media.audio import SPEECH_RATE, Waveform
from utils.speech.mel import padded

SHIPPED_ENCODER = Path(__file__).resolve().parents[2] / "asserts" / "demo" / "whisper_encoder.pth"
OPTION = "--whisper_model"
_HINT = (
    "give the folder of a Whisper tiny model for CTranslate2 (model.bin, config.json), such as "
    "https://huggingface.co/Systran/faster-whisper-tiny, or leave the option out"
)
_ROW = SPEECH_RATE // 50
_OVERLAP = 6 * SPEECH_RATE

Encode = Callable[[np.ndarray], np.ndarray]
"""Samples [SAMPLE_COUNT] to what the encoder's final layer norm returns, float32 [1500, 384]."""


class WhisperFeatures:
    """Features of audio of any length: 384 numbers every 20 ms.

    The values are those of the encoder's final layer norm, minus those of silence at the same position in the
    window: about zero mean, standard deviation 1.2. Without the subtraction, a few channels of large values encode the
    position in the window rather than the audio (the centred cosine similarity of the same speech, 13 s apart in the
    window, is 0.53 without and 0.87 with it).

    Args:
        encode: runs the encoder.
    """

    def __init__(self, encode: Encode):
        self._encode = encode
        self._silence = encode(np.zeros(SAMPLE_COUNT, np.float32))
        self.channels = self._silence.shape[1]

    def __call__(self, waveform: Waveform) -> np.ndarray:
        """float32 [ceil(duration * 50), 384].

        Windows of 30 s, the length that Whisper was trained on, overlap by 6 s and are cross-faded there: near its
        ends a window has context on one side only.
        """
        samples = waveform.samples
        total = -(-len(samples) // _ROW)
        values = np.zeros((total, WIDTH), np.float32)
        weights = np.zeros((total, 1), np.float32)
        window_rows = SAMPLE_COUNT // _ROW
        ramp = np.minimum(np.arange(window_rows), np.arange(window_rows)[::-1]).astype(np.float32)[:, None] + 1
        hop = SAMPLE_COUNT - _OVERLAP
        for start in range(0, max(1, len(samples) - _OVERLAP), hop):
            encoded = self._encode(padded(samples, start, start + SAMPLE_COUNT)) - self._silence
            first = start // _ROW
            count = min(window_rows, total - first)
            values[first : first + count] += ramp[:count] * encoded[:count]
            weights[first : first + count] += ramp[:count]
        values /= weights
        return values


def load_whisper(model: str | Path | None = None) -> WhisperFeatures:
    """Load a Whisper tiny model, English ("tiny.en") or of many languages ("tiny"). Nothing is downloaded.

    Args:
        model: folder of a model for CTranslate2, or the name of one that faster-whisper has fetched before; None: the
            encoder of tiny.en that comes with DINet.

    Raises:
        UserError: a model or package that is missing or unfit.
    """
    features = WhisperFeatures(_shipped_encoder() if model is None else _ctranslate2_encoder(model))
    if features.channels != WIDTH:
        raise UserError(f"{OPTION}: {model} gives {features.channels} channels, not {WIDTH}; {_HINT}")
    return features


def _shipped_encoder() -> Encode:
    network = WhisperEncoder()
    hint = f"restore this file of the repository, or give {OPTION}"
    load_network(network, read_checkpoint(SHIPPED_ENCODER, OPTION, hint), WHISPER_ENCODER, OPTION)
    network.eval()

    @torch.inference_mode()
    def encode(samples: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(samples)[None])[0].numpy()

    return encode


def _ctranslate2_encoder(model: str | Path) -> Encode:
    try:
        import ctranslate2
        from faster_whisper.feature_extractor import FeatureExtractor as WhisperMel
        from faster_whisper.utils import download_model
    except ImportError as error:
        raise UserError(
            f"{OPTION}: other Whisper models than the one that comes with DINet need faster-whisper, which is not "
            "installed; pip install faster-whisper, or leave the option out"
        ) from error
    try:
        folder = str(model) if Path(model).is_dir() else download_model(str(model), local_files_only=True)
    except (ValueError, OSError) as error:
        raise UserError(f"{OPTION}: {model} is not on this computer; {_HINT}") from error
    try:
        # Not faster_whisper.WhisperModel: that would fetch a tokenizer, which features do not need.
        encoder = ctranslate2.models.Whisper(folder, device="cpu", compute_type="float32")
        mel = WhisperMel(feature_size=encoder.n_mels)
    except (RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"{OPTION}: {folder} holds no Whisper model that can be loaded ({error}); {_HINT}") from error

    def encode(samples: np.ndarray) -> np.ndarray:
        spectrogram = np.ascontiguousarray(mel(samples, padding=0)[None], dtype=np.float32)
        return np.array(encoder.encode(ctranslate2.StorageView.from_array(spectrogram)))[0]

    return encode
