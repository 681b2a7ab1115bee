"""The judges as the trainer sees them: hand in a group, go on computing, ask for the verdicts.

One thread with one event loop owns clients, quotas, breakers, ledger and cache. The trainer's
thread only submits and waits.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

from grpo_dual.config.judging import CloudProviderConfig, JudgeConfig
from grpo_dual.judges.asking import ChatJudge
from grpo_dual.judges.build import build_judges, cache_path
from grpo_dual.judges.cache import VerdictCache
from grpo_dual.judges.client import GroupVerdicts, Judge, Question
from grpo_dual.judges.ledger import Ledger, Spent
from grpo_dual.judges.router import Offline, Router
from grpo_dual.judges.secrets import Secret, find
from grpo_dual.judges.tally import StepTally, Tally

_T = TypeVar("_T")
_CLOSING_SECONDS = 10.0


class Pending:
    """Verdicts that are on their way."""

    def __init__(self, future: "Future[GroupVerdicts]", tally: Tally) -> None:
        self._future = future
        self._tally = tally

    def result(self) -> GroupVerdicts:
        """Wait for them.

        Raises:
            JudgeOutageError: The outage rule says stop.
            JudgeError: Cache or ledger cannot be written.
        """
        began = time.monotonic()
        try:
            return self._future.result()
        finally:
            self._tally.waited(time.monotonic() - began)


class JudgeService:
    """All judges of a run, on a thread of their own."""

    def __init__(self, config: JudgeConfig, *, tell: Callable[[str], None] = lambda _: None):
        """Look for the keys; nothing is started yet.

        Args:
            config: With at least one provider.
            tell: Hears what the user should see at once, from the judges' thread.

        Raises:
            JudgeError: A key is not there.
        """
        self.config = config
        self.tell = tell
        self._secrets: dict[str, Secret] = {
            name: find(provider.api_key, name)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
            for name, provider in config.providers.items()
            if isinstance(provider, CloudProviderConfig)
        }
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="judges", daemon=True)
        self._tally = Tally(time.monotonic)
        self._judges: dict[str, Judge] = {}
        self._futures: set[Future[GroupVerdicts]] = set()
        self._cache: VerdictCache | None = None
        self._router: Router | None = None
        self.ledger = Ledger(config.budget)
        self._spent_before: dict[str, Spent] = {}

    def start(self, ledger: Path | None = None) -> Self:
        """Start the thread, open cache and ledger, make the clients.

        Args:
            ledger: File of the run; what it holds counts towards the budget.

        Raises:
            JudgeError: An SDK is missing, or a file cannot be used.
        """
        self._thread.start()
        try:
            self._call(self._open(ledger))
        except BaseException:
            self.close()
            raise
        return self

    async def _open(self, ledger: Path | None) -> None:
        if self.config.cache.enabled:
            path = cache_path(self.config.cache)
            self._cache = VerdictCache(path, max_entries=self.config.cache.max_entries)
        self.ledger = Ledger(self.config.budget, ledger)
        self.take_spent()  # what earlier sittings spent is not this step's
        self._judges = build_judges(self.config, self._secrets, self.ledger, self._cache)
        self._router = Router(
            self._judges,
            self.config,
            cache=self._cache,
            tally=self._tally,
            tell=lambda text: self.tell(f"judge: {text}"),
        )

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def submit(self, questions: Sequence[Question], offline: Offline) -> Pending:
        """Hand in the questions of one group; returns at once.

        Args:
            questions: At least one, of one prompt.
            offline: What scores the group when no judge can.
        """
        self._tally.began()
        future = asyncio.run_coroutine_threadsafe(self._group(questions, offline), self._loop)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return Pending(future, self._tally)

    async def _group(self, questions: Sequence[Question], offline: Offline) -> GroupVerdicts:
        assert self._router is not None, "start comes before submit"
        try:
            return await self._router.group(questions, offline)
        finally:
            self._tally.ended()

    def begin_step(self, step: int) -> None:
        """Requests from here on belong to this training step."""
        for judge in self._judges.values():
            if isinstance(judge, ChatJudge):
                judge.step = step

    def take_spent(self) -> dict[str, Spent]:
        """What each judge took since the last call; call it when no group is pending."""
        taken: dict[str, Spent] = {}
        for name in self.config.providers:
            now = replace(self.ledger.by_judge.get(name, Spent()))
            taken[name] = now.since(self._spent_before.get(name, Spent()))
            self._spent_before[name] = now
        return taken

    def take_tally(self) -> StepTally:
        """Counts since the last call; call it when no group is pending."""
        return self._tally.take()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what is in flight, close connections and files, end the thread."""
        if self._loop.is_closed():
            return
        if self._thread.is_alive():
            for future in list(self._futures):
                future.cancel()
            with contextlib.suppress(TimeoutError):
                closing = asyncio.run_coroutine_threadsafe(self._shut(), self._loop)
                closing.result(timeout=_CLOSING_SECONDS)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CLOSING_SECONDS)
        self._loop.close()
        self.ledger.close()
        if self._cache is not None:
            self._cache.close()

    async def _shut(self) -> None:
        current = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not current]
        for task in tasks:
            task.cancel()
        # What was cancelled says so; it has nobody left to hear anything else.
        await asyncio.gather(*tasks, return_exceptions=True)
        for judge in self._judges.values():
            await judge.close()
