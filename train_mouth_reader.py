"""Train a reader of the lips, so that little data teaches a generator to move them (not published)."""

from config.training import MouthReaderTrainingParser
from utils.errors import run_script


def main() -> None:
    """Run the script."""
    options = MouthReaderTrainingParser().parse_args()
    # PyTorch takes seconds to load: not for --help or a mistyped option.
    from utils.distributed import init_distributed
    from utils.training.mouth_reader_stage import train

    with init_distributed(options.device) as (dist_info, device):
        train(options, dist_info, device)


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
