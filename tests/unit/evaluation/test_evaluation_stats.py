"""The cluster bootstrap against cases whose draws can be counted by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo_dual.evaluation.stats import (
    Estimate,
    difference,
    estimate,
    interval,
    mean_of,
    paired_difference,
    percentiles,
    redraw,
)


def test_two_clusters_by_hand() -> None:
    """Drawn are aa, ab, bb with chances 1/4, 1/2, 1/4: means 1, 1/2, 0, so the ends are 0 and 1."""
    found = interval([1, 1, 0, 0], ["a", "a", "b", "b"])
    assert found == Estimate(0.5, 0.0, 1.0, items=4, clusters=2)


def test_four_clusters_by_hand() -> None:
    """Outcomes 1, 0, 0, 0: the mean drawn is Binomial(4, 1/4) / 4.

    P(1) = 1/256 = .4 %, P(>= 3/4) = 13/256 = 5.1 %: the 97.5th percentile is 3/4.
    P(0) = 81/256 = 32 %: the 2.5th is 0.
    """
    assert interval([1, 0, 0, 0], "abcd", draws=10_000) == Estimate(0.25, 0.0, 0.75, 4, 4)


def test_clusters_weigh_by_their_items() -> None:
    """a: 1, 1, 1 and b: 0. Means 1 (aa), 3/4 (ab), 0 (bb); the value is that of all four."""
    found = interval([1, 1, 1, 0], "aaab")
    assert (found.value, found.low, found.high) == (0.75, 0.0, 1.0)
    # c: 0 too. P(no a) = 8/27 = 30 %; P(aaa) = 1/27 = 3.7 % > 2.5 %.
    found = interval([1, 1, 1, 0, 0], "aaabc", draws=10_000)
    assert (found.value, found.low, found.high) == (0.6, 0.0, 1.0)


def test_many_clusters_have_the_normal_interval() -> None:
    """400 clusters, half right: standard error .5 / 20 = .025, ends .5 -+ 1.96 * .025 = .049."""
    found = interval([n % 2 for n in range(400)], range(400), draws=20_000, seed=3)
    assert found.value == 0.5
    assert found.low == pytest.approx(0.451, abs=0.003)
    assert found.high == pytest.approx(0.549, abs=0.003)


def test_copies_within_a_cluster_add_no_certainty() -> None:
    once = interval([1, 0, 1, 1, 0, 1], "abcdef")
    often = interval([1, 0, 1, 1, 0, 1] * 50, "abcdef" * 50)
    assert (often.value, often.low, often.high) == (once.value, once.low, once.high)
    rows = interval([1, 0, 1, 1, 0, 1] * 50, range(300))
    assert rows.low is not None
    assert once.low is not None
    assert rows.low > once.low


def test_what_has_no_value_is_left_out() -> None:
    found = interval([1, None, 0, None], "abcd", draws=2000)
    assert (found.value, found.items, found.clusters) == (0.5, 2, 4)
    # All of the four draws without a value: (1/2)^4 = 6 % of the draws, so there is no interval.
    assert (found.low, found.high) == (None, None)
    assert interval([None, None], "ab") == Estimate(None, None, None, 0, 2)
    assert interval([], []) == Estimate(None, None, None, 0, 0)


def test_no_interval_of_one_cluster_or_no_draws() -> None:
    assert interval([1, 0], "aa") == Estimate(0.5, None, None, 2, 1)
    assert interval([1, 0], "ab", draws=0) == Estimate(0.5, None, None, 2, 2)


def test_a_constant_gain_has_no_spread_however_wide_each_side() -> None:
    """Every item gains 1/4: the difference is 1/4 in every draw, as the same clusters are drawn."""
    first = [0.0, 0.25, 0.5, 0.75, 0.0, 0.5]
    second = [value + 0.25 for value in first]
    found = paired_difference(first, second, "aabbcc")
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25), abs=1e-12)
    assert (found.items, found.clusters, found.excludes_zero) == (6, 3, True)
    # Cluster means 1/8, 5/8, 1/4; each thrice in a draw has the chance 1/27 = 3.7 % > 2.5 %.
    alone = interval(first, "aabbcc")
    assert (alone.low, alone.high) == pytest.approx((0.125, 0.625), abs=1e-12)


def test_paired_difference_by_hand() -> None:
    """Gains 1, 0, 0, 0: as the four clusters above. Exchanged, its sign turns."""
    found = paired_difference([0, 1, 0, 1], [1, 1, 0, 1], "abcd", draws=10_000)
    assert found == Estimate(0.25, 0.0, 0.75, 4, 4)
    assert found.excludes_zero is False
    turned = paired_difference([1, 1, 0, 1], [0, 1, 0, 1], "abcd", draws=10_000)
    assert turned == Estimate(-0.25, -0.75, 0.0, 4, 4)


def test_a_difference_is_that_of_the_reported_means() -> None:
    """First 1/2 over two known, second 2/3 over three: 1/6; one item is known on both sides."""
    found = paired_difference([1, 0, None, None], [None, 1, 1, 0], "abcd", draws=0)
    assert found.value == pytest.approx(1 / 6, abs=1e-12)
    assert (found.items, found.excludes_zero) == (1, None)


def test_a_statistic_of_sums() -> None:
    """Balanced accuracy: terms right and rows of either label; (1/2 + 1/1) / 2 = 3/4."""

    def balanced(sums: np.ndarray) -> np.ndarray:
        return (mean_of(sums[..., :2]) + mean_of(sums[..., 2:])) / 2

    terms = [(1, 1, 0, 0), (0, 1, 0, 0), (0, 0, 1, 1)]
    assert estimate(terms, "abc", balanced, draws=0).value == 0.75
    # Draws without one of the labels are undefined: P(no c) + P(c alone) = 8/27 + 1/27 = 33 %.
    assert estimate(terms, "abc", balanced).low is None
    worse = [(0, 1, 0, 0), (0, 1, 0, 0), (0, 0, 1, 1)]
    assert difference(terms, worse, "abc", balanced, draws=0).value == -0.25


@settings(max_examples=40, deadline=None)
@given(
    outcomes=st.lists(st.floats(-2, 2), min_size=4, max_size=30),
    shift=st.floats(-3, 3),
    seed=st.integers(0, 5),
)
def test_a_shift_of_all_outcomes_shifts_value_and_ends(
    outcomes: list[float], shift: float, seed: int
) -> None:
    clusters = [n // 2 for n in range(len(outcomes))]
    one = interval(outcomes, clusters, 200, seed)
    two = interval([value + shift for value in outcomes], clusters, 200, seed)
    for a, b in ((one.value, two.value), (one.low, two.low), (one.high, two.high)):
        assert a is not None
        assert b == pytest.approx(a + shift, abs=1e-9)
    assert interval(outcomes, clusters, 200, seed) == one


def test_draws_are_as_many_clusters_as_there_are() -> None:
    sums = redraw(np.ones((7, 2)), 50, seed=1)
    assert sums.shape == (50, 2)
    assert (sums == 7).all()


def test_percentiles_want_most_draws() -> None:
    values = np.arange(100.0)
    values[:5] = np.nan
    assert percentiles(values) == pytest.approx((5 + 0.025 * 94, 5 + 0.975 * 94), abs=1e-12)
    values[5] = np.nan
    assert percentiles(values) is None
    assert percentiles(np.array([])) is None


def test_sides_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="2 clusters for 1 items"):
        interval([1], "ab")
    with pytest.raises(ValueError, match="paired"):
        paired_difference([1], [1, 0], "ab")
