"""A chat model as a judge: one retry layer, two clocks, quotas, breaker, budget, one repair.

Order of one request: breaker, quota, budget, ledger, request, validation. What can be known without
sending is known first, so a judge that is down or unpaid costs nothing.
"""

import asyncio
import importlib
import json
import random
from dataclasses import dataclass
from typing import Any

from grpo_dual.config.judging import JudgeRetryConfig, PriceConfig
from grpo_dual.errors import JudgeError
from grpo_dual.judges import rubric
from grpo_dual.judges.breaker import Breaker
from grpo_dual.judges.cache import Entry, VerdictCache
from grpo_dual.judges.client import (
    TRANSIENT,
    Cause,
    Chat,
    ChatModel,
    Failure,
    Opinion,
    ProviderError,
    Question,
    Reply,
    Usage,
)
from grpo_dual.judges.ledger import Ledger, cost
from grpo_dual.judges.limits import Limits
from grpo_dual.judges.openai import INSTALL

_OUTAGE = frozenset({Cause.TIMEOUT, Cause.SERVER, Cause.NETWORK, Cause.DENIED})
"""What opens the breaker. A rejected request does: key and model are the same in the next one."""
_FRAME_TOKENS = 16
"""What a message takes beside its text."""
TYPICAL_CHARS_PER_TOKEN = 4.0
"""For quotas and estimates, before a judge's own ratio is known."""
_LONGEST_HOLD = 900.0
"""Seconds for which a server's ``Retry-After`` is believed."""
_MOST_DOUBLINGS = 30
"""Any cap is reached by then."""
_ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Settings:
    """What does not change between verdicts."""

    name: str
    rubric: int
    price: PriceConfig | None
    max_output_tokens: int
    retry: JudgeRetryConfig


