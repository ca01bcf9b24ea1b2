"""The kinds of files and their readers: a batch at a time, in the calling thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import pyarrow as pa

from asgi_export.sources.files.arrow_ipc import ArrowIpc
from asgi_export.sources.files.delimited import Delimited
from asgi_export.sources.files.parquet import Parquet
from asgi_export.sources.files.where import Where


class Kind(Protocol):
    """Read one kind of file.

    `batches` returns the named columns of the wanted rows, in any order and perhaps with others. A batch may have no
    row.
    """

    def schema(self, file: Any) -> pa.Schema: ...
    def batches(
        self, file: Any, names: Sequence[str], limit: int | None, where: Where | None = None
    ) -> Iterator[pa.RecordBatch]: ...


KINDS: dict[str, Kind] = {"parquet": Parquet(), "arrow": ArrowIpc()}

TEXT_KINDS: dict[str, Callable[..., Kind]] = {"csv": Delimited, "tsv": partial(Delimited, usual="\t")}
"""Kinds that have options."""
