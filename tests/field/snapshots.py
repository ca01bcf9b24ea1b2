"""An application whose every export is another snapshot; the first one of each `total` breaks off in the middle."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator

from asgi_export import ExportApp, Selection, dataset

exports: Counter[int | None] = Counter()


@dataset(columns=["id", "snapshot"])
async def moving(selection: Selection) -> AsyncIterator[tuple[int, str]]:
    exports[selection.limit] += 1
    number = exports[selection.limit]
    for row in range(selection.limit or 0):
        if number == 1 and row > 30_000:
            raise RuntimeError("the disk is on fire")
        yield (row, f"snapshot-{number}-" + "x" * 40)


logging.disable(logging.CRITICAL)
app = ExportApp([moving])
