"""Intervals of what was measured on items that are alike in clusters, and of paired differences.

Items of one BBQ template, or texts of one passage, are alike, so whole clusters are drawn with
replacement, never single items (a row-wise interval of a BBQ category is up to five times too
narrow). Every score here is a function of sums over items, so a draw is a vector of how often each
cluster counts, and one product gives the sums of all draws. Intervals are 95 % percentile
intervals; Cameron, Gelbach and Miller 2008 for the pairs cluster bootstrap.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Callable[[Floats], ArrayLike]
"""Sums [..., T] of T terms -> the score [...], NaN where it is undefined."""

DRAWS = 1000
"""Bootstrap draws where the caller does not say."""

_DEFINED = 0.95
"""Share of bootstrap draws in which a score must be defined to have an interval."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score with its 95 % interval."""

    value: float | None
    """None where it is undefined: there is nothing to score."""
    low: float | None
    high: float | None
    """None where there is no interval: no value, one cluster, no draws, or a score that is
    undefined in more than 5 % of the draws."""
    items: int
    clusters: int

    @property
    def excludes_zero(self) -> bool | None:
        """Does the interval lie on one side of 0? None where there is none."""
        if self.low is None or self.high is None:
            return None
        return self.low > 0 or self.high < 0


def interval(
    outcomes: Sequence[float | None],
    clusters: Sequence[Hashable],
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """Mean outcome with its interval.

    Args:
        outcomes: One an item, e.g. 1 for right and 0 for wrong; None is left out of the mean.
        clusters: The cluster of each item.
        draws: Bootstrap draws.
        seed: Of the bootstrap; the same clusters are then drawn whatever the outcomes.

    Returns:
        The estimate; ``items`` counts those that are not None, ``clusters`` all.

    Raises:
        ValueError: There are not as many clusters as outcomes.
    """
    return estimate(_terms(outcomes), clusters, mean_of, draws, seed)


def paired_difference(
    first: Sequence[float | None],
    second: Sequence[float | None],
    clusters: Sequence[Hashable],
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """How much larger the mean outcome of ``second`` is than that of ``first``, on the same items.

    Each draw takes the same clusters for both, so what makes items easy or hard for both cancels.

    Args:
        first: Outcomes of one model or checkpoint, one an item.
        second: Those of another one, in the same order.
        clusters: The cluster of each item.
        draws: Bootstrap draws.
        seed: Of the bootstrap.

    Returns:
        The difference of the two means as reported, each over its own known outcomes; ``items``
        counts those that are known on both sides.

    Raises:
        ValueError: The three are not of one length.
    """
    return difference(_terms(first), _terms(second), clusters, mean_of, draws, seed)


def estimate(
    terms: Sequence[Sequence[float]] | Floats,
    clusters: Sequence[Hashable],
    statistic: Statistic,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """A score that is a function of sums over items, with its interval.

    Args:
        terms: [N, T] what each item adds to each of the T sums. An item counts (``items``) when any
            of its terms is not 0.
        clusters: The cluster of each item.
        statistic: Sums -> score.
        draws: Bootstrap draws.
        seed: Of the bootstrap.

    Raises:
        ValueError: There are not as many clusters as items.
    """
    table_NT = np.asarray(terms, dtype=np.float64)
    if len(table_NT) != len(clusters):
        raise ValueError(f"{len(clusters)} clusters for {len(table_NT)} items")
    if not len(table_NT):
        return Estimate(None, None, None, 0, 0)
    table_CT = _by_cluster(table_NT, clusters)
    items = int((table_NT != 0).any(axis=1).sum())
    value = float(np.asarray(statistic(table_CT.sum(axis=0))))
    if np.isnan(value):
        return Estimate(None, None, None, items, len(table_CT))
    ends = None
    if len(table_CT) > 1 and draws > 0:
        ends = percentiles(np.asarray(statistic(redraw(table_CT, draws, seed)), dtype=np.float64))
    low, high = ends or (None, None)
    return Estimate(value, low, high, items, len(table_CT))


def difference(
    first: Sequence[Sequence[float]] | Floats,
    second: Sequence[Sequence[float]] | Floats,
    clusters: Sequence[Hashable],
    statistic: Statistic,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """Statistic of ``second`` minus that of ``first``, the same clusters drawn for both.

    Args:
        first: [N, T] terms of one side, see `estimate`.
        second: [N, T] those of the other on the same items.
        clusters: The cluster of each item.
        statistic: Sums -> score.
        draws: Bootstrap draws.
        seed: Of the bootstrap.

    Returns:
        The difference; ``items`` counts those with terms on both sides.

    Raises:
        ValueError: The three are not of one length.
    """
    one, two = (np.asarray(side, dtype=np.float64) for side in (first, second))
    if len(one) != len(two):
        raise ValueError(f"{len(one)} items on one side, {len(two)} on the other; they are paired")
    if not len(one):
        return estimate(one, clusters, statistic, draws, seed)
    width = one.shape[1]

    def gap(sums: Floats) -> Floats:
        after, before = statistic(sums[..., width:]), statistic(sums[..., :width])
        return np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)

    found = estimate(np.concatenate([one, two], axis=1), clusters, gap, draws, seed)
    both = int(((one != 0).any(axis=1) & (two != 0).any(axis=1)).sum())
    return Estimate(found.value, found.low, found.high, both, found.clusters)


def redraw(table_CT: Floats, draws: int, seed: int) -> Floats:
    """[draws, T] sums over as many clusters as there are, drawn with replacement.

    Args:
        table_CT: [C, T] sums of each cluster.
        draws: Number of draws.
        seed: Of the draws.
    """
    clusters = len(table_CT)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=draws)
    return times @ table_CT


def percentiles(values: Floats) -> tuple[float, float] | None:
    """2.5th and 97.5th percentile of draws; None where more than 5 % of them are NaN."""
    known = values[~np.isnan(values)]
    if not len(known) or len(known) < _DEFINED * len(values):
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def ratio(part: ArrayLike, whole: ArrayLike) -> Floats:
    """Part over whole, NaN where the whole is not positive."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def mean_of(sums: Floats) -> Floats:
    """Statistic of [..., 2] sums: of values, and of how many there are."""
    return ratio(sums[..., 0], sums[..., 1])


def _terms(outcomes: Sequence[float | None]) -> Floats:
    """[N, 2] value and 1, or twice 0 where there is none."""
    rows = [(0.0, 0.0) if value is None else (float(value), 1.0) for value in outcomes]
    return np.array(rows, dtype=np.float64).reshape(len(rows), 2)


def _by_cluster(table_NT: Floats, clusters: Sequence[Hashable]) -> Floats:
    """[C, T] sums of each cluster, in the order in which they first come."""
    places: dict[Hashable, int] = {}
    at = [places.setdefault(cluster, len(places)) for cluster in clusters]
    table_CT = np.zeros((len(places), table_NT.shape[1]))
    np.add.at(table_CT, at, table_NT)
    return table_CT
