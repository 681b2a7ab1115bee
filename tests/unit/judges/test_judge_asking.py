"""One judge on a clock that flies: pauses, clocks, quotas, breaker, and the order of things."""

import asyncio
import errno
import json
import os
import random
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from judge_stage import (
    flying,
    now,
    questions,
    record,
)

from grpo_dual.config.judging import JudgeBudgetConfig, JudgeRetryConfig, PriceConfig
from grpo_dual.errors import JudgeError
from grpo_dual.judges import rubric
from grpo_dual.judges.asking import ChatJudge, Settings
from grpo_dual.judges.breaker import Breaker
from grpo_dual.judges.cache import VerdictCache
from grpo_dual.judges.client import (
    Cause,
    Chat,
    Failure,
    Opinion,
    ProviderError,
    Question,
    Reply,
    Usage,
)
from grpo_dual.judges.ledger import Ledger
from grpo_dual.judges.limits import Limits

GOOD = json.dumps({"reason": "so", "verdict": "right", "confidence": 1})


STEP = Reply(GOOD, Usage(10, output=2), "m")
Behaviour = Callable[[int], Any]


class FakeModel:
    """Answers as told; remembers when it was asked."""

    def __init__(self, behave: Behaviour) -> None:
        self._behave = behave
        self.asked: list[float] = []
        self.closed = False

    @property
    def identity(self) -> Mapping[str, object]:
        return {"model": "fake"}

    async def ask(self, chat: Chat) -> Reply:
        del chat
        self.asked.append(now())
        answer = self._behave(len(self.asked))
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            answer = STEP
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def close(self) -> None:
        self.closed = True


RETRY = JudgeRetryConfig(
    attempts=5, attempt_seconds=20, deadline_seconds=60, base_seconds=0.5, cap_seconds=20
)


class Bench:
    """A judge over a fake model; made on the flying loop."""

    def __init__(
        self,
        behave: Behaviour,
        *,
        retry: JudgeRetryConfig = RETRY,
        limits: Limits | None = None,
        ledger: Ledger | None = None,
        cache: VerdictCache | None = None,
        failures: int = 1000,
    ) -> None:
        self.model = FakeModel(behave)
        self.ledger = ledger or Ledger(JudgeBudgetConfig())
        self.breaker = Breaker(
            failures=failures, cooldown=15, clock=asyncio.get_running_loop().time
        )
        self.judge = ChatJudge(
            Settings("fake", 1, PriceConfig(input=1, output=1), 256, retry),
            self.model,
            limits=limits or Limits(concurrency=16),
            breaker=self.breaker,
            ledger=self.ledger,
            cache=cache,
        )


def down(number: int) -> ProviderError:
    return ProviderError(Cause.SERVER, f"failure {number}")


def test_pauses_are_drawn_under_a_doubling_ceiling() -> None:
    async def run() -> list[list[float]]:
        seen = []
        for _ in range(200):
            bench = Bench(down)
            answer = await bench.judge.judge(questions(1)[0])
            assert isinstance(answer, Failure)
            assert (answer.attempts, answer.detail) == (5, "failure 5")
            seen.append([b - a for a, b in pairwise(bench.model.asked)])
        return seen

    pauses = list(zip(*flying(run), strict=True))
    for number, drawn in enumerate(pauses):
        ceiling = 0.5 * 2**number
        assert max(drawn) <= ceiling + 0.01
        # Full jitter: the mean of 200 draws from [0, c] is c/2, with a standard error of .02 c.
        assert sum(drawn) / len(drawn) == pytest.approx(ceiling / 2, abs=0.1 * ceiling)


def test_pauses_have_a_cap() -> None:
    retry = RETRY.model_copy(update={"attempts": 60, "deadline_seconds": 10**6})

    async def run() -> list[float]:
        bench = Bench(down, retry=retry)
        await bench.judge.judge(questions(1)[0])
        return [b - a for a, b in pairwise(bench.model.asked)]

    pauses = flying(run)
    assert len(pauses) == 59
    assert 10 < max(pauses) <= 20.01


def test_pauses_leave_the_generator_of_the_run_alone() -> None:
    random.seed(5)
    before = random.getstate()

    async def run() -> None:
        await Bench(down).judge.judge(questions(1)[0])

    flying(run)
    assert random.getstate() == before


