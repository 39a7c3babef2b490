"""Share trained weights, or hand them to other programs: python export_weights.py --checkpoint FROM --format FORMAT."""

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from config.export_weights import FORMATS, RESULT_DIR, ExportParser
from utils.errors import UserError, run_script
from utils.files import file_keys

if TYPE_CHECKING:
    from models.dinet import DINet
    from utils.checkpoints import Checkpoint, Metadata

logger = logging.getLogger(__name__)


def choose_result(options: argparse.Namespace) -> tuple[str, Path]:
    """Format and path of the result.

    Raises:
        UserError: a name that does not fit the format.
    """
    path = options.result_path
    ending = "" if path is None else path.suffix.lower().removeprefix(".")
    form = options.format or (ending if ending in FORMATS else "pth")
    if path is None:
        path = RESULT_DIR / f"{options.checkpoint.stem}{'_onnx' if form == 'onnx' else f'.{form}'}"
    if form == "onnx":
        if path.is_file():
            raise UserError(f"--result_path: {path} is a file; ONNX graphs go into a folder, name one")
    elif file_keys(path) & file_keys(options.checkpoint):
        raise UserError(
            f"--result_path: {path} is the checkpoint itself, whose optimizers would be lost; name another file"
        )
    elif path.is_dir():
        raise UserError(f"--result_path: {path} is a folder; name a file, such as weights.{form}")
    elif (ending == "safetensors") != (form == "safetensors") and options.result_path is not None:
        raise UserError(f"--result_path: {path} does not end as the files of --format {form} do; name it *.{form}")
    return form, path


def export(options: argparse.Namespace) -> None:
    """Write the trained network; of a generator the moving average of its weights, if there is one.

    Raises:
        UserError: a checkpoint that cannot be read, or holds no network of the training scripts.
    """
    from utils.checkpoints import AUDIO_ENCODER, LIP_REGRESSOR, SYNCNET, read_checkpoint

    form, path = choose_result(options)
    speech = find_speech(options.speech_dir)
    checkpoint = read_checkpoint(options.checkpoint, "--checkpoint")
    names = {checkpoint.averaged(name): name for name in ("net_g", SYNCNET, AUDIO_ENCODER, LIP_REGRESSOR)}
    stored = next((stored for stored in names if stored in checkpoint.networks), None)
    if stored is None:
        raise UserError(
            f"--checkpoint: {checkpoint.path} is {checkpoint.describe()}, without a network to share; name another"
        )
    if options.average_with or options.shares:
        checkpoint = average(checkpoint, stored, options.average_with, options.shares)
    if speech:
        checkpoint = measure_speech(checkpoint, stored, speech)
    if form == "onnx":
        written = write_graphs(checkpoint, stored, path)
    else:
        written = [write_weights(checkpoint, stored, names[stored], form, path, options.fp32)]
    for file in written:
        logger.info(f"{file}: {stored} of {checkpoint.path}, {file.stat().st_size / 1e6:.1f} MB")


def average(checkpoint: "Checkpoint", stored: str, others: list[Path], shares: list[float] | None) -> "Checkpoint":
    """The checkpoint with the network `stored` averaged with that of others.

    Args:
        checkpoint: the first.
        stored: name of the network; others may have it with or without the average of its weights.
        others: files of the others.
        shares: of the first and of the others; None for equal ones.

    Raises:
        UserError: shares that do not fit the checkpoints, a checkpoint that cannot be read, another network.
    """
    import torch

    from utils.checkpoints import EMA_SUFFIX, read_checkpoint

    shares = shares or [1.0] * (1 + len(others))
    if len(shares) != 1 + len(others):
        raise UserError(f"--shares: {len(shares)} shares for {1 + len(others)} checkpoints; give one for each")
    name = stored.removesuffix(EMA_SUFFIX)
    states = [checkpoint.networks[stored]]
    for path in others:
        other = read_checkpoint(path, "--average_with")
        state = other.networks.get(other.averaged(name))
        if state is None:
            raise UserError(
                f"--average_with: {path} is {other.describe()}, without {name}; average checkpoints of one training"
            )
        shapes = {key: value.shape for key, value in state.items()}
        if (
            shapes != {key: value.shape for key, value in states[0].items()}
            or replace(other.metadata, max_audio_norm=checkpoint.metadata.max_audio_norm) != checkpoint.metadata
        ):
            raise UserError(
                f"--average_with: {path} is another network than {checkpoint.path}; name one of the same kind"
            )
        states.append(state)
    mean = {}
    for key, first in states[0].items():
        if not first.is_floating_point():
            mean[key] = first
            continue
        weighted = [share * state[key].double() for share, state in zip(shares, states, strict=True)]
        mean[key] = (torch.stack(weighted).sum(0) / sum(shares)).float()
    return replace(checkpoint, networks={stored: mean})


