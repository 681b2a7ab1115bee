"""Order statistics against all subsets, and the worked numbers of the reference."""

import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_dual.selection.best_of_n import (
    expected_max,
    expected_pick,
    kl_bound,
    pass_at_k,
    powers,
    rank_weights,
)

SCORES = st.integers(-3, 3).map(float)  # few values, so that ties are common


def test_expected_maxima_by_hand():
    # Of 0..3: the mean 6/4; pairs (01 02 03 12 13 23) have maxima 1 2 3 2 3 3, sum 14 of 6; triples
    # 2 3 3 3, 11/4; all: 3.
    values = [2.0, 0.0, 3.0, 1.0]
    assert [expected_max(values, n) for n in (1, 2, 3, 4)] == pytest.approx(
        [1.5, 14 / 6, 2.75, 3], abs=1e-12
    )


def test_pass_at_k_by_hand():
    # 1 of 4 right, 2 drawn: 3 of 6 pairs hold it. 3 of 16, 4 drawn: 1 - C(13,4)/C(16,4)
    # = 1 - 715/1820; the biased 1 - (13/16)^4 would be .564194.
    assert pass_at_k(4, 1, 2) == pytest.approx(0.5, abs=1e-12)
    assert pass_at_k(16, 3, 4) == pytest.approx(0.607143, abs=1e-6)
    assert abs(pass_at_k(16, 3, 4) - (1 - (13 / 16) ** 4)) > 0.04
    assert pass_at_k(5, 3, 3) == 1.0  # only two are wrong


def test_a_proxy_is_held_against_gold_by_hand():
    # By proxy the order is .1 .5 .7 .9 with gold 0 1 0 1; weights for pairs 0 1/6 2/6 3/6.
    proxy, gold = [0.1, 0.9, 0.5, 0.7], [0.0, 1.0, 1.0, 0.0]
    assert expected_pick(proxy, gold, 2) == pytest.approx(4 / 6, abs=1e-12)


def test_the_bound_by_hand():
    # ln 2 - 1/2, ln 4 - 3/4, ln 8 - 7/8, ln 16 - 15/16.
    found = [kl_bound(n) for n in (1, 2, 4, 8, 16)]
    assert found == pytest.approx([0, 0.193147, 0.636294, 1.204442, 1.835089], abs=1e-6)


@given(st.lists(SCORES, min_size=1, max_size=7), st.data())
def test_the_estimate_is_the_mean_over_all_subsets(values: list[float], data: st.DataObject):
    n = data.draw(st.integers(1, len(values)))
    subsets = list(itertools.combinations(values, n))
    mean = math.fsum(map(max, subsets)) / len(subsets)
    assert expected_max(values, n) == pytest.approx(mean, abs=1e-9)
    right = sum(v > 0 for v in values)
    hit = sum(any(v > 0 for v in subset) for subset in subsets) / len(subsets)
    assert pass_at_k(len(values), right, n) == pytest.approx(hit, abs=1e-9)


@given(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=7), st.data())
def test_a_pick_is_the_mean_over_all_subsets_with_ties_by_lot(
    pairs: list[tuple[float, float]], data: st.DataObject
):
    n = data.draw(st.integers(1, len(pairs)))

    def picked(subset: Sequence[tuple[float, float]]) -> float:
        best = max(proxy for proxy, _ in subset)
        golds = [gold for proxy, gold in subset if proxy == best]
        return math.fsum(golds) / len(golds)

    subsets = list(itertools.combinations(pairs, n))
    mean = math.fsum(map(picked, subsets)) / len(subsets)
    proxy, gold = zip(*pairs, strict=True)
    assert expected_pick(proxy, gold, n) == pytest.approx(mean, abs=1e-9)


@given(st.lists(SCORES, min_size=2, max_size=40))
def test_more_samples_are_never_worth_less_and_a_perfect_proxy_is_the_maximum(values: list[float]):
    curve = [expected_max(values, n) for n in range(1, len(values) + 1)]
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(curve))
    assert curve[0] == pytest.approx(math.fsum(values) / len(values), abs=1e-9)
    assert curve[-1] == max(values)
    for n, value in enumerate(curve, start=1):
        assert expected_pick(values, values, n) == pytest.approx(value, abs=1e-9)


def test_weights_sum_to_one_for_many_samples():
    weights = rank_weights(1024, 64)
    assert math.fsum(weights) == pytest.approx(1, abs=1e-9)
    assert weights[:63] == [0.0] * 63


def test_what_cannot_be_estimated_is_refused():
    for call in (
        lambda: expected_max([1.0], 2),
        lambda: expected_max([], 1),
        lambda: expected_pick([1.0], [1.0, 2.0], 1),
        lambda: pass_at_k(4, 5, 1),
        lambda: kl_bound(0),
    ):
        with pytest.raises(ValueError, match=r"cannot be|is nothing|scores"):
            call()


def test_curves_stand_at_powers_of_two():
    assert powers(1) == [1]
    assert powers(12) == [1, 2, 4, 8, 12]
    assert powers(16) == [1, 2, 4, 8, 16]
