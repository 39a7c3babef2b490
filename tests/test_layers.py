"""Where code may lie: layers that import downwards only, files and folders of a size that one can read."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = {path.stem for path in ROOT.glob("*.py")}
# A folder imports itself and what is named here; config, the scripts' parsers, also every module called settings.
ALLOWED = {
    "models": {"models"},
    "utils": {"utils", "models"},
    "dataset": {"dataset", "utils", "models"},
    "config": {"config", "utils.settings", "utils.errors", "utils.media.limits"},
}
MAX_LINES, MAX_FILES = 400, 10


def sources() -> list[Path]:
    """Every Python file of the project but the tests."""
    folders = (*ALLOWED, "asserts")
    return [*ROOT.glob("*.py"), *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    """Modules that a file imports, anywhere in it; relative ones with the folder's name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(".".join(path.relative_to(ROOT).parts[:-1]) if node.level else node.module)
    return found


def is_allowed(folder: str, module: str) -> bool:
    top = module.partition(".")[0]
    if top in SCRIPTS:
        return False
    if top not in ALLOWED or folder not in ALLOWED:
        return True
    if folder == "config" and module.endswith(".settings"):
        return True
    return any(f"{module}.".startswith(f"{other}.") for other in ALLOWED[folder])


def test_layers_import_downwards_only_and_no_file_imports_a_script():
    violations = set()
    for path in sources():
        place = path.relative_to(ROOT)
        violations |= {(place.as_posix(), module) for module in imports(path) if not is_allowed(place.parts[0], module)}
    assert not violations


def test_no_file_is_longer_than_one_reads():
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in sources()}
    assert not {name: length for name, length in lengths.items() if length > MAX_LINES}


def test_few_files_lie_directly_in_utils():
    files = sorted(path.name for path in (ROOT / "utils").glob("*.py") if path.name != "__init__.py")
    assert len(files) <= MAX_FILES, files


def test_each_folder_lists_its_files():
    """The docstring of a folder's __init__.py is its map: it names every file and folder in it, and no other."""
    for folder in {path.parent for path in sources()} - {ROOT} | {ROOT / "tests/helpers"}:
        if not (folder / "__init__.py").exists():
            continue
        text = (folder / "__init__.py").read_text(encoding="utf-8")
        listed = re.findall(r"^ *((?:\w+\.py, )*(?:\w+\.py|\w+/))(?= |$)", text, re.MULTILINE)
        named = {name for line in listed for name in line.split(", ")}
        there = {path.name for path in folder.glob("*.py")} - {"__init__.py"}
        there |= {f"{path.name}/" for path in folder.iterdir() if (path / "__init__.py").exists()}
        assert named == there, folder


@pytest.mark.parametrize(
    ("folder", "module", "allowed"),
    [
        ("models", "utils.errors", False),
        ("utils", "dataset.samples", False),
        ("utils", "config.parser", False),
        ("utils", "models.dinet", True),
        ("dataset", "train_syncnet", False),
        ("config", "utils.training.settings", True),
        ("config", "utils.training.trainer", False),
        ("train_syncnet.py", "dataset.loading", True),
        ("train_syncnet.py", "train_DINet_clip", False),
    ],
)
def test_the_rule_tells_allowed_imports_from_others(folder, module, allowed):
    assert is_allowed(folder, module) == allowed
