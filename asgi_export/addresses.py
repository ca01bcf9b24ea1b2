"""Show addresses of servers and files in messages and logs, without what may be a secret.

A password that was not percent-encoded may hold `@`, `:`, `/`, `?` or `#`, so any part of the parsed address may be
a part of it: what is shown is matched against a strict pattern, and what does not match is left out.
RFC 3986 §3.2.1, https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING
"""

from __future__ import annotations

import re

_HOST = r"(?:[\w.%-]*|\[[\w:.%]+\])(?::\d+)?"
_PLACE = re.compile(rf"[a-z+]{{1,20}}://(?![^/]*%(?:25)*40){_HOST}(?:,{_HOST})*(?:/[\w./%-]*)?", re.IGNORECASE)
"""A scheme, hosts with their ports, and a path; no encoded `@` among the hosts."""

_PASSWORD = re.compile(r"//[^@]*:.*@|//[^/@]*:.*", re.DOTALL)
"""A login with a password, up to the last `@`; all of the rest if its `@` was cut off."""

_SCHEME = re.compile(r"[^@/?#:]*(?:jdbc:[\w+.-]*)?://")
"""The beginning of an address, with text that may stand before it, such as `NAME=`."""

_NO_PORT = re.compile(r"\A((?:…@)?[^/\[:]*:)(?!\d*(?:[/,]|\Z)).*")
_ENCODED_LOGIN = re.compile(r"\A[^/]*%(?:25)*40")
_OPTIONS = re.compile(r"\?[\w.%-]*=.*")
_SECRET = re.compile(
    r"(?:pass(?:word|wd)?|pwd|secret|token|signature|credential|\bsig|[a-z_]key)\w*\s*=", re.IGNORECASE
)
"""An option whose value is a secret."""


def place_of(address: str) -> str:
    """Return scheme, hosts, ports and path of an address; empty if they may hold a part of a password.

    >>> place_of("postgresql://shop:secret@db.example:5432/shop?sslmode=require")
    'postgresql://db.example:5432/shop'
    >>> place_of("redis://:sec?ret@cache:6379/0")
    ''
    """
    base, *behind = re.split("[?#]", address, maxsplit=1)
    scheme, _, rest = base.partition("://")
    place = f"{scheme.lower()}://{rest.rpartition('@')[2]}"
    return place if _PLACE.fullmatch(place) and "@" not in "".join(behind) else ""


def without_password(address: str) -> str:
    """Return an address without its query, and without its login if that has a password.

    >>> without_password("s3://me:secret@lake/t.csv?region=x"), without_password("abfs://box@account/t.csv")
    ('s3://lake/t.csv', 'abfs://box@account/t.csv')
    """
    return _PASSWORD.sub("//", address.partition("?")[0], count=1)


def redacted(text: str) -> str:
    """Return the operator's text as one line without logins, queries, and values of secret options.

    The text may be anything: an address of an unknown scheme, several, a DSN of key words, or the name of a file.

    >>> redacted("mysql://me:secret@db/shop?ssl=1"), redacted("host=db user=me password=secret")
    ('mysql://…@db/shop?…', 'host=…')
    """
    line = text if text.isprintable() else ascii(text)[1:-1]
    begin = _SCHEME.match(line)
    scheme = begin[0] if begin else ""
    rest = line[len(scheme) :]
    secret = _SECRET.search(rest)
    rest = f"{rest[: secret.end()]}…" if secret else rest
    _, at, behind = rest.rpartition("@")
    is_address = scheme or (at and ":" in rest)
    if is_address:
        rest = _NO_PORT.sub(r"\1…", f"…@{behind}" if at else behind)
        return scheme + re.sub("[?#].*", "?…", _ENCODED_LOGIN.sub("…@", rest))
    return re.sub("=.*", "=…", rest) if secret else _OPTIONS.sub("?…", rest)
