"""Optional libraries, and rooms that stand on one, opened when they are first needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from asgi_export.errors import StartupError


def import_extra(module: str, *, extra: str) -> Any:
    """A module that an extra installs, or one of ours that needs it. Raises `StartupError`: what to install."""
    try:
        return import_module(module)
    except ImportError as error:
        missing = (error.name or str(error)).partition(".")[0]
        raise StartupError(f"{missing} is missing: pip install 'asgi-export[{extra}]'") from error
