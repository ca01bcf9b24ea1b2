"""What the location of files says by itself: whether it is one, what it is called, and what of it may be shown.

Nothing is opened here, and pyarrow is not needed.
"""

from __future__ import annotations

import re
from pathlib import Path

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


def dataset_name(location: str) -> str:
    """What a location is called: the stem of its last part before any glob.

    >>> dataset_name("/data/flights.parquet"), dataset_name("s3://lake/sales/year=*/*.parquet?region=eu-west-1")
    ('flights', 'sales')
    """
    parts = [part for part in without_query(location).split("/") if part]
    plain = [part for part in parts if not GLOB_CHARACTERS & set(part)]
    last = next((place for place, part in enumerate(parts) if GLOB_CHARACTERS & set(part)), len(plain))
    return Path(plain[last - 1]).stem if last else "files"


def without_query(location: str) -> str:
    """The location for a human: of a remote one, the query and any credentials are left out."""
    if not location.startswith(REMOTE_SCHEMES):
        return location
    return _CREDENTIALS.sub("//", location.partition("?")[0])
