"""Agreement of two labellings: numbers worked by hand, and what must not change them."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_dual.judges.agreement import (
    VERDICTS,
    Pair,
    cohens_kappa,
    confusion,
    coverage,
    kappa_interval,
    observed_agreement,
)

LABELS = ("low", "middle", "high")


def items(table: list[list[int]], labels: tuple[str, ...]) -> list[Pair]:
    """The items of a table whose rows are the first side."""
    cells = zip(itertools.product(labels, repeat=2), itertools.chain(*table), strict=True)
    return [pair for pair, count in cells for _ in range(count)]


# r = (25, 25), c = (30, 20), n = 50.
# p_o = (20 + 15) / 50 = .7;  p_e = (25 x 30 + 25 x 20) / 2500 = .5;  kappa = (.7 - .5) / .5 = .4
TWO = [[20, 5], [10, 15]]

# n = 40, r = (13, 10, 17), c = (14, 9, 17).
# unweighted: 11 of 40 disagree; sum r_i c_i = 182 + 90 + 289 = 561, n^2 - 561 = 1039;
#             kappa = 1 - 40 x 11 / 1039 = 599 / 1039
# linear:     sum |i - j| n_ij = 2 + 3 + 2 + 2 + 2 (1 + 1) = 13;
#             sum |i - j| r_i c_j = 13 x 9 + 2 x 13 x 17 + 10 x 14 + 10 x 17 + 2 x 17 x 14 + 17 x 9
#                                 = 117 + 442 + 140 + 170 + 476 + 153 = 1498;
#             kappa = 1 - 40 x 13 / 1498 = 978 / 1498
THREE = [[10, 2, 1], [3, 5, 2], [1, 2, 14]]


def test_two_labels() -> None:
    pairs = items(TWO, ("yes", "no"))
    assert observed_agreement(pairs, ("yes", "no")) == pytest.approx(0.7, abs=1e-12)
    assert cohens_kappa(pairs, ("yes", "no")) == pytest.approx(0.4, abs=1e-12)
    # With two labels there is one distance, which cancels.
    linear = cohens_kappa(pairs, ("yes", "no"), weights="linear")
    assert linear == pytest.approx(0.4, abs=1e-12)


def test_three_labels_in_order() -> None:
    pairs = items(THREE, LABELS)
    assert cohens_kappa(pairs, LABELS) == pytest.approx(599 / 1039, abs=1e-12)
    linear = cohens_kappa(pairs, LABELS, weights="linear")
    assert linear == pytest.approx(978 / 1498, abs=1e-12)


def test_far_confusions_count_more_only_when_weighted() -> None:
    # Marginals (2, 2, 2) on both sides, two of six wrong: next to each other, or at the ends.
    near = items([[1, 1, 0], [1, 1, 0], [0, 0, 2]], LABELS)
    far = items([[1, 0, 1], [0, 2, 0], [1, 0, 1]], LABELS)
    # 1 - 6 x 2 / (36 - 12) = .5 for both.
    assert cohens_kappa(near, LABELS) == pytest.approx(0.5, abs=1e-12)
    assert cohens_kappa(far, LABELS) == pytest.approx(0.5, abs=1e-12)
    # sum |i - j| r_i c_j = 4 (4 x 1 + 2 x 2) = 32;  1 - 6 x 2 / 32 and 1 - 6 x 4 / 32
    assert cohens_kappa(near, LABELS, weights="linear") == pytest.approx(0.625, abs=1e-12)
    assert cohens_kappa(far, LABELS, weights="linear") == pytest.approx(0.25, abs=1e-12)


def test_the_judges_scale_runs_from_wrong_to_right() -> None:
    assert VERDICTS == ("hallucinated", "abstains", "grounded")


@pytest.mark.parametrize("weights", ["none", "linear"])
def test_extremes(weights: str) -> None:
    perfect = items([[3, 0, 0], [0, 2, 0], [0, 0, 1]], LABELS)
    assert cohens_kappa(perfect, LABELS, weights=weights) == 1.0
    # Always the opposite of two: p_o = 0, p_e = .5, kappa = -1.
    opposite = items([[0, 0, 4], [0, 0, 0], [4, 0, 0]], LABELS)
    assert cohens_kappa(opposite, LABELS, weights=weights) == pytest.approx(-1.0, abs=1e-12)
    # Independent: every cell r_i c_j / n.
    chance = items([[1, 2, 3], [2, 4, 6], [0, 0, 0]], LABELS)
    assert cohens_kappa(chance, LABELS, weights=weights) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("weights", ["none", "linear"])
def test_where_chance_agrees_always_kappa_is_undefined_and_not_zero(weights: str) -> None:
    same: list[Pair] = [("low", "low")] * 5
    assert observed_agreement(same, LABELS) == 1.0
    assert cohens_kappa(same, LABELS, weights=weights) is None
    assert kappa_interval(same, LABELS, weights=weights) is None
    # Each side has one label, but not the same: p_o = p_e = 0, and chance is what they give.
    assert cohens_kappa([("low", "high")] * 5, LABELS, weights=weights) == 0.0
    for empty in ([], [(None, "low"), ("low", None)]):
        assert cohens_kappa(empty, LABELS, weights=weights) is None
        assert observed_agreement(empty, LABELS) is None
        assert kappa_interval(empty, LABELS, weights=weights) is None
    assert cohens_kappa([], (), weights=weights) is None


def test_items_that_a_side_did_not_score_are_counted_and_left_out() -> None:
    scored = items(THREE, LABELS)
    lost: list[Pair] = [(None, "low"), (None, "high"), ("low", None), (None, None)]
    counted = coverage([*scored, *lost])
    assert (counted.items, counted.scored) == (44, 40)
    assert (counted.unscored_first, counted.unscored_second) == (3, 2)  # one lacks both
    assert counted.share == pytest.approx(40 / 44, abs=1e-12)
    assert coverage([]).share is None
    assert confusion([*scored, *lost], LABELS) == confusion(scored, LABELS)
    assert cohens_kappa([*scored, *lost], LABELS) == cohens_kappa(scored, LABELS)


def test_the_confusion_names_the_first_side_first_and_every_label() -> None:
    counts = confusion([("low", "high"), ("low", "high"), ("high", "high")], LABELS)
    assert counts == {
        "low": {"low": 0, "middle": 0, "high": 2},
        "middle": {"low": 0, "middle": 0, "high": 0},
        "high": {"low": 0, "middle": 0, "high": 1},
    }


def test_labels_that_are_not_listed_or_listed_twice_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="'hgih' is not among"):
        confusion([("low", "hgih")], LABELS)
    with pytest.raises(ValueError, match="stands twice"):
        confusion([], ("low", "low"))


def test_the_interval_is_that_of_the_asymptotic_variance() -> None:
    # Fleiss, Cohen and Everitt (1969), TWO a hundredfold (n = 5000): p = (.4, .1, .2, .3),
    # rows .5 .5, columns .6 .4, 1 - kappa = .6.
    #   sum p_ii (1 - (r_i + c_i) .6)^2    = .4 x .34^2 + .3 x .46^2           = .10972
    #   .6^2 sum p_ij (c_i + r_j)^2        = .36 (.1 x 1.1^2 + .2 x .9^2)      = .10188
    #   (kappa - p_e .6)^2                 = .1^2                              = .01
    #   SE = sqrt((.10972 + .10188 - .01) / (5000 x .5^2)) = .012700
    pairs = items([[100 * count for count in row] for row in TWO], ("yes", "no"))
    interval = kappa_interval(pairs, ("yes", "no"), draws=4000)
    assert interval is not None
    # A 2.5 % point of 4000 draws has a standard error of about .0005.
    assert interval[0] == pytest.approx(0.4 - 1.96 * 0.0127, abs=0.002)
    assert interval[1] == pytest.approx(0.4 + 1.96 * 0.0127, abs=0.002)


@pytest.mark.parametrize("weights", ["none", "linear"])
def test_the_interval_is_that_of_drawing_items_one_by_one(weights: str) -> None:
    pairs = items(THREE, LABELS)
    rng = random.Random(1)
    drawn = sorted(
        kappa
        for _ in range(2000)
        if (kappa := cohens_kappa(rng.choices(pairs, k=40), LABELS, weights=weights)) is not None
    )
    interval = kappa_interval(pairs, LABELS, weights=weights, level=0.8, draws=4000)
    assert interval is not None
    # Standard error of the difference of two 10 % points, at a spread of about .1: .005.
    assert interval[0] == pytest.approx(drawn[200], abs=0.02)
    assert interval[1] == pytest.approx(drawn[1800], abs=0.02)


def test_the_interval_has_a_seed_a_level_and_may_be_undefined() -> None:
    pairs = items(THREE, LABELS)
    wide = kappa_interval(pairs, LABELS)
    assert wide is not None
    assert wide == kappa_interval(pairs, LABELS, seed=0)
    assert wide != kappa_interval(pairs, LABELS, seed=1)
    narrow = kappa_interval(pairs, LABELS, level=0.5)
    assert narrow is not None
    assert wide[0] < narrow[0] < 599 / 1039 < narrow[1] < wide[1]
    perfect = items([[20, 0, 0], [0, 0, 0], [0, 0, 20]], LABELS)
    assert kappa_interval(perfect, LABELS) == (1.0, 1.0)
    # The one odd item is missing from (29/30)^30 = 36 % of the draws: these have no kappa.
    assert cohens_kappa([("low", "low")] * 29 + [("low", "high")], LABELS) == 0.0
    assert kappa_interval([("low", "low")] * 29 + [("low", "high")], LABELS) is None
    for bad in ({"level": 0.0}, {"level": 1.0}, {"draws": 0}):
        with pytest.raises(ValueError, match="must be in"):
            kappa_interval(pairs, LABELS, **bad)


pairs_st = st.lists(
    st.tuples(st.sampled_from((*LABELS, None)), st.sampled_from((*LABELS, None))), max_size=40
)


@pytest.mark.parametrize("weights", ["none", "linear"])
@given(pairs=pairs_st)
def test_kappa_is_symmetric_in_the_sides_and_bounded(weights: str, pairs: list[Pair]) -> None:
    kappa = cohens_kappa(pairs, LABELS, weights=weights)
    assert cohens_kappa([(b, a) for a, b in pairs], LABELS, weights=weights) == kappa
    # Doubling every item changes nothing, nor does the order of the items.
    assert cohens_kappa([*pairs, *reversed(pairs)], LABELS, weights=weights) == pytest.approx(
        kappa, abs=1e-12
    )
    scored = {label for pair in pairs if None not in pair for label in pair}
    assert (kappa is None) == (len(scored) < 2)
    if kappa is not None:
        assert -1 - 1e-12 <= kappa <= 1


@given(pairs=pairs_st, order=st.permutations(LABELS))
def test_unweighted_kappa_does_not_know_the_names_or_the_order(
    pairs: list[Pair], order: list[str]
) -> None:
    kappa = cohens_kappa(pairs, LABELS)
    assert cohens_kappa(pairs, order) == kappa
    renamed = dict(zip(LABELS, order, strict=True))
    swapped: list[Pair] = [
        (a and renamed[a], b and renamed[b])  # None stays None
        for a, b in pairs
    ]
    assert cohens_kappa(swapped, LABELS) == kappa


@given(pairs=pairs_st)
def test_linear_kappa_is_the_mean_of_the_cuts(pairs: list[Pair]) -> None:
    # |i - j| counts the cuts of the scale between i and j, so both sums are those of the 2 x 2
    # tables "above the cut", added up: kappa is the mean of theirs, weighted by D_e.
    linear = cohens_kappa(pairs, LABELS, weights="linear")
    scored = [(LABELS.index(a), LABELS.index(b)) for a, b in pairs if a and b]
    observed = expected = 0.0
    for cut in (1, 2):
        first = [a >= cut for a, _ in scored]
        second = [b >= cut for _, b in scored]
        observed += len(scored) * sum(a != b for a, b in zip(first, second, strict=True))
        expected += sum(a != b for a in first for b in second)
    assert linear == (pytest.approx(1 - observed / expected, abs=1e-12) if expected else None)
    # Turned round, the scale is the same.
    assert cohens_kappa(pairs, LABELS[::-1], weights="linear") == linear
