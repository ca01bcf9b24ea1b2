"""`Content-Disposition` for any file name. RFC 6266, RFC 8187."""

from __future__ import annotations

import re
from unicodedata import category
from urllib.parse import quote

from asgi_export.errors import Header

_SAFE = re.compile(r"[A-Za-z0-9 !#$&'()+,.;=@\[\]^_`{}~-]+", re.ASCII)
_ATTR_CHAR = "!#$&+-.^_`|~"
"""RFC 8187 §3.2.1, beside letters and digits."""

_OF_PATHS = frozenset("/\\:")
"""Separators of folders, drives and streams."""

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of invisible characters: controls, marks that change the direction of text, line ends."""

_JOINERS = frozenset("\u200c\u200d")
"""Invisible characters that words and emoji need. RFC 5892 §A.1, §A.2."""

_DEVICE = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])[ ]*+(?:\..*)?", re.IGNORECASE | re.DOTALL
)
"""Names of devices on Windows, with any extension. Microsoft, Naming Files, Paths, and Namespaces."""


def safe_filename(filename: str) -> str:
    """Replace what is unsafe in a file name on any system; the result is at most one character longer.

    Separators, controls, a leading dot, and dots and blanks at the end (which Windows drops) become `_`. The name of
    a device gets a leading `_`.

    >>> safe_filename("../../x"), safe_filename("nul.csv"), safe_filename("größe 1.csv")
    ('_._.._x', '_nul.csv', 'größe 1.csv')
    """
    name = "".join(["_" if _is_unsafe(character) else character for character in filename])
    body = name.rstrip(". ")
    name = body + "_" * (len(name) - len(body))
    if name.startswith("."):
        name = "_" + name[1:]
    return f"_{name}" if _DEVICE.fullmatch(name) else name


def _is_unsafe(character: str) -> bool:
    return character in _OF_PATHS or (category(character) in _UNSEEN and character not in _JOINERS)


def content_disposition(filename: str) -> Header:
    """Build the header that makes the body a download called `filename`, which is made safe first.

    A name that is not plain ASCII is sent twice: percent-encoded by RFC 8187, which all current clients read, and as
    ASCII with `_` for every other character.

    >>> print(content_disposition("größe.csv")[1].decode())
    attachment; filename="gr__e.csv"; filename*=UTF-8''gr%C3%B6%C3%9Fe.csv
    """
    name = safe_filename(filename)
    if _SAFE.fullmatch(name):
        return (b"content-disposition", f'attachment; filename="{name}"'.encode())
    plain = "".join([character if _SAFE.fullmatch(character) else "_" for character in name])
    encoded = quote(name, safe=_ATTR_CHAR)
    value = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
    return (b"content-disposition", value.encode())
