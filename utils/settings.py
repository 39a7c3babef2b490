"""Fields of settings dataclasses that carry their command-line option.

Settings live beside the code that they steer; config/ builds the scripts' parsers from them (config.parser).
"""

import argparse
import dataclasses
from collections.abc import Iterable
from dataclasses import MISSING
from pathlib import Path
from typing import Any

ASSERTS_DOWNLOAD = "https://drive.google.com/drive/folders/1rPtOo9Uuhc59YfFVv4gBmkh0_oG0nCQb"
"""Where the published asserts.zip (weights, example) is."""
LSE_WEIGHTS_URL = "http://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model"
"""Chung and Zisserman's SyncNet, for LSE-D and LSE-C."""
OPTION = "option"
"""Key of a field's metadata that holds the option."""


def option(
    default: Any = MISSING,
    *,
    help: str,
    group: str | None = None,
    old: Iterable[str] = (),
    also: Iterable[str] = (),
    **named: Any,
) -> Any:
    """A field of a settings dataclass that a command-line option of the same name fills.

    Args:
        default: of the field and of the option; without one the option is required. A list is copied.
        help: text of the option, understood without its neighbours.
        group: title of the option's group in the help text, if not that of its class.
        old: earlier names of the option, without dashes; they still work and print a hint.
        also: other names of the option, without dashes, that stay.
        **named: arguments of argparse's add_argument: type, choices, nargs, action ... A default of False makes a flag.
    """
    if default is False and "action" not in named:
        named["action"] = "store_true"
    metadata = {OPTION: {"help": help, "group": group, "old": tuple(old), "also": tuple(also), **named}}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def positive_int(text: str) -> int:
    """A whole number above 0, at most a billion."""
    value = int(text)
    if not 0 < value <= 10**9:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 to a billion")
    return value


def positive_float(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def non_negative_int(text: str) -> int:
    """A whole number from 0 to a billion."""
    value = int(text)
    if not 0 <= value <= 10**9:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 to a billion")
    return value


def worker_count(text: str) -> int:
    """A number of processes, 1 to 1024."""
    value = int(text)
    if not 0 < value <= 1024:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 to 1024")
    return value


def folder_or_off(text: str) -> Path | None:
    """A folder; None for "off"."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; name a folder, or off")
    return None if text == "off" else Path(text)


def process_count(text: str) -> int:
    """A number of processes, 0 to 1024."""
    value = int(text)
    if not 0 <= value <= 1024:
        raise argparse.ArgumentTypeError(f"{text} is not a number of processes from 0 to 1024")
    return value


def non_negative(text: str) -> float:
    """A finite number, 0 or above."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be a finite number, 0 or above")
    return value


def fraction(text: str) -> float:
    """A number from 0 up to, but not including, 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 0 and below 1")
    return value


def as_paths(settings: Any, *names: str) -> None:
    """Turn strings into paths in the given fields of a frozen dataclass; for its `__post_init__`."""
    for name in names:
        value = getattr(settings, name)
        if value is not None:
            object.__setattr__(settings, name, Path(value))


def check_choices(settings: Any) -> None:
    """Check that fields with choices hold one of them, as the command line does; for a dataclass's `__post_init__`.

    Raises:
        ValueError: naming the field and the choices.
    """
    for field in dataclasses.fields(settings):
        choices = field.metadata.get(OPTION, {}).get("choices")
        value = getattr(settings, field.name)
        if choices is not None and value is not None and value not in choices:
            raise ValueError(f"{field.name} must be one of {', '.join(map(repr, choices))}, not {value!r}")
