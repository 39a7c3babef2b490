"""Option parsers that are built from settings: dataclasses whose fields carry their option's help and checks.

A script's options and the settings that they fill are defined in one place, next to the code that the settings
control (utils.settings has `option`):

    @dataclass(frozen=True)
    class EncoderSettings:
        crf: int = option(18, type=crf, help="H.264 quality, lower is better")

    parser = ScriptParser("Dub a video.")
    parser.add_settings("result", EncoderSettings)
    settings = make_settings(EncoderSettings, parser.parse_args())
"""

import argparse
import dataclasses
import logging
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from utils.settings import OPTION, option, positive_int

logger = logging.getLogger(__name__)
Settings = TypeVar("Settings")

__all__ = ["ScriptParser", "join_detached_values", "make_settings", "option", "positive_int"]


def join_detached_values(arguments: Sequence[str]) -> list[str]:
    """Mend `--option= some path`, the form of the command lines in the published README.

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


def _deprecated(action: str | type[argparse.Action], name: str) -> type[argparse.Action]:
    """The argparse action `action` for an old option name: it hints at the new name, and does the same."""
    base = argparse.ArgumentParser()._registry_get("action", action, action)

    class Deprecated(base):
        def __call__(self, parser, namespace, values, option_string=None):
            logger.warning(f"{option_string} is now called --{name}; the old name works in this version only")
            super().__call__(parser, namespace, values, option_string)

    return Deprecated


class ScriptParser(argparse.ArgumentParser):
    """An option parser whose errors are one line and whose help shows defaults."""

    def __init__(self, description: str, usage: str = "%(prog)s [option ...]", **named: Any):
        formatter = argparse.ArgumentDefaultsHelpFormatter
        super().__init__(description=description, usage=usage, formatter_class=formatter, **named)

    def add_settings(
        self,
        title: str,
        settings: type,
        names: Iterable[str] | None = None,
        description: str | None = None,
        **changed: Any,
    ) -> None:
        """Add the options of a settings dataclass as a group of the help text.

        Args:
            title: of the group; options that name a group of their own are listed in that one.
            settings: dataclass with fields made by `option`; other fields have no option of their own.
            names: fields to add, in this order; None: all.
            description: of the group, below its title.
            **changed: other defaults of this script, by field name.

        Raises:
            ValueError: a name that is no option of `settings`: a mistake in the script.
        """
        known = {field.name: field for field in fields(settings) if OPTION in field.metadata}
        names = option_names(settings) if names is None else list(names)
        if unknown := [name for name in (*names, *changed) if name not in known]:
            raise ValueError(f"{settings.__name__} has no options {unknown}")
        for name in names:
            field = known[name]
            named = dict(field.metadata[OPTION])
            old, also = named.pop("old"), named.pop("also")
            group = self._group(named.pop("group") or title, description)
            default = changed.get(name, _default(field))
            required = {"required": True} if default is MISSING else {"default": default}
            group.add_argument(f"--{name}", *(f"--{other}" for other in also), dest=name, **required, **named)
            if old:
                action = _deprecated(named.get("action", "store"), name)
                named = named | {"help": argparse.SUPPRESS, "action": action, "default": argparse.SUPPRESS}
                group.add_argument(*(f"--{other}" for other in old), dest=name, **named)

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """Convert an argument; an empty path would be the working folder."""
        if action.type is Path and not arg_string.strip():
            raise argparse.ArgumentError(action, "is empty; name a file or folder, or leave the option out")
        return super()._get_value(action, arg_string)

    def _group(self, title: str, description: str | None = None) -> argparse._ArgumentGroup:
        """The group of this title, which is made if it is not there."""
        known = {group.title: group for group in self._action_groups}
        return known[title] if title in known else self.add_argument_group(title, description)

    def add_removed(self, name: str, reason: str, **named: Any) -> None:
        """Accept an option that an earlier version had: it does nothing but say so.

        Args:
            name: without dashes.
            reason: why it is not needed.
            **named: for argparse's add_argument: how many values it takes.
        """

        class Removed(argparse.Action):
            def __call__(self, parser, namespace, values, option_string=None):
                logger.warning(f"{option_string} has no effect and will be refused by the next version: {reason}")

        self.add_argument(f"--{name}", action=Removed, help=argparse.SUPPRESS, default=argparse.SUPPRESS, **named)

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):
        """Parse; see argparse."""
        return super().parse_args(join_detached_values(sys.argv[1:] if args is None else args), namespace)

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        # argparse names the function that failed; all those that raise a ValueError read numbers.
        message = re.sub(r"invalid \w+ value: ", "not a valid number: ", message)
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def option_names(settings: type) -> list[str]:
    """Names of the options of a settings dataclass, in their order."""
    return [field.name for field in fields(settings) if OPTION in field.metadata]


def _default(field: dataclasses.Field) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def make_settings(settings: type[Settings], options: argparse.Namespace, **given: Any) -> Settings:
    """The dataclass `settings`, filled from the options of the same names.

    Args:
        settings: dataclass; every field is an option of the parser that made `options`, or is in `given`.
        options: parsed options.
        **given: values that are not those of an option.

    Raises:
        ValueError: a field without an option and without a given value: a mistake in the script.
    """
    names = {field.name for field in fields(settings)}
    values = {name: getattr(options, name) for name in names if hasattr(options, name)} | given
    if values.keys() != names:
        raise ValueError(f"{settings.__name__}: no option fills {sorted(names ^ values.keys())}")
    return settings(**values)
