"""Train the generator's audio encoder on lip landmarks, so that little data is enough for the rest (not published)."""

from config.training import AudioEncoderTrainingParser
from utils.errors import run_script


def main() -> None:
    """Run the script."""
    options = AudioEncoderTrainingParser().parse_args()
    # PyTorch takes seconds to load: not for --help or a mistyped option.
    from utils.distributed import init_distributed
    from utils.training.audio_stage import train

    with init_distributed(options.device) as (dist_info, device):
        train(options, dist_info, device)


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