class ChatJudge:
    """A ``Judge`` that asks a ``ChatModel``; made and used on one event loop."""

    def __init__(
        self,
        settings: Settings,
        model: ChatModel,
        *,
        limits: Limits,
        breaker: Breaker,
        ledger: Ledger,
        cache: VerdictCache | None,
    ) -> None:
        """Put the parts together.

        Raises:
            JudgeError: tenacity is not installed.
        """
        try:
            self._tenacity: Any = importlib.import_module("tenacity")
        except ImportError as error:
            raise JudgeError(f"a judge behind an API needs tenacity: {INSTALL}") from error
        self.name = settings.name
        self.breaker = breaker
        self.step = 0
        """Training step, for the ledger."""
        self._settings = settings
        self._model = model
        self._limits = limits
        self._ledger = ledger
        self._cache = cache
        # Not the global generator: that one belongs to the run, and is part of its checkpoints.
        self._jitter = random.Random()
        self._last = ""
        """What the last failure was that counts against the breaker."""

    def key(self, question: Question) -> str:
        """See Judge."""
        chat = rubric.render(question, self._settings.rubric)
        return rubric.cache_key(self._model.identity, chat, self._settings.rubric)

    async def close(self) -> None:
        """See Judge."""
        await self._model.close()

    async def judge(self, question: Question) -> Opinion | Failure:
        """See Judge."""
        chat = rubric.render(question, self._settings.rubric)
        verdict = _Verdict(chat)
        async with self._limits.slot():
            try:
                async with asyncio.timeout(None) as clock:
                    return await self._persist(verdict, clock)
            except TimeoutError:
                return Failure(self.name, Cause.TIMEOUT, verdict.sent, "deadline of the verdict")
            except ProviderError as error:
                return Failure(self.name, error.cause, verdict.sent, error.detail)

    async def _persist(self, verdict: "_Verdict", clock: asyncio.Timeout) -> Opinion:
        """Requests with pauses until one is answered.

        Raises:
            ProviderError: The last one's, when there is nothing left to try.
        """
        retry, t = self._settings.retry, self._tenacity

        def again(error: BaseException) -> bool:
            return _worth_a_try(error, verdict)

        def pause(state: Any) -> float:
            asked = getattr(state.outcome.exception(), "retry_after", None) or 0.0
            return max(asked, self._drawn(state.attempt_number))

        def hopeless(state: Any) -> bool:
            when = clock.when()
            over = when is not None and _now() + state.upcoming_sleep >= when
            return over or verdict.sent >= retry.attempts

        async for attempt in t.AsyncRetrying(
            retry=t.retry_if_exception(again),
            wait=pause,
            stop=hopeless,
            reraise=True,
            sleep=asyncio.sleep,
        ):
            with attempt:
                return await self._attempt(verdict, clock)
        raise AssertionError("tenacity raises or returns")

    def _drawn(self, number: int) -> float:
        """The pause behind the n-th request: full jitter under a ceiling that doubles."""
        retry = self._settings.retry
        doublings = min(number - 1, _MOST_DOUBLINGS)
        return self._jitter.uniform(0, min(retry.cap_seconds, retry.base_seconds * 2**doublings))

    async def _attempt(self, verdict: "_Verdict", clock: asyncio.Timeout) -> Opinion:
        settings = self._settings
        if self.breaker.waits() > 0:
            raise ProviderError(Cause.DOWN, self._last)
        prompt = _tokens(verdict.chat, TYPICAL_CHARS_PER_TOKEN)
        await self._limits.admit(prompt + settings.max_output_tokens)
        if verdict.sent == 0:
            # It begins here: waiting for one's turn is not the judge's fault.
            clock.reschedule(_now() + settings.retry.deadline_seconds)
        if not self.breaker.admits():
            raise ProviderError(Cause.DOWN, self._last)
        sent = _now()
        try:
            return await self._request(verdict)
        except ProviderError as error:
            self._learn(error, sent)
            raise
        except BaseException:
            if clock.expired():
                self.breaker.failed(sent)
            else:
                self.breaker.gave_up(sent)
            raise

    async def _request(self, verdict: "_Verdict") -> Opinion:
        """One request, from the ledger's first line on it to the second.

        Raises:
            ProviderError: It is over the budget, or brought no valid reply.
        """
        settings, chat = self._settings, verdict.chat
        most = _most(chat, settings)
        ticket = self._ledger.reserve(self.name, most, settings.price, step=self.step)
        verdict.sent += 1
        # A request that nobody waited for to the end may well be on the bill.
        usage, outcome = most, "cancelled"
        try:
            async with asyncio.timeout(settings.retry.attempt_seconds):
                reply = await self._model.ask(chat)
            self.breaker.succeeded()
            # What a server does not count is not free.
            usage, outcome = reply.usage if reply.usage.tokens else most, Cause.INVALID.value
            opinion = verdict.read(reply)
            self._keep(verdict, reply, opinion)
            outcome = _ANSWERED
            return opinion
        except TimeoutError:
            outcome = Cause.TIMEOUT.value
            raise ProviderError(Cause.TIMEOUT, "deadline of the request") from None
        except ProviderError as error:
            if error.usage.tokens or not error.billed:
                usage = error.usage
            outcome = error.cause.value
            verdict.invalid += error.cause is Cause.INVALID
            raise
        finally:
            self._ledger.settle(ticket, usage, settings.price, outcome, ok=outcome == _ANSWERED)

    def _keep(self, verdict: "_Verdict", reply: Reply, opinion: Opinion) -> None:
        """Store a verdict, before its request is settled: a kill between the two costs nothing."""
        if self._cache is None:
            return
        settings = self._settings
        entry = Entry(
            opinion=opinion,
            judge=self.name,
            model=reply.model,
            rubric=settings.rubric,
            chars=_chars(verdict.chat),
            usage=reply.usage,
            usd=cost(reply.usage, settings.price),
        )
        key = rubric.cache_key(self._model.identity, verdict.first, settings.rubric)
        self._cache.put(key, entry)

    def _learn(self, error: ProviderError, sent: float) -> None:
        if error.cause in _OUTAGE:
            self._last = f"last: {error}"
            self.breaker.failed(sent)
        elif error.cause is Cause.BUDGET:
            self.breaker.gave_up(sent)
        else:
            self.breaker.succeeded()
        if error.retry_after is None or error.cause not in TRANSIENT:
            return
        if error.retry_after > self._settings.retry.deadline_seconds:
            # Nobody can wait so long: until then this judge counts as down.
            self.breaker.open_for(min(error.retry_after, _LONGEST_HOLD))
        else:
            self._limits.hold(error.retry_after)


class _Verdict:
    """What one verdict has taken so far."""

    def __init__(self, chat: Chat) -> None:
        self.first = chat
        self.chat = chat
        """What is sent next: the first chat, or the one that asks to mend an invalid reply."""
        self.sent = 0
        self.invalid = 0

    def read(self, reply: Reply) -> Opinion:
        """The reply's opinion; where there is none, the next request asks to mend it."""
        try:
            return rubric.read(reply.text, reply.usage)
        except ProviderError as error:
            self.chat = rubric.repair(self.first, reply.text, error.detail)
            raise


def _worth_a_try(error: BaseException, verdict: _Verdict) -> bool:
    """Transient causes are; an invalid reply is once."""
    if not isinstance(error, ProviderError):
        return False
    return error.cause in TRANSIENT or (error.cause is Cause.INVALID and verdict.invalid <= 1)


def _chars(chat: Chat) -> int:
    return len(chat.system) + sum(len(turn.content) for turn in chat.turns)


def _most(chat: Chat, settings: Settings) -> Usage:
    """What a request can take at most: no token is shorter than a byte."""
    texts = [chat.system, *(turn.content for turn in chat.turns), json.dumps(chat.schema)]
    size = sum(len(text.encode("utf-8", "replace")) + _FRAME_TOKENS for text in texts)
    price = settings.price
    dear = price is not None and price.cache_write is not None and price.cache_write > price.input
    return Usage(input=size, cache_write=size if dear else 0, output=settings.max_output_tokens)


def _tokens(chat: Chat, chars_per_token: float) -> int:
    return int(_chars(chat) / chars_per_token) + 1


def _now() -> float:
    return asyncio.get_running_loop().time()
