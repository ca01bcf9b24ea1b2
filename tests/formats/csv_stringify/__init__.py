"""Tables of nasty values, and the bytes that npm's csv-stringify 6 makes of them.

`make_cases.py` writes `cases.json`, `make_expected.mjs` (run with node) writes `expected.json`; both are checked
in, so a test needs no node. How to make them anew is said at the head of `make_expected.mjs`.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from asgi_export.table import Dialect

Cell: TypeAlias = str | int | None
FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Case:
    """One export: the table, how it is written, and the bytes that csv-stringify writes."""

    name: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    dialect: Dialect
    expected: bytes

    @property
    def has_blank_line(self) -> bool:
        """Whether a row's only field is empty and unquoted: the one place where we differ on purpose (`""`)."""
        empty = ("", None) if not self.dialect.null else ("",)
        return self.dialect.quote == "minimal" and any(len(row) == 1 and row[0] in empty for row in self.rows)


def load_cases() -> list[Case]:
    """Every case, in the order of `cases.json`; names are unique."""
    cases = json.loads(FOLDER.joinpath("cases.json").read_text("utf-8"))
    expected = json.loads(FOLDER.joinpath("expected.json").read_text("utf-8"))["expected"]
    return [
        Case(
            name=case["name"],
            columns=tuple(case["columns"]),
            rows=[tuple(row) for row in case["rows"]],
            dialect=Dialect(**case["dialect"]),
            expected=base64.b64decode(expected[case["name"]]),
        )
        for case in cases
    ]


def made_with() -> str:
    """The version of csv-stringify that made the expected bytes."""
    return str(json.loads(FOLDER.joinpath("expected.json").read_text("utf-8"))["csv-stringify"])
