"""Axes, front and hypervolume: worked numbers, a brute-force reference, invariances."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policies import BBQ, FAIRNESS

from grpo_dual.evaluation.pareto import (
    Point,
    dominates,
    dominator,
    fairness_axis,
    front,
    hypervolume,
)
from grpo_dual.records import synthetic
from grpo_dual.types import BbqRecord


def points(*values: tuple[float, float]) -> list[Point]:
    return [Point(str(i), x, y) for i, (x, y) in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "area"),
    [
        # .8 * .3 + .5 * (.6 - .3); (.4, .5) is dominated.
        ([(0.8, 0.3), (0.5, 0.6), (0.4, 0.5)], 0.39),
        # .8 * .3 + .5 * (.7 - .3); a point twice and one dominated add nothing.
        ([(0.8, 0.3), (0.8, 0.3), (0.5, 0.6), (0.5, 0.7)], 0.44),
        ([], 0.0),
        ([(1.0, 1.0)], 1.0),
        ([(0.0, 1.0), (1.0, 0.0)], 0.0),  # not better than the reference on both axes
    ],
)
def test_worked_hypervolumes(values: list[tuple[float, float]], area: float) -> None:
    assert hypervolume(points(*values)) == pytest.approx(area, abs=1e-12)


def brute_force(found: list[Point], reference: tuple[float, float]) -> float:
    """Every cell of the grid that the coordinates draw, when some point covers it."""
    xs = sorted({reference[0], *(p.x for p in found if p.x > reference[0])})
    ys = sorted({reference[1], *(p.y for p in found if p.y > reference[1])})
    return sum(
        (right - left) * (top - bottom)
        for left, right in itertools.pairwise(xs)
        for bottom, top in itertools.pairwise(ys)
        if any(p.x >= right and p.y >= top for p in found)
    )


def test_hypervolume_and_front_equal_brute_force_on_a_thousand_fronts() -> None:
    rng = random.Random(0)
    for number in range(1000):
        digits = rng.choice([1, 2, 17])  # with few digits many coordinates are equal
        found = points(
            *(
                (round(rng.random(), digits), round(rng.random(), digits))
                for _ in range(rng.randrange(13))
            )
        )
        reference = (0.0, 0.0) if number % 2 else (0.3, 0.1)
        expected = brute_force(found, reference)
        assert hypervolume(found, reference) == pytest.approx(expected, abs=1e-12)
        undominated = [p for p in found if not any(dominates(q, p) for q in found)]
        assert front(found) == undominated
        for p in found:
            by = dominator(p, found)
            assert (by is None) == (p in undominated)
            assert by is None or (dominates(by, p) and by in undominated)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=8), st.randoms())
def test_order_does_not_matter_and_a_point_never_lowers_it(
    values: list[tuple[float, float]], rng: random.Random
) -> None:
    found = points(*values)
    area = hypervolume(found)
    assert 0 <= area <= 1 + 1e-12
    assert hypervolume(found[1:]) <= area + 1e-12
    assert hypervolume(front(found)) == pytest.approx(area, abs=1e-12)
    rng.shuffle(found)
    assert hypervolume(found) == pytest.approx(area, abs=1e-12)
    mirrored = [Point(p.name, p.y, p.x) for p in found]
    assert hypervolume(mirrored) == pytest.approx(area, abs=1e-12)


def balanced(category: str, n: int) -> list[BbqRecord]:
    """``n`` items each: ambiguous, answered along the stereotype, answered against it."""
    rows = [r for r in BBQ if r.subset == category]
    kinds = (
        [r for r in rows if r.label == r.unknown],
        [r for r in rows if r.label == r.biased],
        [r for r in rows if r.label not in {r.unknown, r.biased}],
    )
    assert all(len(kind) >= n for kind in kinds)
    return [r for kind in kinds for r in kind[:n]]


ITEMS = [r for category in synthetic.CATEGORIES for r in balanced(category, 8)]


@pytest.mark.parametrize(
    ("policy", "axis"),
    # accuracies and bias scores of the degenerate policies: (1, 0, 0, none), (0, .5, 1, 1), ...
    [("unknown", 0.5), ("stereotyped", 0.0), ("anti", 0.0), ("oracle", 1.0)],
)
def test_the_fairness_axis_of_degenerate_policies(policy: str, axis: float) -> None:
    rng = random.Random(0)
    assert fairness_axis(ITEMS, [FAIRNESS[policy](rng, r) for r in ITEMS]) == pytest.approx(axis)


def test_the_fairness_axis_is_a_mean_over_categories_not_rows() -> None:
    ages, others = balanced("Age", 8), balanced("SES", 2)
    replies = [r.options[r.label] for r in ages] + [r.options[r.unknown] for r in others]
    assert fairness_axis([*ages, *others], replies) == pytest.approx((1 + 0.5) / 2)


def test_one_condition_alone_gives_no_axis() -> None:
    told = [r for r in ITEMS if r.label != r.unknown]
    assert fairness_axis(told, [r.options[r.label] for r in told]) is None
    assert fairness_axis([], []) is None
