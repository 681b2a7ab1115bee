"""What is asked of a judge and what comes back: the nouns, and the two Protocols.

A ``ChatModel`` is one HTTP API: a chat in, a text out, or a ``ProviderError`` that says why not. A
``Judge`` is what a group is scored by: a question in, an ``Opinion`` out, or a ``Failure``. A
failure is never a number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

from grpo_dual.types import Message, Record


class Verdict(StrEnum):
    """The three outcomes, for every objective."""

    RIGHT = "right"
    ABSTAINS = "abstains"
    WRONG = "wrong"


class Cause(StrEnum):
    """Why there is no verdict."""

    RATE_LIMIT = "rate limit"
    TIMEOUT = "timeout"
    SERVER = "server error"
    NETWORK = "network error"
    DENIED = "access denied"
    """Key, model, address or account is wrong: every request will be answered so."""
    REJECTED = "request rejected"
    """This request will be answered so again: too long, filtered, or a parameter is wrong."""
    REFUSAL = "refusal"
    """The model declines to judge."""
    INVALID = "invalid reply"
    DOWN = "judge is down"
    """Its breaker is open; nothing was sent."""
    BUDGET = "budget is spent"
    """Nothing was sent."""
    DISAGREE = "judges disagree"
    NO_OPINION = "no opinion"
    """It judged, and has nothing to judge by: not an outage."""


OUTAGE = frozenset(
    {Cause.RATE_LIMIT, Cause.TIMEOUT, Cause.SERVER, Cause.NETWORK, Cause.DENIED, Cause.DOWN}
)
"""The judge is not to be had; with every other cause it was, and waiting would change nothing."""
UNBILLED = frozenset(
    {Cause.RATE_LIMIT, Cause.SERVER, Cause.DENIED, Cause.REJECTED, Cause.DOWN, Cause.BUDGET}
)
"""An error status, or nothing was sent: it is not on the bill unless the server counts tokens."""
TRANSIENT = frozenset({Cause.RATE_LIMIT, Cause.TIMEOUT, Cause.SERVER, Cause.NETWORK})
"""Worth another try."""


@dataclass(frozen=True, slots=True)
class Question:
    """One completion to be judged.

    Example: ``Question(record, "Delft")`` with a HaluEval record.
    """

    record: Record
    completion: str
    """What the judge is shown: the guarded completion (judges/guard.py)."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """A verdict with what a judge says for it."""

    verdict: Verdict
    confidence: float
    """In [0, 1], as the judge gave it; 1 from rules."""
    reason: str
    """Short."""


@dataclass(frozen=True, slots=True)
class Failure:
    """No verdict, and why."""

    judge: str
    cause: Cause
    attempts: int
    """Requests that were sent."""
    detail: str
    """What the server said, without secrets; may be empty."""

    def __str__(self) -> str:
        """One line for a metric file."""
        tries = f" after {self.attempts} attempt{'s' if self.attempts != 1 else ''}"
        return f"{self.judge}: {self.cause}{tries}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of requests, as the provider counted them."""

    input: int = 0
    """Prompt tokens, the cached ones among them."""
    cached: int = 0
    """Of them, read from the provider's prompt cache."""
    cache_write: int = 0
    """Of them, written to it."""
    output: int = 0

    def __add__(self, other: Self) -> Self:
        """Sum."""
        return type(self)(
            self.input + other.input,
            self.cached + other.cached,
            self.cache_write + other.cache_write,
            self.output + other.output,
        )

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.input + self.output


@dataclass(frozen=True, slots=True)
class Chat:
    """A rendered request."""

    system: str
    turns: tuple[Message, ...]
    """The question, and behind it an invalid reply and the request to mend it."""
    schema: Mapping[str, object]
    """JSON schema of the reply."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered; its text is not validated yet."""

    text: str
    usage: Usage
    model: str
    """The id that the server reports."""


@dataclass(frozen=True, slots=True)
class GroupVerdicts:
    """What one scorer says of one group's questions: scorers never mix inside a group."""

    scorer: str
    """A judge's name, ``first+second`` where two had to agree, or ``heuristic``."""
    answers: tuple[Opinion | Failure, ...]
    """In the order of the questions."""

    @property
    def scored(self) -> int:
        """Questions that the scorer has dealt with; that it has no opinion is no failure."""
        return sum(
            isinstance(a, Opinion) or a.cause in (Cause.NO_OPINION, Cause.DISAGREE)
            for a in self.answers
        )

    @property
    def opinions(self) -> int:
        """Questions that it has a verdict on."""
        return sum(isinstance(a, Opinion) for a in self.answers)


class ProviderError(Exception):
    """A request that brought no text."""

    def __init__(
        self,
        cause: Cause,
        detail: str = "",
        *,
        retry_after: float | None = None,
        usage: Usage | None = None,
        billed: bool | None = None,
    ) -> None:
        """Remember what a retry layer needs.

        Args:
            cause: Why.
            detail: The server's words; secrets are taken out further up.
            retry_after: Seconds that the server asked to wait.
            usage: Tokens that were paid for nevertheless.
            billed: May it be on the bill though the server counts nothing? None: by the cause.
        """
        super().__init__(f"{cause}: {detail}" if detail else str(cause))
        self.cause = cause
        self.detail = detail
        self.retry_after = retry_after
        self.usage = usage or Usage()
        self.billed = cause not in UNBILLED if billed is None else billed


class ChatModel(Protocol):
    """One model behind one API."""

    @property
    def identity(self) -> Mapping[str, object]:
        """All that its replies depend on beside the chat (JSON-able): part of the cache key."""
        ...

    async def ask(self, chat: Chat) -> Reply:
        """One request; no retry.

        Raises:
            ProviderError: There is no text.
        """
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...


class Judge(Protocol):
    """What scores a question."""

    @property
    def name(self) -> str:
        """As in the configuration and the metrics."""
        ...

    def key(self, question: Question) -> str | None:
        """Hash of all that its verdict depends on; None for a judge that is not worth a cache."""
        ...

    async def judge(self, question: Question) -> Opinion | Failure:
        """One verdict, whatever it takes within the limits."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...
