"""A circuit breaker for a server that does not answer."""

from __future__ import annotations

FAILURES = 3
"""As many in a row open the breaker."""

FIRST_PROBE_SECONDS = 0.25
LAST_PROBE_SECONDS = 5.0


class Breaker:
    """Open after three failures in a row; `close` is for the caller that has seen the store answer.

    Calls that fail together, since one connection broke, count as one failure, however many there are.
    """

    def __init__(self) -> None:
        self.open = False
        self._failures = 0
        self._occasion: object = None

    def note_failure(self, occasion: object) -> bool:
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

    def note_answer(self) -> None:
        """Note an answer: earlier failures do not count any more."""
        self._failures = 0

    def close(self) -> None:
        """Close it: the store is asked again."""
        self.open = False
        self._failures = 0
        self._occasion = None
