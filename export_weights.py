"""Make a small file of trained weights to share: python export_weights.py --checkpoint FROM --result_path TO."""

import argparse
import logging
from pathlib import Path

from config.parser import ScriptParser
from utils.errors import UserError, run_script

logger = logging.getLogger(__name__)


def export(options: argparse.Namespace) -> None:
    """Write the trained network, the generator's averaged weights where there are such, in half precision.

    Raises:
        UserError: a checkpoint that cannot be read, or holds no network of the training scripts.
    """
    import torch

    from models.audio_to_lips import AUDIO_ENCODER
    from models.lip_regressor import MOUTH_READER
    from utils.checkpoints import AVERAGE_SUFFIX, SYNCNET, read_checkpoint, write_checkpoint

    if options.result_path.is_dir():
        raise UserError(f"--result_path: {options.result_path} is a folder; name a file, such as weights.pth")
    checkpoint = read_checkpoint(options.checkpoint, "--checkpoint")
    names = {f"net_g{AVERAGE_SUFFIX}": "net_g"}
    names |= {name: name for name in ("net_g", SYNCNET, AUDIO_ENCODER, MOUTH_READER)}
    stored = next((name for name in names if name in checkpoint.networks), None)
    if stored is None:
        raise UserError(f"--checkpoint: {checkpoint.path} is {checkpoint.describe()}, without a network to share")
    state = {
        key: value.half() if value.is_floating_point() and not options.fp32 else value
        for key, value in checkpoint.networks[stored].items()
    }
    unfit = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if unfit:
        raise UserError(f"--checkpoint: {unfit[0]} of {checkpoint.path} is beyond half precision; use --fp32")
    write_checkpoint(options.result_path, {names[stored]: state}, {}, checkpoint.epoch or 1, checkpoint.metadata)
    size = options.result_path.stat().st_size / 1e6
    logger.info(f"{options.result_path}: {stored} of {checkpoint.path}, {size:.1f} MB")


def main() -> None:
    """Run the script."""
    parser = ScriptParser("Make a small file of trained weights to share, without optimizers and discriminators.")
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint of a training")
    parser.add_argument("--result_path", type=Path, required=True, help="file to write")
    parser.add_argument("--fp32", action="store_true", help="keep full precision")
    export(parser.parse_args())


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
