"""DeepSpeech 0.1: the features that the published DINet weights were trained on.

The network is a frozen TensorFlow graph; TensorFlow is imported only when a graph is loaded, and kept off the GPU.
"""

import contextlib
import os
from pathlib import Path
from types import ModuleType

import numpy as np

from utils.errors import UserError, require_file
from utils.media.audio import SPEECH_RATE, Waveform, to_int16
from utils.settings import ASSERTS_DOWNLOAD

MODEL_HINT = (
    f"output_graph.pb is in asserts.zip of {ASSERTS_DOWNLOAD}, "
    "and in deepspeech-0.1.0-models.tar.gz of https://github.com/mozilla/DeepSpeech/releases/tag/v0.1.0"
)
"""Where a user finds the graph."""

CHANNELS = 29
"""Values per row: the network's scores of the letters."""
COEFFICIENTS = 26
"""MFCC coefficients per row of the input."""
CONTEXT_ROWS = 9
"""Input rows on each side that the network sees besides the row itself."""

_INPUT_SIZE = (2 * CONTEXT_ROWS + 1) * COEFFICIENTS
_ROW_SAMPLES = SPEECH_RATE // 50
_WINDOW_SAMPLES = SPEECH_RATE // 40
_MFCC_BLOCK = 3000

# Audio is processed in pieces of 60 s, because the activations take 3 MB per second. 10 s of context on each side are
# more than the recurrent layer remembers. Audio of up to 80 s is one piece, exactly as published.
_PIECE_ROWS = 3000
_OVERLAP_ROWS = 500


def deepspeech_input(samples: np.ndarray) -> np.ndarray:
    """Input of the network.

    26 MFCC of 25 ms windows (python_speech_features) every 20 ms, nine zero rows at each end, 19 rows per window, the
    whole standardised by its own mean and standard deviation.

    Args:
        samples: int16 [N] at 16 kHz.

    Returns:
        float32 [T, 494] at 50 Hz.
    """
    coefficients = np.pad(_mfcc(samples), ((CONTEXT_ROWS, CONTEXT_ROWS), (0, 0)))
    windows = _windows(coefficients)
    mean = windows.mean()
    deviation = np.sqrt(_windows(np.square(coefficients - mean)).mean())
    return _windows(((coefficients - mean) / deviation).astype(np.float32)).reshape(-1, _INPUT_SIZE)


def _mfcc(samples: np.ndarray) -> np.ndarray:
    """float64 [T, 26]: every second row of python_speech_features' default 100 Hz, computed in blocks."""
    from python_speech_features import mfcc
    from python_speech_features.sigproc import preemphasis

    rows_at_100_hz = 1 + max(0, -(-(len(samples) - _WINDOW_SAMPLES) // (_ROW_SAMPLES // 2)))
    rows = (rows_at_100_hz + 1) // 2
    result = np.empty((rows, COEFFICIENTS))
    for first in range(0, rows, _MFCC_BLOCK):
        last = min(first + _MFCC_BLOCK, rows)
        start, stop = first * _ROW_SAMPLES, (last - 1) * _ROW_SAMPLES + _WINDOW_SAMPLES
        # Pre-emphasis needs the sample before the block, so it is done here and not by mfcc().
        block = preemphasis(samples[max(start - 1, 0) : stop].astype(np.float64), 0.97)[min(start, 1) :]
        block = np.pad(block, (0, stop - start - len(block)))
        result[first:last] = mfcc(block, SPEECH_RATE, winstep=0.02, numcep=COEFFICIENTS, preemph=0)
    return result


def _windows(rows: np.ndarray) -> np.ndarray:
    """View [T, 19, 26] of rows [T + 18, 26]."""
    windows = np.lib.stride_tricks.sliding_window_view(rows, 2 * CONTEXT_ROWS + 1, axis=0)
    return windows.transpose(0, 2, 1)


class DeepSpeech:
    """The network, loaded once.

    Args:
        path: the frozen graph `output_graph.pb`.
        option: command line option that `path` came from, for error messages.

    Raises:
        UserError: TensorFlow is missing, or the file is missing, damaged or another graph.
    """

    def __init__(self, path: str | Path, option: str = "--deepspeech_model_path"):
        path = require_file(path, option, MODEL_HINT)
        tf = import_tensorflow(option)
        from google.protobuf.message import DecodeError

        definition = tf.compat.v1.GraphDef()
        try:
            definition.ParseFromString(path.read_bytes())
            with tf.Graph().as_default() as graph:
                tf.import_graph_def(definition, name="")
            self._logits, self._input, self._lengths = (
                graph.get_tensor_by_name(f"{name}:0") for name in ("logits", "input_node", "input_lengths")
            )
            self._session = tf.compat.v1.Session(graph=graph, config=tf.compat.v1.ConfigProto(device_count={"GPU": 0}))
            shape = self._run(np.zeros((2, _INPUT_SIZE), np.float32)).shape
        except (DecodeError, KeyError, ValueError, IndexError, tf.errors.OpError) as error:
            raise UserError(
                f"{option}: {path} is not DeepSpeech 0.1's frozen graph, or it was cut off; {MODEL_HINT}"
            ) from error
        if shape != (2, CHANNELS):
            raise UserError(f"{option}: {path} is not DeepSpeech 0.1's frozen graph (output {shape}); {MODEL_HINT}")

    def __call__(self, waveform: Waveform) -> np.ndarray:
        """Logits float32 [T, 29] at 25 Hz of a 16 kHz waveform: every second row of the network's output."""
        inputs = deepspeech_input(to_int16(waveform.samples, np.trunc))
        total = len(inputs)
        single = total <= _PIECE_ROWS + 2 * _OVERLAP_ROWS
        piece = total if single else _PIECE_ROWS
        result = np.empty(((total + 1) // 2, CHANNELS), np.float32)
        for first in range(0, total, piece):
            last = min(first + piece, total)
            lead = min(first, _OVERLAP_ROWS)
            logits = self._run(inputs[first - lead : last + _OVERLAP_ROWS])
            result[first // 2 : (last + 1) // 2] = logits[lead : lead + last - first : 2]
        return result

    def _run(self, inputs: np.ndarray) -> np.ndarray:
        """[T, 29] at 50 Hz from [T, 494]."""
        feed = {self._input: inputs[None], self._lengths: [len(inputs)]}
        return self._session.run(self._logits, feed)[:, 0]


def import_tensorflow(option: str = "--audio_feature") -> ModuleType:
    """TensorFlow, loaded so that PyTorch's compiler still works after it; `option` is named in the error."""
    # Read when TensorFlow's libraries are loaded, hence before the import: no start-up messages of theirs.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow and Triton (torch.compile, torch's optimizers) each carry LLVM: loaded after TensorFlow, Triton aborts
    # the process ("registered more than once"); before it, both work.
    with contextlib.suppress(ImportError):
        import triton  # noqa: F401
    try:
        import tensorflow as tf
    except ImportError as error:
        raise UserError(
            f"{option}: DeepSpeech features need TensorFlow, which is not installed; pip install tensorflow"
        ) from error
    tf.get_logger().setLevel("ERROR")
    return tf