def find_speech(folder: Path | None) -> list[Path]:
    """The files of --speech_dir; none without it.

    Raises:
        UserError: a folder without files.
    """
    if folder is None:
        return []
    files = sorted(path for path in folder.glob("*") if path.is_file() and not path.name.startswith("."))
    if not files:
        raise UserError(f"--speech_dir: {folder} is no folder with audio files; name that of the training's speech")
    return files


def measure_speech(checkpoint: "Checkpoint", stored: str, files: list[Path]) -> "Checkpoint":
    """The checkpoint with `max_audio_norm` in its metadata, measured on the training's speech.

    Raises:
        UserError: no generator, or a file that cannot be read or is silent.
    """
    from tqdm import tqdm

    from utils.export.audio_norm import QUANTILE, max_audio_norm
    from utils.speech.extractor import FeatureExtractor

    network, metadata = load_generator(checkpoint, stored, "--speech_dir")
    extractor = FeatureExtractor(metadata.audio_feature)
    norm = max_audio_norm(network.eval(), extractor, tqdm(files, unit="file", disable=None), "--speech_dir")
    logger.info(f"{QUANTILE:.0%} of the audio embeddings have a norm of at most {norm:.2f}")
    return replace(checkpoint, metadata=replace(checkpoint.metadata, max_audio_norm=norm))


def write_weights(checkpoint: "Checkpoint", stored: str, name: str, form: str, path: Path, fp32: bool) -> Path:
    """Write the network `stored` of a checkpoint alone, called `name`; in half precision unless `fp32`."""
    import torch

    from utils.checkpoints import write_checkpoint, write_safetensors

    state = {
        key: value.half() if value.is_floating_point() and not fp32 else value
        for key, value in checkpoint.networks[stored].items()
    }
    unfit = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if unfit:
        raise UserError(f"--checkpoint: {unfit[0]} of {checkpoint.path} is beyond half precision; use --fp32")
    epoch = checkpoint.epoch or 1
    if form == "safetensors":
        write_safetensors(path, {name: state}, epoch, checkpoint.metadata)
    else:
        write_checkpoint(path, {name: state}, {}, epoch, checkpoint.metadata)
    return path


def write_graphs(checkpoint: "Checkpoint", stored: str, folder: Path) -> list[Path]:
    """Write the generator as ONNX graphs into `folder`."""
    from utils.export.onnx_graphs import write_onnx

    network, metadata = load_generator(checkpoint, stored, "--format onnx")
    network.max_audio_norm = metadata.max_audio_norm
    return write_onnx(network, metadata, folder)


def load_generator(checkpoint: "Checkpoint", stored: str, option: str) -> tuple["DINet", "Metadata"]:
    """The generator `stored` of a checkpoint, and its metadata, complete.

    Raises:
        UserError: another network, naming `option`.
    """
    from models.dinet import DINet
    from utils.checkpoints import load_network
    from utils.dubbing.load import complete_metadata
    from utils.dubbing.settings import LoadSettings

    if not stored.startswith("net_g"):
        raise UserError(f"--checkpoint: {checkpoint.path} is {checkpoint.describe()}; {option} takes a DINet generator")
    metadata = complete_metadata(LoadSettings(), checkpoint.metadata)
    state = checkpoint.networks[stored]
    inputs = [
        state[f"{part}.0.conv.weight"].shape[1] if f"{part}.0.conv.weight" in state else count
        for part, count in (("source_in_conv", 3), ("ref_in_conv", 15))
    ]
    network = DINet(*inputs, metadata.audio_channel, metadata.feature_channel)
    load_network(network, checkpoint, stored, "--checkpoint")
    return network, metadata


def main() -> None:
    """Run the script."""
    export(ExportParser().parse_args())


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
