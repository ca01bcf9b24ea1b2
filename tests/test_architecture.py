"""Imports point down the rooms of docs/architecture.md only; optional libraries are imported in their rooms only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "asgi_export"

FLOORS: tuple[tuple[str, ...], ...] = (
    ("addresses", "caller", "declared", "errors"),
    ("extras", "measure", "memory", "table", "tasks", "toml_file"),
    ("threads", "values"),
    ("columns",),
    ("asgi", "formats", "redis_client", "sources"),
    ("limiter",),
    ("access",),
    ("export",),
    ("middleware",),
    ("openapi",),
    ("app",),
    ("settings", "locations", "logs"),
    ("service",),
    ("serving",),
    ("__init__",),
    ("cli",),
    ("__main__",),
)
"""From the ground up. Rooms of one floor do not know each other."""

COLUMNS = {
    "columns",
    "formats/columnar",
    "formats/arrow",
    "sources/files",
    "sources/arrow_items",
    "sources/arrow_types",
}

LIBRARIES = {
    "pyarrow": COLUMNS,
    "polars": {"columns", "formats/arrow"},
    "duckdb": {"sources/files/sorting"},
    "uvicorn": {"serving/uvicorn_server"},
    "hypercorn": {"serving/hypercorn_server"},
    "asyncpg": {"sources/postgres/driver"},
    "redis": {"redis_client/driver"},
    "isal": {"asgi/coding"},
    "zstandard": {"asgi/coding"},
    "prometheus_client": {"middleware/metrics"},
    "jwt": {"access/jwks", "access/tokens"},
    "cryptography": {"access/jwks"},
}

"""Where an optional library may be named; a room may be of several files that begin alike."""

FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted(Path(__file__).parent.rglob("*.py"))
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES
}


def room_of(module: str) -> str:
    """The room of ``asgi_export.room.file``; the package itself is `__init__`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path) -> Iterator[str]:
    """The modules that a file names in import statements, wherever they stand."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else str(node.module) for name in names)


def floor_of(room: str) -> int:
    found = [place for place, rooms in enumerate(FLOORS) if room in rooms]
    assert found, f"{room} has no floor"
    return found[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    """And so nobody inside imports the package's own names, but for the command line its version."""
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in set(imports(path)):
        if module.split(".")[0] != "asgi_export" or room_of(module) == room:
            continue
        other = room_of(module)
        assert floor_of(other) < floor_of(room), f"{room} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_optional_libraries_stay_in_their_rooms(path: Path) -> None:
    name = path.relative_to(PACKAGE).with_suffix("").as_posix()
    for module in set(imports(path)):
        rooms = LIBRARIES.get(module.split(".")[0], {name})
        assert any(name.startswith(room) for room in rooms), f"{name} imports {module}"


def test_no_file_stands_on_itself() -> None:
    """Not even within a room."""
    needs = {module: {found for found in imports(path) if found in MODULES} for module, path in MODULES.items()}
    assert len(list(TopologicalSorter(needs).static_order())) == len(FILES)


def test_every_file_is_on_the_list_and_the_list_names_no_other() -> None:
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert rooms == {room for floor in FLOORS for room in floor}


def test_the_service_is_imported_without_what_is_heavy() -> None:
    """Polars and pyarrow cost 50 MB, where nobody asked for columns; redis-py a fifth of the time of a start."""
    heavy = {"duckdb", "hypercorn", "jwt", "numpy", "pandas", "polars", "pyarrow", "redis"}
    script = f"import sys, asgi_export.service, asgi_export.cli; print({heavy} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_the_page_on_architecture_names_every_room() -> None:
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES} - {"__init__", "__main__"}
    missing = [room for room in sorted(rooms) if f"`{room}" not in text and f"{room}`" not in text]
    assert missing == []


def test_the_page_on_architecture_names_every_step_of_an_export() -> None:
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    steps = text[: text.index("## Three values")]
    names = sorted(path.stem for path in (PACKAGE / "export").glob("*.py") if path.stem != "__init__")
    assert [name for name in names if f"`{name}`" not in steps] == []


def fixtures(path: Path) -> set[str]:
    """The names of the fixtures that a file defines."""
    functions = [
        node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)
    ]
    return {found.name for found in functions if any("fixture" in ast.unparse(one) for one in found.decorator_list)}


def test_no_test_imports_a_fixture() -> None:
    """It would be another fixture in each module, and a session's server would be started for each of them."""
    names = {
        f"{'.'.join(path.relative_to(PACKAGE.parent).with_suffix('').parts)}.{name}"
        for path in TESTS
        for name in fixtures(path)
    }
    imported = {
        (str(path), f"{node.module}.{alias.name}")
        for path in TESTS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert "tests.postgres_server.postgres_server" in names
    assert {found for found in imported if found[1] in names} == set()
