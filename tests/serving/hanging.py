"""A service whose source hangs in its thread, as a driver may.

`python -m tests.serving.hanging SERVER DRAIN_SECONDS`
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from asgi_export import Bounds, ExportApp, dataset
from asgi_export.serving import process
from asgi_export.serving.listening import bind
from asgi_export.settings import Settings


@dataset(columns=["id"])
def hangs() -> Iterator[list[tuple[int]]]:
    """Nobody can interrupt it."""
    yield [(1,)] * 5000
    os.write(1, b"it hangs\n")
    time.sleep(3600)


def make_hanging(*_: Any) -> ExportApp:
    return ExportApp([hangs], bounds=Bounds(close_seconds=0.5))


if __name__ == "__main__":
    vars(process)["make_export_app"] = make_hanging
    settings = Settings(port=0, server=sys.argv[1], drain_seconds=float(sys.argv[2]))
    listening = bind(settings)
    os.write(1, b"on http://127.0.0.1:%d\n" % listening.getsockname()[1])
    sys.exit(process.serve_alone(settings, listening))
