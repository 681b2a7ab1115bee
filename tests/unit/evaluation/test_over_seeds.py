"""t intervals over seeds: table values, worked numbers, coverage."""

import math

import numpy as np
import pytest

from grpo_dual.evaluation.over_seeds import seed_difference, seed_mean, t_quantile


@pytest.mark.parametrize(
    ("df", "t"),
    # Two-sided 95 % points of Student's t. df 1: tan(.475 pi); df 2: .95 sqrt(2 / (1 - .95^2)).
    [
        (1, math.tan(0.475 * math.pi)),
        (2, 0.95 * math.sqrt(2 / (1 - 0.95**2))),
        (3, 3.182446305),
        (4, 2.776445105),
        (10, 2.228138852),
        (30, 2.042272456),
        (1e6, 1.959966370),
    ],
)
def test_quantiles_are_those_of_the_table(df: float, t: float) -> None:
    assert t_quantile(df) == pytest.approx(t, rel=1e-8)


def test_quantiles_fall_between_whole_degrees_too() -> None:
    found = [t_quantile(1 + k / 7) for k in range(200)]
    assert found == sorted(found, reverse=True)
    with pytest.raises(ValueError, match="at least 1"):
        t_quantile(0.5)


def test_the_mean_of_three_seeds() -> None:
    # .1, .2, .6: mean .3, deviations -.2, -.1, .3, variance (.04 + .01 + .09) / 2 = .07,
    # half width 4.302652730 sqrt(.07 / 3).
    found = seed_mean([0.1, 0.2, 0.6])
    half = 4.302652730 * math.sqrt(0.07 / 3)
    assert found.mean == pytest.approx(0.3, abs=1e-12)
    assert found.interval == pytest.approx((0.3 - half, 0.3 + half), abs=1e-8)
    assert found.n == 3


def test_one_seed_has_no_interval_and_none_no_mean() -> None:
    assert seed_mean([0.4]).interval is None
    with pytest.raises(ValueError, match="at least one"):
        seed_mean([])


def test_matching_seeds_are_paired() -> None:
    # .3 - .1, .5 - .2, .8 - .4 = .2, .3, .4: variance .01. Seed 7 has no partner.
    found = seed_difference({0: 0.3, 1: 0.5, 2: 0.8, 7: 9.0}, {2: 0.4, 1: 0.2, 0: 0.1})
    half = 4.302652730 * math.sqrt(0.01 / 3)
    assert (found.method, found.n) == ("paired", (3, 3))
    assert found.mean == pytest.approx(0.3, abs=1e-12)
    assert found.interval == pytest.approx((0.3 - half, 0.3 + half), abs=1e-8)


def test_other_seeds_are_independent_samples() -> None:
    # Variances .02 and .08 of two seeds each: parts .01 and .04, df = .05^2 / (.0001 + .0016).
    found = seed_difference({0: 0.4, 1: 0.6}, {5: 0.1, 6: 0.5})
    half = t_quantile(0.0025 / 0.0017) * math.sqrt(0.05)
    assert (found.method, found.n) == ("welch", (2, 2))
    assert found.interval == pytest.approx((0.2 - half, 0.2 + half), abs=1e-8)


def test_too_few_seeds_give_no_interval() -> None:
    assert seed_difference({0: 0.4}, {0: 0.1}).interval is None
    assert seed_difference({0: 0.4, 1: 0.5}, {0: 0.1}).interval is None
    assert seed_difference({0: 0.4, 1: 0.4}, {2: 0.1, 3: 0.1}).interval == pytest.approx((0.3, 0.3))


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    draws = 2000
    inside = 0
    welch = 0
    for _ in range(draws):
        low, high = seed_mean([*rng.normal(0.5, 0.1, 3)]).interval or (math.nan, math.nan)
        inside += low <= 0.5 <= high
        a = dict(enumerate(rng.normal(0.5, 0.1, 3)))
        b = {k + 10: v for k, v in enumerate(rng.normal(0.5, 0.03, 4))}
        low, high = seed_difference(a, b).interval or (math.nan, math.nan)
        welch += low <= 0 <= high
    # Standard error of a share of .95 in 2,000 draws: .0049; four of them.
    assert inside / draws == pytest.approx(0.95, abs=0.02)
    assert welch / draws == pytest.approx(0.95, abs=0.02)
