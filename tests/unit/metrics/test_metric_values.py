"""Values merge by sums and counts; empty is missing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_dual.metrics.values import Count, Fraction, Max, Mean


def test_empty_is_missing_never_zero():
    assert Mean().value is None
    assert Mean.of([None, None]).value is None
    assert Max().value is None
    assert Fraction().value is None
    # A count of zero was counted.
    assert Count().value == 0


def test_mean_of_means_is_not_taken():
    # (1 + 2 + 6) / 3 = 3; the mean of the means 1.5 and 6 would be 3.75.
    assert (Mean.of([1.0, 2.0]) + Mean.of([6.0])).value == 3.0


def test_weighted_mean_leaves_unscored_out_of_both_sums():
    # (1*2 + 5*6) / (2 + 6) = 4; the None with weight 100 counts nowhere.
    assert Mean.of([1.0, None, 5.0], weights=[2, 100, 6]).value == 4.0
    with pytest.raises(ValueError, match="zip"):
        Mean.of([1.0], weights=[1, 2])


def test_fraction_merges_counts():
    assert (Fraction(1, 4) + Fraction(3, 4)).value == 0.5
    assert Fraction.of([True, False, False, False]).value == 0.25
    for hits, count in ((2, 1), (-1, 3)):
        with pytest.raises(ValueError, match="cannot be"):
            Fraction(hits, count)


def test_max_skips_missing_and_shows_not_a_number():
    assert (Max.of([1.0, None, 3.0]) + Max()).value == 3.0
    seen = Max.of([1.0, math.nan, 3.0]).value
    assert seen is not None
    assert math.isnan(seen)


def test_counts_add():
    assert (Count(2) + Count(3)).value == 5


@given(st.lists(st.integers(-1000, 1000), min_size=1), st.integers(0, 100))
def test_splitting_a_step_into_parts_changes_nothing(values: list[int], cut: int):
    # Integers, so that sums are exact whatever their order.
    head, tail = values[:cut], values[cut:]
    assert Mean.of(head) + Mean.of(tail) == Mean.of(values)
    assert Max.of(head) + Max.of(tail) == Max.of(values)
    flags = [v > 0 for v in values]
    assert Fraction.of(flags[:cut]) + Fraction.of(flags[cut:]) == Fraction.of(flags)
