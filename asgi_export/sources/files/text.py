"""Read the text of a file in any encoding as UTF-8 bytes, piece by piece."""

from __future__ import annotations

import codecs
from typing import Any, Protocol

import pyarrow as pa

from asgi_export.sources.files.options import UTF8

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks that name an encoding; that of UTF-32 begins with that of UTF-16. Unicode 16.0 §23.8"""

_SIGNATURES = (
    (b"\x1f\x8b", "gzip; call it .gz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard; call it .zst"),
    (b"BZh91AY&SY", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"PK\x03\x04", "a ZIP archive or a workbook (.xlsx, .ods)"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file (.xls)"),
    (b"%PDF-", "a PDF document"),
    (b"PAR1\x15", "Parquet; call it .parquet"),
    (b"ARROW1\0\0", "Arrow; call it .arrow"),
    (b"Obj\x01", "Avro"),
    (b"SQLite format 3\0", "SQLite; call it .db"),
    (b"<!DOCTYPE", "an HTML page"),
    (b"<!doctype", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<?xml", "XML"),
)
"""First bytes that no text has; PAR1 and BZh are missing here, as a header may begin with them."""

HEAD_BYTES = max(len(signature) for signature, _ in _SIGNATURES)


class Readable(Protocol):
    """A file that is read sequentially."""

    def read(self, size: int, /) -> bytes: ...


def open_text(file: Readable, encoding: str) -> tuple[Readable, str]:
    """Return the text without its byte order mark, and its encoding: the given one, else the mark's, else UTF-8.

    UTF-8 is passed through unchecked. Raises `pa.ArrowInvalid` for what is no text, by its first bytes.
    """
    head = file.read(HEAD_BYTES)
    kind = next((name for signature, name in _SIGNATURES if head.startswith(signature)), "")
    if kind:
        raise pa.ArrowInvalid(f"it is {kind}")
    found = encoding or next((name for mark, name in _MARKS if head.startswith(mark)), UTF8)
    if found == UTF8:
        return _Rest(head.removeprefix(codecs.BOM_UTF8), file), found
    return _Transcoded(_Rest(head, file), found), found


class _Rest:
    """A file whose first bytes have been read already."""

    def __init__(self, head: bytes, file: Readable) -> None:
        self._head = head
        self._file = file

    def read(self, size: int, /) -> bytes:
        if not self._head:
            return self._file.read(size)
        head, self._head = self._head[:size], self._head[size:]
        return head + self._file.read(size - len(head))


class _Transcoded:
    """Transcode text to UTF-8. Raises `pa.ArrowInvalid` for invalid bytes, and for text that is cut off."""

    def __init__(self, file: Readable, encoding: str) -> None:
        self._file = file
        self._encoding = encoding
        self._decoder: Any = codecs.getincrementaldecoder(encoding)()
        self._first = True

    def read(self, size: int, /) -> bytes:
        try:
            return self._read(size)
        except UnicodeError:  # its object is the text
            raise pa.ArrowInvalid(f"it is not {self._encoding}") from None

    def _read(self, size: int) -> bytes:
        while True:
            data = self._file.read(size)
            text: str = self._decoder.decode(data, not data)
            if text and self._first:
                self._first = False
                text = text.removeprefix("\ufeff")
            if text or not data:
                return text.encode()
