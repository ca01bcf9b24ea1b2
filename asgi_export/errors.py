"""Every failure that a caller of this package can meet, each knowing its HTTP status.

A leaf also inherits the builtin that fits, so that code which knows nothing of HTTP can catch it.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import ClassVar

Header = tuple[bytes, bytes]


class ExportError(Exception):
    """A failure with an answer: `status`, `title`, the short `error` text, extra `headers` and members.

    The message is for the client and says what came, what was expected and what to do; a message that
    holds something which only the operator may see belongs in the log, not here. RFC 9457 §3.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal Server Error"
    error: ClassVar[str] = "internal_server_error"
    type: ClassVar[str] = "about:blank"

    def __init__(
        self,
        detail: str,
        *,
        headers: tuple[Header, ...] = (),
        members: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = headers
        self.members = dict(members or {})


class InternalError(ExportError, RuntimeError):
    """Before the first byte: our fault, or an export that would fail at every try."""


class BadRequest(ExportError, ValueError):
    """A parameter that cannot be meant. RFC 9110 §15.5.1."""

    status = 400
    title = "Bad Request"
    error = "bad_request"


class Unauthorized(ExportError, PermissionError):
    """Keys are configured, and none or an unknown one was given. RFC 9110 §15.5.2."""

    status = 401
    title = "Unauthorized"
    error = "unauthorized"


class Forbidden(ExportError, PermissionError):
    """The key may not read that dataset or column. RFC 9110 §15.5.4."""

    status = 403
    title = "Forbidden"
    error = "forbidden"


class OverQuota(Forbidden):
    """More rows or bytes than the key's plan allows for one export."""


class NotFound(ExportError, LookupError):
    """No such path, format or dataset. RFC 9110 §15.5.5."""

    status = 404
    title = "Not Found"
    error = "not_found"


class MethodNotAllowed(ExportError, ValueError):
    """A method that the path does not know; `Allow` names those it does. RFC 9110 §15.5.6."""

    status = 405
    title = "Method Not Allowed"
    error = "method_not_allowed"


class QueryTooLong(ExportError, ValueError):
    """A query string past the bound. RFC 9110 §15.5.15."""

    status = 414
    title = "URI Too Long"
    error = "uri_too_long"


class HeadersTooLarge(ExportError, ValueError):
    """Header fields past the bound. RFC 6585 §5."""

    status = 431
    title = "Request Header Fields Too Large"
    error = "request_header_fields_too_large"


class PreconditionRequired(ExportError, ValueError):
    """A part of a stream that may have changed, asked for without a condition. RFC 6585 §3."""

    status = 428
    title = "Precondition Required"
    error = "precondition_required"


class TooManyRequests(ExportError, RuntimeError):
    """Over a limit; `Retry-After` says when this request could pass. RFC 6585 §4.

    The problem type is the one that draft-ietf-httpapi-ratelimit-headers-11 registers.
    """

    status = 429
    title = "Too Many Requests"
    error = "Too many requests - rate limit exceeded"
    type = "https://iana.org/assignments/http-problem-types#quota-exceeded"


class Unavailable(ExportError, ConnectionError):
    """A source or a limit store does not answer, or the process is full or closing. RFC 9110 §15.6.4."""

    status = 503
    title = "Service Unavailable"
    error = "unavailable"

    def __init__(self, detail: str, *, retry_after_seconds: int = 1, headers: tuple[Header, ...] = ()) -> None:
        super().__init__(detail, headers=((b"retry-after", str(retry_after_seconds).encode()), *headers))


class StartupError(ExportError, RuntimeError):
    """A setting or a location that stops the start; the message is one line for the operator."""


class SourceFailed(ExportError, RuntimeError):
    """What another try does not mend: a view that fails, a table that is gone, a row with too few fields.

    The message is for the log. `answer` is what the client is told in its place.
    """

    answer: ClassVar[str] = "it cannot be read, and another try does not help; the log has the reason"


class ViewFailed(SourceFailed):
    """A view, or a function in it, that fails on the data as it is."""

    answer = "the view fails, and another try does not help; the log has the reason"


class DoesNotFit(SourceFailed):
    """A value or a type that the format cannot hold."""

    answer = "it cannot be exported in this format, another one may do; the log has the reason"


LASTING = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.ENOENT,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EINVAL,
    }
)
"""Errors of the system that come again at the next try; all others may pass: no answer, no room, no descriptor."""


def as_export_error(dataset: str, error: BaseException) -> ExportError:
    """Return what an error means that no source has mapped, such as one of a user's own function."""
    if isinstance(error, ExportError) and not isinstance(error, StartupError):
        return error
    if isinstance(error, OSError | MemoryError) and getattr(error, "errno", None) not in LASTING:
        return Unavailable(f"dataset {dataset} cannot be read now", retry_after_seconds=5)
    return SourceFailed(f"{dataset}: {type(error).__name__}: {error}")
