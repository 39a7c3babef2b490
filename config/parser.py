"""What the option parsers of all scripts share."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NoReturn, TypeVar

Settings = TypeVar("Settings")

ASSERTS_DOWNLOAD = "https://drive.google.com/drive/folders/1rPtOo9Uuhc59YfFVv4gBmkh0_oG0nCQb"
"""Where the published asserts.zip (weights, example) lies."""


def join_detached_values(arguments: Sequence[str]) -> list[str]:
    """Mend `--option= some path`, the way command lines stand in the published README.

    A shell splits such a value at its spaces and leaves `--option=` empty: join the words again.
    """
    joined: list[str] = []
    detached = False  # the option before has no value of its own yet, or was given one word by word
    for argument in arguments:
        if detached and not argument.startswith("--"):
            joined[-1] += argument if joined[-1].endswith("=") else f" {argument}"
        else:
            joined.append(argument)
            detached = argument.startswith("--") and argument.endswith("=")
    return joined


class ScriptParser(argparse.ArgumentParser):
    """An option parser whose errors are one line and whose help shows defaults."""

    def __init__(self, description: str, **named: Any):
        super().__init__(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, **named)

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):
        """Parse; see argparse."""
        return super().parse_args(join_detached_values(sys.argv[1:] if args is None else args), namespace)

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def positive_int(text: str) -> int:
    """A whole number above 0."""
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def pick(settings: type[Settings], options: argparse.Namespace) -> Settings:
    """The dataclass `settings` with its fields set from the options of the same names, where there are such."""
    names = [field.name for field in fields(settings) if hasattr(options, field.name)]
    return settings(**{name: getattr(options, name) for name in names})
