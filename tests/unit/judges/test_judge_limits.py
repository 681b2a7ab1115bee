"""Concurrency, quotas and the server's pauses, on a clock that flies."""

import asyncio
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judge_stage import flying, now

from grpo_dual.errors import JudgeError
from grpo_dual.judges.limits import Limits


def admitted(limits: Limits, tokens: list[int]) -> list[float]:
    """When each request may go out; all ask at once."""

    async def one(size: int) -> float:
        await limits.admit(size)
        return now()

    async def run() -> list[float]:
        return await asyncio.gather(*(one(size) for size in tokens))

    return flying(run)


def busiest_minute(times: list[float]) -> int:
    return max(sum(start <= t < start + 60 for t in times) for start in times)


def test_no_more_than_so_many_are_inside_at_once() -> None:
    inside, peak = 0, 0

    async def run() -> float:
        limits = Limits(concurrency=3)

        async def one() -> None:
            nonlocal inside, peak
            async with limits.slot():
                inside += 1
                peak = max(peak, inside)
                await asyncio.sleep(1)
                inside -= 1

        await asyncio.gather(*(one() for _ in range(10)))
        return now()

    # Ten of a second each, three at once: 4 s.
    assert flying(run) == pytest.approx(4, abs=0.01)
    assert peak == 3


def test_a_cancelled_holder_gives_its_place_back() -> None:
    async def run() -> bool:
        limits = Limits(concurrency=1)

        async def hold() -> None:
            async with limits.slot():
                await asyncio.sleep(1000)

        task = asyncio.create_task(hold())
        await asyncio.sleep(1)
        task.cancel()
        async with asyncio.timeout(5), limits.slot():
            return True

    assert flying(run)


def test_without_quotas_nobody_waits() -> None:
    assert admitted(Limits(concurrency=1), [10**6] * 50) == [0.0] * 50


def test_a_quota_of_requests() -> None:
    times = admitted(Limits(concurrency=1, requests_per_minute=60), [1] * 20)
    # A tenth of the minute's quota at once, then one a second.
    assert times[:6] == [0.0] * 6
    assert times[6:] == pytest.approx(list(range(1, 15)), abs=0.01)


def test_the_smallest_quota_lets_one_through_a_minute() -> None:
    assert admitted(Limits(concurrency=1, requests_per_minute=1), [1] * 3) == pytest.approx(
        [0, 60, 120]
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 90))
def test_a_minute_sees_the_quota_and_a_tenth_at_most(per_minute: int) -> None:
    times = admitted(Limits(concurrency=1, requests_per_minute=per_minute), [1] * 2 * per_minute)
    assert len(times) == 2 * per_minute
    # The bucket lets a tenth through at once, one at least, and drains the quota a minute.
    assert busiest_minute(times) <= per_minute + max(1, per_minute / 10)


def test_a_quota_of_tokens_counts_tokens() -> None:
    times = admitted(Limits(concurrency=1, tokens_per_minute=6000), [300] * 6)
    # 600 at once, then 300 of 100 a second.
    assert times == pytest.approx([0, 0, 3, 6, 9, 12], abs=0.01)


def test_a_request_larger_than_the_bucket_passes() -> None:
    # It fills a bucket of its own size, which drains as fast.
    times = admitted(Limits(concurrency=1, tokens_per_minute=60), [100, 100])
    assert times == pytest.approx([0, 100], abs=0.01)


def test_both_quotas_hold() -> None:
    limits = Limits(concurrency=1, requests_per_minute=600, tokens_per_minute=60)
    assert admitted(limits, [60] * 3) == pytest.approx([0, 60, 120], abs=0.01)


def test_a_pause_of_the_server_is_for_all() -> None:
    async def run() -> list[float]:
        limits = Limits(concurrency=1)

        async def one() -> float:
            await limits.admit(1)
            return now()

        limits.hold(7)
        limits.hold(3)  # a shorter one ends no longer one
        waiting = [asyncio.create_task(one()) for _ in range(3)]
        await asyncio.sleep(2)
        limits.hold(10)
        return [*await asyncio.gather(*waiting), await one()]

    assert flying(run) == pytest.approx([12, 12, 12, 12], abs=0.01)


def test_a_pause_holds_for_who_was_waiting_for_the_quota() -> None:
    async def run() -> list[float]:
        limits = Limits(concurrency=1, requests_per_minute=60)

        async def one() -> float:
            await limits.admit(1)
            return now()

        waiting = [asyncio.create_task(one()) for _ in range(8)]
        await asyncio.sleep(0.5)
        limits.hold(30)
        return await asyncio.gather(*waiting)

    times = flying(run)
    assert times[:6] == [0.0] * 6
    assert times[6:] == pytest.approx([30.5, 30.5], abs=0.01)


def test_a_cancelled_wait_takes_no_quota() -> None:
    async def run() -> float:
        limits = Limits(concurrency=1, requests_per_minute=1)
        await limits.admit(1)
        waiting = asyncio.create_task(limits.admit(1))
        await asyncio.sleep(5)
        waiting.cancel()
        await limits.admit(1)
        return now()

    assert flying(run) == pytest.approx(60, abs=0.01)


@pytest.mark.parametrize("quota", ["requests_per_minute", "tokens_per_minute"])
def test_a_quota_needs_aiolimiter(monkeypatch: pytest.MonkeyPatch, quota: str) -> None:
    monkeypatch.setitem(sys.modules, "aiolimiter", None)
    admitted(Limits(concurrency=1), [1])
    with pytest.raises(JudgeError, match=r'aiolimiter: pip install "grpo-dual\[judges\]"'):
        admitted(Limits(concurrency=1, **{quota: 5}), [1])
