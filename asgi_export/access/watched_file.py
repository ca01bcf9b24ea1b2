"""A file that an operator may change while the service runs."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from asgi_export.errors import StartupError

logger = logging.getLogger("asgi_export.keys")

LOOK_AGAIN_SECONDS = 1.0
SETTLED_SECONDS = 0.1
"""A file changed more recently may be half written: editors and shells empty a file before they fill it."""

T = TypeVar("T")


class WatchedFile(Generic[T]):
    """What `read` makes of a file. The first call may raise `StartupError`; if a later one does, the old value stays.

    `value` checks the identity, size and time of the file once a second at most. It reads the file when they have
    changed and it is no longer being written.
    """

    def __init__(
        self,
        path: Path,
        read: Callable[[Path], T],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._read = read
        self._clock = clock
        self._wall_clock = wall_clock
        self._mark = self._look()  # before the read: a change during it is noticed later
        self._value = read(path)
        self._look_at = clock() + LOOK_AGAIN_SECONDS

    def value(self) -> T:
        """Return the value as of the last successful read."""
        if self._clock() >= self._look_at:
            mark = self._look()
            being_written = mark != self._mark and self._is_fresh(mark)
            self._look_at = self._clock() + (SETTLED_SECONDS if being_written else LOOK_AGAIN_SECONDS)
            if mark != self._mark and not being_written:
                self.reload()
        return self._value

    def reload(self) -> None:
        """Read the file now, and log the result in one line."""
        self._mark = self._look()
        try:
            self._value = self._read(self._path)
        except StartupError as error:
            logger.error("the old keys stay: %s", error)
        else:
            logger.info("%s: %s", self._path, self._value)

    def _is_fresh(self, mark: tuple[int, int, int] | None) -> bool:
        """Return whether the file was changed a moment ago; a time in the future does not count."""
        return mark is not None and 0 <= self._wall_clock() - mark[2] / 1e9 < SETTLED_SECONDS

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._path)
        except (OSError, ValueError):  # a path with NUL
            return None
        return (found.st_ino, found.st_size, found.st_mtime_ns)
