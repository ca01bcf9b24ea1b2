"""Read files as exports do, in a process of its own: `python -m tests.field.read_files FORMATS PATH ...`.

For each export a line of JSON comes when it has ended, so that a dead process says which one it was.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from asgi_export.errors import ExportError
from asgi_export.formats import FORMATS
from asgi_export.sources.files.source import FileSource
from asgi_export.table import Dialect, Selection

EVERY_FORMAT = ("csv", "ndjson", "parquet", "arrow")
TIMEOUT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one export: how it ended, the reason in one line, and its bytes."""

    path: Path
    format: str
    ending: str
    reason: str
    size: int


def outcomes(paths: Sequence[Path], formats: Sequence[str] = ("csv",)) -> list[Outcome]:
    """Export each file in each format; where a process dies that is the last outcome."""
    command = [sys.executable, "-m", __name__, ",".join(formats), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    exports = list(product(paths, formats))
    found = [Outcome(path, name, **line) for (path, name), line in zip(exports, lines, strict=False)]
    if len(found) < len(exports):
        found.append(Outcome(*exports[len(found)], f"dead: {done.returncode}", done.stderr[-2000:], 0))
    return found


def _main() -> None:
    formats, *paths = sys.argv[1:]
    for path, name in product(paths, formats.split(",")):
        size = 0
        ending, reason = "whole", ""
        try:
            for data in _export(path, name):
                size += len(data)
        except ExportError as error:
            ending, reason = type(error).__name__, f"{error}: {' '.join(str(error.__cause__).split())}"
        line = {"ending": ending, "reason": reason, "size": size}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def _export(path: str, name: str) -> Iterator[bytes]:
    (dataset,) = asyncio.run(FileSource(path).start())
    encoder = FORMATS[name].encoder(dataset.columns, Dialect())
    yield encoder.head()
    cursor: Any = dataset.open(Selection(tuple(column.name for column in dataset.columns)))
    with cursor as batches:
        for batch in batches:
            yield encoder.feed(batch)
    yield encoder.tail()


if __name__ == "__main__":
    _main()
