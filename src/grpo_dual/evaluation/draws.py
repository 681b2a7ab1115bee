"""BBQ over categories: means and paired differences with intervals from draws of templates.

Templates are drawn within each category. Two policies are compared on the same items under the same
draws: what is hard for both cancels out.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from grpo_dual.evaluation.bbq_bias import (
    SCORES,
    TERMS,
    Policy,
    Scores,
    macro,
    score_predictions,
    scores_of_sums,
    tally,
)
from grpo_dual.evaluation.pareto import AXIS, axis_of
from grpo_dual.evaluation.stats import Floats, percentiles, ratio, redraw
from grpo_dual.records.predictions import Prediction, by_name

OVER_CATEGORIES = (*SCORES, AXIS)
"""What is reported over categories: the mean of each score, and the fairness axis."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A value and its 95 % interval; None where there is none."""

    value: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Difference:
    """How much another policy scores above a first one."""

    categories: Mapping[str, Mapping[str, Spread]]
    """By category, then by score of `SCORES`."""
    over_categories: Mapping[str, Spread]
    """By score of `OVER_CATEGORIES`."""
    items: int
    """That both were asked."""


def bbq_means(
    predictions: Sequence[Prediction], policy: Policy, *, draws: int, seed: int
) -> dict[str, Spread]:
    """Means over categories (names apart) of each score, and the fairness axis, with intervals.

    Args:
        predictions: Of any number of categories.
        policy: What an unparsed prediction is.
        draws: Bootstrap draws; 0 leaves intervals out.
        seed: Of the bootstrap.

    Returns:
        Keys: `OVER_CATEGORIES`.
    """
    grouped = by_name(predictions)
    _, points = _points(grouped, policy)
    drawn = _draws(grouped, policy, draws, seed)
    spread = None if drawn is None else _over_categories(drawn)
    return {
        key: _spread(points[key], None if spread is None else spread[key])
        for key in OVER_CATEGORIES
    }


def bbq_difference(
    first: Sequence[Prediction],
    other: Sequence[Prediction],
    policy: Policy,
    *,
    draws: int,
    seed: int,
) -> Difference:
    """Scores of the other minus those of the first, on the items that both were asked.

    Args:
        first: Its predictions.
        other: The other's; items that only one of them has are left out.
        policy: What an unparsed prediction is.
        draws: Bootstrap draws of templates, the same for both; 0 leaves intervals out.
        seed: Of the bootstrap.

    Returns:
        A score that one side does not have has no difference.
    """
    theirs = {p.record.record_id: p for p in other}
    shared = [p for p in first if p.record.record_id in theirs]
    one, two = by_name(shared), by_name([theirs[p.record.record_id] for p in shared])
    before, mean_before = _points(one, policy)
    after, mean_after = _points(two, policy)
    drawn, redrawn = (_draws(side, policy, draws, seed) for side in (one, two))
    if drawn is None or redrawn is None:
        gaps, mean_gaps = None, None
    else:
        gaps = {n: {k: redrawn[n][k] - drawn[n][k] for k in SCORES} for n in one}
        was, now = _over_categories(drawn), _over_categories(redrawn)
        mean_gaps = {key: now[key] - was[key] for key in OVER_CATEGORIES}
    return Difference(
        {
            name: {
                key: _spread(
                    _minus(after[name][key], before[name][key]),
                    None if gaps is None else gaps[name][key],
                )
                for key in SCORES
            }
            for name in one
        },
        {
            key: _spread(
                _minus(mean_after[key], mean_before[key]),
                None if mean_gaps is None else mean_gaps[key],
            )
            for key in OVER_CATEGORIES
        },
        len(shared),
    )


def _points(
    grouped: Mapping[str, Sequence[Prediction]], policy: Policy
) -> tuple[dict[str, Scores], Scores]:
    """Scores of each category; and the means over them with the axis."""
    own = {name: score_predictions(rows, policy, draws=0)[0] for name, rows in grouped.items()}
    return own, {**macro(own), AXIS: axis_of(own.values())}


def _draws(
    grouped: Mapping[str, Sequence[Prediction]], policy: Policy, draws: int, seed: int
) -> dict[str, dict[str, Floats]] | None:
    """`SCORES` of each category in each draw; for the same templates the same draws.

    None where nothing can be drawn: no draws, or a single template in every category.
    """
    tallied = {name: tally(rows) for name, rows in grouped.items()}
    if not draws or all(len(templates) < 2 for templates, _ in tallied.values()):
        return None
    drawn: dict[str, dict[str, Floats]] = {}
    for name, (_, counts) in tallied.items():
        own = zlib.crc32(f"{seed}/{name}".encode())  # categories are drawn independently
        sums = dict(zip(TERMS, redraw(counts, draws, own).T, strict=True))
        drawn[name] = scores_of_sums(sums, policy)
    return drawn


def _over_categories(drawn: Mapping[str, Mapping[str, Floats]]) -> dict[str, Floats]:
    """Means over categories, and the axis, in each draw."""
    means = {key: _mean([own[key] for own in drawn.values()]) for key in SCORES}
    return {**means, AXIS: _mean([_axis(own) for own in drawn.values()])}


def _mean(values: Sequence[Floats]) -> Floats:
    """Mean over the categories in which a draw is defined, NaN where it is in none."""
    table = np.array(values)
    known = ~np.isnan(table)
    return ratio(np.where(known, table, 0.0).sum(axis=0), known.sum(axis=0))


def _axis(scores: Mapping[str, Floats]) -> Floats:
    """One category's term of the fairness axis (`pareto.axis_of`) in each draw."""
    s_amb, s_dis = (np.abs(np.nan_to_num(scores[key], nan=0.0)) for key in ("s_amb", "s_dis"))
    right = (scores["accuracy_ambig"] + scores["accuracy_disambig"]) / 2
    return right * (1 - (s_amb + s_dis) / 2)


def _minus(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _spread(value: float | None, drawn: Floats | None) -> Spread:
    return Spread(value, None if value is None or drawn is None else percentiles(drawn))
