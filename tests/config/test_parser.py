"""Options made from settings."""

import argparse
from dataclasses import dataclass

import pytest

from config.parser import ScriptParser, make_settings, option, option_names, positive_int


@dataclass(frozen=True)
class Oven:
    degrees: int = option(180, type=positive_int, help="temperature in degrees Celsius", old=["heat"])
    fan: bool = option(False, help="use the fan")
    dishes: list[str] = option(["pie"], nargs="+", help="what is baked")


def parser() -> ScriptParser:
    parser = ScriptParser("Bake.")
    parser.add_settings("oven", Oven)
    return parser


def test_defaults_are_those_of_the_dataclass():
    assert make_settings(Oven, parser().parse_args([])) == Oven()


def test_options_fill_the_settings():
    options = parser().parse_args(["--degrees", "200", "--fan", "--dishes", "bread", "cake"])
    assert make_settings(Oven, options) == Oven(200, True, ["bread", "cake"])


def test_the_help_names_default_and_text():
    text = " ".join(parser().format_help().split())
    assert "temperature in degrees Celsius (default: 180)" in text
    assert "--heat" not in text


def test_an_old_name_works_with_a_hint(caplog):
    assert parser().parse_args(["--heat", "90"]).degrees == 90
    assert "--heat is now called --degrees" in caplog.text
    with pytest.raises(SystemExit):
        parser().parse_args(["--heat", "-1"])


@pytest.mark.parametrize("text", ["", "x", "1.5", "-1", "9" * 5000])
def test_a_wrong_number_is_one_line_without_names_of_functions(capsys, text):
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["--degrees", text])
    errors = capsys.readouterr().err
    assert ended.value.code == 2 and errors.count("\n") == 1
    assert "argument --degrees: " in errors and "positive_int" not in errors and "--help)" in errors


def test_a_script_may_change_a_default():
    script = ScriptParser("Bake.")
    script.add_settings("oven", Oven, ["degrees"], degrees=150)
    assert script.parse_args([]).degrees == 150


def test_a_setting_without_an_option_is_an_error():
    with pytest.raises(ValueError, match="Oven: no option fills \\['dishes', 'fan'\\]"):
        make_settings(Oven, argparse.Namespace(degrees=1))


def test_an_option_without_a_setting_is_an_error():
    with pytest.raises(ValueError, match="Oven has no options \\['grill'\\]"):
        ScriptParser("Bake.").add_settings("oven", Oven, ["grill"])
    with pytest.raises(ValueError, match="no option fills \\['grill'\\]"):
        make_settings(Oven, parser().parse_args([]), grill=True)


def test_an_option_may_stand_in_a_group_of_its_own():
    @dataclass(frozen=True)
    class Shelf:
        boards: int = option(3, type=positive_int, group="oven", help="number of boards")
        color: str = option("white", help="color of the shelf")

    parser = ScriptParser("Bake.")
    parser.add_settings("oven", Oven)
    parser.add_settings("shelf", Shelf)
    members = {group.title: {action.dest for action in group._group_actions} for group in parser._action_groups}
    assert members["oven"] == {"degrees", "fan", "dishes", "boards"} and members["shelf"] == {"color"}
    assert option_names(Shelf) == ["boards", "color"]


def test_a_removed_option_says_that_it_does_nothing(caplog):
    script = parser()
    script.add_removed("grill", "the oven has none", nargs="?")
    options = script.parse_args(["--grill", "high", "--degrees", "90"])
    assert options.degrees == 90 and not hasattr(options, "grill")
    assert "--grill has no effect and will be refused by the next version: the oven has none" in caplog.text
    assert "--grill" not in script.format_help()
