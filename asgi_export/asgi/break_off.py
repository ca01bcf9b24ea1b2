"""Break a response off, even behind a middleware that would complete it. `pump` explains why that is needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from asgi_export.asgi.message import Send, head


class BrokenOff(Exception):
    """Make the server close the connection without the end of the body; raised out of the application."""


class _UnwritableBody:
    """A body that is true but has no bytes: writing, measuring or compressing it raises `BrokenOff`."""

    def __bool__(self) -> bool:
        return True  # an empty body would be skipped

    def __len__(self) -> NoReturn:
        raise BrokenOff("this response is to be broken off")

    def __bytes__(self) -> NoReturn:
        raise BrokenOff("this response is to be broken off")

    def __iter__(self) -> Iterator[int]:
        raise BrokenOff("this response is to be broken off")

    def encode(self, *_: object) -> NoReturn:
        """Raise as well: Starlette before 0.38 encodes a body that is not bytes."""
        raise BrokenOff("this response is to be broken off")


def is_break(message: Any) -> bool:
    """Return whether `break_off` sent this message; it is not counted, and refusing it is no fault."""
    return isinstance(message.get("body"), _UnwritableBody)


async def break_off(send: Send) -> None:
    """Send a body that no server can write; afterwards the application must raise.

    If a middleware refuses the body, a second head follows: a compressing middleware passes it on unchanged, and
    passes on every body after it.
    """
    if await _is_taken(send, _body()):
        return
    await _is_taken(send, {**head(200, [(b"content-encoding", b"identity")]), **_UNWRITABLE})
    await _is_taken(send, _body())


_UNWRITABLE: Any = {"body": _UnwritableBody(), "more_body": True}


def _body() -> dict[str, Any]:
    """Make a new message each time, as middleware may change it."""
    return {"type": "http.response.body", **_UNWRITABLE}


async def _is_taken(send: Any, message: dict[str, Any]) -> bool:
    try:
        await send(message)
    except Exception:  # this is the purpose; the log has the reason of the export
        return False
    return True
