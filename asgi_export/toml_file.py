"""A TOML file that an operator wrote."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from asgi_export.errors import StartupError


def read_toml(path: Path) -> dict[str, Any]:
    """Read the document. Raises `StartupError`: one line with the path, and why it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartupError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # also a path with NUL, and numbers that are too long
        raise StartupError(f"{path}: not TOML: {error}") from None
