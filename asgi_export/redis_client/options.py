"""The options that an address of Redis may have.

redis-py passes every option to its constructors, which read it when a connection is made, or never: a wrong option
would be an outage, or an exception of any kind in a request. So options are checked at the start.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

Check = tuple[Callable[[str], object], str]
"""A test of the text, and what was expected."""

_TEXT: Check = (lambda text: text, "text")
_WHOLE: Check = (re.compile("[0-9]{1,9}", re.ASCII).fullmatch, "a whole number from 0")
_SECONDS: Check = (re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", re.ASCII).fullmatch, "a number of seconds")
_SWITCH: Check = (re.compile("true|false|yes|no|1|0", re.IGNORECASE).fullmatch, "true or false")
_NAME: Check = (re.compile("[!-~]+").fullmatch, "a name without blanks")
_TLS_CHECK: Check = (re.compile("none|optional|required").fullmatch, "none, optional or required")

_OF_TLS: Mapping[str, Check] = {
    "ssl_cert_reqs": _TLS_CHECK,
    "ssl_check_hostname": _SWITCH,
    "ssl_min_version": _WHOLE,
    **dict.fromkeys(("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile"), _TEXT),
    **dict.fromkeys(("ssl_password", "ssl_ciphers"), _TEXT),
}
_OF_SOCKETS: Mapping[str, Check] = {
    **dict.fromkeys(("username", "password"), _TEXT),
    "client_name": _NAME,
    "db": _WHOLE,
    "max_connections": (lambda text: _WHOLE[0](text) and int(text), "a whole number from 1"),
    "health_check_interval": _WHOLE,
    **dict.fromkeys(("socket_timeout", "socket_connect_timeout"), _SECONDS),
    "retry_on_timeout": _SWITCH,
}
_OF_TCP: Mapping[str, Check] = {**_OF_SOCKETS, "socket_keepalive": _SWITCH}
_OF_SENTINELS: Mapping[str, Check] = {"sentinel_username": _TEXT, "sentinel_password": _TEXT}

OPTIONS: Mapping[str, Mapping[str, Check]] = {
    "redis": _OF_TCP,
    "rediss": {**_OF_TCP, **_OF_TLS},
    "unix": _OF_SOCKETS,
    "redis+sentinel": _OF_SENTINELS,
    "rediss+sentinel": _OF_SENTINELS,
}
"""By scheme."""

_DATABASE = re.compile("/?(?:[0-9]{1,9}/?)?", re.ASCII)


class BadAddress(ValueError):
    """The fault of an address, in words without secrets."""


def expect_address(url: str) -> None:
    """Raise `BadAddress`, or `ValueError` if any description of the fault could show a part of a password."""
    url.encode()  # raises for lone surrogates
    parts = urlsplit(url)
    options = OPTIONS[parts.scheme]
    if "\0" in unquote(url):
        raise ValueError("NUL")
    if "@" in parts.query:  # a password that was not percent-encoded
        raise ValueError("@")
    for name, value in parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)):
        if name not in options:
            shown = name if re.fullmatch("[a-z_]{1,40}", name) else "?"
            raise BadAddress(f"unknown option {shown}; expected {', '.join(options)}")
        check, expected = options[name]
        if not check(value):
            raise BadAddress(f"option {name}: expected {expected}")
    if parts.scheme in ("redis", "rediss") and not _DATABASE.fullmatch(parts.path):
        raise BadAddress("the database: expected a whole number from 0")


def expect_host(host: str) -> None:
    """Raise `ValueError` for text that is no host name; connecting to it would raise errors of any kind."""
    if not host.isprintable() or " " in host:
        raise ValueError(host)
    host.encode("idna")
