"""When to ask a server that did not answer, and when not to."""

from __future__ import annotations

from collections.abc import Callable

FAILURES_TO_OPEN = 3
FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 5.0


class Breaker:
    """Opens after `FAILURES_TO_OPEN` failures in a row; then lets one probe through at a time, ever more rarely.

    `ask` says whether to try; each try must be told by `succeeded` or `failed`.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._delay = FIRST_DELAY_SECONDS
        self._probe_at = 0.0
        self._probing = False

    @property
    def open(self) -> bool:
        return self._failures >= FAILURES_TO_OPEN

    def ask(self) -> bool:
        """Whether this request may try the server; where the breaker is open, it is the probe."""
        if not self.open:
            return True
        if self._probing or self._clock() < self._probe_at:
            return False
        self._probing = True
        return True

    def succeeded(self) -> bool:
        """A try was answered; True where that closes an open breaker."""
        was_open = self.open
        self._failures = 0
        self._delay = FIRST_DELAY_SECONDS
        self._probing = False
        return was_open

    def failed(self) -> bool:
        """A try was not answered; True where that opens the breaker."""
        was_open = self.open
        self._failures += 1
        self._probing = False
        if self.open:
            self._probe_at = self._clock() + self._delay
            self._delay = min(LONGEST_DELAY_SECONDS, self._delay * 2)
        return self.open and not was_open
