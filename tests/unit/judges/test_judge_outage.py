"""What happens to a group that no judge could score."""

import asyncio

import pytest
from judge_fakes import (
    RIGHT,
    Bench,
    Fake,
    Rule,
    listed,
    never,
    offline,
    routed,
    says,
)
from judge_stage import causes, flying, now, opinions, questions

from grpo_dual.errors import JudgeOutageError
from grpo_dual.judges.client import (
    Cause,
    GroupVerdicts,
    Question,
    Verdict,
)


def test_heuristic_scores_the_whole_group_and_says_so_once() -> None:
    async def run() -> tuple[list[str], list[str]]:
        bench = Bench([Fake("one", listed([RIGHT, Cause.SERVER, Cause.SERVER]))])
        found = [await bench.router.group(questions(3, number), offline) for number in range(3)]
        assert all(len(opinions(group)) == 3 for group in found)
        return [group.scorer for group in found], bench.told

    scorers, told = flying(run)
    assert scorers == ["heuristic"] * 3
    assert told == ["one: server error (time 1); the offline judge scores such groups"]


def test_it_is_said_once_though_every_failure_has_words_of_its_own() -> None:
    async def run() -> list[str]:
        one = Fake("one", says(Cause.SERVER))
        bench = Bench([one])
        for _ in range(5):  # the n-th failure's detail is "time n"
            await bench.router.group(questions(1), offline)
        one.rule = says(Cause.TIMEOUT)
        await bench.router.group(questions(1), offline)
        return bench.told

    assert [text.split(" (")[0] for text in flying(run)] == [
        "one: server error",
        "one: timeout",
    ]


def back_after(seconds: float, while_down: Cause = Cause.SERVER) -> Rule:
    return lambda _question, _times: RIGHT if now() >= seconds else while_down


PAUSE = {"action": "pause", "probe_seconds": 10, "patience_seconds": 100}


def test_pause_goes_on_when_a_judge_is_back() -> None:
    async def run() -> tuple[GroupVerdicts, float, list[str]]:
        bench = Bench([Fake("one", back_after(35))], outage=PAUSE)
        found = await bench.router.group(questions(3), never)
        return found, now(), bench.told

    found, ended, told = flying(run)
    assert (found.scorer, len(opinions(found))) == ("one", 3)
    # Tries of a second begin at 0, 11, 22 and 33; the last one ends at 34. The next at 44.
    assert ended == pytest.approx(45, abs=0.01)
    first, last = told
    assert first.startswith("paused: one: server error")
    assert "every 10 s, for 100 s at most" in first
    assert last == "a judge is back after 44 s; going on"


def test_pause_wants_every_verdict_that_an_outage_took() -> None:
    """Enough for a group, but one was lost to an outage that will pass."""
    rule = listed([RIGHT, RIGHT, RIGHT, Cause.TIMEOUT])
    one = Fake("one", lambda q, times: rule(q, times) if times == 1 else RIGHT)
    found, told, _ = routed([one], questions(4), never, outage={**PAUSE, "min_scored": 0.5})
    assert len(opinions(found)) == 4
    assert told[0].startswith("paused: one: timeout")


@pytest.mark.parametrize("cause", [Cause.REFUSAL, Cause.INVALID, Cause.NO_OPINION])
def test_pause_does_not_wait_for_what_will_not_change(cause: Cause) -> None:
    async def run() -> tuple[GroupVerdicts, float]:
        bench = Bench([Fake("one", listed([RIGHT, RIGHT, RIGHT, cause]))], outage=PAUSE)
        return await bench.router.group(questions(4), never), now()

    found, ended = flying(run)
    assert causes(found) == {cause}
    assert ended == pytest.approx(1, abs=0.01)


def test_patience_ends() -> None:
    async def run() -> tuple[float, Fake]:
        one = Fake("one", says(Cause.NETWORK))
        bench = Bench([one], outage=PAUSE)
        with pytest.raises(
            JudgeOutageError, match=r"one: network error .*outage\.action is pause.*--resume"
        ):
            await bench.router.group(questions(1), never)
        return now(), one

    ended, one = flying(run)
    # Ten tries of 11 s each from the first failure at 1 s on; the tenth pause would pass 100 s.
    assert 100 <= ended <= 112
    assert one.asked.total() == 11


