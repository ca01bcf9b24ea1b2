"""Programs that people download with, or the reason why a test of them is skipped."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str) -> str:
    """Where it is. Where it is not installed the test is skipped, or fails where the environment says `CI=true`."""
    path = shutil.which(name)
    if path is None:
        reason = f"{name} is not installed"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    return path
