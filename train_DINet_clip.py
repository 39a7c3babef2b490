"""Train DINet on clips of five frames with a sync loss, from weights of the frame stage."""

from config.training import ClipTrainingParser
from utils.errors import run_script


def main() -> None:
    """Run the script."""
    options = ClipTrainingParser().parse_args()
    # PyTorch takes seconds to load: not for --help or a mistyped option.
    from utils.distributed import training_processes
    from utils.training.clip_stage import train

    with training_processes(options.device) as (processes, device):
        train(options, processes, device)


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
