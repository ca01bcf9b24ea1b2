"""A source of Parquet, Arrow, CSV, TSV and JSON lines files: one file, a folder, or a glob of them is one dataset.

Files are local or at ``s3://``, ``gs://`` or ``abfs://``. Folders named ``key=value`` make columns (hive partitions).
Several files have the columns of all, in the order of their first appearance. A column that a file lacks is null
there. Types that differ are widened if no value is lost.

pyarrow is imported when a source starts.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Any

from asgi_export.errors import StartupError
from asgi_export.extras import extra
from asgi_export.sources.files.location import dataset_name, is_remote, shown
from asgi_export.sources.files.options import split_options
from asgi_export.table import Dataset

log = logging.getLogger(__name__)


class FileSource:
    """Serve one location as a dataset; `name` is by default the stem of the file or folder.

    Each export lists the files again, opens one at a time, reads only the selected columns, and takes about 10 MB. A
    file that is replaced while it is read gives the old contents or a failure.
    """

    def __init__(self, location: str | os.PathLike[str], *, name: str | None = None) -> None:
        written = os.fspath(location)
        text, self._options = split_options(written, remote=is_remote(written))
        self._shown = shown(written)
        self._location = text if is_remote(text) else os.path.abspath(text)
        self._dataset_name = name or dataset_name(self._location)
        self._place: Any = None
        self._entries: Any = None
        self._remarks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self._dataset_name

    async def start(self) -> Sequence[Dataset]:
        """List the files and read their columns. Raises `StartupError`: which, why, what to do."""
        return [await asyncio.to_thread(self._open_dataset)]

    async def refresh(self) -> Sequence[Dataset] | None:
        """Return the dataset if other files are listed than before, or files of other times or sizes.

        Raises `OSError` if they cannot be listed, and `StartupError` if they cannot be read.
        """
        entries = await asyncio.to_thread(self._place.entries)
        if entries == self._entries:
            return None
        found = await asyncio.to_thread(self._open_dataset)
        self._entries = entries  # as listed before the read: a change during it is noticed next time
        return [found]

    async def check(self) -> None:
        """Raise `OSError` if the location cannot be listed, or holds no file any more."""
        if self._place is not None:
            await asyncio.to_thread(self._place.entries)

    async def close(self) -> None:
        """Do nothing: nothing is held between exports."""

    def _open_dataset(self) -> Dataset:
        try:
            dataset: Any = self._open()
        except StartupError as error:
            detail = error.detail.replace(self._location, self._shown)
            raise StartupError(f"{self._shown}: {detail}") from error
        if dataset.remarks != self._remarks:
            for remark in dataset.remarks:
                log.info("%s: %s", self._shown, remark)
        self._place, self._remarks = dataset.place, dataset.remarks
        return dataset  # type: ignore[no-any-return]

    def _open(self) -> Any:
        with extra("files"):
            from asgi_export.sources.files.dataset import open_dataset
            from asgi_export.sources.files.object_store import expect_answer
        if is_remote(self._location):
            expect_answer(self._location)
        return open_dataset(self._location, self._dataset_name, self._options)