def test_no_pause_is_begun_that_the_deadline_would_cut() -> None:
    retry = RETRY.model_copy(update={"deadline_seconds": 30.0})

    async def run() -> float:
        bench = Bench(lambda _: ProviderError(Cause.SERVER, retry_after=25.0), retry=retry)
        answer = await bench.judge.judge(questions(1)[0])
        assert isinstance(answer, Failure)
        assert answer.cause is Cause.SERVER
        assert bench.model.asked == [0, 25]
        return now()

    assert flying(run) == pytest.approx(25, abs=0.01)


def test_an_attempt_and_a_verdict_have_clocks_of_their_own() -> None:
    async def run() -> tuple[list[float], float, Failure | Opinion]:
        bench = Bench(lambda _: 1000.0)
        answer = await bench.judge.judge(questions(1)[0])
        assert bench.ledger.total.unsettled == 0
        return bench.model.asked, now(), answer

    asked, ended, answer = flying(run)
    assert isinstance(answer, Failure)
    assert answer.cause is Cause.TIMEOUT
    # Attempts of 20 s with short pauses between them; the third is cut by the 60 s of the verdict.
    assert len(asked) == answer.attempts == 3
    assert all(20 <= b - a <= 22.01 for a, b in pairwise(asked))
    assert ended == pytest.approx(60, abs=0.01)


def test_a_deadline_shorter_than_an_attempt_opens_the_breaker_too() -> None:
    retry = RETRY.model_copy(update={"attempt_seconds": 60.0, "deadline_seconds": 30.0})

    async def run() -> tuple[list[Cause], list[float]]:
        bench = Bench(lambda _: 1000.0, retry=retry, failures=2)
        seen = []
        for number in range(4):
            answer = await bench.judge.judge(Question(record(number), "x"))
            assert isinstance(answer, Failure)
            seen.append(answer.cause)
        return seen, bench.model.asked

    seen, asked = flying(run)
    assert seen == [Cause.TIMEOUT, Cause.TIMEOUT, Cause.DOWN, Cause.DOWN]
    assert asked == pytest.approx([0, 30], abs=0.01)


def test_waiting_for_ones_turn_is_not_the_judges_fault() -> None:
    """Ten a minute, thirty at once: the last one is sent after three minutes, and is answered."""

    async def run() -> tuple[list[Opinion | Failure], list[float]]:
        bench = Bench(lambda _: 1.0, limits=Limits(concurrency=30, requests_per_minute=10))
        asked = [Question(record(n), "x") for n in range(30)]
        answers = await asyncio.gather(*(bench.judge.judge(question) for question in asked))
        return answers, bench.model.asked

    answers, times = flying(run)
    assert all(isinstance(answer, Opinion) for answer in answers)
    assert times[-1] > 60 + 100


def test_waiting_for_a_place_is_not_the_judges_fault_either() -> None:
    async def run() -> list[Opinion | Failure]:
        bench = Bench(lambda _: 19.0, limits=Limits(concurrency=1))
        asked = [Question(record(n), "x") for n in range(8)]
        return await asyncio.gather(*(bench.judge.judge(question) for question in asked))

    assert all(isinstance(answer, Opinion) for answer in flying(run))


def test_a_quota_of_tokens_counts_question_and_reply() -> None:
    async def run() -> list[float]:
        limits = Limits(concurrency=8, tokens_per_minute=6000)
        bench = Bench(lambda _: STEP, limits=limits)
        for _ in range(3):
            await bench.judge.judge(questions(1)[0])
        chat = rubric.render(questions(1)[0], 1)
        size = (len(chat.system) + len(chat.turns[0].content)) // 4 + 1 + 256
        return [time * 100 / size for time in bench.model.asked]

    # 100 a second, and the bucket holds one request: each waits for the one before.
    assert flying(run) == pytest.approx([0, 1, 2], abs=0.01)


def test_a_judge_that_is_down_is_asked_by_probes() -> None:
    """Threshold, then one request for each cooldown, and at once again when it is back."""

    async def run() -> tuple[list[float], list[Cause | None]]:
        bench = Bench(
            lambda n: down(n) if n <= 5 else STEP,
            failures=3,
            retry=RETRY.model_copy(update={"attempts": 1}),
        )
        seen: list[Cause | None] = []
        for number in range(50):
            answer = await bench.judge.judge(Question(record(number), "x"))
            seen.append(answer.cause if isinstance(answer, Failure) else None)
            await asyncio.sleep(1)
        return bench.model.asked, seen

    asked, seen = flying(run)
    # Failures at 0, 1 and 2; probes 15 s later each, of which the third (at 47) is answered.
    assert asked[:6] == pytest.approx([0, 1, 2, 17, 32, 47], abs=0.01)
    assert asked[6:] == pytest.approx([48, 49], abs=0.01)
    assert seen.count(Cause.DOWN) == 50 - 8
    assert seen[-3:] == [None] * 3


