"""Which judge scores a group: one scorer for all of it, whatever fails."""

import asyncio
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from judge_fakes import (
    RIGHT,
    WRONG,
    Bench,
    Fake,
    Outcome,
    listed,
    never,
    routed,
    says,
)
from judge_stage import causes, flying, now, opinions, questions, record

from grpo_dual.errors import JudgeError
from grpo_dual.judges.client import (
    Cause,
    Failure,
    GroupVerdicts,
    Opinion,
    Question,
    Verdict,
)

# One scorer -------------------------------------------------------------------------------------

OUTCOMES = st.sampled_from([*Verdict, *(c for c in Cause if c is not Cause.DISAGREE)])


@examples(deadline=None, max_examples=200)
@given(
    st.integers(1, 6).flatmap(
        lambda k: st.tuples(
            st.lists(OUTCOMES, min_size=k, max_size=k), st.lists(OUTCOMES, min_size=k, max_size=k)
        )
    ),
    st.sampled_from(["primary-then-fallback", "split", "both-and-agree"]),
    st.sampled_from(["heuristic", "unscored"]),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    st.integers(0, 20),
)
def test_scorers_never_mix_inside_a_group(
    outcomes: tuple[list[Outcome], list[Outcome]],
    route: str,
    action: str,
    min_scored: float,
    number: int,
) -> None:
    one, two = (Fake(n, listed(o)) for n, o in zip(("one", "two"), outcomes, strict=True))
    asked = questions(len(outcomes[0]), number)
    found, _, tally = routed(
        [one, two],
        asked,
        route=route,
        agree_share=0.5,
        outage={"action": action, "min_scored": min_scored},
    )
    assert len(found.answers) == len(asked)
    reasons = {answer.reason for answer in opinions(found)}
    if found.scorer == "heuristic":
        assert reasons == {"heuristic"}
        assert len(opinions(found)) == len(asked)
    elif found.scorer == "one+two":
        for a, b, both in zip(*outcomes, found.answers, strict=True):
            if isinstance(both, Opinion):
                assert a is b is both.verdict
            elif isinstance(a, Verdict) and isinstance(b, Verdict):
                assert a is not b
                assert both.cause is Cause.DISAGREE
    else:
        assert found.scorer in ("one", "two")
        assert reasons <= {found.scorer}
        own = outcomes[("one", "two").index(found.scorer)]
        for outcome, answer in zip(own, found.answers, strict=True):
            said = answer.verdict if isinstance(answer, Opinion) else answer.cause
            assert said is outcome
    # What no judge scored well enough is the offline judge's, under its action alone, or where
    # nothing may be sent any more.
    enough = found.scored >= min_scored * len(asked)
    spent = Cause.BUDGET in (*outcomes[0], *outcomes[1])
    if action == "heuristic":
        assert enough
    elif found.scorer == "heuristic":
        assert spent
    assert tally.groups == {found.scorer: 1}
    assert tally.verdicts[found.scorer] == len(opinions(found))
    assert sum(tally.failures.values()) == len(asked) - len(opinions(found))
    assert tally.unscored_groups == (not opinions(found))


def test_the_first_choice_is_enough() -> None:
    one, two = Fake("one", says(RIGHT)), Fake("two", says(WRONG))
    found, told, _ = routed([one, two], questions(4), never)
    assert (found.scorer, told, two.asked.total()) == ("one", [], 0)


def test_the_second_choice_scores_all_of_the_group() -> None:
    """Two of four are less than the half and a bit; what the first said counts no more."""
    one = Fake("one", listed([RIGHT, RIGHT, Cause.SERVER, Cause.TIMEOUT]))
    two = Fake("two", says(WRONG))
    found, _, _ = routed([one, two], questions(4), never, outage={"min_scored": 0.51})
    assert found.scorer == "two"
    assert [opinion.verdict for opinion in opinions(found)] == [WRONG] * 4


def test_half_is_enough_where_half_is_asked_for() -> None:
    one = Fake("one", listed([RIGHT, RIGHT, Cause.SERVER, Cause.TIMEOUT]))
    two = Fake("two", says(WRONG))
    found, _, _ = routed([one, two], questions(4), never, outage={"min_scored": 0.5})
    assert found.scorer == "one"
    assert causes(found) == {Cause.SERVER, Cause.TIMEOUT}
    assert two.asked.total() == 0


