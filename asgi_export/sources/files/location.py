"""Parse locations of files: whether it is one, its dataset's name, and a form without secrets.

Opens nothing, and does not import pyarrow.
"""

from __future__ import annotations

import os
from pathlib import Path

from asgi_export.addresses import redacted, without_password
from asgi_export.sources.files.options import split_options

COLUMN_SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
TEXT_SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
CODECS = {".gz": "gzip", ".zst": "zstd"}
"""What a file's name says of what it holds. Text may be compressed, as `.csv.gz`."""

SERVED = f"{', '.join([*COLUMN_SUFFIXES, *TEXT_SUFFIXES])}; text also with {' or '.join(CODECS)} behind it"

REMOTE_SCHEMES = ("s3://", "gs://", "gcs://", "abfs://", "abfss://")
GLOB_CHARACTERS = frozenset("*?[")


def kind_of(path: str) -> tuple[str, str]:
    """Return the kind and the compression by the name of a file; each empty if the name does not tell.

    >>> kind_of("flights.PARQUET"), kind_of("a.b.csv.gz"), kind_of("a.gz")
    (('parquet', ''), ('csv', 'gzip'), ('', 'gzip'))
    """
    stem, suffix = os.path.splitext(path.lower())
    if suffix in CODECS:
        return TEXT_SUFFIXES.get(os.path.splitext(stem)[1], ""), CODECS[suffix]
    return TEXT_SUFFIXES.get(suffix) or COLUMN_SUFFIXES.get(suffix, ""), ""


def is_remote(location: str) -> bool:
    """Return whether a location is in an object store."""
    return location.startswith(REMOTE_SCHEMES)


def bucket_of(location: str) -> str:
    """Return the bucket of an object store, with or without credentials; empty if there is none."""
    return location.partition("://")[2].partition("?")[0].partition("/")[0].rpartition("@")[2]


def is_file_location(location: str) -> bool:
    """Return whether `FileSource` serves a location, or explains why it cannot be served."""
    if is_remote(location):
        return True
    path, options = split_options(location, remote=False)
    return bool(options or kind_of(path)[0] or GLOB_CHARACTERS & set(path)) or _is_dir(path)


def _is_dir(location: str) -> bool:
    try:
        return Path(location).is_dir()
    except (OSError, ValueError):  # a name too long, a folder that is closed to us, a NUL in it
        return False


def dataset_name(location: str) -> str:
    """Name the dataset of a location: the stem of its last part before any glob.

    >>> dataset_name("/data/flights.csv.gz"), dataset_name("s3://lake/sales/year=*/*.parquet?region=eu-west-1")
    ('flights', 'sales')
    """
    if not is_remote(location) and os.path.lexists(location):
        return _stem(os.path.basename(os.path.normpath(location)))
    parts = [part for part in without_options(location).split("/") if part]
    plain = [part for part in parts if not GLOB_CHARACTERS & set(part)]
    last = next((place for place, part in enumerate(parts) if GLOB_CHARACTERS & set(part)), len(plain))
    return _stem(plain[last - 1]) if last else "files"


def _stem(name: str) -> str:
    kind, codec = kind_of(name)
    return Path(name if not (kind and codec) else Path(name).stem).stem


def without_options(location: str) -> str:
    """Remove the options of a location, and the query and password of a remote one."""
    return without_password(location) if is_remote(location) else split_options(location, remote=False)[0]


def shown(location: str) -> str:
    """Return a location for messages and logs; one without a file there may be an address with a password."""
    text = without_options(location)
    if is_remote(location) or os.path.lexists(text):
        return text
    return redacted(location if "@" in location else text)