def test_of_many_only_one_is_the_probe() -> None:
    async def run() -> tuple[int, int]:
        bench = Bench(
            lambda n: down(n) if n <= 3 else 1.0,
            failures=3,
            retry=RETRY.model_copy(update={"attempts": 1}),
        )
        for number in range(3):
            await bench.judge.judge(Question(record(number), "x"))
        await asyncio.sleep(15)
        asked = [Question(record(number), "y") for number in range(10)]
        answers = await asyncio.gather(*(bench.judge.judge(question) for question in asked))
        return len(bench.model.asked), sum(isinstance(a, Opinion) for a in answers)

    assert flying(run) == (4, 1)


def test_a_cancelled_probe_does_not_lock_the_judge_out() -> None:
    async def run() -> Opinion | Failure:
        bench = Bench(
            lambda n: (down(n), 10.0, STEP)[min(n, 3) - 1],
            failures=1,
            retry=RETRY.model_copy(update={"attempts": 1}),
        )
        await bench.judge.judge(questions(1)[0])
        await asyncio.sleep(15)
        probe = asyncio.create_task(bench.judge.judge(questions(1)[0]))
        await asyncio.sleep(1)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        assert bench.ledger.total.unsettled == 0
        return await bench.judge.judge(questions(1)[0])

    assert isinstance(flying(run), Opinion)


@pytest.mark.parametrize(
    ("cause", "opens"),
    [
        (Cause.SERVER, True),
        (Cause.NETWORK, True),
        (Cause.TIMEOUT, True),
        (Cause.DENIED, True),
        (Cause.REJECTED, False),  # this request's own fault
        (Cause.RATE_LIMIT, False),
        (Cause.INVALID, False),
        (Cause.REFUSAL, False),
    ],
)
def test_what_opens_the_breaker(cause: Cause, opens: bool) -> None:
    async def run() -> bool:
        bench = Bench(lambda _: ProviderError(cause), failures=2)
        for number in range(4):
            await bench.judge.judge(Question(record(number), "x"))
        return bench.breaker.closed

    assert flying(run) is not opens


def test_an_empty_budget_sends_nothing_and_blames_nobody() -> None:
    async def run() -> tuple[Opinion | Failure, list[float], bool]:
        bench = Bench(lambda _: STEP, ledger=Ledger(JudgeBudgetConfig(calls=0)), failures=1)
        answer = await bench.judge.judge(questions(1)[0])
        return answer, bench.model.asked, bench.breaker.closed

    answer, asked, closed = flying(run)
    assert isinstance(answer, Failure)
    assert (answer.cause, answer.attempts, answer.detail) == (
        Cause.BUDGET,
        0,
        "judge.budget.calls: 0",
    )
    assert (asked, closed) == ([], True)
    assert str(answer) == "fake: budget is spent after 0 attempts (judge.budget.calls: 0)"


def test_a_ledger_that_cannot_be_written_is_no_failure_of_the_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def run() -> list[float]:
        bench = Bench(lambda _: STEP, ledger=Ledger(JudgeBudgetConfig(), tmp_path / "ledger.jsonl"))
        with monkeypatch.context() as broken:
            broken.setattr(os, "write", failing)
            with pytest.raises(JudgeError, match=r"cannot be written \(Input/output error\)"):
                await bench.judge.judge(questions(1)[0])
        return bench.model.asked

    assert flying(run) == []


def test_a_verdict_is_kept_before_its_request_is_settled(tmp_path: Path) -> None:
    """A kill between the two costs a reservation, and no second request."""
    order: list[str] = []

    class Watched(Ledger):
        def settle(self, *args: Any, **more: Any) -> None:
            order.append("settled")
            super().settle(*args, **more)

    class WatchedCache(VerdictCache):
        def put(self, *args: Any) -> None:
            order.append("kept")
            super().put(*args)

    async def run() -> None:
        with WatchedCache(tmp_path / "cache.sqlite", max_entries=10) as cache:
            bench = Bench(lambda _: STEP, ledger=Watched(JudgeBudgetConfig()), cache=cache)
            await bench.judge.judge(questions(1)[0])
            assert cache.holds(bench.judge.key(questions(1)[0]))

    flying(run)
    assert order == ["kept", "settled"]


def test_its_connections_are_closed() -> None:
    async def run() -> bool:
        bench = Bench(lambda _: STEP)
        await bench.judge.close()
        return bench.model.closed

    assert flying(run)
