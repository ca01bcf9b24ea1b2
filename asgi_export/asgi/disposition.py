"""`Content-Disposition` for any file name. RFC 6266, RFC 8187."""

from __future__ import annotations

import re
from urllib.parse import quote

from asgi_export.errors import Header

_SAFE = re.compile(r"[A-Za-z0-9 !#$&'()+,.;=@\[\]^_`{}~-]+", re.ASCII)
_ATTR_CHAR = "!#$&+-.^_`|~"
"""RFC 8187 §3.2.1, beside letters and digits."""


def content_disposition(filename: str) -> Header:
    """The header that offers the body as a download called `filename`.

    A name that is not plain ASCII is sent twice: percent-encoded for those who read RFC 8187, which is
    everybody, and with `_` for what is unsafe for the rest. Path separators are unsafe, so a client cannot be
    made to write elsewhere.

    >>> print(content_disposition("größe.csv")[1].decode())
    attachment; filename="gr__e.csv"; filename*=UTF-8''gr%C3%B6%C3%9Fe.csv
    """
    if _SAFE.fullmatch(filename):
        return (b"content-disposition", f'attachment; filename="{filename}"'.encode())
    plain = "".join([character if _SAFE.fullmatch(character) else "_" for character in filename])
    encoded = quote(filename, safe=_ATTR_CHAR, errors="replace")
    value = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
    return (b"content-disposition", value.encode())
