"""Train DINet on clips of five frames with a sync loss, from weights of the frame stage."""

from config.training import ClipTrainingParser
from utils.errors import run_script


def main() -> None:
    """Run the script."""
    options = ClipTrainingParser().parse_args()
    # PyTorch takes seconds to load: not for --help or a mistyped option.
    from utils.distributed import init_distributed
    from utils.training.clip_stage import train

    with init_distributed(options.device) as (dist_info, device):
        train(options, dist_info, device)


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
