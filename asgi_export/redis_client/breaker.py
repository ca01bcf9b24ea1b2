"""When a server that did not answer is asked again."""

from __future__ import annotations

FAILURES = 3
"""So many in a row open the breaker."""

FIRST_PROBE_SECONDS = 0.25
LAST_PROBE_SECONDS = 5.0


class Breaker:
    """Whether the store is asked at all. Open after three failures in a row, closed by whoever has seen it answer.

    What failed at one moment, since one connection broke, is one failure, however many were waiting for it.
    """

    def __init__(self) -> None:
        self.open = False
        self._failures = 0
        self._occasion: object = None

    def failed(self, occasion: object) -> bool:
        """Note a failure; True when this one opens the breaker."""
        if self.open or occasion is self._occasion:
            return False
        self._occasion = occasion
        self._failures += 1
        self.open = self._failures >= FAILURES
        return self.open

    def trip(self) -> None:
        """Open it at once."""
        self.open = True

    def answered(self) -> None:
        """The store has answered a hit: what failed before does not count."""
        self._failures = 0

    def close(self) -> None:
        """The store is to be asked again."""
        self.open = False
        self._failures = 0
        self._occasion = None
