"""Fixtures and options shared by all tests."""

import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # One worker per core: more threads would only wait for each other. Before torch and numpy are loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

TESTS = Path(__file__).parent
CLIPS = TESTS.parent.parent / "shared" / "clips"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    skips = {}
    if not config.getoption("--slow"):
        skips["slow"] = "slow: run with --slow"
    if not CLIPS.is_dir():
        skips["clips"] = f"needs the clips of {CLIPS}"
    if not torch.cuda.is_available():
        skips["gpu"] = "needs a CUDA GPU"
    # The longest files first, so that no process is left with one at the end.
    slow_files = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow_files)
    for item in items:
        for name, reason in skips.items():
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def clips_dir() -> Path:
    """Folder of real clips."""
    if not CLIPS.is_dir():
        pytest.skip(f"needs the clips of {CLIPS}")
    return CLIPS


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder of the golden outputs; its `formula.py` makes the weights and inputs they were computed with."""
    return TESTS / "golden"


@pytest.fixture(scope="session")
def golden_forward(golden_dir: Path) -> dict[str, np.ndarray]:
    """Outputs of every network in `forward_mouth64.npz`."""
    with np.load(golden_dir / "forward_mouth64.npz") as file:
        return dict(file)
