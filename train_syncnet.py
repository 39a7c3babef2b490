"""Train SyncNet, which tells whether a mouth belongs to the speech: python train_syncnet.py --mouth_region_size 64."""

from config.training import SyncNetTrainingParser
from utils.errors import run_script


def main() -> None:
    """Run the script."""
    options = SyncNetTrainingParser().parse_args()
    # PyTorch takes seconds to load: not for --help or a mistyped option.
    from utils.distributed import init_distributed
    from utils.training.syncnet_stage import train

    with init_distributed(options.device) as (dist_info, device):
        train(options, dist_info, device)


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
