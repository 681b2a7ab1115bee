"""Best-of-n curves of drawn completions: the proxy's own, and what gold says of its picks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from grpo_dual.evaluation.stats import Estimate, interval
from grpo_dual.selection.best_of_n import expected_max, expected_pick, kl_bound, powers
from grpo_dual.selection.drawn import Asked


@dataclass(frozen=True, slots=True)
class Point:
    """The best of n of an objective's prompts."""

    n: int
    proxy: Estimate
    """Expected score of the best by the proxy."""
    gold: Estimate
    """Expected gold of that one."""
    best: Estimate
    """Expected gold of the best by gold: what a perfect proxy would reach."""
    kl_bound: float


def curve(asked: Sequence[Asked], proxy: str, n: int) -> list[Point]:
    """What the best of 1, 2, 4, ..., n completions is worth, on average over prompts.

    A prompt with fewer than n scored completions is not in the point of n, and one with a
    completion that has no gold is in no mean of gold; intervals are over clusters.

    Args:
        asked: Prompts of one objective with their completions.
        proxy: ``reward`` or ``judge``, see `Sample.score`.
        n: Completions that were drawn of each.
    """
    points: list[Point] = []
    clusters = [one.cluster for one in asked]
    for size in powers(n):
        rows = [_prompt(one, proxy, size) for one in asked]
        columns = cast("Sequence[Sequence[float | None]]", list(zip(*rows, strict=True)))
        picked, golds, best = (interval(column, clusters) for column in columns)
        points.append(Point(size, picked, golds, best, kl_bound(size)))
    return points


def _prompt(one: Asked, proxy: str, n: int) -> tuple[float | None, float | None, float | None]:
    """One prompt's proxy, gold of the pick, and best gold; None with fewer than n scored."""
    scored = [(score, s.gold) for s in one.samples if (score := s.score(proxy)) is not None]
    if len(scored) < n:
        return None, None, None
    values = [score for score, _ in scored]
    golds = [known for _, known in scored if known is not None]
    if len(golds) < len(scored):
        return expected_max(values, n), None, None
    return expected_max(values, n), expected_pick(values, golds, n), expected_max(golds, n)
