"""Break a response off, also behind a middleware that completes whatever it is given. See `pump` for the reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from asgi_export.asgi.message import Send, head


class BrokenOff(Exception):
    """Raised out of the application to make the server break the connection off; the log has the reason."""


class _UnwritableBody:
    """A body that is there and has no bytes: whoever writes it, counts it or compresses it gets `BrokenOff`."""

    def __bool__(self) -> bool:
        return True  # an empty body would be skipped

    def __len__(self) -> NoReturn:
        raise BrokenOff("this response is to be broken off")

    def __bytes__(self) -> NoReturn:
        raise BrokenOff("this response is to be broken off")

    def __iter__(self) -> Iterator[int]:
        raise BrokenOff("this response is to be broken off")

    def encode(self, *_: object) -> NoReturn:
        """Refuse as well: Starlette before 0.38 encodes what is not bytes."""
        raise BrokenOff("this response is to be broken off")


def is_break(message: Any) -> bool:
    """Whether a message is one that `break_off` sends: not to be counted, and not a fault where it is refused."""
    return isinstance(message.get("body"), _UnwritableBody)


async def break_off(send: Send) -> None:
    """Send what no server can write; afterwards the application must raise.

    If the body is refused on its way, it came no further than that. Then a second head follows, which a compressing
    middleware passes on as it is, and from which on it passes bodies on too.
    """
    if await _is_taken(send, _body()):
        return
    await _is_taken(send, {**head(200, [(b"content-encoding", b"identity")]), **_UNWRITABLE})
    await _is_taken(send, _body())


_UNWRITABLE: Any = {"body": _UnwritableBody(), "more_body": True}


def _body() -> dict[str, Any]:
    """A message of its own each time, as middleware change them."""
    return {"type": "http.response.body", **_UNWRITABLE}


async def _is_taken(send: Any, message: dict[str, Any]) -> bool:
    try:
        await send(message)
    except Exception:  # as intended; the export's own reason is in the log
        return False
    return True
