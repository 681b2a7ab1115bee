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
        self._probe_sent: float | None = None
        self._held_until = -math.inf
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
        now = self._clock()
        if self._probe_sent is not None or now < self._probe_at:
            return False
        self._probe_sent = now
        return True

    def _is_probe(self, sent: float) -> bool:
        """What went out before the breaker opened is none, and may report late."""
        return self._probe_sent is not None and sent >= self._probe_sent

    def succeeded(self) -> None:
        """The judge answered (a rate limit or an unreadable reply is an answer)."""
        self._row = 0
        self._answered_at = self._clock()
        if self._answered_at < self._held_until:
            # Sent before the server asked for a pause, which still holds.
            return
        self._probe_at = None
        self._probe_sent = None

    def failed(self, sent: float) -> None:
        """It did not: timeout, connection, 5xx.

        Args:
            sent: When the request went out, by the breaker's clock. If the judge has answered
                another one since, this failure says nothing about whether it is there now.
        """
        probe = self._is_probe(sent)
        if probe:
            self._probe_sent = None
        if sent < self._answered_at:
            return
        self._row += 1
        if probe or self._row >= self._limit:
            self.opened += self.closed
            self._probe_at = max(self._clock() + self._cooldown, self._held_until)

    def open_for(self, seconds: float) -> None:
        """Open for so long, whatever was before: the server has said when it will be back."""
        self.opened += self.closed
        self._held_until = max(self._held_until, self._clock() + seconds)
        self._probe_at = self._held_until
        self._probe_sent = None

    def gave_up(self, sent: float) -> None:
        """A request was cancelled before it told anything: another one may probe.

        Args:
            sent: When it went out, by the breaker's clock.
        """
        if self._is_probe(sent):
            self._probe_sent = None
