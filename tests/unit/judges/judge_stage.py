"""What the tests of the judges share: questions, settings, a service, and a clock that flies."""

import asyncio
import contextlib
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from grpo_dual.config.judging import JudgeConfig
from grpo_dual.judges.client import Cause, Failure, GroupVerdicts, Opinion, Question, Verdict
from grpo_dual.judges.service import JudgeService
from grpo_dual.types import HaluEvalRecord, Task
from judge_servers import JudgeServer

T = TypeVar("T")
KEY = "sk-test-0123456789abcdef"
"""Under the environment variable JUDGE_TEST_KEY, see conftest.py."""
QUICK = {"attempt_seconds": 5, "deadline_seconds": 20, "base_seconds": 0.01, "cap_seconds": 0.05}
"""Retries without long pauses, and clocks that no test is to reach."""
WIRES = ("openai", "anthropic")
HEURISTIC = Opinion(Verdict.WRONG, 1.0, "the offline judge")


def record(number: int = 0) -> HaluEvalRecord:
    return HaluEvalRecord(
        record_id=f"halueval/qa/{number}",
        objective="hallucination",
        subset="qa",
        task=Task.ANSWER,
        origin="synthetic",
        context=f"Ottokar lives in Delft, in house {number}.",
        query="Where does Ottokar live?",
        accepted="Delft",
        rejected="He lives in Gouda.",
    )


def questions(count: int, number: int = 0) -> list[Question]:
    """Different completions of one record: a group."""
    return [Question(record(number), f"Completion {number}-{k}") for k in range(count)]


def offline(question: Question) -> Opinion:
    del question
    return HEURISTIC


def never(question: Question) -> Opinion:
    raise AssertionError(f"the offline judge was asked about {question}")


def provider(server: JudgeServer, **more: object) -> dict[str, object]:
    """Settings of a judge behind a loopback server."""
    return {
        "kind": server.wire,
        "model": "judge-1",
        "base_url": server.base_url,
        "api_key": "env:JUDGE_TEST_KEY",
        **more,
    }


def settings(providers: Mapping[str, Mapping[str, object]], **sections: object) -> JudgeConfig:
    """Without a cache; what failed stays a failure, unless a section says otherwise."""
    whole: dict[str, object] = {
        "providers": providers,
        "retry": QUICK,
        "outage": {"action": "unscored"},
        "cache": {"enabled": False},
        **sections,
    }
    return JudgeConfig.model_validate(whole)


@contextlib.contextmanager
def serving(config: JudgeConfig, ledger: Path | None = None, **more: Any) -> Iterator[JudgeService]:
    with JudgeService(config, **more).start(ledger) as service:
        yield service


def ask(service: JudgeService, asked: Sequence[Question]) -> GroupVerdicts:
    return service.submit(asked, offline).result()


def failures(found: GroupVerdicts) -> list[Failure]:
    return [answer for answer in found.answers if isinstance(answer, Failure)]


def opinions(found: GroupVerdicts) -> list[Opinion]:
    return [answer for answer in found.answers if isinstance(answer, Opinion)]


def causes(found: GroupVerdicts) -> set[Cause]:
    return {failure.cause for failure in failures(found)}


class Stopwatch:
    """Seconds of the real clock."""

    def __enter__(self) -> "Stopwatch":
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._began


class _Flying(selectors.DefaultSelector):
    """Instead of waiting, it moves the clock on; a turn of the loop takes a microsecond."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if not events:
            assert timeout is not None, "everybody waits, and nothing will ever happen"
            self.now += timeout
        self.now += 1e-6
        return events


def flying(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run on an event loop on which an hour takes no time; ``now()`` begins at 0."""
    selector = _Flying()

    def loop() -> asyncio.AbstractEventLoop:
        made = asyncio.SelectorEventLoop(selector)
        made.time = lambda: selector.now
        return made

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(work())


def now() -> float:
    """The loop's clock, without its microseconds."""
    return round(asyncio.get_running_loop().time(), 3)
