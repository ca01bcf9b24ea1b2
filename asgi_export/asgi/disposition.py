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
"""Categories that are not seen but change what is: controls, marks that turn the direction of text, line ends."""

_JOINERS = frozenset("\u200c\u200d")
"""Formats that words and emoji are written with. RFC 5892 §A.1, §A.2."""

_DEVICE = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])[ ]*+(?:\..*)?", re.IGNORECASE | re.DOTALL
)
"""Names that are devices to Windows, whatever the extension. Microsoft, Naming Files, Paths, and Namespaces."""


def safe_filename(filename: str) -> str:
    """The name as a client may write it: in one folder, as it is seen, on any system; at most one character longer.

    Whatever is unsafe becomes `_`: separators, controls, a dot in front, dots and blanks at the end (which Windows
    drops); a device gets a `_` in front.

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
    """The header that offers the body as a download called `filename`, made safe.

    A name that is not plain ASCII is sent twice: percent-encoded for those who read RFC 8187, which is
    everybody, and with `_` for what is unsafe in a head for the rest.

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
