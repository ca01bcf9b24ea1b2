"""Imports point down the README's list of rooms only; optional libraries are imported in their rooms only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "asgi_export"

FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("dataset", "extras", "toml_file", "workers"),
    ("asgi", "sources", "formats", "limiter"),
    ("access",),
    ("middleware",),
    ("parameters", "routes", "readiness", "export"),
    ("catalogue",),
    ("running",),
    ("app",),
    ("settings", "locations", "logs"),
    ("service",),
    ("__init__",),
    ("cli",),
    ("__main__",),
)
"""From the ground up. Rooms of one floor do not know each other, but for `EXCEPTIONS`."""

EXCEPTIONS = {("export", "parameters")}

LIBRARIES = {
    "uvicorn": {"cli"},
    "hypercorn": {"cli"},
    "asyncpg": {"sources/postgres_driver"},
    "redis": {"limiter/redis_driver"},
    "isal": {"asgi/compress"},
    "zstandard": {"asgi/compress"},
    "prometheus_client": {"middleware/metrics"},
}

FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: str) -> str:
    """The room of ``asgi_export.room.file``; the package itself is `__init__`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield str(node.module)


def floor_of(room: str) -> int:
    found = [place for place, rooms in enumerate(FLOORS) if room in rooms]
    assert found, f"{room} has no floor"
    return found[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imports(path):
        if module.split(".")[0] != "asgi_export" or room_of(module) == room:
            continue
        other = room_of(module)
        assert floor_of(other) < floor_of(room) or (room, other) in EXCEPTIONS, f"{room} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_optional_libraries_stay_in_their_rooms(path: Path) -> None:
    name = path.relative_to(PACKAGE).with_suffix("").as_posix()
    for module in imports(path):
        rooms = LIBRARIES.get(module.split(".")[0])
        assert rooms is None or name in rooms, f"{name} imports {module}"


def test_the_readme_names_every_room() -> None:
    text = (PACKAGE.parent / "README.md").read_text(encoding="utf-8")
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES} - {"__init__", "__main__"}
    missing = [room for room in sorted(rooms) if f"`{room}" not in text and f"{room}`" not in text]
    assert missing == []
