"""Curves over prompts: who is in which mean."""

import pytest

from grpo_dual.selection.curves import curve
from grpo_dual.selection.drawn import Asked, Sample


def asked(name: str, *pairs: tuple[float | None, float | None], cluster: str = "") -> Asked:
    samples = tuple(
        Sample("t", True, 1, total, {} if total is None else {"task": 1.0}, "v", "p", None, gold)
        for total, gold in pairs
    )
    return Asked("o", name, ("o", "s"), cluster or name, (), samples)


def test_means_over_prompts_by_hand():
    # Of two samples: prompt a has proxy maxima 1 (and its gold 0, best gold 1), b 3 (1 and 1).
    points = curve([asked("a", (1, 0), (0, 1)), asked("b", (3, 1), (2, 0))], "reward", 2)
    assert [p.n for p in points] == [1, 2]
    one, two = points
    assert (one.proxy.value, one.gold.value, one.best.value) == (1.5, 0.5, 0.5)
    assert (two.proxy.value, two.gold.value, two.best.value) == (2.0, 0.5, 1.0)
    assert two.proxy.items == 2
    assert two.proxy.low is not None
    assert two.proxy.low <= 2 <= (two.proxy.high or 0)
    assert one.kl_bound == 0


def test_unscored_completions_shorten_the_curve_and_have_no_part_in_it():
    points = curve([asked("a", (1, 1), (None, 0)), asked("b", (3, 1), (2, 0))], "reward", 2)
    # a has one scored completion: its mean is 1, and it is not in the best of two.
    assert (points[0].proxy.value, points[0].proxy.items) == (1.75, 2)
    assert (points[1].proxy.value, points[1].proxy.items) == (3.0, 1)


def test_without_gold_there_is_no_mean_of_gold():
    points = curve([asked("a", (1, None), (0, 1))], "judge", 1)
    assert points[0].proxy.value == 1.0
    assert points[0].gold.value is None
    # One cluster has no interval.
    alike = curve([asked(n, (i, 1), cluster="c") for i, n in enumerate("xyz")], "reward", 1)
    assert alike[0].proxy.low is None
    assert alike[0].proxy.value == pytest.approx(1.0)
