"""Pretends that a package is not installed."""

import builtins

import pytest


def without_package(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Make `import package` fail."""
    real_import = builtins.__import__

    def fail(name: str, *args, **kwargs):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fail)
