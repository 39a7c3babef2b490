"""Fields of the page made from option definitions, and their values back: the same words and checks as inference.py."""

import argparse
import re
from collections.abc import Iterable, Mapping
from dataclasses import Field, fields
from typing import Any

import gradio as gr

from utils.errors import UserError
from utils.page.texts import help_key, text_key
from utils.settings import OPTION


def page_options(settings: type, without: Iterable[str] = ()) -> dict[str, Field]:
    """The fields of a settings dataclass that are options."""
    return {field.name: field for field in fields(settings) if OPTION in field.metadata and field.name not in without}


def option_help(options: Mapping[str, Field]) -> dict[str, str]:
    """The English help texts of options by their keys for gr.I18n; what is None on a command line is empty here."""
    return {
        text_key(help_key(name)): re.sub(r"\bNone\b", "empty", field.metadata[OPTION]["help"])
        for name, field in options.items()
    }


def make_field(field: Field, value: Any, info: Any) -> gr.components.Component:
    """A component for one option.

    Args:
        field: of a settings dataclass.
        value: shown first.
        info: its help text.
    """
    named = field.metadata[OPTION]
    common = {"label": field.name, "info": info, "elem_id": f"option-{field.name}"}
    if named.get("action") == "store_true":
        return gr.Checkbox(bool(value), **common)
    if named.get("choices"):
        return gr.Radio(list(named["choices"]), value=value, **common)
    if "int" in str(field.type) and field.default is not None:  # an empty gr.Number becomes 0
        return gr.Number(value, **common)
    return gr.Textbox("" if value is None else str(value), max_lines=1, **common)


def read_field(field: Field, value: Any) -> Any:
    """The option's value from that of its component.

    Raises:
        UserError: naming the option.
    """
    named = field.metadata[OPTION]
    if named.get("action") == "store_true":
        return bool(value)
    text = "" if value is None else str(value).strip()
    if isinstance(value, float) and value.is_integer():
        text = str(int(value))
    if not text:
        if field.default is None or "None" in str(field.type):
            return None
        raise UserError(f"--{field.name}: is empty; its default is {field.default}")
    try:
        return named.get("type", str)(text)
    except (argparse.ArgumentTypeError, ValueError) as error:
        reason = error if isinstance(error, argparse.ArgumentTypeError) else f"{text!r} is not a whole number"
        raise UserError(f"--{field.name}: {reason}") from None
