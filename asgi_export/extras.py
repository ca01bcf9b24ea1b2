"""Optional libraries, imported in the room that needs one, inside the function that needs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from asgi_export.errors import StartupError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import what the extra of that name installs. Raises `StartupError` that says what to install.

    with extra("files"):
        import pyarrow as pa
    """
    try:
        yield
    except ImportError as error:
        missing = (error.name or str(error)).partition(".")[0]
        raise StartupError(f"{missing} is missing: pip install 'asgi-export[{name}]'") from error
