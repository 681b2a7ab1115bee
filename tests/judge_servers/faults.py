"""What goes wrong, and when.

A plan is an immutable description. ``start()`` gives a decider with a state of its own, so one plan
can serve several servers, and ``JudgeServer.reset()`` begins it anew.
"""

import hashlib
import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Kind(StrEnum):
    """The faults; what each looks like on either wire stands in ``wires.py`` and ``server.py``."""

    RATE_LIMIT_AFTER = "rate_limit_after"
    RATE_LIMIT = "rate_limit"
    SERVER_500 = "server_500"
    UNAVAILABLE_503 = "unavailable_503"
    OVERLOADED_529 = "overloaded_529"
    UNAUTHORIZED_401 = "unauthorized_401"
    BAD_REQUEST_400 = "bad_request_400"
    NOT_FOUND_404 = "not_found_404"
    HANG = "hang"
    HANG_AFTER_HEADERS = "hang_after_headers"
    DRIP = "drip"
    RESET = "reset"
    CUT = "cut"
    TRUNCATED_JSON = "truncated_json"
    WRONG_SCHEMA = "wrong_schema"
    OUT_OF_RANGE = "out_of_range"
    BAD_ENUM = "bad_enum"
    FENCED_JSON = "fenced_json"
    PROSE_JSON = "prose_json"
    EMPTY_CONTENT = "empty_content"
    NULL_CONTENT = "null_content"
    EMPTY_CHOICES = "empty_choices"
    REFUSAL = "refusal"
    HTML = "html"
    ERROR_ON_200 = "error_on_200"


STATUS = {
    Kind.RATE_LIMIT_AFTER: 429,
    Kind.RATE_LIMIT: 429,
    Kind.SERVER_500: 500,
    Kind.UNAVAILABLE_503: 503,
    Kind.OVERLOADED_529: 529,
    Kind.UNAUTHORIZED_401: 401,
    Kind.BAD_REQUEST_400: 400,
    Kind.NOT_FOUND_404: 404,
}
"""Faults that are an error status; they are answered at once, without the server's delay."""
SLOW = frozenset({Kind.HANG, Kind.HANG_AFTER_HEADERS, Kind.DRIP})
"""Faults that cost the client a timeout."""
FATAL = frozenset({Kind.UNAUTHORIZED_401, Kind.BAD_REQUEST_400, Kind.NOT_FOUND_404})
"""Faults after which asking again is pointless."""
QUICK = tuple(kind for kind in Kind if kind not in SLOW | FATAL)
"""What a random plan draws from unless told otherwise: every fault but the slow and fatal ones."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault with its settings."""

    kind: Kind
    retry_after: float | str = 1
    """Of ``rate_limit_after``: seconds, or a text to be sent as it is ("soon", "-1", "nan")."""
    http_date: bool = False
    """True: Retry-After is the date that lies so many seconds ahead, rounded up."""
    byte_delay: float = 0.05
    """Of ``drip``: seconds between two bytes of the body."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a plan may know of a request."""

    digest: str
    """sha256 of the whole body."""
    in_flight: int
    """Other requests in work."""
    time: float
    """Of the monotonic clock, seconds."""


Step: TypeAlias = Fault | Kind | str | None
"""None or "ok": no fault."""
Decide: TypeAlias = Callable[[Arrival], Fault | None]


def _fault(step: Step) -> Fault | None:
    if step is None or isinstance(step, Fault):
        return step
    return None if step == "ok" else Fault(Kind(step))


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Decides for each request whether it fails, and how. ``a | b`` asks b where a lets pass."""

    start: Callable[[], Decide]
    """Gives a decider that has seen nothing yet."""

    def __or__(self, other: "FaultPlan") -> "FaultPlan":
        def start() -> Decide:
            first, second = self.start(), other.start()
            return lambda arrival: first(arrival) or second(arrival)

        return FaultPlan(start)

    @classmethod
    def always(cls, step: Step) -> "FaultPlan":
        """The same fault for every request."""
        fault = _fault(step)
        return cls(lambda: lambda _: fault)

    @classmethod
    def script(cls, steps: Sequence[Step], *, each: bool = False) -> "FaultPlan":
        """One step per request, afterwards none fails.

        Args:
            steps: In the order in which requests arrive.
            each: True: every body goes through the steps on its own, one per attempt, which does
                not depend on the order in which different requests arrive.
        """
        faults = [_fault(step) for step in steps]

        def start() -> Decide:
            seen: Counter[str] = Counter()

            def decide(arrival: Arrival) -> Fault | None:
                key = arrival.digest if each else ""
                seen[key] += 1
                return faults[seen[key] - 1] if seen[key] <= len(faults) else None

            return decide

        return cls(start)

    @classmethod
    def random(cls, rate: float, seed: int, kinds: Sequence[Step] = QUICK) -> "FaultPlan":
        """A share of the requests fails, evenly over the kinds.

        The draw hashes the seed, the body and how often this plan was asked about that body, never
        the order of arrival, so it is the same under any concurrency. It follows that a client
        which puts a random tag into its prompt gets new draws in each run.
        """
        faults = [_fault(kind) for kind in kinds]

        def start() -> Decide:
            seen: Counter[str] = Counter()

            def decide(arrival: Arrival) -> Fault | None:
                seen[arrival.digest] += 1
                text = f"{seed}:{arrival.digest}:{seen[arrival.digest]}"
                drawn = hashlib.sha256(text.encode()).digest()
                if int.from_bytes(drawn[:8], "big") / 2**64 >= rate:
                    return None
                return faults[int.from_bytes(drawn[8:16], "big") % len(faults)]

            return decide

        return cls(start)

    @classmethod
    def burst_limit(cls, limit: int, step: Step = Kind.RATE_LIMIT) -> "FaultPlan":
        """Refuses a request while ``limit`` others are in work."""
        fault = _fault(step)
        return cls(lambda: lambda arrival: fault if arrival.in_flight >= limit else None)

    @classmethod
    def per_minute(cls, limit: int, window: float = 60.0, *, say_when: bool = True) -> "FaultPlan":
        """Admits ``limit`` requests in any window of so many seconds; a refused one costs nothing.

        Args:
            limit: Requests per window.
            window: Seconds.
            say_when: Retry-After tells, in whole seconds rounded up, when the next one would pass.
        """

        def start() -> Decide:
            admitted: deque[float] = deque()

            def decide(arrival: Arrival) -> Fault | None:
                while admitted and arrival.time - admitted[0] >= window:
                    admitted.popleft()
                if len(admitted) < limit:
                    admitted.append(arrival.time)
                    return None
                if not say_when:
                    return Fault(Kind.RATE_LIMIT)
                wait = admitted[0] + window - arrival.time if admitted else window
                return Fault(Kind.RATE_LIMIT_AFTER, retry_after=max(1, math.ceil(wait)))

            return decide

        return cls(start)
