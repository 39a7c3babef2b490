"""Measure speed, also of a straight reading of the published code: python benchmark.py inference|training|stream."""

import json
import logging

from config.benchmark import BenchmarkParser
from utils.errors import make_folder, run_script
from utils.files import atomic_path

logger = logging.getLogger(__name__)


def main() -> None:
    """Run the script."""
    options = BenchmarkParser().parse_args()
    for option in ("json_path", "figure_path"):
        path = getattr(options, option, None)
        if path is not None:
            make_folder(path.parent, f"--{option}")
    # PyTorch takes seconds to load: not for --help or a mistyped option.
    from utils.benchmark.benchmarking import inference, training
    from utils.benchmark.streaming import stream

    commands = {"inference": inference, "training": training, "stream": stream}
    figures = commands[options.command](options)
    text = json.dumps(figures, indent=1)
    logger.info(text)
    if options.json_path is not None:
        with atomic_path(options.json_path) as partial:
            partial.write_text(text, encoding="utf-8")


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
