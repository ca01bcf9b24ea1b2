"""Parquet, CSV and Arrow files as a source: one file, a folder, or a glob of them is one dataset.

Files lie on this machine or behind ``s3://``, ``gs://`` or ``abfs://``. Folders called ``key=value`` make
columns (hive partitions). Several files have the columns of all, in the order of their first appearance; a
column that a file lacks is null there, and types that differ are widened where no value can be lost.

pyarrow is imported when a source starts.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asgi_export.dataset import Dataset
from asgi_export.errors import StartupError
from asgi_export.extras import import_extra

SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
"""What a file's name says of what it holds."""

REMOTE_SCHEMES = ("s3://", "gs://", "gcs://", "abfs://", "abfss://")
GLOB_CHARACTERS = frozenset("*?[")
_CREDENTIALS = re.compile(r"//[^@]*:.*@", re.DOTALL)


def is_file_location(location: str) -> bool:
    """Whether `FileSource` is the one to serve a location, or to say why it cannot be served."""
    if location.startswith(REMOTE_SCHEMES):
        return True
    return Path(location).suffix.lower() in SUFFIXES or bool(GLOB_CHARACTERS & set(location)) or _is_dir(location)


def _is_dir(location: str) -> bool:
    try:
        return Path(location).is_dir()
    except (OSError, ValueError):  # a name too long, a folder that is closed to us, a NUL in it
        return False


class FileSource:
    """The dataset of one location; `name` is that of the dataset, by default the file's or folder's stem.

    An export lists the files anew, holds one of them open at a time, reads only the columns that are asked
    for, and holds about 10 MB. What is replaced while it is read gives the old contents or a failure.
    """

    def __init__(self, location: str | os.PathLike[str], *, name: str | None = None) -> None:
        text = os.fspath(location)
        self._shown = _without_query(text)
        self._location = text if text.startswith(REMOTE_SCHEMES) else os.path.abspath(text)
        self._dataset_name = name or dataset_name(self._location)
        self._place: Any = None

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self._dataset_name

    async def start(self) -> Sequence[Dataset]:
        """List the files and read their columns. Raises `StartupError`: which, why, what to do."""
        try:
            return [await asyncio.to_thread(self._open)]
        except StartupError as error:
            detail = error.detail.replace(self._location, self._shown)
            raise StartupError(f"{self._shown}: {detail}") from error

    async def check(self) -> None:
        """Raises `OSError` where the location cannot be listed, or holds no file any more."""
        if self._place is not None:
            await asyncio.to_thread(self._place.entries)

    async def close(self) -> None:
        """Nothing is held between exports."""

    def _open(self) -> Dataset:
        room = import_extra("asgi_export.sources.files_dataset", extra="files")
        dataset: Any = room.open_dataset(self._location, self._dataset_name)
        self._place = dataset.place
        return dataset  # type: ignore[no-any-return]


def dataset_name(location: str) -> str:
    """What a location is called: the stem of its last part before any glob.

    >>> dataset_name("/data/flights.parquet"), dataset_name("s3://lake/sales/year=*/*.parquet?region=eu-west-1")
    ('flights', 'sales')
    """
    parts = [part for part in _without_query(location).split("/") if part]
    plain = [part for part in parts if not GLOB_CHARACTERS & set(part)]
    last = next((place for place, part in enumerate(parts) if GLOB_CHARACTERS & set(part)), len(plain))
    return Path(plain[last - 1]).stem if last else "files"


def _without_query(location: str) -> str:
    """The location for a human: of a remote one, the query and any credentials are left out."""
    if not location.startswith(REMOTE_SCHEMES):
        return location
    return _CREDENTIALS.sub("//", location.partition("?")[0])