def test_of_two_that_are_not_enough_the_better_one_stays() -> None:
    one = Fake("one", listed([RIGHT, Cause.SERVER, Cause.SERVER, Cause.SERVER]))
    two = Fake("two", listed([Cause.SERVER, RIGHT, RIGHT, Cause.REFUSAL]))
    outage = {"action": "unscored", "min_scored": 0.9}
    found, told, _ = routed([one, two], questions(4), never, outage=outage)
    assert found.scorer == "two"
    assert len(opinions(found)) == 2
    assert told == ["two: server error (time 1); such completions are left unscored"]


def test_no_opinion_is_no_failure() -> None:
    one = Fake("one", says(Cause.NO_OPINION))
    two = Fake("two", says(RIGHT))
    found, told, tally = routed([one], questions(4), never, outage={"min_scored": 1.0})
    assert (found.scorer, told) == ("one", [])
    assert tally.unscored_groups == 1
    # Who has no opinion of any of them leaves the group to the next judge.
    found, told, _ = routed([one, two], questions(4), never, outage={"min_scored": 1.0})
    assert (found.scorer, told) == ("two", [])


def test_a_judge_without_keys_is_asked_each_time() -> None:
    one = Fake("one", says(RIGHT), keyed=False)
    found, _, tally = routed([one], questions(1) * 3, never)
    assert (len(opinions(found)), one.asked.total(), tally.cache_hits.total()) == (3, 3, 0)


# Routes -----------------------------------------------------------------------------------------


def split(shares: Mapping[str, float], count: int) -> list[str]:
    async def run() -> list[str]:
        judges = [Fake(name, says(RIGHT), seconds=0) for name in shares]
        bench = Bench(judges, route="split", shares=shares)
        groups = [bench.router.group(questions(1, n), never) for n in range(count)]
        return [found.scorer for found in await asyncio.gather(*groups)]

    return flying(run)


def test_shares_are_kept_and_hang_on_the_record_alone() -> None:
    shares = {"one": 1.0, "two": 3.0, "three": 4.0}
    scorers = split(shares, 2000)
    counts = Counter(scorers)
    for name, share in shares.items():
        # 2000 draws: the standard deviation of a share is .011 at most; the draw is fixed.
        assert counts[name] / 2000 == pytest.approx(share / 8, abs=0.03)
    assert split(shares, 300) == scorers[:300]


def test_the_completions_do_not_move_the_split() -> None:
    async def run() -> set[str]:
        bench = Bench([Fake("one", says(RIGHT)), Fake("two", says(RIGHT))], route="split")
        groups = [[Question(record(5), f"{n}-0")] * 2 for n in range(20)]
        return {(await bench.router.group(asked, never)).scorer for asked in groups}

    assert len(flying(run)) == 1


def test_a_split_group_falls_back_to_the_others() -> None:
    async def run() -> Counter[str]:
        judges = [Fake("one", says(Cause.SERVER)), Fake("two", says(RIGHT))]
        bench = Bench(judges, route="split")
        found = [await bench.router.group(questions(2, n), never) for n in range(20)]
        return Counter(group.scorer for group in found)

    assert flying(run) == {"two": 20}


BOTH = {"route": "both-and-agree", "agree_share": 1.0}


def test_what_two_disagree_on_is_left_unscored_and_counted() -> None:
    one = Fake("one", listed([RIGHT, RIGHT, Verdict.ABSTAINS, WRONG, RIGHT]))
    two = Fake("two", listed([RIGHT, WRONG, Verdict.ABSTAINS, Cause.REFUSAL, WRONG]))
    found, told, tally = routed([one, two], questions(5), never, **BOTH)
    assert (found.scorer, told) == ("one+two", [])
    verdicts = [a.verdict if isinstance(a, Opinion) else a.cause for a in found.answers]
    assert verdicts == [*(RIGHT, Cause.DISAGREE, Verdict.ABSTAINS, Cause.REFUSAL, Cause.DISAGREE)]
    disagreed = found.answers[1]
    assert isinstance(disagreed, Failure)
    assert (disagreed.judge, disagreed.detail) == ("one+two", "right and wrong")
    # Of the four that both have an opinion of, two agree.
    assert (tally.agreed, tally.compared) == (2, 4)
    assert tally.failures == {"judges disagree": 2, "refusal": 1}


