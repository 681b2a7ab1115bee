import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo_dual.diagnosis.control import (
    drifted,
    ewma_limit,
    in_a_row,
    moving_sigma,
    p_chart_limit,
)
from grpo_dual.diagnosis.history import Series


def test_ewma_by_hand():
    # z1 = 1; z2 = .2 * 2 + .8 * 1 = 1.2; nothing measured: 1.2; z4 = .2 * 0 + .8 * 1.2 = .96
    smooth = Series((1.0, 2.0, None, 0.0)).smoothed(0.2).values
    assert smooth == pytest.approx((1.0, 1.2, 1.2, 0.96), abs=1e-12)


def test_ewma_begins_with_the_first_measured_value():
    assert Series((None, 3.0)).smoothed().values == (None, 3.0)


def test_the_limit_of_an_ewma_is_one_sigma():
    # 3 sqrt(.2 / 1.8) = 3 sqrt(1 / 9) = 1
    assert ewma_limit(1.0) == pytest.approx(1.0, abs=1e-15)
    assert ewma_limit(0.25) == pytest.approx(0.25, abs=1e-15)
    # lambda 1 is Shewhart's chart: 3 sigma sqrt(1 / 1)
    assert ewma_limit(1.0, weight=1.0) == pytest.approx(3.0, abs=1e-15)
    assert ewma_limit(1.0, width=2.0) == pytest.approx(2 / 3, abs=1e-15)


def test_p_chart_by_hand():
    # .5 + 3 sqrt(.5 * .5 / 64) = .5 + 3 / 16 = .6875
    assert 0.5 + p_chart_limit(0.5, 64) == pytest.approx(0.6875, abs=1e-15)
    # 2 sqrt(.1 * .9 / 100) = 2 * .03
    assert p_chart_limit(0.1, 100, width=2.0) == pytest.approx(0.06, abs=1e-15)


def test_p_chart_of_nothing_allows_everything():
    assert p_chart_limit(0.5, 0) == math.inf
    assert p_chart_limit(0.0, 10) == 0.0


def test_moving_range_by_hand():
    # |2 - 1|, |4 - 2|, |3 - 4|: mean 4 / 3, over 1.128
    assert moving_sigma([1.0, 2.0, 4.0, 3.0]) == pytest.approx(4 / 3 / 1.128, abs=1e-12)
    assert moving_sigma([5.0, 5.0]) == 0.0
    assert moving_sigma([5.0]) is None
    assert moving_sigma([]) is None


def test_a_drift_hardly_moves_the_sigma_of_single_steps():
    # Noise of +-1 has moves of 2; a drift of .1 a step on top turns them into 2.1 and 1.9.
    noise = [1.0, -1.0] * 10
    drift = [v + 0.1 * i for i, v in enumerate(noise)]
    still, moved = moving_sigma(noise), moving_sigma(drift)
    assert still == pytest.approx(2 / 1.128, abs=1e-12)
    # 19 moves, 9 up by 2.1 and 10 down by 1.9: 37.9 / 19
    assert moved == pytest.approx(37.9 / 19 / 1.128, abs=1e-12)


def test_drifted_row_by_row():
    # Limit 1 sigma = .5 around 0. EWMA of 0, 2, 2, 2: 0, .4, .72, .976; a missing row keeps .976.
    series = Series((None, 0.0, 2.0, 2.0, None, 2.0))
    assert drifted(series, 0.0, 0.5) == [False, False, False, True, True, True]


@pytest.mark.parametrize(
    ("values", "holds"),
    [
        ((1.0, 1.0, 1.0), True),
        ((0.0, 1.0, 1.0, 1.0), True),
        ((1.0, 1.0, 0.0), False),
        ((1.0, 0.0, 1.0, 1.0), False),
        ((1.0, 1.0), False),
        ((), False),
        # A row that measured nothing neither breaks the rule nor mends it.
        ((1.0, None, 1.0, None, 1.0, None), True),
        ((None, None, 1.0, 1.0), False),
        ((math.nan, 1.0, 1.0), False),
    ],
)
def test_three_in_a_row(values: tuple[float | None, ...], holds: bool):
    assert in_a_row(Series(values), lambda v: v > 0.5) is holds


def test_in_a_row_of_another_length():
    series = Series((0.0, 1.0, 1.0, 1.0, 1.0))
    assert in_a_row(series, bool, rows=4)
    assert not in_a_row(series, bool, rows=5)


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.floats(-10, 10)), max_size=12),
    st.floats(0.01, 1.0),
)
def test_an_ewma_stays_within_what_it_has_seen(values: list[float | None], weight: float):
    known = [v for v in values if v is not None]
    for z in Series(tuple(values)).smoothed(weight).known:
        assert min(known) - 1e-9 <= z <= max(known) + 1e-9
