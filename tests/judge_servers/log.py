"""What a server has seen and said."""

import dataclasses
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts under the wire's own meaning."""

    input_tokens: int = 0
    """The whole prompt (openai), or without what the cache took part in (anthropic)."""
    output_tokens: int = 0
    cached_tokens: int = 0
    """Read from the cache; inside ``input_tokens`` (openai) or beside it (anthropic)."""
    cache_written_tokens: int = 0
    """Written to the cache; 0 on the openai wire, which does not tell."""

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_written_tokens + other.cache_written_tokens,
        )


NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class Request:
    """One request; a snapshot, so one still in work shows ``finished`` None."""

    time: float
    """Of arrival, ``time.monotonic()``."""
    path: str
    body: dict[str, Any] | None
    """None without ``keep_bodies``, or where it was no JSON object."""
    digest: str
    """sha256 of the system text and the messages: equal prompts, equal digests."""
    api_key: str
    """As sent, in ``authorization: Bearer`` or ``x-api-key``; "" where neither came."""
    outcome: str
    """"ok", the kind of the fault, "down", or "invalid" (wrong path or body)."""
    status: int | None = None
    """None where no status line was sent."""
    usage: Usage = NO_USAGE
    """What the body told, or would have told had it not been cut."""
    answered: bool = False
    """True when the whole answer, a fault's too, went out while the client was still there."""
    finished: float | None = None
    """When the answer was out or the client gone, ``time.monotonic()``."""


class Log:
    """Counters and requests; written by the server's thread, read by any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._peak = 0
        self._usage = Usage()
        self._outcomes: Counter[str] = Counter()

    def open(self, request: Request, in_work: int) -> int:
        """Enters a request that has just arrived and returns its number."""
        with self._lock:
            self._requests.append(request)
            self._outcomes[request.outcome] += 1
            self._peak = max(self._peak, in_work)
            return len(self._requests) - 1

    def close(
        self, number: int, *, status: int | None, usage: Usage, answered: bool, time: float
    ) -> None:
        """Enters how it ended; only the first time counts."""
        with self._lock:
            if self._requests[number].finished is not None:
                return
            self._requests[number] = dataclasses.replace(
                self._requests[number],
                status=status,
                usage=usage,
                answered=answered,
                finished=time,
            )
            if answered:
                self._usage += usage

    @property
    def requests(self) -> tuple[Request, ...]:
        with self._lock:
            return tuple(self._requests)

    @property
    def calls(self) -> int:
        with self._lock:
            return len(self._requests)

    @property
    def peak(self) -> int:
        with self._lock:
            return self._peak

    @property
    def usage(self) -> Usage:
        with self._lock:
            return self._usage

    @property
    def outcomes(self) -> Counter[str]:
        with self._lock:
            return self._outcomes.copy()