def test_the_less_certain_of_two_counts() -> None:
    class Sure(Fake):
        async def judge(self, question: Question) -> Opinion | Failure:
            del question
            return Opinion(RIGHT, 0.9, self.name)

    found, _, _ = routed([Sure("one", says(RIGHT)), Fake("two", says(RIGHT))], questions(1), **BOTH)
    assert [opinion.confidence for opinion in opinions(found)] == [0.5]


def test_the_share_of_groups_that_two_judge() -> None:
    async def run() -> Counter[str]:
        judges = [Fake("one", says(RIGHT), seconds=0), Fake("two", says(RIGHT), seconds=0)]
        bench = Bench(judges, route="both-and-agree", agree_share=0.2)
        groups = [bench.router.group(questions(1, n), never) for n in range(1000)]
        return Counter(found.scorer for found in await asyncio.gather(*groups))

    counts = flying(run)
    assert set(counts) == {"one", "one+two"}
    # A standard deviation is .013; the draw is fixed.
    assert counts["one+two"] / 1000 == pytest.approx(0.2, abs=0.04)


def test_where_the_second_is_down_the_first_is_not_asked_again() -> None:
    one, two = Fake("one", says(RIGHT)), Fake("two", says(Cause.SERVER))
    found, _, _ = routed([one, two], questions(4), never, **BOTH)
    assert (found.scorer, len(opinions(found))) == ("one", 4)
    assert set(one.asked.values()) == set(two.asked.values()) == {1}


# Flights and errors -----------------------------------------------------------------------------


def test_who_shares_a_flight_is_not_cancelled_with_its_first_passenger() -> None:
    async def run() -> tuple[GroupVerdicts, int]:
        one = Fake("one", says(RIGHT), seconds=10)
        router = Bench([one]).router
        first = asyncio.create_task(router.group(questions(2), never))
        await asyncio.sleep(1)
        second = asyncio.create_task(router.group(questions(2), never))
        await asyncio.sleep(1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second, one.asked.total()

    found, asked = flying(run)
    assert (len(opinions(found)), asked) == (2, 2)


def test_a_landed_flight_is_forgotten() -> None:
    async def run() -> int:
        one = Fake("one", says(RIGHT))
        router = Bench([one]).router
        await router.group(questions(1), never)
        await router.group(questions(1), never)
        return one.asked.total()

    assert flying(run) == 2, "without a cache it is asked again"


@pytest.mark.parametrize("route", ["primary-then-fallback", "both-and-agree"])
def test_an_error_arrives_as_it_is_and_leaves_no_task(route: str) -> None:
    """A full disk is no failure of a judge: the error comes through, without a group around it."""

    class Broken(Fake):
        async def judge(self, question: Question) -> Opinion | Failure:
            if question.completion.endswith("-1"):
                await asyncio.sleep(2)
                raise JudgeError("the disk is full")
            return await super().judge(question)

    async def run() -> int:
        bench = Bench(
            [Fake("one", says(RIGHT), seconds=50), Broken("two", says(RIGHT), seconds=50)],
            route=route,
            agree_share=1.0,
        )
        if route == "primary-then-fallback":
            del bench.judges["one"]
        with pytest.raises(JudgeError, match=r"\Athe disk is full\Z"):
            await bench.router.group(questions(3), never)
        assert now() == pytest.approx(2, abs=0.01), "nobody waits for the others"
        await asyncio.sleep(100)
        return len(asyncio.all_tasks())

    assert flying(run) == 1


def test_a_bug_of_the_offline_judge_comes_through() -> None:
    def broken(question: Question) -> Opinion:
        raise ZeroDivisionError(question.completion)

    with pytest.raises(ZeroDivisionError):
        routed([Fake("one", says(Cause.SERVER))], questions(2), broken)
