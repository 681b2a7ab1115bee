"""A circuit breaker: a judge that is down is not asked, and found again by single probes."""

import math
from collections.abc import Callable


class Breaker:
    """Closed: asked. Open: not asked until the cooldown is over. Half open: one probe is out."""

    def __init__(self, *, failures: int, cooldown: float, clock: Callable[[], float]) -> None:
        """Begin closed.

        Args:
            failures: In a row, until it opens.
            cooldown: Seconds until a probe.
            clock: Seconds, monotonic.
        """
        self._limit = failures
        self._cooldown = cooldown
        self._clock = clock
        self._row = 0
        self._answered_at = -math.inf
        self._probe_at: float | None = None
        self._probing = False
        self.opened = 0
        """Times it has opened."""

    @property
    def closed(self) -> bool:
        """True in normal times."""
        return self._probe_at is None

    def waits(self) -> float:
        """Seconds until it may be asked; 0 now, also for a probe that is out."""
        if self._probe_at is None:
            return 0.0
        return max(0.0, self._probe_at - self._clock())

    def admits(self) -> bool:
        """May a request be sent?

        Of an open breaker whose cooldown is over, the first to ask becomes the probe and must
        report back.
        """
        if self._probe_at is None:
            return True
        if self._probing or self._clock() < self._probe_at:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """The judge answered (a rate limit or an unreadable reply is an answer)."""
        self._row = 0
        self._answered_at = self._clock()
        self._probe_at = None
        self._probing = False

    def failed(self, sent: float) -> None:
        """It did not: timeout, connection, 5xx.

        Args:
            sent: When the request went out, by the breaker's clock. If the judge has answered
                another one since, this failure says nothing about whether it is there now.
        """
        if sent < self._answered_at:
            self._probing = False
            return
        self._row += 1
        if self._probing or self._row >= self._limit:
            if self.closed:
                self.opened += 1
            self._probe_at = self._clock() + self._cooldown
        self._probing = False

    def open_for(self, seconds: float) -> None:
        """Open for so long, whatever was before: the server has said when it will be back."""
        self.opened += self.closed
        self._probe_at = self._clock() + seconds
        self._probing = False

    def gave_up(self) -> None:
        """A request was cancelled before it told anything: another one may probe."""
        self._probing = False
