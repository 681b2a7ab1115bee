"""The judges as the trainer sees them: hand in a group, go on computing, ask for the verdicts.

One thread with one event loop owns clients, quotas, breakers, ledger and cache. The trainer's
thread only submits and waits.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

from grpo_dual.config.judging import CloudProviderConfig, JudgeConfig
from grpo_dual.judges import rubric
from grpo_dual.judges.asking import ChatJudge
from grpo_dual.judges.build import build_judges, cache_path
from grpo_dual.judges.cache import VerdictCache, check_place
from grpo_dual.judges.client import GroupVerdicts, Judge, Question
from grpo_dual.judges.ledger import Ledger, Spent
from grpo_dual.judges.router import Offline, Router
from grpo_dual.judges.secrets import Secret, find
from grpo_dual.judges.tally import StepTally, Tally

_T = TypeVar("_T")
Build = Callable[[JudgeConfig, Mapping[str, Secret], Ledger, VerdictCache | None], dict[str, Judge]]
"""Makes the judges by name, on the judges' event loop."""
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

    def __init__(
        self,
        config: JudgeConfig,
        *,
        tell: Callable[[str], None] = lambda _: None,
        build: Build | None = None,
    ) -> None:
        """Look for the keys; nothing is started yet.

        Args:
            config: With at least one provider.
            tell: Hears what the user should see at once, from the judges' thread.
            build: Makes the judges; None: those of the configuration.

        Raises:
            JudgeError: A key or a version of the rubrics is not there, or no cache can be made.
        """
        self.config = config
        rubric.check(config.rubric)
        if config.cache.enabled:
            check_place(cache_path(config.cache))
        self.tell = tell
        self._build = build or build_judges
        self._secrets: dict[str, Secret] = {
            name: find(provider.api_key, name)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
            for name, provider in config.providers.items()
            if isinstance(provider, CloudProviderConfig)
        }
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
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
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="judges", daemon=True)
        self._thread.start()
        try:
            self._begin(self._open(ledger)).result()
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
        self._judges = self._build(self.config, self._secrets, self.ledger, self._cache)
        self._router = Router(
            self._judges,
            self.config,
            cache=self._cache,
            tally=self._tally,
            tell=lambda text: self.tell(f"judge: {text}"),
        )

    def _begin(self, work: Coroutine[Any, Any, _T]) -> "Future[_T]":
        assert self._loop is not None, "start comes first"
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def submit(self, questions: Sequence[Question], offline: Offline) -> Pending:
        """Hand in the questions of one group; returns at once.

        Args:
            questions: At least one, of one prompt.
            offline: What scores the group when no judge can.
        """
        future = self._begin(self._group(questions, offline))
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return Pending(future, self._tally)

    async def _group(self, questions: Sequence[Question], offline: Offline) -> GroupVerdicts:
        assert self._router is not None, "start comes before submit"
        self._tally.began()
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

    def drain(self) -> None:
        """Send nothing more, and wait for the answers to what was sent: they are paid for."""
        self.ledger.stopped = True
        wait(list(self._futures), timeout=self.config.retry.attempt_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what is in flight, close connections and files, end the thread."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None or loop.is_closed():
            return
        for future in list(self._futures):
            future.cancel()
        try:
            with contextlib.suppress(TimeoutError):
                self._begin(self._shut()).result(timeout=_CLOSING_SECONDS)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_CLOSING_SECONDS)
            if not thread.is_alive():
                loop.close()
                self._close_files()

    def _close_files(self) -> None:
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
        await asyncio.get_running_loop().shutdown_default_executor()
        async with contextlib.AsyncExitStack() as closing:
            for judge in self._judges.values():
                closing.push_async_callback(judge.close)