def test_patience_begins_with_the_first_failure() -> None:
    """A group that waited long for its turn has not been paused yet."""

    async def run() -> tuple[GroupVerdicts, list[str]]:
        slow = Fake("one", lambda _, times: Cause.SERVER if times == 1 else RIGHT, seconds=500)
        bench = Bench([slow], outage=PAUSE)
        return await bench.router.group(questions(1), never), bench.told

    found, told = flying(run)
    assert len(opinions(found)) == 1
    assert told[0].startswith("paused")


def test_patience_does_not_run_while_others_are_answered() -> None:
    """A flaky judge with a long queue is no outage."""

    async def run() -> tuple[GroupVerdicts, float]:
        # The first question fails until 300 s have passed; another group is answered every 40 s.
        def flaky(question: Question, _: int) -> Verdict | Cause:
            first = question.completion == questions(1)[0].completion
            return Cause.SERVER if first and now() < 300 else RIGHT

        bench = Bench([Fake("one", flaky)], outage=PAUSE)

        async def others() -> None:
            for number in range(1, 10):
                await bench.router.group(questions(1, number), never)
                await asyncio.sleep(40)

        beside = asyncio.ensure_future(others())
        found = await bench.router.group(questions(1), never)
        ended = now()
        await beside
        return found, ended

    found, ended = flying(run)
    assert len(opinions(found)) == 1
    assert 300 <= ended <= 312


def test_stop_stops_at_once() -> None:
    async def run() -> float:
        bench = Bench(
            [Fake("one", says(Cause.SERVER)), Fake("two", says(Cause.DOWN))],
            outage={"action": "stop"},
        )
        with pytest.raises(JudgeOutageError, match=r"outage\.action is stop"):
            await bench.router.group(questions(2), never)
        return now()

    assert flying(run) == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("action", ["pause", "stop"])
def test_a_complete_second_judge_is_asked_before_anything_waits(action: str) -> None:
    """The first has answered enough by ``min_scored``, but one of four is lost to an outage."""
    one = Fake("one", listed([RIGHT, RIGHT, RIGHT, Cause.SERVER]))
    two = Fake("two", says(RIGHT))
    found, told, _ = routed([one, two], questions(4), never, outage={"action": action})
    assert (found.scorer, len(opinions(found)), told) == ("two", 4, [])


@pytest.mark.parametrize("action", ["pause", "stop"])
def test_a_rejected_completion_is_no_outage_of_a_judge_that_answers(action: str) -> None:
    """A content filter or a length limit would say the same tomorrow, and after every resume."""

    async def run() -> GroupVerdicts:
        one = Fake("one", listed([RIGHT, RIGHT, RIGHT, Cause.REJECTED]))
        bench = Bench([one], outage={"action": action})
        return await bench.router.group(questions(4), never)

    assert causes(flying(run)) == {Cause.REJECTED}


def test_a_judge_that_rejects_everything_from_the_start_is_an_outage() -> None:
    async def run() -> None:
        bench = Bench([Fake("one", says(Cause.REJECTED))], outage={"action": "stop"})
        with pytest.raises(JudgeOutageError, match="one: request rejected"):
            await bench.router.group(questions(2), never)

    flying(run)


def test_what_a_server_said_is_told_rather_than_that_nobody_was_asked() -> None:
    one = Fake("one", listed([Cause.DOWN, Cause.NETWORK]))
    _, told, _ = routed([one], questions(2), offline)
    assert told == ["one: network error (time 1); the offline judge scores such groups"]


def test_stop_goes_on_while_the_second_judge_answers() -> None:
    judges = [Fake("one", says(Cause.SERVER)), Fake("two", says(RIGHT))]
    found, _, _ = routed(judges, questions(2), never, outage={"action": "stop"})
    assert found.scorer == "two"


@pytest.mark.parametrize("action", ["heuristic", "unscored", "pause", "stop"])
def test_a_spent_budget_means_offline_whatever_the_action(action: str) -> None:
    async def run() -> tuple[GroupVerdicts, float, list[str]]:
        judges = [Fake("one", says(Cause.BUDGET)), Fake("two", says(Cause.BUDGET))]
        bench = Bench(judges, outage={"action": action})
        return await bench.router.group(questions(3), offline), now(), bench.told

    found, ended, told = flying(run)
    assert (found.scorer, len(opinions(found))) == ("heuristic", 3)
    assert ended < 10
    assert told == ["one: budget is spent (time 1); the offline judge scores such groups"]


def test_a_local_judge_goes_on_when_the_budget_is_spent() -> None:
    judges = [Fake("one", says(Cause.BUDGET)), Fake("nli", says(RIGHT))]
    found, _, _ = routed(judges, questions(3), never)
    assert found.scorer == "nli"
