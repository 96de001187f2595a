"""Distributed, resumable sweeps for deepfake localization studies."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_NOTEBOOK = ("load", "results", "rows")


def __getattr__(name: str) -> Any:
    """Import what is for notebooks when it is used: `dfloc.results`, `dfloc.rows`, `dfloc.load`."""
    if name in _NOTEBOOK:
        return getattr(import_module("dfloc.notebook"), name)
    raise AttributeError(f"module dfloc has no attribute {name}")


def __dir__() -> list[str]:
    """Return the public names, those that are imported late included."""
    return sorted({*globals(), *_NOTEBOOK})
