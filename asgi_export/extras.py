"""Rooms that stand on an optional library, opened when they are first needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from asgi_export.errors import StartupError


def open_room(module: str, *, extra: str) -> Any:
    """A module of ours whose imports may be missing. Raises `StartupError` that says what to install."""
    try:
        return import_module(module)
    except ImportError as error:
        missing = (error.name or str(error)).partition(".")[0]
        raise StartupError(f"{missing} is missing: pip install 'asgi-export[{extra}]'") from error
