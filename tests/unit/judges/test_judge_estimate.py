"""The arithmetic of an estimate, on numbers worked by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_dual.config.judging import JudgeBudgetConfig, PriceConfig
from grpo_dual.judges.estimate import (
    Amount,
    Asked,
    Bound,
    Load,
    Ratio,
    amount,
    exhausted,
    held,
    most,
    projected,
    seconds,
    summed,
    trend,
)

# 4 groups a step, K = 3, 100 characters a request.
BOUND = Bound(groups=4, questions=12, chars=1200)
# All 4 groups ask; beside their first questions 8, 4, 2, 1 of 8 possible ones. 110 characters each.
ASKED = [Asked(4, 4 + more, 110 * (4 + more)) for more in (8, 4, 2, 1)]


def test_a_halving_share_goes_on_halving():
    found = trend([8, 4, 2, 1], [8, 8, 8, 8])
    # y_t = 8 x 1 exp(beta t) with beta = -ln 2 fits exactly, so it is the most likely.
    assert found.slope == pytest.approx(-math.log(2), abs=1e-9)
    assert found.now == pytest.approx(1 / 8, abs=1e-9)
    assert found(1) == pytest.approx(1 / 16, abs=1e-9)


def test_how_many_there_could_have_been_is_no_trend():
    found = trend([8, 4, 2, 1], [16, 8, 4, 2])
    assert found.slope == pytest.approx(0, abs=1e-9)
    assert found(5) == pytest.approx(0.5, abs=1e-9)


def test_a_rising_share_is_held_at_its_mean():
    # 10 of 32
    assert trend([1, 2, 3, 4], [8] * 4)(3) == pytest.approx(10 / 32, abs=1e-12)


def test_three_steps_have_no_trend():
    # 14 of 24
    assert trend([8, 4, 2], [8] * 3)(9) == pytest.approx(14 / 24, abs=1e-12)


@pytest.mark.parametrize("counts", [[], [0, 0, 0, 0, 0]])
def test_nothing_stays_nothing(counts: list[int]):
    assert trend(counts, [8] * len(counts))(1) == 0


def test_a_share_that_has_ended_goes_on_as_nearly_nothing():
    found = trend([8, 0, 0, 0, 0], [8] * 5)
    assert found.slope == pytest.approx(-3, abs=1e-6)
    assert found(1) < 1e-5


@given(st.lists(st.integers(0, 8), min_size=4, max_size=30), st.integers(1, 50))
def test_a_trend_never_rises_and_is_a_share(counts: list[int], ahead: int):
    found = trend(counts, [8] * len(counts))
    assert 0 <= found(ahead + 1) <= found(ahead) <= 1


def test_steps_ahead_ask_one_question_a_group_and_ever_fewer_more():
    loads = projected([BOUND] * 6, ASKED, ASKED)
    # 4 groups x 1 + 8 x 1/16 = 4.5, then 4 + 8/32 = 4.25; requests stay 110/100 as long.
    assert [load.calls for load in loads] == pytest.approx([12, 8, 6, 5, 4.5, 4.25], abs=1e-9)
    assert [load.chars for load in loads[4:]] == pytest.approx([495, 467.5], abs=1e-6)
    assert [load.chars for load in loads[:4]] == [1320, 880, 660, 550]


def test_unchanged_means_the_share_of_the_last_third():
    loads = held([BOUND] * 6, ASKED, ASKED)
    # The last 2 of 4 steps: 11 of 24 questions, so 5.5 of 12 in each step ahead.
    assert [load.calls for load in loads] == pytest.approx([12, 8, 6, 5, 5.5, 5.5], abs=1e-12)


def test_what_was_paid_before_is_taken_off_the_rehearsed_steps_alone():
    fresh = [Asked(0, 0, 0), *ASKED[1:]]
    loads = projected([BOUND] * 5, ASKED, fresh)
    assert [load.calls for load in loads] == pytest.approx([0, 8, 6, 5, 4.5], abs=1e-9)


def test_longer_documents_ahead_make_longer_requests():
    ahead = Bound(groups=4, questions=12, chars=2400)
    loads = projected([*[BOUND] * 4, ahead], ASKED, ASKED)
    # 4.5 questions of 200 characters with accepted texts, x 1.1
    assert loads[4].chars == pytest.approx(990, abs=1e-6)


def test_steps_without_a_group_ask_nothing():
    loads = projected([*[BOUND] * 4, Bound()], ASKED, ASKED)
    assert loads[4] == Load(0.0, 0.0)
    assert most([BOUND, Bound()]) == [Load(12, 1200), Load(0, 0)]


def test_tokens_and_money():
    found = amount([Load(6, 2500), Load(4, 1500)], Ratio(), PriceConfig(input=2, output=8))
    # 4000 characters / 4, 10 replies x 40; (1000 x 2 + 400 x 8) / 10^6
    assert found == Amount(10, 1000, 400, pytest.approx(0.0052, abs=1e-12))
    assert found.tokens == 1400


def test_measured_ratios_are_used():
    found = amount([Load(10, 4000)], Ratio(per_char=0.2, reply=30, verdicts=7), None)
    assert found == Amount(10, 800, 300, None)


def test_money_is_unknown_as_soon_as_one_price_is():
    one, two = Amount(1, 10, 1, 0.5), Amount(2, 20, 2, 0.25)
    assert summed([one, two]) == Amount(3, 30, 3, 0.75)
    assert summed([one, Amount(2, 20, 2, None)]) == Amount(3, 30, 3, None)


STEPS = [[Amount(10, 100, 20, 0.01), Amount(5, 50, 10, 0.02)]] * 4
"""Each step: 15 calls, 180 tokens, .03 USD."""


@pytest.mark.parametrize(
    ("limits", "end"),
    [
        ({}, None),
        ({"calls": 60}, None),  # 4 x 15 fits exactly
        ({"calls": 59}, ("calls", 4)),
        ({"tokens": 500}, ("tokens", 3)),  # 360, 540
        ({"usd": 0.05}, ("usd", 2)),
        ({"usd": 0.1, "calls": 20}, ("calls", 2)),
        ({"calls": 0}, ("calls", 1)),
    ],
)
def test_where_the_budget_ends(limits: dict[str, float], end: tuple[str, int] | None):
    assert exhausted(JudgeBudgetConfig.model_validate(limits), STEPS) == end


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, None),
        ({"requests_per_minute": 300}, 120),  # 600 / 300 min
        ({"tokens_per_minute": 10_000}, 180),  # 30 000 / 10 000 min
        ({"answer_seconds": 2.0}, 150),  # 600 x 2 / 8
        ({"requests_per_minute": 300, "tokens_per_minute": 10_000, "answer_seconds": 2.0}, 180),
    ],
)
def test_the_narrowest_limit_sets_the_time(known: dict[str, float], expected: float | None):
    limits: dict[str, object] = {
        "requests_per_minute": None,
        "tokens_per_minute": None,
        "answer_seconds": None,
        **known,
    }
    whole = Amount(600, 24_000, 6_000, None)
    found = seconds(whole, concurrency=8, **limits)  # pyright: ignore[reportArgumentType]
    assert found == expected
