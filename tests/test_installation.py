"""What pip installs is what the scripts need, with the same bounds everywhere."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py"))


def requirements(name: str) -> dict[str, list[str]]:
    """Lines of a requirements file and of those it includes, by package."""
    lines: dict[str, list[str]] = {}
    for line in (ROOT / name).read_text().splitlines():
        line = line.partition("#")[0].strip().replace('"', "'")
        if line.startswith("-r"):
            lines |= requirements(line.removeprefix("-r").strip())
        elif line:
            lines.setdefault(re.split(r"[<>=;]", line)[0].lower(), []).append(line)
    return lines


def project_requirements() -> list[str]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    return [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]


def test_every_requirement_of_the_package_stands_in_a_requirements_file_with_the_same_bounds():
    known = {}
    for file in ROOT.glob("requirements*.txt"):
        for name, lines in requirements(file.name).items():
            assert known.setdefault(name, lines) == lines, f"{file.name}: {name} has other bounds elsewhere"
    for line in project_requirements():
        name = re.split(r"[<>=;]", line)[0].lower()
        assert line in known[name]


def test_every_requirement_has_a_lower_and_an_upper_bound():
    for line in project_requirements():
        bounds = line.partition(";")[0]
        assert ">=" in bounds and "<" in bounds.replace(">=", ""), line


def test_every_script_is_installed_and_has_a_command():
    assert sorted(PROJECT["tool"]["setuptools"]["py-modules"]) == SCRIPTS
    commands = dict(target.split(":") for target in PROJECT["project"]["scripts"].values())
    assert sorted(commands) == SCRIPTS
    for script, function in commands.items():
        tree = ast.parse((ROOT / f"{script}.py").read_text())
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_files_that_the_readme_links_to_are_there(name):
    text = (ROOT / name).read_text()
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", text)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


@pytest.mark.parametrize("language", ["bash", "python"])
def test_the_chinese_readme_has_the_same_commands(language):
    assert blocks("README.md", language) == blocks("README.zh.md", language)


@pytest.mark.parametrize("file", ["Dockerfile", "docs/colab.ipynb"])
def test_docker_and_notebook_run_scripts_that_exist(file):
    text = (ROOT / file).read_text()
    scripts = set(re.findall(r"(\w+)\.py\b", text))
    assert scripts and scripts <= set(SCRIPTS)
    for requirement in re.findall(r"requirements[\w-]*\.txt", text):
        assert (ROOT / requirement).exists()
