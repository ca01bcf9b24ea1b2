"""Writes `cases.json`: text, whole numbers and nulls that a CSV writer may get wrong.

Some are written by hand, the others drawn with a fixed seed. Left out, because JavaScript has another value
there and not another CSV: whole numbers of 2**53 and more (as text they are in), lone surrogates, floats.

    python -m tests.formats.csv_stringify.make_cases
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Any

from tests.formats.csv_stringify import FOLDER, Cell

SEED = 4180
TABLES_A_DIALECT = 3
ROWS_A_TABLE = 8

TEXTS: dict[str, str] = {
    "empty": "",
    "plain": "plain",
    "blank": " ",
    "leading blank": "  x",
    "trailing blank": "x  ",
    "quote": '"',
    "two quotes": '""',
    "quoted word": 'say "hi"',
    "quote first": '"x',
    "quote last": 'x"',
    "apostrophe": "it's",
    "comma": ",",
    "comma inside": "a,b",
    "comma and quote": '","',
    "semicolon": "a;b",
    "pipe": "a|b",
    "tab": "a\tb",
    "only a tab": "\t",
    "line feed": "a\nb",
    "only a line feed": "\n",
    "line feed last": "x\n",
    "carriage return": "a\rb",
    "only a carriage return": "\r",
    "carriage return last": "x\r",
    "crlf": "a\r\nb",
    "only crlf": "\r\n",
    "lfcr": "a\n\rb",
    "blank lines": "a\n\n\nb",
    "backslash": "a\\b",
    "backslash and quote": 'a\\"b',
    "backslash n": "a\\nb",
    "null byte": "a\0b",
    "control characters": "\x01\x08\x1b\x1f\x7f",
    "vertical tab and form feed": "a\vb\fc",
    "next line": "a\x85b",
    "no-break space": "\xa0x\xa0",
    "umlauts": "Müller & Söhne, Straße",
    "combining": "e\u0301",
    "right to left": "שלום, עולם",
    "cjk": "東京、日本",
    "fullwidth comma, quote and equals": "\uff0c\uff02x\uff1d",
    "emoji": "👩‍👩‍👧 🇪🇺",
    "beyond the first plane": "𝄞𐍈",
    "line separator": "a\u2028b\u2029c",
    "byte order mark": "\ufeffx",
    "only a byte order mark": "\ufeff",
    "replacement character": "\ufffd",
    "last of the first plane": "\uffff",
    "formula": "=1+1",
    "plus": "+1",
    "minus": "-1",
    "at": "@SUM(A1:A9)",
    "formula with a comma": '=HYPERLINK("x","y")',
    "tab and formula": "\t=1",
    "carriage return and formula": "\r=1",
    "comment": "# no comment",
    "word null": "null",
    "word NULL": "NULL",
    "escaped null": "\\N",
    "number as text": "007",
    "2**53 + 1 as text": "9007199254740993",
    "float as text": "1e400",
    "boolean as text": "true",
    "percent": "100 %s %d %%",
    "braces": "{0} {x}",
    "field count of a line": "1,2,3\n4,5,6",
}
NUMBERS: list[Cell] = [0, 1, -1, 10, -42, 1000000, 2**31, -(2**31) - 1, 2**53 - 1, 1 - 2**53]
DIALECTS: dict[str, dict[str, Any]] = {
    "default": {},
    "tab": {"delimiter": "\t"},
    "semicolon": {"delimiter": ";"},
    "pipe": {"delimiter": "|"},
    "blank": {"delimiter": " "},
    "non-ascii delimiter": {"delimiter": "é"},
    "quote all": {"quote": "all"},
    "quote all, tab": {"quote": "all", "delimiter": "\t"},
    "crlf": {"newline": "\r\n"},
    "crlf, quote all": {"newline": "\r\n", "quote": "all"},
    "bom": {"bom": True},
    "no header": {"header": False},
    "no header, bom": {"header": False, "bom": True},
    "excel": {"delimiter": ";", "newline": "\r\n", "bom": True},
    "null text": {"null": "NULL"},
    "null text with quotes": {"null": 'n/a, "none"'},
    "formulas": {"escape_formulas": True},
}
NASTY_NAMES = [
    "id",
    "a,b",
    'say "x"',
    "line\nend",
    "cr\rname",
    " blank ",
    "Größe",
    "a.b[0]",
    "=cmd",
    "x;y|z\tw",
    "名",
]

Entry = dict[str, Any]


def entry(name: str, columns: list[str], rows: list[list[Cell]], dialect: dict[str, Any] | None = None) -> Entry:
    """One entry of `cases.json`; without what is guarded on one side only."""
    if dialect == DIALECTS["formulas"]:
        rows = [["x" if is_guarded_otherwise(value) else value for value in row] for row in rows]
    return {"name": name, "columns": columns, "rows": rows, "dialect": dialect or {}}


def is_guarded_otherwise(value: Cell) -> bool:
    """csv-stringify leaves a leading line feed as it is, and makes text of numbers that are held as text."""
    return isinstance(value, str) and (value.startswith("\n") or re.fullmatch(r"[+-][0-9]+", value) is not None)


def letters(width: int) -> list[str]:
    """Column names that need no quotes."""
    return [f"c{number}" for number in range(width)]


def single_values() -> Iterator[Entry]:
    """Each text at the beginning, in the middle and at the end of a line, one case a text."""
    for name, text in TEXTS.items():
        yield entry(f"text: {name}", letters(3), [[text, 1, "x"], ["x", text, None], [None, "", text]])
    yield entry("whole numbers", letters(2), [[number, "x"] for number in NUMBERS])


def shapes() -> Iterator[Entry]:
    """Tables of unusual width and height, and headers that need quotes."""
    yield entry("no rows", letters(3), [])
    yield entry("no rows, one column", ["id"], [])
    yield entry("one row", letters(2), [["x", 1]])
    yield entry("one row of nulls", letters(3), [[None, None, None]])
    yield entry("one row of empty text", letters(3), [["", "", ""]])
    yield entry("nulls and empty text", letters(2), [[None, ""], ["", None], [None, "x"], ["x", None]])
    yield entry("one column", ["only"], [["x"], [0], ["a,b"], ['"'], ["a\nb"], [" "], ["-"]])
    yield entry("one column: null", ["only"], [["x"], [None], ["y"]])
    yield entry("one column: empty text", ["only"], [["x"], [""], ["y"]])
    yield entry("one column: null last", ["only"], [["x"], [None]])
    yield entry("one column: nothing but nulls", ["only"], [[None], [None]])
    yield entry("one column: null and quote all", ["only"], [[None], ["x"], [""]], {"quote": "all"})
    yield entry("one column: null text", ["only"], [[None], ["x"]], {"null": "NULL"})
    yield entry("wide row", letters(300), [list(range(300)), [f"v,{n}" if n % 7 == 0 else None for n in range(300)]])
    yield entry("long field", letters(2), [["x" * 20_000, 1], ['long "quoted", text\n' * 400, 2]])
    yield entry("many plain rows", letters(2), [[n, f"user-{n}"] for n in range(200)])
    yield entry("one nasty value among plain rows", letters(2), [[n, "a,b" if n == 60 else "x"] for n in range(120)])
    yield entry("nasty names", NASTY_NAMES, [list(range(len(NASTY_NAMES)))])
    wide: list[Cell] = [start + "1+1" for start in "＝＋－＠"]
    yield entry("full-width formulas", letters(4), [wide, ["＝", "x＝", "\uff0d", None]], DIALECTS["formulas"])
    for name, dialect in DIALECTS.items():
        yield entry(f"nasty names: {name}", NASTY_NAMES, [["x", None, *NASTY_NAMES[2:]]], dialect)
        yield entry(f"no rows: {name}", ["id", "a,b"], [], dialect)
        yield entry(f"every text: {name}", letters(2), [[n, text] for n, text in enumerate(TEXTS.values())], dialect)


def drawn(draw: random.Random) -> Iterator[Entry]:
    """Random tables in every dialect: whole nasty values, and strings of characters that matter."""
    for name, dialect in DIALECTS.items():
        for number in range(TABLES_A_DIALECT):
            width = draw.randint(2, 6)
            rows = [[cell(draw) for _ in range(width)] for _ in range(ROWS_A_TABLE)]
            yield entry(f"drawn {number}: {name}", letters(width), rows, dialect)


def cell(draw: random.Random) -> Cell:
    """A null, a whole number within 53 bits, a text by hand or a text by chance."""
    kind = draw.randrange(10)
    if kind == 0:
        return None
    if kind < 3:
        return draw.randint(-(2**53) + 1, 2**53 - 1)
    if kind < 6:
        return draw.choice(list(TEXTS.values()))
    return "".join(draw.choices(",;|\t\"'\r\n\0 =+-@\\ab1éß€👍\u2028\ufeff", k=draw.randint(0, 9)))


def main() -> None:
    """Write the file, one case a line."""
    cases = [*single_values(), *shapes(), *drawn(random.Random(SEED))]
    lines = ",\n".join(json.dumps(found) for found in cases)
    FOLDER.joinpath("cases.json").write_text(f"[\n{lines}\n]\n", "utf-8")


if __name__ == "__main__":
    main()
