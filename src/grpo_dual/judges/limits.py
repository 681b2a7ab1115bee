"""How fast a judge may be asked: so many at once, so many requests and tokens a minute.

Made and used on one event loop.
"""

import asyncio
import importlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from grpo_dual.errors import JudgeError
from grpo_dual.judges.openai import INSTALL

_WINDOW = 6.0
"""Seconds of the leaky buckets: what may come at once is a tenth of a minute's quota, so that the
first minute does not take nearly two."""


def _bucket(per_minute: int, largest: int) -> Any:
    """A leaky bucket that drains ``per_minute`` and holds what ``largest`` needs at least."""
    try:
        aiolimiter: Any = importlib.import_module("aiolimiter")
    except ImportError as error:
        raise JudgeError(f"a quota a minute needs aiolimiter: {INSTALL}") from error
    window = max(_WINDOW, 60.0 * largest / per_minute)
    return aiolimiter.AsyncLimiter(per_minute * window / 60.0, window)


class Limits:
    """Concurrency, quotas, and a pause for all when the server asks for one."""

    def __init__(
        self,
        *,
        concurrency: int,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
    ) -> None:
        """Without a quota only the concurrency is limited."""
        self._slots = asyncio.Semaphore(concurrency)
        self._requests = None if requests_per_minute is None else _bucket(requests_per_minute, 1)
        self._per_minute = tokens_per_minute
        self._tokens: Any = None
        self._resume_at = 0.0

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[None]:
        """Inside, one of the places is taken."""
        async with self._slots:
            yield

    async def admit(self, tokens: int) -> None:
        """Wait until a request of so many tokens may be sent."""
        await self._held()
        if self._requests is not None:
            await self._requests.acquire()
        if self._per_minute is not None:
            if self._tokens is None or tokens > self._tokens.max_rate:
                # A bucket smaller than the request would never let it through.
                self._tokens = _bucket(self._per_minute, tokens)
            await self._tokens.acquire(tokens)
        # The server may have asked for a pause meanwhile.
        await self._held()

    async def _held(self) -> None:
        while (wait := self._resume_at - _now()) > 0:
            await asyncio.sleep(wait)

    def hold(self, seconds: float) -> None:
        """Send nothing for so long: the server said so, and means all requests."""
        self._resume_at = max(self._resume_at, _now() + seconds)


def _now() -> float:
    return asyncio.get_running_loop().time()
